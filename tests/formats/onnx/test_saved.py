"""Graphs of every kind are saved and load unchanged; damaged files are refused."""

import base64
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from support import hostile

import onward
from onward.errors import ArgumentError, FileError
from onward.formats.onnx import build, saved
from onward.formats.onnx.messages import Model as Message
from onward.formats.onnx.protobuf import decode, encode
from onward.graph import Graph, Input, Model
from onward.graph.declared import Sizes
from onward.graph.structure import Fixed, Structure

RNG = np.random.default_rng(0)


def a_graph() -> Graph:
    """A graph with a layer, a loop, attributes of each kind, and an input with a default value."""
    graph = Graph()
    x = graph.add_input("x", np.float32, (2, 3, 1))
    scale = graph.add_input("scale", np.float32, ())
    graph.add_constant(np.array(0.5, np.float32), "scale")
    weight = RNG.standard_normal((1, 4)).astype(np.float32)
    W = graph.add_constant(weight, "W")
    layer = onward.GRU(4, 2, bidirectional=True, rng=0)
    two = graph.add(
        "ConstantOfShape", graph.add_constant(np.zeros(0, np.int64)), value=np.full(1, 2, np.float32)
    )
    scaled = graph.add("Mul", x, graph.add("Mul", scale, two))
    y = graph.add("MatMul", scaled, W, name="first", source="linear")
    y, _ = graph.add_all("Recurrent", [y, "", ""], ["y", ""], cell=layer.cell, name="gru")
    body = Graph()
    v, part, outer = map(body.add_input, ("v", "part", "outer"))
    same = body.add_constant(weight, "same")
    v = body.add("Add", v, outer)
    body.outputs = (v, body.add("Transpose", body.add("Add", part, same), perm=[1, 0]))
    carried, scanned = graph.add_all("Scan", [W, y, W], 2, body=body, captured=1, num_scan_inputs=1)
    cast = graph.add("Cast", scanned, to=np.dtype(np.float64))
    graph.outputs = (carried, cast)
    graph.declared_outputs = (Input("a"), Input("b", np.dtype(np.float64)))
    return graph


def test_the_signature_of_a_function_its_states_and_its_sizes_are_restored(tmp_path: Path) -> None:
    graph = Graph()
    x, state = graph.add_input("x", np.float32, ("T",)), graph.add_input("state", np.float32, ())
    graph.add_constant(np.array(1, np.float32), "state")
    y = graph.add("Add", x, state)
    graph.outputs = (y, graph.add("ReduceSum", y, keepdims=0))
    graph.declared_outputs = (Input("y", np.dtype(np.float32)), Input("after", np.dtype(np.float32)))
    graph.carries = {"state": "after"}
    results = ({"y": "y", 3: ["after", (Fixed(None), "y")]},)
    graph.structure = Structure({"pair": ("x", Fixed(2.5))}, results)
    graph.sizes = Sizes({"T": (3, None)}, {"x": ("T",)}, ("T % 2 == 0",))
    model = Model(graph)
    model.save(tmp_path / "m")
    again: Any = onward.load(tmp_path / "m")
    assert again.graph.structure == graph.structure
    assert (again.graph.carries, again.graph.sizes) == (graph.carries, graph.sizes)
    np.testing.assert_equal(again((np.ones(4), 2.5)), model((np.ones(4), 2.5)))
    with pytest.raises(onward.errors.ShapeError, match="T from 3"):
        again((np.ones(2), 2.5))


def content(graph: Graph, change: Callable[[Message], Any] = lambda message: None) -> bytes:
    """The content of the file of a graph whose message is changed."""
    description, tensors = saved.describe(graph)
    message = decode(Message, base64.b64decode(description["onnx"]))
    change(message)
    return file_of(encode(message), tensors)


def file_of(message: bytes, tensors: Any) -> bytes:
    """The content of the file of an encoded message."""
    described = {"format": 1, "type": "Model", "onnx": base64.b64encode(message).decode()}
    return save(tensors, {"onward": json.dumps(described)})


