"""ONNX operators that the onnx package's evaluator runs too slowly, or not as the specification says."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

from ..errors import ArgumentError

AnyArray = NDArray[Any]


def described(node: onnx.NodeProto) -> str:
    """A node as errors name it."""
    name = node.name or ", ".join(filter(None, node.output))
    return f"node {name} ({node.domain + '.' if node.domain else ''}{node.op_type})"


class Scope(dict[str, Any]):
    """The values of a run by name, and which of them are the same in every run."""

    def __init__(self, values: Mapping[str, Any], constant: set[str]) -> None:
        super().__init__(values)
        self.constant = constant

    def within(self, names: Sequence[str], values: Sequence[Any]) -> "Scope":
        """The scope of a subgraph with values of its own."""
        return Scope(self | dict(zip(names, values, strict=True)), self.constant.difference(names))


class Loop(OpRun):
    """The package's joins the rounds along an axis that is there, and takes no condition for False."""

    op_domain = ""

    def need_context(self) -> bool:
        return True

    def _run(
        self, M: Any, cond: Any, *carried: Any, context: Scope, body: Any, attributes: Any = None
    ) -> tuple[Any, ...]:
        rounds: list[Any] = []
        goes_on = cond is None or bool(cond)
        while goes_on and (M is None or len(rounds) < M):
            values = [np.array(len(rounds), np.int64), np.array(True), *carried]
            goes_on, *results = body.run(None, context.within(body.input_names, values), attributes)
            carried, scanned = tuple(results[: len(carried)]), results[len(carried) :]
            rounds.append(scanned)
        return *carried, *_stacked(rounds, body, 1 + len(carried))


class Scan(OpRun):
    """The package's knows neither other axes than the first nor reverse directions."""

    op_domain = ""

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)
        if run_params["opsets"][""] < 9:
            raise ArgumentError(f"{described(node)} is of opset 8, which later ones broke with: convert it")

    def need_context(self) -> bool:
        return True

    def _run(
        self,
        *inputs: Any,
        context: Scope,
        body: Any,
        num_scan_inputs: int,
        attributes: Any = None,
        scan_input_axes: Sequence[int] | None = None,
        scan_input_directions: Sequence[int] | None = None,
        scan_output_axes: Sequence[int] | None = None,
        scan_output_directions: Sequence[int] | None = None,
    ) -> tuple[Any, ...]:
        carried, scanned = inputs[:-num_scan_inputs], inputs[-num_scan_inputs:]
        steps = [
            np.moveaxis(x, axis, 0)[:: -1 if backwards else 1]
            for x, axis, backwards in _each(scanned, scan_input_axes, scan_input_directions)
        ]
        rounds: list[Any] = []
        for values in zip(*steps, strict=True):
            results = body.run(None, context.within(body.input_names, (*carried, *values)), attributes)
            carried = tuple(results[: len(carried)])
            rounds.append(results[len(carried) :])
        outputs = _stacked(rounds, body, len(carried))
        return *carried, *(
            np.moveaxis(y[:: -1 if backwards else 1], 0, axis)
            for y, axis, backwards in _each(outputs, scan_output_axes, scan_output_directions)
        )


def _each(
    arrays: Sequence[AnyArray], axes: Sequence[int] | None, directions: Sequence[int] | None
) -> Iterator[tuple[AnyArray, int, int]]:
    none = [0] * len(arrays)
    return zip(arrays, axes or none, directions or none, strict=True)


def _stacked(rounds: list[Sequence[Any]], body: Any, first: int) -> list[AnyArray]:
    """What the rounds of a body gave along a new first axis; of no rounds, as the body declares it."""
    if rounds:
        return [np.stack(each) for each in zip(*rounds, strict=True)]
    declared = [kind.tensor_type for kind in body.output_types[first:]]
    return [
        np.zeros(
            [0, *(d.dim_value for d in kind.shape.dim)],
            onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type),
        )
        for kind in declared
    ]


class Conv(OpRun):
    """A product of matrices over windows that are never copied before; several times the package's speed."""

    op_domain = ""

    def _run(
        self,
        X: AnyArray,
        W: AnyArray,
        B: AnyArray | None = None,
        auto_pad: str = "NOTSET",
        dilations: Sequence[int] | None = None,
        group: int = 1,
        kernel_shape: Sequence[int] | None = None,
        pads: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
    ) -> tuple[AnyArray]:
        """X (N, C, *in), W (M, C / group, *kernel), B (M,) to Y (N, M, *out)."""
        kernel, axes = W.shape[2:], range(2, X.ndim)
        strides, dilations = strides or [1] * len(kernel), dilations or [1] * len(kernel)
        if X.ndim < 3 or X.ndim != W.ndim or X.shape[1] != W.shape[1] * group or W.shape[0] % group:
            raise ArgumentError(f"X has shape {X.shape}, W {W.shape}, which group={group} does not join")
        extent = [(k - 1) * dilation + 1 for k, dilation in zip(kernel, dilations, strict=True)]
        padding = _padding(auto_pad, pads, X.shape[2:], extent, strides)
        padded = np.pad(X, [(0, 0), (0, 0), *padding])
        windows = np.lib.stride_tricks.sliding_window_view(padded, extent, tuple(axes))
        every = [slice(None, None, stride) for stride in strides] + [
            slice(None, None, dilation) for dilation in dilations
        ]
        windows = windows[(slice(None), slice(None), *every)]
        out = windows.shape[2 : X.ndim]
        # (N, group, positions, terms) times (group, terms, M / group)
        columns = np.moveaxis(windows, 1, X.ndim - 1).reshape(len(X), math.prod(out), group, -1)
        weights = W.reshape(group, W.shape[0] // group, -1).swapaxes(1, 2)
        y = (columns.swapaxes(1, 2) @ weights).swapaxes(2, 3).reshape(len(X), len(W), *out)
        if B is not None:
            y = y + B.reshape(-1, *[1] * len(out))
        return (y.astype(X.dtype, copy=False),)


def _padding(
    auto_pad: str,
    pads: Sequence[int] | None,
    sizes: Sequence[int],
    extent: Sequence[int],
    strides: Sequence[int],
) -> list[tuple[int, int]]:
    """Zeros before and after each axis."""
    if auto_pad == "NOTSET":
        pads = pads or [0] * 2 * len(sizes)
        return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
    if auto_pad == "VALID":
        return [(0, 0)] * len(sizes)
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise ArgumentError(f"auto_pad={auto_pad!r} is not known")
    total = [
        max(0, (-(-size // stride) - 1) * stride + n - size)
        for size, n, stride in zip(sizes, extent, strides, strict=True)
    ]
    more, less = [n - n // 2 for n in total], [n // 2 for n in total]
    before, after = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
    return list(zip(before, after, strict=True))
