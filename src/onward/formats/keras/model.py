"""Keras models, Sequential and Functional, as layers that call others, and as whole graphs."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, FileError
from ...graph import Graph, Input
from ...graph.structure import Structure
from . import attention, conv_lstm, merging, movement, recurrent  # noqa: F401 - register their layers
from .calls import Call, Place, Reference, is_reference, kind_of, name_of, ordered, references
from .layer import COMPUTE_DTYPES, Layer, check_entry, dtype_name, layer
from .stored_weights import MODELS
from .writer import Value

INTEGERS = ("int32", "int64", "uint8", "int8", "int16", "uint16", "uint32", "bool")


class Declared(NamedTuple):
    """The dtype of an input, and its shape with the batch, if the file records that; None is an open size."""

    dtype: str
    shape: list[int | None] | None


class Parsed(NamedTuple):
    """The contents of a model: its inputs, layers and calls, and where its outputs are."""

    inputs: dict[str, Declared]
    layer_inputs: list[str]  # the names that calls have for the inputs
    layers: dict[str, Layer]
    calls: list[Call]
    outputs: list[Place]
    structure: Any  # the lists and dicts of the outputs, or None for a single output
    named: bool  # whether the model takes its inputs as a dict


@layer(*MODELS, masks="own")
def model(layer: Layer, *inputs: Value) -> list[Value]:
    """Call the layers of a nested model."""
    parsed = parse(layer)
    for key in ("layers", "input_layers", "output_layers"):
        layer.option(key, None)
    if len(inputs) != len(parsed.inputs):
        raise ArgumentError(f"got {len(inputs)} inputs; expected ({', '.join(parsed.inputs)})")
    values: dict[tuple[str, int], list[Value]] = {}
    for name, x, declared in zip(parsed.layer_inputs, inputs, parsed.inputs.values(), strict=True):
        values[name, 0] = [layer.cast(x, np.dtype(declared.dtype))]
    for call in parsed.calls:
        arguments = [_value(layer, values, each) for each in call.arguments]
        options = {key: _option(layer, values, value) for key, value in call.options.items()}
        values[call[:2]] = parsed.layers[call.layer](*arguments, **options)
    return [_value(layer, values, each) for each in parsed.outputs]


def _value(layer: Layer, values: dict[tuple[str, int], list[Value]], reference: Reference) -> Value:
    if isinstance(reference, dict):
        given = reference["constant"]
        array = np.asarray(given, reference.get("dtype"))
        if array.dtype == np.float64 and "dtype" not in reference:
            array = array.astype(np.float32)
        return layer.constant(array)
    name, number, output = reference
    if (name, number) not in values or output >= len(values[name, number]):
        raise FileError(f"the model refers to output {output} of call {number} of {name}, which is not in it")
    return values[name, number][output]


def _option(layer: Layer, values: dict[tuple[str, int], list[Value]], option: Any) -> Any:
    """An option of a call: values are a list of references, lists and dicts a "value"."""
    if isinstance(option, list):
        return [None if each is None else _value(layer, values, each) for each in option]
    return option["value"] if isinstance(option, dict) else option


def parse(layer: Layer) -> Parsed:
    """Return the contents of a model, whose layers then have their weights."""
    read = _sequential if layer.kind == "Sequential" else _functional
    with layer.errors():
        return layer.once("model", lambda: read(layer))


def _member(layer: Layer, entry: Any, name: str) -> Layer:
    """Return a layer of a model."""
    weights = layer.weights.member("layers", kind_of(entry), name)
    member = Layer(entry, weights, layer.context, layer.path)
    if member.kind in MODELS and member.custom is None:
        parse(member)
    return member


def _sequential(layer: Layer) -> Parsed:
    layers: dict[str, Layer] = {}
    declared = Declared("float32", None)
    for entry in layer.config["layers"]:
        if kind_of(entry) == "InputLayer":
            declared = _declared(entry)
            continue
        name = name_of(entry)
        layers[name] = _member(layer, entry, name)
        if declared.shape is None and len(layers) == 1:
            declared = declared._replace(shape=_shape(layers[name].config) or _shape(layer.config))
    sources = [("x", 0, 0), *((name, 0, 0) for name in layers)]
    calls = [Call(name, 0, [source], {}) for name, source in zip(layers, sources, strict=False)]
    return Parsed({"x": declared}, ["x"], layers, calls, [sources[-1]], None, named=False)


def _functional(layer: Layer) -> Parsed:
    entries = {name_of(entry): entry for entry in layer.config["layers"]}
    inputs = {name: _declared(each) for name, each in entries.items() if kind_of(each) == "InputLayer"}
    layers = {name: _member(layer, each, name) for name, each in entries.items() if name not in inputs}
    given, given_back = layer.config["input_layers"], layer.config["output_layers"]
    order = [each[0] for each in references(given) if isinstance(each, tuple)]
    if sorted(order) != sorted(inputs):
        raise FileError(f"model {layer.name} has the inputs {order}, but input layers {list(inputs)}")
    named = isinstance(given, dict) and len(given) == len(order)
    outputs: list[Place] = [each for each in references(given_back) if isinstance(each, tuple)]
    # Keras 3 counts as Keras 2 here, where making a model is call 0, and here alone
    if layer.context.version == 3:
        made = {name for name, entry in entries.items() if kind_of(entry) == "Functional"}
        outputs = [(name, number - (name in made), output) for name, number, output in outputs]
    calls = ordered(layer.name, layer.config["layers"], layers, order, outputs)
    for name, _, output in [*outputs, *(each for call in calls for each in call.references())]:
        if name in layers:
            memory = layers[name].memory
            memory["outputs"] = max(memory.get("outputs", 1), output + 1)
    by_name = zip(sorted(given) if named else order, order, strict=True)
    structure = None if len(outputs) == 1 and not _has_names(given_back) else given_back
    declared = {name: inputs[each] for name, each in by_name}
    return Parsed(declared, order, layers, calls, outputs, structure, named)


def _has_names(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_names, value)))


def _shape(config: dict[str, Any]) -> list[int | None] | None:
    """Return the input shape that a configuration records, with the batch."""
    shapes = [config.get(key) for key in ("batch_shape", "batch_input_shape", "build_input_shape")]
    shapes.append(config.get("build_config", {}).get("input_shape"))
    return next((list(shape) for shape in shapes if isinstance(shape, list)), None)


def _declared(entry: Any) -> Declared:
    """Return the dtype that an input layer converts to, and its shape."""
    check_entry(entry)
    config = entry["config"]
    dtype = dtype_name(config.get("dtype") or "float32")
    if dtype in INTEGERS:
        return Declared(str(dtype), _shape(config))
    if dtype not in COMPUTE_DTYPES:
        raise FileError(
            f"input {name_of(entry)} has dtype {dtype!r}; Onward takes numbers: save the part of the model "
            "that follows the preprocessing of text"
        )
    return Declared(str(COMPUTE_DTYPES[dtype]), _shape(config))


def whole_graph(layer: Layer) -> Graph:
    """Return the graph of a whole model."""
    layer.path = ""  # the names of nodes begin with those of its layers
    parsed, graph = parse(layer), layer.graph
    several = len(parsed.inputs) > 1
    values = []
    for place, (name, declared) in enumerate(parsed.inputs.items()):
        axes = _axes(parsed, place, declared, f"{name}_time" if several else "time")
        dtype = np.dtype(declared.dtype)
        added = graph.add_input(name, dtype, axes)
        values.append(Value(added, None if axes is None else len(axes), dtype))
    outputs = layer(*values)
    graph.outputs = tuple(y.name for y in outputs)
    names = _output_names(parsed, [declared.name for declared in graph.inputs])
    graph.declared_outputs = tuple(Input(name, y.dtype) for name, y in zip(names, outputs, strict=True))
    graph.structure = _structure(parsed, names)
    return graph.without_unused()


def _axes(parsed: Parsed, place: int, declared: Declared, time: str) -> list[int | str] | None:
    """Return the axes that the graph declares for an input; the batch and the number of steps are open."""
    if declared.shape is None:
        return None
    axes: list[int | str] = ["" if size is None else int(size) for size in declared.shape]
    axes[:1] = ["batch"]
    reference = (parsed.layer_inputs[place], 0, 0)
    takes_indices = any(
        parsed.layers[call.layer].kind_name == "Embedding" and reference in call.arguments
        for call in parsed.calls
    )
    if len(axes) > 2 or (takes_indices and len(axes) == 2):
        axes[1] = time
    return axes


def _output_names(parsed: Parsed, taken: Sequence[str]) -> list[str]:
    """Return a name for each output: that of its layer, or y for the only one of a Sequential."""
    if parsed.layer_inputs == ["x"] and parsed.structure is None and not parsed.named:
        return ["y"]
    names: list[str] = []
    for name, _, _ in parsed.outputs:
        tried = (f"{name}_{number}" if number > 1 else name for number in count(1))
        names.append(next(each for each in tried if each not in (*names, *taken)))
    return names


def _structure(parsed: Parsed, names: list[str]) -> Structure | None:
    """Return the signature of a model that takes or returns lists or dicts."""
    several = len(parsed.inputs) > 1
    if parsed.structure is None and not several:
        return None
    result = names[0] if parsed.structure is None else _named(parsed.structure, iter(names))
    if not several and not parsed.named:
        return Structure({name: name for name in parsed.inputs}, (result,))
    argument = "inputs" if "inputs" not in parsed.inputs else "arguments"
    template: Any = {name: name for name in parsed.inputs} if parsed.named else list(parsed.inputs)
    return Structure({argument: template}, (result,))


def _named(structure: Any, names: Iterator[str]) -> Any:
    """Return the dicts and lists of outputs with names, in Keras' order, in place of the references."""
    if is_reference(structure):
        return next(names)
    if isinstance(structure, dict):
        return {key: _named(structure[key], names) for key in sorted(structure)}
    return [_named(each, names) for each in structure]
