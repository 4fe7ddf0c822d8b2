"""A step of an LSTM or a GRU that is written out becomes one node with the same results."""

from typing import Any

import numpy as np
import pytest
from support.evaluate import evaluate

from onward import textbook
from onward.graph import Graph
from onward.graph.plan.planner import Planner
from onward.graph.simplification import idioms
from onward.graph.simplification.simplify import simplify

RNG = np.random.default_rng(0)
I = 3  # noqa: E741 - axis letter


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return (RNG.standard_normal(shape) * 0.5).astype(dtype)


class Writer:
    """A graph of the inputs x, h and c, and how an exporter writes a cell of random weights."""

    def __init__(self, H: int, dtype: Any = np.float32) -> None:
        self.graph, self.H, self.dtype = Graph(), H, dtype
        sizes = {"x": I, "h": H, "c": H}
        self.x, self.h, self.c = (self.graph.add_input(n, dtype, ("batch", s)) for n, s in sizes.items())

    def constant(self, array: Any, dtype: Any = None) -> str:
        return self.graph.add_constant(np.asarray(array, dtype or self.dtype))

    def weights(self, *shape: int) -> str:
        return self.constant(normal(*shape))

    def product(self, x: str, columns: int, kind: str) -> str:
        """x W + b as torch, Keras or TensorFlow write it."""
        rows, add = {self.x: I, self.h: self.H}[x], self.graph.add
        if kind == "Gemm":
            return add("Gemm", x, self.weights(columns, rows), self.weights(columns), transB=1)
        y = add("MatMul", x, self.weights(rows, columns))
        return add("Add", self.weights(columns), y) if kind == "Add" else y

    def parts(self, x: str, count: int, kind: str) -> tuple[str, ...]:
        """The parts of x (B, count * H)."""
        add_all, H = self.graph.add_all, self.H
        if kind == "slices":
            bounds = [self.constant([place * H], np.int64) for place in range(count + 1)]
            axis = self.constant([1], np.int64)
            return tuple(self.graph.add("Slice", x, *bounds[k : k + 2], axis) for k in range(count))
        if kind == "sizes":
            return add_all("Split", (x, self.constant([H] * count, np.int64)), count, axis=-1)
        return add_all("Split", (x,), count, axis=1, num_outputs=count)

    def lstm(self, product: str = "Gemm", parts: str = "sizes", order: str = "ifgo") -> None:
        add, H = self.graph.add, self.H
        first, second = self.product(self.x, 4 * H, product), self.product(self.h, 4 * H, product)
        gates = dict(zip(order, self.parts(add("Add", first, second), 4, parts), strict=True))
        self.finish_lstm(gates)

    def finish_lstm(self, gates: dict[str, str]) -> None:
        add = self.graph.add
        i, f, o = (add("Sigmoid", gates[name]) for name in "ifo")
        kept, added = add("Mul", f, self.c), add("Mul", i, add("Tanh", gates["g"]))
        c = add("Add", kept, added)
        self.graph.outputs = (add("Mul", o, add("Tanh", c)), c)

    def gru(self, product: str = "Gemm", parts: str = "sizes", difference: bool = True) -> None:
        add, H, h = self.graph.add, self.H, self.h
        x_r, x_z, x_n = self.parts(self.product(self.x, 3 * H, product), 3, parts)
        h_r, h_z, h_n = self.parts(self.product(h, 3 * H, product), 3, parts)
        r, z = add("Sigmoid", add("Add", x_r, h_r)), add("Sigmoid", add("Add", h_z, x_z))
        n = add("Tanh", add("Add", x_n, add("Mul", r, h_n)))
        if difference:
            y = add("Add", add("Mul", add("Sub", h, n), z), n)
        else:
            rest = add("Sub", self.constant(1), z)
            y = add("Add", add("Mul", z, h), add("Mul", rest, n))
        self.graph.outputs = (y,)


def feeds(writer: Writer, *leading: int) -> list[Any]:
    return [normal(*leading, size, dtype=writer.dtype) for size in (I, writer.H, writer.H)]


