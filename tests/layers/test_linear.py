"""Linear, Embedding, Last, Softmax and Dropout."""

from typing import Any

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError, DtypeError, ShapeError


def numbers(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("shape", [(40,), (1, 40), (17, 40), (3, 5, 40), (0, 40), (2, 0, 40)])
def test_linear_multiplies_over_any_leading_axes(
    shape: tuple[int, ...], dtype: str, tolerance: float, bias: bool
) -> None:
    layer, x = onward.Linear(40, 7, bias, dtype=dtype, rng=0), numbers(*shape)
    weights = {name: weight.astype(np.float64) for name, weight in layer.state_dict().items()}
    y = layer(x)
    assert (y.dtype, y.shape) == (dtype, (*shape[:-1], 7))
    np.testing.assert_allclose(y, x @ weights["weight"].T + weights.get("bias", 0), rtol=0, atol=tolerance)


@pytest.mark.parametrize("turn", [np.asfortranarray, lambda a: a[::-1, ::-1].copy()[::-1, ::-1]])
def test_linear_accepts_any_memory_layout(turn: Any) -> None:
    layer, x = onward.Linear(40, 7, rng=0), numbers(17, 40).astype(np.float32)
    np.testing.assert_array_equal(layer(turn(x)), layer(x))


def test_linear_keeps_nan_in_its_row() -> None:
    layer, x = onward.Linear(40, 7, rng=0), numbers(17, 40)
    y = layer(x)
    x[5, 3] = np.nan
    np.testing.assert_array_equal(np.delete(layer(x), 5, 0), np.delete(y, 5, 0))
    assert np.isnan(layer(x)[5]).all()


def test_initial_weights_have_the_range_of_torch() -> None:
    for weight in onward.Linear(25, 400, rng=0).state_dict().values():
        assert 0.15 < weight.max() <= 0.2
        assert -0.2 <= weight.min() < -0.15
    table = onward.Embedding(100, 40, padding_idx=-1, rng=0).state_dict()["weight"]
    assert abs(table[:-1].std() - 1) < 0.05
    np.testing.assert_array_equal(table[-1], 0)


@pytest.mark.parametrize("kind", ["i1", "u8", ">i4", "i8"])
@pytest.mark.parametrize("shape", [(), (6,), (6, 4), (0,)])
def test_embedding_returns_a_new_array_of_rows(shape: tuple[int, ...], kind: str) -> None:
    layer = onward.Embedding(11, 5, rng=0)
    x = np.random.default_rng(0).integers(0, 11, shape).astype(kind)
    y, table = layer(x), layer.state_dict()["weight"]
    np.testing.assert_array_equal(y, table[x])
    y[...] = 7
    np.testing.assert_array_equal(layer.state_dict()["weight"], table)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        ([3, -1], ArgumentError, r"x\[1\] is -1, expected 0 to 10, because .*num_embeddings=11"),
        ([[0, 11]], ArgumentError, r"x\[0, 1\] is 11"),
        (np.array(2**64 - 1, np.uint64), ArgumentError, "x is 18446744073709551615"),
        ([0.0, 1.0], DtypeError, r"x has dtype float64, but must hold integers: .*astype\(int\)"),
        ([True], DtypeError, "x has dtype bool"),
    ],
)
def test_embedding_rejects_invalid_indices(x: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        onward.Embedding(11, 5)(x)


@pytest.mark.parametrize("batch_first", [False, True])
def test_last_selects_the_last_valid_step(batch_first: bool) -> None:
    y = numbers(6, 4, 3)
    given = y.swapaxes(0, 1) if batch_first else y
    last = onward.Last(batch_first)
    np.testing.assert_array_equal(last(given), y[-1])
    expected = np.stack([y[2, 0], np.zeros(3), y[5, 2], y[0, 3]])
    np.testing.assert_array_equal(last(given, [3, 0, 6, 1]), expected)
    np.testing.assert_array_equal(last(y[:, 0]), y[-1, 0])
    np.testing.assert_array_equal(last(y[:, 0], 2), y[1, 0])
    np.testing.assert_array_equal(last(y[:, 0], lengths=0), np.zeros(3))
    np.testing.assert_array_equal(last(given[:0, :0]), np.zeros((0, 3)))


def test_last_returns_zeros_without_steps() -> None:
    np.testing.assert_array_equal(onward.Last()(np.zeros((0, 4, 3))), np.zeros((4, 3)))


def test_last_returns_a_new_array() -> None:
    y = numbers(6, 4, 3)
    onward.Last()(y)[:] = 7
    assert (y != 7).all()


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_softmax_along_any_axis(dim: int) -> None:
    x = numbers(6, 4, 3) * 100
    powers = np.exp((x - x.max(axis=dim, keepdims=True)).astype(np.longdouble))
    np.testing.assert_allclose(
        onward.Softmax(dim)(x), powers / powers.sum(axis=dim, keepdims=True), rtol=1e-14
    )


def test_softmax_keeps_nan_and_infinities_in_their_slice() -> None:
    x = numbers(7, 5)
    y = onward.Softmax()(x)
    x[1, 2], x[2], x[3, 0], x[4, :2], x[5] = np.nan, -np.inf, np.inf, -np.inf, -1e308
    spoilt = onward.Softmax()(x)
    np.testing.assert_array_equal(spoilt[[0, 6]], y[[0, 6]])
    assert np.isnan(spoilt[[1, 2, 3]]).all()
    np.testing.assert_array_equal(spoilt[4, :2], 0)
    np.testing.assert_allclose(spoilt[4:].sum(axis=1), 1)


def test_softmax_of_an_empty_array_is_empty() -> None:
    for shape in ((0, 3), (3, 0)):
        assert onward.Softmax()(np.zeros(shape)).shape == shape


@pytest.mark.parametrize("layer", [onward.Softmax(0), onward.Last()])
@pytest.mark.parametrize(("given", "computed"), [("f8", "f8"), ("f4", "f4"), ("i8", "f4"), ("f2", "f4")])
def test_layers_without_weights_keep_float64_and_convert_other_dtypes_to_float32(
    layer: Any, given: str, computed: str
) -> None:
    assert layer(np.ones((2, 3, 4), given)).dtype == computed


@pytest.mark.parametrize(
    ("layer", "x", "words"),
    [
        (
            onward.Linear(5, 7),
            np.zeros((2, 4)),
            r"x has shape \(2, 4\); the last axis must have in_features=5",
        ),
        (onward.Linear(5, 7), 1.0, r"x has shape \(\)"),
        (
            onward.Last(),
            np.zeros(3),
            r"y has shape \(3,\), but Last takes \(T, B, F\), or \(T, F\) unbatched",
        ),
        (onward.Last(True), np.zeros((1, 2, 3, 4)), r"takes \(B, T, F\)"),
        (
            onward.Softmax(2),
            np.zeros((2, 2)),
            r"x has shape \(2, 2\) and no axis dim=2",
        ),
        (onward.Softmax(), 1.0, r"x has shape \(\)"),
    ],
)
def test_wrong_shapes_are_rejected(layer: Any, x: Any, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        layer(x)
