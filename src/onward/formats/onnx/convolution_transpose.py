"""ONNX's ConvTranspose, whose groups the onnx package runs otherwise than its specification."""

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from ... import _core
from ...errors import ArgumentError
from .corrected import Corrected
from .operators import AnyArray, Cached, floats


class ConvTranspose(Corrected):
    """Y[n, m, s i + d k - pad] sums X[n, c, i] W[c, m, k] over the channels c of m's group, plus B[m]."""

    linked = False

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, object]) -> None:
        OpRun.__init__(self, node, run_params)
        group = getattr(self, "group", 1)
        self._products = Cached(
            lambda W: [
                # every output channel at every place of the kernel, from the channels of one group
                _core.Dense(np.ascontiguousarray(part.reshape(len(part), -1).T), None)
                for part in np.split(floats("W", W), group)
            ]
        )

    def _run(
        self,
        X: AnyArray,
        W: AnyArray,
        B: AnyArray | None = None,
        auto_pad: str = "NOTSET",
        dilations: Sequence[int] | None = None,
        group: int = 1,
        kernel_shape: Sequence[int] | None = None,
        output_padding: Sequence[int] | None = None,
        output_shape: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> tuple[AnyArray]:
        """X (N, C, *in), W (C, M / group, *kernel), B (M,) to Y (N, M, *out)."""
        x, kernel = floats("X", X), W.shape[2:]
        axes = len(kernel)
        if X.ndim != W.ndim or X.ndim < 3 or X.shape[1] != W.shape[0] or W.shape[0] % group:
            raise ArgumentError(f"X has shape {X.shape}, W {W.shape}, which do not fit with group={group}")
        steps, apart = list(strides or [1] * axes), list(dilations or [1] * axes)
        sizes = zip(x.shape[2:], kernel, steps, apart, output_padding or [0] * axes, strict=True)
        whole = [(n - 1) * s + (k - 1) * d + 1 + more for n, k, s, d, more in sizes]
        if auto_pad in ("SAME_UPPER", "SAME_LOWER") and not output_shape:
            output_shape = [n * s for n, s in zip(x.shape[2:], steps, strict=True)]
        if output_shape:
            total = [n - out for n, out in zip(whole, output_shape[-axes:], strict=True)]
            half = [n // 2 for n in total]
            before = half if auto_pad == "SAME_UPPER" else [n - h for n, h in zip(total, half, strict=True)]
            sides = [(b, n - b) for b, n in zip(before, total, strict=True)]
        else:
            given = list(pads or [0] * 2 * axes) if auto_pad == "NOTSET" else [0] * 2 * axes
            sides = list(zip(given[:axes], given[axes:], strict=True))

        y = np.zeros((len(x), W.shape[1] * group, *whole), x.dtype)
        channels, outputs = W.shape[0] // group, W.shape[1]
        for number, dense in enumerate(self._products(W)):
            rows = np.moveaxis(x[:, number * channels : (number + 1) * channels], 1, -1)
            parts = np.empty((math.prod(rows.shape[:-1]), outputs * math.prod(kernel)), x.dtype)
            dense.forward(np.ascontiguousarray(rows).reshape(-1, channels), parts)
            taps = np.moveaxis(parts.reshape(*rows.shape[:-1], outputs, *kernel), axes + 1, 1)
            own = y[:, number * outputs : (number + 1) * outputs]
            for place in np.ndindex(*kernel):
                there = zip(place, apart, x.shape[2:], steps, strict=True)
                target = tuple(slice(k * d, k * d + (n - 1) * s + 1, s) for k, d, n, s in there)
                own[(slice(None), slice(None), *target)] += taps[(..., *place)]
        cropped = tuple(slice(max(0, b), n - max(0, a)) for n, (b, a) in zip(whole, sides, strict=True))
        y = y[(slice(None), slice(None), *cropped)]
        if any(min(side) < 0 for side in sides):
            y = np.pad(y, [(0, 0), (0, 0), *((max(0, -b), max(0, -a)) for b, a in sides)])
        if B is not None:
            y = y + floats("B", B).reshape(-1, *[1] * axes)
        return (np.ascontiguousarray(y).astype(X.dtype, copy=False),)
