"""Batches: every sequence once per epoch, little padding, and the right reading of the targets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import onward
from onward import train
from onward.errors import ArgumentError, DtypeError, OnwardError, ShapeError
from onward.train.batches import as_data

LENGTHS = np.random.default_rng(0).integers(1, 40, 101)
ITEMS = [np.full((length, 2), n, np.float32) for n, length in enumerate(LENGTHS)]
CLASSES = np.arange(101)


def test_an_epoch_contains_each_sequence_once_with_its_length_and_target() -> None:
    batches = list(train.Batches(ITEMS, CLASSES, batch_size=16).epoch(np.random.default_rng(0)))
    assert sorted(np.concatenate([batch.targets for batch in batches]).tolist()) == CLASSES.tolist()
    assert len(batches) == 7
    for x, targets, lengths, goes_on, weights in batches:
        assert lengths is not None and not goes_on and weights is None
        np.testing.assert_array_equal(lengths, LENGTHS[targets])
        valid = np.arange(len(x))[:, None] < lengths
        np.testing.assert_array_equal(x, np.where(valid, targets, 0)[:, :, None].repeat(2, 2))


def test_batches_group_similar_lengths_and_change_with_the_seed() -> None:
    data = train.Batches(ITEMS, CLASSES, batch_size=16)
    epochs = [list(data.epoch(np.random.default_rng(seed))) for seed in (0, 1, 0)]
    padded = sum(batch.x.shape[0] * batch.x.shape[1] for batch in epochs[0])
    assert padded < 1.5 * LENGTHS.sum() < 0.8 * 101 * LENGTHS.max()
    targets = [np.concatenate([batch.targets for batch in epoch]).tolist() for epoch in epochs]
    assert targets[0] == targets[2] != targets[1]


def test_lists_and_padded_arrays_of_the_same_sequences_give_the_same_batches() -> None:
    steps = [np.arange(len(item)) for item in ITEMS]
    x, y = np.zeros((40, 101, 2), np.float32), np.zeros((40, 101), int)
    for b, (item, step) in enumerate(zip(ITEMS, steps, strict=True)):
        x[: len(item), b], y[: len(item), b] = item, step
    forms = (
        train.Batches(ITEMS, steps),
        train.Batches(x, y, LENGTHS),
        train.Batches(x.swapaxes(0, 1), y.T, LENGTHS, batch_first=True, per_step=True),
        as_data((list(x.swapaxes(0, 1)), list(y.T), LENGTHS), onward.LSTM(2, 3)),
    )
    for listed, padded, rows, cut in zip(
        *(data.epoch(np.random.default_rng(3)) for data in forms), strict=True
    ):
        for one, other, third in zip(listed[:3], padded[:3], cut[:3], strict=True):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one, third)
        np.testing.assert_array_equal(padded.x.swapaxes(0, 1), rows.x)
        np.testing.assert_array_equal(padded.targets.T, rows.targets)


@pytest.mark.parametrize("batch_first", [False, True])
def test_chunks_cover_the_whole_sequence_side_by_side(batch_first: bool) -> None:
    x = np.arange(103)
    chunks = list(train.Chunks(x, x + 1, batch_size=4, steps=10, batch_first=batch_first).epoch(None))
    assert [chunk.goes_on for chunk in chunks] == [False, True, True]
    rows = np.concatenate([c.x if batch_first else c.x.T for c in chunks], axis=1)
    np.testing.assert_array_equal(rows, x[:100].reshape(4, 25))
    assert all((chunk.targets == chunk.x + 1).all() for chunk in chunks)


N = T = size = 6
SHORT = np.array([6, 1, 2, 3, 4, 5])


def per_sequence_model(batch_first: bool = False) -> Any:
    return onward.Sequential(
        onward.LSTM(2, 5, batch_first=batch_first, rng=0),
        onward.Last(batch_first),
        onward.Linear(5, size, rng=1),
    )


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
def test_vector_targets_of_sequences_are_not_cut_when_their_size_equals_the_number_of_steps(
    batch_first: bool, as_list: bool, explicit: bool
) -> None:
    x = np.random.default_rng(0).normal(0, 1, (N, T, 2)).astype(np.float32)
    y = np.arange(1.0, N * size + 1).reshape(N, size)
    model = per_sequence_model(batch_first)
    inputs: Any = list(x) if as_list else x if batch_first else x.swapaxes(0, 1)
    for targets in (y, list(y)) if as_list else (y,):
        batches = train.Batches(
            inputs, targets, SHORT, 6, batch_first=batch_first, per_step=False if explicit else None
        )
        (batch,) = as_data(batches, model).epoch(None)
        order = np.argsort(SHORT)
        np.testing.assert_array_equal(batch.targets, y[order])
        np.testing.assert_array_equal(batch.lengths, SHORT[order])
        rows = batch.x if batch_first else batch.x.swapaxes(0, 1)
        expected = np.where(np.arange(T)[:, None] < SHORT[order][:, None, None], x[order], 0)
        np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("as_list", [False, True])
def test_labels_of_steps_are_cut_when_the_model_has_an_output_for_each_step(
    batch_first: bool, as_list: bool
) -> None:
    x, y = np.ones((N, T, 2), np.float32), np.arange(N * T).reshape(N, T)
    model = onward.Sequential(onward.LSTM(2, 5, batch_first=batch_first), onward.Linear(5, N * T))
    inputs: Any = list(x) if as_list else x if batch_first else x.swapaxes(0, 1)
    targets: Any = list(y) if as_list else y if batch_first else y.T
    (batch,) = as_data(train.Batches(inputs, targets, SHORT, 6, batch_first=batch_first), model).epoch(None)
    rows = batch.targets if batch_first else batch.targets.T
    order = np.argsort(SHORT)
    np.testing.assert_array_equal(rows, np.where(np.arange(T) < SHORT[order][:, None], y[order], 0))


def test_a_model_learns_constant_vector_targets_of_sequences_of_any_length() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (T, 30, 2)), np.ones((30, size))
    lengths = rng.integers(1, T + 1, 30)
    model = per_sequence_model()
    # 30 sequences in a time-first array of 30 steps would be another coincidence
    train.fit(
        model, ([*x.swapaxes(0, 1)], [*y], lengths), loss="mse", epochs=200, optimizer=train.Adam(0.02), rng=0
    )
    np.testing.assert_allclose(model(x[:, :1]), 1, atol=0.05)


x, y = np.ones((5, 3, 2)), np.ones(3, int)
BAD: list[tuple[Callable[[], Any], type[OnwardError], str]] = [
    (lambda: train.Batches([], []), ArgumentError, "the data is empty"),
    (lambda: train.Batches(np.ones((5, 0, 2)), np.ones(0, int)), ArgumentError, "the data is empty"),
    (lambda: train.Batches(x, y, batch_size=4), ArgumentError, "batch_size=4, but the data has 3 sequences"),
    (lambda: train.Batches(x, np.ones(4, int)), ShapeError, r"y has shape \(4,\), but x has 3 sequences"),
    (lambda: train.Batches(x, 1), ShapeError, r"y has shape \(\), but x has 3"),
    (lambda: train.Batches(np.ones(5), y), ShapeError, r"expected \(T, N"),
    (lambda: train.Batches(x, y, [5, 5, 6]), ArgumentError, r"lengths\[2\] is 6"),
    (
        lambda: train.Batches([x[0], x[0, :2]], [0, 1], [3, 3]),
        ArgumentError,
        r"lengths\[1\] is 3, but x\[1\] has 2 steps",
    ),
    (lambda: train.Batches([x[0], x[1]], [0, 1], [3]), ShapeError, r"lengths has shape \(1,\)"),
    (lambda: train.Batches([x[0], np.ones((4, 3))], [0, 1]), ShapeError, r"x\[1\] has shape \(4, 3\)"),
    (lambda: train.Batches([x[0]], [y, y]), ShapeError, "2 targets, but x has 1"),
    (
        lambda: train.Batches([x[0], x[1]], [np.ones(3, int), np.ones(2, int)]),
        ShapeError,
        r"y\[1\] has shape \(2,\), but x\[1\] has 3 steps",
    ),
    (
        lambda: train.Batches([x[0]], [np.ones(2, int)], per_step=True),
        ShapeError,
        r"y\[0\] has shape \(2,\), but x\[0\] has 3 steps",
    ),
    (lambda: train.Batches(x, y, per_step=True), ShapeError, "expected one target per time step"),
    (
        lambda: train.Batches(x, np.ones((5, 3, 2)), per_step=False),
        ShapeError,
        r"expected \(3,\) or \(3, O\)",
    ),
    (lambda: train.Batches(x, y, per_step="a"), ArgumentError, "per_step='a'"),
    (
        lambda: list(train.Batches(np.ones((3, 3, 2)), np.ones((3, 3))).epoch(None)),
        ArgumentError,
        "per_step=True",
    ),
    (lambda: train.Batches([[1, [2]]], [1]), DtypeError, r"x\[0\] cannot be read"),
    (lambda: train.Chunks([], []), ArgumentError, "the data is empty"),
    (
        lambda: train.Chunks(np.ones(5), np.ones(5), 6),
        ArgumentError,
        "batch_size=6, but the data has 5 steps",
    ),
    (lambda: train.Chunks(np.ones(5), np.ones(4)), ShapeError, r"x has shape \(5,\) and y \(4,\)"),
    (lambda: train.Chunks(np.ones(5), np.ones(5), 1, 0), ArgumentError, "steps=0"),
]


def test_an_iterable_yields_tuples_or_batches() -> None:
    model, last = onward.LSTM(2, 3), train.Batch(x, y, goes_on=True)
    batches = list(as_data([(x, y), (x, y, [5, 5, 4]), last], model).epoch(None))
    assert [batch.lengths for batch in batches] == [None, [5, 5, 4], None] and batches[2] is last
    for wrong in ((x, y, None, True), (x,)):
        with pytest.raises(ArgumentError, match=f"yielded a tuple of {len(wrong)}; expected"):
            list(as_data([wrong], model).epoch(None))


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_errors_name_the_bad_data(call: Callable[[], Any], error: type[OnwardError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("first", "second"), [("u1", "i8"), ("i8", "f4"), ("?", "f8"), ("f4", ">f8"), ("i4", "f2"), ("f8", "u1")]
)
def test_no_sequence_of_a_batch_is_converted_to_the_dtype_of_another(first: str, second: str) -> None:
    x = [np.ones((1, 2), first), np.array([[0.25, 100.5], [-3.75, 7.0]]).astype(second)]
    y = [item[:, :1] for item in x]
    batch = next(train.Batches(x, y, per_step=True).epoch(None))
    for padded, given in ((batch.x, x), (batch.targets, y)):
        for n, item in enumerate(given):
            assert (padded[: len(item), n] == item).all()


@pytest.mark.parametrize("batch_first", [False, True])
def test_batches_have_the_layout_of_the_model(batch_first: bool) -> None:
    model = onward.LSTM(2, 3, batch_first=not batch_first)
    x = np.random.default_rng(0).normal(size=(4, 4, 2))
    batches = train.Batches(x, np.arange(4), batch_first=batch_first, per_step=False)
    batch, own = (next(data.epoch(None)) for data in (batches.for_model(model), batches))
    np.testing.assert_array_equal(batch.x, own.x.swapaxes(0, 1))
    chunks = train.Chunks(x[0], x[0], batch_size=2, steps=2, batch_first=batch_first)
    batch, own = (next(data.epoch(None)) for data in (chunks.for_model(model), chunks))
    np.testing.assert_array_equal(batch.x, own.x.swapaxes(0, 1))
    np.testing.assert_array_equal(batch.targets, own.targets.swapaxes(0, 1))
    assert chunks.for_model(onward.Linear(2, 3)).batch_first == batch_first


def test_targets_per_step_differ_in_their_number_of_steps_only() -> None:
    x = [np.zeros((3, 2)), np.zeros((4, 2))]
    with pytest.raises(ShapeError, match=r"y\[1\] has shape \(4, 5\), but y\[0\] \(3, 2\)"):
        train.Batches(x, [np.zeros((3, 2)), np.zeros((4, 5))])