def assert_same_results(writer: Writer, *, replaced: bool = True) -> None:
    graph = writer.graph
    simplified = simplify(graph)
    assert (["Step"] == [node.operation for node in simplified.nodes]) == replaced
    planner, tolerance = Planner(simplified), 1e-6 if writer.dtype == np.float32 else 1e-14
    for B in (1, 5, 17):
        inputs = feeds(writer, B)
        results = evaluate(graph, *inputs), evaluate(simplified, *inputs), planner(*inputs)
        for expected, y, planned in zip(*results, strict=True):
            assert y.dtype == writer.dtype and y.shape == expected.shape
            np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance)
            np.testing.assert_array_equal(planned, y)
        if replaced and writer.dtype == np.float32:
            assert planner.find(inputs).entry is not None  # type: ignore[union-attr]  # the plan exists


@pytest.mark.parametrize("H", [1, 7, 33])
@pytest.mark.parametrize(
    ("product", "parts", "order"),
    [
        ("Gemm", "sizes", "ifgo"),  # torch.onnx
        ("Gemm", "number", "ifgo"),  # torch.onnx with dynamo
        ("MatMul", "number", "ifgo"),  # Keras
        ("Add", "slices", "iofg"),
    ],
)
def test_a_step_of_an_lstm_becomes_one_node(H: int, product: str, parts: str, order: str) -> None:
    writer = Writer(H)
    writer.lstm(product, parts, order)
    assert_same_results(writer)


@pytest.mark.parametrize("H", [1, 7, 33])
@pytest.mark.parametrize(
    ("product", "parts", "difference"),
    [
        ("Gemm", "sizes", True),
        ("Gemm", "number", True),
        ("Add", "number", False),
        ("MatMul", "slices", False),
    ],
)
def test_a_step_of_a_gru_becomes_one_node(H: int, product: str, parts: str, difference: bool) -> None:
    writer = Writer(H)
    writer.gru(product, parts, difference)
    assert_same_results(writer)


def test_a_step_in_float64_stays_in_float64() -> None:
    writer = Writer(7, np.float64)
    writer.lstm()
    assert_same_results(writer)


def test_gates_with_products_of_their_own_become_one_node() -> None:
    writer = Writer(7)
    add = writer.graph.add
    gates = {
        name: add("Add", writer.product(writer.x, 7, "Gemm"), writer.product(writer.h, 7, "MatMul"))
        for name in "ifgo"
    }
    writer.finish_lstm(gates)
    assert_same_results(writer)


def test_a_recognized_step_is_the_textbooks() -> None:
    writer, H = Writer(7), 7
    W, R, b = normal(4 * H, I), normal(4 * H, H), normal(4 * H)
    add, constant = writer.graph.add, writer.constant
    products = [add("MatMul", v, constant(a.T)) for v, a in ((writer.x, W), (writer.h, R))]
    gates = add("Add", add("Add", *products), constant(b))
    writer.finish_lstm(dict(zip("ifgo", writer.parts(gates, 4, "sizes"), strict=True)))
    x, h, c = feeds(writer, 5)
    parameters: dict[str, Any] = {}
    for letter, gate in zip("ifco", range(4), strict=True):
        rows = slice(gate * H, (gate + 1) * H)
        parameters[f"W{letter}"] = np.concatenate([R[rows], W[rows]], 1).astype(np.float64)
        parameters[f"b{letter}"] = b[rows, None].astype(np.float64)
    parameters |= {"Wy": np.zeros((2, H)), "by": np.zeros((2, 1))}
    expected = textbook.lstm_cell_forward(x.T, h.T, c.T, parameters)[:2]
    for y, theirs in zip(Planner(simplify(writer.graph))(x, h, c), expected, strict=True):
        np.testing.assert_allclose(y, theirs.T, rtol=0, atol=1e-6)


