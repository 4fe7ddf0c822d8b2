"""Compare compressed weights in Onward and its peers: an LSTM on one thread, interleaved in one run.

    python bench/quantized.py                       # an LSTM beside its peers, steps, models, the accuracy
    python bench/quantized.py --only "100, 1, 512"  # one T, B, H of the LSTM
    python bench/quantized.py --cases DIR           # also the accuracy of trained models

Accuracy is the largest and the mean difference of the outputs from those of Onward in float32.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import report
from peers import (
    LAYERS,
    Cell,
    Outputs,
    Problem,
    Run,
    interleaved,
    onnx_model,
    problem,
    run_onnxruntime,
    run_openvino,
    run_stream,
    run_torch,
    set_threads,
)
from roofline import Roofline

import onward
from onward import bundled

GRID = ((1, 1, 128), (1, 1, 512), (1, 1, 1024), (100, 1, 128), (100, 1, 256), (100, 1, 512), (100, 1, 1024),
        (100, 64, 256), (100, 64, 512))  # fmt: skip
STACKS = ((2, 128), (3, 256), (3, 480))  # layers, H = I
SMALL = 16  # whose weights stay in the first-level cache
ONWARD_PRECISIONS = ("float32", "float16", "int8")


def run_onward(p: Problem, precision: str) -> tuple[Run, Any]:
    layer: Any = LAYERS[p.kind](p.x.shape[2], p.state[0].shape[2])
    layer.load_state_dict(p.weights)
    if precision != "float32":
        layer = layer.quantize(precision)
    if p.x.shape[:2] == (1, 1):
        return run_stream(p, layer)
    state = p.state if p.kind == "lstm" else p.state[0]
    return lambda: layer(p.x, state), lambda result: [result[0]]


def run_onnxruntime_int8(p: Problem) -> tuple[Run, Any]:
    """DynamicQuantizeLSTM with one scale per channel."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        model = onnx.load_from_string(onnx_model(p))
        quantize_dynamic(model, path, per_channel=True, weight_type=QuantType.QInt8)
        kinds = {node.op_type for node in onnx.load(path).graph.node}
        assert "DynamicQuantizeLSTM" in kinds, f"not quantized: {kinds}"
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {"x": p.x, **dict(zip("hc", p.state, strict=False))}
    return lambda: session.run(None, feeds), lambda result: [result[0][:, 0]]


def run_openvino_bf16(p: Problem) -> tuple[Run, Any]:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = core.compile_model(core.read_model(onnx_model(p)), "CPU", settings)
    request = compiled.create_infer_request()
    feeds = {"x": p.x, **dict(zip("hc", p.state, strict=False))}

    def outputs(result: Any) -> Outputs:
        return [np.array(result[compiled.outputs[0]])[:, 0]]

    return lambda: request.infer(feeds, share_inputs=True, share_outputs=True), outputs


def run_torch_bf16(p: Problem) -> tuple[Run, Any]:
    import torch

    module = torch.nn.LSTM(p.x.shape[2], p.state[0].shape[2])
    module.load_state_dict({name: torch.from_numpy(w) for name, w in p.weights.items()})
    module = module.to(torch.bfloat16)
    x, *state = (torch.from_numpy(array).to(torch.bfloat16) for array in (p.x, *p.state))

    def run() -> Any:
        with torch.inference_mode():
            return module(x, tuple(state))

    return run, lambda result: [result[0].float().numpy()]


def contestants(p: Problem) -> dict[str, tuple[Run, Any]]:
    return {precision: run_onward(p, precision) for precision in ONWARD_PRECISIONS} | {
        "onnxruntime float32": run_onnxruntime(p, 1),
        "openvino float32": run_openvino(p, 1),
        "torch float32": run_torch(p),
        "onnxruntime int8": run_onnxruntime_int8(p),
        "openvino bfloat16": run_openvino_bf16(p),
        "torch bfloat16": run_torch_bf16(p),
    }


def measure(measured: report.Report, T: int, B: int, H: int, rounds: int) -> None:
    """Time one LSTM in each precision and framework; the differences are those of the first call."""
    runs = contestants(problem(Cell("lstm", T, B, H, 1)))
    first = {name: outputs(run())[0] for name, (run, outputs) in runs.items()}
    times = interleaved({name: run for name, (run, _) in runs.items()}, rounds, 0.02)
    errors = {f"{name} error": np.abs(y - first["float32"]).max() for name, y in first.items()}
    others = {name: time for name, time in times.items() if name not in ONWARD_PRECISIONS}
    best_float = min(time for name, time in others.items() if name.endswith("float32"))
    ratios = {
        "int8 ratio": min(others.values()) / times["int8"],
        "float16 ratio": best_float / times["float16"],
    }
    measured.add("lstm", T=T, B=B, H=H, **times, **ratios, **errors)


