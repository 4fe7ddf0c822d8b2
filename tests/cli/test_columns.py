"""Columns by name in `train table`, `score` and `run`, and what a trained model remembers of them."""

import csv
import gzip
import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.csv as csv_table
import pytest
from click.testing import CliRunner
from pyarrow import parquet
from support.cli import invoke, message, report

import onward
from onward.cli import main
from onward.recipes import forecasts, sequences

SMALL = "--hidden", "8"


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A directory of its own, and short training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sequences, "READ", 4_000)
    monkeypatch.setattr(forecasts, "READ", 2_000)


def write(name: str, header: list[str], rows: list[list[object]]) -> None:
    with Path(name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([header, *rows])


@pytest.fixture
def patients() -> list[str]:
    """Sequences with a class in words, in rows that are shuffled; returns the class of each patient."""
    rng = np.random.default_rng(0)
    classes = [["well", "quite ill"][n % 2] for n in range(60)]
    rows = [
        [f"p{n}", str(date(2024, 1, 1) + timedelta(day)), "note", rng.normal() + 4 * (n % 2), 7, name]
        for n, name in enumerate(classes)
        for day in range(4)
    ]
    header = ["patient", "day", "comment", "pulse", "other", "outcome"]
    write("patients.csv", header, [rows[k] for k in rng.permutation(len(rows))])
    write("new.csv", header[:5], [row[:5] for row in rows[:8]])
    return classes


COLUMNS = "--input", "pulse", "--target", "outcome", "--group", "patient", "--time", "day"


def test_a_file_without_the_columns_of_sequences_and_times_is_read_with_a_warning(
    patients: list[str],
) -> None:
    invoke("train", "table", "patients.csv", *COLUMNS, *SMALL, "-o", "net.safetensors", expect=0)
    assert invoke("run", "net.safetensors", "new.csv", expect=0).stderr == ""
    with Path("new.csv").open(newline="") as file:
        rows = [["Patient", *row[2:]] for row in csv.reader(file)]
    write("renamed.csv", rows[0], [list(row) for row in rows[1:]])
    result = invoke("run", "net.safetensors", "renamed.csv", "--json", expect=0)
    assert json.loads(result.stdout)["sequences"] == 1
    told = message(result)
    assert "renamed.csv has no column 'patient', as the training had: all rows are one sequence." in told
    assert "renamed.csv has no column 'day', as the training had: the steps are in the order" in told


def test_a_model_remembers_its_columns_and_the_names_of_its_classes(patients: list[str]) -> None:
    reported = report("train", "table", "patients.csv", *COLUMNS, *SMALL, "-o", "net.safetensors")
    assert reported["read_as"] == "60 sequences of 4 steps, 1 feature" and reported["classes"] == [
        "quite ill",
        "well",
    ]
    assert reported["accuracy"] > 0.9
    assert report("score", "net.safetensors", "patients.csv")["accuracy"] > 0.9
    ran = report("run", "net.safetensors", "patients.csv", "--out", "y.csv")
    with Path("y.csv").open(newline="") as file:
        rows = {row["sequence"]: row["predicted"] for row in csv.DictReader(file)}
    assert np.mean([rows[f"p{n}"] == name for n, name in enumerate(patients)]) == ran["accuracy"] > 0.9
    assert ran["classes"][0]["class"] == "quite ill"
    new = report("run", "net.safetensors", "new.csv")  # has no outcome
    assert new["predicted"] == patients[:2] and "accuracy" not in new
    printed = [row.split() for row in invoke("run", "net.safetensors", "new.csv").output.splitlines()]
    assert ["│", "well", "│"] == printed[6][:3] and printed[6][-5:-1] == ["│", "1", "of", "2"]
    report("quantize", "net.safetensors", "--to", "float16", "-o", "small.safetensors")
    assert report("run", "small.safetensors", "new.csv")["predicted"] == patients[:2]


@pytest.mark.usefixtures("patients")
def test_a_missing_column_is_explained_in_terms_of_the_file() -> None:
    invoke("train", "table", "patients.csv", *COLUMNS, *SMALL, "--epochs", "1", "-o", "net.safetensors")
    write("wrong.csv", ["patient", "day", "heart"], [["p", "2024-01-01", 3]])
    for command in ("run", "score"):
        words = message(invoke(command, "net.safetensors", "wrong.csv", expect=1))
        assert "no column 'pulse'; the columns are patient, day, heart" in words and "--input" in words
    words = message(invoke("train", "table", "patients.csv", "--input", "puls", expect=1))
    assert "no column 'puls'; the columns are patient, day, comment, pulse" in words


def test_any_number_and_names_of_classes_are_learned() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3, 2)) + 3 * (np.arange(60) % 2)[:, None, None]
    np.savez("numbers.npz", x=x, y=np.where(np.arange(60) % 2, 1_000_000, -5))
    reported = report("train", "table", "numbers.npz", *SMALL)
    assert reported["classes"] == ["-5", "1000000"] and reported["accuracy"] > 0.8
    ran = report("run", "numbers.safetensors", "numbers.npz")
    assert set(ran["predicted"]) == {"-5", "1000000"} and ran["accuracy"] > 0.8


