"""Compare Onward with PyTorch, onnxruntime and OpenVINO: same weights, same inputs, interleaved in one run.

python bench/peers.py                       # the whole grid, in ten minutes
python bench/peers.py --quick               # a few cells
python bench/peers.py --only "lstm T=100 B=64"
"""

import importlib
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import report
from roofline import Roofline

import onward
from onward.core.gates import reorder

LAYERS = {"lstm": onward.LSTM, "gru": onward.GRU, "rnn": onward.RNN}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
SIZES = (32, 128, 256, 512, 1024)
SHAPES = ((1, 1), (100, 1), (100, 8), (100, 64))
TOLERANCE = 2e-5  # float32 sums of up to 1024 terms, in another order

Outputs = list[np.ndarray]
Run = Callable[[], Any]


@dataclass
class Cell:
    """One cell of the grid."""

    kind: str
    T: int
    B: int
    H: int
    threads: int

    def __str__(self) -> str:
        return f"{self.kind} T={self.T} B={self.B} H={self.H} threads={self.threads}"

    def gigaflops(self, microseconds: float) -> float:
        """The rate of the arithmetic, if a call takes this time."""
        return 2 * self.T * self.B * GATES[self.kind] * self.H * 2 * self.H / microseconds / 1e3


@dataclass
class Problem:
    """The inputs that all contestants share: weights with PyTorch's names, x and the initial state."""

    kind: str
    weights: dict[str, np.ndarray]
    x: np.ndarray
    state: tuple[np.ndarray, ...]  # (h, c) or (h,)


def problem(cell: Cell) -> Problem:
    rng = np.random.default_rng(7)
    weights = LAYERS[cell.kind](cell.H, cell.H, rng=rng).state_dict()

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    states = 2 if cell.kind == "lstm" else 1
    return Problem(
        cell.kind,
        weights,
        normal(cell.T, cell.B, cell.H),
        tuple(np.tanh(normal(1, cell.B, cell.H)) for _ in range(states)),
    )


# ---- The contestants: each returns a call without arguments, and a function that converts its result to the
# outputs (y, h_n, c_n) as NumPy arrays ----


def run_onward(p: Problem) -> tuple[Run, Callable[[Any], Outputs]]:
    layer = LAYERS[p.kind](p.x.shape[2], p.state[0].shape[2])
    layer.load_state_dict(p.weights)
    state = p.state if p.kind == "lstm" else p.state[0]
    if p.x.shape[:2] == (1, 1):
        return run_stream(p, layer)

    def outputs(result: Any) -> Outputs:
        y, last = result
        return [y, *(last if p.kind == "lstm" else (last,))]

    return lambda: layer(p.x, state), outputs


def run_stream(p: Problem, layer: Any) -> tuple[Run, Callable[[Any], Outputs]]:
    """One step per call with a stream; the outputs that are compared are those of the first step."""
    stream, x = layer.stream(), p.x[0, 0]
    h, *c = (part[0] for part in p.state)
    stream.state = (h, *c) if c else h
    y = stream(x)
    last = stream.state if c else (stream.state,)
    first = [y[None, None], *(part[None] for part in last)]
    return lambda: stream(x), lambda _: first


def run_torch(p: Problem) -> tuple[Run, Callable[[Any], Outputs]]:
    import torch

    module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[p.kind](
        p.x.shape[2], p.state[0].shape[2]
    )
    module.load_state_dict({name: torch.from_numpy(w) for name, w in p.weights.items()})
    x = torch.from_numpy(p.x)
    state = tuple(map(torch.from_numpy, p.state))

    def run() -> Any:
        with torch.inference_mode():
            return module(x, state if p.kind == "lstm" else state[0])

    def outputs(result: Any) -> Outputs:
        y, last = result
        return [part.numpy() for part in (y, *(last if p.kind == "lstm" else (last,)))]

    return run, outputs


