"""Plans match the same graph run node by node in NumPy, for other inputs, signatures and branches."""

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.evaluate import meaning
from support.onnx_nodes import model_of, open_model
from support.programs import plan_of
from support.running import bound, weights_of

import onward
from onward.graph import Graph, Model
from onward.graph.plan.planner import Planner, size_of_weights
from onward.graph.plan.view import View
from onward.layers.graphs import graph_of

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def compared(nodes: list[Any], inputs: dict[str, Any], outputs: list[str], weights: dict[str, Any]) -> Model:
    """Build a model from nodes and check that its plan matches NumPy on two sets of inputs."""
    graph = open_model(model_of(nodes, inputs, outputs, weights))
    for scale in (1, -0.5):
        scaled = {name: (x * scale).astype(x.dtype) for name, x in inputs.items()}
        reference = meaning(graph, *scaled.values())
        for mine, expected in zip(graph(**scaled), reference, strict=True):
            assert mine.shape == expected.shape
            np.testing.assert_allclose(mine, expected, rtol=0, atol=2e-5 * max(1, np.abs(expected).max()))
    return graph


CONVOLUTIONS = [
    ((2, 3, 20), (5, 3, 4), {}),
    ((1, 3, 20), (5, 3, 4), {"strides": [3]}),
    ((2, 4, 20), (6, 2, 3), {"group": 2, "pads": [2, 0]}),
    ((2, 6, 20), (6, 1, 3), {"group": 6, "dilations": [2], "pads": [4, 0]}),
    ((1, 1, 50), (7, 1, 9), {"strides": [4], "pads": [3, 5]}),
    ((2, 3, 9, 8), (4, 3, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ((2, 3, 9, 8), (4, 3, 3, 3), {"auto_pad": "SAME_UPPER", "dilations": [1, 2]}),
    ((1, 4, 9, 8), (4, 1, 3, 3), {"group": 4, "auto_pad": "SAME_LOWER"}),
    ((3, 17, 33), (33, 17, 1), {}),
    ((2, 3, 7, 31), (40, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    ((1, 2, 40, 3), (17, 2, 5, 2), {"dilations": [2, 1]}),
]


@pytest.mark.parametrize(("x", "W", "attributes"), CONVOLUTIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_convolutions_match_numpy_for_all_window_options(x: Any, W: Any, attributes: Any, bias: bool) -> None:
    names = ["x", "W", *(["b"] if bias else [])]
    nodes = [helper.make_node("Conv", names, ["z"], **attributes), helper.make_node("Relu", ["z"], ["y"])]
    compared(nodes, {"x": normal(*x)}, ["y"], {"W": normal(*W), "b": normal(W[0])})


MOVEMENTS = [
    ("Transpose", [], {"perm": [2, 0, 1]}),
    ("Reshape", [np.array([4, 15])], {}),
    ("Slice", [np.array([4, 0]), np.array([0, 2]), np.array([2, 1]), np.array([-2, 1])], {}),
    ("Gather", [np.array([[2, 0], [1, 1]])], {"axis": 1}),
    ("Gather", [np.array(1)], {"axis": 1}),
    ("Expand", [np.array([2, 4, 3, 5])], {}),
    ("Pad", [np.array([0, 1, 2, 0, 0, 1])], {"mode": "reflect"}),
    ("Pad", [np.array([0, 1, -1, 2, 0, 3]), np.float32(1.5)], {}),
    ("Unsqueeze", [np.array([1, -1])], {}),
    ("Tile", [np.array([1, 2, 3])], {}),
]


@pytest.mark.parametrize(("operation", "parameters", "attributes"), MOVEMENTS)
def test_movements_match_numpy(operation: str, parameters: Any, attributes: Any) -> None:
    weights = {f"p{i}": np.asarray(p) for i, p in enumerate(parameters)}
    nodes = [
        helper.make_node("Tanh", ["x"], ["z"]),  # puts the input into the arena
        helper.make_node(operation, ["z", *weights], ["m"], **attributes),
        helper.make_node("Abs", ["m"], ["y"]),
    ]
    compared(nodes, {"x": normal(4, 3, 5)}, ["y", "m"], weights)


REDUCTIONS = [
    ("ReduceMean", {"axes": [1]}),
    ("ReduceMean", {"axes": [0, 2], "keepdims": 0}),
    ("ReduceMax", {"axes": [-1]}),
    ("ReduceMean", {}),
    ("Softmax", {"axis": 1}),
    ("LogSoftmax", {"axis": -1}),
    ("GlobalAveragePool", {}),
    ("GlobalMaxPool", {}),
    ("MaxPool", {"kernel_shape": [3], "pads": [1, 1], "strides": [2]}),
    ("AveragePool", {"kernel_shape": [2]}),
]


@pytest.mark.parametrize(("operation", "attributes"), REDUCTIONS)
def test_reductions_match_numpy(operation: str, attributes: Any) -> None:
    compared([helper.make_node(operation, ["x"], ["y"], **attributes)], {"x": normal(2, 7, 19)}, ["y"], {})


def test_unsupported_nodes_run_in_numpy_between_steps_of_the_core() -> None:
    nodes = [
        helper.make_node("Tanh", ["x"], ["a"]),
        helper.make_node("Mod", ["a", "x"], ["e"], fmod=1),
        helper.make_node("Mul", ["e", "x"], ["m"]),
        helper.make_node("Mod", ["m", "x"], ["y"], fmod=1),
    ]
    graph = compared(nodes, {"x": normal(3, 5)}, ["y", "m"], {})
    plan = bound(graph, normal(3, 5))
    assert plan is not None and [type(segment) is tuple for segment in plan.segments].count(False) == 2


def test_each_value_of_a_scalar_that_selects_a_branch_has_its_own_plan() -> None:
    branches = {
        name: helper.make_graph(
            [helper.make_node(operation, ["x"], ["z"])],
            name,
            [],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        )
        for name, operation in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    nodes = [
        helper.make_node("Equal", ["rate", "sixteen"], ["is_sixteen"]),
        helper.make_node("If", ["is_sixteen"], ["y"], **branches),
    ]
    x = normal(2, 3)
    inputs = {"x": x, "rate": np.array(16000)}
    graph = open_model(model_of(nodes, inputs, ["y"], {"sixteen": np.array(16000)}))
    for _ in range(2):
        np.testing.assert_array_equal(graph(x, np.array(16000))[0], np.maximum(x, 0))
        np.testing.assert_array_equal(graph(x, np.array(8000))[0], -x)


def test_an_integer_output_of_a_branch_reaches_later_nodes() -> None:
    branches = {
        name: helper.make_graph(
            [helper.make_node("ArgMax", ["z"], ["inner"], axis=1, keepdims=0)],
            name,
            [],
            [helper.make_tensor_value_info("inner", TensorProto.INT64, None)],
        )
        for name in ("then_branch", "else_branch")
    }
    nodes = [
        helper.make_node("Tanh", ["x"], ["z"]),
        helper.make_node("If", ["always"], ["index"], **branches),
        helper.make_node("Cast", ["index"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = open_model(model_of(nodes, {"x": normal(2, 3)}, ["y", "index"], {"always": np.array(True)}))
    for _ in range(2):
        x = normal(2, 3)
        for y in graph(x):
            np.testing.assert_array_equal(y, x.argmax(1))


def test_a_graph_whose_shapes_depend_on_values_runs_without_a_plan() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["y"])]
    graph = open_model(model_of(nodes, {"x": normal(4)}, ["y"], {}))
    for x in (np.float32([0, 1, 0, 2]), np.float32([1, 1, 1, 0])):
        np.testing.assert_array_equal(graph(x)[0], [np.flatnonzero(x)])


def test_one_program_holds_for_all_sizes_and_another_for_one_row() -> None:
    graph = open_model(model_of([helper.make_node("Tanh", ["x"], ["y"])], {"x": normal(2, 3)}, ["y"], {}))
    graph._inputs["x"] = graph._inputs["x"]._replace(axes=None)
    for rows in range(1, 20):
        assert graph(normal(rows, 3))[0].shape == (rows, 3)
    assert len(graph.programs) == 2


def test_concurrent_calls_do_not_share_an_arena() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "W"], ["y"]),
    ]
    graph = open_model(model_of(nodes, {"x": normal(50, 64)}, ["y"], {"W": normal(64, 64)}))
    inputs = [normal(50, 64) for _ in range(8)]
    expected = [graph(x)[0] for x in inputs]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            for mine, first in zip(threads.map(lambda x: graph(x)[0], inputs), expected, strict=True):
                np.testing.assert_array_equal(mine, first)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "columns first": np.asfortranarray,
    "backward": lambda x: x[::-1].copy()[::-1],
    "with gaps": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "misaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "of the other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "of a subclass": lambda x: x.view(np.recarray),
    "of a dtype with metadata": lambda x: x.astype(np.dtype(x.dtype, metadata={"unit": "m"})),
}


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "longlong", "i1", "u1", "?"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_core_reads_arrays_of_all_layouts_as_numpy_does(layout: str, dtype: str) -> None:
    """It takes their memory, strides, flags and dtypes from the structs of NumPy's C API."""
    graph = Graph()
    x = graph.add_input("x", np.dtype(dtype), (4, "n"))
    graph.outputs = (graph.add("Concat", x, x, axis=0),)
    model, values = Model(graph), RNG.integers(0, 2 if dtype == "?" else 100, (4, 5)).astype(dtype)
    model(values)
    for _ in range(2):
        y = model(LAYOUTS[layout](values))
        assert y.flags.owndata and y.flags.writeable and y.flags.c_contiguous and y.flags.aligned
        assert (y.dtype, y.shape) == (values.dtype, (8, 5))
        np.testing.assert_array_equal(y, [*values, *values])


def test_an_array_in_the_other_byte_order_does_not_use_the_plan_for_native_order() -> None:
    graph = open_model(model_of([helper.make_node("Neg", ["x"], ["y"])], {"x": normal(4, 5)}, ["y"], {}))
    x = normal(4, 5)
    graph(x)
    np.testing.assert_array_equal(graph(x.astype(">f4"))[0], -x)


@pytest.mark.parametrize(
    ("starts", "ends", "steps"), [([1], [7], [1]), ([-1], [-8], [-2]), ([3], [4], [1]), ([0], [7], [3])]
)
@pytest.mark.parametrize("batch", [1, 2])
def test_slices_of_products_match_numpy(starts: Any, ends: Any, steps: Any, batch: int) -> None:
    parameters = {name: np.array(v) for name, v in [("s", starts), ("e", ends), ("a", [1]), ("t", steps)]}
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["z"]),
        helper.make_node("Slice", ["z", "s", "e", "a", "t"], ["part"]),
        helper.make_node("Tanh", ["part"], ["y"]),
    ]
    compared(nodes, {"x": normal(batch, 7, 5)}, ["y"], {"W": normal(5, 18), **parameters})
    compared(nodes, {"x": normal(batch, 7, 5)}, ["y", "part"], {"W": normal(5, 18), **parameters})


def test_a_plan_runs_only_for_arrays_of_its_dtypes_shapes_and_parameters() -> None:
    nodes = [helper.make_node("Mul", ["x", "scale"], ["y"])]
    graph = open_model(model_of(nodes, {"x": normal(2, 3), "scale": np.array(2.0, np.float32)}, ["y"], {}))
    x, scale = normal(2, 3), np.array(2.0, np.float32)
    graph(x, scale)
    run = graph.planner.ready
    for args, inputs in [((x, scale), {}), ((x,), {"scale": scale}), ((), {"scale": scale, "x": x[:, ::-1]})]:
        outputs = run(args, inputs)
        assert outputs is not None
        np.testing.assert_array_equal(outputs[0], (args[0] if args else inputs["x"]) * 2)
    for wrong in [
        x.astype(np.float64),
        x[:1],
        x[0],
        x.astype(">f4"),
        np.ma.masked_array(x),
        x.tolist(),
        None,
    ]:
        assert run((wrong, scale), {}) is None
    assert run((x,), {}) is None
    assert run((x, scale), {"scale": scale}) is None
    assert run((x,), {"x": scale}) is None


def test_rows_of_reductions_do_not_depend_on_the_batch(isa: str) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1]),
        helper.make_node("Sub", ["x", "m"], ["c"]),
        helper.make_node("Softmax", ["c"], ["y"], axis=1),
    ]
    graph = open_model(model_of(nodes, {"x": normal(5, 37, 3)}, ["y"], {}))
    graph._inputs["x"] = graph._inputs["x"]._replace(axes=None)
    x = normal(5, 37, 3)
    batch = graph(x)[0]
    for row in range(5):
        np.testing.assert_array_equal(graph(x[row : row + 1])[0][0], batch[row])


