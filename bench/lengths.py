"""Time calls of whole models whose inputs have a new length in every call.

    python bench/lengths.py              # one row, and 1 to 8 rows, of 200 lengths in random order
    python bench/lengths.py --batches    # only the latter

The models have open axes for time and the batch. Onward opens ONNX, .pt2 and Keras files; onnxruntime,
OpenVINO (with dynamic shapes) and PyTorch run the same models and inputs in turn, on one thread. The outputs
of a few calls are compared first. A model's figure is the median time of a call, also that of the first.
Needs onward[bench].
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras_models
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
import onward.graph

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


EXPORTED = "keyword spotter"  # also as .pt2; torch.export fixes the time axis of an LSTM
MASKED = "masked tagger"  # of Keras


class Opened(NamedTuple):
    """A model with open axes, its usual length, and its inputs from a number of rows, a length and a seed."""

    model: Model
    usual: int
    inputs: Callable[[int, int, int], dict[str, Any]]


def exported(folder: Path, name: str) -> Iterator[Opened]:
    """A model of PyTorch as ONNX, perhaps also quantized and as .pt2."""
    whole = modules.WHOLE[name]
    ((key, shape),) = whole.inputs.items()
    batch, steps = OPEN[name][key]
    torch.manual_seed(0)
    module, path = whole.module(), folder / f"{name}.onnx"
    path.write_bytes(modules.exported(module, modules.inputs_of(whole.inputs, 0), dynamic_axes=OPEN[name]))
    module.eval()

    def inputs(rows: int, length: int, seed: int) -> dict[str, Any]:
        sizes = list(shape)
        sizes[batch], sizes[steps] = rows, length
        return modules.inputs_of({key: tuple(sizes)}, seed)

    usual = shape[steps]
    yield Opened(Model(name, path, {}, module), usual, inputs)
    if name in models.QUANTIZED:
        small = path.with_stem(f"{path.stem}_int8")
        kind = quantization.QuantType.QUInt8
        quantization.quantize_dynamic(onnx.load(path), small, weight_type=kind, per_channel=True)
        yield Opened(Model(f"{name}, int8", small, {}, None, tolerance=5e-3), usual, inputs)
    if name == EXPORTED:
        program, example = folder / f"{name}.pt2", tuple(map(torch.from_numpy, inputs(2, usual, 0).values()))
        open_axes = {axis: torch.export.Dim.DYNAMIC for axis in (batch, steps)}
        torch.export.save(torch.export.export(module, example, dynamic_shapes=(open_axes,)), program)
        yield Opened(Model(f"{name}, .pt2", path, {}, module, source=program), usual, inputs)


def masked(folder: Path) -> Opened:
    """A model of Keras that masks steps."""
    source, path = keras_models.saved(folder, MASKED, None)

    def inputs(rows: int, length: int, seed: int) -> dict[str, Any]:
        return {"x": keras_models.inputs_of(MASKED, rows, length, seed)}

    return Opened(Model(f"{MASKED}, Keras", path, {}, source=source), 40, inputs)


def inputs_of(opened: Opened, calls: int, with_batches: bool) -> list[dict[str, Any]]:
    """Return inputs with as many lengths, half to one and a half times the usual one, in random order."""
    rng = np.random.default_rng(0)
    lengths = np.linspace(opened.usual / 2, opened.usual * 3 / 2, calls).round().astype(int)
    rows = rng.integers(1, 9, calls) if with_batches else np.ones(calls, int)
    sizes = zip(rows, rng.permutation(lengths), strict=True)
    return [opened.inputs(int(b), int(length), seed) for seed, (b, length) in enumerate(sizes)]


def contestants(model: Model) -> dict[str, Any]:
    """Return what runs the model in each framework, from inputs by name to a list of outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    ours: Any = onward.load(model.source or model.path)
    calls: dict[str, Any] = {
        "onward": lambda inputs: ours(*inputs.values()) if model.source else ours(**inputs),
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


def rebinding(measured: report.Report, calls: int) -> None:
    """Time what a call of a new length takes beyond another one of the same length.

    The graphs are chains of softmaxes, each of which is a step and computes almost nothing.
    """
    for steps in (1, 10, 100, 1000):
        graph = onward.graph.Graph()
        y = graph.add_input("x", np.float32, ("time", 2))
        for _ in range(steps):
            y = graph.add("Softmax", y)
        graph.outputs = (y,)
        model = onward.graph.Model(graph)
        arrays = [np.ones((length, 2), np.float32) for length in range(2, 102)]  # more than are kept
        times: dict[str, list[float]] = {"new": [], "same": []}
        for _, x, kind in itertools.product(range(calls), arrays, times):
            start = time.perf_counter()
            model(x)
            times[kind].append(time.perf_counter() - start)
        new, same = (1e6 * statistics.median(times[kind]) for kind in times)
        (program,) = model.programs
        measured.add("rebinding", steps=len(program.steps), same=same, new=new, difference=new - same)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--batches", action="store_true", help="only batches of changing size")
    parser.add_argument("--only", default="", help="only models whose name contains this text")
    arguments = parser.parse_args()
    measured = report.Report(arguments, (*PEERS, "keras", "tf2onnx"))
    onward.set_num_threads(1)
    torch.set_num_threads(1)
    count = 20 if arguments.quick else 200
    with tempfile.TemporaryDirectory() as folder:
        of_torch = (each for name in OPEN for each in exported(Path(folder), name))
        for opened in itertools.chain(of_torch, [masked(Path(folder))]):
            model = opened.model
            if arguments.only not in model.name:
                continue
            for table in ("batches",) if arguments.batches else ("lengths", "batches"):
                inputs = inputs_of(opened, count, with_batches=table == "batches")
                compare(model, contestants(model), inputs[:3])
                calls = contestants(model)  # none of which has seen an input
                first = timed(calls, inputs)
                took = {name: statistics.median(times) for name, times in first.items()}
                best = min(took[name] for name in PEERS if name in took)
                row = {"total": sum(first["onward"]) / 1e3, "longest": max(first["onward"]) / 1e3}
                measured.add(table, model=model.name, **took, **row, ratio=best / took["onward"])
    if not arguments.batches:
        rebinding(measured, 2 if arguments.quick else 20)


if __name__ == "__main__":
    main()
