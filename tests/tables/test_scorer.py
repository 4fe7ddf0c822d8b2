"""Columns of sequences in every Arrow type; errors that name the row and the column."""

import pickle
from concurrent.futures import CancelledError
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.in_one_test import in_one_test
from support.random_tables import rows as random_rows
from support.randomized import random_cases

import onward
from onward.errors import ArgumentError
from onward.tables import inference
from onward.tables.scorer import Scorer

RNG = np.random.default_rng(5)
NET = onward.Sequential(onward.LSTM(3, 7, rng=0), onward.Last(), onward.Linear(7, 2, rng=1))
STEPS = onward.Sequential(onward.GRU(3, 5, rng=0))
ONE = onward.Sequential(onward.RNN(1, 5, rng=0), onward.Last())
WORDS = onward.Sequential(onward.Embedding(9, 4, rng=0), onward.LSTM(4, 5, rng=1), onward.Last())


def sequences(lengths: Any) -> list[Any]:
    return [RNG.standard_normal((T, 3)).astype(np.float32) for T in lengths]


RAGGED, FIXED = sequences(RNG.integers(1, 30, 150)), sequences([4] * 150)


def column(xs: list[Any], kind: Any) -> Any:
    return pa.array([x.tolist() for x in xs], kind)


FLOATS = pa.list_(pa.float32())
COLUMNS = {
    "lists": (RAGGED, column(RAGGED, pa.list_(FLOATS))),
    "large_lists": (RAGGED, column(RAGGED, pa.large_list(pa.large_list(pa.float32())))),
    "fixed_steps": (RAGGED, column(RAGGED, pa.list_(pa.list_(pa.float32(), 3)))),
    "fixed": (FIXED, column(FIXED, pa.list_(pa.list_(pa.float32(), 3), 4))),
    "tensors": (FIXED, pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(FIXED))),
    "doubles": (RAGGED, column(RAGGED, pa.list_(pa.list_(pa.float64())))),
    "a_slice": (RAGGED[20:99], column(RAGGED, pa.list_(FLOATS)).slice(20, 79)),
    "a_slice_of_fixed": (FIXED[20:99], column(FIXED, pa.list_(pa.list_(pa.float32(), 3), 4)).slice(20, 79)),
    "chunks": (RAGGED * 2, pa.chunked_array([column(RAGGED, pa.list_(FLOATS))] * 2)),
    "none": ([], pa.array([], pa.list_(FLOATS))),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_outputs_have_the_bits_of_single_calls_for_every_type_of_column(name: str) -> None:
    xs, x = COLUMNS[name]
    table = pa.table({"id": range(len(xs)), "x": x})
    scored = Scorer(NET)(table)
    assert scored.select(["id", "x"]) == table
    assert scored["y"].type == pa.list_(pa.float32(), 2)
    for y, sequence in zip(scored["y"].to_pylist(), xs, strict=True):
        np.testing.assert_array_equal(np.float32(y), NET(sequence))
    per_step = Scorer(STEPS, output="steps")(table)["steps"]
    assert per_step.type == pa.list_(pa.list_(pa.float32(), 5))
    for y, sequence in zip(per_step.to_pylist(), xs, strict=True):
        np.testing.assert_array_equal(np.float32(y).reshape(-1, 5), STEPS(sequence))


def test_scalar_steps_are_lists_of_numbers_or_several_columns() -> None:
    x = RNG.standard_normal((20, 6)).astype(np.float32)
    expected = [ONE(row[:, None]) for row in x]
    lists = pa.table({"x": pa.array(x.tolist(), FLOATS)})
    columns = pa.table({f"t{t}": x[:, t] for t in range(6)})
    for table, name in ((lists, "x"), (columns, columns.column_names)):
        np.testing.assert_array_equal(Scorer(ONE, name)(table)["y"].to_pylist(), expected)
    ids = RNG.integers(0, 9, (20, 6))
    scored = Scorer(WORDS)(pa.table({"x": pa.array(ids.tolist())}))
    np.testing.assert_array_equal(np.float32(scored["y"].to_pylist()), [WORDS(row) for row in ids])


def test_lengths_cut_padded_sequences() -> None:
    lengths = RNG.integers(1, 5, 150)
    table = pa.table({"x": COLUMNS["fixed"][1], "n": lengths})
    scored = Scorer(NET, lengths="n")(table)
    for y, x, n in zip(scored["y"].to_pylist(), FIXED, lengths, strict=True):
        np.testing.assert_array_equal(np.float32(y), NET(x[:n]))


