"""Tables with a row for each step: columns, groups, order in time, gaps, classes and targets; errors."""

import gzip
from dataclasses import replace
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.in_one_test import in_one_test
from support.random_tables import table as random_table
from support.random_tables import typed as random_typed_table
from support.randomized import random_cases

from onward.errors import FileError
from onward.tables import columns, data
from onward.tables.data import Saved, Selection


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two patients whose rows alternate and run backwards in time."""
    return write(
        tmp_path / "x.csv",
        "patient,day,pulse,note,weight,outcome\n"
        "anna,2024-02-01,70,x,1.5,well\n"
        "bert,2024-01-09,90,y,4.5,ill\n"
        "anna,2024-01-31,60,z,2.5,well\n"
        "bert,2023-12-31,80,,3.5,ill\n",
    )


def test_columns_are_selected_grouped_and_ordered(table: Path) -> None:
    sequences = data.read(table, Selection(("weight", "pulse"), ("outcome",), "patient", "day"))
    np.testing.assert_array_equal(sequences.items[0], [[2.5, 60], [1.5, 70]])
    np.testing.assert_array_equal(sequences.items[1], [[3.5, 80], [4.5, 90]])
    assert sequences.names == ["anna", "bert"]
    names = [list(each) for each in sequences.times or []]
    assert names == [["2024-01-31", "2024-02-01"], ["2023-12-31", "2024-01-09"]]
    assert sequences.classes == ("ill", "well")
    assert sequences.labels is not None and sequences.labels.tolist() == [1, 0]


def test_without_a_time_column_rows_stay_in_the_order_of_the_file(table: Path) -> None:
    sequences = data.read(table, Selection(("pulse",), group="patient"))
    np.testing.assert_array_equal(sequences.items, [[[70], [60]], [[90], [80]]])


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["10", "9", "-1.5"], [2, 1, 0]),  # as numbers, not as text
        (["2024-01-02", "2023-12-31 23:59", "2024/01/01"], [1, 2, 0]),
        (["2024-01-01T12:00+02:00", "2024-01-01T11:00+00:00", "2024-01-01T09:00Z"], [2, 0, 1]),
    ],
)
def test_numbers_and_dates_order_the_steps(tmp_path: Path, cells: list[str], order: list[int]) -> None:
    rows = "".join(f"{cell},{n}\n" for n, cell in enumerate(cells))
    sequences = data.read(write(tmp_path / "x.csv", "t,a\n" + rows), Selection(time="t"))
    assert sequences.items[0][:, 0].tolist() == order


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["2024-01-01", "soon"], "line 3, column 't': 'soon' is not a date: write it as 2024-01-31"),
        (["2024-01-01", "2024-01-01"], "line 3, column 't': '2024-01-01' occurs twice in one sequence"),
        (["2024-01-01", "2024-01-02T00:00Z"], "dates with a time zone and dates without one"),
    ],
)
def test_times_that_cannot_be_ordered_are_errors(tmp_path: Path, cells: list[str], words: str) -> None:
    rows = "".join(f"{cell},1\n" for cell in cells)
    with pytest.raises(FileError, match=words):
        data.read(write(tmp_path / "x.csv", "t,a\n" + rows), Selection(time="t"))


def test_rows_that_do_not_fit_into_their_group_are_not_explained_by_a_missing_group(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "id,t,a\np,1,1\nq,1,1\nq,2,1\np,1,1\n")
    classes = Selection(("a",), ("y",), "id", task="classify")
    with pytest.raises(
        FileError, match=r"line 5, column 't': '1' occurs twice in 'p': keep one of the rows$"
    ):
        data.read(path, Selection(group="id", time="t"))
    with pytest.raises(FileError, match=r"'2' in a sequence of class '1': .*; pass --task label-steps$"):
        data.read(write(tmp_path / "y.csv", "id,a,y\np,1,1\np,1,2\n"), classes)
    with pytest.raises(FileError, match=r"; pass --task label-steps, or name the column .* with --group$"):
        data.read(tmp_path / "y.csv", replace(classes, group=None))


def targets_of(tmp_path: Path, rows: str, **options: Any) -> Any:
    path = write(tmp_path / "x.csv", "id,a,y\n" + rows)
    return data.read(path, Selection(("a",), ("y",), "id"), **options)


def test_targets_are_classes_values_of_sequences_or_values_of_steps(tmp_path: Path) -> None:
    integers = targets_of(tmp_path, "p,1,3\np,1,3\nq,1,0\nq,1,0\n")
    assert integers.labels.tolist() == [3, 0] and integers.targets is None
    strings = targets_of(tmp_path, "p,1,no\np,1,no\nq,1,Yes!\nq,1,Yes!\n")
    assert strings.labels.tolist() == [1, 0] and strings.classes == ("Yes!", "no")
    floats = targets_of(tmp_path, "p,1,3.0\np,1,3.0\nq,1,0\nq,1,0\n")
    assert floats.labels is None and floats.targets.tolist() == [[3], [0]]
    steps = targets_of(tmp_path, "p,1,3\np,1,4\nq,1,0\nq,1,0\n")
    assert steps.labels is None and [t.tolist() for t in steps.targets] == [[[3], [4]], [[0], [0]]]


def test_a_class_that_changes_within_a_sequence_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="line 3, column 'y': 'b' in a sequence of class 'a'"):
        targets_of(tmp_path, "p,1,a\np,1,b\n")


def test_saved_classes_number_the_labels(tmp_path: Path) -> None:
    saved = Saved(classes=("ok", "7", "odd"))
    assert targets_of(tmp_path, "p,1,7\nq,1,odd\n", saved=saved).labels.tolist() == [1, 2]
    assert targets_of(tmp_path, "p,1,new\nq,1,odd\nr,1,\n", saved=saved).labels.tolist() == [-100, 2, -100]
    with pytest.raises(FileError, match="column 'y': a label is blank"):
        targets_of(tmp_path, "p,1,a\nq,1,\n")


def test_saved_columns_are_used_and_only_inputs_must_be_present(tmp_path: Path) -> None:
    saved = Saved(Selection(("b", "a"), ("y",), "id", "t"))
    sequences = data.read(write(tmp_path / "x.csv", "c,a,b\n9,1,2\n9,3,4\n"), saved=saved)
    np.testing.assert_array_equal(sequences.items, [[[2, 1], [4, 3]]])
    with pytest.raises(FileError, match=r"there is no column 'b'; the columns are a, c: .*--input"):
        data.read(write(tmp_path / "x.csv", "a,c\n1,2\n"), saved=saved)
    chosen = data.read(write(tmp_path / "x.csv", "a,c\n1,2\n"), Selection(("a", "c")), saved=saved)
    np.testing.assert_array_equal(chosen.items, [[[1, 2]]])


def test_a_missing_column_lists_those_of_the_file(table: Path) -> None:
    for selection in (Selection(("heart",)), Selection(group="heart"), Selection(("pulse",), ("heart",))):
        with pytest.raises(FileError, match=r"'heart'; the columns are patient, day, pulse, .*--input"):
            data.read(table, selection)


def test_token_ids_come_from_one_column_of_integers(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "token,b\n3,0.5\n1,0.5\n")
    (ids,) = data.read(path, Selection(("token",)), step_shape=()).items
    assert ids.tolist() == [3, 1] and ids.dtype == np.int64
    with pytest.raises(FileError, match=r"one column, but the inputs are token, b: .*--input"):
        data.read(path, step_shape=())
    with pytest.raises(FileError, match="column 'b': token ids must be integers"):
        data.read(path, Selection(("b",)), step_shape=())


def test_the_defaults_are_sequence_label_and_target(tmp_path: Path) -> None:
    text = "\ufefflabel, a,sequence,b\n7,1,first,2\n7,3,first,4e-1\n\n1,nan,second,-inf\n"
    sequences = data.read(write(tmp_path / "x.csv", text), Selection(missing="keep"))
    np.testing.assert_array_equal(sequences.items[0], [[1, 2], [3, 0.4]])
    np.testing.assert_array_equal(sequences.items[1], [[np.nan, -np.inf]])
    assert sequences.labels is not None and sequences.labels.tolist() == [7, 1]
    targets = data.read(write(tmp_path / "x.csv", "target_u,a,target_v\n1.5,2,3\n4,5,6\n")).targets
    assert isinstance(targets, list) and targets[0].tolist() == [[1.5, 3], [4, 6]]


def test_a_file_without_groups_is_one_unlabeled_sequence(tmp_path: Path) -> None:
    sequences = data.read(write(tmp_path / "x.csv", "a,b\n1,2\n3,4\n"))
    np.testing.assert_array_equal(sequences.items, [[[1, 2], [3, 4]]])
    assert sequences.labels is None and sequences.single


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ["line 1", "name the columns"]),
        ("1.5,2\n3,4\n", ["line 1", "name the columns"]),  # without a header, a row would be lost
        ("a,a\n1,2\n", ["line 1", "a different name for each"]),
        ("sequence,label\ns,1\n", ["line 1", "--input"]),
        ("a,b\n1,2\n3,x\n", ["line 3", "column 'b'", "'x'", "--input"]),
        ("a,b\n1,\n", ["line 2", "column 'b'", "is missing", "--missing"]),
        ("a,b\n1,2\n3\n", ["line 3", "1 values", "2 columns"]),
        ("sequence,a,label\ns,1,0\ns,1,2\n", ["line 3", "column 'label'"]),
        ("a,b\n", ["no rows"]),
    ],
)
def test_errors_name_the_line_and_the_column(tmp_path: Path, text: str, fragments: list[str]) -> None:
    path = write(tmp_path / "x.csv", text)
    with pytest.raises(FileError) as caught:
        data.read(path)
    assert all(fragment in str(caught.value) for fragment in [str(path), *fragments]), caught.value


ROWS = "id,t,a,b\np,1,1,\np,2,NA,5\np,3,3,7\nq,1,nan,1\nq,2,4,null\n"


def with_missing(tmp_path: Path, missing: str, **options: Any) -> Any:
    path = write(tmp_path / "x.csv", ROWS)
    return data.read(path, Selection(("a", "b"), group="id", time="t", missing=missing, **options))


def test_missing_values_are_filled_masked_or_left_out(tmp_path: Path) -> None:
    filled = with_missing(tmp_path, "fill").items
    np.testing.assert_array_equal(filled[0], [[1, 6], [1, 5], [3, 7]])  # 6 is the mean of 5 and 7
    np.testing.assert_array_equal(filled[1], [[4, 1], [4, 1]])
    masked = with_missing(tmp_path, "mask").items
    np.testing.assert_array_equal(masked[0][:, :2], filled[0])
    np.testing.assert_array_equal(masked[0][:, 2:], [[0, 1], [1, 0], [0, 0]])
    left = with_missing(tmp_path, "skip")
    assert [item.tolist() for item in left.items] == [[[3, 7]], []]
    kept = with_missing(tmp_path, "keep").items
    np.testing.assert_array_equal(kept[1], [[np.nan, 1], [4, np.nan]])
    with pytest.raises(FileError, match=r"line 2, column 'b': the value of 'p' is missing: .*--missing fill"):
        with_missing(tmp_path, "error")


def test_the_task_overrides_the_guess(tmp_path: Path) -> None:
    ages = "".join(f"{name},{n},{30 + n}\n" for n, name in enumerate("pqrstu"))
    path = write(tmp_path / "x.csv", "id,a,age\n" + ages)
    assert data.read(path, Selection(("a",), ("age",), "id")).labels is not None
    numbers = data.read(path, Selection(("a",), ("age",), "id", task="regress"))
    assert numbers.labels is None and np.ravel(numbers.targets).tolist() == list(range(30, 36))
    path = write(tmp_path / "y.csv", "id,a,y\np,1,1.5\np,2,1.5\nq,1,2.5\n")
    classes = data.read(path, Selection(("a",), ("y",), "id", task="classify"))
    assert classes.labels is not None and classes.classes == ("1.5", "2.5")
    path = write(tmp_path / "z.csv", "id,a,y\np,1,run\np,2,walk\nq,1,run\n")
    steps = data.read(path, Selection(("a",), ("y",), "id", task="label-steps"))
    assert steps.step_labels is not None and steps.classes == ("run", "walk")
    assert [labels.tolist() for labels in steps.step_labels] == [[0, 1], [0]]


def test_numbers_are_not_compared_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a target of a million rows is a class took four times as long as reading it."""
    monkeypatch.setattr(columns.Columns, "texts", None)
    for text in ("p,1,1.5\np,2,1.5\nq,1,2.5\n", "p,1,1\np,2,2\nq,1,3\n"):
        path = write(tmp_path / "x.csv", "id,a,y\n" + text)
        assert data.read(path, Selection(("a",), ("y",), "id")).labels is None


