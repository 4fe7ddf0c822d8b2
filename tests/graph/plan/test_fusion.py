"""Elementwise steps that only one other step reads run together with it, and give the same bits."""

from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.evaluate import meaning
from support.onnx_nodes import model_of, open_model
from support.programs import described_steps, plan_of

from onward.graph import Graph, Model
from onward.graph.operations import OPERATIONS, registry
from onward.graph.operations.compositions import composed
from onward.graph.operations.modules import MODULES
from onward.graph.plan import passes
from onward.graph.plan.view import View

UNARY = ["Neg", "Abs", "Tanh", "Sigmoid", "Relu", "Identity"]  # the last one has no step
BINARY = ["Add", "Sub", "Mul", "Max", "Min"]


def random_graph(seed: int) -> tuple[list[Any], dict[str, Any], str]:
    """Return nodes, weights and the name of the output; values have one of several layouts."""
    rng = np.random.default_rng(seed)
    shape = (2, 5, 9)
    small = [(9,), (5, 1), (1,), (2, 1, 1), shape]
    weights = {f"w{i}": rng.standard_normal(s).astype(np.float32) for i, s in enumerate(small)}
    weights |= {"starts": np.array([1]), "ends": np.array([9]), "pads": np.array([0, 0, 1, 0, 0, 0])}
    nodes, names = [], ["x", "z"]
    for number in range(int(rng.integers(3, 25))):
        name, kind = f"v{number}", rng.random()
        a = names[-1] if rng.random() < 0.7 else names[rng.integers(len(names))]
        if kind < 0.35:
            nodes.append(helper.make_node(UNARY[rng.integers(len(UNARY))], [a], [name]))
        elif kind < 0.85:
            others = [*names, *(f"w{i}" for i in range(len(small)))]
            inputs = [a, others[rng.integers(len(others))]]
            nodes.append(
                helper.make_node(BINARY[rng.integers(len(BINARY))], inputs[:: rng.choice([1, -1])], [name])
            )
        elif kind < 0.92:
            nodes.append(helper.make_node("Transpose", [a], [name + "t"], perm=[0, 2, 1]))
            nodes.append(helper.make_node("Tanh", [name + "t"], [name + "u"]))
            nodes.append(helper.make_node("Transpose", [name + "u"], [name], perm=[0, 2, 1]))
        else:
            nodes.append(helper.make_node("Slice", [a, "starts", "ends", "starts_axis"], [name + "s"]))
            nodes.append(helper.make_node("Pad", [name + "s", "pads"], [name]))
        names.append(name)
    weights["starts_axis"] = np.array([2])
    return nodes, weights, names[-1]


