"""The values of TorchScript programs other than tensors, numbers, strings and containers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ....core import budget
from ....errors import ArgumentError
from ....graph.structure import CONTAINERS, ELEMENT
from .code import Class, Code


@dataclass(eq=False)
class Object:
    """An instance of a class of the archive; `path` leads to it from the model, "" for new objects."""

    code: Code
    class_path: str
    attributes: dict[str, Any] = field(default_factory=dict)
    path: str = ""

    @property
    def kind(self) -> Class:
        """The class. Raises ArgumentError if the archive does not have it, or its code is invalid."""
        return self.code.class_at(self.class_path)


@dataclass(frozen=True)
class Unknown:
    """A value that cannot be used, and the reason."""

    reason: str

    def __bool__(self) -> bool:
        raise ArgumentError(self.reason)


UNINITIALIZED = Unknown("a variable is used before it has a value")
MISSING = Unknown("a variable has a value in only one side of a branch, or only in the body of a loop")
DEVICE = "cpu"


def items(value: Any) -> list[tuple[Any, Any]]:
    """Return the elements of a tuple, list or dict with their places."""
    return list(value.items() if isinstance(value, dict) else enumerate(value))


def rebuilt(value: Any, elements: Sequence[Any]) -> Any:
    """Return a tuple, list or dict of the same kind with other elements."""
    return dict(zip(value, elements, strict=True)) if isinstance(value, dict) else type(value)(elements)


def alike(a: Any, b: Any) -> bool:
    """Whether two values are containers of the same kind, with elements in the same places."""
    if type(a) is not type(b) or not isinstance(a, CONTAINERS):
        return False
    return [*dict(items(a))] == [*dict(items(b))]


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a tuple, list or dict with a function applied to each element, or to each in nested ones."""
    budget.spend(ELEMENT)
    if not isinstance(value, CONTAINERS):
        return function(value)
    return rebuilt(value, [mapped(function, element) for _, element in items(value)])
