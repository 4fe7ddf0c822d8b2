"""How integers stand for real numbers, and the writer of the graph that computes with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..node import AnyArray, Node
from ..operations.integer_expressions import IntegerExpression


class Form(NamedTuple):
    """Integers q that stand for scale (q - zero_point). Those of 16 bits are in int32."""

    scale: float
    zero_point: int = 0
    bits: int = 8

    @classmethod
    def of(cls, low: float, high: float) -> Form:
        """Return the form of 8 bits for numbers from low to high, which include 0."""
        scale = float(np.float32((high - low) / 255)) or 1.0
        return cls(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))

    @classmethod
    def of_16_bits(cls, size: float) -> Form:
        """Return the form for numbers from -size to size, whose scale is a power of two."""
        exponent = int(np.ceil(np.log2(max(size, 2.0**-8))))
        return cls(2.0 ** (exponent - 15), 0, 16)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the integers."""
        return np.dtype(np.int8 if self.bits == 8 else np.int32)

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer."""
        return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1

    def quantized(self, x: AnyArray) -> AnyArray:
        """Return real numbers as integers."""
        steps = np.rint(np.nan_to_num(x.astype(np.float64)) / self.scale) + self.zero_point
        found: AnyArray = np.clip(steps, *self.limits).astype(self.dtype)
        return found

    def real(self, q: AnyArray) -> AnyArray:
        """Return integers as real numbers."""
        return ((q.astype(np.float64) - self.zero_point) * self.scale).astype(np.float32)


Q15 = Form(2.0**-15, 0, 16)  # from -1 to 1
Q12 = 2.0**-12  # the scale of the arguments of gates, which reach from -8 to 8


def matrix(W: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Return rows as int8, from -127 to 127, and their scales."""
    largest = np.abs(W.reshape(len(W), -1)).max(1, initial=0).astype(np.float64)
    scales = np.where(largest > 0, largest / 127, 1.0)
    q = np.rint(W / scales.reshape(-1, *[1] * (W.ndim - 1)))
    return np.clip(q, -127, 127).astype(np.int8), scales


class Integers(IntegerExpression):
    """Integers in a graph that is being written."""

    t: Writer

    def scaled(self, value: Any, form: Form, limits: tuple[int, int] | None = None) -> Any:
        """Return int32 times a factor, or one for each unit, in the integers of a form."""
        return self.times(value, form.dtype, limits or form.limits, form.zero_point)


def times(x: Integers, form: Form, rows: AnyArray, bias: AnyArray) -> tuple[Any, AnyArray]:
    """Return exact sums of the products of x with rows, plus a bias, and the scales of the units."""
    W, scales = matrix(rows)
    scales = scales * form.scale
    sums = x.product(W.T, form.zero_point)
    start = steps_of(bias, scales)
    return (sums + sums.number(start, np.int32) if start.any() else sums), scales


def steps_of(bias: AnyArray, scales: AnyArray) -> AnyArray:
    """Return a bias in steps of the scales."""
    return np.clip(np.rint(bias / scales), -(2**30), 2**30).astype(np.int32)


class Writer:
    """Nodes and constants of a graph that is being written."""

    def __init__(self, prefix: str = "int8") -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, AnyArray] = {}
        self.label = "", ""  # the name and the source of the node that becomes others
        self._prefix = prefix
        self._known: dict[Any, str] = {}
        self._count = 0

    def new_name(self) -> str:
        """Return a name that no other value has."""
        self._count += 1
        return f"{self._prefix}/{self._count}"

    def cast(self, value: Any, dtype: Any) -> str:
        """Return the name of a constant."""
        array = np.ascontiguousarray(np.asarray(value).astype(dtype)).reshape(np.shape(value))
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._known:
            self._known[key] = name = self.new_name()
            self.constants[name] = array
        return self._known[key]

    def add(self, operation: str, *inputs: Any, **attributes: Any) -> str:
        """Add an operation with one output."""
        return self.add_all(operation, inputs, 1, **attributes)[0]

    def add_all(
        self, operation: str, inputs: Sequence[Any], outputs: int, **attributes: Any
    ) -> tuple[str, ...]:
        """Add an operation; inputs are names, None, or lists of integers."""
        names = tuple(
            x if isinstance(x, str) else "" if x is None else self.cast(x, np.int64) for x in inputs
        )
        made = tuple(self.new_name() for _ in range(outputs))
        self.nodes.append(Node(operation, names, made, attributes, *self.label))
        return made