@pytest.mark.parametrize("arrow", [True, False])
def test_delimiters_decimal_commas_and_compressed_files(
    tmp_path: Path, arrow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not arrow:
        monkeypatch.setattr(columns, "find_spec", lambda name: None)
    text = 'a;b;note\n1,5;-2;"x;\ny"\n\n3;4,25e1;\n'
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(text.encode()))
    selection = Selection(("a", "b"), delimiter=";", decimal=",")
    np.testing.assert_array_equal(data.read(tmp_path / "x.csv.gz", selection).items, [[[1.5, -2], [3, 42.5]]])
    path = write(tmp_path / "x.csv", text)
    with pytest.raises(
        FileError, match="line 1: has one column, 'a;b;note': separate it with --delimiter ';'"
    ):
        data.read(path)
    with pytest.raises(FileError, match=r"line 3, column 'a': '1,5' is not a number: .*--decimal ,"):
        data.read(path, Selection(("a",), delimiter=";"))
    path = write(tmp_path / "y.csv", "a;b\n1,5;2\n\n1.5;2\n")
    with pytest.raises(
        FileError, match=r"line 4, column 'a': '1.5' is not a number: expected numbers such as 1,5: select"
    ):
        data.read(path, selection)


QUOTED = ['"3"', '"a ""b"" c"', '"two\nlines"']
TEXTS = ["1", " 2.5", "-0", "nan", "", "1e300", "inf", "x y", "NA", "Zoë", "1_0"]
NUMBERS = ["1", "-2.5", "+.5", "3.", "-0", "", "NA", "1e-7", "inf", "0.1234567890123456789"]


