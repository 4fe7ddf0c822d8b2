"""The commands train, sample, score and plot: their files, their output and their errors."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import invoke, message, report

import onward
from onward.core import storage
from onward.recipes import characters, sequences, text
from onward.train import checkpoint
from onward.train.fit import Training

PLAY = "".join(f"FOOL {n % 7}.\nNuncle, give me {n % 5} eggs.\n" for n in range(90))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run each test in its own folder, on little data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(characters, "READ", 10_000)
    monkeypatch.setattr(sequences, "READ", 2_000)
    (tmp_path / "play.txt").write_text(PLAY)


SMALL = "--hidden", "16", "--layers", "1"


def test_a_text_model_is_trained_sampled_scored_and_plotted() -> None:
    result = report("train", "text", "play.txt", *SMALL, "--epochs", "12")
    assert result["model"] == "play.safetensors" and result["run"] == "play.run"
    assert len(result["epochs"]) == 12 and result["characters"] == len(PLAY)
    assert result["bits_per_character"] < 3.2 < np.log2(result["vocabulary"])
    assert result["perplexity"] == pytest.approx(2 ** result["bits_per_character"])
    model, vocabulary = text.load("play.safetensors")
    assert text.bits_per_character(model, vocabulary, characters.split(PLAY).test) == pytest.approx(
        result["bits_per_character"]
    )
    Path("test.txt").write_text(characters.split(PLAY).test)
    assert (
        report("score", "play.safetensors", "test.txt")["bits_per_character"] == result["bits_per_character"]
    )
    assert "bits per character" in invoke("score", "play.safetensors", "test.txt", expect=0).output

    prompt = "--prompt", "FOOL", "--length", "40", "--seed", "3"
    sampled = report("sample", "play.safetensors", *prompt)
    assert len(sampled["text"]) == 40 and set(sampled["text"]) <= set(PLAY)
    output = invoke(
        "sample", "play.safetensors", "--prompt", "FOOL", "--length", "40", "--seed", "3", expect=0
    ).output
    assert output == "FOOL" + sampled["text"] + "\n"

    invoke("plot", "play.run", expect=0)
    assert Path("play.png").read_bytes()[:4] == b"\x89PNG"
    reported = report("plot", "play.run", "-o", "play.svg")
    assert reported == {"run": "play.run", "out": "play.svg"}
    assert b"<svg" in Path("play.svg").read_bytes()


@pytest.mark.parametrize(("most", "shown"), [(20, {9, 19, 22}), (2, {19, 22})])
def test_the_table_shows_the_best_the_last_and_some_epochs_with_the_accuracy(
    most: int, shown: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onward.cli.train.MOST_ROWS", most)
    result = invoke("train", "text", "play.txt", *SMALL, "--epochs", "23", "-o", "net.safetensors", expect=0)
    assert "Losses: cross entropy in nats\n" in result.stdout
    assert (
        "bits per character on the last 5%" in result.stdout
        and "onward sample net.safetensors" in result.stdout
    )
    rows = [line.split() for line in result.stdout.splitlines() if line.endswith("% │")]
    best = checkpoint.history("net.run").best
    assert best is not None
    assert [int(row[1]) - 1 for row in rows] == sorted({*shown, best})
    assert [int(row[1]) - 1 for row in rows if row[2] == "(best)"] == [best]
    headings = next(line for line in result.stdout.splitlines() if "epoch" in line)
    assert [part.strip() for part in headings.strip("┃").split("┃")] == [
        "epoch", "training loss", "validation loss", "validation accuracy",
    ]  # fmt: skip


def test_a_training_without_a_terminal_prints_lines_on_stderr() -> None:
    result = invoke("train", "text", "play.txt", *SMALL, "--epochs", "2", "--json", expect=0)
    json.loads(result.stdout)
    assert "epoch 2: loss " in result.stderr and "validation accuracy" in result.stderr


def test_losses_of_a_table_name_their_label_smoothing_and_units() -> None:
    np.savez("classes.npz", **table(classes=True))
    np.savez("targets.npz", **table(per_sequence=True))
    output = invoke("train", "table", "classes.npz", *SMALL, expect=0).stdout
    assert "Losses: cross entropy in nats, label_smoothing=0.02\n" in output
    assert "nats without label smoothing" in output
    output = invoke("train", "table", "targets.npz", *SMALL, expect=0).stdout
    assert "Losses: mean squared error of standardized targets\n" in output
    assert "in the units of the targets" in output and "accuracy" not in output


def interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Training._step

    def until(self: Training, run: checkpoint.Run, batch: Any) -> None:
        if run.memory.step == steps:
            raise KeyboardInterrupt
        step(self, run, batch)

    monkeypatch.setattr(Training, "_step", until)


@pytest.mark.parametrize("kind", ["text", "table"])
def test_resuming_an_interrupted_training_gives_the_same_model(kind: str) -> None:
    np.savez("play.npz", **table(classes=True))
    command = "train", kind, "play.txt" if kind == "text" else "play.npz", *SMALL, "--epochs", "4", "-o"
    invoke(*command, "whole.safetensors", expect=0)
    interrupted = []
    for steps in (2, 14 if kind == "text" else 9):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_after(steps, patch)
            interrupted.append(invoke(*command, "cut.safetensors", expect=130))
    assert "nothing was saved" in interrupted[0].stderr
    assert (
        "Written" not in interrupted[1].stdout and "--resume continues from cut.run" in interrupted[1].stderr
    )
    assert not Path("cut.safetensors").exists()
    invoke(*command, "cut.safetensors", "--resume", expect=0)
    assert Path("cut.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    assert Path("cut.run").read_bytes() == Path("whole.run").read_bytes()
    assert (
        "another model" in invoke(*command, "cut.safetensors", "--resume", "--hidden", "17", expect=1).stderr
    )
    words = message(invoke(*command, "cut.safetensors", "--resume", "--hidden", "17", expect=1))
    named = "--input, --target, --horizon, --cell, --hidden, --layers, --bidirectional"
    named = "--hidden, --layers" if kind == "text" else named
    assert (
        f"without --resume (--resume needs FILE and the options of the first command, here of {named})"
        in words
    )


@pytest.mark.parametrize("steps", [3, 9])  # in the training that is validated, and in the one on all windows
def test_resuming_a_forecaster_gives_the_same_model(steps: int) -> None:
    rows = [f"{n},{n % 7 + n / 50:.2f}" for n in range(150)]
    Path("x.csv").write_text("\n".join(["t,y", *rows]))
    command = (
        "train",
        "table",
        "x.csv",
        "--time",
        "t",
        "--target",
        "y",
        "--window",
        "14",
        "--epochs",
        "4",
        *SMALL,
    )
    invoke(*command, "-o", "whole.safetensors", expect=0)
    count = 0
    step = Training._step

    def until(self: Training, run: checkpoint.Run, batch: Any) -> None:
        nonlocal count
        count += 1
        if count > steps:
            raise KeyboardInterrupt
        step(self, run, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_step", until)
        assert "--resume continues" in invoke(*command, "-o", "cut.safetensors", expect=130).stderr
    assert not Path("cut.safetensors").exists()
    invoke(*command, "-o", "cut.safetensors", "--resume", expect=0)
    assert Path("cut.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    assert not list(Path().glob("*.refit.run"))


def test_ctrl_c_does_not_offer_to_resume_from_the_checkpoint_of_an_earlier_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = "train", "text", "play.txt", *SMALL, "--epochs"
    invoke(*command, "2", expect=0)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "run", interrupted)
    assert "nothing was saved" in invoke(*command, "2", expect=130).stderr
    assert "--resume continues from play.run" in invoke(*command, "2", "--resume", expect=130).stderr


def test_resuming_with_another_text_of_the_same_length_is_an_error() -> None:
    Path("other.txt").write_text(PLAY[::-1])
    options = *SMALL, "--epochs", "1", "-o", "net.safetensors"
    invoke("train", "text", "play.txt", *options, expect=0)
    assert "another data set" in invoke("train", "text", "other.txt", *options, "--resume", expect=1).stderr


@pytest.mark.parametrize(
    ("kind", "name", "out"),
    [
        ("text", "novel.run", ()),
        ("text", "novel.safetensors", ()),
        ("text", "novel.txt", ("-o", "link.safetensors")),
        ("table", "novel.npz", ("-o", "link.safetensors")),
    ],
)
def test_training_does_not_overwrite_its_input(kind: str, name: str, out: tuple[str, ...]) -> None:
    np.savez("novel.npz", **table(classes=True))
    if kind == "text":
        Path(name).write_text(PLAY)
    Path("link.safetensors").symlink_to(name)
    before = Path(name).read_bytes()
    assert "would overwrite FILE" in invoke("train", kind, name, *out, *SMALL, expect=2).stderr
    assert Path(name).read_bytes() == before


def test_infinite_targets_are_one_error_message() -> None:
    arrays = table(per_sequence=True)
    arrays["targets"][:, 1] = np.inf
    np.savez("table.npz", **arrays)
    assert "Error: the loss is nan" in invoke("train", "table", "table.npz", *SMALL, expect=1).stderr


def test_an_interrupted_sample_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*_: object, **options: object) -> Iterator[str]:
        yield "a"
        raise KeyboardInterrupt

    monkeypatch.setattr(text, "sample", endless)
    result = invoke("sample", "shakespeare", "--prompt", "b", expect=130)
    assert (result.stdout, result.stderr) == ("ba", "")
    assert invoke("sample", "shakespeare", "--json", expect=130).output == ""


def table(classes: bool = False, per_step: bool = False, per_sequence: bool = False) -> dict[str, Any]:
    """Return sequences with classes or targets that depend on the first feature."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 8, 120)
    items = [50 + 10 * rng.normal(0, 1, (length, 2)) for length in lengths]
    arrays: dict[str, Any] = {"x": np.concatenate(items), "lengths": lengths}
    if classes:
        arrays["y"] = np.array([int(item[0, 0] > 50) for item in items])
    if per_sequence:
        arrays["targets"] = np.array([[item[:, 0].mean(), 1e3] for item in items])
    if per_step:
        arrays["targets"] = np.concatenate([3 * item[:, :1] + 7 for item in items])
    return arrays


