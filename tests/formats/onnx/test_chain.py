"""ONNX graphs converted to layers: chains from other exporters, and clear errors for other graphs."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from support import onnx_nodes
from support.onnx_nodes import open_model
from support.random_chains import RandomChain
from support.randomized import random_cases

from onward import errors
from onward.graph import Graph, Input, Model

T, B, I, H = 5, 3, 4, 7  # noqa: E741 - axis letters


def graph_of(
    nodes: list[onnx.NodeProto], constants: dict[str, Any], opset: int = 14, **inputs: np.ndarray
) -> Model:
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in {
            "W": (1, 4 * H, I),
            "R": (1, 4 * H, H),
            "B": (1, 8 * H),
            "W2": (2, 3 * H, I),
            "R2": (2, 3 * H, H),
            "M": (H, 2),
            "b": (2,),
        }.items()
    }
    inputs = {"x": np.zeros((T, B, I), np.float32)} | inputs
    return open_model(onnx_nodes.model_of(nodes, inputs, ["y"], weights | constants, opset))


def lstm(x: str = "x", *states: str, **attributes: Any) -> onnx.NodeProto:
    inputs = [x, "W", "R", "B", "", *states] if states else [x, "W", "R", "B"]
    return helper.make_node("LSTM", inputs, ["Y", "Y_h", "Y_c"], "lstm", hidden_size=H, **attributes)


def x_of(graph: Model) -> Any:
    return np.random.default_rng(1).normal(0, 1, (T, B, I)).astype(np.float32)


def node(op: str, *inputs: str, to: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [to], f"the {op}", **attributes)


ONE = {"one": np.array([1])}


@pytest.mark.parametrize(
    ("nodes", "constants", "layers"),
    [
        ([lstm(), node("Squeeze", "Y", "one")], ONE, ["LSTM"]),
        (
            [
                lstm(),
                node("Squeeze", "Y", "one", to="s"),
                node("MatMul", "s", "M", to="m"),
                node("Add", "b", "m"),
            ],
            ONE,
            ["LSTM", "Linear"],
        ),
        (
            [lstm(), node("Squeeze", "Y_h", "zero", to="s"), node("Gemm", "s", "M", "b")],
            {"zero": np.array([0])},
            ["LSTM", "Last", "Linear"],
        ),
        (
            [
                node("Transpose", "x", to="t", perm=[1, 0, 2]),
                lstm("t"),
                node("Squeeze", "Y", "one", to="s"),
                node("Transpose", "s", perm=[1, 0, 2]),
            ],
            ONE,
            ["LSTM"],
        ),
        (
            [
                node("Shape", "x", to="shape"),
                node("Gather", "shape", "one", to="batch"),
                node("Concat", "one", "batch", "H", to="size", axis=0),
                node("ConstantOfShape", "size", to="zeros"),
                lstm("x", "zeros", "zeros"),
                node("Squeeze", "Y", "one"),
            ],
            {**ONE, "H": np.array([H])},
            ["LSTM"],
        ),
        (
            [
                helper.make_node("GRU", ["x", "W2", "R2"], ["Y"], hidden_size=H, direction="bidirectional"),
                node("Transpose", "Y", to="t", perm=[0, 2, 1, 3]),
                node("Reshape", "t", "shape", to="r"),
                node("Softmax", "r", axis=2),
            ],
            {"shape": np.array([0, 0, -1])},
            ["GRU", "Softmax"],
        ),
    ],
    ids=["squeezed", "dense", "last state", "batch first", "states of zeros", "two directions"],
)
def test_chains_become_layers(nodes: Any, constants: dict[str, Any], layers: list[str]) -> None:
    graph = graph_of(nodes, constants)
    chain = graph.layers()
    assert [type(layer).__name__ for layer in chain] == layers
    x = x_of(graph)
    np.testing.assert_allclose(chain(x), graph(x)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("nodes", "constants", "named"),
    [
        ([lstm(), node("Sin", "Y")], {}, "the Sin"),
        ([lstm(direction="reverse"), node("Squeeze", "Y", "one")], ONE, "lstm .*reverse"),
        ([node("Neg", "W", to="W_"), node("Mul", "x", "x")], {}, "the Mul"),
        ([lstm("x", "h", "h"), node("Squeeze", "Y", "one")], {**ONE, "h": np.ones((1, B, H), "f4")}, "lstm"),
        (
            [lstm(), node("Squeeze", "Y", "one", to="s"), node("Transpose", "s", perm=[1, 0, 2])],
            ONE,
            "axes of y",
        ),
        ([lstm(), node("Gather", "Y", "one")], {"one": np.array(1)}, "the Gather"),
    ],
)
def test_nodes_that_cannot_be_converted_are_named(nodes: Any, constants: dict[str, Any], named: str) -> None:
    with pytest.raises(errors.ArgumentError, match=named):
        graph_of(nodes, constants).layers()


@pytest.mark.parametrize(
    ("before", "named"),
    [
        ([], "lstm2.*starts from the final state of another layer"),
        ([node("Identity", "Y_h", to="k")], "lstm2.*starts from the final state of another layer"),
    ],
)
def test_a_decoder_that_starts_from_the_state_of_an_encoder_is_no_chain(
    before: list[onnx.NodeProto], named: str
) -> None:
    """Its layers, and with them its streams, started from zeros."""
    states = ["k" if before else "Y_h", "Y_c"]
    decoder = helper.make_node("LSTM", ["s", "V", "R", "B", "", *states], ["Z"], "lstm2", hidden_size=H)
    nodes = [lstm(), node("Squeeze", "Y", "one", to="s"), *before, decoder, node("Squeeze", "Z", "one")]
    V = np.random.default_rng(2).normal(0, 0.5, (1, 4 * H, H)).astype(np.float32)
    with pytest.raises(errors.ArgumentError, match=named):
        graph_of(nodes, ONE | {"V": V}).layers()


def test_a_table_of_integers_is_no_layer() -> None:
    """Layers refused its dtype, which ended streams and commands of quantized models with an error."""
    table = np.random.default_rng(3).integers(0, 255, (6, I)).astype(np.uint8)
    scale, zero = np.float32(0.01), np.uint8(128)
    nodes = [node("Gather", "table", "x", to="q"), node("DequantizeLinear", "q", "scale", "zero", to="f")]
    graph = graph_of(
        [*nodes, lstm("f"), node("Squeeze", "Y", "one")],
        {**ONE, "table": table, "scale": scale, "zero": zero},
        x=np.zeros((T, B), np.int64),
    )
    with pytest.raises(errors.ArgumentError, match=r"the (Gather|DequantizeLinear)"):
        graph.layers()
    x = np.random.default_rng(4).integers(0, 6, (T, 1))
    stream = graph.stream()
    np.testing.assert_array_equal([stream(step)[0] for step in x], graph(x)[0][:, 0])


@pytest.mark.parametrize("to", ["INT32", "BOOL"])
def test_an_input_that_casts_round_is_no_input_of_layers(to: str) -> None:
    types = getattr(onnx.TensorProto, to), onnx.TensorProto.FLOAT
    casts = [node("Cast", "x", to="i"), node("Cast", "i", to="f")]
    for cast, kind in zip(casts, types, strict=True):
        cast.attribute.append(helper.make_attribute("to", kind))
    with pytest.raises(errors.ArgumentError, match="the Cast"):
        graph_of([*casts, lstm("f"), node("Squeeze", "Y", "one")], ONE).layers()


def stacked(*after: onnx.NodeProto, opset: int = 14) -> Model:
    """Two stacked LSTMs whose final h are joined as in PyTorch's exports, followed by the given nodes."""
    second = helper.make_node("LSTM", ["s", "V", "R", "B"], ["", "Z_h"], hidden_size=H)
    squeezed = node(
        "Squeeze", "Y", *(["one"] if opset > 12 else []), to="s", **({} if opset > 12 else {"axes": [1]})
    )
    V = np.random.default_rng(2).normal(0, 0.5, (1, 4 * H, H)).astype(np.float32)
    constants = {
        "V": V,
        "last": np.array(-1),
        "second": np.array(1),
        "first": np.array(0),
        "zero": np.array([0]),
    }
    constants |= ONE | {"minus": np.array([-1]), "end": np.array([2**63 - 1])}
    nodes = [lstm(), squeezed, second, node("Concat", "Y_h", "Z_h", to="h", axis=0), *after]
    return graph_of(nodes, constants, opset=opset)


