"""Keras models, Sequential and Functional, as layers that call others, and as whole graphs."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ...core import budget
from ...errors import ArgumentError, FileError
from ...graph import Graph, Input
from ...graph.structure import Structure
from . import attention, operations, recurrent  # noqa: F401 - the others register their layers
from .layer import COMPUTE_DTYPES, Layer, check_entry, dtype_name, layer
from .stored_weights import MODELS
from .writer import Value

Place: TypeAlias = tuple[str, int, int]  # how Keras refers to an output: layer, number of its call, output
Reference: TypeAlias = Place | dict[str, Any]  # or a constant
INPUTS = ("inputs", "sequences", "query")  # names of the first argument
# options without effect where they are False
SILENT = {"training", "use_causal_mask", "return_attention_scores"}
# Keras 3 passes a mask by position to the layer, but not to those that follow.
PLACED = {"mask": "mask_inside"}
MASKS = {"mask", "mask_inside"}
INTEGERS = ("int32", "int64", "uint8", "int8", "int16", "uint16", "uint32", "bool")


class Declared(NamedTuple):
    """The dtype of an input, and its shape with the batch, if the file records that; None is an open size."""

    dtype: str
    shape: list[int | None] | None


class Call(NamedTuple):
    """A call of a layer: its number, its inputs and its options: references, a "value", or a number."""

    layer: str
    number: int
    arguments: list[Reference]
    options: dict[str, Any]

    def references(self) -> list[Place]:
        """Return the outputs that this call takes."""
        lists = [self.arguments, *(value for value in self.options.values() if isinstance(value, list))]
        return [each for values in lists for each in values if isinstance(each, tuple)]

    def needs(self) -> set[tuple[str, int]]:
        """Return the calls whose outputs this call takes."""
        return {each[:2] for each in self.references()}


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
        options = dict(call.options)
        for key, value in options.items():
            if isinstance(value, list):
                options[key] = [each and _value(layer, values, each) for each in value]
            elif isinstance(value, dict):
                options[key] = value["value"]
        values[call[:2]] = parsed.layers[call.layer](*arguments, **options)
    return [_value(layer, values, each) for each in parsed.outputs]


def _value(layer: Layer, values: dict[tuple[str, int], list[Value]], reference: Reference) -> Value:
    if isinstance(reference, dict):
        given = reference["constant"]
        array = np.asarray(given, reference.get("dtype"))
        if array.dtype == np.float64 and "dtype" not in reference:
            array = array.astype(np.float32)
        return layer.constant(array, number=given if isinstance(given, int | float) else None)
    name, number, output = reference
    if (name, number) not in values or output >= len(values[name, number]):
        raise FileError(f"the model refers to output {output} of call {number} of {name}, which is not in it")
    value = values[name, number][output]
    return value.with_mask(None) if value.name in layer.context.unmasked else value


def parse(layer: Layer) -> Parsed:
    """Return the contents of a model, whose layers then have their weights."""
    read = _sequential if layer.kind == "Sequential" else _functional
    with layer.errors():
        return layer.once("model", lambda: read(layer))


def _member(layer: Layer, entry: Any, name: str) -> Layer:
    """Return a layer of a model."""
    weights = layer.weights.member("layers", _kind_of(entry), name)
    member = Layer(entry, weights, layer.context, layer.path)
    if member.kind in MODELS and member.custom is None:
        parse(member)
    return member


def _sequential(layer: Layer) -> Parsed:
    layers: dict[str, Layer] = {}
    declared = Declared("float32", None)
    for entry in layer.config["layers"]:
        if _kind_of(entry) == "InputLayer":
            declared = _declared(entry)
            continue
        name = _name_of(entry)
        layers[name] = _member(layer, entry, name)
        if declared.shape is None and len(layers) == 1:
            declared = Declared(declared.dtype, _shape(layers[name].config) or _shape(layer.config))
    sources = [("x", 0, 0), *((name, 0, 0) for name in layers)]
    calls = [Call(name, 0, [source], {}) for name, source in zip(layers, sources, strict=False)]
    return Parsed({"x": declared}, ["x"], layers, calls, [sources[-1]], None, named=False)


def _functional(layer: Layer) -> Parsed:
    entries = {_name_of(entry): entry for entry in layer.config["layers"]}
    inputs = {name: _declared(each) for name, each in entries.items() if _kind_of(each) == "InputLayer"}
    layers = {name: _member(layer, each, name) for name, each in entries.items() if name not in inputs}
    given, given_back = layer.config["input_layers"], layer.config["output_layers"]
    order = [each[0] for each in _references(given) if isinstance(each, tuple)]
    if sorted(order) != sorted(inputs):
        raise FileError(f"model {layer.name} has the inputs {order}, but input layers {list(inputs)}")
    named = isinstance(given, dict) and len(given) == len(order)
    outputs: list[Place] = [each for each in _references(given_back) if isinstance(each, tuple)]
    # Keras 3 counts as Keras 2 here, where making a model is call 0, and here alone
    if layer.context.version == 3:
        made = {name for name, entry in entries.items() if _kind_of(entry) == "Functional"}
        outputs = [(name, number - (name in made), output) for name, number, output in outputs]
    calls = _ordered(layer.name, layer.config["layers"], layers, order, outputs)
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
    if dtype not in (*INTEGERS, *COMPUTE_DTYPES):
        raise FileError(
            f"input {_name_of(entry)} has dtype {dtype!r}; Onward takes numbers: save the part of the model "
            "that follows the preprocessing of text"
        )
    return Declared(str(COMPUTE_DTYPES.get(dtype, dtype)), _shape(config))


def whole_graph(layer: Layer) -> Graph:
    """Return the graph of a whole model."""
    layer.path = ""  # the names of nodes begin with those of its layers
    with layer.errors():
        return _whole_graph(parse(layer), layer)


def _whole_graph(parsed: Parsed, layer: Layer) -> Graph:
    graph = layer.graph
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
    if _is_reference(structure):
        return next(names)
    if isinstance(structure, dict):
        return {key: _named(structure[key], names) for key in sorted(structure)}
    return [_named(each, names) for each in structure]


# The calls of layers, in the words of all versions of Keras.


def _ordered(
    model: str, entries: list[Any], layers: Mapping[str, Layer], inputs: list[str], outputs: list[Place]
) -> list[Call]:
    """Return the calls of a model, each after those whose outputs it takes. Raises FileError."""
    waiting = [
        Call(name, number, *_parsed(layers[name], entry, call))
        for entry in entries
        if (name := _name_of(entry)) in layers
        for number, call in enumerate(entry.get("inbound_nodes") or [])
    ]
    if without := [call.layer for call in waiting if not call.needs()]:
        raise FileError(f"model {model} has calls without inputs: {', '.join(without)}")
    # Keras counts the calls of most nested models from 1: making the model was call 0, which nobody uses
    used = {each[:2] for each in outputs}.union(*(call.needs() for call in waiting))
    shifted = {name for name, each in layers.items() if each.kind in MODELS and (name, 0) not in used}
    waiting = [
        Call(call.layer, call.number + (call.layer in shifted), call.arguments, call.options)
        for call in waiting
    ]
    known, calls = {(name, 0) for name in inputs}, []
    while waiting:
        budget.spend(2 * budget.STEP * len(waiting))
        ready = [call for call in waiting if known >= call.needs()]
        if not ready:
            names = ", ".join(call.layer for call in waiting)
            raise FileError(
                f"model {model} has calls that depend on each other or on missing layers: {names}"
            )
        calls += ready
        known |= {call[:2] for call in ready}
        waiting = [call for call in waiting if call not in ready]
    return _as_keras_runs(calls, outputs)


def _as_keras_runs(calls: list[Call], outputs: list[Place]) -> list[Call]:
    """Return the calls in the order of Keras: those farthest from the outputs first."""
    by_place = {call[:2]: call for call in calls}
    found: list[Call] = []  # each after those that it needs
    stack, seen = [(place[:2], False) for place in reversed(outputs)], set()
    while stack:
        place, is_done = stack.pop()
        if is_done:
            found.append(by_place[place])
        elif place in by_place and place not in seen:
            seen.add(place)
            stack.append((place, True))
            stack += [(each[:2], False) for each in reversed(by_place[place].references())]
    depths: dict[tuple[str, int], int] = {}
    for call in reversed(found):
        depth = depths.setdefault(call[:2], 0)
        for needed in call.references():
            depths[needed[:2]] = max(depths.get(needed[:2], 0), depth + 1)
    ordered = [by_place[place] for place in sorted(depths, key=lambda p: -depths[p]) if place in by_place]
    return [*ordered, *(call for call in calls if call[:2] not in depths)]


def _parsed(layer: Layer, entry: Any, call: Any) -> tuple[list[Reference], dict[str, Any]]:
    """Return the inputs of a call in order, and its options."""
    if of_keras_3 := isinstance(call, dict) and call.keys() <= {"args", "kwargs"}:
        arguments, given = list(call.get("args", [])), dict(call.get("kwargs", {}))
    else:
        arguments, given = [call], _beside(call)
    if not arguments:
        arguments = [given.pop(name) for name in INPUTS if name in given]
    if layer.is_operation() or layer.kind in operations.FUNCTIONAL:
        arguments, given = operations.call(entry, arguments, given)
    names = layer.type.arguments
    if names is None:
        return list(_references(arguments)), _options(given)
    first, *more = arguments
    if len(more) > len(names):
        raise layer.error(f"is called with {1 + len(more)} arguments, but Onward knows {1 + len(names)}")
    by_place = zip(names, more, strict=False)
    options = _options(given | {PLACED.get(name, name): value for name, value in by_place})
    if options.pop("training", None) and _acts_in_training(entry):
        raise layer.error(
            "is called with training=True, where its outputs differ; Onward runs inference only"
        )
    if unknown := options.keys() - {*names, *MASKS}:
        raise layer.error(f"is called with {', '.join(sorted(unknown))}, which Onward does not support")
    if of_keras_3 and "initial_state" in options and not options.keys() & MASKS:
        options["use_mask"] = False  # Keras 3 passes on the mask of a single array only
    if layer.kind in MODELS and isinstance(first, dict) and not _is_reference(first):
        inputs = layer.memory["model"].inputs
        if missing := inputs.keys() - first.keys():
            raise layer.error(
                f"is called with {', '.join(first)}, but has the inputs {', '.join(missing)} too"
            )
        first = [first[name] for name in inputs]
    return list(_references(first)), options


def _beside(call: Any) -> dict[str, Any]:
    """Return the options of a call in Keras 2, which each of its arrays records."""
    if _is_reference(call) or _is_constant(call):
        return dict(*call[3:])
    given: dict[str, Any] = {}
    for each in call.values() if isinstance(call, dict) else call:
        given |= _beside(each)
    return given


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a call, without those that have no effect."""
    options: dict[str, Any] = {}
    for key, value in given.items():
        found = list(_references(value, missing=key in MASKS))
        if any(isinstance(each, tuple) for each in found):
            options[key] = found
        elif value is not None and not (key in SILENT and not value) and key not in MASKS:
            options[key] = {"value": value} if isinstance(value, dict | list) else value
    return options