@pytest.mark.parametrize("seed", range(60))
def test_random_elementwise_graphs_match_numpy(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, weights, output = random_graph(seed)
    rng = np.random.default_rng(seed)
    inputs = {name: rng.standard_normal((2, 5, 9)).astype(np.float32) for name in ("x", "z")}
    proto = model_of(nodes, inputs, [output], weights)
    model = open_model(proto)
    (y,) = model(**inputs)
    (expected,) = meaning(model, *(inputs[name] for name in model.inputs))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(passes, "fused", lambda steps, users: steps)
    np.testing.assert_array_equal(open_model(proto)(**inputs)[0], y)


def test_a_chain_of_functions_is_one_step() -> None:
    names = ["x", *(f"v{i}" for i in range(9)), "y"]
    nodes = [helper.make_node(UNARY[i % 4], [names[i]], [names[i + 1]]) for i in range(len(names) - 1)]
    x = np.linspace(-3, 3, 2000, dtype=np.float32).reshape(2, 1000)
    model = open_model(model_of(nodes, {"x": x}, ["y"], {}))
    (y,) = model(x)
    (program,) = model.programs
    assert len(program.core) == 1
    np.testing.assert_allclose(y, meaning(model, x)[0], atol=1e-6)


def random_formula(seed: int) -> Any:
    """Return a formula of x (2, 5, 9) and y (5, 1) that reads its results any number of times."""

    def formula(x: Any, y: Any) -> Any:
        rng = np.random.default_rng(seed)
        values, follows = [x, y, y * 2, x + y], rng.uniform(0.5, 1)
        for _ in range(int(rng.integers(2, 40))):
            a = values[-1] if rng.random() < follows else values[rng.integers(len(values))]
            b = [values[rng.integers(len(values))], 0.5, x.constant(-1.5)][rng.integers(3)]
            name = UNARY[rng.integers(5)]
            values.append(a.apply(name) if rng.random() < 0.3 else a.apply(BINARY[rng.integers(5)], b))
            if rng.random() < 0.05:
                values.append(values[-1].reduce("ReduceMax", [-1], True))
        return values[-1] + x

    return formula


@pytest.mark.parametrize("seed", range(40))
def test_random_compositions_match_numpy(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A composition of more functions than a step may have, or that reads a result again, was refused."""
    monkeypatch.setitem(MODULES, "Random", ())
    monkeypatch.setitem(registry._defined, "Random", None)
    defined = composed("Random", has_steps=True)(random_formula(seed))
    monkeypatch.setitem(OPERATIONS, "Random", defined)
    graph, rng = Graph(), np.random.default_rng(seed)
    slope = graph.add_constant(rng.standard_normal((5, 1)).astype(np.float32))
    x = graph.add("Transpose", graph.add_input("x", np.float32, ("n", "t", 5)), perm=[0, 2, 1])
    graph.outputs = (graph.add("Tanh", graph.add("Random", graph.add("Tanh", x), slope)),)
    numbers = rng.standard_normal((2, 9, 5)).astype(np.float32)
    with monkeypatch.context() as without:
        without.setattr(defined, "write", None)
        (expected,) = meaning(Model(graph), numbers)
        y = Model(graph)(numbers)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(defined, "expand", None)
    model = Model(graph)
    np.testing.assert_array_equal(model(numbers), y)
    assert not list(model.planner.in_numpy())


def test_the_functions_of_a_composition_are_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each was a step with a result of its own, which the optimization had to merge."""
    monkeypatch.setattr(passes, "fused", lambda steps, users: steps)
    graph = Graph()
    x, slope = graph.add_input("x", np.float32, ("n", 3)), graph.add_constant(np.float32([0.1, 0.2, 0.3]))
    graph.outputs = (graph.add("PRelu", x, slope),)
    numbers = np.float32([[-1, 2, -3], [4, -5, 6]])
    model = Model(graph)
    np.testing.assert_array_equal(
        model(numbers), np.where(numbers < 0, numbers * np.float32([0.1, 0.2, 0.3]), numbers)
    )
    (program,) = model.programs
    assert described_steps(program)[0].startswith("fused")


def test_a_fused_step_rejects_operands_that_do_not_exist() -> None:
    view, arrays = View(-1, 0, (4,), (1,)), [(32, 0, 0)]
    with pytest.raises(IndexError, match="operand"):
        plan_of([("fused", ([("unary", "negative", 1, 1)], view, view))], arrays=arrays)
    with pytest.raises(ValueError, match="inputs"):
        plan_of([("fused", ([("unary", "negative", 0, 0)], *[view] * 9))], arrays=arrays)
    with pytest.raises(IndexError, match="space"):
        long = View(-1, 0, (17,), (1,))
        plan_of([("fused", ([("unary", "negative", 0, 0)], long, view))], arrays=arrays)


def test_a_product_whose_value_a_composition_reads_twice_is_not_activated_in_place() -> None:
    rng = np.random.default_rng(0)
    x, W = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((17, 4), (4, 7)))
    graph = Graph()
    product = graph.add("MatMul", graph.add_input("x", np.float32, ("n", 4)), graph.add_constant(W))
    graph.outputs = (graph.add("Swish", product, alpha=1.5),)
    expected = (x @ W) / (1 + np.exp(-1.5 * (x @ W)))
    np.testing.assert_allclose(Model(graph)(x), expected, rtol=0, atol=1e-5)


def test_a_hard_swish_is_part_of_the_product_before_it() -> None:
    """It took one more pass over the results, with two operations."""
    rng = np.random.default_rng(0)
    x, W = (rng.standard_normal(shape).astype(np.float32) for shape in ((17, 4), (4, 7)))
    graph = Graph()
    product = graph.add("MatMul", graph.add_input("x", np.float32, ("n", 4)), graph.add_constant(W))
    graph.outputs = (graph.add("HardSwish", product),)
    model = Model(graph)
    expected = (x @ W) * np.clip((x @ W) / 6 + 0.5, 0, 1)
    np.testing.assert_allclose(model(x), expected, rtol=0, atol=1e-5)
    assert {name.split()[0] for name, _ in model.steps(x, calls=1)} == {"product", "copy"}
