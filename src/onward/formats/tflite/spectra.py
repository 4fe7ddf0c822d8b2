"""Fourier transforms and complex numbers, whose two parts are the last axis of an array in the graph."""

from __future__ import annotations

from typing import Any

from ...graph.operations.expressions import sqrt
from .registry import COMPLEX, FLOATS, Call, Value, operator


@operator(FLOATS, "RFFT2D")
def rfft2d(call: Call, x: Value, sizes: Value) -> Any:
    """The Fourier transform of the last two axes, padded or cropped; half of the last one."""
    height, width = call.numbers(sizes, "sizes")
    y: Any = x.apply("Unsqueeze", [-1]).apply("DFT", width, -2, onesided=1)
    return y if height == call.shape(0)[-2] == 1 else y.apply("DFT", height, -3)


def _part(x: Value, place: int) -> Any:
    return x.apply("Gather", x.number(place, int), axis=-1)


@operator(COMPLEX, "REAL IMAG")
def part(call: Call, x: Value) -> Any:
    return _part(x, ("REAL", "IMAG").index(call.operator.kind))


@operator(COMPLEX, "COMPLEX_ABS")
def absolute(call: Call, x: Value) -> Any:
    real, imaginary = _part(x, 0), _part(x, 1)
    return sqrt(real * real + imaginary * imaginary)


@operator(COMPLEX, "RESHAPE SQUEEZE EXPAND_DIMS")
def reshape(call: Call, x: Value, *others: Value) -> Any:
    return x.reshaped(*call.y.axes, 2)