@pytest.mark.parametrize("seed", range(16))
def test_pyarrow_numpy_and_python_read_the_same_columns(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    cells = [*TEXTS, *QUOTED * (seed % 4 == 0)]
    delimiter, decimal, end = (",", ".", "\n") if seed % 2 else (";", ",", "\r\n")
    numbers = [cell.replace(".", decimal) for cell in NUMBERS]
    rows = [delimiter.join([*rng.choice(cells, 2), *rng.choice(numbers, 2)]) for _ in range(50)]
    text = end.join([delimiter.join("uvab"), *rows]) + end * int(rng.integers(0, 3))
    found, numpy = [], columns._with_numpy
    for spec, reader in (
        (find_spec, numpy),
        (lambda name: None, numpy),
        (lambda name: None, lambda *a: None),
    ):
        monkeypatch.setattr(columns, "find_spec", spec)
        monkeypatch.setattr(columns, "_with_numpy", reader)
        read = columns.read_csv(text.encode(), "x", lambda header, lists=(): header, delimiter, decimal)
        found.append(
            [read.texts("u"), read.texts("v"), read.place(30, "v"), read.are_numbers("v"), len(read)]
        )
        found[-1] += [read.numbers(name).astype(str).tolist() for name in "ab"]
    assert found[0] == found[1] == found[2]
    assert (numpy(text.encode(), list("uvab"), ["u"], delimiter) is None) == ('"' in text)


@pytest.mark.parametrize("library", ["pyarrow", "numpy"])
def test_rows_are_read_without_a_text_for_each_cell(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"2024-01-0{day} 1{day}:00,{shop},{day}.5" for shop in "pq" for day in range(1, 9)]
    path = write(tmp_path / "x.csv", "time,shop,sold\n" + "\n".join(rows))
    if library == "numpy":
        monkeypatch.setattr(columns, "find_spec", lambda name: None)
    encoded: list[str] = []
    codes = columns.Columns.codes
    monkeypatch.setattr(
        columns.Columns, "codes", lambda self, name: encoded.append(name) or codes(self, name)
    )
    found = data.read(path, Selection(("sold",), ("sold",), group="shop", time="time"))
    assert encoded == ["shop"] and found.times is not None
    assert found.times[1][2] == "2024-01-03 13:00" and len(found.items[1]) == 8


def test_parquet_has_a_row_for_each_step_or_each_sequence(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    days = [date(2024, 1, 2), date(2024, 1, 1), date(2024, 1, 1)]
    steps = pa.table({"id": ["p", "p", "q"], "day": days, "a": [1, 2, None], "y": ["u", "u", "v"]})
    parquet.write_table(steps, tmp_path / "steps.parquet")
    selection = Selection(("a",), ("y",), "id", "day", missing="keep")
    found = data.read(tmp_path / "steps.parquet", selection)
    np.testing.assert_array_equal(found.items[0], [[2], [1]])
    names = [list(each) for each in found.times or []]
    assert found.names == ["p", "q"] and names == [["2024-01-01", "2024-01-02"], ["2024-01-01"]]
    assert found.classes == ("u", "v") and np.isnan(found.items[1]).all()
    rows = pa.table({"x": [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]], "y": [1.5, 2.5], "label": ["u", "v"]})
    parquet.write_table(rows, tmp_path / "rows.parquet")
    found = data.read(tmp_path / "rows.parquet")
    assert [item.tolist() for item in found.items] == [[[1, 2], [3, 4]], [[5, 6]]]
    assert found.labels is not None and found.labels.tolist() == [0, 1]
    numbers = data.read(tmp_path / "rows.parquet", Selection((), ("y",)))
    assert np.ravel(numbers.targets).tolist() == [1.5, 2.5]


def test_a_static_text_that_the_training_did_not_see_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "shop,day,y,city\nanna,1,2,x\nanna,2,3,x\nbert,1,4,new\nbert,2,5,new\n")
    chosen = Selection((), ("y",), "shop", "day", static=("city",), window=1, horizon=1)
    assert data.read(path, chosen).categories == {"city": ("new", "x")}
    with pytest.raises(
        FileError, match="line 4, column 'city': 'new' was not in the training, but x, z were"
    ):
        data.read(path, saved=Saved(chosen, categories={"city": ("x", "z")}))