def test_a_classifier_is_trained_on_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "READ", 16_000)
    np.savez("table.npz", **table(classes=True))
    result = report("train", "table", "table.npz")
    assert result["accuracy"] >= 0.85 and result["sequences"] == 120 and len(result["epochs"]) == 133
    assert report("score", "table.safetensors", "table.npz")["accuracy"] >= 0.9
    assert report("run", "table.safetensors", "table.npz")["accuracy"] >= 0.9  # on unscaled data
    assert "% correct" in invoke("score", "table.safetensors", "table.npz", expect=0).output


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_numbers_are_classes_of_steps(suffix: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.choice([3, 7], (30, 5))
    x = rng.normal(size=(30, 5, 1)) + 2 * y[..., None]
    if suffix == ".npz":
        np.savez("steps.npz", x=x, y=y)
        options = ["--task", "label-steps"]
    else:
        rows = [f"{n},{x[n, t, 0]},{y[n, t]}" for n in range(30) for t in range(5)]
        Path("steps.csv").write_text("\n".join(["id,x,y", *rows]))
        options = ["--task", "label-steps", "--group", "id", "--target", "y"]
    result = report("train", "table", f"steps{suffix}", *options, *SMALL, "--epochs", "40")
    assert result["accuracy"] > 0.9 and result["classes"] == ["3", "7"]
    assert [row["class"] for row in result["by_class"]] == ["3", "7"]
    assert onward.load("steps.safetensors")(x[0].astype(np.float32)).shape == (5, 2)
    assert report("score", "steps.safetensors", f"steps{suffix}")["accuracy"] > 0.9
    printed = invoke("run", "steps.safetensors", f"steps{suffix}", expect=0).output
    assert "of 150" in printed and "of 30" not in printed


@pytest.mark.parametrize("kind", ["per_step", "per_sequence"])
def test_a_regression_model_predicts_in_the_units_of_the_targets(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "READ", 16_000)
    arrays = table(**{kind: True})
    np.savez("table.npz", **arrays)
    result = report("train", "table", "table.npz")
    assert result["accuracy"] is None
    assert result["loss"] < 0.2 * arrays["targets"].var(axis=0).mean()
    found = report("score", "table.safetensors", "table.npz")["loss"]
    net: Any = onward.load("table.safetensors")
    items = np.split(arrays["x"], np.cumsum(arrays["lengths"])[:-1])
    outputs = [net(item) for item in items]
    errors = (np.stack(outputs) if kind == "per_sequence" else np.concatenate(outputs)) - arrays["targets"]
    assert found == pytest.approx((errors**2).mean(), rel=1e-4)


def test_a_bundled_data_set_can_be_trained_on_by_name() -> None:
    result = report("train", "table", "japanese_vowels_train", *SMALL, "--epochs", "2")
    assert result["file"] == "japanese_vowels_train" and result["sequences"] == 270
    assert Path("japanese_vowels_train.safetensors").is_file()


def test_csv_columns_can_be_targets() -> None:
    arrays = table(per_step=True)
    with Path("table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sequence", "a", "target_a", "b"])
        sequence = np.repeat(np.arange(120), arrays["lengths"])
        for number, (a, b), (goal,) in zip(sequence, arrays["x"], arrays["targets"], strict=True):
            rows.writerow([number, a, goal, b])
    np.savez("table.npz", **arrays)
    result = [
        report("train", "table", f"table{suffix}", "-o", "net.safetensors") for suffix in (".csv", ".npz")
    ]
    assert result[0]["loss"] == pytest.approx(result[1]["loss"], rel=1e-3)