def measure_steps(measured: report.Report, rounds: int) -> None:
    """Time a step of stacks in int8, reading its weights, and what does not depend on their number."""
    rates = Roofline.measure()

    def step(layers: int, H: int) -> Run:
        x = np.random.default_rng(0).standard_normal(H).astype(np.float32)
        return partial(onward.LSTM(H, H, layers, rng=0).quantize("int8").stream(), x)

    for layers, H in STACKS:
        times = interleaved({"one": step(layers, H), "small": step(layers, SMALL)}, rounds, 0.05)
        with onward.num_threads(2):
            times |= interleaved({"two": step(layers, H)}, rounds, 0.05)
        size = layers * 2 * 4 * H * H
        measured.add("steps", layers=layers, H=H, **times, reading=size / rates.bandwidth(size) * 1e6)


def measure_models(measured: report.Report, rounds: int) -> None:
    """The time of a call and the size of the file of whole models in each precision."""
    from models import generated

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in generated(folder):
            whole: Any = onward.load(model.path)
            precisions = {"float32": whole, **{p: whole.quantize(p) for p in ONWARD_PRECISIONS[1:]}}
            runs = {p: partial(each, **model.inputs) for p, each in precisions.items()}
            for p, each in precisions.items():
                runs[p]()  # builds the plan
                each.save(folder / p)
            times = interleaved(runs, rounds, 0.05)
            sizes = {f"{p} kB": (folder / p).stat().st_size / 1e3 for p in precisions}
            ratio = times["float32"] / times["int8"]
            measured.add("models", model=model.name, **times, **sizes, ratio=ratio)


def accuracy(measured: report.Report, cases: Path | None) -> None:
    """The differences of compressed models from float32, and whether the decisions change."""
    for kind in LAYERS:
        p = problem(Cell(kind, 100, 16, 128, 1))
        layer = LAYERS[kind](128, 128)
        layer.load_state_dict(p.weights)
        compare(measured, f"{kind.upper()}, H = I = 128, random weights", layer, p.x, decides=False)
    with np.load(bundled.datasets()["japanese_vowels_test"]) as data:
        recordings = np.split(data["x"], np.cumsum(data["lengths"])[:-1])
    net = onward.load(bundled.models()["vowels"])
    compare(measured, "the bundled model `vowels`, 370 recordings", net, *recordings)
    if cases is None:
        return
    inputs = {name: np.load(cases / name / "inputs.npz") for name in ("beatnet", "crema_chord", "sleepecg")}
    lstm = onward.load(cases / "beatnet" / "model_1_weights.pt")["lstm"]
    x = inputs["beatnet"]["lstm_x"].swapaxes(0, 1)
    compare(measured, "the LSTM of BeatNet, 2 x 150, on music", lstm, x, decides=False)
    squeeze = {"SqueezeLayer": lambda x: np.squeeze(x, 2)}
    crema = onward.load(cases / "crema_chord" / "model_stripped.h5", custom_objects=squeeze)
    x = inputs["crema_chord"]["cqt_mag"]
    compare(measured, "crema, 2 bidirectional GRUs of 128, on music", crema, x)
    sleep = onward.load(cases / "sleepecg" / "ws-gru-mesa.keras")
    x = inputs["sleepecg"]["ws_X"]
    compare(measured, "sleepecg, 2 bidirectional GRUs of 8, two nights", sleep, x)


def compare(measured: report.Report, name: str, model: Any, *inputs: Any, decides: bool = True) -> None:
    """Compare the outputs of a model, and the decisions if these are the largest outputs."""

    def outputs(model: Any) -> list[np.ndarray]:
        results = (model(x) for x in inputs)
        return [np.asarray(y[0] if isinstance(y, list | tuple) else y) for y in results]

    expected, found = outputs(model), {}
    for precision in ONWARD_PRECISIONS[1:]:
        got = outputs(model.quantize(precision))
        differences = np.concatenate([np.abs(a - b).ravel() for a, b in zip(got, expected, strict=True)])
        found |= {f"{precision} largest": differences.max(), f"{precision} mean": differences.mean()}
        if decides:
            pairs = zip(got, expected, strict=True)
            changed = [np.atleast_1d(a.argmax(-1) != b.argmax(-1)).ravel() for a, b in pairs]
            found[f"{precision} changed"] = int(np.concatenate(changed).sum())
            found["decisions"] = sum(map(len, changed))
    measured.add("accuracy", model=name, **found)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--only", default="", help='measure one T, B, H of the grid, such as "100, 1, 512"')
    parser.add_argument("--cases", type=Path, help="the directory of published models")
    options = parser.parse_args()
    measured = report.Report(options, ["onnxruntime", "openvino", "torch"])
    set_threads(1, ["torch"])
    for T, B, H in GRID:
        if options.only in ("", f"{T}, {B}, {H}") and not (options.quick and T * B * H > 50_000):
            measure(measured, T, B, H, 1 if options.quick else 3)
    if not options.only:
        measure_steps(measured, 1 if options.quick else 9)
        measure_models(measured, 1 if options.quick else 3)
        accuracy(measured, options.cases)


if __name__ == "__main__":
    main()
