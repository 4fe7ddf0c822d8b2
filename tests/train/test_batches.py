"""Data in batches: every sequence once, padded little, by what order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onward import train
from onward.errors import ArgumentError, DtypeError, OnwardError, ShapeError
from onward.train.batches import as_data

LENGTHS = np.random.default_rng(0).integers(1, 40, 101)
ITEMS = [np.full((length, 2), n, np.float32) for n, length in enumerate(LENGTHS)]
CLASSES = np.arange(101)


def test_every_sequence_is_in_an_epoch_once_with_its_length_and_target() -> None:
    batches = list(train.Batches(ITEMS, CLASSES, batch_size=16).epoch(np.random.default_rng(0)))
    assert sorted(np.concatenate([batch.targets for batch in batches]).tolist()) == CLASSES.tolist()
    assert len(batches) == 7
    for x, targets, lengths, goes_on in batches:
        assert lengths is not None and not goes_on
        np.testing.assert_array_equal(lengths, LENGTHS[targets])
        valid = np.arange(len(x))[:, None] < lengths
        np.testing.assert_array_equal(x, np.where(valid, targets, 0)[:, :, None].repeat(2, 2))


def test_sequences_of_like_length_go_together_and_the_order_changes() -> None:
    data = train.Batches(ITEMS, CLASSES, batch_size=16)
    epochs = [list(data.epoch(np.random.default_rng(seed))) for seed in (0, 1, 0)]
    padded = sum(batch.x.shape[0] * batch.x.shape[1] for batch in epochs[0])
    assert padded < 1.5 * LENGTHS.sum() < 0.8 * 101 * LENGTHS.max()
    targets = [np.concatenate([batch.targets for batch in epoch]).tolist() for epoch in epochs]
    assert targets[0] == targets[2] != targets[1]


def test_all_forms_of_the_same_sequences_give_the_same_batches() -> None:
    steps = [np.arange(len(item)) for item in ITEMS]
    x, y = np.zeros((40, 101, 2), np.float32), np.zeros((40, 101), int)
    for b, (item, step) in enumerate(zip(ITEMS, steps, strict=True)):
        x[: len(item), b], y[: len(item), b] = item, step
    forms = (
        train.Batches(ITEMS, steps),
        train.Batches(x, y, LENGTHS),
        train.Batches(x.swapaxes(0, 1), y.T, LENGTHS, batch_first=True),
        as_data((list(x.swapaxes(0, 1)), list(y.T), LENGTHS), False),
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
def test_chunks_run_side_by_side_through_the_whole_sequence(batch_first: bool) -> None:
    x = np.arange(103)
    chunks = list(train.Chunks(x, x + 1, batch_size=4, steps=10, batch_first=batch_first).epoch(None))
    assert [chunk.goes_on for chunk in chunks] == [False, True, True]
    rows = np.concatenate([c.x if batch_first else c.x.T for c in chunks], axis=1)
    np.testing.assert_array_equal(rows, x[:100].reshape(4, 25))
    assert all((chunk.targets == chunk.x + 1).all() for chunk in chunks)


x, y = np.ones((5, 3, 2)), np.ones(3, int)
BAD: list[tuple[Callable[[], Any], type[OnwardError], str]] = [
    (lambda: train.Batches([], []), ArgumentError, "the data is empty"),
    (lambda: train.Batches(np.ones((5, 0, 2)), np.ones(0, int)), ArgumentError, "the data is empty"),
    (lambda: train.Batches(x, y, batch_size=4), ArgumentError, "batch_size=4, but the data has 3 sequences"),
    (lambda: train.Batches(x, np.ones(4, int)), ShapeError, "4 targets, but x has 3 sequences"),
    (lambda: train.Batches(x, 1), ShapeError, "1 targets, but x has 3"),
    (lambda: train.Batches(np.ones(5), y), ShapeError, r"must be \(T, N"),
    (lambda: train.Batches(x, y, [5, 5, 6]), ArgumentError, r"lengths\[2\] is 6"),
    (
        lambda: train.Batches([x[0], x[0, :2]], [0, 1], [3, 3]),
        ArgumentError,
        r"lengths\[1\] is 3, but x\[1\] has 2 steps",
    ),
    (lambda: train.Batches([x[0], x[1]], [0, 1], [3]), ShapeError, r"lengths has shape \(1,\)"),
    (lambda: train.Batches([x[0], np.ones((4, 3))], [0, 1]), ShapeError, r"x\[1\] has shape \(4, 3\)"),
    (lambda: train.Batches([x[0]], [y, y]), ShapeError, "2 targets, but x has 1"),
    (lambda: train.Batches([x[0]], [np.ones(2, int)]), ShapeError, r"y\[0\] has 2 steps, but x\[0\] has 3"),
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


def test_batches_given_one_by_one_are_tuples_or_say_by_name_that_they_go_on() -> None:
    given = train.Batch(x, y, goes_on=True)
    batches = list(as_data([(x, y), (x, y, [5, 5, 4]), given], False).epoch(None))
    assert [batch.lengths for batch in batches] == [None, [5, 5, 4], None] and batches[2] is given
    for wrong in ((x, y, None, True), (x,)):
        with pytest.raises(ArgumentError, match=f"gave a tuple of {len(wrong)}, but must give"):
            list(as_data([wrong], False).epoch(None))


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_data_is_named(call: Callable[[], Any], error: type[OnwardError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