GOOD = [[1.0, 2.0, 3.0]]
BAD_ROWS = {
    "null": (None, "column 'x': null"),
    "null_step": ([[1.0, 2.0, 3.0], None], "column 'x': a step that is not a list of 3 numbers"),
    "short_step": ([[1.0, 2.0]], "column 'x': a step that is not a list of 3 numbers"),
    "null_number": ([[1.0, None, 3.0]], "column 'x': a null among its numbers"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_raises_with_its_number_and_column_or_is_set_aside(name: str) -> None:
    bad, words = BAD_ROWS[name]
    table = pa.table({"id": [7, 8, 9], "x": pa.array([GOOD, bad, GOOD * 2], pa.list_(FLOATS))})
    with pytest.raises(ArgumentError, match=f"row 1, {words}"):
        Scorer(NET)(table)
    with pytest.raises(ArgumentError, match=f"row 8, {words}"):
        Scorer(NET, row="id")(table)
    scored = Scorer(NET, on_error="keep")(table)
    assert scored["y_error"].to_pylist() == [None, words, None]
    first, second, third = scored["y"].to_pylist()
    assert second is None
    np.testing.assert_array_equal(np.float32([first, third]), [NET(GOOD), NET(GOOD * 2)])
    assert Scorer(STEPS, on_error="keep")(table)["y"].null_count == 1


def test_rows_with_invalid_lengths_or_values_are_bad() -> None:
    table = pa.table({"x": [[1, 2], [3, 99], [4, 5], [6, 7]], "n": [2, 2, 3, None]})
    scored = Scorer(WORDS, lengths="n", on_error="keep")(table)
    why = scored["y_error"].to_pylist()
    assert why[0] is None
    assert why[1].startswith("column 'x': x[1, 0] is 99, expected 0 to 8")
    assert why[2:] == [f"column 'n': {n}, but the sequence has 2 steps" for n in (3, None)]
    np.testing.assert_array_equal(np.float32(scored["y"][0].as_py()), WORDS([1, 2]))


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"a": [1]}, {}, "there is no column 'x'; the columns are a"),
        ({"x": ["text"]}, {}, "column 'x' has type string, but the model takes lists of lists of 3 numbers"),
        ({"x": [[1.0, 2.0, 3.0]]}, {}, "column 'x' has type list<item: double>"),
        ({"x": [["a"]]}, {}, "column 'x' has type list<item: string>"),
        ({"x": [[GOOD]]}, {}, "column 'x' has type list<item: list<item: list"),
        ({"x": [GOOD], "y": [1]}, {}, "already has a column 'y'"),
        ({"x": [GOOD], "n": [1.0]}, {"lengths": "n"}, "column 'n' has type double, but must hold integers"),
        ({"x": [GOOD]}, {"lengths": "n"}, "there is no column 'n'"),
        ({"x": [GOOD]}, {"row": "id"}, "there is no column 'id'"),
        ({"a": [1.0], "b": [2.0]}, {"input": ["a", "b"]}, "column 'a' has type double, one of 2 columns"),
    ],
)
def test_errors_name_columns_that_are_missing_or_have_another_type(
    columns: Any, options: Any, words: str
) -> None:
    with pytest.raises(ArgumentError, match=words):
        Scorer(NET, **options)(pa.table(columns))


def test_a_tensor_of_another_shape_is_rejected() -> None:
    table = pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((2, 3, 4)))})
    with pytest.raises(ArgumentError, match=r"row 0, column 'x': expected an array of shape \(T, 3\)"):
        Scorer(NET)(table)


def test_wrong_arguments_are_rejected_by_the_constructor() -> None:
    with pytest.raises(ArgumentError, match="on_error='skip', but must be 'fail' or 'keep'"):
        Scorer(NET, on_error="skip")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ArgumentError, match="cannot score tables"):
        Scorer(onward.Sequential())


def test_a_scorer_can_be_pickled() -> None:
    table = pa.table({"x": COLUMNS["lists"][1]})
    assert pickle.loads(pickle.dumps(Scorer(NET)))(table) == Scorer(NET)(table)


def test_a_row_whose_output_is_nan_is_bad() -> None:
    table = pa.table({"x": pa.array([GOOD, [[1.0, np.nan, 3.0]], GOOD * 2], pa.list_(FLOATS))})
    with pytest.raises(
        ArgumentError, match=r"row 1, column 'x': the model's output is NaN .*--on-error keep"
    ):
        Scorer(NET)(table)
    scored = Scorer(NET, on_error="keep")(table)
    assert scored["y_error"].to_pylist() == [None, "column 'x': the model's output is NaN", None]
    assert scored["y"].null_count == 1


def test_scorer_is_an_attribute_of_onward_tables() -> None:
    assert onward.tables.Scorer is Scorer  # type: ignore[attr-defined]  # imported when it is first named


def test_a_cancelled_call_ends_after_the_current_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled, batches = Event(), []

    def run_batch(*arguments: Any) -> Any:
        batches.append(len(arguments[1]))
        cancelled.set()
        return original(*arguments)

    original = inference.run_batch
    scorer, table = Scorer(NET), pa.table({"x": COLUMNS["lists"][1]})
    monkeypatch.setattr(inference, "run_batch", run_batch)
    with pytest.raises(CancelledError):
        scorer(table, cancelled)
    assert batches == [64]


def test_an_empty_list_is_set_aside_unless_the_output_has_steps() -> None:
    lstm = onward.LSTM(3, 4, rng=0)
    model = onward.Sequential(lstm, onward.Last(), onward.Linear(4, 2, rng=0))
    column = pa.array([[[1.0, 2.0, 3.0]], []], pa.list_(pa.list_(pa.float64())))
    scored = Scorer(model, "x", on_error="keep")(pa.table({"x": column})).to_pylist()
    assert scored[0]["y"] is not None and scored[1]["y"] is None
    assert scored[1]["y_error"] == "column 'x': a sequence without a step"
    assert Scorer(lstm, "x")(pa.table({"x": column}))["y"].to_pylist()[1] == []


@in_one_test("seed", range(random_cases(150)))
def test_random_rows_have_the_outputs_of_single_calls(seed: int) -> None:
    """A null in a column of booleans ended in an error of pyarrow."""
    table, arguments, expected = random_rows(np.random.default_rng(seed))
    net = onward.Sequential(onward.GRU(3, 5, rng=0), onward.Last(), onward.Linear(5, 2, rng=1))
    found = Scorer(net, on_error="keep", **arguments)(table)
    for y, reason, x in zip(found["y"].to_pylist(), found["y_error"].to_pylist(), expected, strict=True):
        assert (y is None) == (reason is not None) == (x is None), (reason, x)
        if x is not None:
            assert y == net(x).tolist()