@pytest.mark.parametrize(
    ("after", "opset"),
    [
        ([node("Gather", "h", "last")], 14),
        ([node("Gather", "h", "second", axis=0)], 14),
        ([node("Slice", "h", "minus", "end", "zero", to="k"), node("Squeeze", "k", "zero")], 14),
        ([node("Slice", "h", to="k", starts=[1], ends=[9], axes=[0]), node("Squeeze", "k", axes=[0])], 9),
        ([node("Relu", "h", to="k"), node("Gather", "k", "last")], 14),
    ],
    ids=["gathered", "by its number", "sliced", "sliced in opset 9", "all rectified"],
)
def test_the_final_state_of_the_last_layer_is_its_last_step(after: list[onnx.NodeProto], opset: int) -> None:
    graph = stacked(*after, opset=opset)
    chain, x = graph.layers(), x_of(graph)
    assert [type(layer).__name__ for layer in chain][:3] == ["LSTM", "LSTM", "Last"]
    np.testing.assert_array_equal(chain(x), graph(x)[0])


@pytest.mark.parametrize(
    ("after", "named"),
    [
        ([node("Gather", "h", "first")], "the Gather"),
        ([node("Gather", "h", "last", axis=1)], "the Gather"),
        ([node("Slice", "h", "zero", "end", "zero", to="k"), node("Squeeze", "k", "zero")], "the Squeeze"),
        ([node("Squeeze", "h", "zero")], "the Squeeze"),
        ([node("Identity", "h")], "final states of several layers"),
    ],
)
def test_other_final_states_are_not_the_last_step(after: list[onnx.NodeProto], named: str) -> None:
    with pytest.raises(errors.ArgumentError, match=named):
        stacked(*after).layers()


