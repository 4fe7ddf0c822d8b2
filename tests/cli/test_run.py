"""`onward run`: what it prints and writes, and that a mistake ends in one message."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from support.cli import invoke, message, report

import onward
from onward import bundled
from onward.tables import data

VOWELS = bundled.models()["vowels"]
TEST = bundled.datasets()["japanese_vowels_test"]


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    """The output of the bundled model for each test utterance on its own."""
    net = onward.load(VOWELS)
    assert isinstance(net, onward.Sequential)
    return np.stack([net(x) for x in data.read(TEST).items])


def test_run_shows_accuracy_by_class_overall_and_speed() -> None:
    result = invoke("run", "vowels")
    assert result.exit_code == 0
    assert all(
        text in result.output for text in ("370", "5,687", "98.9%", "91.4%", "7 (1x)", "steps per second")
    )


def test_json_contains_predictions_accuracy_and_statistics(expected: np.ndarray) -> None:
    reported = report("run", "vowels", "japanese_vowels_test")
    labels = data.read(TEST).labels
    assert reported["predicted"] == expected.argmax(axis=1).tolist()
    assert reported["accuracy"] == (expected.argmax(axis=1) == labels).mean()
    assert reported["output_shape"] == [370, 9] and reported["sequences"] == 370 and reported["steps"] == 5687
    assert sum(row["correct"] for row in reported["classes"]) == round(reported["accuracy"] * 370)
    assert all(
        row["sequences"] == row["correct"] + sum(row["taken_for"].values()) for row in reported["classes"]
    )
    assert reported["outputs"][3]["max"] == expected[:, 3].max()


def test_every_form_of_input_gives_the_same_predictions(tmp_path: Path) -> None:
    items = data.read(TEST).items[:70]  # more than one batch
    lengths = [len(x) for x in items]
    padded = np.full((len(items), max(lengths), 12), 1e6, np.float32)
    for row, x in zip(padded, items, strict=True):
        row[: len(x)] = x
    np.savez(tmp_path / "ragged.npz", x=np.concatenate(items), lengths=lengths)
    np.savez(tmp_path / "padded.npz", x=padded, lengths=lengths)
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sequence", *(f"c{k}" for k in range(12))])
        for b, x in enumerate(items):
            rows.writerows([b, *map(str, frame)] for frame in x)
    for b in range(3):
        np.save(tmp_path / f"{b}.npy", items[b])
    reported = [report("run", "vowels", tmp_path / name) for name in ("ragged.npz", "padded.npz", "rows.csv")]
    for other in reported[1:]:
        assert other["predicted"] == reported[0]["predicted"] and other["outputs"] == reported[0]["outputs"]
    alone = [report("run", "vowels", tmp_path / f"{b}.npy")["predicted"] for b in range(3)]
    assert [p for predicted in alone for p in predicted] == reported[0]["predicted"][:3]


def test_outputs_are_written_in_the_order_of_the_sequences(tmp_path: Path, expected: np.ndarray) -> None:
    for suffix in data.WRITTEN:
        assert invoke("run", "vowels", "--out", tmp_path / f"y{suffix}").exit_code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npz")["outputs"], expected)
    with (tmp_path / "y.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sequence"]) for row in rows] == list(range(370))
    assert [int(row["predicted"]) for row in rows] == expected.argmax(axis=1).tolist()
    read = np.array([[row[f"output_{k}"] for k in range(9)] for row in rows], np.float32)
    np.testing.assert_array_equal(read, expected)


def test_outputs_per_step_are_written_as_n_t_o_with_zeros_past_the_end(tmp_path: Path, lstm: Path) -> None:
    layer = onward.load(lstm)
    assert isinstance(layer, onward.LSTM)
    items = data.read(TEST).items
    expected = np.zeros((370, 29, 5), np.float32)
    for row, x in zip(expected, items, strict=True):
        row[: len(x)] = layer(x)[0]
    reported = report("run", lstm, "japanese_vowels_test", "--out", tmp_path / "y.npz")
    assert reported["output_shape"] == [370, 29, 5]
    assert "predicted" not in reported and "accuracy" not in reported  # its labels are of whole sequences
    with np.load(tmp_path / "y.npz") as written:
        np.testing.assert_array_equal(written["outputs"], expected)
        np.testing.assert_array_equal(written["lengths"], [len(x) for x in items])
    printed = invoke("run", lstm, "japanese_vowels_test", "--out", tmp_path / "y.csv").output
    printed = " ".join(printed.split())
    assert "(370, 29, 5)" in printed and "labels are not used" in printed
    with (tmp_path / "y.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [(str(s), str(t)) for s, x in enumerate(items) for t in range(len(x))]
    assert [(row["sequence"], row["step"]) for row in rows] == steps


@pytest.mark.parametrize("batch_first", [False, True])
def test_arrays_are_n_t_f_whatever_the_layout_of_the_model(tmp_path: Path, batch_first: bool) -> None:
    layer = onward.LSTM(7, 5, batch_first=batch_first, rng=0)
    layer.save(tmp_path / "net.safetensors")
    x = np.random.default_rng(0).standard_normal((8, 24, 7)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "one.npy", x[3])
    out = tmp_path / "y.npy"
    expected = np.stack([layer(row)[0] for row in x])
    for name, words, y in (("x", "8 sequences", expected), ("one", "1 sequence", expected[3])):
        source = tmp_path / f"{name}.npy"
        printed = invoke("run", tmp_path / "net.safetensors", source, "--out", out, expect=0).output
        assert printed.splitlines()[0] == f"{words} of 24 steps, 7 features"
        np.testing.assert_array_equal(np.load(out), y)


def test_a_wrong_number_of_features_quotes_the_shape_in_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 24, 13), np.float32))
    words = message(invoke("run", "vowels", tmp_path / "x.npy", expect=1))
    assert "x has shape (5, 24, 13), read as 5 sequences of 24 steps, 13 features" in words
    assert "the model takes 12 features per step" in words and "(N, T, 12)" in words


def test_a_classifier_without_labels_shows_how_often_it_predicts_each_class(tmp_path: Path) -> None:
    sequences = data.read(TEST)
    x, lengths = np.concatenate(sequences.items[:31]), sequences.lengths[:31]
    np.savez(tmp_path / "x.npz", x=x, lengths=lengths)
    result = invoke("run", "vowels", tmp_path / "x.npz")
    assert "31 of 31" in result.output and "accuracy" not in result.output


def test_a_table_of_many_outputs_is_truncated(tmp_path: Path) -> None:
    onward.RNN(12, 100, rng=0).save(tmp_path / "rnn.safetensors")
    result = invoke("run", tmp_path / "rnn.safetensors", "japanese_vowels_test")
    assert "and 76 more: --json shows all" in result.output
    assert len(result.output.splitlines()) < 40


def test_a_failed_run_leaves_the_output_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "y.csv"
    out.write_text("old")
    np.save(tmp_path / "x.npy", np.zeros((5, 13), np.float32))
    assert invoke("run", "vowels", tmp_path / "x.npy", "--out", out).exit_code == 1

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    result = invoke("run", "vowels", "--out", out)
    assert result.exit_code == 1 and "No space left on device" in result.output
    assert out.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"y.csv", "x.npy"}


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["walk"], "walk"),
        (["run"], "MODEL"),
        (["run", "vowls"], "bundled model (shakespeare, vowels)"),
        (["run", "vowels", "missing.csv"], "bundled data set (japanese_vowels_test"),
        (["run", "vowels", "--jsn"], "--json"),
        (["run", "vowels", "x.txt"], ".npy, .npz, .csv"),
        (["run", "vowels", "."], "is a directory"),
        (["run", "vowels", "--out", "y.txt"], ".npy, .npz, .csv"),
        (["run", "vowels", "--out", "nowhere/y.csv"], "nowhere"),
        (["run", "lstm.safetensors"], "INPUT is missing"),
        (["run", "vowels", "x.parquet", "--address", "auto"], "--engine ray"),
        (["run", "vowels", "--engine", "ray"], "--engine: only for Parquet"),
        (["run", "vowels", "x.npy", "--lengths", "n"], "--lengths: only for Parquet"),
        (
            ["run", "vowels", "x.npy", "--columns", "x", "--output", "y"],
            "--output, --columns: only for Parquet",
        ),
        (["run", "vowels", "x.parquet", "--window", "3", "--out", "y.parquet"], "--window: only for arrays"),
        (["run", "vowels", "--json", "--out", "-"], "both write to standard output"),
        (["run", "theirs.safetensors", "japanese_vowels_test"], "encoder, head"),
        (["info", "missing.safetensors"], "missing.safetensors"),
        (["models", "vowels"], "vowels"),
    ],
)
@pytest.mark.usefixtures("lstm", "state_dict")
def test_wrong_usage_gives_exit_code_2_and_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], fragment: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.txt").touch()
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert fragment in " ".join(result.output.replace("│", " ").split())


def test_errors_in_files_give_exit_code_1_and_name_the_location(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,oops\n")
    result = invoke("run", "vowels", tmp_path / "x.csv", expect=1)
    assert all(word in result.output for word in ("x.csv", "line 3", "column 'b'", "'oops'"))

    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(VOWELS.read_bytes()[:-100])
    for result in (invoke("info", cut), invoke("run", cut, TEST)):
        assert result.exit_code == 1 and "cut.safetensors" in result.output


def test_square_brackets_in_names_are_shown_unchanged(tmp_path: Path) -> None:
    np.save(tmp_path / "[red]x.npy", np.zeros((5, 12), np.float32))
    printed = invoke("run", "vowels", tmp_path / "[red]x.npy").output
    assert "[red]x.npy" in printed.replace("\n", "")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_outputs_that_are_no_forecast_are_not_written(tmp_path: Path, suffix: str) -> None:
    """They were written before the error."""
    layers = onward.GRU(3, 4, rng=0), onward.Last(), onward.Linear(4, 3, rng=1)
    onward.Sequential(*layers).save(tmp_path / "net.safetensors")
    (tmp_path / "x.csv").write_text("a,b,y\n" + "1,2,3\n" * 9)
    options = "--window", "3", "--input", "a,b,y", "--target", "y", "--out", tmp_path / f"out{suffix}"
    result = invoke("run", tmp_path / "net.safetensors", tmp_path / "x.csv", *options, expect=1)
    assert "the model has 3 outputs" in message(result) and not (tmp_path / f"out{suffix}").exists()
