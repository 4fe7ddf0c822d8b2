"""LayerNorm and GroupNorm on inputs whose squares overflow: correct outputs and no warnings."""

from typing import Any

import numpy as np
import pytest
from support.recurrences import check_direction

import onward


def expected(x: Any, eps: float) -> Any:
    """Divided by the largest element first: a long double holds the squares on some systems only."""
    x = np.asarray(x, np.longdouble)
    largest = np.maximum(np.abs(x).max(-1, keepdims=True), 1)
    centered = x / largest - (x / largest).mean(-1, keepdims=True)
    return centered / np.sqrt((centered * centered).mean(-1, keepdims=True) + eps / largest / largest)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("dtype", "large"), [("float32", (1e19, 3e38)), ("float64", (1e160, 1e308))])
def test_large_inputs_do_not_overflow(dtype: str, large: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    for scale in large:
        x = (rng.uniform(-1, 1, (3, 7)) * [[1], [scale], [scale / 3]]).astype(dtype)
        y = onward.LayerNorm(7, dtype=dtype)(x)
        np.testing.assert_allclose(
            y, expected(x, 1e-5), rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-6
        )
        np.testing.assert_array_equal(y[0], onward.LayerNorm(7, dtype=dtype)(x[0]))
        groups = np.stack([x, x[::-1]], axis=1)  # (3, 2, 7)
        y = onward.GroupNorm(2, 2, dtype=dtype)(groups)
        np.testing.assert_allclose(y, expected(groups, 1e-5), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_equal_large_inputs_give_zeros_and_nan_stays_in_its_row() -> None:
    norm = onward.LayerNorm(4)
    np.testing.assert_array_equal(norm(np.full((2, 4), 3e38)), 0)
    y = norm(np.array([[np.inf, 1, 2, 3], [np.nan, 1, 2, 3], [1, 2, 3, 4]], np.float32))
    assert np.isnan(y[:2]).all()
    assert np.isfinite(y[2]).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (onward.LayerNorm(7, dtype="float64"), (3, 5, 7)),
        (onward.LayerNorm((3, 4), eps=0.1, bias=False, dtype="float64"), (5, 3, 4)),
        (onward.LayerNorm(1, dtype="float64"), (4, 1)),
        (onward.LayerNorm(5, elementwise_affine=False, dtype="float64"), (5,)),
        (onward.GroupNorm(3, 6, dtype="float64"), (5, 6)),
        (onward.GroupNorm(2, 4, dtype="float64"), (3, 4, 2, 5)),
        (onward.GroupNorm(1, 1, affine=False, dtype="float64"), (2, 1, 3)),
        (onward.GroupNorm(2, 4, dtype="float64"), (3, 4, 0)),
    ],
    ids=repr,
)
def test_gradients_equal_central_differences(layer: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(w.shape) for name, w in layer.state_dict().items()}
    layer.load_state_dict(weights)
    x, dy = rng.standard_normal(shape), rng.standard_normal(shape)
    y, state, cache = layer.forward(x)
    np.testing.assert_array_equal(y, layer(x))
    dx, dstate, gradients = layer.backward(dy, None, cache)
    assert state is dstate is None
    assert {name: g.shape for name, g in gradients.items()} == {name: w.shape for name, w in weights.items()}

    def loss() -> float:
        layer.load_state_dict(weights)
        return float((layer(x) * dy).sum())

    for array, gradient in [(x, dx), *((weights[name], gradients[name]) for name in weights)]:
        check_direction(array, gradient, loss, rng)