def test_every_way_to_read_the_final_state_is_the_last_step() -> None:
    for read in (node("Gather", "Y_h", "zero"), node("Gather", "Y_h", "minus")):
        graph = graph_of([lstm(), read], {"zero": np.array(0), "minus": np.array(-1)})
        assert [type(layer).__name__ for layer in graph.layers()] == ["LSTM", "Last"]
        np.testing.assert_array_equal(graph.layers()(x_of(graph)), graph(x_of(graph))[0])


def bidirectional(*after: onnx.NodeProto, **shapes: list[int]) -> Model:
    """A bidirectional GRU, its output with the directions moved to the features, and the given nodes."""
    gru = helper.make_node("GRU", ["x", "W2", "R2"], ["Y"], hidden_size=H, direction="bidirectional")
    constants = {name: np.array(shape) for name, shape in shapes.items()}
    return graph_of([gru, node("Transpose", "Y", to="t", perm=[0, 2, 1, 3]), *after], constants)


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ([0, 0, -1], True),
        ([0, 0, 2 * H], True),
        ([0, -1, 2 * H], True),
        ([-1, 1, 2 * H], False),  # all steps of all rows
        ([1, -1, 2 * H], False),
        ([T, B, 2 * H], False),  # sizes that the graph does not fix
        ([0, -1, H], False),
        ([0, 0, 2, H], False),
    ],
)
def test_only_a_reshape_that_joins_the_directions_is_followed(shape: list[int], fits: bool) -> None:
    graph = bidirectional(node("Reshape", "t", "shape"), shape=shape)
    if fits:
        np.testing.assert_array_equal(graph.layers()(x_of(graph)), graph(x_of(graph))[0])
    else:
        with pytest.raises(errors.ArgumentError, match="the Reshape"):
            graph.layers()


@pytest.mark.parametrize("first", ["zero", "one"])
def test_a_shape_computed_from_the_value_is_followed(first: str) -> None:
    """As PyTorch's exporter writes it, with the first two axes in order or swapped."""
    graph = bidirectional(
        node("Shape", "t", to="of_t"),
        node("Gather", "of_t", first, to="n"),
        node("Slice", "of_t", "one", "two", to="m"),
        node("Slice", "of_t", "two", "three", to="D"),
        node("Slice", "of_t", "three", "four", to="H"),
        node("Mul", "D", "H", to="units"),
        node("Concat", "n", "m", "units", to="shape", axis=0),
        node("Reshape", "t", "shape"),
        zero=[0], one=[1], two=[2], three=[3], four=[4],
    )  # fmt: skip
    if first == "zero":
        np.testing.assert_array_equal(graph.layers()(x_of(graph)), graph(x_of(graph))[0])
    else:
        with pytest.raises(errors.ArgumentError, match="the Reshape"):
            graph.layers()