def test_views_beyond_their_space_are_rejected() -> None:
    inside, arrays = View(-1, 0, (1,), (1,), "uint8"), [(10, 0, 0)]
    for view in [(-1, 60, (6,), (1,)), (-1, 0, (2,), (-1,)), (2, 0, (1,), (1,)), (-1, 0, (3, 13), (26, 1))]:
        with pytest.raises(IndexError, match="space"):
            plan_of([("copy", (inside, View(*view, "uint8")))], arrays=arrays)
    with pytest.raises(IndexError, match="space"):
        plan_of([("cast", (inside, View(-1, 0, (17,), (1,))))], arrays=arrays)
    with pytest.raises(ValueError, match="dtype"):
        plan_of([("copy", (inside, View(-1, 0, (1,), (1,), "int8")))], arrays=arrays)
    with pytest.raises(ValueError, match="smaller"):
        plan_of([], spaces=[0, 8]).run(
            [np.zeros(0, np.uint8), np.zeros(0, np.uint8), np.zeros(7, np.uint8)], 0, 0
        )


def test_thread_counts_give_the_same_bits() -> None:
    nodes = [helper.make_node("Conv", ["x", "W"], ["y"])]
    graph = open_model(model_of(nodes, {"x": normal(1, 16, 900)}, ["y"], {"W": normal(40, 16, 9)}))
    x = normal(1, 16, 900)
    with onward.num_threads(1):
        one = graph(x)[0]
    with onward.num_threads(2):
        np.testing.assert_array_equal(graph(x)[0], one)


