"""Interpolation at evenly spaced coordinates: Resize.

Coordinates are computed in float32, as in onnxruntime and PyTorch: in float64, ties have other neighbors.
"""

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import View
from ..size import Size, is_symbolic
from .arguments import as_integers
from .movement import move
from .registry import Inputs, along_time, known, operation, typed_view, view

EXACT = 1 << 22  # float32 represents halves of smaller numbers
MAX_TAPS = 16  # elements that the core adds
RADII = {"linear": 1, "cubic": 2}  # how far the elements of an interpolation lie from its coordinate
NEAREST: dict[str, Callable[[AnyArray], AnyArray]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda at: np.ceil(at - np.float32(0.5)),
    "round_prefer_ceil": lambda at: np.floor(at + np.float32(0.5)),
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


@operation(
    "Resize",
    signature=_resize_signature,
    shape_inputs=(2, 3),
    attributes=("axes", "keep_aspect_ratio_policy", "steps"),
    widens=True,
)
def resize(
    x: AnyArray, roi: AnyArray | None = None, scales: AnyArray | None = None, sizes: AnyArray | None = None,
    *, antialias: int = 0, coordinate_transformation_mode: str = "half_pixel", cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0, extrapolation_value: float = 0.0, mode: str = "nearest", nearest_mode: str =
    "round_prefer_floor", **options: Any,
) -> AnyArray:  # fmt: skip
    """x interpolated by scales or to sizes, one axis after the other; for `steps`, see `Axis`."""
    if mode not in ("nearest", *RADII):
        raise ArgumentError(f"mode={mode!r}; expected nearest, linear or cubic")
    if nearest_mode not in NEAREST:
        raise ArgumentError(f"nearest_mode={nearest_mode!r}; expected one of {', '.join(NEAREST)}")
    crops, options = coordinate_transformation_mode == "tf_crop_and_resize", options | {"mode": mode}
    options["antialias"] = antialias
    listed = resized_axes(x.shape, scales, sizes, options, roi if crops else None)
    y = x if mode == "nearest" or x.dtype.kind == "f" else x.astype(np.float32)
    outside: AnyArray = np.zeros([1] * x.ndim, bool)
    for item in listed:
        if not item.changes:
            continue
        at = _coordinates(coordinate_transformation_mode, item)
        if mode == "nearest":
            places, weights = NEAREST[nearest_mode](at).astype(np.int64)[:, None], None
        else:
            places, weights = _taps(item, at, mode, antialias, cubic_coeff_a, exclude_outside)
        y = _interpolate(y, item.axis, places.clip(0, max(0, item.before - 1)), weights)
        if crops:
            beyond = (at < 0) | (at > item.before - 1)
            outside = outside | beyond.reshape([-1 if axis == item.axis else 1 for axis in range(x.ndim)])
    if crops:
        y = np.where(outside, y.dtype.type(extrapolation_value), y)
    if x.dtype.kind in "iu" and y.dtype != x.dtype:
        y = np.clip(y, np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return y.astype(x.dtype, copy=False)


@resize.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """The nearest elements are moved; an interpolation gathers the neighbors along each axis."""
    options, (_, _, scales, sizes) = node.attributes, (*inputs, None, None, None)[:4]
    mode, coordinates = modes(options)
    if coordinates == "tf_crop_and_resize":
        return None
    if mode == "nearest":
        return _repeated(b, node, inputs, shapes) or move(b, node, inputs, shapes)
    x = view(b, inputs[0])
    if x is None or (is_symbolic(x.shape) and not has_filters(options)):
        return None
    filters = [
        options.get(n, d) for n, d in (("antialias", 0), ("cubic_coeff_a", -0.75), ("exclude_outside", 0))
    ]
    for item in resized_axes(x.shape, known(scales), known(sizes), options):
        if item.changes:
            places, weights = _taps(item, _coordinates(coordinates, item), mode, *filters)
            if places.shape[1] > MAX_TAPS:
                return None
            x = _lower_interpolation(b, x, item, places, weights)
    return [x]


def _repeated(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    """Repeat each element along an axis by a whole factor; None if that is not the result."""
    x, (_, _, scales, sizes) = typed_view(b, inputs[0]), (*inputs, None, None, None)[:4]
    if x is None or not is_symbolic(x.shape):
        return None
    for item in resized_axes(x.shape, known(scales), known(sizes), node.attributes):
        if not item.after < EXACT or not _repeats(item, node.attributes):
            return None
        factor = item.after // item.before
        if factor > 1:
            before, after = x.shape[: item.axis + 1], x.shape[item.axis + 1 :]
            apart = b.reshaped(x, *before, 1, *after).broadcast(*before, factor, *after)
            x = b.reshaped(apart, *before[:-1], item.after, *after)
    return [x]


def _repeats(item: Axis, options: Mapping[str, Any]) -> bool:
    """Whether each element along an axis is repeated equally often, whatever the size of the axis."""
    mode, coordinates = modes(options)
    factor = 0 if item.scale is None else int(item.scale)
    if mode != "nearest" or factor != item.scale or item.after != factor * item.before:
        return False
    few = Axis(item.axis, 4, 4 * factor, item.scale, item.roi, item.step)
    places = NEAREST[options.get("nearest_mode", "round_prefer_floor")](_coordinates(coordinates, few))
    return np.array_equal(places.clip(0, 3), np.arange(4 * factor) // factor)


def has_filters(options: Mapping[str, Any]) -> bool:
    """Whether weights depend on the places of all neighbors."""
    return bool(options.get("antialias") or options.get("exclude_outside"))


def modes(options: Mapping[str, Any]) -> tuple[str, str]:
    """Return the mode and the transformation of coordinates."""
    return options.get("mode", "nearest"), options.get("coordinate_transformation_mode", "half_pixel")


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
    if None in [item.scale for item in listed] or not all(_repeats(item, options) for item in repeated):
        time.refuse(node, "it interpolates between steps, or does not repeat each step equally often")
    factors = [np.float32(factor) if item.axis == axis else item.scale for item in listed]
    kept = {"mode", "nearest_mode", "coordinate_transformation_mode"} & options.keys()
    attributes = {name: options[name] for name in kept} | {"axes": [item.axis for item in listed]}
    y = time.add("Resize", x, "", time.constant(np.array(factors, np.float32)), **attributes)
    y = time.upsampled(x, y, factor, 0)
    time.define(node.outputs[0], y, time.timing(y))


def _lower_interpolation(b: Builder, x: View, item: Axis, places: AnyArray, weights: AnyArray) -> View:
    """Add the elements of an axis at `places` (n, K), or the nearest ones, times their weights."""
    terms = []
    for place, weight in zip(places.T, weights.T, strict=True):
        offsets = np.take(x.offsets(), place.clip(0, int(x.shape[item.axis]) - 1), item.axis)
        neighbors = b.new(*offsets.shape)
        b.add("gather", x, (offsets - x.offset).ravel().tolist(), neighbors)
        factor = weight.astype(np.float32).reshape(-1, *[1] * (len(x.shape) - item.axis - 1))
        terms.append(b.binary("multiply", neighbors, b.constant(factor)))
    return functools.reduce(lambda first, second: b.binary("add", first, second), terms)


def _coordinates(mode: str, item: Axis) -> AnyArray:
    """Return the coordinate of each element of an axis in the axis before."""
    i, half = np.arange(item.after, dtype=np.float32), np.float32(0.5)
    if mode == "tf_crop_and_resize":
        (start, end), last = map(np.float32, item.roi), np.float32(item.before - 1)
        if item.after == 1:
            return np.full(1, half * (start + end) * last, np.float32)
        return start * last + i * (end - start) * last / np.float32(item.after - 1)
    before, after = np.float32(item.before), np.float32(item.after)
    step = None if item.step is None or not item.after else np.float32(item.step) or before / after
    found: AnyArray = coordinate(mode, i, before, after, item.scale, step, item.after == 1)
    return found


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


def _taps(
    item: Axis, at: AnyArray, mode: str, antialias: int, a: float, exclude_outside: int
) -> tuple[AnyArray, AnyArray]:
    """Return the indices (n, K) of the elements that each coordinate interpolates, and their weights."""
    assert item.scale is not None  # the sizes are known
    shrinkage = min(item.scale, np.float32(1)) if antialias else np.float32(1)
    places, weights = neighbors(mode, at, shrinkage, np.float32(a))
    if exclude_outside:
        weights = np.where((places >= 0) & (places < item.before), weights, 0)
    if exclude_outside or antialias:
        weights = weights / weights.sum(1, keepdims=True)
    return places, weights


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


def _interpolate(x: AnyArray, axis: int, places: AnyArray, weights: AnyArray | None) -> AnyArray:
    """Return x with the weighted sums of its elements at `places` (n, K) along an axis."""
    if weights is None:
        return np.take(x, places[:, 0], axis)
    shape = [-1 if other == axis else 1 for other in range(x.ndim)]
    y = np.zeros([len(places) if other == axis else size for other, size in enumerate(x.shape)], x.dtype)
    for k in range(places.shape[1]):
        y += np.take(x, places[:, k], axis) * weights[:, k].astype(x.dtype, copy=False).reshape(shape)
    return y


resize.reading(lambda inputs, attributes: 16)  # along each axis, up to four taps or the scale
