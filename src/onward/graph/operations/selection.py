"""Operations that compare the elements along an axis: the largest, the sorted, the distinct."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...core import budget
from ...errors import ArgumentError
from ..node import AnyArray, Operand, Signature, with_size
from ..plan.builder import Builder
from ..plan.view import DTYPES, View
from .arguments import as_axis, as_integers
from .compositions import composed
from .creation import places_along
from .indexing import with_open_size
from .registry import EVERY_INPUT, along_axis, operation, reading

INT64: np.dtype[Any] = np.dtype(np.int64)


def _arg_signature(x: Operand, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Signature:
    axis = as_axis(axis, len(x.shape))
    kept = (1,) if keepdims else ()
    return Signature((*x.shape[:axis], *kept, *x.shape[axis + 1 :]), INT64)


def _define_arg(name: str, function: Any) -> None:
    @operation(name, signature=_arg_signature, combines=along_axis())
    def compute(x: AnyArray, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Any:
        if select_last_index:
            return x.shape[axis] - 1 - function(np.flip(x, axis), axis, keepdims=bool(keepdims))
        return function(x, axis, keepdims=bool(keepdims))

    @compute.steps(DTYPES)
    def _(b: Builder, x: View, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> View:
        place = as_axis(axis, len(x.shape))
        rows = x.reversed(place) if select_last_index else x
        _, indices = _top(b, rows, place, 1, name == "ArgMax", nan_first=True)
        if select_last_index:
            indices = b.binary("subtract", b.scalar(x.shape[place] - 1, "int64"), indices)
        return indices if keepdims else b.reshaped(indices, *x.shape[:place], *x.shape[place + 1 :])


_define_arg("ArgMax", np.argmax)
_define_arg("ArgMin", np.argmin)


@composed("Hardmax")
def hardmax(x: Any, *, axis: int = -1) -> Any:
    """1 at the first of the largest elements along the axis, 0 elsewhere."""
    return x.apply("ArgMax", axis=axis).equals(places_along(x, axis)).cast(x.dtype)


def _top_k_signature(x: Operand, k: AnyArray, *, axis: int = -1, **attributes: Any) -> list[Signature]:
    axis, count = as_axis(axis, len(x.shape)), as_integers(k)[0]
    if not 0 <= count <= x.shape[axis]:
        raise ArgumentError(f"k={count}; expected 0 to {x.shape[axis]}, the size of axis {axis}")
    values = with_size(x, axis, count)
    return [values, values.of_dtype(INT64)]


@operation("TopK", signature=_top_k_signature, shape_inputs=(1,), combines=along_axis(-1, of_all=False))
def top_k(x: AnyArray, k: AnyArray, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Any, ...]:
    """The k largest or smallest elements, sorted, and their indices; equal elements stay in order."""
    _top_k_signature(x, k, axis=axis)
    if largest:  # sort backward and reverse, because negated integers may overflow
        order = x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis, kind="stable")
        order = np.flip(order, axis)
    else:
        order = np.argsort(x, axis, kind="stable")
    order = np.take(order, np.arange(as_integers(k)[0]), axis)
    return np.take_along_axis(x, order, axis), order


@top_k.steps(DTYPES, views=(0,))
def _(b: Builder, x: View, k: AnyArray, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> list[View]:
    return list(_top(b, x, as_axis(axis, len(x.shape)), k.item(), bool(largest), nan_first=bool(largest)))


def _top(b: Builder, x: View, axis: int, k: Any, largest: bool, nan_first: bool) -> tuple[View, View]:
    """Return the k largest or smallest elements along an axis, in order, and their indices."""
    axes = (*(other for other in range(len(x.shape)) if other != axis), axis)
    rows = b.contiguous(x.permuted(*axes))
    values, indices = (b.new(*rows.shape[:-1], k, dtype=dtype) for dtype in (x.dtype, "int64"))
    b.add("top", largest, nan_first, rows, values, indices)
    back = np.argsort(axes)
    return values.permuted(*back), indices.permuted(*back)


@operation("Unique", shape_inputs=EVERY_INPUT)
def unique(x: AnyArray, *, axis: int | None = None, sorted: int = 1) -> tuple[Any, ...]:
    """The distinct elements or slices, their first indices, the inverse indices, and the counts."""
    if axis is None:
        x, axis = x.ravel(), 0
    y, first, inverse, counts = np.unique(x, True, True, True, axis=axis if x.ndim > 1 else None)
    inverse = inverse.reshape(-1)
    if not sorted:
        order = np.argsort(first)
        y, first, counts = np.take(x, first[order], axis), first[order], counts[order]
        inverse = np.argsort(order)[inverse]
    return y, first.astype(np.int64), inverse.astype(np.int64), counts.astype(np.int64)


@unique.ranking
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Sequence[Signature]:
    x, axis, indices = inputs[0], attributes.get("axis"), Signature((None,), np.dtype(np.int64))
    inverse = math.prod(x.shape) if axis is None else x.shape[axis]
    return [with_open_size(x, axis), indices, Signature((inverse,), indices.dtype), indices]


@operation("NonMaxSuppression", shape_inputs=EVERY_INPUT)
def non_max_suppression(
    boxes: AnyArray, scores: AnyArray, max_output_boxes_per_class: AnyArray | None = None, iou_threshold:
    AnyArray | None = None, score_threshold: AnyArray | None = None, *, center_point_box: int = 0,
) -> Any:  # fmt: skip
    """The boxes with the best scores that overlap little, as rows (batch, class, box).

    Boxes are (y1, x1, y2, x2), or (x, y, width, height) if `center_point_box`. Scores have the shape (N,
    classes, boxes).
    """
    limit = 0 if max_output_boxes_per_class is None else int(max_output_boxes_per_class.item())
    overlap = 0.0 if iou_threshold is None else float(iou_threshold.item())
    least = -np.inf if score_threshold is None else float(score_threshold.item())
    if center_point_box:
        centers, halves = boxes[..., :2], boxes[..., 2:] / 2
        corners = np.stack([centers - halves, centers + halves], -2)
    else:
        corners = np.sort(boxes.reshape(*boxes.shape[:2], 2, 2), -2)
    selected = []
    for batch, kind in np.ndindex(scores.shape[:2]):
        chosen: list[int] = []
        for box in np.argsort(-scores[batch, kind], kind="stable"):
            if len(chosen) == limit or scores[batch, kind, box] <= least:
                break
            if not any(_iou(corners[batch, box], corners[batch, other]) > overlap for other in chosen):
                chosen.append(int(box))
        selected += [(batch, kind, box) for box in chosen]
    return np.array(selected, np.int64).reshape(-1, 3)


def _iou(a: AnyArray, b: AnyArray) -> Any:
    """Return the area of the intersection of two boxes, divided by the area of their union."""
    sides = np.maximum(0, np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]))
    common = np.prod(sides)
    union = np.prod(a[1] - a[0]) + np.prod(b[1] - b[0]) - common
    return common / union if union > 0 else 0.0


reading("TopK", "Unique")(lambda inputs, attributes: 32)


@non_max_suppression.reading
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Python compares each box with those that were chosen before."""
    return budget.STEP * inputs[0].shape[1]
