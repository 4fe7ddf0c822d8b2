"""Fingerprints: equal for equal models, and different after any change of what a model computes."""

import functools
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import control_flow
from support.onnx_nodes import open_model
from support.sequence_graphs import RandomGraph, detector, normal, stepper

import onward
from onward import errors
from onward.core.cell import Cell
from onward.core.fingerprint import fingerprint
from onward.graph import Graph, Input, Model

SEEDS = range(8)


def changed(value: Any) -> Iterator[Any]:
    """Yield values that differ from an attribute in one place."""
    match value:
        case bool():
            yield not value
        case None:
            yield 0
        case int() | float():
            yield value + 1
        case str():
            yield f"{value}x"
        case np.dtype():
            yield np.dtype(np.int16)
        case list() | tuple():
            yield [*value, 1]
            for place, item in enumerate(value):
                yield from ([*value[:place], other, *value[place + 1 :]] for other in changed(item))
        case np.ndarray():
            yield value.copy().reshape(1, *value.shape)
            yield value.astype(object) if value.dtype == np.float16 else value.astype(np.float16)
            if value.size:
                other = value.copy()
                other.flat[-1] = not other.flat[-1] if value.dtype == bool else other.flat[-1] + 1
                yield other
        case Graph():
            yield from changed_graphs(value)
        case Cell():
            yield from changed_cells(value)
        case _:
            raise AssertionError(f"no change for {value!r}")


def changed_cells(cell: Cell) -> Iterator[Cell]:
    for name, weight in cell.weights.items():
        yield cell.with_weights({**cell.weights, name: weight + 1})
    yield cell.with_weights(cell.weights, "float16")
    yield Cell(cell.kind, **cell.config() | {"clip": 0.5}).with_weights(cell.weights)


def changed_graphs(graph: Graph) -> Iterator[Graph]:
    """Yield graphs that differ in an attribute, an input, an output, an operation, a body or a constant."""
    for place, node in enumerate(graph.nodes):
        nodes = [
            node._replace(operation=f"{node.operation}x"),
            *(node._replace(inputs=tuple(inputs)) for inputs in changed(node.inputs)),
            *(node._replace(outputs=tuple(outputs)) for outputs in changed(node.outputs)),
            node._replace(attributes={**node.attributes, "another": 1}),
        ]
        for name, value in node.attributes.items():
            without = {other: kept for other, kept in node.attributes.items() if other != name}
            nodes.append(node._replace(attributes=without))
            nodes += (node._replace(attributes={**without, name: other}) for other in changed(value))
        for other in nodes:
            yield graph.replaced(nodes=[*graph.nodes[:place], other, *graph.nodes[place + 1 :]])
    for name, array in graph.constants.items():
        yield from (graph.replaced(constants={**graph.constants, name: other}) for other in changed(array))
    yield from (graph.replaced(outputs=tuple(outputs)) for outputs in changed(graph.outputs))


def graphs() -> Iterator[tuple[str, Graph]]:
    for seed in SEEDS:
        yield f"random {seed}", RandomGraph(seed).build(4).graph
    yield "named carries", stepper().graph
    yield "scan", open_model(control_flow.scan(23, 1, 0, 1, 0)[0]).graph
    yield "loops", open_model(control_flow.loop_with_inner_loop_and_if()[0]).graph


GRAPHS = dict(graphs())


@pytest.mark.parametrize("name", GRAPHS)
def test_each_change_of_a_graph_changes_the_fingerprint(name: str) -> None:
    others = list(changed_graphs(GRAPHS[name]))
    found = {fingerprint(graph) for graph in (GRAPHS[name], *others)}
    assert len(found) == 1 + len(others)
    assert len(others) > 10


@pytest.mark.parametrize("name", GRAPHS)
def test_a_copy_of_a_graph_has_the_same_fingerprint(name: str) -> None:
    graph, model = GRAPHS[name], Model(GRAPHS[name])
    assert fingerprint(pickle.loads(pickle.dumps(graph))) == fingerprint(graph) == fingerprint(model.graph)
    renamed = [node._replace(name="another", source="another") for node in graph.nodes]
    assert fingerprint(graph.replaced(nodes=renamed)) == fingerprint(graph)


def test_a_layer_has_the_same_fingerprint_after_calls() -> None:
    layer = onward.GRU(3, 4, rng=0)
    before = fingerprint(layer)
    layer(np.ones((5, 3), np.float32))
    layer.stream()(np.ones(3, np.float32))
    assert fingerprint(layer) == before


