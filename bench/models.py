"""Time one call of whole models in Onward, onnxruntime, OpenVINO and PyTorch.

    python bench/models.py                      # typical production models with random weights
    python bench/models.py --cases DIR          # also the trained models in a folder
    python bench/models.py --pt2                # also the generated models from .pt2
    python bench/models.py --overhead           # the overhead of a call and of a step
    python bench/models.py --first              # loading, compiling, and fresh processes

All frameworks run the same ONNX file, except PyTorch, which runs the module. The outputs are compared before
timing. The calls are interleaved in one process, and the medians are reported. OpenVINO is skipped for files
that it cannot convert. Needs onward[bench].
"""

import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import openvino
import report
import torch
from onnxruntime import quantization
from roofline import Roofline

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support import modules  # the tests are not a package

import onward
import onward.graph

# A deep LSTM, an LSTM after convolutions, one step of an LSTM, and convolutions alone.
QUANTIZED = ("acoustic model", "text reader", "policy", "keyword spotter")
PEERS = ("onnxruntime", "openvino", "torch")
TURN, PAUSE = 50, 0.05  # calls of a contestant in a row, and seconds before them, on several threads


class Model(NamedTuple):
    """A model: its name, its ONNX file, its inputs, and its PyTorch module if there is one.

    The outputs of frameworks may differ by `tolerance`, relative to the largest number.
    """

    name: str
    path: Path
    inputs: dict[str, Any]
    module: torch.nn.Module | None = None
    tolerance: float = 2e-5
    program: Path | None = None  # the .pt2 file of the module
    source: Path | None = None  # the file that Onward opens instead


def generated(
    folder: Path, names: Iterable[str] = modules.WHOLE, with_programs: bool = False
) -> Iterator[Model]:
    """Models with random weights, exported to a folder."""
    for name in names:
        whole = modules.WHOLE[name]
        torch.manual_seed(0)
        module, inputs = whole.module(), modules.inputs_of(whole.inputs, 0)
        path = folder / f"{name}.onnx"
        path.write_bytes(modules.exported(module, inputs))
        program = None
        if with_programs:
            program = folder / f"{name}.pt2"
            tensors = tuple(map(torch.from_numpy, inputs.values()))
            torch.export.save(torch.export.export(module.eval(), tensors), program)
        yield Model(name, path, inputs, module.eval(), program=program)


def quantized(folder: Path) -> Iterator[Model]:
    """Models with random weights, quantized to int8 by onnxruntime."""
    for model in generated(folder, QUANTIZED):
        path, kind = model.path.with_stem(f"{model.path.stem}_int8"), quantization.QuantType.QUInt8
        quantization.quantize_dynamic(model.path, path, weight_type=kind, per_channel=True)
        # a number halfway between two bytes may round either way
        yield Model(f"{model.name}, int8", path, model.inputs, tolerance=5e-3)


def trained(folder: Path) -> Iterator[Model]:
    """The trained models in a folder."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    state = {"h": np.zeros((1, 1, 128), np.float32), "c": np.zeros((1, 1, 128), np.float32)}
    frames = np.load(folder / "silero_v6" / "inputs.npz")["input"]
    path = folder / "silero_v6" / "silero_vad_v6.onnx"
    yield Model("Silero 6, one frame", path, {"input": frames[:1], **state})
    yield Model("Silero 6, 120 frames", path, {"input": frames, **state})
    path = folder / "silero_vad" / "silero_vad_16k_op15.onnx"
    yield Model(
        "Silero 5, one frame",
        path,
        {"input": frames[:1], "state": normal(2, 1, 128), "sr": np.array(16000)},
    )
    path = folder / "dtln" / "model_1.onnx"
    yield Model(
        "DTLN, stage 1", path, {"input_2": np.abs(normal(1, 1, 257)), "input_3": normal(1, 2, 128, 2)}
    )
    path = folder / "dtln" / "model_2.onnx"
    yield Model("DTLN, stage 2", path, {"input_4": normal(1, 1, 512), "input_5": normal(1, 2, 128, 2)})
    path = folder / "ddddocr" / "ddddocr_lstm.onnx"
    states = {"initial_h": normal(2, 1, 512), "initial_c": normal(2, 1, 512)}
    yield Model("ddddocr's LSTM", path, {"X": normal(30, 1, 512), **states})


def contestants(model: Model, threads: int) -> dict[str, Callable[[], Any]]:
    """Return a call of the model in each framework, after comparing the outputs with onnxruntime's."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
    ours: Any = onward.load(model.source or model.path)
    expected = session.run(None, model.inputs)
    calls: dict[str, Callable[[], Any]] = {
        "onward": lambda: ours(*model.inputs.values()) if model.source else ours(**model.inputs),
        "onnxruntime": lambda: session.run(None, model.inputs),
    }
    if model.program is not None:
        exported: Any = onward.load(model.program)
        calls["pt2"] = lambda: exported(*model.inputs.values())
    with contextlib.suppress(RuntimeError):
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        request = openvino.Core().compile_model(str(model.path), "CPU", settings).create_infer_request()
        calls["openvino"] = lambda: request.infer(
            model.inputs, share_inputs=True, share_outputs=True
        ).to_tuple()
    if model.module is not None:
        module, tensors = model.module, [torch.from_numpy(x) for x in model.inputs.values()]

        def run() -> Any:
            with torch.inference_mode():
                outputs = module(*tensors)
            return [y.numpy() for y in (outputs if isinstance(outputs, tuple) else (outputs,))]

        calls["torch"] = run
    for name, call in calls.items():
        for _ in range(2):  # Onward's first call builds the plan, the second runs it
            outputs = call()
            outputs = outputs if isinstance(outputs, list | tuple) else (outputs,)
            for y, theirs in zip(outputs, expected, strict=True):
                scale = max(1.0, float(np.abs(theirs).max()))
                error = float(np.abs(y - theirs).max())
                assert error < model.tolerance * scale, (
                    f"{model.name}: {name} differs from onnxruntime by {error}"
                )
    return calls


