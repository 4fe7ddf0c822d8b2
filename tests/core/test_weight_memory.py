"""Packed weights of many layers, which share large pages."""

from typing import Any

import numpy as np

import onward


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
