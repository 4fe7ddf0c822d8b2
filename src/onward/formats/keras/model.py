"""Keras models, Sequential and Functional, as layers that call others, and as whole graphs."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, FileError
from ...graph import Graph, Input
from ...graph.structure import Structure
from .calls import Call, Reference, is_reference, kind_of, name_of, ordered, references
from .layer import COMPUTE_DTYPES, Layer, check_entry, dtype_name, layer
from .writer import Value

INTEGERS = ("int32", "int64", "uint8", "int8", "int16", "uint16", "uint32", "bool")


class Declared(NamedTuple):
    """The dtype of an input, and its shape with the batch, if the file records that; None is an open size."""

    dtype: str
    shape: list[int | None] | None


class Parsed(NamedTuple):
    """The contents of a model: its inputs, layers and calls, and where its outputs are.

    `structure` are the lists and dicts of the outputs with their numbers, or None for a single output.
    """

    inputs: dict[str, Declared]
    layer_inputs: list[str]  # the names that calls have for the inputs
    layers: dict[str, Layer]
    calls: list[Call]
    outputs: list[Reference]
    structure: Any
    named: bool  # whether the model takes its inputs as a dict


@layer("Sequential", "Functional", "Model", masks="own")
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
    member = Layer(entry, weights, layer.context, layer.memory.get("path", layer.path))
    if member.kind in ("Sequential", "Functional", "Model") and member.custom is None:
        parse(member)
    return member


def _sequential(layer: Layer) -> Parsed:
    layers: dict[str, Layer] = {}
    declared = Declared("float32", None)
    for entry in layer.config["layers"]:
        if isinstance(entry, dict) and entry.get("class_name") == "InputLayer":
            declared = _declared(entry)
            layer.weights.member("layers", "InputLayer", "")
            continue
        name = name_of(entry)
        layers[name] = _member(layer, entry, name)
        if declared.shape is None and len(layers) == 1:
            declared = declared._replace(shape=_shape(layers[name].config) or _shape(layer.config))
    sources = [("x", 0, 0), *((name, 0, 0) for name in layers)]
    calls = [Call(name, 0, [source], {}) for name, source in zip(layers, sources, strict=False)]
    return Parsed({"x": declared}, ["x"], layers, calls, [sources[-1]], None, named=False)


def _functional(layer: Layer) -> Parsed:
    entries = layer.config["layers"]
    layers: dict[str, Layer] = {}
    inputs: dict[str, Declared] = {}
    for entry in entries:
        name = name_of(entry)
        if entry.get("class_name") == "InputLayer":
            inputs[name] = _declared(entry)
            layer.weights.member("layers", "InputLayer", name)
        else:
            layers[name] = _member(layer, entry, name)
    given, given_back = layer.config["input_layers"], layer.config["output_layers"]
    order = [each[0] for each in references(given) if isinstance(each, tuple)]
    if sorted(order) != sorted(inputs):
        raise FileError(f"model {layer.name} has the inputs {order}, but input layers {list(inputs)}")
    named = isinstance(given, dict) and len(given) == len(order)
    outputs: list[Reference] = [each for each in references(given_back) if isinstance(each, tuple)]
    # Keras 3 counts as Keras 2 here, where making a model is call 0, and here alone
    if layer.context.version == 3:
        made = {name_of(entry) for entry in entries if kind_of(entry) == "Functional"}
        outputs = [(name, number - (name in made), output) for name, number, output in outputs]  # type: ignore[misc, operator]  # no constants
    calls = ordered(layer.name, entries, layers, order, outputs)
    taken = [*outputs, *(each for call in calls for each in call.references())]
    for reference in taken:
        if isinstance(reference, tuple) and reference[0] in layers:
            memory = layers[reference[0]].memory
            memory["outputs"] = max(memory.get("outputs", 1), reference[2] + 1)
    return Parsed(
        {name: inputs[each] for name, each in zip(sorted(given) if named else order, order, strict=True)},
        order,
        layers,
        calls,
        outputs,
        None if len(outputs) == 1 and not _has_names(given_back) else _numbers(given_back, _count()),
        named,
    )


def _count() -> Iterator[int]:
    return iter(range(1 << 30))


def _has_names(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_names, value)))


def _numbers(value: Any, numbers: Iterator[int]) -> Any:
    """Return the dicts and lists of outputs with numbers, in Keras' order, in place of the arrays."""
    if is_reference(value):
        return next(numbers)
    if isinstance(value, dict):
        return {key: _numbers(value[key], numbers) for key in sorted(value)}
    return [_numbers(each, numbers) for each in value]


def _shape(config: dict[str, Any]) -> list[int | None] | None:
    """Return the input shape that a configuration records, with the batch."""
    for key in ("batch_shape", "batch_input_shape", "build_input_shape"):
        if isinstance(config.get(key), list):
            return list(config[key])
    shape = config.get("build_config", {}).get("input_shape") if "build_config" in config else None
    return list(shape) if isinstance(shape, list) else None


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
    layer.memory["path"] = ""
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


def _output_names(parsed: Parsed, taken: list[str]) -> list[str]:
    """Return a name for each output: that of its layer, or y for the only one of a Sequential."""
    if parsed.layer_inputs == ["x"] and parsed.structure is None and not parsed.named:
        return ["y"]
    names: list[str] = []
    for reference in parsed.outputs:
        name = unique = str(reference[0])  # type: ignore[index]  # outputs are no constants
        number = 1
        while unique in (*names, *taken):
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    return names


def _structure(parsed: Parsed, names: list[str]) -> Structure | None:
    """Return the signature of a model that takes or returns lists or dicts."""
    if parsed.structure is None and len(parsed.inputs) == 1:
        return None
    result: Any = names[0] if parsed.structure is None else _named(parsed.structure, names)
    if len(parsed.inputs) == 1 and not parsed.named:
        (name,) = parsed.inputs
        return Structure({name: name}, (result,))
    argument = "inputs" if "inputs" not in parsed.inputs else "arguments"
    template: Any = {name: name for name in parsed.inputs} if parsed.named else list(parsed.inputs)
    return Structure({argument: template}, (result,))


def _named(structure: Any, names: list[str]) -> Any:
    if isinstance(structure, dict):
        return {key: _named(each, names) for key, each in structure.items()}
    return names[structure] if isinstance(structure, int) else [_named(each, names) for each in structure]