def test_a_graph_is_restored_with_all_it_holds(tmp_path: Path) -> None:
    model = Model(a_graph())
    model.save(tmp_path / "m")
    again: Any = onward.load(tmp_path / "m")
    assert (again.inputs, again.outputs) == (("x", "scale"), ("a", "b"))
    assert [(n.name, n.source) for n in again.graph.nodes] == [(n.name, n.source) for n in model.graph.nodes]
    x = RNG.standard_normal((2, 3, 1)).astype(np.float32)
    for inputs in ((x,), (x, np.float32(2))):
        for mine, expected in zip(again(*inputs), model(*inputs), strict=True):
            assert mine.dtype == expected.dtype
            np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize(
    "dtype", ["float16", "bool", "int64", "complex64", "complex128", "object", "bfloat16"]
)
def test_constants_of_every_dtype_are_restored(tmp_path: Path, dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    numbers = np.array([[1, 0, 1]])
    array = (
        np.array([["a", "", "é"]], object)
        if dtype == "object"
        else numbers.astype(getattr(ml_dtypes, dtype, dtype))
    )
    graph = Graph()
    graph.add_input("x", np.float32, ())
    graph.outputs = (graph.add_constant(array.T, "c"),)
    graph.declared_outputs = (Input("c"),)
    Model(graph).save(tmp_path / "m")
    again: Any = onward.load(tmp_path / "m")
    restored = again.graph.constants["c"]
    assert restored.dtype == array.dtype
    np.testing.assert_array_equal(restored, array.T)


@pytest.mark.parametrize("seed", range(20))
def test_declarations_and_outputs_of_every_kind_are_restored(seed: int, tmp_path: Path) -> None:
    rng, graph = np.random.default_rng(seed), Graph()
    for name in ("x", "state", "object"):
        dtype = [None, np.float32, np.int64, object][rng.integers(4)]
        axes = [None, (), (3,), ("", 2, "n")][rng.integers(4)]
        graph.add_input(name, dtype, axes, ["same_kind", "floats", "no", "lists"][rng.integers(4)])
    shared = rng.normal(size=(2, 3)).astype(np.float32)
    values = [*map(graph.add_constant, (shared, shared, shared.T), ("x_2", "same", ""))]
    values += [graph.add("Tanh", values[0]), graph.add("Add", "x", "state"), *("x", "object")]
    graph.outputs = tuple(rng.choice(values, 6).tolist())
    names = rng.permutation(["x", "state", "same", "y", "Tanh_0", "x_3"]).tolist()
    kinds = [(None, None), (np.dtype(np.float32), ("", 3)), (None, (2,)), (np.dtype(np.int64), None)]
    graph.declared_outputs = tuple(Input(name, *kinds[rng.integers(4)]) for name in names)
    model = Model(graph)
    model.save(tmp_path / "m")
    again: Any = onward.load(tmp_path / "m")
    assert again.graph.inputs == graph.inputs
    assert (again.graph.outputs, again.graph.declared_outputs) == (graph.outputs, graph.declared_outputs)
    assert again.graph.nodes == graph.nodes
    np.testing.assert_equal(again.graph.constants, graph.constants)


def test_shared_arrays_are_stored_once() -> None:
    _, tensors = saved.describe(a_graph())
    assert sum(array.shape == (1, 4) for array in tensors.values()) == 1


def test_a_python_function_cannot_be_saved(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (3,))
    graph.outputs = (graph.add("Python", x, name="mine", function=np.tanh),)
    graph.declared_outputs = (Input("y"),)
    with pytest.raises(ArgumentError, match=r"node mine \(Python\) runs a Python function"):
        Model(graph).save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_state_dicts_and_weights_of_saved_graphs_have_the_constants_names(tmp_path: Path) -> None:
    model = Model(a_graph())
    model.save(tmp_path / "m")
    assert {"W", "scale"} <= onward.load_tensors(tmp_path / "m").keys()


def check(loaded: Any) -> None:
    """Check that a model runs or raises an error of Onward; without metadata, a file holds layers."""
    if isinstance(loaded, Model):
        hostile.check_model(loaded)


# Values that replace others in a description.
VALUES: list[Any] = [
    None,
    True,
    -1,
    2**70,
    1e400,
    "",
    "x",
    [],
    {},
    [[]],
    {"dtype": "object"},
    {"dtype": "load"},
]
VALUES += [{"cell": {}, "weights": {}}, {"cell": {"type": "GRU"}, "weights": {"weight_ih_l0": "W"}}]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container in a description with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def damaged_texts(text: str) -> Iterator[str]:
    """A description in JSON with one entry replaced, removed or repeated."""
    described = json.loads(text)
    for place in range(len(list(places(described)))):
        for value in [*RNG.choice(len(VALUES), 3, replace=False).tolist(), "remove", "repeat"]:
            changed = copy.deepcopy(described)
            container, key = list(places(changed))[place]
            if value == "remove":
                del container[key]
            elif value == "repeat" and isinstance(container, list):
                container.insert(key, container[key])
            elif value != "repeat":
                container[key] = VALUES[value]
            yield json.dumps(changed)


def damaged() -> Iterator[bytes]:
    """The file of a graph with one description changed, or one node without its place, name or attributes."""
    graph = a_graph()
    graph.carries, graph.structure = {"scale": "a"}, Structure({"x": "x"}, ("a", {"b": ["b"]}))
    description, tensors = saved.describe(graph)
    message = decode(Message, base64.b64decode(description["onnx"]))

    def changed() -> bytes:
        return file_of(encode(message), tensors)

    (entry,) = message.metadata_props
    original = entry.value
    for entry.value in damaged_texts(original):
        yield changed()
    entry.value = original
    assert message.graph is not None
    nodes = list(message.graph.node)
    for place, node in enumerate(nodes):
        for options in [each for each in node.attribute if each.name == "options"]:
            text = (options.s or b"").decode()
            for options.s in map(str.encode, damaged_texts(text)):
                yield changed()
            options.s = text.encode()
        for attribute in list(node.attribute):
            before, node.attribute = node.attribute, [a for a in node.attribute if a is not attribute]
            yield changed()
            node.attribute = [*before, build.attribute("cell", np.zeros(2)), build.attribute("to", "x")]
            yield changed()
            node.attribute = before
        for operation in ("", "Python", "Scan", "If", "Recurrent", "Nothing"):
            before_name, node.op_type = node.op_type, operation
            yield changed()
            node.op_type = before_name
        for message.graph.node in (nodes[:place] + nodes[place + 1 :], [*nodes, node], nodes[::-1]):
            yield changed()
        message.graph.node = nodes


def test_damaged_descriptions_are_refused_or_run(tmp_path: Path) -> None:
    refused = hostile.open_damaged(tmp_path / "m", damaged(), check=check)
    assert refused > 200


def test_damaged_files_are_refused_or_run(tmp_path: Path) -> None:
    original = content(a_graph())
    contents = [*hostile.truncated(original), *hostile.flipped(original), *hostile.inflated(original)]
    assert hostile.open_damaged(tmp_path / "m", contents, check=check) > 150


def test_a_node_without_its_inputs_fails_when_it_runs() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (2,))
    graph.outputs = (graph.add("Add", graph.add("MatMul", x)),)
    graph.declared_outputs = (Input("y"),)
    with pytest.raises(ArgumentError, match="node MatMul_0"):
        Model(graph)(np.ones(2, np.float32))


def with_options(message: Message, place: int, text: str) -> None:
    """Replace the options of a node."""
    assert message.graph is not None
    node = message.graph.node[place]
    node.attribute = [build.attribute("options", text)]


def test_a_deeply_nested_description_is_refused(tmp_path: Path) -> None:
    text = f'{{"axis": {"[" * 400}{"]" * 400}}}'
    path = tmp_path / "m"
    path.write_bytes(content(a_graph(), lambda message: with_options(message, 0, text)))
    with pytest.raises(FileError, match="nested"):
        onward.load(path)


def test_a_python_node_in_a_file_is_refused(tmp_path: Path) -> None:
    def change(message: Message) -> None:
        assert message.graph is not None
        message.graph.node[0].op_type = "Python"
        with_options(message, 0, '{"function": "os.system"}')

    path = tmp_path / "m"
    path.write_bytes(content(a_graph(), change))
    with pytest.raises(FileError, match="Python function"):
        onward.load(path)


def test_a_file_of_a_development_version_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(save({}, {"onward": json.dumps({"format": 1, "type": "Model", "graph": {}})}))
    with pytest.raises(FileError, match="load the source and save it again"):
        onward.load(path)