def test_plans_of_several_shapes_share_their_packed_weights() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["a"]),
        helper.make_node("Gemm", ["a", "V", "b"], ["y"], transB=1),
    ]
    weights = {"W": normal(6, 5), "V": normal(7, 5), "b": normal(7)}
    graph = open_model(model_of(nodes, {"x": normal(2, 6)}, ["y"], weights))
    for rows in (1, 2, 5, 17):
        x = normal(rows, 6)
        np.testing.assert_allclose(graph(x)[0], x @ weights["W"] @ weights["V"].T + weights["b"], atol=1e-5)
    assert len(weights_of(graph).packed) == 2


def summing() -> Graph:
    """A loop that the core runs."""
    body = Graph()
    total, x = body.add_input("total", np.float32, (3,)), body.add_input("x", np.float32, (3,))
    y = body.add("Sigmoid", body.add("Add", total, x))
    body.outputs = (y, body.add("Tanh", y))
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", 3))
    zeros = graph.add_constant(np.zeros(3, np.float32))
    graph.outputs = graph.add_all("Scan", (zeros, x), 2, body=body, num_scan_inputs=1)
    return graph


@pytest.mark.parametrize("kind", ["product", "NumPy", "loop"])
def test_the_weights_of_a_model_are_freed_with_its_last_reference(kind: str) -> None:
    """They waited for the garbage collector, because the programs referred to their plans and back."""
    graph, x = summing(), normal(40, 3)
    if kind != "loop":
        graph = Graph()
        y = graph.add("MatMul", graph.add_input("x", np.float32, ("n", 3)), graph.add_constant(normal(3, 5)))
        graph.outputs = (y if kind == "product" else graph.add("NonZero", y),)
    model = Model(graph)
    del graph
    gc.collect()
    gc.disable()
    try:
        model(x)
        weights, programs = weakref.ref(weights_of(model)), list(map(weakref.ref, model.planner.programs))
        assert programs
        del model
        assert weights() is None
        assert [program() for program in programs] == [None] * len(programs)
    finally:
        gc.enable()


