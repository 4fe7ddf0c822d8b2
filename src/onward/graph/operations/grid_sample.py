"""Interpolation at the coordinates of a grid: GridSample, and AffineGrid, which makes one."""

import itertools
from functools import reduce
from operator import add, and_, mul
from typing import Any

import numpy as np

from ...errors import ShapeError
from ..node import AnyArray, Operand, Signature
from .compositions import composed
from .expressions import maximum, where
from .registry import operation
from .resize import RADII, weight


def _grid_signature(x: Operand, grid: Operand, **attributes: Any) -> Signature:
    if len(x.shape) != len(grid.shape) or grid.shape[-1] != len(x.shape) - 2:
        raise ShapeError(
            f"x has shape {x.shape}, grid {grid.shape}; expected (N, C, *in) and (N, *out, axes)"
        )
    if 0 in x.shape[2:] and 0 not in grid.shape:
        raise ShapeError(f"x has shape {x.shape}, which has no elements to sample")
    return Signature((*x.shape[:2], *grid.shape[1:-1]), x.dtype)


@composed("GridSample", signature=_grid_signature, widens=True)
def grid_sample(
    x: Any, grid: Any, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Any:
    """x (N, C, *in) at the coordinates from -1 to 1 of grid (N, *out, axes), the last axis first.

    Elements outside of x are zeros: no weight of 0 makes an infinity at its border NaN.
    """
    pixels, n = x.apply("Transpose", perm=[0, *range(2, x.rank), 1]), x.rank - 2
    coordinates = (grid.apply("Gather", n - 1 - axis, axis=-1) for axis in range(n))
    axes = [_taps(x, *each, align_corners, mode, padding_mode) for each in enumerate(coordinates, start=2)]
    terms = []
    for taps in itertools.product(*axes):
        places, weights, inside = zip(*taps, strict=True)
        first, *rest = (place.apply("Unsqueeze", [-1]) for place in places)
        elements = pixels.apply("GatherND", first.apply("Concat", *rest, axis=-1), batch_dims=1)
        if None not in inside:
            elements = where(reduce(and_, inside).apply("Unsqueeze", [-1]), elements, 0)
        terms.append(elements * reduce(mul, weights).apply("Unsqueeze", [-1]))
    return reduce(add, terms).apply("Transpose", perm=[0, n + 1, *range(1, n + 1)])


def _taps(
    x: Any, axis: int, normal: Any, align_corners: int, mode: str, padding_mode: str
) -> list[tuple[Any, Any, Any]]:
    """Return the places and the weights of the elements of an axis around coordinates from -1 to 1.

    The third part is whether a place is inside of x, or None if each place counts as one.
    """
    size = x.apply("Shape", start=axis, end=axis + 1).cast(normal.dtype)
    at = (normal + 1) / 2 * (size - 1) if align_corners else ((normal + 1) * size - 1) / 2
    low, high = (0.0, size - 1) if align_corners else (-0.5, size - 0.5)
    if mode == "nearest":
        at = at.apply("Round")
    if padding_mode == "reflection":
        at = _reflected(at, low, high)
    if padding_mode != "zeros" and mode != "cubic":
        at = maximum(at, 0).apply("Min", size - 1)
    at = where(at > -4, at, -4).apply("Min", size + 4)  # also if it is NaN: far outside
    found, around = [], [(at, at.constant(1))]
    if mode != "nearest":
        first = at.apply("Floor")
        offsets = range(1 - RADII[mode], RADII[mode] + 1)
        around = [(first + k, weight(abs(k - (at - first)), mode, np.float32(-0.75))) for k in offsets]
    for place, factor in around:
        counts_all = mode == "cubic" and padding_mode != "zeros"
        inside = None if counts_all else (place >= 0) & (place < size)
        place = _reflected(place, low, high) if padding_mode == "reflection" else place
        place = maximum(place, 0).apply("Min", size - 1).cast(np.int64)
        found.append((place, factor.cast(x.dtype), inside))
    return found


def _reflected(at: Any, low: float, high: Any) -> Any:
    """Reflect coordinates at both bounds until they lie between them."""
    extent = high - low
    distance = abs(at - low).apply("Mod", extent * 2, fmod=1)
    reflected = where(distance > extent, extent * 2 - distance, distance) + low
    return where(extent > 0, where((at >= low) & (at <= high), at, reflected), low)


def _affine_signature(theta: Operand, size: Any, **attributes: Any) -> Signature:
    sizes = tuple(map(int, size))
    return Signature((sizes[0], *sizes[2:], len(sizes) - 2), theta.dtype)


@operation("AffineGrid", signature=_affine_signature, shape_inputs=(1,), widens=True)
def affine_grid(theta: AnyArray, size: AnyArray, *, align_corners: int = 0) -> AnyArray:
    """The grid (N, *out, axes) of GridSample that the affine maps theta (N, axes, axes + 1) describe."""
    sizes = tuple(map(int, size))[2:]
    numbers = ((n, np.arange(n, dtype=np.float64)) for n in sizes)
    axes = [i * 2 / max(1, n - 1) - 1 if align_corners else (2 * i + 1) / n - 1 for n, i in numbers]
    points = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(sizes)], -1).astype(theta.dtype)
    y = np.zeros((len(theta), *sizes, len(sizes)), theta.dtype)
    for k in range(points.shape[-1]):
        y += points[None, ..., k, None] * theta[:, :, k].reshape(len(theta), *[1] * len(sizes), len(sizes))
    return y