@pytest.mark.parametrize("column", ["city", "size"])
def test_a_missing_static_feature_is_refused(tmp_path: Path, column: str) -> None:
    """A blank text was a category of its own."""
    path = write(tmp_path / "x.csv", "shop,y,city,size\nanna,2,x,1\nanna,3,,\nbert,4,,\nbert,5,x,1\n")
    with pytest.raises(FileError, match=f"line 4, column '{column}': a static feature is missing"):
        data.read(path, Selection(("y",), group="shop", static=(column,)))


@pytest.mark.parametrize("missing", [None, "skip", "fill", "mask"])
def test_missing_values_of_known_features_are_treated_like_those_of_inputs(
    tmp_path: Path, missing: str | None
) -> None:
    rows = [f"{n},{n},{n * n},{n % 3}" for n in range(30)]
    rows[12] = "12,12,144,"
    path = write(tmp_path / "x.csv", "t,a,y,k\n" + "\n".join(rows))
    chosen = Selection(("a",), ("y",), time="t", known=("k",), window=5, horizon=2, missing=missing)
    if missing is None:
        with pytest.raises(FileError, match="line 14, column 'k': the value is missing"):
            data.read(path, chosen)
        return
    found = data.read(path, chosen)
    assert len(found.items) == (19 if missing == "skip" else 24)  # five windows read the missing value
    assert all(np.isfinite(item).all() for item in found.items)
    if missing != "skip":
        known = found.items[8][2, -1]  # the window of steps 8 to 12 reads k of steps 10 to 14
        assert known == 11 % 3