def test_the_axis_of_one_direction_can_be_reshaped_away() -> None:
    graph = graph_of([lstm(), node("Reshape", "Y", "shape")], {"shape": np.array([0, -1, H])})
    np.testing.assert_array_equal(graph.layers()(x_of(graph)), graph(x_of(graph))[0])


def test_streams_pools_and_traces_give_the_bits_of_the_graph() -> None:
    graph = graph_of(
        [lstm(), node("Squeeze", "Y", "one", to="s"), node("Relu", "s", to="r"), node("MatMul", "r", "M")],
        ONE,
    )
    x = x_of(graph)
    expected = graph(x)[0]
    stream, pool = graph.stream(), graph.pool(2)
    ids = pool.open(B)
    for step, y in zip(x, expected, strict=True):
        np.testing.assert_array_equal(stream(step[0]), y[0])
        np.testing.assert_array_equal(pool.step(ids, step), y)
    np.testing.assert_array_equal(graph.trace(x).y, expected)
    small = graph.quantize("int8", check=x, tolerance=0.1)
    stream, expected = small.stream(), small(x)
    np.testing.assert_array_equal([stream(x_t[0]) for x_t in x], expected[:, 0])


def test_a_graph_that_is_not_a_chain_explains_why_it_has_no_layers() -> None:
    graph = graph_of([lstm(), node("Squeeze", "Y", "one", to="s"), node("Mul", "s", "s")], ONE)
    with pytest.raises(errors.ArgumentError, match=r"node the Mul \(Mul\) cannot be converted to layers"):
        graph.layers()


@pytest.mark.parametrize("lengths", [np.full(B, 2, np.int32), None], ids=["in the graph", "made of an input"])
def test_missing_lengths_are_refused(lengths: Any) -> None:
    first = helper.make_node("LSTM", ["x", "W", "R", "B", "n"], ["Y"], "lstm", hidden_size=H)
    nodes = [first, node("Squeeze", "Y", "one")]
    if lengths is None:
        nodes.insert(0, node("Mul", "two", "two", to="n_"))
        nodes.insert(1, node("Expand", "n_", "rows", to="n"))
    constants = {**ONE, "two": np.array([2], np.int32), "rows": np.array([B])}
    graph = graph_of(nodes, constants | ({} if lengths is None else {"n": lengths}))
    with pytest.raises(errors.ArgumentError, match="different lengths"):
        graph.layers()


@pytest.mark.parametrize(("attributes", "fits"), [({}, False), ({"axis": 1}, False), ({"axis": 2}, True)])
def test_softmax_of_opset_11_converts_only_along_the_last_axis(attributes: Any, fits: bool) -> None:
    nodes = [lstm(), node("Squeeze", "Y", to="s", axes=[1]), node("Softmax", "s", **attributes)]
    graph = graph_of(nodes, {}, opset=11)
    if fits:
        np.testing.assert_array_equal(graph.layers()(x_of(graph)), graph(x_of(graph))[0])
    else:
        with pytest.raises(errors.ArgumentError, match="the Softmax"):
            graph.layers()


def test_the_final_state_of_rows_with_lengths_is_their_last_step() -> None:
    """Rows without steps end in zeros."""
    n = np.array([5, 0, 2], np.int32)
    first = helper.make_node("LSTM", ["x", "W", "R", "B", "n"], ["", "Y_h"], "lstm", hidden_size=H)
    graph = graph_of([first, node("Squeeze", "Y_h", "zero")], {"zero": np.array([0])}, n=n)
    chain, x = graph.layers(), x_of(graph)
    assert [type(layer).__name__ for layer in chain] == ["LSTM", "Last"]
    np.testing.assert_array_equal(chain(x, lengths=n), graph(x, n)[0])