def test_unrolled_steps_share_one_layer() -> None:
    graph, H = Graph(), 7
    sizes = {"x_0": I, "x_1": I, "x_2": I, "h": H, "c": H}
    *steps, h, c = (graph.add_input(name, np.float32, ("batch", size)) for name, size in sizes.items())
    W, R = (graph.add_constant(normal(n, 4 * H)) for n in (I, H))
    for x in steps:
        gates = graph.add("Add", graph.add("MatMul", x, W), graph.add("MatMul", h, R))
        i, f, g, o = graph.add_all("Split", (gates,), 4, axis=1, num_outputs=4)
        kept = graph.add("Mul", graph.add("Sigmoid", f), c)
        c = graph.add("Add", kept, graph.add("Mul", graph.add("Sigmoid", i), graph.add("Tanh", g)))
        h = graph.add("Mul", graph.add("Sigmoid", o), graph.add("Tanh", c))
    graph.outputs = (h, c)
    simplified = simplify(graph)
    assert [node.operation for node in simplified.nodes] == ["Step"] * 3
    assert len({id(node.attributes["cell"]) for node in simplified.nodes}) == 1
    inputs = [normal(5, size) for size in sizes.values()]
    for y, expected in zip(Planner(simplified)(*inputs), evaluate(graph, *inputs), strict=True):
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)


def test_states_that_are_broadcast_over_rows_give_the_same_results() -> None:
    writer = Writer(7)
    writer.lstm()
    x, h, c = normal(5, I), normal(1, 7), normal(1, 7)
    for y, expected in zip(
        Planner(simplify(writer.graph))(x, h, c), evaluate(writer.graph, x, h, c), strict=True
    ):
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6)


def test_a_step_whose_gate_is_an_output_is_not_replaced() -> None:
    writer = Writer(7)
    writer.lstm()
    gate = next(node.outputs[0] for node in writer.graph.nodes if node.operation == "Sigmoid")
    writer.graph.outputs += (gate,)
    assert_same_results(writer, replaced=False)


def test_a_step_whose_preactivations_are_an_output_is_not_replaced() -> None:
    writer = Writer(7)
    writer.gru()
    product = next(node.outputs[0] for node in writer.graph.nodes if node.operation == "Gemm")
    writer.graph.outputs += (product,)
    assert_same_results(writer, replaced=False)


def test_a_step_with_weights_that_are_inputs_is_not_replaced() -> None:
    graph, H = Graph(), 7
    sizes = {"x": (2, I), "h": (2, H), "c": (2, H), "W": (I, 4 * H)}
    x, h, c, W = (graph.add_input(name, np.float32, shape) for name, shape in sizes.items())
    recurrent = graph.add("MatMul", h, graph.add_constant(normal(H, 4 * H)))
    gates = graph.add_all(
        "Split", (graph.add("Add", graph.add("MatMul", x, W), recurrent),), 4, axis=1, num_outputs=4
    )
    i, f, o = (graph.add("Sigmoid", gates[place]) for place in (0, 1, 3))
    c = graph.add("Add", graph.add("Mul", f, c), graph.add("Mul", i, graph.add("Tanh", gates[2])))
    graph.outputs = (graph.add("Mul", o, graph.add("Tanh", c)), c)
    assert "Step" not in [node.operation for node in simplify(graph).nodes]


def test_a_gru_whose_update_multiplies_the_wrong_value_is_not_replaced() -> None:
    writer = Writer(7)
    writer.gru(difference=False)
    nodes = writer.graph.nodes
    place = next(k for k, node in enumerate(nodes) if node.operation == "Mul" and writer.h in node.inputs)
    z, _ = nodes[place].inputs
    writer.graph.nodes[place] = type(nodes[place])("Mul", (z, writer.c), nodes[place].outputs, {}, "wrong")
    assert_same_results(writer, replaced=False)


def test_many_written_out_steps_are_found_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph was searched again after each step, so that a long decoder took minutes to open."""
    searched: list[Graph] = []
    matcher = idioms.Matcher

    def count(graph: Graph) -> Any:
        searched.append(graph)
        return matcher(graph)

    monkeypatch.setattr(idioms, "Matcher", count)
    writer = Writer(4)
    inputs = [normal(2, I), normal(2, 4), normal(2, 4)]
    for t in range(4):
        writer.x = writer.graph.add_input(f"x{t}", np.float32, ("batch", I))
        inputs.append(normal(2, I))
        writer.lstm()
        writer.h, writer.c = writer.graph.outputs
    simple = simplify(writer.graph)
    assert [node.operation for node in simple.nodes] == ["Step"] * 4
    assert len(searched) == 1
    for y, expected in zip(Planner(simple)(*inputs), evaluate(writer.graph, *inputs), strict=True):
        np.testing.assert_allclose(y, expected, atol=1e-6)