@pytest.mark.parametrize("text", [",a,y\n0,5,1\n1,6,1\n", "a,y,\n5,1,\n6,1,\n"])
def test_a_column_without_a_name_is_no_input(tmp_path: Path, text: str) -> None:
    """The index that pandas writes was a feature, and a comma at the end of every line a missing value."""
    found = data.read(write(tmp_path / "x.csv", text), Selection(targets=("y",)))
    np.testing.assert_array_equal(found.items, [[[5], [6]]])


@in_one_test("seed", range(random_cases(100)))
def test_random_tables_are_the_sequences_of_a_plain_loop(seed: int, tmp_path: Path) -> None:
    text, selection, expected = random_table(np.random.default_rng(seed))
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())
    found = data.read(path, selection).with_class_names()
    assert found.names is not None and found.labels is not None and found.weights is not None
    assert sorted(found.names) == sorted(expected)
    for name, x, label, weight in zip(found.names, found.items, found.labels, found.weights, strict=True):
        np.testing.assert_allclose(x, expected[name].x, rtol=1e-12)
        assert (found.classes[label], weight) == (expected[name].label, expected[name].weight)


def described(found: data.Sequences) -> dict[str, Any]:
    """The content of sequences as lists, by kind."""
    labels = None if found.labels is None else found.labels.tolist()
    targets = found.targets if isinstance(found.targets, list) else [found.targets]
    return {
        "items": [item.tolist() for item in found.items],
        "names": found.names,
        "times": [list(each) for each in found.times or []],
        "labels": labels,
        "classes": found.classes,
        "targets": [None if each is None else np.nan_to_num(each, nan=-9.5).tolist() for each in targets],
    }