def test_a_long_table_is_forecast_into_the_future() -> None:
    days = [str(date(2024, 1, 1) + timedelta(day)) for day in range(120)]
    sold = 50 + 20 * np.sin(np.arange(120) * 2 * np.pi / 7)
    rows = [[day, value, 3] for day, value in zip(days, sold, strict=True)]
    write("sales.csv", ["day", "sold", "price"], rows[::-1])
    forecast = "--input", "sold", "--target", "sold", "--time", "day", "--window", "14", "--horizon", "3"
    reported = report("train", "table", "sales.csv", *forecast, "-o", "net.safetensors")
    assert reported["read_as"] == "104 sequences of 14 steps, 1 feature"
    assert reported["accuracy"] is None and reported["loss"] < 0.2 * sold.var()
    assert reported["season"] == 7 and [row["name"] for row in reported["forecasts"]] == [
        "model",
        "naive",
        "seasonal naive",
    ]
    assert reported["parameters"] == report("info", "net.safetensors")["parameters"]
    scored = report("score", "net.safetensors", "sales.csv")
    assert scored["loss"] < 0.2 * sold.var() and scored["season"] == 7
    ran = report("run", "net.safetensors", "sales.csv", "--out", "y.csv", "--backtest")
    assert ran["sequences"] == 107 and ran["mean_squared_error"] < 0.2 * sold.var()
    report("run", "net.safetensors", "sales.csv", "--out", "y.csv")
    with Path("y.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row.values())[:2] for row in rows] == [[days[-1], f"2024-04-{30 + n}"] for n in (0,)] + [
        [days[-1], f"2024-05-0{n}"] for n in (1, 2)
    ]
    assert list(rows[0]) == ["from", "day", "sold"]
    following = 50 + 20 * np.sin(np.arange(120, 123) * 2 * np.pi / 7)
    assert np.abs([float(row["sold"]) for row in rows] - following).max() < 10
    printed = invoke("run", "net.safetensors", "sales.csv").output
    assert "2024-05-02" in printed and "class" not in printed and "predicted" not in printed
    assert "net.safetensors on sales.csv: the forecast\n" in printed
    printed = invoke("train", "table", "sales.csv", *forecast, "-o", "net.safetensors", "--no-refit").output
    assert "MASE" in printed and "seasonal naive (7 steps)" in printed


def test_a_forecast_without_the_rows_of_its_known_features_names_them() -> None:
    rows: list[list[object]] = [
        [shop, day, day % 3, day % 3 * 10 if day < 38 else ""] for shop in "ab" for day in range(40)
    ]
    write("x.csv", ["shop", "day", "promo", "sold"], rows)
    columns = "--group", "shop", "--time", "day", "--input", "sold", "--target", "sold", "--known", "promo"
    windows = *columns, "--window", "5", "--horizon", "2", "--epochs", "1", *SMALL, "-o", "net.safetensors"
    printed = invoke("train", "table", "x.csv", *windows, expect=0).stdout
    assert "Try:  onward score net.safetensors x.csv" in printed  # which needs no rows of the future
    assert len(report("run", "net.safetensors", "x.csv")["forecast"]) == 4
    write("x.csv", ["shop", "day", "promo", "sold"], rows[:-1])
    told = message(invoke("run", "net.safetensors", "x.csv", expect=1))
    assert "NaN for 1 of 2 sequences: b:37. They need promo of the 2 steps that follow: add rows" in told
    told = message(invoke("run", "net.safetensors", "x.csv", "--missing", "skip"))
    assert "1 of 2 series have no complete window for --window 5 and --horizon 2: b (38)" in told


