"""`onward run`: bad sequences, standard input, workers, interrupts, and what the outputs mean."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from support.cli import invoke, message, report

import onward
from onward import bundled
from onward.cli import main
from onward.recipes import text
from onward.tables import data, inference

TEST = bundled.datasets()["japanese_vowels_test"]


@pytest.fixture
def nan(tmp_path: Path) -> Path:
    """Five labeled sequences; the second and the fourth contain NaN."""
    x = np.random.default_rng(0).standard_normal((5, 4, 12)).astype(np.float32)
    x[1, 2, 5] = x[3, 0, 0] = np.nan
    np.savez(tmp_path / "x.npz", x=x, y=[0, 1, 2, 3, 4])
    return tmp_path / "x.npz"


def test_sequences_with_nan_outputs_stop_the_run_and_are_named(tmp_path: Path, nan: Path) -> None:
    out = tmp_path / "y.csv"
    words = message(invoke("run", "vowels", nan, "--out", out, expect=1))
    assert "NaN for 2 of 5 sequences: 1, 3" in words and "--on-error keep" in words
    assert not out.exists()


def test_sequences_with_nan_outputs_are_set_aside_on_request(tmp_path: Path, nan: Path) -> None:
    out = tmp_path / "y.csv"
    keep = "run", "vowels", nan, "--on-error", "keep", "--out", out
    reported = report(*keep)
    assert reported["bad"] == [1, 3] and reported["predicted"][1] is None and reported["predicted"][3] is None
    assert sum(row["sequences"] for row in reported["classes"]) == 3
    assert reported["outputs"][0]["mean"] is not None and reported["not_finite"] == 18
    assert "2 sequences set aside, outputs NaN: 1, 3" in invoke(*keep, expect=0).output
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["error"] for row in rows] == ["", "the outputs are NaN"] * 2 + [""]
    assert rows[1]["predicted"] == "" and rows[0]["predicted"] != ""


def test_a_file_with_only_bad_sequences_gives_valid_json(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((2, 4, 12), np.nan, np.float32))
    reported = report("run", "vowels", tmp_path / "x.npy", "--on-error", "keep")
    assert reported["bad"] == [0, 1] and reported["outputs"][0] == {
        "name": "0",
        "mean": None,
        "min": None,
        "max": None,
    }


def run_with_stdin(content: bytes, *arguments: str | Path, expect: int = 0) -> Result:
    result = CliRunner().invoke(main, ["run", *map(str, arguments)], input=content)
    assert result.exit_code == expect, result.output
    return result


@pytest.mark.parametrize("suffix", data.WRITTEN)
def test_a_dash_reads_standard_input_and_writes_standard_output(tmp_path: Path, suffix: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 5, 12)).astype(np.float32)
    source, out = tmp_path / f"x{suffix}", tmp_path / f"y{suffix}"
    if suffix == ".csv":
        rows = [f"{n},{','.join(map(str, step))}" for n, row in enumerate(x) for step in row]
        source.write_text("\n".join([f"sequence,{','.join('abcdefghijkl')}", *rows]))
    elif suffix == ".npz":
        np.savez(source, x=x)
    else:
        np.save(source, x)
    invoke("run", "vowels", source, "--out", out, expect=0)
    result = run_with_stdin(source.read_bytes(), "vowels", "-")
    if suffix == ".npz":  # the archive records the time
        out.with_suffix(".copy").write_bytes(result.stdout_bytes)
        np.testing.assert_array_equal(np.load(out)["outputs"], np.load(out.with_suffix(".copy"))["outputs"])
    else:
        assert result.stdout_bytes == out.read_bytes()
    assert result.stderr.splitlines()[0] == "3 sequences of 5 steps, 12 features"
    assert json.loads(run_with_stdin(source.read_bytes(), "vowels", "-", "--json").stdout)["sequences"] == 3


def test_binary_content_that_is_not_an_array_is_rejected_with_the_formats_to_use() -> None:
    result = run_with_stdin(b"BLOB\x80\xff", "vowels", "-", expect=1)
    assert "standard input: not CSV in UTF-8, nor .npy or .npz: convert it" in message(result)


def test_workers_give_the_same_bits(tmp_path: Path, lstm: Path) -> None:
    for workers in (1, 3):
        invoke("run", lstm, TEST, "--workers", str(workers), "--out", tmp_path / f"{workers}.npy", expect=0)
    assert (tmp_path / "1.npy").read_bytes() == (tmp_path / "3.npy").read_bytes()


def test_the_input_is_not_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "x.npy"
    np.save(source, np.zeros((5, 12), np.float32))
    before = source.read_bytes()
    words = message(invoke("run", "vowels", source, "--out", source, expect=2))
    assert "would overwrite INPUT" in words.replace("│ ", "")
    assert source.read_bytes() == before


def test_an_interrupt_reports_that_nothing_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inference, "run_batch", interrupt)
    for workers in ("1", "2"):
        result = invoke("run", "vowels", "--workers", workers, "--out", tmp_path / "y.npy", expect=130)
        assert message(result) == "Interrupted: nothing was written."
    assert not list(tmp_path.iterdir())


def test_regression_outputs_are_not_presented_as_classes(tmp_path: Path) -> None:
    net = onward.Sequential(onward.LSTM(2, 5, rng=0), onward.Last(), onward.Linear(5, 3, rng=1))
    net.save(tmp_path / "net.safetensors")
    x = np.random.default_rng(0).standard_normal((6, 4, 2)).astype(np.float32)
    targets = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x, y=targets)
    out = tmp_path / "y.csv"
    reported = report("run", tmp_path / "net.safetensors", tmp_path / "x.npz", "--out", out)
    expected = np.stack([net(row) for row in x])
    assert reported["mean_squared_error"] == pytest.approx(((expected - targets) ** 2).mean())
    printed = invoke("run", tmp_path / "net.safetensors", tmp_path / "x.npz").output
    assert "Mean squared error" in printed and "predicted" not in printed and "largest" not in printed
    assert out.read_text().splitlines()[0] == "sequence,output_0,output_1,output_2"


def test_probabilities_are_presented_as_classes(tmp_path: Path) -> None:
    net = onward.Sequential(
        onward.LSTM(2, 5, rng=0), onward.Last(), onward.Linear(5, 3, rng=1), onward.Softmax()
    )
    net.save(tmp_path / "net.safetensors")
    x = np.random.default_rng(0).standard_normal((6, 4, 2)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    predicted = report("run", tmp_path / "net.safetensors", tmp_path / "x.npy")["predicted"]
    assert predicted == [int(net(row).argmax()) for row in x]


def test_token_models_run_on_arrays_csv_and_text(tmp_path: Path) -> None:
    model, vocabulary = text.load(bundled.models()["shakespeare"])
    play = "Good morrow, Kate; for that's your name, I hear."
    ids = vocabulary.encode(play)
    (tmp_path / "play.txt").write_text(play)
    np.save(tmp_path / "one.npy", ids)
    np.save(tmp_path / "two.npy", np.stack([ids, ids[::-1]]))
    (tmp_path / "ids.csv").write_text("position,token\n" + "".join(f"{n},{k}\n" for n, k in enumerate(ids)))
    expected, out = model(ids), tmp_path / "y.npy"
    for name, options in (("play.txt", ()), ("one.npy", ()), ("ids.csv", ("--input", "token"))):
        printed = invoke("run", "shakespeare", tmp_path / name, *options, "--out", out, expect=0).output
        assert printed.splitlines()[0] == f"1 sequence of {len(ids)} steps, token ids"
        np.testing.assert_array_equal(np.load(out), expected)
    invoke("run", "shakespeare", tmp_path / "two.npy", "--out", out, expect=0)
    np.testing.assert_array_equal(np.load(out), [expected, model(ids[::-1])])
    (tmp_path / "play.txt").write_text(play + "é")
    result = invoke("run", "shakespeare", tmp_path / "play.txt", expect=0)
    assert "Skipped 1 character that the model does not know" in message(result)


@pytest.mark.parametrize("suffix", [".csv", ".npy", ".npz"])
def test_a_first_sequence_without_steps_is_written_and_summarized(
    tmp_path: Path, lstm: Path, suffix: str
) -> None:
    """It was an IndexError in .csv, and a ValueError if the others were bad."""
    x = np.random.default_rng(0).standard_normal((3, 4, 12)).astype(np.float32)
    for bad in (False, True):
        x[1:] = np.nan if bad else x[1:]
        np.savez(tmp_path / "x.npz", x=x, lengths=[0, 4, 2])
        out = tmp_path / f"y{suffix}"
        reported = report("run", lstm, tmp_path / "x.npz", "--on-error", "keep", "--out", out)
        assert reported["bad"] == ([1, 2] if bad else []) and reported["output_shape"] == [3, 4, 5]
        assert (reported["outputs"][0]["mean"] is None) == bad
    if suffix == ".csv":
        with out.open(newline="") as file:
            assert [row["sequence"] for row in csv.DictReader(file)] == ["1"] * 4 + ["2"] * 2


def test_no_input_is_overwritten(tmp_path: Path) -> None:
    """A trace replaced its INPUT, and a run a model in .npz."""
    model, data = tmp_path / "net.npz", tmp_path / "x.npz"
    weights = onward.LSTM(3, 4, rng=0).state_dict()
    np.savez(model, **weights)
    np.savez(data, x=np.zeros((2, 5, 3), np.float32))
    before = model.read_bytes(), data.read_bytes()
    for command, out, argument in (
        ("run", model, "MODEL"),
        ("run", data, "INPUT"),
        ("trace", model, "MODEL"),
        ("trace", data, "INPUT"),
    ):
        words = message(invoke(command, model, data, "--out", out, expect=2)).replace("│ ", "")
        assert f"would overwrite {argument}" in words
    assert (model.read_bytes(), data.read_bytes()) == before
