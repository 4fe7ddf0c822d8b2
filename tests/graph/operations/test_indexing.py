"""Operations at indices, and along sorted or accumulated axes, against loops."""

from typing import Any

import numpy as np
import pytest

from onward import _core
from onward.errors import ArgumentError, ShapeError
from onward.graph.operations import OPERATIONS

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5)).astype(np.float32)


def computed(name: str, *inputs: Any, **attributes: Any) -> Any:
    arrays = [None if x is None else np.asarray(x) for x in inputs]
    found = OPERATIONS[name].compute(arrays, attributes)
    return found[0] if len(found) == 1 else found


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements(axis: int) -> None:
    size = X.shape[axis]
    indices = RNG.integers(-size, size, (2, 3, 4))
    expected = np.empty(indices.shape, np.float32)
    for place in np.ndindex(*indices.shape):
        source = list(place)
        source[axis] = indices[place]
        expected[place] = X[tuple(source)]
    np.testing.assert_array_equal(computed("GatherElements", X, indices, axis=axis), expected)


@pytest.mark.parametrize("batch_dims", [0, 1, 2])
def test_gather_nd(batch_dims: int) -> None:
    indices = RNG.integers(-3, 3, (3, 4, 1))
    y = computed("GatherND", X, indices, batch_dims=batch_dims)
    for place in np.ndindex(3, 4):
        np.testing.assert_array_equal(y[place], X[(*place[:batch_dims], *indices[place])])


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter(reduction: str) -> None:
    combine = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    combine["none"] = lambda old, new: new  # type: ignore[assignment]  # also a function of two numbers
    indices = np.array([[0, -1, 2], [3, 1, 1 if reduction != "none" else 2]])
    updates = RNG.standard_normal((2, 3)).astype(np.float32)
    y = computed("ScatterElements", X[:, :, 0], indices, updates, axis=1, reduction=reduction)
    expected = X[:, :, 0].copy()
    for i, j in np.ndindex(2, 3):
        expected[i, indices[i, j]] = combine[reduction](expected[i, indices[i, j]], updates[i, j])
    np.testing.assert_array_equal(y, expected)

    pairs = np.array([[0, 1], [2, -1]] + ([[0, 1]] if reduction != "none" else []))
    rows = RNG.standard_normal((len(pairs), 5)).astype(np.float32)
    y = computed("ScatterND", X, pairs, rows, reduction=reduction)
    expected = X.copy()
    for (i, j), row in zip(pairs, rows, strict=True):
        expected[i, j] = combine[reduction](expected[i, j], row)
    np.testing.assert_array_equal(y, expected)


def test_a_cache_continues_at_its_beginning_in_mode_circular() -> None:
    past, update = np.zeros((2, 3, 4, 1)), np.arange(1.0, 13).reshape(2, 3, 2, 1)
    y = computed("TensorScatter", past, update, [1, 3], mode="circular")
    assert y[0, 2, :, 0].tolist() == [0, 5, 6, 0]
    assert y[1, 0, :, 0].tolist() == [8, 0, 0, 7]
    with pytest.raises(ArgumentError, match="the index 4 is out of range for an axis of size 4"):
        computed("TensorScatter", past, update, [1, 3])


@pytest.mark.parametrize("index", [-4, 3])
def test_indices_out_of_range_are_errors(index: int) -> None:
    message = f"the index {index} is out of range for an axis of size 3"
    for name in ("Gather", "GatherElements"):
        with pytest.raises(ArgumentError, match=message):
            computed(name, X, [[[index]]])
    for name in ("GatherND", "ScatterND"):
        with pytest.raises(ArgumentError, match=message):
            computed(name, X, [[index]], *([np.zeros((1, 4, 5), np.float32)] if name == "ScatterND" else []))
    with pytest.raises(ArgumentError, match=message):
        computed("ScatterElements", X, [[[index]]], np.zeros((1, 1, 1), np.float32))
    with pytest.raises(ShapeError, match="have 4 entries each, for 3 axes"):
        computed("GatherND", X, [[0, 0, 0, 0]])