def test_bounds_of_a_compressed_table_are_described_in_round_numbers() -> None:
    rows = "".join(f"{n},{n % 7}\n" for n in range(80))
    Path("sales.csv.gz").write_bytes(gzip.compress(f"day,sold\n{rows}".encode()))
    windows = "--time", "day", "--target", "sold", "--window", "14", "--horizon", "2", "--interval", "0.8"
    reported = report("train", "table", "sales.csv.gz", *windows, *SMALL, "--epochs", "1")
    assert reported["model"] == "sales.safetensors"
    assert reported["losses"] == "quantile loss, quantiles=(0.1, 0.5, 0.9) of scaled targets"


def test_options_that_do_not_fit_the_model_are_refused() -> None:
    """`run --horizon` ended in a ValueError, `--window` in the name of a node."""
    write("x.csv", ["step", "price", "sold"], [[n, n % 3, n % 7] for n in range(80)])
    table = "--time", "step", "--input", "sold", "--target", "sold"
    trained = *table, "--window", "14", "--horizon", "2", "--interval", "0.8"
    report("train", "table", "x.csv", *trained, *SMALL, "--epochs", "1", "-o", "net.safetensors")
    changes = (
        ("--window", "9"),
        ("--horizon", "3"),
        ("--interval", "0.9"),
        ("--known", "price"),
        ("--task", "classify"),
    )
    for command in ("run", "score"):
        assert report(command, "net.safetensors", "x.csv", *trained)
        for option, value in changes:
            told = message(invoke(command, "net.safetensors", "x.csv", option, value, expect=1))
            assert "the model was trained with" in told and f"omit {option} {value}" in told
    onward.Sequential(onward.GRU(1, 5, rng=0), onward.Last(), onward.Linear(5, 3, rng=1)).save(
        "other.safetensors"
    )
    windows = *table, "--window", "9", "--horizon", "2"
    for command in ("run", "score"):
        told = message(invoke(command, "other.safetensors", "x.csv", *windows, expect=1))
        assert "the model has 3 outputs, but 2 steps of 1 targets are 2: choose --horizon" in told


@pytest.mark.parametrize("packed", [False, True])
def test_files_of_cells_separated_by_tabs_need_no_option(packed: bool) -> None:
    text = "id\ta\ty\n" + "".join(f"{n // 3}\t{n}\t{n // 3 % 2}\n" for n in range(60))
    name = "x.tsv.gz" if packed else "x.tsv"
    Path(name).write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    columns = "--group", "id", "--input", "a", "--target", "y", *SMALL, "--epochs", "1"
    assert report("train", "table", name, *columns)["model"] == "x.safetensors"
    assert report("run", "x.safetensors", name)["sequences"] == 20


def test_score_respects_the_layout_of_the_model() -> None:
    x = np.random.default_rng(0).standard_normal((6, 6, 3)).astype(np.float32)  # N == T
    y = np.random.default_rng(1).standard_normal((6, 2)).astype(np.float32)
    np.savez("x.npz", x=x, y=y)
    losses = []
    for batch_first in (False, True):
        net = onward.Sequential(
            onward.LSTM(3, 5, batch_first=batch_first, rng=0),
            onward.Last(batch_first=batch_first),
            onward.Linear(5, 2, rng=1),
        )
        net.save("net.safetensors")
        losses.append(report("score", "net.safetensors", "x.npz")["loss"])
    expected = np.stack([net(row) for row in x])
    assert losses == pytest.approx([((expected - y) ** 2).mean()] * 2)


def test_outputs_have_the_names_of_the_targets() -> None:
    rng = np.random.default_rng(0)
    rows: list[list[object]] = [[n, *rng.normal(size=3).tolist()] for n in range(12) for _ in range(4)]
    write("x.csv", ["id", "pulse", "load", "strain"], rows)
    columns = "--group", "id", "--target", "load,strain"
    report("train", "table", "x.csv", *columns, *SMALL, "--epochs", "1", "-o", "net.safetensors")
    write("new.csv", ["id", "pulse"], [row[:2] for row in rows])
    ran = report("run", "net.safetensors", "new.csv", "--out", "y.csv")
    assert [output["name"] for output in ran["outputs"]] == ["load", "strain"]
    assert Path("y.csv").read_text().splitlines()[0] == "sequence,step,load,strain"


