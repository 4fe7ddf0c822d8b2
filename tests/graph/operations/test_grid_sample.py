"""GridSample and AffineGrid against loops over the elements of their results."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from onward.graph.operations import OPERATIONS


def reflected(at: float, low: float, high: float) -> float:
    """Return a coordinate that is reflected at both bounds, one after the other."""
    while not low <= at <= high:
        at = 2 * low - at if at < low else 2 * high - at
    return at


def sampled(x: Any, place: tuple[float, ...], align: bool, padding: str, nearest: bool) -> float:
    """Return a channel x (*in) at coordinates from -1 to 1, the last axis first."""
    taps = []
    for axis, size in enumerate(x.shape):
        normal = place[len(place) - 1 - axis]
        at = (normal + 1) / 2 * (size - 1) if align else ((normal + 1) * size - 1) / 2
        low, high = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
        if nearest:
            at = float(np.rint(at))
        if padding == "reflection":
            at = reflected(at, low, high)
        first = math.floor(at)
        pairs = [(int(at), 1.0)] if nearest else [(first, first + 1 - at), (first + 1, at - first)]
        if padding == "zeros":
            pairs = [(i, weight if 0 <= i < size else 0.0) for i, weight in pairs]
        taps.append([(min(max(i, 0), size - 1), weight) for i, weight in pairs])
    total = 0.0
    for chosen in itertools.product(*taps):
        total += float(x[tuple(i for i, _ in chosen)]) * math.prod(weight for _, weight in chosen)
    return total


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 2, 4, 7), (1, 2, 3, 5, 2)])
def test_each_result_is_sampled_at_its_own_coordinates(
    shape: tuple[int, ...], align: int, padding: str, mode: str
) -> None:
    rng, n = np.random.default_rng(sum(shape)), len(shape) - 2
    x = rng.normal(size=shape).astype(np.float32)
    grid = rng.uniform(-1.4, 1.4, (shape[0], *range(2, 2 + n), n)).astype(np.float32)
    attributes = {"align_corners": align, "padding_mode": padding, "mode": mode}
    (y,) = OPERATIONS["GridSample"].compute([x, grid], attributes)
    assert y.shape == (*shape[:2], *grid.shape[1:-1])
    for row, channel, *place in np.ndindex(y.shape):
        at = tuple(grid[(row, *place)].tolist())
        expected = sampled(x[row, channel], at, bool(align), padding, mode == "nearest")
        assert y[(row, channel, *place)] == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (1, 2, 3, 2, 6)])
def test_an_affine_map_reads_the_last_axis_first(size: tuple[int, ...], align: int) -> None:
    rng, sizes = np.random.default_rng(len(size)), size[2:]
    theta = rng.normal(size=(size[0], len(sizes), len(sizes) + 1)).astype(np.float32)
    (grid,) = OPERATIONS["AffineGrid"].compute([theta, np.array(size)], {"align_corners": align})
    assert grid.shape == (size[0], *sizes, len(sizes))
    for row, *place in np.ndindex(grid.shape[:-1]):
        normal = [
            2 * i / (n - 1) - 1 if align else (2 * i + 1) / n - 1 for i, n in zip(place, sizes, strict=True)
        ]
        expected = theta[row] @ [*reversed(normal), 1.0]
        np.testing.assert_allclose(grid[(row, *place)], expected, atol=1e-5)