def test_fingerprints_are_the_same_in_every_process() -> None:
    code = (
        "import functools, math, numpy as np, onward\n"
        "from onward.core.fingerprint import fingerprint\n"
        "layer = onward.GRU(3, 4, rng=0)\n"
        "functions = [math.sin, np.float32, functools.partial(max, 1)]\n"
        "print(fingerprint({'b': {1, 'x', (2.5, None)}, 'a': [layer, functions]}))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in "12"
    }
    assert len(outputs) == 1


def test_neighbors_have_different_fingerprints() -> None:
    values = [
        *(0, False, 0.0, -0.0, "0", b"0", None, (), {}, set(), ((),), (1, (2, 3)), (1, 2, 3), ((1, 2), 3)),
        *(
            np.zeros(2),
            np.zeros((2, 1)),
            np.zeros(2, ">f8"),
            np.zeros(4, "f4"),
            np.array(["ab", "c"], object),
        ),
        *(np.array(["a", "bc"], object), np.zeros(0), np.zeros((0, 1)), max, min, functools.partial(max, 1)),
        *(functools.partial(max, 2), np.dtype("f4"), np.float32, {"a": 1}, {"a": "1"}, {"a": 1, "b": None}),
    ]
    assert len(set(map(fingerprint, values))) == len(values)


def test_an_object_that_cannot_be_identified_is_named() -> None:
    with pytest.raises(errors.ArgumentError, match=r"lock object .* cannot be compared with"):
        fingerprint([threading.Lock()])


def causal(operation: str, **attributes: Any) -> Model:
    """A convolution over two steps, whose dilation may differ, and an activation."""
    graph, rng = Graph(), np.random.default_rng(0)
    value = graph.add_input("x", np.float32, ("batch", 4, "time"))
    for name, inputs, options in (
        ("Conv", [normal(rng, 4, 4, 2)], {"dilations": [3], "pads": [3, 0], "strides": [1], "group": 1}),
        ("LeakyRelu", [], {"alpha": 0.1}),
    ):
        constants = [graph.add_constant(array) for array in inputs]
        value = graph.add(name, value, *constants, **options | (attributes if name == operation else {}))
    graph.outputs, graph.declared_outputs = (value,), (Input(value, np.dtype(np.float32)),)
    return Model(graph)


@pytest.mark.parametrize(
    ("operation", "attributes"),
    [("LeakyRelu", {"alpha": 0.2}), ("Conv", {"dilations": [1]}), ("Conv", {"pads": [3, 1]})],
)
def test_a_state_does_not_load_into_a_model_with_other_attributes(
    operation: str, attributes: Any, tmp_path: Path
) -> None:
    model, other, path = causal(""), causal(operation, **attributes), tmp_path / "state"
    for make in (lambda model: model.stream(time_axis=2), lambda model: model.pool(2, time_axis=2)):
        make(model).save(path)
        make(causal("")).load(path)
        with pytest.raises(errors.FileError, match="is the state of another model"):
            make(other).load(path)
    detector(8).stream().save(path)
    with pytest.raises(errors.FileError, match="is the state of another model"):
        model.stream(time_axis=2).load(path)


LAYERS: dict[str, tuple[Any, list[Any]]] = {
    "lstm": (
        onward.LSTM(4, 4, rng=0),
        [
            {"clip": 0.5},
            {"activations": ("hard_sigmoid", "tanh", "tanh")},
            {"bias": False},
        ],
    ),
    "norm": (onward.LayerNorm(4), [{"eps": 1e-3}, {"elementwise_affine": False}]),
    "activation": (onward.Activation("leaky_relu", 0.1), [{"name": "elu"}, {"alpha": 0.2}]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_state_of_layers_does_not_load_into_layers_with_other_options(name: str, tmp_path: Path) -> None:
    layer, changes = LAYERS[name]

    def model(layer: Any) -> onward.Sequential:
        return onward.Sequential(layer, onward.GRU(4, 4, rng=0))

    path = tmp_path / "state"
    model(layer).stream().save(path)
    model(pickle.loads(pickle.dumps(layer))).stream().load(path)
    for change in changes:
        other = type(layer)(**{**layer.config(), **change})
        other.load_state_dict(
            {key: weight for key, weight in layer.state_dict().items() if key in other.state_dict()}
        )
        with pytest.raises(errors.FileError, match="is the state of"):
            model(other).stream().load(path)