def medians(calls: dict[str, Callable[[], Any]], seconds: float = 0.6, threads: int = 1) -> dict[str, float]:
    """Time the interleaved calls, each for some seconds, and return the median of each in microseconds.

    With several threads, each contestant makes some calls after a pause, in which the workers of the one
    before fall asleep: they spin for a while after each call, and would take the cores of the next one.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    spent = 0.0
    while spent < seconds * len(calls) or len(times["onward"]) < 5:
        for name, call in calls.items():
            if threads > 1:
                time.sleep(PAUSE)
                call()
            for _ in range(1 if threads == 1 else TURN):
                before = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - before)
                spent += times[name][-1]
    return {name: statistics.median(values) * 1e6 for name, values in times.items()}


def limit(rates: Roofline, model: Model, copies: int) -> float:
    """Return the minimum time of a call in microseconds, for its products and for reading their weights.

    Between two calls, the other contestants read their copies of the weights. A call therefore reads its own
    from where all copies fit. Each step reads the recurrent weights again, from where these fit.
    """
    assert model.module is not None
    seconds, everything = 0.0, copies * sum(4 * weights.numel() for weights in model.module.parameters())

    def add(layer: torch.nn.Module, inputs: tuple[torch.Tensor], outputs: Any) -> None:
        nonlocal seconds
        output = outputs[0] if isinstance(outputs, tuple) else outputs
        for name, weights in layer.named_parameters(recurse=False):
            if weights.ndim < 2 or isinstance(layer, torch.nn.Embedding):
                continue
            recurrent = isinstance(layer, torch.nn.RNNBase | torch.nn.RNNCellBase)
            rows = (inputs[0] if recurrent else output).numel() // layer_features(layer)
            steps = rows if "weight_hh" in name else 1  # of one row
            size = 4 * weights.numel()
            arithmetic = 2 * weights.numel() * rows / rates.operations
            reading = size / rates.bandwidth(everything) + (steps - 1) * size / rates.bandwidth(size)
            seconds += max(arithmetic, reading)

    hooks = [layer.register_forward_hook(add) for layer in model.module.modules()]
    with torch.inference_mode():
        model.module(*map(torch.from_numpy, model.inputs.values()))
    for hook in hooks:
        hook.remove()
    return 1e6 * seconds


def layer_features(layer: Any) -> int:
    """The numbers of a row: of the input of a recurrent layer, of the output of another one."""
    for name in ("input_size", "out_features", "out_channels"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    raise TypeError(f"{layer} has weights of unknown use")


def overhead(measured: report.Report, folder: Path) -> None:
    """Time graphs of N negations of one number, whose arithmetic takes almost no time."""
    for count in (1, 50, 200):
        names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
        nodes = [onnx.helper.make_node("Neg", [a], [b]) for a, b in itertools.pairwise(names)]
        info = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in ("x", "y")]
        model = onnx.helper.make_model(
            onnx.helper.make_graph(nodes, "chain", info[:1], info[1:]), ir_version=8
        )
        onnx.save(model, folder / "chain.onnx")
        ours, x = onward.load(folder / "chain.onnx"), np.ones(1, np.float32)
        took = medians({"onward": lambda ours=ours, x=x: ours(x)})["onward"]
        measured.add("overhead", operations=count, onward=took, per_operation=took / count)


FIRST = {
    "onward": "import onward\nrun = lambda feed: onward.load(path)(**feed)",
    "onnxruntime": "from onnxruntime import InferenceSession\n"
    "run = lambda feed: InferenceSession(path).run(None, feed)",
}


def first_outputs(measured: report.Report, models: Iterable[Model], folder: Path, rounds: int) -> None:
    """Time fresh processes that import a framework, open a file and compute the first output."""
    for model in models:
        np.savez(folder / "inputs.npz", **model.inputs)
        times: dict[str, list[float]] = {name: [] for name in FIRST}
        for _, (name, code) in itertools.product(range(rounds), FIRST.items()):
            lines = [f"path = {str(model.path)!r}", code, "import numpy"]
            lines += [f"run(dict(numpy.load({str(folder / 'inputs.npz')!r})))"]
            environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder)}
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", "\n".join(lines)], env=environment, check=True)
            times[name].append(time.perf_counter() - start)
        ours, theirs = (1e3 * statistics.median(times[name][1:]) for name in FIRST)  # the first compiles
        measured.add("first", model=model.name, onward=ours, onnxruntime=theirs, ratio=theirs / ours)


def unrolled(steps: int) -> tuple[onward.graph.Graph, Any]:
    """A liquid time-constant cell in primitives, repeated for each step, and its input."""
    rng = np.random.default_rng(0)
    graph = onward.graph.Graph()
    x = graph.add_input("x", np.float32, ("batch", steps, 8))

    def constant(*shape: int) -> str:
        return graph.add_constant(rng.standard_normal(shape).astype(np.float32))

    weights, slopes, centers, reversals = (constant(8, 8) for _ in range(4))
    leak, rest, states = constant(8), constant(8), []
    last, first = graph.add_constant(np.array([-1])), graph.add_constant(np.array([1]))
    h = graph.add("Gather", x, graph.add_constant(np.array(0)), axis=1)
    for step in range(steps):
        u = graph.add("Gather", x, graph.add_constant(np.array(step)), axis=1)
        away = graph.add("Sub", graph.add("Unsqueeze", graph.add("Add", h, u), last), centers)
        opened = graph.add("Mul", weights, graph.add("Sigmoid", graph.add("Mul", slopes, away)))
        driven = graph.add("ReduceSum", graph.add("Mul", opened, reversals), first, keepdims=0)
        total = graph.add("Add", graph.add("ReduceSum", opened, first, keepdims=0), leak)
        h = graph.add("Div", graph.add("Add", graph.add("Add", h, rest), driven), graph.add("Exp", total))
        states.append(graph.add("Unsqueeze", h, first))
    graph.outputs = (graph.add("Concat", *states, axis=1),)
    return graph, rng.standard_normal((2, steps, 8)).astype(np.float32)


def compiling(measured: report.Report, models: Iterable[Model], rounds: int) -> None:
    """Measure the CPU time of opening files and of first calls, in a process that has done both before."""

    def milliseconds(call: Callable[[], Any]) -> tuple[float, Any]:
        start = time.process_time()
        result = call()
        return 1e3 * (time.process_time() - start), result

    for model in models:
        runs = []
        for _ in range(1 + rounds):
            loading, opened = milliseconds(lambda model=model: onward.load(model.path))
            calls = [milliseconds(lambda m=opened, x=model.inputs: m(**x))[0] for _ in range(2)]
            runs.append((loading, *calls))
        names = ("load", "first_call", "second_call")
        medians_of = (statistics.median(values) for values in zip(*runs[1:], strict=True))
        measured.add("compiling", model=model.name, **dict(zip(names, medians_of, strict=True)))
    for steps in (10, 90):
        graph, x = unrolled(steps)
        times = [milliseconds(lambda g=graph, x=x: onward.graph.Model(g)(x))[0] for _ in range(1 + rounds)]
        nodes = len(graph.nodes)
        per_node = 1e3 * statistics.median(times[1:]) / nodes
        measured.add("unrolled", nodes=nodes, first_call=statistics.median(times[1:]), per_node=per_node)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--cases", type=Path, help="a folder of trained models")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="only models whose name contains this text")
    parser.add_argument("--pt2", action="store_true", help="also the generated models from .pt2")
    parser.add_argument("--first", action="store_true", help="only loading, compiling and fresh processes")
    parser.add_argument("--overhead", action="store_true", help="only the cost of calls and steps")
    arguments = parser.parse_args()
    measured = report.Report(arguments, PEERS)
    onward.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.overhead:
            return overhead(measured, Path(folder))
        models = [
            *(trained(arguments.cases) if arguments.cases else ()),
            *generated(Path(folder), with_programs=arguments.pt2),
        ]
        models = [model for model in (*models, *quantized(Path(folder))) if arguments.only in model.name]
        if arguments.first:
            compiling(measured, models, 3 if arguments.quick else 10)
            return first_outputs(measured, models, Path(folder), 3 if arguments.quick else 10)
        rates = Roofline.measure()
        for model in models:
            took = medians(
                contestants(model, arguments.threads), 0.02 if arguments.quick else 0.6, arguments.threads
            )
            best = min(took[name] for name in PEERS if name in took)
            row: dict[str, Any] = {"model": model.name, **took, "ratio": best / took["onward"]}
            if model.module is not None and arguments.threads == 1:
                row["limit"] = limit(rates, model, copies=len(took))
                row["share"] = row["limit"] / took["onward"]
            measured.add("models", **row)


if __name__ == "__main__":
    main()