def test_each_step_gets_a_class_and_new_labels_may_be_blank_or_unknown() -> None:
    rng = np.random.default_rng(0)
    header = ["id", "pulse", "activity"]
    rows: list[list[object]] = [
        [n, rng.normal() + 6 * moves, ["rest", "run"][moves]]
        for n in range(30)
        for moves in rng.integers(0, 2, 5).tolist()
    ]
    write("steps.csv", header, rows)
    columns = "--group", "id", "--input", "pulse", "--target", "activity", "--task", "label-steps"
    reported = report(
        "train", "table", "steps.csv", *columns, *SMALL, "--epochs", "80", "-o", "net.safetensors"
    )
    assert reported["accuracy"] > 0.9 and reported["classes"] == ["rest", "run"]
    assert [row["class"] for row in reported["by_class"]] == ["rest", "run"]
    rows[0][2], rows[1][2] = "", "swim"
    write("new.csv", header, rows)
    scored = report("score", "net.safetensors", "new.csv")
    assert scored["accuracy"] > 0.9 and scored["unknown_labels"] == 2
    assert "2 labels not scored: blank" in invoke("score", "net.safetensors", "new.csv", expect=0).output
    report("run", "net.safetensors", "new.csv", "--out", "y.csv")
    with Path("y.csv").open(newline="") as file:
        out = list(csv.DictReader(file))
    assert list(out[0]) == ["sequence", "step", "predicted", "rest", "run"]
    right = [row["predicted"] == truth[2] for row, truth in zip(out, rows, strict=True)]
    assert np.mean(right) > 0.9


def test_weights_come_from_a_column_and_tables_from_standard_input_and_parquet() -> None:
    rng = np.random.default_rng(0)
    rows: list[list[object]] = [[n, rng.normal() + 4 * (n % 2), "ab"[n % 2], 1 + n % 3] for n in range(40)]
    write("x.csv", ["id", "x", "y", "w"], rows)
    columns = (
        "--group",
        "id",
        "--target",
        "y",
        "--weight",
        "w",
        *SMALL,
        "--epochs",
        "20",
        "-o",
        "net.safetensors",
        "--json",
    )
    train = ["train", "table"]
    expected = invoke(*train, "x.csv", *columns, "--class-weight", "balanced", expect=0)
    result = CliRunner().invoke(
        main, [*train, "-", *columns, "--class-weight", "balanced"], input=Path("x.csv").read_bytes()
    )
    first, second = (json.loads(each.stdout) for each in (expected, result))
    assert first["epochs"] == second["epochs"] and first["by_class"][0]["recall"] > 0.8
    assert "--out is missing" in CliRunner().invoke(main, [*train, "-"], input=b"a\n1\n").stderr
    parquet.write_table(csv_table.read_csv("x.csv"), "x.parquet")
    third = report(*train, "x.parquet", *columns[:-1], "--class-weight", "balanced")
    assert third["epochs"] == first["epochs"]
    assert (
        report("score", "net.safetensors", "x.parquet")["accuracy"]
        == report("score", "net.safetensors", "x.csv")["accuracy"]
    )
    ran = report("run", "net.safetensors", "x.parquet")  # a row for each step, as in training
    assert ran["sequences"] == 40 and ran["accuracy"] > 0.8
    steps = [[[row[1]]] for row in rows]
    lists = arrow.table({"seq": steps, "y": [str(row[2]) for row in rows]})
    parquet.write_table(lists, "lists.parquet")
    report(
        *train,
        "lists.parquet",
        "--input",
        "seq",
        "--target",
        "y",
        *SMALL,
        "--epochs",
        "20",
        "-o",
        "l.safetensors",
    )
    report("run", "l.safetensors", "lists.parquet", "--out", "out.parquet", "--output", "scores")
    outputs = np.array(parquet.read_table("out.parquet")["scores"].to_pylist())
    assert np.mean(outputs.argmax(axis=1) == np.arange(40) % 2) > 0.8
    assert "needs --window" in message(invoke(*train, "x.csv", "--scale", "series", *columns[:-1], expect=2))