def _acts_in_training(value: Any) -> bool:
    """Whether a layer or one inside it computes something else in training."""
    if isinstance(value, list):
        return any(map(_acts_in_training, value))
    if not isinstance(value, dict):
        return False
    kind, config = _kind_of(value), value.get("config")
    if isinstance(config, dict):
        if kind == "BatchNormalization":
            return bool(config.get("trainable", True))
        rate = {"GaussianNoise": "stddev"}.get(kind, "rate" if "Dropout" in kind else "dropout")
        if config.get(rate) or config.get("recurrent_dropout"):
            return True
    return any(map(_acts_in_training, value.values()))


def _is_reference(value: Any) -> bool:
    """Whether this refers to a value: __keras_tensor__ in Keras 3, [layer, call, output] in Keras 2."""
    if isinstance(value, dict):
        return value.get("class_name") == "__keras_tensor__"
    return isinstance(value, list) and len(value) in (3, 4) and [*map(type, value[:3])] == [str, int, int]


def _is_constant(value: Any) -> bool:
    """Whether this is how Keras 2 writes a number where a call begins."""
    return isinstance(value, list) and value[:2] == ["_CONSTANT_VALUE", -1]


def _references(value: Any, missing: bool = False) -> Iterator[Any]:
    """Yield the values in an argument, those in a dict by sorted keys as Keras numbers them.

    With `missing`, None is yielded, too.
    """
    if _is_reference(value):
        name, number, output = value["config"]["keras_history"] if isinstance(value, dict) else value[:3]
        yield name, number, output
    elif _is_constant(value):
        yield {"constant": value[2]}
    elif isinstance(value, dict) and value.get("class_name") in ("__numpy__", "__tensor__"):
        yield {"constant": value["config"]["value"], "dtype": value["config"]["dtype"]}
    elif isinstance(value, dict | list):
        for each in [value[key] for key in sorted(value)] if isinstance(value, dict) else value:
            yield from _references(each, missing)
    elif isinstance(value, int | float):
        yield {"constant": value}
    elif value is None and missing:
        yield None


def _kind_of(entry: Any) -> str:
    """Return the class of a layer."""
    return str(entry.get("class_name")) if isinstance(entry, dict) else ""


def _name_of(entry: Any) -> str:
    """Return the name of a layer in its model."""
    check_entry(entry)
    config = entry["config"]
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    if not isinstance(name, str):
        raise FileError(f"a layer of class {_kind_of(entry)} has no name")
    return name
