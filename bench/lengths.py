"""Time calls of whole models whose inputs have a new length in every call.

    python bench/lengths.py              # one row, 200 lengths in random order
    python bench/lengths.py --batches    # the size of the batch is new as well

The models have open axes for time and the batch. onnxruntime, OpenVINO (with dynamic shapes) and PyTorch run
the same files and the same inputs, in turn, on one thread. The outputs of a few calls are compared first. A
model's figure is the median time of a call, also that of the first. Needs onward[bench].
"""

import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import onnxruntime
import openvino
import report
import torch
from models import PEERS, Model
from onnxruntime import quantization
from support import modules

import onward

# The open axes of the inputs: the batch and time.
OPEN: dict[str, dict[str, dict[int, str]]] = {
    "text reader": {"x": {0: "batch", 3: "time"}},
    "tagger": {"tokens": {0: "batch", 1: "time"}},
    "attention pooling": {"x": {0: "batch", 1: "time"}},
    "forecaster": {"x": {0: "batch", 1: "time"}},
    "speech recognizer": {"x": {0: "batch", 3: "time"}},
    "translator": {"x": {0: "batch", 1: "time"}},
    "acoustic model": {"x": {0: "batch", 1: "time"}},
    "keyword spotter": {"x": {0: "batch", 2: "time"}},
}


def opened(folder: Path, name: str) -> tuple[Path, torch.nn.Module]:
    """Export a model with open axes; return its file and the module."""
    whole = modules.WHOLE[name]
    torch.manual_seed(0)
    module = whole.module()
    path = folder / f"{name}.onnx"
    path.write_bytes(modules.exported(module, modules.inputs_of(whole.inputs, 0), dynamic_axes=OPEN[name]))
    return path, module.eval()


def inputs_of(name: str, calls: int, with_batches: bool, seed: int = 0) -> list[dict[str, Any]]:
    """Return inputs with as many lengths, half to one and a half times the usual one, in random order."""
    rng = np.random.default_rng(seed)
    ((key, shape),) = modules.WHOLE[name].inputs.items()
    (batch, time_axis) = OPEN[name][key]
    usual = shape[time_axis]
    lengths = rng.permutation(np.linspace(usual / 2, usual * 3 / 2, calls).round().astype(int))
    found = []
    for call, length in enumerate(lengths):
        sizes = list(shape)
        sizes[time_axis] = int(length)
        sizes[batch] = int(rng.integers(1, 9)) if with_batches else 1
        found.append(modules.inputs_of({key: tuple(sizes)}, seed + call))
    return found


def contestants(model: Model) -> dict[str, Any]:
    """Return what runs the model in each framework, from inputs by name to a list of outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    ours: Any = onward.load(model.path)
    calls: dict[str, Any] = {
        "onward": lambda inputs: ours(**inputs),
        "onnxruntime": lambda inputs: session.run(None, inputs),
    }
    try:
        settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        request = openvino.Core().compile_model(str(model.path), "CPU", settings).create_infer_request()
        calls["openvino"] = lambda inputs: request.infer(inputs, share_inputs=True).to_tuple()
    except RuntimeError:  # it cannot convert the file
        pass
    module = model.module
    if module is not None:

        def run(inputs: dict[str, Any]) -> Any:
            with torch.inference_mode():
                outputs = module(*map(torch.from_numpy, inputs.values()))
            return [y.numpy() for y in (outputs if isinstance(outputs, tuple) else (outputs,))]

        calls["torch"] = run
    return calls


def compare(model: Model, calls: dict[str, Any], inputs: list[dict[str, Any]]) -> None:
    """Compare the outputs of all frameworks with onnxruntime's, for some of the inputs."""
    for each in inputs:
        expected = calls["onnxruntime"](each)
        for name, call in calls.items():
            outputs = call(each)
            outputs = outputs if isinstance(outputs, list | tuple) else (outputs,)
            for y, theirs in zip(outputs, expected, strict=True):
                error = float(np.abs(y - theirs).max())
                assert error < model.tolerance * max(1.0, float(np.abs(theirs).max())), (
                    f"{model.name}: {name} differs from onnxruntime by {error}"
                )


def timed(calls: dict[str, Any], inputs: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Time each framework once for each of the inputs, in turn; in microseconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for each, (name, call) in itertools.product(inputs, calls.items()):
        start = time.perf_counter()
        call(each)
        times[name].append((time.perf_counter() - start) * 1e6)
    return times


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--batches", action="store_true", help="also vary the size of the batch")
    parser.add_argument("--only", default="", help="only models whose name contains this text")
    arguments = parser.parse_args()
    measured = report.Report(arguments, PEERS)
    onward.set_num_threads(1)
    torch.set_num_threads(1)
    count = 20 if arguments.quick else 200
    table, ratios = "batches" if arguments.batches else "lengths", []
    with tempfile.TemporaryDirectory() as folder:
        for name in OPEN:
            path, module = opened(Path(folder), name)
            found = [Model(name, path, {}, module)]
            if name in models.QUANTIZED:
                small = path.with_stem(f"{path.stem}_int8")
                kind = quantization.QuantType.QUInt8
                quantization.quantize_dynamic(onnx.load(path), small, weight_type=kind, per_channel=True)
                found.append(Model(f"{name}, int8", small, {}, None, tolerance=5e-3))
            for model in found:
                if arguments.only not in model.name:
                    continue
                inputs = inputs_of(name, count, arguments.batches)
                compare(model, contestants(model), inputs[:3])
                calls = contestants(model)  # none of which has seen an input
                first = timed(calls, inputs)
                took = {name: statistics.median(times) for name, times in first.items()}
                best = min(took[name] for name in PEERS if name in took)
                ratios.append(best / took["onward"])
                row = {"total": sum(first["onward"]) / 1e3, "longest": max(first["onward"]) / 1e3}
                measured.add(table, model=model.name, **took, **row, ratio=ratios[-1])
    if ratios:
        measured.add("mean", **{table: statistics.geometric_mean(ratios), "least": min(ratios)})


if __name__ == "__main__":
    main()