def test_short_series_gaps_and_guessed_classes_are_told() -> None:
    rows: list[list[object]] = [
        [shop, str(date(2024, 1, 1) + timedelta(day)), day % 7 + (shop == "b")]
        for shop, days in (("a", 60), ("b", 60), ("new", 5))
        for day in range(days)
        if (shop, day) != ("a", 30)
    ]
    write("x.csv", ["shop", "day", "sold"], rows)
    forecast = "--group", "shop", "--time", "day", "--target", "sold", "--window", "14", *SMALL
    words = message(invoke("train", "table", "x.csv", *forecast, expect=1))
    assert "x.csv, line 32, column 'day': before '2024-02-01' in 'a', 1 step is missing" in words
    result = invoke("train", "table", "x.csv", *forecast, "--missing", "fill", "--epochs", "1", expect=0)
    named = "1 of 3 series have too few steps for --window 14 and --horizon 1: new (5)"
    assert named in message(result)
    result = invoke("run", "x.safetensors", "x.csv", "--out", "y.csv", expect=0)
    assert "new (5)" in message(result)
    assert [line.split(",")[0] for line in Path("y.csv").read_text().splitlines()] == ["shop", "a", "b"]
    ages: list[list[object]] = [[n, n / 9, 30 + n % 25] for n in range(50)]
    write("ages.csv", ["id", "x", "age"], ages)
    columns = "train", "table", "ages.csv", "--group", "id", "--target", "age", "--epochs", "1"
    assert "The integers of 'age' are 25 classes: for numbers, pass --task regress." in message(
        invoke(*columns)
    )
    result = invoke(*columns, "--task", "regress", expect=0)
    assert "classes" not in result.stderr and "mean squared error" in result.stdout
    ages[7][1] = "inf"
    write("ages.csv", ["id", "x", "age"], ages)
    infinite = "ages.csv, line 9, column 'x': the value of '7' is inf: correct it, remove the row, or choose"
    assert infinite in message(invoke(*columns, expect=1))
    ages[7][1] = "-1e300"
    write("ages.csv", ["id", "x", "age"], ages)
    assert infinite.replace("inf", "-1e+300") in message(invoke(*columns, expect=1))
    rows[3][2] = "inf"
    write("x.csv", ["shop", "day", "sold"], rows)
    infinite = "x.csv, line 5, column 'sold': the value of 'a' is inf"
    assert infinite in message(invoke("train", "table", "x.csv", *forecast, "--missing", "fill", expect=1))


def test_a_converted_model_keeps_the_columns_the_classes_and_the_windows(patients: list[str]) -> None:
    invoke("train", "table", "patients.csv", *COLUMNS, *SMALL, "-o", "net.safetensors", expect=0)
    expected = report("run", "net.safetensors", "new.csv")["predicted"]
    assert set(expected) <= set(patients)
    for name in ("net.onnx", "again.safetensors"):
        report("convert", "net.safetensors" if name == "net.onnx" else "net.onnx", name)
        assert report("run", name, "new.csv")["predicted"] == expected
    days = [str(date(2024, 1, 1) + timedelta(day)) for day in range(60)]
    write("x.csv", ["day", "sold"], [[day, n % 7] for n, day in enumerate(days)])
    forecast = "--time", "day", "--target", "sold", "--window", "14", "--epochs", "1", *SMALL
    invoke("train", "table", "x.csv", *forecast, expect=0)
    report("convert", "x.safetensors", "x.onnx")
    for name in ("x.safetensors", "x.onnx"):
        assert report("info", name)["table"]["window"] == 14
        printed = " ".join(invoke("info", name, expect=0).stdout.split())
        assert "Trained on a table: inputs sold; targets sold; time day; window 14;" in printed
    rows = [report("run", name, "x.csv")["forecast"] for name in ("x.safetensors", "x.onnx")]
    assert rows[0] == rows[1] and rows[0][0]["day"] == "2024-03-01"


@pytest.mark.parametrize(
    ("array", "place", "shown"),
    [
        ("x", (1, 40, 1), "sequence 1 has inf at step 40, feature 1, counted from 0"),
        ("y", (2, 7, 0), "sequence 2 has the target inf at step 7, feature 0, counted from 0"),
    ],
)
def test_infinite_values_of_arrays_name_their_place(array: str, place: tuple[int, ...], shown: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(3, 60, 2)), "y": rng.normal(size=(3, 60, 1))}
    arrays[array][place] = np.inf
    np.savez("x.npz", **arrays)
    for options in (("--window", 10, "--horizon", 2), ("--task", "regress")):
        failed = message(invoke("train", "table", "x.npz", *options))
        assert failed.startswith("Error: x.npz: ") and shown in failed
