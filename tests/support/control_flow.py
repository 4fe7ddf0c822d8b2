"""ONNX models with If, Loop and Scan, and their inputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onward.graph.operations.control import MAX_UNROLLED

Feeds = dict[str, NDArray[Any]]
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
RNG = np.random.default_rng(0)
node = helper.make_node


def normal(*shape: int) -> NDArray[Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def info(name: str, kind: int = FLOAT, rank: int | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, None if rank is None else [None] * rank)


def body(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    **constants: NDArray[Any],
) -> onnx.GraphProto:
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    return helper.make_graph(nodes, "body", inputs, outputs, stored)


def model(
    nodes: Sequence[onnx.NodeProto], feeds: Feeds, outputs: Sequence[onnx.ValueInfoProto], **constants: Any
) -> onnx.ModelProto:
    kinds = {name: helper.np_dtype_to_tensor_dtype(feed.dtype) for name, feed in feeds.items()}
    inputs = [info(name, kinds[name], feed.ndim) for name, feed in feeds.items()]
    graph = body(nodes, inputs, outputs, **constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def branch(operation: str, *inputs: str) -> onnx.GraphProto:
    return body([node(operation, inputs, ["branch_y"])], [], [info("branch_y")])


def condition_of_values() -> tuple[onnx.ModelProto, list[Feeds]]:
    """An If whose condition depends on the values of x; the branches capture x and W."""
    product = branch("MatMul", "x", "W")
    nodes = [
        node("ReduceSum", ["x"], ["total"], keepdims=0),
        node("Greater", ["total", "zero"], ["positive"]),
        node("If", ["positive"], ["y"], then_branch=product, else_branch=branch("Neg", "x")),
    ]
    x = np.abs(normal(3, 4))
    feeds = [{"x": x}, {"x": -x}, {"x": x[:1]}]
    return model(nodes, feeds[0], [info("y")], W=normal(4, 4), zero=np.zeros((), np.float32)), feeds


def nested_ifs() -> tuple[onnx.ModelProto, list[Feeds]]:
    """An If in a branch of an If; both conditions are inputs."""
    inner = node("If", ["b"], ["inner_y"], then_branch=branch("Exp", "x"), else_branch=branch("Neg", "x"))
    outer = body([inner], [], [info("inner_y")])
    nodes = [node("If", ["a"], ["y"], then_branch=outer, else_branch=branch("Abs", "x"))]
    flags = [(True, True), (True, False), (False, True)]
    feeds = [{"x": normal(3, 4), "a": np.array(a), "b": np.array(b)} for a, b in flags]
    return model(nodes, feeds[0], [info("y")]), feeds


ITERATION = [info("i", INT, 0), info("goes_on", BOOL, 0)]


def loop_for() -> tuple[onnx.ModelProto, list[Feeds]]:
    """A for loop of n iterations with a carried state, scanned outputs and captured weights."""
    nodes = [
        node("MatMul", ["h", "W"], ["product"]),
        node("Add", ["product", "x"], ["sum"]),
        node("Tanh", ["sum"], ["h_out"]),
        node("Identity", ["goes_on"], ["goes_on_out"]),
        node("Mul", ["h_out", "h_out"], ["square"]),
    ]
    inner = body(nodes, [*ITERATION, info("h")], [info("goes_on_out", BOOL), info("h_out"), info("square")])
    outer = [node("Loop", ["n", "", "h0"], ["h_n", "squares"], body=inner)]
    counts = (1, 3, MAX_UNROLLED, MAX_UNROLLED + 1, 40)
    feeds = [{"n": np.array(n), "h0": normal(2, 4), "x": normal(2, 4)} for n in counts]
    return model(outer, feeds[0], [info("h_n"), info("squares")], W=0.3 * normal(4, 4)), feeds


def loop_while() -> tuple[onnx.ModelProto, list[Feeds]]:
    """A while loop that doubles h until a sum exceeds a limit; some inputs need no iteration."""
    nodes = [
        node("Add", ["h", "h"], ["h_out"]),
        node("ReduceSum", ["h_out"], ["total"], keepdims=0),
        node("Less", ["total", "limit"], ["goes_on_out"]),
    ]
    inner = body(nodes, [*ITERATION, info("h")], [info("goes_on_out", BOOL), info("h_out")])
    outer = [
        node("ReduceSum", ["h0"], ["start"], keepdims=0),
        node("Less", ["start", "limit"], ["first"]),
        node("Loop", ["", "first", "h0"], ["h_n"], body=inner),
    ]
    h = np.abs(normal(2, 3)) + 0.1
    feeds = [{"h0": h, "limit": np.array(limit, np.float32)} for limit in (-1, 1, 1e3, 1e30)]
    return model(outer, feeds[0], [info("h_n")]), feeds


def loop_without_iterations() -> tuple[onnx.ModelProto, list[Feeds]]:
    """A loop whose count is zero, which still has scanned outputs of no elements."""
    nodes = [
        node("Identity", ["goes_on"], ["goes_on_out"]),
        node("Neg", ["h"], ["h_out"]),
        node("Abs", ["h"], ["s"]),
    ]
    scanned = helper.make_tensor_value_info("s", FLOAT, [2, 3])
    inner = body(nodes, [*ITERATION, info("h")], [info("goes_on_out", BOOL), info("h_out"), scanned])
    outer = [node("Loop", ["n", "", "h0"], ["h_n", "scanned"], body=inner)]
    feeds = [{"n": np.array(n), "h0": normal(2, 3)} for n in (0, 2)]
    return model(outer, feeds[0], [info("h_n"), info("scanned")]), feeds


def loop_that_grows() -> tuple[onnx.ModelProto, list[Feeds]]:
    """A loop whose carried value has one more row in each iteration."""
    nodes = [node("Identity", ["goes_on"], ["goes_on_out"]), node("Concat", ["h", "x"], ["h_out"], axis=0)]
    inner = body(nodes, [*ITERATION, info("h")], [info("goes_on_out", BOOL), info("h_out")])
    outer = [node("Loop", ["n", "", "h0"], ["h_n"], body=inner)]
    feeds = [{"n": np.array(n), "h0": normal(1, 3), "x": normal(1, 3)} for n in (1, 5, 20)]
    return model(outer, feeds[0], [info("h_n")]), feeds


def loop_with_inner_loop_and_if() -> tuple[onnx.ModelProto, list[Feeds]]:
    """A loop with a loop over its iteration number, and an If that depends on it."""
    double = body(
        [node("Add", ["k", "x"], ["k_out"]), node("Identity", ["on"], ["on_out"])],
        [info("j", INT, 0), info("on", BOOL, 0), info("k")],
        [info("on_out", BOOL), info("k_out")],
    )
    scaled = body(
        [node("Cast", ["i"], ["factor"], to=FLOAT), node("Mul", ["inner_h", "factor"], ["scaled_y"])],
        [],
        [info("scaled_y")],
    )
    nodes = [
        node("Loop", ["i", "", "h"], ["inner_h"], body=double),
        node("Mod", ["i", "two"], ["odd"]),
        node("Cast", ["odd"], ["is_odd"], to=BOOL),
        node("If", ["is_odd"], ["h_out"], then_branch=scaled, else_branch=branch("Tanh", "inner_h")),
        node("Identity", ["goes_on"], ["goes_on_out"]),
    ]  # fmt: skip
    inner = body(nodes, [*ITERATION, info("h")], [info("goes_on_out", BOOL), info("h_out")])
    outer = [node("Loop", ["n", "", "h0"], ["h_n"], body=inner)]
    feeds = [{"n": np.array(n), "h0": normal(2, 3), "x": normal(2, 3)} for n in (1, 4, 20)]
    return model(outer, feeds[0], [info("h_n")], two=np.array(2)), feeds


def scan(
    T: int, axis: int, reverse: int, out_axis: int, out_reverse: int
) -> tuple[onnx.ModelProto, list[Feeds]]:
    """A recurrence over an axis of x, from either end."""
    nodes = [
        node("MatMul", ["h", "W"], ["product"]),
        node("Add", ["product", "x_t"], ["sum"]),
        node("Tanh", ["sum"], ["h_out"]),
        node("Identity", ["h_out"], ["y_t"]),
    ]
    inner = body(nodes, [info("h"), info("x_t")], [info("h_out"), info("y_t")])
    options = {"scan_input_axes": [axis], "scan_input_directions": [reverse]}
    options |= {"scan_output_axes": [out_axis], "scan_output_directions": [out_reverse]}
    outer = [node("Scan", ["h0", "x"], ["h_n", "y"], body=inner, num_scan_inputs=1, **options)]
    shape = [2, 4]
    shape.insert(axis, T)
    feeds = [{"h0": normal(2, 4), "x": normal(*shape)}]
    return model(outer, feeds[0], [info("h_n"), info("y")], W=0.3 * normal(4, 4)), feeds


CASES = {
    f.__name__: f
    for f in (
        *(condition_of_values, nested_ifs, loop_for, loop_while, loop_without_iterations),
        *(loop_that_grows, loop_with_inner_loop_and_if),
    )
}
SCANS = [
    (T, *options)
    for T in (1, 5, MAX_UNROLLED, MAX_UNROLLED + 1)
    for options in ((0, 0, 0, 0), (1, 0, 1, 0), (2, 1, 0, 1), (0, 1, 2, 0), (1, 0, 0, 1))
]