def test_one_hot_of_a_number_has_one_axis() -> None:
    assert computed("OneHot", 2, [3], [5, 9]).tolist() == [5, 5, 9]


def test_one_hot_is_off_out_of_range() -> None:
    y = computed("OneHot", [1, -1, 7, -4], 3, [5, 9], axis=0)
    assert y.T.tolist() == [[5, 9, 5], [5, 5, 9], [5, 5, 5], [5, 5, 5]]


def test_equal_elements_keep_their_order() -> None:
    x = np.array([[3, 1, 3, 2, 1], [0, 0, 0, 0, 0]], np.uint8)
    values, indices = computed("TopK", x, [4])
    assert values.tolist() == [[3, 3, 2, 1], [0, 0, 0, 0]]
    assert indices.tolist() == [[0, 2, 3, 1], [0, 1, 2, 3]]
    values, indices = computed("TopK", x, [3], largest=0)
    assert (values[0].tolist(), indices[0].tolist()) == ([1, 1, 2], [1, 4, 3])
    with pytest.raises(ArgumentError, match="k=6; expected 0 to 5"):
        computed("TopK", x, [6])
    assert computed("ArgMax", x, axis=1, keepdims=0).tolist() == [0, 0]
    assert computed("ArgMax", x, axis=-1, select_last_index=1).tolist() == [[2], [4]]
    assert computed("ArgMin", x, axis=1, keepdims=0, select_last_index=1).tolist() == [4, 4]
    assert computed("Hardmax", x.astype(np.float32))[0].tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("is_sorted", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique_indices_restore_the_input(axis: int | None, is_sorted: int) -> None:
    x = RNG.integers(0, 2, (6, 2)).astype(np.float32)
    attributes = {"sorted": is_sorted} | ({} if axis is None else {"axis": axis})
    y, first, inverse, counts = computed("Unique", x, **attributes)
    flat, place = (x.ravel(), 0) if axis is None else (x, axis)
    np.testing.assert_array_equal(np.take(y, inverse, place), flat)
    np.testing.assert_array_equal(np.take(flat, first, place), y)
    np.testing.assert_array_equal(counts, np.bincount(inverse))
    assert is_sorted or (np.diff(first) > 0).all()


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_sums_accumulate_in_the_order_of_the_indices(exclusive: int, reverse: int) -> None:
    x = RNG.standard_normal((2, 300)).astype(np.float32)
    options = {"exclusive": exclusive, "reverse": reverse}
    for name, first, combine in (("CumSum", 0, np.add), ("CumProd", 1, np.multiply)):
        expected = np.empty_like(x)
        with _core.Flushing():
            for row, places in zip(x, expected, strict=True):
                total = np.float32(first)
                for i in range(299, -1, -1) if reverse else range(300):
                    before, total = total, combine(total, row[i])
                    places[i] = before if exclusive else total
        np.testing.assert_array_equal(computed(name, x, -1, **options), expected)
        np.testing.assert_array_equal(computed(name, np.asfortranarray(x), 1, **options), expected)
    assert computed("CumSum", np.array([100, 100], np.int8), 0).tolist() == [100, -56]


def test_compress_and_non_zero() -> None:
    np.testing.assert_array_equal(computed("Compress", X, [True, False, True], axis=1), X[:, [0, 2]])
    np.testing.assert_array_equal(computed("Compress", X, [False, True]), X.ravel()[1:2])
    np.testing.assert_array_equal(computed("NonZero", X > 0), np.array(np.nonzero(X > 0)))
    assert computed("NonZero", np.array(3)).shape == (0, 1)


def test_overlapping_boxes_are_suppressed_within_their_class() -> None:
    boxes = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [3, 3, 2, 2]]], np.float32)
    scores = np.array([[[0.5, 0.9, 0.8], [0.7, 0.1, 0.7]]], np.float32)
    found = computed("NonMaxSuppression", boxes, scores, [3], np.float32(0.5), np.float32(0.2))
    assert found.tolist() == [[0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 2]]
    assert computed("NonMaxSuppression", boxes, scores).shape == (0, 3)
