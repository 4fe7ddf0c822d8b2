"""Packed weights of many layers, which share large pages."""

import itertools
from typing import Any

import numpy as np
import pytest

import onward
import onward._core as _core


def test_layers_do_not_overwrite_the_weights_of_others_when_some_are_freed() -> None:
    rng = np.random.default_rng(0)
    live: list[tuple[onward.Linear, Any, Any]] = []

    def check() -> None:
        for layer, x, y in live:
            np.testing.assert_array_equal(layer(x), y)

    for size in rng.integers(1, 400, 300):  # up to 640 KB, several regions of pages in all
        features = int(rng.integers(1, 400))
        layer = onward.Linear(features, int(size), bias=bool(rng.integers(2)), rng=rng)
        x = rng.standard_normal((2, features)).astype(np.float32)
        live.append((layer, x, layer(x)))
        while rng.random() < 0.48 and live:
            del live[int(rng.integers(len(live)))]
        if len(live) % 10 == 0:
            check()
    del live[::2]
    check()


def test_layers_of_any_size_around_that_of_a_page_keep_their_weights() -> None:
    rng = np.random.default_rng(1)
    for features in (1023, 1024, 1025):  # 2 MB with 512 units
        layers = [onward.Linear(features, 512, rng=rng) for _ in range(3)]
        x = rng.standard_normal((1, features)).astype(np.float32)
        results = [layer(x) for layer in layers]
        for layer, y in zip(layers, results, strict=True):
            weights = layer.state_dict()
            np.testing.assert_allclose(y, x @ weights["weight"].T + weights["bias"], rtol=0, atol=1e-5)
            np.testing.assert_array_equal(layer(x), y)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8"])
@pytest.mark.parametrize("shape", [(700, 650), (37, 21, 5), (331, 48, 32)])
def test_weights_at_any_address_are_packed_alike_by_any_number_of_threads(
    dtype: str, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(len(shape))
    W: Any = (rng.standard_normal(shape) * (40 if dtype == "int8" else 1)).astype(dtype)
    scale = rng.uniform(0.5, 2, len(W)).astype(np.float32) if dtype == "int8" else None
    apart = np.frombuffer(b"?" + W.tobytes(), W.dtype, offset=1).reshape(shape)
    real = np.float64 if dtype == "float64" else np.float32
    rows = W.transpose(0, *range(2, W.ndim), 1).reshape(len(W), -1).astype(np.float64)
    x = rng.integers(-127, 128, (2, rows.shape[1])).astype(real)  # int8 quantizes these without loss
    x[:, 0] = 127
    expected = x @ (rows if scale is None else rows * scale[:, None]).T
    for weights, threads in itertools.product((W, apart), (1, 3)):
        with onward.num_threads(threads):
            dense = _core.Dense(weights, None, scale)
        y = np.empty((2, len(W)), real)
        dense.forward(x, y)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
