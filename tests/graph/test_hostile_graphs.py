"""Graphs that ask for too much memory, time or depth are refused quickly and in bounded memory."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import hostile
from support.in_one_test import in_one_test
from support.onnx_nodes import open_model

from onward.core.budget import MEMORY_OF_ANY_CALL
from onward.errors import FileError, LimitError, MemoryLimitError, OnwardError, WorkLimitError
from onward.formats.onnx.read import read
from onward.graph import Graph, Model

SIZES = [2**31, 2**40, 2**62]
MATRIX, IMAGE, KERNEL = (np.ones(shape, np.float32) for shape in ((2, 3), (1, 1, 4, 4), (1, 1, 3, 3)))


def floats(*numbers: float) -> Any:
    return np.array(numbers, np.float32)


def integers(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


# For each operator: its inputs, of which the arrays of integers ask for much, and its attributes.
REQUESTS: dict[str, Callable[[int], tuple[str, list[Any], dict[str, Any]]]] = {
    "Expand": lambda n: ("Expand", [MATRIX, integers(n, 2, 3)], {}),
    "Tile": lambda n: ("Tile", [MATRIX, integers(n, n)], {}),
    "Pad": lambda n: ("Pad", [MATRIX, integers(0, 0, n, n)], {}),
    "reflecting Pad": lambda n: ("Pad", [MATRIX, integers(0, 0, n, n)], {"mode": "reflect"}),
    "Reshape": lambda n: ("Reshape", [MATRIX, integers(n, n)], {}),
    "ConstantOfShape": lambda n: ("ConstantOfShape", [integers(n, n)], {}),
    "Range": lambda n: ("Range", [integers(0)[0], integers(n)[0], integers(1)[0]], {}),
    "Range of floats": lambda n: ("Range", [floats(0)[0], floats(n)[0], floats(1e-30)[0]], {}),
    "OneHot": lambda n: ("OneHot", [integers(1, 2), integers(n), floats(0, 1)], {}),
    "Resize to sizes": lambda n: ("Resize", [IMAGE, None, None, integers(1, 1, n, n)], {}),
    "Resize by scales": lambda n: ("Resize", [IMAGE, None, floats(1, 1, n, n)], {}),
    "linear Resize": lambda n: ("Resize", [IMAGE, None, None, integers(1, 1, n, 1)], {"mode": "linear"}),
    "pads of Conv": lambda n: ("Conv", [IMAGE, KERNEL], {"pads": [n, 0, n, 0]}),
    "dilations of Conv": lambda n: ("Conv", [IMAGE, KERNEL], {"dilations": [n, 1]}),
    "strides of ConvTranspose": lambda n: ("ConvTranspose", [IMAGE, KERNEL], {"strides": [n, 1]}),
    "dilations of ConvTranspose": lambda n: ("ConvTranspose", [IMAGE, KERNEL], {"dilations": [n, 1]}),
    "output_shape of ConvTranspose": lambda n: ("ConvTranspose", [IMAGE, KERNEL], {"output_shape": [n, 4]}),
    "kernel of MaxPool": lambda n: ("MaxPool", [IMAGE], {"kernel_shape": [n, 1]}),
    "pads of AveragePool": lambda n: ("AveragePool", [IMAGE], {"kernel_shape": [2, 2], "pads": [n, 0, n, 0]}),
    "length of DFT": lambda n: ("DFT", [floats(*range(4)).reshape(1, 4, 1), integers(n)[0]], {}),
    "length of DFT without small factors": lambda n: (
        "DFT",
        [floats(*range(4)).reshape(1, 4, 1), integers(n // 262 * 262)[0]],
        {},
    ),
    "HannWindow": lambda n: ("HannWindow", [integers(n)[0]], {}),
    "TopK": lambda n: ("TopK", [MATRIX, integers(n)], {}),
    "sizes of Split": lambda n: ("Split", [MATRIX, integers(n, 3 - n)], {"axis": 1}),
    "CenterCropPad": lambda n: ("CenterCropPad", [MATRIX, integers(n, n)], {}),
    "RandomNormal": lambda n: ("RandomNormal", [], {"shape": [n, n]}),
    "num_outputs of Split": lambda n: ("Split", [MATRIX], {"num_outputs": n}),
    "AffineGrid": lambda n: ("AffineGrid", [np.ones((1, 2, 3), np.float32), integers(1, 1, n, n)], {}),
    "hidden_size of LSTM": lambda n: (
        "LSTM",
        [np.ones((2, 3, 1), np.float32), *[np.ones((1, 4, 1), np.float32)] * 2],
        {"hidden_size": n},
    ),
}


def declared(name: str, array: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: list[str],
    constants: dict[str, Any] | None = None,
    functions: tuple[onnx.FunctionProto, ...] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [declared(name, array) for name, array in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions))


def refused(proto: onnx.ModelProto, *inputs: Any) -> OnwardError:
    """The error of opening and running a model, which takes less than a second and a bounded memory."""
    tracemalloc.start()
    try:
        with hostile.bounded(memory=1 << 31), pytest.raises(OnwardError) as error:
            open_model(proto)(*inputs)
        assert tracemalloc.get_traced_memory()[1] < 8 * MEMORY_OF_ANY_CALL
    finally:
        tracemalloc.stop()
    return error.value


@pytest.fixture(scope="module", autouse=True)
def all_imported() -> None:
    """Run a model first, because imports count as execution."""
    with pytest.raises(OnwardError):
        open_model(model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": MATRIX}, ["y"]))()


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@in_one_test("where", ["constants", "inputs", "a branch", "a loop", "a continuation"])
@in_one_test("size", SIZES)
def test_sizes_that_overflow_or_exceed_the_memory_are_refused(request_: Any, size: int, where: str) -> None:
    operator, arrays, attributes = request_(size)
    names = ["" if array is None else f"i{place}" for place, array in enumerate(arrays)]
    node = helper.make_node(operator, names, ["result"], "large", **attributes)
    values = {name: array for name, array in zip(names, arrays, strict=True) if name}
    condition, inputs = np.array(True), {}
    if where == "constants":
        proto = model_of([node], {}, ["result"], values)
    elif where == "inputs":
        proto, inputs = model_of([node], values, ["result"]), values
    elif where == "a branch":
        branches = [
            helper.make_graph([n], "branch", [], [onnx.ValueInfoProto(name="result")])
            for n in (node, helper.make_node("Constant", [], ["result"], value_float=0.0))
        ]
        nodes = [
            helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["condition"], to=TensorProto.BOOL),
            helper.make_node("If", ["condition"], ["y"], then_branch=branches[0], else_branch=branches[1]),
        ]
        proto, inputs = model_of(nodes, {"x": MATRIX}, ["y"], values), {"x": MATRIX}
    elif where == "a loop":
        body = helper.make_graph(
            [node, helper.make_node("Identity", ["goes_on"], ["again"])],
            "body",
            [declared("i", integers(0)[0]), declared("goes_on", condition)],
            [onnx.ValueInfoProto(name="again"), onnx.ValueInfoProto(name="result")],
        )
        loop = helper.make_node("Loop", ["count", ""], ["y"], body=body)
        proto = model_of([loop], {"count": integers(20)}, ["y"], values)
        inputs = {"count": integers(20)}
    else:
        nodes = [helper.make_node("NonZero", ["x"], ["places"]), node]
        proto, inputs = model_of(nodes, {"x": MATRIX}, ["places", "result"], values), {"x": MATRIX}
    refused(proto, *inputs.values())


def test_an_unused_stride_of_any_size_is_accepted() -> None:
    for size in SIZES:
        node = helper.make_node("Conv", ["x", "W"], ["y"], strides=[size, 1])
        (y,) = open_model(model_of([node], {"x": IMAGE}, ["y"], {"W": KERNEL}))(IMAGE)
        assert y.shape == (1, 1, 1, 2)


def doubling(count: int) -> list[onnx.NodeProto]:
    return [helper.make_node("Concat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], axis=0) for i in range(count)]


@pytest.mark.parametrize("where", ["an input", "a constant", "a continuation", "a loop"])
def test_values_that_double_sixty_times_are_refused(where: str) -> None:
    x = {"v0": MATRIX}
    if where == "an input":
        error = refused(model_of(doubling(60), x, ["v60"]), MATRIX)
    elif where == "a constant":
        error = refused(model_of(doubling(60), {}, ["v60"], x))
    elif where == "a continuation":
        nodes = [helper.make_node("NonZero", ["x"], ["v0"]), *doubling(60)]
        error = refused(model_of(nodes, {"x": MATRIX}, ["v60"]), MATRIX)
    else:
        error = refused(loop_of(doubling(1), "v0", "v1", 60), MATRIX)
    assert isinstance(error, LimitError)
    node = "Loop" if where == "a loop" else "Concat"  # the body writes its output in place
    assert f"({node}): the call takes" in str(error)


@pytest.mark.parametrize("is_constant", [False, True])
def test_compositions_of_small_inputs_with_large_outputs_are_refused(is_constant: bool) -> None:
    arrays = {name: np.ones((1, 1, 20_000, 1), np.float32) for name in "QKV"}
    nodes = [helper.make_node("Attention", list("QKV"), ["y"])]
    given = ({}, ["y"], arrays) if is_constant else (arrays, ["y"])
    error = refused(model_of(nodes, *given), *([] if is_constant else arrays.values()))
    assert isinstance(error, LimitError)


def test_a_chain_of_operators_whose_shapes_depend_on_values_stays_within_the_memory() -> None:
    nodes = [helper.make_node("NonZero", [f"v{i}"], [f"v{i + 1}"]) for i in range(60)]
    x = np.ones((2, 2), np.int64)
    assert isinstance(refused(model_of(nodes, {"v0": x}, ["v60"]), x), LimitError)


def test_hundreds_of_operators_whose_shapes_depend_on_values_run() -> None:
    nodes = [helper.make_node("Compress", [f"v{i}", "kept"], [f"v{i + 1}"]) for i in range(300)]
    inputs = {"v0": floats(1, 2, 3), "kept": np.array([True, True, True])}
    (y,) = open_model(model_of(nodes, inputs, ["v300"]))(**inputs)
    np.testing.assert_array_equal(y, [1, 2, 3])


def test_the_scanned_outputs_of_a_loop_stay_within_the_memory() -> None:
    shape = helper.make_node("Constant", [], ["shape"], value_ints=[1000, 2, 3])
    nodes = [shape, helper.make_node("Expand", ["v", "shape"], ["large"])]
    nodes.append(helper.make_node("Relu", ["v"], ["w"]))
    error = refused(loop_of(nodes, "v", "w", 100_000, scanned="large"), MATRIX)
    assert isinstance(error, LimitError)


def loop_of(
    nodes: list[onnx.NodeProto], value: str, result: str, count: int, scanned: str = ""
) -> onnx.ModelProto:
    """A model of a loop whose condition is always true."""
    body = helper.make_graph(
        [*nodes, helper.make_node("Identity", ["goes_on"], ["again"])],
        "body",
        [declared("i", integers(0)[0]), declared("goes_on", np.array(True)), declared(value, MATRIX)],
        [onnx.ValueInfoProto(name=name) for name in ("again", result, scanned) if name],
    )
    outputs = ["y", "scanned"][: 1 + bool(scanned)]
    constants = {"count": integers(count)[0]} if count else {}
    loop = helper.make_node("Loop", ["count" if count else "", "", "x"], outputs, body=body)
    return model_of([loop], {"x": MATRIX}, outputs, constants)


@pytest.mark.parametrize("count", [*SIZES, 0])
def test_loops_of_billions_of_iterations_are_refused(count: int) -> None:
    """A count of 0 stands for none: the loop never ends."""
    error = refused(loop_of([helper.make_node("Relu", ["v"], ["w"])], "v", "w", count), MATRIX)
    assert isinstance(error, LimitError)


def nested(depth: int) -> onnx.ModelProto:
    """Loops of 16 iterations inside each other."""
    nodes = [helper.make_node("Neg", ["v"], ["w0"])]
    for level in range(depth):
        body = helper.make_graph(
            [*nodes, helper.make_node("Identity", [f"goes_on{level}"], [f"again{level}"])],
            "body",
            [
                declared(f"i{level}", integers(0)[0]),
                declared(f"goes_on{level}", np.array(True)),
                declared(f"v{level}" if level else "v", MATRIX),
            ],
            [onnx.ValueInfoProto(name=name) for name in (f"again{level}", f"w{level}")],
        )
        inputs = ["count", "", f"v{level + 1}"]
        nodes = [helper.make_node("Loop", inputs, [f"w{level + 1}"], body=body)]
    return model_of(nodes, {f"v{depth}": MATRIX}, [f"w{depth}"], {"count": integers(16)[0]})


def test_nested_loops_are_unrolled_only_up_to_a_number_of_nodes() -> None:
    model = open_model(nested(4))
    with hostile.bounded(seconds=10):
        (y,) = model(MATRIX)
    np.testing.assert_array_equal(y, MATRIX)


def test_nested_loops_of_too_many_iterations_in_all_are_refused() -> None:
    assert isinstance(refused(nested(16), MATRIX), WorkLimitError)
    assert "nested more than 16 deep" in str(refused(nested(17), MATRIX))


def test_functions_that_expand_exponentially_are_refused() -> None:
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function("own", "f0", ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])], opsets)
    ]
    for level in range(1, 31):
        calls = [
            helper.make_node(f"f{level - 1}", [source], [target], domain="own")
            for source, target in (("x", "t"), ("t", "y"))
        ]
        functions.append(helper.make_function("own", f"f{level}", ["x"], ["y"], calls, opsets))
    node = helper.make_node("f30", ["x"], ["y"], domain="own")
    error = refused(model_of([node], {"x": MATRIX}, ["y"], functions=tuple(functions)), MATRIX)
    assert isinstance(error, LimitError)


def test_calls_of_a_function_and_inputs_take_linear_time() -> None:
    """A search for unused names, or through all inputs, would take minutes."""
    opsets = [helper.make_opsetid("", 20)]
    body = [helper.make_node("Neg", ["x"], ["t"]), helper.make_node("Neg", ["t"], ["y"])]
    function = helper.make_function("own", "twice", ["x"], ["y"], body, opsets)
    calls = [helper.make_node("twice", [f"v{i}"], [f"v{i + 1}"], domain="own") for i in range(10_000)]
    with hostile.bounded(seconds=10, memory=1 << 30):
        open_model(model_of(calls, {"v0": MATRIX}, ["v10000"], functions=(function,)))
    many = {f"x{i}": MATRIX for i in range(10_000)}
    with hostile.bounded(seconds=10, memory=1 << 30):
        open_model(model_of([helper.make_node("Relu", ["x0"], ["y"])], many, ["y"], many))


def test_a_cycle_and_a_missing_value_are_refused() -> None:
    nodes = [helper.make_node("Relu", ["b"], ["a"], "first"), helper.make_node("Relu", ["a"], ["b"])]
    assert "form a cycle" in str(refused(model_of(nodes, {"x": MATRIX}, ["b"]), MATRIX))
    nodes = [helper.make_node("Relu", ["absent"], ["y"], "first")]
    assert "takes the value absent" in str(refused(model_of(nodes, {"x": MATRIX}, ["y"]), MATRIX))


def varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def test_messages_nested_a_million_levels_and_strings_of_two_to_the_63_bytes_are_refused() -> None:
    pieces: list[bytes] = []
    size = 0
    for level in range(1_000_000):  # graph { node { attribute { g { node { ...
        key = (b"\x0a", b"\x32", b"\x2a")[level % 3]
        header = key + varint(size)
        pieces.append(header)
        size += len(header)
    content = b"".join(reversed(pieces))
    for damaged in (b"\x3a" + varint(len(content)) + content, b"\x12" + varint(2**63) + b"name"):
        with hostile.bounded(memory=1 << 28), pytest.raises(FileError):
            read("model.onnx", damaged)


def test_a_graph_of_operations_needs_no_file_to_be_bounded() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("rows", 3))
    for _ in range(60):
        x = graph.add("Concat", x, x, axis=0)
    graph.outputs = (x,)
    with hostile.bounded(memory=1 << 31), pytest.raises(MemoryLimitError, match=r"node Concat_\d+ "):
        Model(graph)(MATRIX)


@pytest.mark.parametrize("count", [0, 1 << 62])
def test_a_loop_that_only_its_condition_ends_is_refused_after_many_iterations(count: int) -> None:
    again = helper.make_node("Greater", ["v", "w"], ["again"])
    v, w = np.array(1, np.float32), np.array(0, np.float32)
    body = helper.make_graph(
        [again, helper.make_node("Identity", ["v"], ["same"])],
        "body",
        [declared("i", integers(0)[0]), declared("goes_on", np.array(True)), declared("v", v)],
        [onnx.ValueInfoProto(name=name) for name in ("again", "same")],
    )
    constants = {"w": w, **({"count": integers(count)[0]} if count else {})}
    loop = helper.make_node("Loop", ["count" if count else "", "", "x"], ["y"], body=body)
    assert "elementary operations" in str(refused(model_of([loop], {"x": v}, ["y"], constants), v))


def test_values_with_more_axes_than_the_core_has_are_refused() -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    x, shape = np.ones(1, np.float32), np.ones(17, np.int64)
    model = model_of([node], {"x": x}, ["y"], {"shape": shape})
    assert "17 axes; expected at most 16" in str(refused(model, x))


@pytest.mark.parametrize("name", ["Identity", "Dropout", "Sum"])
def test_an_output_of_an_omitted_input_is_refused(name: str) -> None:
    x = np.ones(2, np.float32)
    model = model_of([helper.make_node(name, [""], ["y"], "empty")], {"x": x}, ["y"], {})
    assert "node empty" in str(refused(model, x))