def onnx_model(p: Problem) -> bytes:
    """A model of one recurrent node, with the initial state as inputs, as an exporter writes it."""
    import onnx
    from onnx import helper, numpy_helper

    def gates(array: np.ndarray) -> np.ndarray:
        return array if p.kind == "rnn" else reorder(array, p.kind, "torch", "onnx")

    w = p.weights
    initializers = {
        "W": gates(w["weight_ih_l0"])[None],
        "R": gates(w["weight_hh_l0"])[None],
        "bias": np.concatenate([gates(w["bias_ih_l0"]), gates(w["bias_hh_l0"])])[None],
    }
    states = ["h", "c"][: len(p.state)]
    attributes = {"linear_before_reset": 1} if p.kind == "gru" else {}
    node = helper.make_node(
        p.kind.upper(),
        ["x", "W", "R", "bias", "", *states],
        ["y", *(f"{state}_n" for state in states)],
        hidden_size=p.state[0].shape[2],
        **attributes,
    )
    T, B, features = p.x.shape
    H = p.state[0].shape[2]

    def info(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [node],
        p.kind,
        [info("x", T, B, features), *(info(state, 1, B, H) for state in states)],
        [info("y", T, 1, B, H), *(info(f"{state}_n", 1, B, H) for state in states)],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return model.SerializeToString()


def run_onnxruntime(p: Problem, threads: int) -> tuple[Run, Callable[[Any], Outputs]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_model(p), options, providers=["CPUExecutionProvider"])
    feeds = {"x": p.x, **dict(zip("hc", p.state, strict=False))}
    return lambda: session.run(None, feeds), lambda result: [result[0][:, 0], *result[1:]]


def run_openvino(p: Problem, threads: int) -> tuple[Run, Callable[[Any], Outputs]]:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(onnx_model(p)),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1},
    )
    request = compiled.create_infer_request()
    feeds = {"x": p.x, **dict(zip("hc", p.state, strict=False))}

    def outputs(result: Any) -> Outputs:
        y, *states = (np.array(result[port]) for port in compiled.outputs)
        return [y[:, 0], *states]

    return lambda: request.infer(feeds, share_inputs=True, share_outputs=True), outputs


# ---- Measuring ---------------------------------------------------------------------------------------------


def installed_peers() -> list[str]:
    found = []
    for name in ("torch", "onnxruntime", "openvino"):
        try:
            importlib.import_module(name)
            if name != "torch":
                importlib.import_module("onnx")
            found.append(name)
        except ImportError as error:
            print(f"skipping {name}: {error}", file=sys.stderr)
    return found


def contestants(p: Problem, peers: list[str], threads: int) -> dict[str, Run]:
    """The call of each contestant, once its outputs have been found to agree with those of Onward."""
    makers = {
        "onward": lambda: run_onward(p),
        "torch": lambda: run_torch(p),
        "onnxruntime": lambda: run_onnxruntime(p, threads),
        "openvino": lambda: run_openvino(p, threads),
    }
    runs: dict[str, Run] = {}
    reference: Outputs = []
    for name in ("onward", *peers):
        run, outputs = makers[name]()
        arrays = outputs(run())
        reference = reference or arrays
        for ours, theirs in zip(reference, arrays, strict=True):
            assert np.abs(ours - theirs).max() <= TOLERANCE, f"{name} disagrees with onward"
        runs[name] = run
    return runs


def interleaved(runs: dict[str, Run], rounds: int, seconds: float) -> dict[str, float]:
    """Median microseconds per call. Each round measures every contestant in turn for about `seconds`."""
    calls = {}
    for name, run in runs.items():
        for _ in range(3):
            start = time.perf_counter()
            run()
            once = time.perf_counter() - start
        calls[name] = max(1, int(seconds / once))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(0.05)  # threads of the previous contestant may still be spinning
            run()
            start = time.perf_counter()
            for _ in range(calls[name]):
                run()
            times[name].append((time.perf_counter() - start) / calls[name] * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def set_threads(threads: int, peers: list[str]) -> None:
    """Set the number of threads of contestants that have one setting per process."""
    onward.set_num_threads(threads)
    if "torch" in peers:
        import torch

        torch.set_num_threads(threads)


def grid(quick: bool, only: str) -> Iterator[Cell]:
    wanted = only.lower().split()
    for threads, kind, (T, B), H in itertools.product((1, 2), LAYERS, SHAPES, SIZES):
        cell = Cell(kind, T, B, H, threads)
        if quick and (kind != "lstm" or H not in (32, 128) or B == 8 or threads > 1):
            continue
        if threads > 1 and kind != "lstm":
            continue
        if all(word in str(cell).lower().split() for word in wanted):
            yield cell


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument(
        "--only",
        default="",
        help='measure the cells that match all words, such as "lstm T=100 H=128 threads=1"',
    )
    options = parser.parse_args()
    peers = installed_peers()
    measured, roofline = report.Report(options, peers), Roofline.measure()
    roofline.add_to(measured)
    for cell in grid(options.quick, options.only):
        set_threads(cell.threads, peers)
        runs = contestants(problem(cell), peers, cell.threads)
        times = interleaved(runs, 3 if options.quick else 5, 0.03)
        ours, limit = times["onward"], roofline.limit(GATES[cell.kind], cell.T, cell.B, cell.H)
        found: dict[str, float] = {**times, "gigaflops": cell.gigaflops(ours)}
        if peers:
            found["ratio"] = min(times[name] for name in peers) / ours
        if cell.threads == 1:
            found["share"] = limit / ours
        where = {"threads": cell.threads, "T": cell.T, "B": cell.B, "H": cell.H}
        measured.add("cells", cell=cell.kind, **where, **found)


if __name__ == "__main__":
    main()
