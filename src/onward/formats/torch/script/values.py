"""The values of TorchScript programs other than tensors, numbers, strings and containers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .code import Class

Values = dict[str, Any]


@dataclass(eq=False)
class Object:
    """An instance of a class of the archive; `path` leads to it from the model, "" for new objects."""

    kind: Class
    attributes: Values = field(default_factory=dict)
    path: str = ""


@dataclass(frozen=True)
class NamedTuple:
    """An instance of a class of named tuples."""

    kind: Class
    elements: tuple[Any, ...]


@dataclass(frozen=True)
class Namespace:
    """A dotted name that is not a value: torch.add, ops.aten.add, __torch__.module.Class."""

    path: str


@dataclass(frozen=True)
class Method:
    """A method of an object."""

    owner: Object
    name: str


@dataclass(frozen=True)
class Unknown:
    """A value that cannot be used, and the reason."""

    reason: str


UNINITIALIZED = Unknown("a variable is used before it has a value")
DEVICE = "cpu"


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a tuple, list or dict with a function applied to each element, or to each in nested ones."""
    if isinstance(value, NamedTuple):
        return NamedTuple(value.kind, mapped(function, value.elements))
    if isinstance(value, tuple | list):
        return type(value)([mapped(function, element) for element in value])
    if isinstance(value, dict):
        return {key: mapped(function, element) for key, element in value.items()}
    return function(value)
