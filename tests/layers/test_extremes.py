"""Zeros of both signs, denormals, infinities and NaN: the same bits, however a layer is called."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.bits import both_dtypes, each_isa
from support.cases import SPATIAL, SPATIAL_IDS, spatial
from support.evaluate import evaluate
from support.extremes import bits, extremes
from support.skips import Cases

import onward
from onward.graph.plan.planner import Planner
from onward.graph.simplification.simplify import simplify
from onward.layers.graphs import graph_of

ACTIVATIONS = [
    *("elu", "exponential", "gelu", "hard_sigmoid", "hard_sigmoid_keras2", "leaky_relu", "linear", "mish"),
    *("hard_swish", "relu", "relu6", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh"),
    "thresholded_relu",
    *(("affine", -1.5, 0.0), ("affine", 1.0, 0.0), ("scaled_tanh", 2.0, 0.5), ("elu", 0.0)),
]  # fmt: skip


def of_any_shape(dtype: str) -> Iterator[Any]:
    for name in ACTIVATIONS:
        yield onward.Activation(*((name,) if isinstance(name, str) else name))
    yield from (onward.Softmax(), onward.Softmax(1), onward.Dropout(), onward.Last())
    options = {"dtype": dtype, "rng": 0}
    layers = [
        onward.Linear(6, 5, **options),
        onward.LayerNorm(6, **options),
        onward.LayerNorm((5, 6), **options),
    ]
    for layer in layers:
        layer.load_state_dict({
            name: np.where(np.arange(w.size).reshape(w.shape) % 3, w, extremes(dtype, *w.shape, seed=2))
            for name, w in layer.state_dict().items()
        })  # fmt: skip
    yield from layers


def check(layer: Any, x: NDArray[Any], rows: int) -> None:
    """Compare ten calls of a layer, alone and in a Sequential, with its plan, its graph and single rows."""
    y = layer(x)
    model, expected = onward.Sequential(layer), bits(y)
    assert all(bits(layer(x)) == bits(model(x)) == expected for _ in range(10)), layer
    swapped = x.astype(x.dtype.newbyteorder())
    assert bits(layer(swapped)) == bits(model(swapped)) == expected, layer
    if layer.dtype == x.dtype:  # the graph of a layer without weights is float32
        graph = graph_of(layer)
        assert bits(Planner(simplify(graph))(x)[0]) == bits(evaluate(graph, x)[0]) == expected, layer
    for row in range(x.shape[rows]):
        part = layer(np.take(x, [row], rows))
        assert bits(part) == bits(np.take(y, [row], rows if part.ndim == x.ndim else 0)), (layer, row)


@both_dtypes
def test_layers_of_any_shape_keep_their_bits(dtype: str) -> None:
    for layer in of_any_shape(dtype):
        check(layer, extremes(dtype, 7, 5, 6), 1 if layer.causal else 0)


@both_dtypes
def test_relu_and_relu6_keep_denormals_whatever_the_compiler(dtype: str) -> None:
    """Instructions for maxima turn them into zeros."""
    x = extremes(dtype, 40, 50)
    tiny = np.finfo(dtype).tiny
    assert ((x != 0) & (np.abs(x) < tiny)).any(axis=1).all()
    positive = np.where(x <= -tiny, np.zeros_like(x), x)
    for _ in each_isa():
        assert bits(onward.Activation("relu")(x)) == bits(positive)
        assert bits(onward.Activation("relu6")(x)) == bits(np.where(positive > 6, x.dtype.type(6), positive))


@both_dtypes
@pytest.mark.parametrize("index", range(len(SPATIAL)), ids=SPATIAL_IDS)
def test_spatial_layers_keep_their_bits(index: int, dtype: str) -> None:
    layer, _, x = spatial(index, dtype)
    if x.ndim == getattr(layer, "axes", 0) + 1:
        x = x[None]
    check(layer, extremes(dtype, *x.shape, seed=index), 0)


@both_dtypes
def test_streams_and_pools_give_the_bits_of_calls(dtype: str) -> None:
    passing = onward.RNN(6, 6, nonlinearity="linear", dtype=dtype, rng=0)
    weights = {"weight_ih_l0": np.eye(6), "weight_hh_l0": np.zeros((6, 6))}
    passing.load_state_dict(weights | {name: np.zeros(6) for name in ("bias_ih_l0", "bias_hh_l0")})
    x = extremes(dtype, 9, 3, 6, seed=1)
    x[~np.isfinite(x)] = -1e30  # NaN would stay in the state
    layers = [layer for layer in of_any_shape(dtype) if layer.causal and not isinstance(layer, onward.Last)]
    counted = Cases()
    for chosen in (*((layer,) for layer in layers), *itertools.permutations(layers[-4:], 2)):
        model = onward.Sequential(passing, *chosen)
        with counted.new() as case, case.skipping(onward.errors.ShapeError):  # two Linear layers do not fit
            y = model(x)
        if case.skipped:
            continue
        stream, pool = model.stream(batch=3), model.pool(3)
        ids = pool.open(3)
        for x_t, y_t in zip(x, y, strict=True):
            assert bits(stream(x_t)) == bits(pool.step(ids, x_t)) == bits(y_t), chosen
        assert all(bits(model(x)) == bits(y) for _ in range(10)), chosen
    counted.check()