def test_an_activation_of_a_view_leaves_the_product_that_others_use_as_it_is() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["z"]),
        helper.make_node("Transpose", ["z"], ["t"]),
        helper.make_node("Relu", ["t"], ["r"]),
        helper.make_node("Transpose", ["r"], ["s"]),
        helper.make_node("Add", ["z", "s"], ["y"]),
    ]
    compared(nodes, {"x": normal(5, 6)}, ["y"], {"W": normal(6, 7)})


@pytest.mark.parametrize("dtype", [np.int16, np.float16, np.uint32])
def test_arrays_without_elements_of_dtypes_that_the_core_lacks(dtype: Any) -> None:
    x = np.empty((0, 3), dtype)
    (y,) = open_model(model_of([helper.make_node("IsNaN", ["x"], ["y"])], {"x": x}, ["y"], {}))(x=x)
    assert (y.shape, y.dtype) == ((0, 3), np.bool_)


@pytest.mark.parametrize("dtype", ["float16", "uint16", "complex64", "object", None])
def test_an_unused_input_that_the_core_does_not_hold_is_accepted(dtype: Any) -> None:
    """A call raised ValueError, also of bodies that do not use a captured sequence."""
    graph = Graph()
    x = graph.add_input("x", np.float32, (2,))
    graph.add_input("unused", dtype)
    graph.outputs = (graph.add("Tanh", x),)
    unused = [] if dtype is None else np.zeros(3, dtype)
    np.testing.assert_array_equal(Model(graph)(normal(2), unused).shape, (2,))


def test_the_weights_of_recurrent_layers_raise_the_limit_of_work() -> None:
    """A stream of a graph refused long blocks of few numbers: its constants held none of the weights."""
    layer = onward.LSTM(1, 30, 2, rng=0)
    expected = sum(weight.nbytes for weight in layer.state_dict().values())
    assert size_of_weights(graph_of(layer)) == expected
    planner = Planner(graph_of(layer))
    before, x = planner.limit.work, normal(500, 1, 1)
    planner(x, *layer(x[:1])[1])
    assert planner.limit.work >= max(before, 1000 * x.size * expected // 4)