@pytest.mark.parametrize("seed", range(random_cases(150)))
def test_a_table_is_the_same_whatever_reads_it(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parquet named integers beside a missing one 1.0, and the booleans of targets were numbers."""
    import pyarrow as pa
    from pyarrow import parquet

    table = random_typed_table(np.random.default_rng(seed))
    parquet.write_table(pa.table(table.columns), tmp_path / "x.parquet")
    write(tmp_path / "x.csv", table.text)
    write(tmp_path / "quoted.csv", table.text.replace("g,", '"g",', 1))

    def read(name: str) -> Any:
        return described(data.read(tmp_path / name, table.selection, saved=table.saved).with_class_names())

    expected = read("x.parquet")
    assert read("x.csv") == expected
    monkeypatch.setattr(columns, "find_spec", lambda name: None)
    assert read("x.csv") == read("quoted.csv") == expected


def test_integers_are_classes_to_train_on_although_one_is_missing(tmp_path: Path) -> None:
    """They were numbers; to a run, without class names, they still are."""
    path = write(tmp_path / "x.csv", "sequence,a,k\nu,1,0\nu,2,0\nv,3,1\nw,4,\nw,5,\n")
    chosen = Selection(("a",), ("k",), missing="skip")
    with pytest.raises(FileError, match="column 'k': a label is blank"):
        data.read(path, chosen, finite=True)
    np.testing.assert_array_equal(data.read(path, chosen).targets, [[0], [1], [np.nan]])


@pytest.mark.parametrize("lost", ["a", "b", "c"])
@pytest.mark.parametrize("target", ["number", "count"])
def test_a_sequence_that_loses_all_steps_keeps_its_own_target(lost: str, target: str, tmp_path: Path) -> None:
    rows = [f"{name},{'' if name == lost else t},{n}.5,{n}" for n, name in enumerate("abc") for t in range(3)]
    path = write(tmp_path / "x.csv", "name,x,number,count\n" + "\n".join(rows))
    found = data.read(path, Selection(("x",), (target,), "name", missing="skip"))
    assert found.lengths.tolist() == [0 if name == lost else 3 for name in "abc"]
    right = [[0.5], [1.5], [2.5]] if target == "number" else [0, 1, 2]
    np.testing.assert_array_equal(found.targets if target == "number" else found.labels, right)
