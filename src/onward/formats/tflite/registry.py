"""The tables of operators, the values that they take, and the calls that they translate.

An operator is a function of a `Call` and its inputs, expressions or None, and returns its outputs. `FLOATS`
holds those of real numbers, `INTEGERS` those of integers with scales, `COMPLEX` those of complex numbers, and
`ANY` those that treat all others alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError
from ...graph.node import AnyArray
from ...graph.operations.integer_expressions import IntegerExpression
from .read import OMITTED, Operator, Subgraph, Tensor
from .schema import ACTIVATIONS

if TYPE_CHECKING:
    from .translate import Translator

Function = Callable[..., Any]
Table = dict[str, Function]
FLOATS: Table = {}
INTEGERS: Table = {}
COMPLEX: Table = {}
ANY: Table = {}
FLOAT32, INT32, INT64 = np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.int64)


def operator(table: Table, names: str) -> Callable[[Function], Function]:
    """Register a function as several operators, whose names are separated by spaces."""

    def register(function: Function) -> Function:
        table.update(dict.fromkeys(names.split(), function))
        return function

    return register


class Value(IntegerExpression):
    """A tensor, or what is computed from tensors."""

    t: Translator

    @property
    def known(self) -> AnyArray | None:
        """The array of a constant, or None."""
        return self.t.known(self.name)

    def typed(self, operation: str, dtypes: Sequence[Any], *others: Any, **attributes: Any) -> list[Value]:
        """Return several outputs of an operation, of these dtypes."""
        operands = (self.name, *map(self._operand, others))
        names = self.t.add_all(operation, operands, len(dtypes), **attributes)
        return [Value(self.t, name, np.dtype(dtype)) for name, dtype in zip(names, dtypes, strict=True)]

    def reshaped(self, *shape: int) -> Value:
        """Return the elements in another shape; one size may be -1."""
        return self.apply("Reshape", list(shape), allowzero=1)  # type: ignore[return-value]  # of this class

    def permuted(self, *perm: int) -> Value:
        """Return the axes in another order."""
        return self.apply("Transpose", perm=list(perm))  # type: ignore[return-value]  # of this class


class Call:
    """One operator: the tensors that it takes (None if omitted) and returns, and its options."""

    def __init__(self, t: Translator, subgraph: Subgraph, operator: Operator) -> None:
        self.t, self.operator, self.options = t, operator, operator.options
        self.given = [None if n == OMITTED else subgraph.tensors[n] for n in operator.inputs]
        self.results: list[Tensor] = [subgraph.tensors[n] for n in operator.outputs if n != OMITTED]
        self.intermediates: list[Tensor] = [subgraph.tensors[n] for n in operator.intermediates]
        self.inputs: Sequence[Any] = ()

    @property
    def y(self) -> Tensor:
        """The first tensor that it returns."""
        if not self.results:
            raise ArgumentError("it has no output; expected one")
        return self.results[0]

    @property
    def activation(self) -> str:
        """The name of the activation function, "" without one."""
        number = getattr(self.options, "activation", 0)
        return ACTIVATIONS.get(number, str(number))

    def tensor(self, place: int) -> Tensor:
        """Return the tensor of an input that must exist."""
        tensor: Tensor | None = self.given[place] if place < len(self.given) else None
        if tensor is None:
            raise ArgumentError(f"its input {place} is omitted; expected a tensor")
        return tensor

    def optional(self, place: int) -> Value | None:
        """Return an input, or None if it is omitted."""
        return self.inputs[place] if place < len(self.inputs) else None

    def shape(self, place: int) -> list[int]:
        """Return the sizes of an input, -1 for an open one."""
        return list(self.tensor(place).axes)

    def constant(self, value: Any, dtype: Any = FLOAT32) -> Value:
        """Return a constant."""
        return Value(self.t, self.t.cast(value, dtype), np.dtype(dtype))

    def array(self, x: Value | None, what: str) -> AnyArray:
        """Return the array of an input that must be constant. Raises ArgumentError."""
        if x is None or x.known is None:
            raise ArgumentError(f"its {what} must be constant")
        return x.known

    def numbers(self, x: Value | None, what: str) -> list[int]:
        """Return the integers of an input that must be constant."""
        return [int(number) for number in self.array(x, what).ravel()]

    def refuse(self, reason: str) -> ArgumentError:
        """Return the error for options that are not supported."""
        return ArgumentError(f"{reason} is not supported")


def activated(call: Call, y: Value, function: str | None = None) -> Value:
    """Apply the activation of a call, or another one, to real numbers."""
    name = call.activation if function is None else function
    if name in BOUNDS:
        low, high = BOUNDS[name]
        return y.apply("Clip", low, high) if high is not None else y.apply("Relu")  # type: ignore[return-value]
    if name in ("", "TANH"):
        return y.apply("Tanh") if name else y  # type: ignore[return-value]  # of this class
    raise call.refuse(f"the activation {name}")


BOUNDS: dict[str, tuple[float, float | None]] = {
    **{"RELU": (0, None), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)},
}
