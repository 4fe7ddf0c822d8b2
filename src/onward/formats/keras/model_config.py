"""From Keras' configurations of whole models to Onward's graphs of layers."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from ...errors import FileError
from . import operation_configs, runtime
from .runtime.graph import Reference
from .source import COMPUTE_DTYPES, Source, build, check_entry, dtype_name
from .stored_weights import MODELS

# (layer, number of its call, number of the output): how Keras refers to an array in the graph; or a constant
History: TypeAlias = tuple[str, int, int] | dict[str, Any]
Call: TypeAlias = tuple[str, int]
INPUTS = ("inputs", "sequences")  # names of the first argument
# options that say nothing where they are False
SILENT = {"training", "use_causal_mask", "return_attention_scores"}
# of a mask that Keras 3 is given by its place, the layer knows, but not those that follow
PLACED = {"mask": "mask_inside"}
MASKS = {"mask", "mask_inside"}
INTEGERS = ("int32", "int64", "uint8", "int8", "int16", "uint16", "uint32", "bool")


def _sequential(source: Source) -> runtime.KerasLayer:
    entries = source.take("layers")
    source.dtype()
    layers: dict[str, runtime.KerasLayer] = {}
    dtype = "float32"
    for entry in entries:
        if isinstance(entry, dict) and entry.get("class_name") == "InputLayer":
            dtype = _dtype(entry)
            source.weights.member("layers", "InputLayer", "")
            continue
        name = _name(entry)
        layers[name] = build(entry, source.weights.member("layers", _kind(entry), name), source.context)
    nodes = [{"layer": name, "inputs": [[number, 0]]} for number, name in enumerate(layers)]
    return runtime.Model(layers, nodes, {source.name: dtype}, [[len(nodes), 0]])


def _functional(source: Source) -> runtime.KerasLayer:
    source.dtype()
    entries = source.take("layers")
    layers: dict[str, runtime.KerasLayer] = {}
    inputs: dict[str, str] = {}
    for entry in entries:
        name = _name(entry)
        weights = source.weights.member("layers", _kind(entry), name)
        if entry.get("class_name") == "InputLayer":
            inputs[name] = _dtype(entry)
        else:
            layers[name] = build(entry, weights, source.context)
    given, given_back = source.take("input_layers"), source.take("output_layers")
    order = [each[0] for each in _arrays(given) if isinstance(each, tuple)]
    if sorted(order) != sorted(inputs):
        raise FileError(f"model {source.name} has the inputs {order}, but input layers {list(inputs)}")
    names = sorted(given) if isinstance(given, dict) and len(given) == len(order) else order
    outputs = list(_arrays(given_back))
    # Keras 3 counts as Keras 2 here, where making a model is call 0, and here alone
    if source.context.version == 3:
        made = {_name(entry) for entry in entries if _kind(entry) == "Functional"}
        outputs = [
            (each[0], each[1] - (each[0] in made), each[2]) for each in outputs if isinstance(each, tuple)
        ]
    nodes, place = _ordered(source.name, entries, layers, order, outputs)
    return runtime.Model(
        layers,
        nodes,
        {name: inputs[layer] for name, layer in zip(names, order, strict=True)},
        [_reference(order, place, each) for each in outputs],
        _structure(given_back, iter(range(len(outputs)))) if _has_names(given_back) else None,
    )


def _has_names(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_names, value)))


def _structure(value: Any, numbers: Iterator[int]) -> Any:
    """The dicts and lists of outputs, with numbers in Keras' order where the arrays were."""
    if isinstance(value, dict):
        return {key: _structure(value[key], numbers) for key in sorted(value)}
    return next(numbers) if _is_history(value) else [_structure(each, numbers) for each in value]


