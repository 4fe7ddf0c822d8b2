"""Interpolation at evenly spaced coordinates: Resize.

Coordinates are computed in float32, as in onnxruntime and PyTorch: in float64, ties have other neighbors.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..size import Size, hint, is_symbolic
from ..sized import as_numbers
from .arguments import as_integers
from .compositions import DataDependent, composed
from .expressions import maximum, where
from .registry import along_time

EXACT = 1 << 22  # float32 represents halves of smaller numbers
MAX_TAPS = 16  # elements that the core adds
RADII = {"linear": 1, "cubic": 2}  # how far the elements of an interpolation lie from its coordinate
NEAREST = {  # what is added to a coordinate, and the function that rounds it
    "floor": (0, "Floor"),
    "ceil": (0, "Ceil"),
    "round_prefer_floor": (-0.5, "Ceil"),
    "round_prefer_ceil": (0.5, "Floor"),
}


class Axis(NamedTuple):
    """The resizing of one axis; `roi` is its region of interest, from 0 to 1.

    Coordinates are quotients by the scale, as in ONNX, or multiples of a step, as in PyTorch, whose linear
    and antialiased interpolation `keeps` the elements of an axis that keeps its size.
    """

    axis: int
    before: Any
    after: Any
    scale: np.float32 | None  # None: the quotient of two sizes that a call decides
    roi: tuple[float, float] = (0.0, 1.0)
    step: float | None = None  # 0: the quotient of the sizes
    keeps: bool = False

    @property
    def changes(self) -> bool:
        if self.step is not None:
            return (not self.keeps and self.step not in (0, 1)) or bool(self.after != self.before)
        return self.scale != 1 or self.roi != (0.0, 1.0) or bool(self.after != self.before)


def is_absent(values: Operand | None) -> bool:
    """Whether an optional input is omitted, or empty."""
    return values is None or 0 in values.shape


def resized_axes(
    shape: Sequence[int], scales: Any, sizes: Any, options: Mapping[str, Any], roi: Any = None
) -> list[Axis]:
    """Return the axes that Resize lists. Raises ArgumentError for inputs that do not match."""
    axes = options.get("axes")
    places = [int(axis) % len(shape) for axis in (range(len(shape)) if axes is None else axes)]
    befores, n = [shape[axis] for axis in places], len(places)
    if is_absent(scales) == is_absent(sizes):
        raise ArgumentError("Resize takes either scales or sizes")
    given = sizes if is_absent(scales) else scales
    if len(given) != n:
        raise ArgumentError(f"Resize has {len(given)} scales or sizes for {n} axes")
    policy, steps = options.get("keep_aspect_ratio_policy", "stretch"), _steps(options, n)
    afters, factors = _by_scales(befores, scales) if given is scales else _to_sizes(befores, sizes, policy)
    factors = [1 / step if step else factor for factor, step in zip(factors, steps, strict=True)]
    singles = [None if factor is None else np.float32(factor) for factor in factors]
    regions = [(0.0, 1.0)] * n
    if roi is not None and roi.size:
        regions = [(float(roi[i]), float(roi[n + i])) for i in range(n)]
    keeps = [options.get("mode") == "linear" or bool(options.get("antialias"))] * n
    return list(map(Axis, places, befores, afters, singles, regions, steps, keeps))


def _by_scales(befores: Sequence[Any], scales: Any) -> tuple[list[Any], list[Any]]:
    """Return the sizes after scaling, and the scales as numbers."""
    factors = [float(scale) for scale in scales]
    if not all(0 < factor < math.inf for factor in factors):
        raise ArgumentError(f"scales={factors}; expected positive numbers")
    return [_scaled(*pair) for pair in zip(befores, factors, strict=True)], factors


def _to_sizes(befores: Sequence[Any], sizes: Any, policy: str) -> tuple[list[Any], list[Any]]:
    """Return the sizes after resizing, which have one aspect ratio unless they are stretched, and factors."""
    afters = as_integers(sizes)
    if any(after > 0 == before for before, after in zip(befores, afters, strict=True)):
        raise ShapeError(f"axes of sizes {befores} cannot be resized to {afters}: one is empty")
    is_stretched = policy == "stretch"
    factors = [_ratio(*pair, is_stretched) for pair in zip(afters, befores, strict=True)]
    if is_stretched:
        return afters, factors
    if policy not in ("not_larger", "not_smaller"):
        raise ArgumentError(f"keep_aspect_ratio_policy={policy!r}; expected stretch, not_larger, not_smaller")
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [int(factor * before + 0.5) for before in befores], [factor] * len(befores)


def _steps(options: Mapping[str, Any], n: int) -> list[float | None]:
    """Return the steps of the axes, None for those whose coordinates are quotients by the scale."""
    steps: list[float | None] = list(options.get("steps") or [None] * n)
    if len(steps) != n or not all(step is None or 0 <= step < math.inf for step in steps):
        raise ArgumentError(
            f"steps={steps}; expected {n} positive numbers, or 0 for the quotient of the sizes"
        )
    return steps


def _scaled(before: Any, factor: float) -> Any:
    """Return the size of an axis after scaling, the product in float32 without its fraction."""
    numerator, denominator = factor.as_integer_ratio()
    is_exact = type(before) is Size and denominator == 1
    if is_exact or numerator * before < EXACT:
        return numerator * before // denominator
    return int(np.float32(factor) * np.float32(before))


def _ratio(after: Any, before: Any, may_vary: bool) -> Any:
    """Return the growth of the size of an axis; None if it differs from call to call and may do so."""
    factor = after // before if before else 1
    if type(factor) is int and after == factor * before:
        return float(factor)
    return None if may_vary and is_symbolic((after, before)) else after / before


def _resize_signature(
    x: Operand, roi: Any = None, scales: Any = None, sizes: Any = None, **options: Any
) -> Signature:
    shape = list(x.shape)
    for item in resized_axes(x.shape, scales, sizes, options):
        shape[item.axis] = item.after
    return Signature(tuple(shape), x.dtype)


@composed(
    "Resize",
    signature=_resize_signature,
    shape_inputs=(2, 3),
    attributes=("axes", "keep_aspect_ratio_policy", "steps"),
    widens=True,
)
def resize(
    x: Any, roi: Any = None, scales: Any = None, sizes: Any = None, *, antialias: int = 0,
    coordinate_transformation_mode: str = "half_pixel", cubic_coeff_a: float = -0.75, exclude_outside: int =
    0, extrapolation_value: float = 0.0, mode: str = "nearest", nearest_mode: str = "round_prefer_floor",
    **options: Any,
) -> Any:  # fmt: skip
    """x interpolated by scales or to sizes, one axis after the other; for `steps`, see `Axis`."""
    if mode not in ("nearest", *RADII):
        raise ArgumentError(f"mode={mode!r}; expected nearest, linear or cubic")
    if nearest_mode not in NEAREST:
        raise ArgumentError(f"nearest_mode={nearest_mode!r}; expected one of {', '.join(NEAREST)}")
    crops = coordinate_transformation_mode == "tf_crop_and_resize"
    parts = [None if part is None else part.known for part in (scales, sizes, roi if crops else None)]
    if Signature in map(type, parts):
        raise DataDependent
    shape, options = x.shape, options | {"mode": mode, "antialias": antialias}
    if crops or antialias or exclude_outside:  # their weights need numbers
        shape, parts = tuple(map(int, shape)), list(map(as_numbers, parts))
    listed = resized_axes(shape, parts[0], parts[1], options, parts[2])
    changed = [(place, item) for place, item in enumerate(listed) if item.changes]
    outside, y = None, x if mode == "nearest" or x.dtype.kind == "f" else x.cast(np.float32)
    for place, item in sorted(changed, key=_order) if mode == "nearest" else changed:
        modes = mode, coordinate_transformation_mode, nearest_mode
        if type(item.before) is Size and _repeats(item, *modes):  # in one step, without computed places
            y = _repeated(y, item)
            continue
        at = _coordinates(coordinate_transformation_mode, item, x, sizes, place)
        if mode == "nearest":
            y = _element(y, item, _nearest(at, nearest_mode))
        elif antialias or exclude_outside:
            y = _filtered(y, item, at, mode, antialias, cubic_coeff_a, exclude_outside)
        else:
            y = _interpolated(y, item, at, mode, np.float32(cubic_coeff_a))
        if crops:
            beyond = _along((at < 0) | (at > item.before - 1), item.axis, x.rank)
            outside = beyond if outside is None else outside | beyond
    y = y if outside is None else where(outside, extrapolation_value, y)
    if x.dtype.kind in "iu" and y.dtype != x.dtype:
        y = maximum(y, np.iinfo(x.dtype).min).apply("Min", np.iinfo(x.dtype).max)
    return y.cast(x.dtype)


def _order(numbered: tuple[int, Axis]) -> tuple[bool, int]:
    """Sort the axes that grow behind the others, the last one first, so that rows move as a whole."""
    item = numbered[1]
    grows = hint(item.after) > hint(item.before)
    return grows, -item.axis if grows else item.axis


def _repeated(x: Any, item: Axis) -> Any:
    """Repeat each element along an axis by a whole factor."""
    factors = [int(item.scale or 1) if axis == item.axis else 1 for axis in range(x.rank)]
    apart = x.apply("Unsqueeze", [item.axis + 1])
    many = [*factors[: item.axis], 1, *factors[item.axis :]]
    sizes = x.apply("Shape", dtype=np.int64) * np.array(factors)
    return apart.apply("Expand", many).apply("Reshape", sizes.name, allowzero=1)


def _repeats(
    item: Axis, mode: str = "nearest", coordinate_transformation_mode: str = "half_pixel", nearest_mode: str =
    "round_prefer_floor", **others: Any,
) -> bool:  # fmt: skip
    """Whether each element along an axis is repeated equally often, whatever the size of the axis."""
    factor = 0 if item.scale is None else int(item.scale)
    if mode != "nearest" or not 0 < factor == item.scale or item.after != factor * item.before:
        return False
    if coordinate_transformation_mode == "tf_crop_and_resize":
        return False
    few, many = np.float32(4), np.float32(4 * factor)
    step = None if item.step is None else np.float32(item.step) or few / many
    i = np.arange(4 * factor, dtype=np.float32)
    at = coordinate(coordinate_transformation_mode, i, few, many, item.scale, step, False)
    return np.array_equal(_nearest(at, nearest_mode).clip(0, 3), np.arange(4 * factor) // factor)


@resize.combining
def _(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    x, _, scales, sizes = (*inputs, None, None, None)[:4]
    assert x is not None
    if not isinstance(scales if is_absent(sizes) else sizes, np.ndarray):
        return [range(len(x.shape)), ()]
    listed = resized_axes(x.shape, scales, sizes, node.attributes)
    return [[item.axis for item in listed if item.changes], ()]


@resize.over_time
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """Repeat each step by a whole factor; the other axes are resized as in a call."""
    x, options = node.inputs[0], node.attributes
    _, _, scales, sizes = (*time.inputs(node), None, None, None)[:4]
    listed = resized_axes(time.shape(x), scales, sizes, options)
    own = next(item for item in listed if item.axis == axis)
    factor = own.after // own.before
    repeated = [own, *(item for item in listed if "steps" in options and item.changes)]
    if None in [item.scale for item in listed] or not all(_repeats(item, **options) for item in repeated):
        time.refuse(node, "it interpolates between steps, or does not repeat each step equally often")
    factors = [np.float32(factor) if item.axis == axis else item.scale for item in listed]
    kept = {"mode", "nearest_mode", "coordinate_transformation_mode"} & options.keys()
    attributes = {name: options[name] for name in kept} | {"axes": [item.axis for item in listed]}
    y = time.add("Resize", x, "", time.constant(np.array(factors, np.float32)), **attributes)
    y = time.upsampled(x, y, factor, 0)
    time.define(node.outputs[0], y, time.timing(y))


def _size(x: Any, axis: int, size: Any) -> Any:
    """Return the size of an axis in an array of one element."""
    if type(size) is not Size:
        return x.t.constant_of([size], np.int64)
    return x.apply("Shape", dtype=np.int64, start=axis, end=axis + 1)


def _coordinates(mode: str, item: Axis, x: Any, sizes: Any, place: int) -> Any:
    """Return the coordinate in the input of each element of an axis, whose size is at `place` in sizes."""
    before, after = _size(x, item.axis, item.before), item.after
    if type(after) is not Size:
        after = x.t.constant_of([after], np.int64)
    elif is_absent(None if sizes is None else sizes.known):
        assert item.scale is not None  # it is given
        numerator, denominator = float(item.scale).as_integer_ratio()
        after = before * numerator if denominator == 1 else (before * numerator).apply("Div", denominator)
    else:
        after = sizes.apply("Gather", [place])
    zero, one = before.constant(0), before.constant(1)
    i = zero.apply("Range", after.apply("Squeeze", [0]), one).cast(np.float32)
    if mode == "tf_crop_and_resize":
        (start, end), last = map(np.float32, item.roi), np.float32(item.before - 1)
        if item.after == 1:
            return i + np.float32(0.5) * (start + end) * last
        return i * (end - start) * last / np.float32(item.after - 1) + start * last
    scale: Any = item.scale
    if scale is None:
        scale = (after.cast(np.float64) / before.cast(np.float64)).cast(np.float32)
    sizes_of = before.cast(np.float32), after.cast(np.float32)
    step: Any = None
    if item.step is not None:
        step = i.constant(item.step) if item.step else sizes_of[0] / sizes_of[1]
        if item.keeps:
            step = where(after.equals(before), np.float32(1), step)
    return coordinate(mode, i, *sizes_of, scale, step, bool(item.after == 1))


def coordinate(mode: str, i: Any, before: Any, after: Any, scale: Any, step: Any, is_single: bool) -> Any:
    """Return the coordinate of element i of an axis; all numbers are arrays or expressions of float32."""
    half, one = np.float32(0.5), np.float32(1)

    def spaced(places: Any) -> Any:
        return places / scale if step is None else places * step

    match mode:
        case "half_pixel":
            return spaced(i + half) - half
        case "pytorch_half_pixel":
            return i * np.float32(0) if is_single else spaced(i + half) - half
        case "half_pixel_symmetric":
            offset = before / np.float32(2) * (one - after / (scale * before))
            return offset + spaced(i + half) - half
        case "asymmetric":
            return spaced(i)
        case "tf_half_pixel_for_nn":
            return spaced(i + half)
        case "align_corners":
            return i * (before - one) / (one if is_single else after - one)
    raise ArgumentError(f"coordinate_transformation_mode={mode!r} is not supported")


def _nearest(at: Any, mode: str) -> Any:
    """Return the coordinates of the nearest elements, an array or an expression."""
    shift, function = NEAREST[mode]
    shifted = at + np.float32(shift) if shift else at
    return (
        getattr(np, function.lower())(at + shift) if isinstance(at, np.ndarray) else shifted.apply(function)
    )


def _element(x: Any, item: Axis, places: Any) -> Any:
    """Return the elements of an axis at places, or the nearest ones."""
    last = (_size(x, item.axis, item.before) - 1).cast(np.int32)
    inside = places.cast(np.int32).apply("Min", last).apply("Max", 0)
    return x.apply("Gather", inside, axis=item.axis)


def _interpolated(x: Any, item: Axis, at: Any, mode: str, a: np.float32) -> Any:
    """Return the weighted sum of the neighbors of each coordinate."""
    first, terms = at.apply("Floor"), []
    fraction = at - first
    for offset in range(1 - RADII[mode], RADII[mode] + 1):
        weights = _weight(abs(offset - fraction), mode, a)
        terms.append(_weighted(x, item, first + offset, weights))
    return reduce(add, terms)


def _weighted(x: Any, item: Axis, places: Any, weights: Any) -> Any:
    """Return the elements of an axis at places times weights."""
    return _element(x, item, places) * _along(weights.cast(x.dtype), item.axis, x.rank)


def _along(numbers: Any, axis: int, rank: int) -> Any:
    """Return the numbers of one axis so that they broadcast against an array."""
    return numbers.apply("Reshape", [-1, *[1] * (rank - axis - 1)])


def _weight(d: Any, mode: str, a: np.float32) -> Any:
    """Return the weights of elements at distances d."""
    if mode == "linear":
        return maximum(1 - d, 0)
    near, far = cubic(d, a)
    return where(d <= 1, near, where(d < 2, far, 0))


def _filtered(x: Any, item: Axis, at: Any, mode: str, antialias: int, a: float, exclude_outside: int) -> Any:
    """Return the weighted sum of the elements of an axis around each known coordinate."""
    assert item.scale is not None  # the sizes are known
    shrinkage = min(item.scale, np.float32(1)) if antialias else np.float32(1)
    places, weights = neighbors(mode, at.known, shrinkage, np.float32(a))
    if x.t.expands and places.shape[1] > MAX_TAPS:
        raise DataDependent
    if exclude_outside:
        weights = np.where((places >= 0) & (places < item.before), weights, 0)
    weights = weights / weights.sum(1, keepdims=True)
    terms = [
        _weighted(x, item, *(x.t.constant_of(numbers, np.float32) for numbers in pair))
        for pair in zip(places.T, weights.T, strict=True)
    ]
    return reduce(add, terms)


def neighbors(mode: str, at: AnyArray, shrinkage: np.float32, a: np.float32) -> tuple[AnyArray, AnyArray]:
    """Return the indices (n, K) of the elements around each coordinate and their weights.

    An antialiasing filter is wider by 1 / `shrinkage`.
    """
    reach = math.ceil(RADII[mode] / float(shrinkage))
    first = np.floor(at)
    offsets = np.arange(1 - reach, reach + 1)
    distances = np.abs(offsets.astype(np.float32) - (at - first)[:, None]) * shrinkage
    return first.astype(np.int64)[:, None] + offsets, _weights(mode, distances, a)


def _weights(mode: str, d: AnyArray, a: Any) -> AnyArray:
    """Return the weights of elements at distances d >= 0."""
    if mode == "linear":
        return np.asarray(np.maximum(1 - d, 0))
    near, far = cubic(d, a)
    return np.where(d <= 1, near, np.where(d < 2, far, 0)).astype(d.dtype)


def cubic(d: Any, a: Any) -> tuple[Any, Any]:
    """Return the weights of elements at distances up to 1, and from 1 to 2."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    return near, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
