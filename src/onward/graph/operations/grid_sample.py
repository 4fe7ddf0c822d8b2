"""Interpolation at the coordinates of a grid: GridSample, and AffineGrid, which makes one."""

import math
from typing import Any

import numpy as np

from ...errors import ShapeError
from ..node import AnyArray, Operand, Signature
from .registry import operation
from .resize import neighbors


def _grid_signature(x: Operand, grid: Operand, **attributes: Any) -> Signature:
    if len(x.shape) != len(grid.shape) or grid.shape[-1] != len(x.shape) - 2:
        raise ShapeError(
            f"x has shape {x.shape}, grid {grid.shape}; expected (N, C, *in) and (N, *out, axes)"
        )
    if 0 in x.shape[2:] and 0 not in grid.shape:
        raise ShapeError(f"x has shape {x.shape}, which has no elements to sample")
    return Signature((*x.shape[:2], *grid.shape[1:-1]), x.dtype)


@operation("GridSample", signature=_grid_signature, widens=True)
def grid_sample(
    x: AnyArray, grid: AnyArray, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> AnyArray:
    """x (N, C, *in) at the coordinates from -1 to 1 of grid (N, *out, axes), the last axis first.

    Elements outside of x are zeros: no weight of 0 makes an infinity at its border NaN.
    """
    sizes = x.shape[2:]
    if 0 in grid.shape:
        return np.zeros((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
    indices, weights, counts = [], [], []
    for axis, size in enumerate(sizes):
        normal = grid[..., len(sizes) - 1 - axis]
        at = (normal + 1) / 2 * (size - 1) if align_corners else ((normal + 1) * size - 1) / 2
        bounds = (0.0, size - 1.0) if align_corners else (-0.5, size - 0.5)
        if mode == "nearest":
            at = np.rint(at)
        if padding_mode == "reflection":
            at = _reflect(at, *bounds)
        if padding_mode != "zeros" and mode != "cubic":
            at = np.clip(at, 0, size - 1)
        at = np.nan_to_num(at, nan=-2, posinf=size + 1, neginf=-2).clip(-4, size + 4)
        if mode == "nearest":
            places, weight = at[..., None].astype(np.int64), np.ones((*at.shape, 1), x.dtype)
        else:
            places, weight = neighbors(mode, at.reshape(-1), np.float32(1), np.float32(-0.75))
            places, weight = (a.reshape(*at.shape, a.shape[-1]) for a in (places, weight))
        counts.append((places >= 0) & (places < size))
        if mode == "cubic" and padding_mode != "zeros":
            counts[-1][:] = True
        if padding_mode == "reflection":
            places = _reflect(places.astype(np.float64), *bounds).astype(np.int64)
        indices.append(places.clip(0, size - 1))
        weights.append(weight.astype(x.dtype))
    batch = np.arange(len(x)).reshape(-1, *[1] * len(sizes))
    y = np.zeros((len(x), *grid.shape[1:-1], x.shape[1]), x.dtype)
    for tap in np.ndindex(*(a.shape[-1] for a in indices)):
        inside = np.logical_and.reduce([a[..., k] for a, k in zip(counts, tap, strict=True)])
        elements = x[(batch, slice(None), *(a[..., k] for a, k in zip(indices, tap, strict=True)))]
        factor = math.prod((a[..., k] for a, k in zip(weights, tap, strict=True)), start=x.dtype.type(1))
        y += np.where(inside[..., None], elements, 0) * factor[..., None]
    return np.moveaxis(y, -1, 1)


def _reflect(at: AnyArray, low: float, high: float) -> AnyArray:
    """Reflect coordinates at both bounds until they lie between them."""
    if high <= low:
        return np.full_like(at, low)
    extent = high - low
    distance = np.abs(at - low) % (2 * extent)
    inside = (at >= low) & (at <= high)
    return np.where(inside, at, low + np.where(distance > extent, 2 * extent - distance, distance)).astype(
        at.dtype
    )


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


grid_sample.reading(lambda inputs, attributes: 64)
