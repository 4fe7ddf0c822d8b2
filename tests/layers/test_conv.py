"""Convolution, pooling and normalization against stored outputs of torch; equal bits; errors."""

from typing import Any

import numpy as np
import pytest
import support
from support import cases
from support.cases import SPATIAL, SPATIAL_IDS

import onward
from onward.errors import ArgumentError, DtypeError, ShapeError, SignatureError

GOLDEN = np.load(support.DATA / "golden_spatial.npz")
X = np.zeros((2, 6, 9), np.float32)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("index", range(len(SPATIAL)), ids=SPATIAL_IDS)
def test_outputs_match_torch(index: int, dtype: str, tolerance: float) -> None:
    layer, _, x = cases.spatial(index, dtype)
    y = layer(x)
    assert (y.dtype, y.shape) == (dtype, tuple(GOLDEN[f"{index}/shape"]))
    np.testing.assert_allclose(cases.sample(y), GOLDEN[str(index)], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("layer_type", "arguments", "shape"),
    [
        (onward.Conv1d, (6, 33, 5, 2, 2, 1, 3), (6, 40)),
        (onward.Conv2d, (2, 7, (3, 4)), (2, 9, 12)),
        (onward.MaxPool1d, (3, 2), (6, 40)),
        (onward.AvgPool1d, (7, 1, 3), (6, 40)),
        (onward.AvgPool2d, ((3, 4),), (2, 9, 12)),
        (onward.BatchNorm1d, (6,), (6, 40)),
        (onward.LayerNorm, (131,), (3, 131)),
        (onward.GroupNorm, (2, 6), (6, 40)),
    ],
)
def test_a_row_has_the_same_bits_on_its_own_and_in_any_batch_and_layout(
    isa: str, layer_type: Any, arguments: Any, shape: tuple[int, ...], dtype: str
) -> None:
    layer = layer_type(*arguments)
    if "dtype" in layer.config():
        layer = layer_type(*arguments, dtype=dtype, rng=0)
    x = np.random.default_rng(0).standard_normal((65, *shape)).astype(dtype)
    x[:, :, ::3] *= -0.0  # also compares the signs of zeros
    alone = np.concatenate([layer(row[None]) for row in x])
    for size in (1, 2, 17, 65):
        for batch in (x[:size], np.asfortranarray(x[:size])):
            y = layer(batch)
            np.testing.assert_array_equal(y.view(f"u{y.itemsize}"), alone[:size].view(f"u{y.itemsize}"))


def test_a_large_batch_is_convolved_in_parts() -> None:
    layer = onward.Conv1d(2, 3, 64, rng=0)
    x = np.random.default_rng(0).standard_normal((3, 2, 6000))
    whole = layer(x)
    for row, y in zip(x, whole, strict=True):
        np.testing.assert_array_equal(layer(row), y)


def test_max_pooling_propagates_nan() -> None:
    x = np.arange(6.0)[None]
    x[0, 2] = np.nan
    np.testing.assert_array_equal(onward.MaxPool1d(2)(x), [[1, np.nan, 5]])


@pytest.mark.parametrize(("size", "windows"), [(1, 1), (2, 1), (3, 2)])
def test_ceil_mode_allows_a_window_larger_than_x(size: int, windows: int) -> None:
    x = np.arange(1, size + 1, dtype=np.float32)[None, None]
    for kind in (onward.MaxPool1d, onward.AvgPool1d):
        assert kind(2, ceil_mode=True)(x).shape == (1, 1, windows)
    with pytest.raises(ShapeError, match="spans"):
        onward.MaxPool1d(5, 2, ceil_mode=True)(np.ones((1, 1, 1)))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: onward.Conv1d(6, 4, 3, padding_mode="reflect"), ArgumentError, "padding_mode='reflect'"),
        (lambda: onward.Conv1d(6, 4, 3, padding="half"), ArgumentError, "padding='half', but must be 'same'"),
        (lambda: onward.Conv1d(6, 4, 3, 2, "same"), ArgumentError, "requires stride=1, not 2"),
        (lambda: onward.Conv1d(6, 4, 3, groups=4), ArgumentError, "groups=4, but must divide in_channels=6"),
        (lambda: onward.Conv2d(6, 4, (3, 3, 3)), ArgumentError, r"kernel_size=\(3, 3, 3\); .* or 2 of them"),
        (lambda: onward.Conv1d(6, 4, 0), ArgumentError, "kernel_size=0, but must be an integer of at le"),
        (lambda: onward.Conv1d(6, 4), SignatureError, "Conv1d: missing a required argument: 'kernel_size'"),
        (lambda: onward.MaxPool1d(3, padding=2), ArgumentError, "padding=2; expected at most half"),
        (lambda: onward.Conv1d(6, 4, 3)(X[:, :5]), ShapeError, r"\(2, 5, 9\), .* \(N, 6, L\), or \(6, L\)"),
        (lambda: onward.Conv2d(6, 4, 3)(X[0, 0]), ShapeError, r"\(N, 6, H, W\), or \(6, H, W\) unbatched"),
        (lambda: onward.Conv1d(6, 4, 5, dilation=3)(X), ShapeError, r"sizes \(9,\), .* Conv1d spans \(13,\)"),
        (lambda: onward.MaxPool1d(10)(X), ShapeError, r"the window of this MaxPool1d spans \(10,\)"),
        (lambda: onward.AvgPool1d(2)(X.astype(np.complex64)), DtypeError, "x has dtype complex"),
        (lambda: onward.BatchNorm1d(6, track_running_stats=False), ArgumentError, "depend on the other rows"),
        (lambda: onward.BatchNorm1d(6, eps=-1), ArgumentError, "eps=-1, but must be a number of at least 0"),
        (lambda: onward.BatchNorm1d(5)(X), ShapeError, r"\(2, 6, 9\), .* \(N, C\) or \(N, C, L\) with C=5"),
        (lambda: onward.BatchNorm2d(6)(X), ShapeError, r"BatchNorm2d takes \(N, C, H, W\) with C=6"),
        (lambda: onward.LayerNorm(8)(X), ShapeError, r"must be normalized_shape=\(8,\)"),
        (lambda: onward.LayerNorm(()), ArgumentError, r"normalized_shape=\(\); expected at least"),
        (lambda: onward.GroupNorm(4, 6), ArgumentError, "num_groups=4, but must divide num_channels=6"),
        (lambda: onward.GroupNorm(2, 6)(X[0, 0]), ShapeError, r"this GroupNorm takes \(N, 6, ...\)"),
    ],
)  # fmt: skip
def test_errors_state_the_expected_input(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
