"""The values of TorchScript programs other than tensors, numbers, strings and containers."""

from __future__ import annotations

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


UNINITIALIZED = Unknown("the variable has no value")
DEVICE = "cpu"
