"""Results that are only copied are written to the target of the copy."""

from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.evaluate import meaning
from support.onnx_nodes import model_of, open_model

from onward.graph import Graph, Model


def node(operation: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(operation, inputs.split(), [output], **attributes)


WEIGHTS = {
    "W": np.random.default_rng(1).standard_normal((16, 4, 3)).astype(np.float32),
    "V4": np.random.default_rng(5).standard_normal((4, 4, 3)).astype(np.float32),
    "V": np.random.default_rng(2).standard_normal((16, 16, 3)).astype(np.float32),
    "M": np.random.default_rng(3).standard_normal((9, 16)).astype(np.float32),
    "U": np.random.default_rng(4).standard_normal((4, 3, 4)).astype(np.float32),
    "pads": np.array([0, 0, 2, 0, 0, 1]),
    "half": np.array(0.5, np.float32),
    "split": np.array([1, 4, 4, 9]),
    "merged": np.array([1, 4, 36]),
}
GRAPHS = {
    "padded product": [
        node("Conv", "x W", "a", pads=[1, 1]),
        node("Relu", "a", "b"),
        node("Conv", "b V", "y", pads=[2, 0]),
    ],
    "padded function": [node("Tanh", "x", "a"), node("Conv", "a W", "y", pads=[1, 2])],
    "concatenated functions": [
        node("Tanh", "x", "a"),
        node("Neg", "x", "b"),
        node("Concat", "a b", "y", axis=1),
    ],
    "concatenated twice": [
        node("Tanh", "x", "a"),
        node("Neg", "x", "b"),
        node("Concat", "a b", "c", axis=2),
        node("Abs", "x", "d"),
        node("Concat", "c d", "y", axis=2),
    ],
    "concatenated in another order": [
        node("Tanh", "x", "a"),
        node("Neg", "x", "b"),
        node("Concat", "b a", "y", axis=2),
    ],
    "function behind the input": [node("Tanh", "x", "a"), node("Concat", "x a", "y", axis=2)],
    "product behind the input": [
        node("Conv", "x V4", "a", pads=[1, 1]),
        node("Concat", "x a", "b", axis=2),
        node("Conv", "b W", "c", pads=[2, 0]),
        node("Conv", "b W", "d", pads=[0, 2]),
        node("Concat", "d c", "e", axis=2),
        node("Add", "e e", "y"),
    ],
    "concatenated with itself": [node("Tanh", "x", "a"), node("Concat", "a a", "y", axis=1)],
    "transposed output": [node("Tanh", "x", "a"), node("Transpose", "a", "y", perm=[2, 0, 1])],
    "product as output": [node("MatMul", "x M", "y")],
    "padded and read again": [
        node("Tanh", "x", "a"),
        node("Pad", "a pads half", "p"),
        node("ReduceMax", "a", "m", axes=[2]),
        node("Mul", "p m", "y"),
    ],
    "padded twice": [
        node("Tanh", "x", "a"),
        node("Pad", "a pads half", "b"),
        node("Pad", "b pads half", "y"),
    ],
    "padded sum": [
        node("Tanh", "x", "a"),
        node("Add", "a x", "b"),
        node("Pad", "b pads", "p"),
        node("Mul", "p half", "y"),
    ],
    "flattened and transposed": [
        node("Conv", "x W", "a", pads=[1, 1]),
        node("Reshape", "a split", "b"),
        node("Transpose", "b", "c", perm=[0, 1, 3, 2]),
        node("Reshape", "c merged", "d"),
        node("Transpose", "d", "y", perm=[2, 0, 1]),
    ],
    "output in parts": [node("ConvTranspose", "x U", "y", strides=[2])],
    "parts that are read again": [
        node("ConvTranspose", "x U", "a", strides=[2]),
        node("Neg", "a", "b"),
        node("Concat", "b a", "y", axis=0),
    ],
    "pads that meet": [
        node("Tanh", "x", "a"),
        node("Pad", "a pads", "p"),
        node("Neg", "x", "b"),
        node("Pad", "b pads half", "q"),
        node("Concat", "p q", "y", axis=0),
    ],
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_with_copies_match_numpy(name: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 4, 9)).astype(np.float32)
    model = open_model(model_of(GRAPHS[name], {"x": x}, ["y"], WEIGHTS))
    for _ in range(3):
        x = rng.standard_normal(x.shape).astype(np.float32)
        (expected,) = meaning(model, x)
        np.testing.assert_allclose(model(x)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("padded product", 5),
        ("concatenated functions", 2),
        ("function behind the input", 2),
        ("padded twice", 4),
        ("flattened and transposed", 4),
        ("output in parts", 5),
    ],
)
def test_copies_are_removed(name: str, steps: int) -> None:
    x = np.zeros((1, 4, 9), np.float32)
    model = open_model(model_of(GRAPHS[name], {"x": x}, ["y"], WEIGHTS))
    model(x)
    (program,) = model.programs
    assert len(program.core) == steps


def test_what_lies_behind_a_short_input_keeps_its_memory_order() -> None:
    """As a block behind its carry: a function of both orders of axes would read one of them with gaps."""
    x, carry = np.zeros((1, 4, 300), np.float32), np.zeros((1, 16, 2), np.float32)
    nodes = [
        node("Conv", "x W", "a", pads=[1, 1]),
        node("Concat", "carry a", "b", axis=2),
        node("Conv", "b V", "c"),
        node("Add", "a c", "y"),
    ]
    model = open_model(model_of(nodes, {"x": x, "carry": carry}, ["y"], WEIGHTS))
    model(x, carry)
    (joined,) = (a[1] for name, a in model.programs[0].steps if name == "copy" and a[1].shape == (1, 16, 2))
    assert joined.strides[1] == 1


def test_elements_at_indices_are_written_to_the_output() -> None:
    x, places = np.zeros((5, 7), np.float32), np.zeros(3, np.int64)
    nodes = [node("Gather", "x places", "y", axis=1)]
    model = open_model(model_of(nodes, {"x": x, "places": places}, ["y"], {}))
    model(x, places)
    assert "copy" not in [name for name, _ in model.programs[0].steps]


def test_steps_after_a_node_in_numpy_leave_what_it_returns_as_it_is() -> None:
    """It may return a part of its input, whose memory other arrays must not take."""
    rng, graph = np.random.default_rng(0), Graph()
    x = rng.standard_normal((3, 64)).astype(np.float32)
    value, bits, expected, y = graph.add_input("x", np.float32, ("n", 64)), [], [], x
    for _ in range(8):
        weights = rng.standard_normal((64, 64)).astype(np.float32) / 8
        value = graph.add("Tanh", graph.add("MatMul", value, graph.add_constant(weights)))
        bits.append(graph.add("BitCast", value, to=np.dtype(np.uint32)))  # in NumPy, without a copy
        y = np.tanh(y @ weights)
        expected.append(y)
    graph.outputs = (*bits, value)
    *found, _ = Model(graph)(x)
    for actual, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(actual.view(np.float32), y, rtol=0, atol=1e-4)
