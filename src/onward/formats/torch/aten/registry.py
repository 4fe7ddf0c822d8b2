"""The table of ATen's operators, and the tensors and numbers that they take.

An operator is a function of a `Translator` and of the operator's arguments, under torch's names. It returns
the name of its output in the graph, a list of names for a list of tensors, or a tuple of several outputs, of
which an operator with fewer outputs has the first ones. In-place operators are the same functions, whose
result the translator writes into the first argument and into every tensor that shares its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ....core import budget
from ....errors import ArgumentError
from ....graph.structure import leaves

Shape = tuple[int | None, ...]  # None: a size that the file does not fix
Function = Callable[..., Any]
Operator = TypeVar("Operator", bound=Function)
INT64, FLOAT32, BOOL = np.dtype(np.int64), np.dtype(np.float32), np.dtype(np.bool_)


@dataclass(eq=False)
class Tensor:
    """A tensor of the program: the name of its value, and the tensor whose memory it shares, if any.

    `replay` computes it from another value of its base; `version` counts the writes that the value contains.
    `parts` are the disjoint views of the base among which it is, if an operator returned several.
    `is_copy` tells whether it does not share the memory of its base, which matters when one is written.
    `layout` tells how the elements lie in memory if that may not be C order; exported programs declare it.
    A complex tensor has an additional last axis of its real and imaginary parts. A number in a tensor counts
    as a number when dtypes are promoted. A tensor whose memory is ambiguous, because it differs between
    branches or rounds of a loop, cannot be written; `aliases` are older tensors of which it may be a view,
    and their versions at the end of the branch or loop.
    """

    name: str
    dtype: np.dtype[Any]
    shape: Shape
    base: Tensor | None = None
    replay: Callable[[Tensor], str] | None = None
    put: Callable[[Tensor, Any], str] | None = None
    version: int = 0
    is_contiguous: bool = True
    is_number: bool = False
    is_ambiguous: bool = False
    is_copy: Callable[[], bool | None] | None = None
    layout: Callable[[], Any] | None = None
    parts: list[Tensor] = field(default_factory=list)
    aliases: list[tuple[Tensor, int]] = field(default_factory=list)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def is_in_order(self) -> bool:
        """Whether the elements are known to lie in C order."""
        layout = self.layout and self.layout()
        return self.is_contiguous if self.layout is None else bool(layout and layout.is_contiguous())

    @property
    def root(self) -> Tensor:
        return self if self.base is None else self.base.root

    def axis(self, dim: int) -> int:
        """Return an axis counted from 0. Raises ArgumentError if there is none."""
        count = max(self.rank, 1)
        if not -count <= dim < count:
            raise ArgumentError(f"axis {dim} does not exist in a tensor of {self.rank} axes")
        return dim % count


def bounded(count: float) -> None:
    """Charge for the elements of a constant that an operator creates. Raises ArgumentError below 0."""
    if count < 0:
        raise ArgumentError(f"it creates {count} elements; expected at least 0")
    budget.spend(int(count))
    budget.take(4 * int(count))


@dataclass(frozen=True)
class Symbol:
    """A number that a call determines: the name of its value, which has no axes."""

    name: str
    dtype: np.dtype[Any] = INT64


Number = bool | int | float | complex
Operand = Tensor | Symbol | Number

OPERATORS: dict[str, Function] = {}
VIEWS: set[str] = set()  # operators whose outputs share the memory of their first argument
# views that may copy: whether of all elements out of C order (True), or only where no strides describe them
COPIES: dict[str, bool] = {}
PUTS: dict[str, Function] = {}  # how to write into such an output, where there is a simple way
COMPLEX: set[str] = set()  # operators that take complex tensors
RESULTS: dict[str, str] = {}  # what tells, instead of the inputs, whether the results are complex


def aten(
    *names: str,
    view: bool = False,
    put: Function | None = None,
    copies: bool | None = None,
    takes_complex: bool = False,
    result: str = "",
) -> Callable[[Operator], Operator]:
    """Register a function as the meaning of operators, of torch.ops.aten if they name nothing else.

    A string may contain several names, separated by spaces. The outputs of a view share the memory of its
    first argument; `put` returns that argument with a value written into such an output, or from the values
    of all outputs if they are its parts. If it `copies`, the outputs share the memory only of elements in C
    order, or else only of those that strides describe in the new shape. An operator refuses complex tensors,
    which have one axis more than the program knows, unless it takes them. The results are complex if a tensor
    among the arguments is, unless `result` tells that they are, "c", or not, "f", or names the argument that
    tells it.
    """

    def register(function: Operator) -> Operator:
        for name in " ".join(names).split():
            full = name if "." in name else f"{name}.default"
            OPERATORS[full] = function
            if view or put is not None:
                VIEWS.add(full)
            if put is not None:
                PUTS[full] = put
            if copies is not None:
                COPIES[full] = copies
            if takes_complex:
                COMPLEX.add(full)
            if result:
                RESULTS[full] = result
        return function

    return register


def define(functions: Mapping[str, Function], **options: Any) -> None:
    """Register functions by the names of operators, with the options of `aten`."""
    for names, function in functions.items():
        aten(names, **options)(function)


def check_complex(key: str, arguments: Mapping[str, Any]) -> None:
    """Raise ArgumentError if an argument is complex, and the operator takes none that is."""
    if key not in COMPLEX:
        for value in leaves([*arguments.values()]):
            dtype = value if isinstance(value, np.dtype) else getattr(value, "dtype", None)
            if isinstance(value, complex) or (dtype is not None and dtype.kind == "c"):
                raise ArgumentError(f"{key.removesuffix('.default')} of complex numbers is not supported")


def called(t: Any, key: str, arguments: Mapping[str, Any]) -> Any:
    """Call the function of an operator. If it needs a size as a number, the sizes become those of this call.

    Raises ArgumentError if it needs another number that the inputs decide.
    """
    try:
        return OPERATORS[key](t, **arguments)
    except TypeError as error:
        if not any(isinstance(value, Symbol) for value in leaves([*arguments.values()])):
            raise
        if (numbers := t.in_numbers(arguments)) != arguments:
            return called(t, key, numbers)
        name = key.removesuffix(".default")
        raise ArgumentError(f"a number that {name} needs depends on the inputs") from error


def ignore(t: Any, *arguments: Any, **named: Any) -> None:
    """Assertions and hints of torch.export have no results."""
