"""Rotary position embeddings, against the formula of each pair of features."""

import itertools
from typing import Any

import numpy as np
import pytest
from support.linear_attention import normal
from support.running import runs_in_core

from onward.errors import ShapeError
from onward.graph import Graph, Model

N, HEADS, L, SIZE = 2, 3, 5, 8


def rotated(x: Any, cos: Any, sin: Any, interleaved: bool) -> Any:
    """x (N, L, heads, size), of which the pairs of features that have angles are turned by them."""
    pairs = cos.shape[-1]
    axis = -1 if interleaved else -2
    turned = x[..., : 2 * pairs].reshape(*x.shape[:-1], *((pairs, 2) if interleaved else (2, pairs)))
    a, b = np.moveaxis(turned, axis, 0)
    cos, sin = cos[:, :, None], sin[:, :, None]
    turned = np.stack([cos * a - sin * b, sin * a + cos * b], axis).reshape(*x.shape[:-1], 2 * pairs)
    return np.concatenate([turned, x[..., 2 * pairs :]], -1)


@pytest.mark.parametrize(
    "is_flat, interleaved, size, has_positions",
    list(itertools.product((False, True), (0, 1), (0, 6), (False, True))),
)
def test_the_core_rotates_pairs(is_flat: bool, interleaved: int, size: int, has_positions: bool) -> None:
    rng, pairs = np.random.default_rng(0), (size or SIZE) // 2
    x, positions = normal(rng, N, L, HEADS, SIZE), rng.integers(0, 9, (N, L))
    caches = normal(rng, 2, *((9,) if has_positions else (N, L)), pairs)
    cos, sin = caches[:, positions] if has_positions else caches
    given = x.reshape(N, L, -1) if is_flat else x.swapaxes(1, 2)
    inputs = [given, *caches, *([positions] if has_positions else [])]
    graph = Graph()
    names = [graph.add_input(name, a.dtype, a.shape) for name, a in zip("xcsp", inputs, strict=False)]
    options = {"interleaved": interleaved, "num_heads": HEADS, "rotary_embedding_dim": size}
    graph.outputs = (graph.add("RotaryEmbedding", *names, **options),)
    expected = rotated(x, cos, sin, bool(interleaved))
    model = Model(graph)
    y = model(*inputs)
    np.testing.assert_array_equal(y.reshape(x.shape) if is_flat else y.swapaxes(1, 2), expected)
    assert runs_in_core(model, *inputs)


def test_streams_and_pools_have_the_bits_of_a_call() -> None:
    rng, graph = np.random.default_rng(1), Graph()
    x = graph.add_input("x", np.float32, ("batch", "time", HEADS * SIZE))
    positions = graph.add_input("positions", np.int64, ("batch", "time"))
    caches = [graph.add_constant(a) for a in normal(rng, 2, 9, SIZE // 2)]
    graph.outputs = (graph.add("RotaryEmbedding", x, *caches, positions, num_heads=HEADS),)
    model, inputs = Model(graph), (normal(rng, N, L, HEADS * SIZE), rng.integers(0, 9, (N, L)))
    y = model(*inputs)
    stream = model.stream(N, time_axis=1)
    parts = [stream(*(a[:, start:stop] for a in inputs)) for start, stop in ((0, 1), (1, L))]
    np.testing.assert_array_equal(np.concatenate(parts, 1), y)
    pool = model.pool(N, time_axis=1)
    ids = pool.open(N)
    steps = [pool.step(ids, *(a[:, t] for a in inputs)) for t in range(L)]
    np.testing.assert_array_equal(np.stack(steps, 1), y)


def test_angles_of_another_size_are_refused() -> None:
    graph = Graph()
    names = [
        graph.add_input(name, np.float32, shape)
        for name, shape in (("x", (N, HEADS, L, SIZE)), ("c", (N, L, 3)), ("s", (N, L, 3)))
    ]
    graph.outputs = (graph.add("RotaryEmbedding", *names),)
    with pytest.raises(ShapeError, match="cos_cache has 3 angles; expected 4"):
        Model(graph)(np.ones((N, HEADS, L, SIZE), np.float32), *np.ones((2, N, L, 3), np.float32))
