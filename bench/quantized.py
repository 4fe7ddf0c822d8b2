"""Compare compressed weights in Onward and its peers: an LSTM on one thread, interleaved in one run.

    python bench/quantized.py                       # the grid of docs/benchmarks/quantized.md
    python bench/quantized.py --only "100, 1, 512"  # one T, B, H
    python bench/quantized.py --cells               # LSTM, GRU and RNN, only Onward
    python bench/quantized.py --models              # whole models, only Onward

Prints a table: microseconds per call and, in parentheses, the largest difference of the outputs of the first
call from those of Onward in float32.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
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

from onward import _core

GRID = ((1, 1, 128), (1, 1, 512), (1, 1, 1024), (100, 1, 128), (100, 1, 256), (100, 1, 512), (100, 1, 1024),
        (100, 64, 256), (100, 64, 512))  # fmt: skip
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


def contestants(p: Problem, peers: bool) -> dict[str, tuple[Run, Any]]:
    runs = {precision: run_onward(p, precision) for precision in ONWARD_PRECISIONS}
    if peers:
        runs |= {
            "ort f32": run_onnxruntime(p, 1),
            "openvino f32": run_openvino(p, 1),
            "torch f32": run_torch(p),
            "ort int8": run_onnxruntime_int8(p),
            "openvino bf16": run_openvino_bf16(p),
            "torch bf16": run_torch_bf16(p),
        }
    return runs


def measure(kind: str, T: int, B: int, H: int, peers: bool, rounds: int) -> None:
    p = problem(Cell(kind, T, B, H, 1))
    runs = contestants(p, peers)
    first = {name: outputs(run())[0] for name, (run, outputs) in runs.items()}
    error = {name: np.abs(y - first["float32"]).max() for name, y in first.items()}
    times = interleaved({name: run for name, (run, _) in runs.items()}, rounds, 0.02)
    columns = [f"{times[name]:,.1f} ({error[name]:.0e})" for name in runs]
    if peers:
        others = {name: time for name, time in times.items() if name not in ONWARD_PRECISIONS}
        best_float = min(time for name, time in others.items() if name.endswith("f32"))
        columns += [f"{min(others.values()) / times['int8']:.2f}", f"{best_float / times['float16']:.2f}"]
    else:
        columns += [f"{times['float32'] / times['int8']:.2f}", f"{times['float32'] / times['float16']:.2f}"]
    print("| " + " | ".join([kind, f"{T}, {B}, {H}", *columns]) + " |", flush=True)


def measure_models(rounds: int) -> None:
    """Print the time of a call and the size of the file of whole models in each precision."""
    from models import generated

    import onward

    print("| model | float32, µs | float16 | int8 | float32, KB | float16 | int8 |")
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
            sizes = [f"{(folder / p).stat().st_size / 1e3:,.0f}" for p in precisions]
            columns = [model.name, *(f"{times[p]:,.1f}" for p in precisions), *sizes]
            print("| " + " | ".join(columns) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help='measure one T, B, H of the grid, such as "100, 1, 512"')
    parser.add_argument("--cells", action="store_true", help="also measure GRU and RNN, without the peers")
    parser.add_argument("--models", action="store_true", help="measure whole models, without the peers")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.models:
        return measure_models(options.rounds)
    set_threads(1, [] if options.cells else ["torch"])
    print(f"{_core.isa()}; the last two columns are the speedups of int8 and float16")
    for kind in ("lstm", "gru", "rnn") if options.cells else ("lstm",):
        for T, B, H in GRID:
            if options.only in ("", f"{T}, {B}, {H}"):
                measure(kind, T, B, H, not options.cells, options.rounds)


if __name__ == "__main__":
    main()