def _ordered(
    model: str,
    entries: list[Any],
    layers: Mapping[str, runtime.KerasLayer],
    inputs: list[str],
    outputs: list[History],
) -> tuple[list[Any], dict[Call, int]]:
    """The calls, each after those whose outputs it takes; and for each call its node."""
    waiting = [
        Waiting((_name(entry), number), *_call(entry, layers.get(_name(entry)), call))
        for entry in entries
        for number, call in enumerate(entry.get("inbound_nodes") or [])
    ]
    shift = _skipped(entries, waiting, outputs)
    if without := [each.call[0] for each in waiting if not each.needs()]:
        raise FileError(f"model {model} has calls without inputs: {', '.join(without)}")
    waiting = [
        each._replace(call=(each.call[0], each.call[1] + shift.get(each.call[0], 0))) for each in waiting
    ]
    place: dict[Call, int] = {(name, 0): 0 for name in inputs}
    nodes: list[Any] = []
    while waiting:
        ready = [each for each in waiting if place.keys() >= each.needs()]
        if not ready:
            names = ", ".join(each.call[0] for each in waiting)
            raise FileError(
                f"model {model} has calls that depend on each other or on missing layers: {names}"
            )
        for each in ready:
            node: dict[str, Any] = {
                "layer": each.call[0],
                "inputs": [_reference(inputs, place, argument) for argument in each.arguments],
            }
            if each.options:
                node["options"] = {
                    key: [None if one is None else _reference(inputs, place, one) for one in value]
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


def _skipped(entries: list[Any], calls: list[Waiting], outputs: list[History]) -> dict[str, int]:
    """Keras counts the calls of most nested models from 1: making the model was call 0, which nobody uses."""
    used = {each[:2] for each in outputs if isinstance(each, tuple)}.union(*(call.needs() for call in calls))
    nested = (_name(entry) for entry in entries if _kind(entry) in MODELS)
    return {name: 1 for name in nested if (name, 0) not in used}


def _call(entry: Any, layer: runtime.KerasLayer | None, call: Any) -> tuple[list[History], dict[str, Any]]:
    """What a call takes: arrays in order, and options, of which those that are arrays are lists."""
    of_keras_3 = isinstance(call, dict) and call.keys() <= {"args", "kwargs"}
    arguments, given = (
        (list(call.get("args", [])), dict(call.get("kwargs", {}))) if of_keras_3 else ([call], _beside(call))
    )
    if not arguments:
        arguments = [given.pop(name) for name in INPUTS if name in given]
    if isinstance(layer, runtime.Operation):
        arguments, given = operation_configs.call(entry, arguments, given)
    names = None if layer is None else layer.arguments
    if names is None:
        return list(_arrays(arguments)), _options(given)
    first, *more = arguments
    if len(more) > len(names):
        raise _error(entry, f"is called with {len(more)} arguments more than Onward knows")
    by_place = zip(names, more, strict=False)
    given |= {PLACED.get(name, name): value for name, value in by_place}
    options = _options(given)
    if options.pop("training", None) and _acts_in_training(entry):
        raise _error(
            entry, "is called with training=True, where its outputs differ; Onward runs inference only"
        )
    if unknown := options.keys() - {*names, *MASKS}:
        raise _error(entry, f"is called with {', '.join(sorted(unknown))}, which Onward does not support")
    if of_keras_3 and "initial_state" in options and not options.keys() & MASKS:
        options["use_mask"] = False  # Keras 3 finds the mask of a call's only array, and hands on none of two
    return list(_arrays(_in_order(entry, layer, first))), options


def _beside(call: Any) -> dict[str, Any]:
    """What a call in Keras 2 is given beside its arrays, each of which says it."""
    if _is_history(call) or _is_constant(call):
        return dict(*call[3:])
    given: dict[str, Any] = {}
    for each in call.values() if isinstance(call, dict) else call:
        given |= _beside(each)
    return given


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """What a call says beside its inputs, without what says nothing."""
    options: dict[str, Any] = {}
    for key, value in given.items():
        arrays = list(_arrays(value, missing=key in MASKS))
        if any(isinstance(each, tuple) for each in arrays):
            options[key] = arrays
        elif value is not None and not (key in SILENT and not value) and key not in MASKS:
            options[key] = {"value": value} if isinstance(value, dict | list) else value
    return options


def _in_order(entry: Any, layer: runtime.KerasLayer | None, inputs: Any) -> Any:
    """The inputs of a call: those of a model by name are put in its order."""
    if not isinstance(layer, runtime.Model) or not isinstance(inputs, dict) or _is_history(inputs):
        return inputs
    if missing := layer.inputs.keys() - inputs.keys():
        raise _error(
            entry, f"is called with {', '.join(inputs)}, but has the inputs {', '.join(missing)} too"
        )
    return [inputs[name] for name in layer.inputs]


def _acts_in_training(value: Any) -> bool:
    """Whether a layer or one inside it does something else in training."""
    if isinstance(value, list):
        return any(map(_acts_in_training, value))
    if not isinstance(value, dict):
        return False
    kind, config = _kind(value), value.get("config")
    if isinstance(config, dict):
        if kind == "BatchNormalization":
            return bool(config.get("trainable", True))
        rate = {"GaussianNoise": "stddev"}.get(kind, "rate" if "Dropout" in kind else "dropout")
        if config.get(rate) or config.get("recurrent_dropout"):
            return True
    return any(map(_acts_in_training, value.values()))


def _is_history(value: Any) -> bool:
    """Whether this is an array: __keras_tensor__ in Keras 3, [layer, call, output] in Keras 2."""
    if isinstance(value, dict):
        return value.get("class_name") == "__keras_tensor__"
    return isinstance(value, list) and len(value) in (3, 4) and [*map(type, value[:3])] == [str, int, int]


def _is_constant(value: Any) -> bool:
    """Whether this is how Keras 2 writes a number where a call begins."""
    return isinstance(value, list) and value[:2] == ["_CONSTANT_VALUE", -1]


def _arrays(value: Any, missing: bool = False) -> Iterator[Any]:
    """The arrays in an argument, those in a dict by sorted keys, as Keras numbers them; None if missing."""
    if _is_history(value):
        name, number, output = value["config"]["keras_history"] if isinstance(value, dict) else value[:3]
        yield name, number, output
    elif _is_constant(value):
        yield {"constant": value[2]}
    elif isinstance(value, dict) and value.get("class_name") in ("__numpy__", "__tensor__"):
        yield {"constant": value["config"]["value"], "dtype": value["config"]["dtype"]}
    elif isinstance(value, dict | list):
        for each in [value[key] for key in sorted(value)] if isinstance(value, dict) else value:
            yield from _arrays(each, missing)
    elif isinstance(value, int | float):
        yield {"constant": value}
    elif value is None and missing:
        yield None


def _error(entry: Any, problem: str) -> FileError:
    return FileError(f"layer {_name(entry)} ({_kind(entry)}) {problem}")


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
    if dtype not in COMPUTE_DTYPES:
        raise FileError(f"input {_name(entry)} has dtype {dtype!r}, which Onward does not support")
    return str(COMPUTE_DTYPES[dtype])


BUILDERS = {"Sequential": _sequential, "Functional": _functional, "Model": _functional}
