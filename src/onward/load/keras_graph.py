"""From Keras' configurations of whole models to Onward's graphs of layers."""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

from .. import keras
from ..errors import FileError
from ..keras.graph import Reference
from .keras_source import PRECISIONS, Source, build, check_entry, dtype_name

# (layer, number of its call, number of the output): how Keras refers to an array in the graph; or a constant
History: TypeAlias = tuple[str, int, int] | dict[str, Any]
Call: TypeAlias = tuple[str, int]
# options that say nothing where they are False
SILENT = {"training", "use_causal_mask", "return_attention_scores"}
INTEGERS = ("int32", "int64", "uint8", "int8", "int16", "uint16", "uint32", "bool")


def _sequential(source: Source) -> keras.KerasLayer:
    entries = source.take("layers")
    source.dtype()
    layers: dict[str, keras.KerasLayer] = {}
    dtype = "float32"
    for entry in entries:
        if isinstance(entry, dict) and entry.get("class_name") == "InputLayer":
            dtype = _dtype(entry)
            source.weights.member("layers", "InputLayer", "")
            continue
        name = _name(entry)
        layers[name] = build(entry, source.weights.member("layers", _kind(entry), name), source.context)
    nodes = [{"layer": name, "inputs": [[number, 0]]} for number, name in enumerate(layers)]
    return keras.Model(layers, nodes, {source.name: dtype}, [[len(nodes), 0]])


def _functional(source: Source) -> keras.KerasLayer:
    source.dtype()
    entries = source.take("layers")
    layers: dict[str, keras.KerasLayer] = {}
    inputs: dict[str, str] = {}
    for entry in entries:
        name = _name(entry)
        weights = source.weights.member("layers", _kind(entry), name)
        if entry.get("class_name") == "InputLayer":
            inputs[name] = _dtype(entry)
        else:
            layers[name] = build(entry, weights, source.context)
    order = [each[0] for each in _arrays(source.take("input_layers")) if isinstance(each, tuple)]
    if sorted(order) != sorted(inputs):
        raise FileError(f"model {source.name} has the inputs {order}, but input layers {list(inputs)}")
    outputs = list(_arrays(source.take("output_layers")))
    # Keras 3 counts as Keras 2 here, where making a model is call 0, and here alone
    if source.context.version == 3:
        made = {_name(entry) for entry in entries if _kind(entry) == "Functional"}
        outputs = [
            (each[0], each[1] - (each[0] in made), each[2]) for each in outputs if isinstance(each, tuple)
        ]
    nodes, place = _ordered(source.name, entries, order, outputs)
    references = [_reference(order, place, each) for each in outputs]
    return keras.Model(layers, nodes, {name: inputs[name] for name in order}, references)


def _ordered(
    model: str, entries: list[Any], inputs: list[str], outputs: list[History]
) -> tuple[list[Any], dict[Call, int]]:
    """The calls, each after those whose outputs it takes; and for each call its node."""
    shift = _skipped(entries, outputs)
    waiting = [
        Waiting((name, number + shift.get(name, 0)), *_call(call))
        for name, entry in ((_name(entry), entry) for entry in entries)
        for number, call in enumerate(entry.get("inbound_nodes") or [])
    ]
    place: dict[Call, int] = {(name, 0): 0 for name in inputs}
    nodes: list[Any] = []
    while waiting:
        ready = [each for each in waiting if place.keys() >= each.needs()]
        if not ready:
            names = ", ".join(each.call[0] for each in waiting)
            raise FileError(
                f"model {model} has calls that wait for each other, or for what is not there: {names}"
            )
        for each in ready:
            node: dict[str, Any] = {
                "layer": each.call[0],
                "inputs": [_reference(inputs, place, argument) for argument in each.arguments],
            }
            if each.options:
                node["options"] = {
                    key: [_reference(inputs, place, one) for one in value]
                    if isinstance(value, list)
                    else value
                    for key, value in each.options.items()
                }
            nodes.append(node)
            place[each.call] = len(nodes)
        waiting = [each for each in waiting if each.call not in place]
    return nodes, place


class Waiting(NamedTuple):
    """A call whose inputs are not all computed yet."""

    call: Call
    arguments: list[History]
    options: dict[str, Any]

    def needs(self) -> set[Call]:
        given = [*self.arguments, *(each for v in self.options.values() if isinstance(v, list) for each in v)]
        return {each[:2] for each in given if isinstance(each, tuple)}


def _reference(inputs: list[str], place: dict[Call, int], history: History) -> Reference:
    """Where an array is among the nodes."""
    if isinstance(history, dict):
        return history
    name, number, output = history
    if (name, number) not in place:
        raise FileError(f"the model refers to call {number} of {name}, which is not in it")
    return [0, inputs.index(name)] if name in inputs else [place[name, number], output]


def _skipped(entries: list[Any], outputs: list[History]) -> dict[str, int]:
    """Keras counts the calls of most nested models from 1: making the model was call 0, which nobody uses."""
    used = {each[:2] for each in outputs if isinstance(each, tuple)}
    for entry in entries:
        for call in entry.get("inbound_nodes") or []:
            used |= Waiting(("", 0), *_call(call)).needs()
    nested = (_name(entry) for entry in entries if _kind(entry) in ("Functional", "Model", "Sequential"))
    return {name: 1 for name in nested if (name, 0) not in used}


def _call(call: Any) -> tuple[list[History], dict[str, Any]]:
    """What a call takes: arrays in order, and options, of which those that are arrays are lists."""
    if isinstance(call, dict):  # Keras 3
        arguments = list(_arrays(call.get("args", [])))
        given = dict(call.get("kwargs", {}))
    else:
        arguments, given = [], {}
        for name, number, output, *more in call if isinstance(call[0], list) else [call]:
            arguments.append((name, number, output))
            given |= more[0] if more else {}
    options: dict[str, Any] = {}
    for key, value in given.items():
        arrays = list(_arrays(value))
        if any(isinstance(each, tuple) for each in arrays):
            options[key] = arrays
        elif value is not None and not (key in SILENT and not value):
            options[key] = value
    if isinstance(call, dict) and "initial_state" in options and "mask" not in options:
        options["use_mask"] = False  # Keras 3 finds the mask of a call's only array, and hands on none of two
    return [*arguments, *options.pop("inputs", []), *options.pop("sequences", [])], options


def _arrays(value: Any) -> Iterator[History]:
    """The arrays in an argument: Keras 3 writes __keras_tensor__, Keras 2 [layer, call, output]."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        name, number, output = value["config"]["keras_history"]
        yield name, number, output
    elif isinstance(value, list) and len(value) in (3, 4) and [*map(type, value[:3])] == [str, int, int]:
        yield value[0], value[1], value[2]
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _arrays(each)
    elif isinstance(value, int | float):
        yield {"constant": value}


def _kind(entry: Any) -> str:
    return str(entry.get("class_name")) if isinstance(entry, dict) else ""


def _name(entry: Any) -> str:
    """A layer's name in its model."""
    check_entry(entry)
    config = entry["config"]
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    if not isinstance(name, str):
        raise FileError(f"a layer of class {_kind(entry)} has no name")
    return name


def _dtype(entry: Any) -> str:
    """The type that an input layer converts to."""
    dtype = dtype_name(entry["config"].get("dtype") or "float32")
    if dtype in INTEGERS:
        return str(dtype)
    if dtype not in PRECISIONS:
        raise FileError(f"input {_name(entry)} has dtype {dtype!r}, which Onward does not take")
    return str(PRECISIONS[dtype])


BUILDERS = {"Sequential": _sequential, "Functional": _functional, "Model": _functional}
