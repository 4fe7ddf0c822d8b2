"""Windows of long sequences and the targets that follow them."""

from pathlib import Path

import numpy as np
import pytest

from onward.errors import ArgumentError
from onward.tables import data
from onward.tables.data import Saved, Selection

FORECAST = Selection(("a", "y"), ("y",), window=3, horizon=2)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = "".join(f"2024-01-{day:02},{day},{day * day}\n" for day in range(8, 0, -1))  # backwards
    (tmp_path / "x.csv").write_text("day,a,y\n" + rows)
    return tmp_path / "x.csv"


def test_every_window_has_the_targets_of_the_steps_that_follow(table: Path) -> None:
    selection = Selection(("a", "y"), ("y",), time="day", window=3, horizon=2)
    sequences = data.read(table, selection)
    assert len(sequences.items) == 4
    assert isinstance(sequences.targets, np.ndarray)
    for start, (item, target) in enumerate(zip(sequences.items, sequences.targets, strict=True), 1):
        np.testing.assert_array_equal(item, [[day, day * day] for day in range(start, start + 3)])
        assert target.tolist() == [(start + 3) ** 2, (start + 4) ** 2]
    assert sequences.names == [f"2024-01-0{day}" for day in (3, 4, 5, 6)]


def test_windows_whose_future_is_unknown_are_read_on_request(table: Path) -> None:
    selection = Selection(("a",), ("y",), time="day", window=3, horizon=2)
    targets = data.read(table, selection, future=True).targets
    assert isinstance(targets, np.ndarray)
    np.testing.assert_array_equal(targets[-3:], [[49, 64], [64, np.nan], [np.nan, np.nan]])


def test_without_input_the_target_is_an_input_too(table: Path) -> None:
    sequences = data.read(table, Selection((), ("y",), time="day", window=3))
    assert sequences.selection.inputs == ("a", "y")


def test_windows_do_not_cross_sequences(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(
        "shop,a,y\n" + "".join(f"{'pq'[n >= 4]},{n},{n / 2}\n" for n in range(4 + 6))
    )
    sequences = data.read(tmp_path / "x.csv", Selection(("a",), ("y",), "shop", window=3))
    starts = [int(item[0, 0]) for item in sequences.items]
    assert starts == [0, 4, 5, 6]
    assert sequences.names == ["p:2", "q:2", "q:3", "q:4"]


def test_the_window_that_a_model_was_trained_with_is_used(table: Path) -> None:
    sequences = data.read(table, saved=Saved(FORECAST))
    assert sequences.items[0].shape == (3, 2) and sequences.selection.horizon == 2


def test_arrays_are_cut_into_windows(tmp_path: Path) -> None:
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10.0)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    sequences = data.read(tmp_path / "x.npz", Selection(window=4, horizon=3))
    assert isinstance(sequences.targets, np.ndarray)
    np.testing.assert_array_equal(sequences.targets, [[4 + k, 5 + k, 6 + k] for k in range(4)])


@pytest.mark.parametrize(
    ("text", "selection", "words"),
    [
        ("a,y\n1,2\n3,4\n", FORECAST, "longest sequence has 2 steps, but --window 3 and --horizon 2 need 5"),
        ("a,y\n1,p\n3,p\n", FORECAST, "column 'y': 'p' is not a number"),
        ("a,y\n1,2\n3,4\n", Selection(horizon=2), "--horizon needs --window"),
    ],
)
def test_tables_that_cannot_be_cut_are_errors(
    tmp_path: Path, text: str, selection: Selection, words: str
) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises((ArgumentError, OSError), match=words):
        data.read(tmp_path / "x.csv", selection)