def test_integers_that_a_graph_casts_are_the_input_of_its_layers() -> None:
    x = np.random.default_rng(5).integers(-3, 4, (T, B, I))
    cast = node("Cast", "x", to="f")
    cast.attribute.append(helper.make_attribute("to", onnx.TensorProto.FLOAT))
    graph = graph_of([cast, lstm("f"), node("Squeeze", "Y", "one")], ONE, x=x)
    np.testing.assert_array_equal(graph.layers()(x), graph(x)[0])


@pytest.mark.parametrize("trains", [False, True])
def test_a_dropout_is_no_layer_unless_it_trains(trains: bool) -> None:
    nodes = [lstm(), node("Squeeze", "Y", "one", to="s"), node("Dropout", "s", "ratio", "trains")]
    graph = graph_of(nodes, {**ONE, "ratio": np.array(0.5, "f4"), "trains": np.array(trains)})
    if trains:
        with pytest.raises(errors.ArgumentError, match="the Dropout"):
            graph.layers()
    else:
        assert [type(layer).__name__ for layer in graph.layers()] == ["LSTM"]


def test_layers_take_and_return_states_in_the_order_of_the_graph() -> None:
    """They took exchanged states in their own order, and reversed ones as they came."""
    refused = 0
    for seed in range(random_cases(400)):
        case = RandomChain(seed)
        try:
            layers = case.model().layers()
        except errors.ArgumentError:
            assert case.moves, f"seed {seed}: {case}"
            refused += 1
            continue
        x, states = case.arrays(T, B)
        y, *final = case.model()(x, *states)
        found, ends = layers(x, case.of_layers(states), return_state=True)
        pairs = zip([y, *final], [found, *case.in_order(ends)], strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs), f"seed {seed}: {case}"
    assert random_cases(400) // 4 < refused < random_cases(400) * 3 // 4


@pytest.mark.parametrize("axes", [None, ("L", "batch", "H"), (2, "batch", 4)])
def test_states_of_a_shape_that_the_file_leaves_open_are_those_of_the_layers(axes: Any) -> None:
    """Files that declare no shape of the states were refused."""
    graph, model = stack_of_gru(axes, [0, 1])
    x, h0 = (
        np.random.default_rng(3).normal(size=shape).astype(np.float32) for shape in ((T, B, 4), (2, B, 4))
    )
    y, final = model(x, h0)
    found, ends = model.layers()(x, [h0[:1], h0[1:]], return_state=True)
    np.testing.assert_array_equal(found, y)
    np.testing.assert_array_equal(np.concatenate(ends), final)
    assert graph.inputs[1].axes == axes


def test_layers_that_start_from_a_part_of_a_state_are_refused() -> None:
    with pytest.raises(errors.ArgumentError, match="do not start from all elements"):
        stack_of_gru((3, "batch", 4), [0, 1])[1].layers()


def test_a_stream_from_zeros_may_have_states_in_any_order() -> None:
    """It was refused, although no state is given or returned."""
    model = stack_of_gru((2, "batch", 4), [1, 0])[1]
    with pytest.raises(errors.ArgumentError, match="not in the order of the layers"):
        model.layers()
    x = np.random.default_rng(4).normal(size=(T, B, 4)).astype(np.float32)
    expected = model(x, np.zeros((2, B, 4), np.float32))[0]
    np.testing.assert_array_equal(model.stream(batch=B)(x), expected)


def stack_of_gru(axes: Any, places: list[int]) -> tuple[Graph, Model]:
    """Return a stack of GRUs, each of which starts from its place of the state."""
    rng, graph = np.random.default_rng(0), Graph()
    y, h0 = graph.add_input("x", np.float32, ("time", "batch", 4)), graph.add_input("h0", np.float32, axes)
    ends = []
    for place in places:
        weights = (
            graph.add_constant(rng.normal(size=(1, *n)).astype(np.float32)) for n in ((12, 4), (12, 4), (24,))
        )
        bounds = (graph.add_constant(np.array([n])) for n in (place, place + 1, 0))
        start = graph.add("Slice", h0, *bounds)
        y, end = graph.add_all("GRU", (y, *weights, "", start), 2, hidden_size=4)
        y = graph.add("Squeeze", y, graph.add_constant(np.array([1])))
        ends.append(end)
    graph.outputs = (y, graph.add("Concat", *ends, axis=0))
    graph.declared_outputs = (Input("y"), Input("h_n"))
    return graph, Model(graph)