def test_a_model_that_knows_no_newline_is_sampled_without_a_prompt() -> None:
    Path("line.txt").write_text("to be or not to be " * 99)
    invoke("train", "text", "line.txt", *SMALL, "--epochs", "1", expect=0)
    assert invoke("sample", "line.safetensors", "--length", "5", expect=0).stdout.startswith(" ")


def test_mistakes_are_one_error_message() -> None:
    Path("short.txt").write_text("To be.")
    Path("binary.txt").write_bytes(b"\xff\xfe" * 900)
    np.savez("table.npz", **table())
    np.savez("few.npz", x=np.ones((3, 2)), y=[1])
    np.savez("odd.npz", x=np.ones((3, 2)), targets=np.ones((2, 2, 2)))
    np.savez("same.npz", x=np.ones((9, 4, 2)), y=["a"] * 9)
    Path("other.txt").write_text(PLAY + "é")
    invoke("train", "text", "play.txt", *SMALL, "--epochs", "1", expect=0)
    for arguments, code, expected in (
        (("train", "text", "short.txt"), 1, "6 characters; training needs at least 1,000"),
        (("train", "text", "binary.txt"), 1, "not text in UTF-8: byte 0 is 0xff"),
        (("train", "text", "nothing.txt"), 2, "does not exist"),
        (("train", "text", "play.txt", "-o", "net.onnx"), 2, ".safetensors"),
        (("train", "text", "play.txt", "--epochs", "0"), 2, "--epochs"),
        (("train", "table", "play.txt"), 2, ".npz, .csv"),
        (("train", "table", "table.npz"), 1, "neither classes"),
        (("train", "table", "few.npz"), 1, "1 sequence, expected at least 5"),
        (("train", "table", "same.npz"), 1, "one class, 'a', expected at least two"),
        (("train", "table", "odd.npz"), 1, "y has shape (2, 2, 2) and dtype float64"),
        (("sample", "vowels"), 1, "is not a text model"),
        (("sample", "nothing"), 2, "neither a file nor a bundled model"),
        (("sample", "play.safetensors", "--prompt", "Zounds"), 1, "character 0 of the text is 'Z'"),
        (("sample", "play.safetensors", "--temperature", "-1"), 2, "-1.0 is not in the range x>=0"),
        (("score", "play.safetensors", "other.txt", "--unknown", "error"), 1, "is 'é'"),
        (("score", "vowels", "table.npz"), 1, "the model takes 12 features"),
        (("plot", "play.safetensors"), 1, "is not a checkpoint"),
        (("plot", "play.txt"), 1, "expected a checkpoint written by onward.train.fit or `onward train`"),
        (("plot", "play.run", "-o", "x.gif"), 2, ".png, .svg, .pdf"),
    ):
        stderr = " ".join(invoke(*arguments, expect=code).stderr.replace("│", " ").split())
        assert expected in stderr, (arguments, stderr)


def test_a_full_disk_leaves_the_previous_model_intact(monkeypatch: pytest.MonkeyPatch) -> None:
    command = "train", "text", "play.txt", *SMALL, "--epochs", "1"
    invoke(*command, expect=0)
    before = Path("play.safetensors").read_bytes(), Path("play.run").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "No space left on device" in invoke(*command, "--seed", "5", expect=1).stderr
    assert (Path("play.safetensors").read_bytes(), Path("play.run").read_bytes()) == before
    assert storage.read("play.run")[1] is not None


@pytest.mark.parametrize(
    "command", [["train", "text"], ["train", "table"], ["train"], ["sample"], ["score"], ["plot"]]
)
def test_every_help_has_an_example(command: list[str]) -> None:
    assert "Example:  onward" in invoke(*command, "--help", expect=0).output
