"""Operators of ONNX that the onnx package runs otherwise than their specification, or not at all."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from ...errors import ArgumentError
from ...layers.norm import channels_of
from .layer_operators import Operator
from .operators import AnyArray, described, floats


def divided(A: AnyArray, B: AnyArray) -> AnyArray:
    """A / B, of integers the whole part."""
    whole: AnyArray = (A - np.fmod(A, B)) // B if A.dtype.kind in "iu" else A / B
    return whole


BINARY: dict[str, Callable[[AnyArray, AnyArray], AnyArray]] = {
    **{"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": divided, "Pow": np.power},
    **{"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor},
    **{"Equal": np.equal, "Greater": np.greater, "Less": np.less},
}


class Corrected(Operator):
    """An operator of opsets before `until`."""

    op_schema = None  # today's: each has the attributes and defaults of its own time
    linked = True
    until = math.inf

    @classmethod
    def takes(cls, attributes: dict[str, Any], outputs: int, opset: int) -> bool:
        return opset < cls.until


class Aligned(Corrected):
    """An operator of two arrays before opset 7, when B could say at which axis of A it begins."""

    until = 7

    def _run(
        self,
        A: AnyArray,
        B: AnyArray,
        axis: int | None = None,
        broadcast: int = 0,
        consumed_inputs: Any = None,
    ) -> tuple[AnyArray]:
        if axis is not None and broadcast:
            meets = A.shape[axis : axis + B.ndim] if axis >= 0 else ()
            if len(meets) != B.ndim or any(n not in (1, m) for n, m in zip(B.shape, meets, strict=True)):
                raise ArgumentError(f"B has shape {B.shape}, which axis={axis} of A {A.shape} does not begin")
            B = B.reshape(*B.shape, *[1] * (A.ndim - axis - B.ndim))
        return (BINARY[self.op_type](A, B),)


class PRelu(Corrected):
    """Before opset 7, when slopes were of channels, or one of all."""

    until = 7

    def _run(self, X: AnyArray, slope: AnyArray, consumed_inputs: Any = None) -> tuple[AnyArray]:
        slopes = slope.reshape(() if slope.size == 1 else channels_of(X))
        return (np.where(X < 0, slopes * X, X),)


class LRN(Corrected):
    """X / (bias + alpha / size * sum of X^2 over the `size` channels around)^beta"""

    def _run(
        self, X: AnyArray, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
    ) -> tuple[AnyArray]:
        x = floats("X", X)
        before, after = (size - 1) // 2, size // 2
        squares = np.square(x)
        sums = [squares[:, max(0, c - before) : c + after + 1].sum(1) for c in range(x.shape[1])]
        y = x / (bias + alpha / size * np.stack(sums, 1)) ** beta
        return (y.astype(X.dtype, copy=False),)


class LpNormalization(Corrected):
    """X / |X|_p along an axis, or 0 where that is all 0."""

    def _run(self, X: AnyArray, axis: int = -1, p: int = 2) -> tuple[AnyArray]:
        x = floats("X", X)
        sums = (np.abs(x) if p == 1 else np.square(x)).sum(axis, keepdims=True)
        norm = sums if p == 1 else np.sqrt(sums)
        return (np.divide(x, norm, out=np.zeros_like(x), where=norm != 0).astype(X.dtype, copy=False),)


class DequantizeLinear(Corrected):
    """(x - x_zero_point) x_scale, which the onnx package has from opset 19 on."""

    until = 19

    def _run(
        self, x: AnyArray, x_scale: AnyArray, x_zero_point: AnyArray | None = None, axis: int = 1
    ) -> tuple[AnyArray]:
        shape = [-1 if place == axis % x.ndim else 1 for place in range(x.ndim)]
        given = (x_scale, x_zero_point)
        scale, zero_point = (a if a is None or a.size == 1 else a.reshape(shape) for a in given)
        steps = x.astype(np.int64) - (0 if zero_point is None else zero_point)
        return (steps.astype(x_scale.dtype) * scale,)


class Pad(Corrected):
    """As the onnx package's, which takes nothing away where `pads` are negative."""

    linked = False  # of `mode`, others are left to it

    @classmethod
    def takes(cls, attributes: dict[str, Any], outputs: int, opset: int) -> bool:
        return opset >= 11 and attributes.get("mode", b"constant") == b"constant"

    def _run(
        self,
        data: AnyArray,
        pads: AnyArray,
        constant_value: AnyArray | None = None,
        axes: AnyArray | None = None,
        mode: str = "constant",
    ) -> tuple[AnyArray]:
        sides = np.zeros((data.ndim, 2), np.int64)
        sides[slice(None) if axes is None else axes] = pads.reshape(2, -1).T
        kept = tuple(slice(max(0, -b), n - max(0, -a)) for n, (b, a) in zip(data.shape, sides, strict=True))
        value = 0 if constant_value is None else constant_value.item()
        return (np.pad(data[kept], sides.clip(0), constant_values=value),)


class GlobalMaxPool(Corrected):
    """The largest number of each channel; of X (N, C, T), the onnx package reduces the channels too."""

    def _run(self, X: AnyArray) -> tuple[AnyArray]:
        return (X.max(axis=tuple(range(2, X.ndim)), keepdims=True),)


class RoiAlign(Corrected):
    """Before opset 16 its samples lay half a pixel off those of today's default."""

    until = 16

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        raise ArgumentError(f"{described(node)} is of an opset before 16, which broke with them: convert it")

    def _run(self, *inputs: AnyArray) -> tuple[AnyArray]:
        raise NotImplementedError


CORRECTED: dict[str, type[Operator]] = {
    **{
        own.__name__: own
        for own in (PRelu, LRN, LpNormalization, DequantizeLinear, Pad, GlobalMaxPool, RoiAlign)
    },
    **dict.fromkeys(BINARY, Aligned),
}
