"""The calls of layers in the configuration of a functional model, in the words of all versions of Keras."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from ...errors import FileError
from . import operations
from .layer import Layer, check_entry
from .stored_weights import MODELS

Place: TypeAlias = tuple[str, int, int]  # how Keras refers to an output: layer, number of its call, output
Reference: TypeAlias = Place | dict[str, Any]  # or a constant
INPUTS = ("inputs", "sequences", "query")  # names of the first argument
# options without effect where they are False
SILENT = {"training", "use_causal_mask", "return_attention_scores"}
# Keras 3 passes a mask by position to the layer, but not to those that follow.
PLACED = {"mask": "mask_inside"}
MASKS = {"mask", "mask_inside"}


class Call(NamedTuple):
    """One call of a layer: the layer, the number of the call, its inputs and its options.

    Options that are values are lists of references.
    """

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


def ordered(
    model: str, entries: list[Any], layers: Mapping[str, Layer], inputs: list[str], outputs: list[Place]
) -> list[Call]:
    """Return the calls of a model, each after those whose outputs it takes. Raises FileError."""
    waiting = [
        Call(name, number, *_parsed(layers[name], entry, call))
        for entry in entries
        if (name := name_of(entry)) in layers
        for number, call in enumerate(entry.get("inbound_nodes") or [])
    ]
    if without := [call.layer for call in waiting if not call.needs()]:
        raise FileError(f"model {model} has calls without inputs: {', '.join(without)}")
    # Keras counts the calls of most nested models from 1: making the model was call 0, which nobody uses
    used = {each[:2] for each in outputs}.union(*(call.needs() for call in waiting))
    shifted = {name for name, each in layers.items() if each.kind in MODELS and (name, 0) not in used}
    waiting = [call._replace(number=call.number + (call.layer in shifted)) for call in waiting]
    known, calls = {(name, 0) for name in inputs}, []
    while waiting:
        ready = [call for call in waiting if known >= call.needs()]
        if not ready:
            names = ", ".join(call.layer for call in waiting)
            raise FileError(
                f"model {model} has calls that depend on each other or on missing layers: {names}"
            )
        calls += ready
        known |= {call[:2] for call in ready}
        waiting = [call for call in waiting if call not in ready]
    return calls


def _parsed(layer: Layer, entry: Any, call: Any) -> tuple[list[Reference], dict[str, Any]]:
    """Return the inputs of a call in order, and its options."""
    of_keras_3 = isinstance(call, dict) and call.keys() <= {"args", "kwargs"}
    arguments, given = (
        (list(call.get("args", [])), dict(call.get("kwargs", {}))) if of_keras_3 else ([call], _beside(call))
    )
    if not arguments:
        arguments = [given.pop(name) for name in INPUTS if name in given]
    if layer.is_operation() or layer.kind in operations.FUNCTIONAL:
        arguments, given = operations.call(entry, arguments, given)
    names = layer.type.arguments
    if names is None:
        return list(references(arguments)), _options(given)
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
    if layer.kind in MODELS and isinstance(first, dict) and not is_reference(first):
        inputs = layer.memory["model"].inputs
        if missing := inputs.keys() - first.keys():
            raise layer.error(
                f"is called with {', '.join(first)}, but has the inputs {', '.join(missing)} too"
            )
        first = [first[name] for name in inputs]
    return list(references(first)), options


def _beside(call: Any) -> dict[str, Any]:
    """Return the options of a call in Keras 2, which each of its arrays records."""
    if is_reference(call) or _is_constant(call):
        return dict(*call[3:])
    given: dict[str, Any] = {}
    for each in call.values() if isinstance(call, dict) else call:
        given |= _beside(each)
    return given


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a call, without those that have no effect."""
    options: dict[str, Any] = {}
    for key, value in given.items():
        found = list(references(value, missing=key in MASKS))
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
    kind, config = kind_of(value), value.get("config")
    if isinstance(config, dict):
        if kind == "BatchNormalization":
            return bool(config.get("trainable", True))
        rate = {"GaussianNoise": "stddev"}.get(kind, "rate" if "Dropout" in kind else "dropout")
        if config.get(rate) or config.get("recurrent_dropout"):
            return True
    return any(map(_acts_in_training, value.values()))


def is_reference(value: Any) -> bool:
    """Whether this refers to a value: __keras_tensor__ in Keras 3, [layer, call, output] in Keras 2."""
    if isinstance(value, dict):
        return value.get("class_name") == "__keras_tensor__"
    return isinstance(value, list) and len(value) in (3, 4) and [*map(type, value[:3])] == [str, int, int]


def _is_constant(value: Any) -> bool:
    """Whether this is how Keras 2 writes a number where a call begins."""
    return isinstance(value, list) and value[:2] == ["_CONSTANT_VALUE", -1]


def references(value: Any, missing: bool = False) -> Iterator[Any]:
    """Yield the values in an argument, those in a dict by sorted keys as Keras numbers them.

    With `missing`, None is yielded, too.
    """
    if is_reference(value):
        name, number, output = value["config"]["keras_history"] if isinstance(value, dict) else value[:3]
        yield name, number, output
    elif _is_constant(value):
        yield {"constant": value[2]}
    elif isinstance(value, dict) and value.get("class_name") in ("__numpy__", "__tensor__"):
        yield {"constant": value["config"]["value"], "dtype": value["config"]["dtype"]}
    elif isinstance(value, dict | list):
        for each in [value[key] for key in sorted(value)] if isinstance(value, dict) else value:
            yield from references(each, missing)
    elif isinstance(value, int | float):
        yield {"constant": value}
    elif value is None and missing:
        yield None


def kind_of(entry: Any) -> str:
    """Return the class of a layer."""
    return str(entry.get("class_name")) if isinstance(entry, dict) else ""


def name_of(entry: Any) -> str:
    """Return the name of a layer in its model."""
    check_entry(entry)
    config = entry["config"]
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    if not isinstance(name, str):
        raise FileError(f"a layer of class {kind_of(entry)} has no name")
    return name
