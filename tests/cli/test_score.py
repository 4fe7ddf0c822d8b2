"""`onward score`: texts, with characters that the model does not know, and tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import invoke, message, report
from support.randomized import random_cases

import onward
from onward import bundled
from onward.graph import Graph
from onward.graph.declared import Input
from onward.model import Model
from onward.recipes import text
from onward.tables import data, model_files


def test_a_bundled_data_set_can_be_scored_by_name() -> None:
    net = onward.load(bundled.models()["vowels"])
    assert isinstance(net, onward.Sequential)
    sequences = data.read(bundled.datasets()["japanese_vowels_test"])
    assert sequences.labels is not None
    logits = np.stack([net(x) for x in sequences.items]).astype(np.float64)
    loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), sequences.labels]
    reported = report("score", "vowels", "japanese_vowels_test")
    assert reported["loss"] == pytest.approx(loss.mean(), rel=1e-5)
    assert reported["accuracy"] == (logits.argmax(axis=1) == sequences.labels).mean()


def test_unknown_characters_are_skipped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "known.txt").write_text("To be, or not to be")
    (tmp_path / "with_unknown.txt").write_text("To bé, or né €t to bé".replace("é", "eé").replace("€", "€o"))
    known, other = (
        report("score", "shakespeare", tmp_path / f"{name}.txt") for name in ("known", "with_unknown")
    )
    model, vocabulary = text.load(bundled.models()["shakespeare"])
    expected = text.bits_per_character(model, vocabulary, "To be, or ne ot to be")
    assert known["unknown"] == {}
    assert other["unknown"] == {"é": 3, "€": 1}
    assert other["characters"] == len("To be, or ne ot to be")
    assert other["bits_per_character"] == expected
    output = invoke("score", "shakespeare", tmp_path / "with_unknown.txt", expect=0).output
    assert "Skipped 4 characters that the model does not know: 'é' (3x), '€' (1x)" in " ".join(output.split())


def test_unknown_characters_can_be_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("To bé")
    result = invoke("score", "shakespeare", tmp_path / "text.txt", "--unknown", "error", expect=1)
    assert "character 4 of the text is 'é'" in message(result)


def test_a_text_with_only_unknown_characters_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("äöü")
    result = invoke("score", "shakespeare", tmp_path / "text.txt", expect=1)
    assert "has 0 characters that the model knows, of 3" in message(result)


def test_a_text_is_rejected_by_a_model_that_is_not_a_text_model(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("To be")
    reported = message(invoke("score", "vowels", tmp_path / "text.txt", expect=2))
    assert "vowels is not a text model; tables end in .npy, .npz, .csv" in reported


def test_the_loss_follows_from_the_last_layer_or_the_options(tmp_path: Path) -> None:
    rng, file = np.random.default_rng(0), tmp_path / "table.npz"
    x, y = rng.normal(size=(6, 5, 2)), rng.integers(0, 2, 6)
    np.savez(file, x=x, y=y)
    finals = {"cross_entropy": (2, onward.Softmax()), "bce": (1, onward.Activation("sigmoid"))}
    for loss, (outputs, last) in finals.items():
        head, path = onward.Linear(4, outputs, rng=1), tmp_path / loss
        model = onward.Sequential(onward.LSTM(2, 4, rng=0), onward.Last(), head, last)
        model.save(path)
        expected = onward.train.evaluate(model[:-1], (x.swapaxes(0, 1), y), loss)
        for options in ([], ["--loss", loss], ["--from-probabilities"]):
            found = report("score", path, file, *options)
            assert found["loss"] == pytest.approx(expected.loss, rel=1e-5)
            assert found["accuracy"] == expected.accuracy
        other = report("score", path, file, "--loss", loss, "--from-logits")
        assert abs(other["loss"] - expected.loss) > 1e-3
        invoke("compile", path, "-o", f"{path}.onward", expect=0)
        told = message(invoke("score", f"{path}.onward", file, "--loss", loss, expect=2))
        assert "is compiled, and does not tell what its outputs are: pass --loss" in told
        compiled = report("score", f"{path}.onward", file, "--loss", loss, "--from-probabilities")
        assert {**compiled, "model": ""} == {**found, "model": ""}


@pytest.mark.parametrize("axes", [("B", "T", 3), ("B", 3, "T"), (1, "T", 3)])
def test_a_whole_model_that_is_no_chain_of_layers_is_scored(axes: tuple[Any, ...], tmp_path: Path) -> None:
    rng, time = np.random.default_rng(0), axes.index("T")
    graph = Graph()
    x = graph.add_input("x", np.dtype("float32"), axes)
    steps = graph.add("Transpose", x, perm=[0, time, 3 - time])
    peak = graph.add("ReduceMax", graph.add("Tanh", steps), graph.add_constant(np.array([1])), keepdims=0)
    W = rng.normal(size=(3, 4)).astype(np.float32)
    graph.outputs = (graph.add("MatMul", peak, graph.add_constant(W)),)
    graph.declared_outputs = (Input("y"),)
    onward.export_onnx(Model(graph), tmp_path / "net.onnx")
    x, y, lengths = (
        rng.normal(size=(9, 5, 3)).astype(np.float32),
        rng.integers(0, 4, 9),
        rng.integers(1, 6, 9),
    )
    np.savez(tmp_path / "x.npz", x=np.moveaxis(x, 1, time), y=y, lengths=lengths)
    scores = np.stack([np.tanh(row[:n]).max(axis=0) @ W for row, n in zip(x, lengths, strict=True)])
    expected = onward.train.cross_entropy(scores, y)[0]
    for options in ([], ["--loss", "cross_entropy"]):
        found = report("score", tmp_path / "net.onnx", tmp_path / "x.npz", *options)
        assert found["loss"] == pytest.approx(expected, rel=1e-5)
        assert found["accuracy"] == (scores.argmax(axis=1) == y).mean()
    assert report("run", tmp_path / "net.onnx", tmp_path / "x.npz")["accuracy"] == found["accuracy"]
    assert found["read_as"] == f"9 sequences of {lengths.min()} to 5 steps, 3 features"
    softmax = graph.add("Softmax", graph.outputs[0])
    graph.outputs = (softmax,)
    onward.export_onnx(Model(graph), tmp_path / "net.onnx")
    assert report("score", tmp_path / "net.onnx", tmp_path / "x.npz")["loss"] == pytest.approx(expected, 1e-5)


def test_tables_of_token_ids_are_scored(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "ids.npz"
    layers = (
        onward.Embedding(9, 4, rng=0),
        onward.LSTM(4, 5, rng=1),
        onward.Last(),
        onward.Linear(5, 2, rng=2),
    )
    net = onward.Sequential(*layers)
    net.save(tmp_path / "net.safetensors")
    x = rng.integers(0, 9, (20, 6))
    np.savez(path, x=x, y=net(x.T).argmax(axis=1))
    assert report("score", str(tmp_path / "net.safetensors"), str(path))["accuracy"] == 1
    x[7, 3] = 10
    np.savez(path, x=x, y=np.zeros(20, np.int64))
    assert "sequence 7: x[3, 0] is 10" in message(
        invoke("score", str(tmp_path / "net.safetensors"), str(path))
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_the_score_of_numbers_says_whether_the_mean_of_the_targets_is_better(
    tmp_path: Path, sign: int
) -> None:
    """It was a loss without a unit and without anything to compare it with."""
    rng = np.random.default_rng(0)
    net = onward.Sequential(onward.GRU(3, 5, rng=0), onward.Last(), onward.Linear(5, 2, rng=1))
    net.save(tmp_path / "net.safetensors")
    x = rng.standard_normal((20, 6, 3)).astype(np.float32)
    y = np.stack([net(row) for row in x])
    targets = sign * y + 0.1 * y.std() * rng.standard_normal(y.shape)
    np.savez(tmp_path / "x.npz", x=x, y=targets)
    found = report("score", tmp_path / "net.safetensors", tmp_path / "x.npz")
    assert found["mae"] == pytest.approx(np.abs(y - targets).mean(), rel=1e-5)
    r2 = 1 - ((y - targets) ** 2).sum() / ((targets - targets.mean(axis=0)) ** 2).sum()
    assert found["r2"] == pytest.approx(r2, rel=1e-4)
    printed = invoke("score", tmp_path / "net.safetensors", tmp_path / "x.npz", expect=0).stdout
    assert f"R² {r2:.3g}" in printed and ("loses to the mean" in " ".join(printed.split())) == (sign < 0)


TARGETS = ["of sequences", "of steps"]


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("seed", range(random_cases(10)))
def test_missing_targets_are_neither_trained_on_nor_scored(kind: str, seed: int, tmp_path: Path) -> None:
    """One missing number made targets of sequences those of steps, whose loss was NaN."""
    rng = np.random.default_rng(seed)
    lines: dict[bool, list[str]] = {True: [], False: []}  # with the rows whose target is missing, and without
    y, known, count = [], [], int(rng.integers(6, 12))
    for name in range(count):
        T, number = int(rng.integers(1, 5)), round(float(rng.normal()), 3)
        numbers = [number if kind == "of sequences" else round(number + t, 3) for t in range(T)]
        shown = [rng.random() < 0.7] * T if kind == "of sequences" else (rng.random(T) < 0.7).tolist()
        shown = [True] * T if name < 5 else shown
        rows = [f"{name},{t},{rng.normal():.3f}," for t in range(T)]
        cells = [str(each) if is_shown else "" for each, is_shown in zip(numbers, shown, strict=True)]
        lines[True] += [row + cell for row, cell in zip(rows, cells, strict=True)]
        lines[False] += [row + cell for row, cell in zip(rows, cells, strict=True) if cell]
        y += numbers if kind == "of steps" else numbers[:1]
        known += shown if kind == "of steps" else shown[:1]
    for whole, rows in lines.items():
        (tmp_path / f"{whole}.csv").write_text("\n".join(["sequence,t,a,target", *rows]))
    options = "--time", "t", "--target", "target", "--epochs", "2", "--hidden", "3", "--hold-out", "0.3"
    nets = {whole: tmp_path / f"{whole}.safetensors" for whole in lines}
    train = "train", "table", tmp_path / "True.csv", *options, "-o", nets[True]
    if False in known:
        assert "pass --missing skip" in message(invoke(*train, expect=1))
    trained = report(*train, "--missing", "skip")
    assert np.isfinite(trained["loss"])
    if kind == "of sequences":  # as if the others did not exist
        report("train", "table", tmp_path / "False.csv", *options, "--missing", "skip", "-o", nets[False])
        weights = [onward.load(path).weights_by_name() for path in nets.values()]
        assert all(np.array_equal(weights[0][name], weight) for name, weight in weights[1].items())
    found = report("score", nets[True], tmp_path / "True.csv")
    table = data.read(tmp_path / "True.csv", saved=model_files.load_saved(nets[True]))
    model = onward.load(nets[True])
    outputs = [np.atleast_2d(model(item.astype(np.float32))) for item in table.items]
    errors = (np.concatenate(outputs)[:, 0] - np.array(y, np.float32))[known]
    assert found["loss"] == pytest.approx(float((errors.astype(np.float64) ** 2).mean()), rel=1e-5)
    assert found["unknown_labels"] == known.count(False)
    ran = report("run", nets[True], tmp_path / "True.csv")
    assert ran["mean_squared_error"] == pytest.approx(found["loss"], rel=1e-5)


def test_one_sequence_is_scored_like_many(tmp_path: Path) -> None:
    """The number of a single sequence, or of sequences of one step, was one of each step."""
    net = onward.Sequential(onward.GRU(1, 5, rng=0), onward.Last(), onward.Linear(5, 1, rng=1))
    selection = data.Selection(("a",), ("y",), "name", task="regress")
    model_files.save(tmp_path / "net.safetensors", net, data.Saved(selection))
    rows = [f"{name},{name - t},{name / 2}" for name in range(4) for t in range(3)]
    errors = []
    for name in range(4):
        (tmp_path / "x.csv").write_text("\n".join(["name,a,y", *rows[3 * name : 3 * name + 3]]))
        errors.append(report("score", tmp_path / "net.safetensors", tmp_path / "x.csv")["loss"])
    (tmp_path / "x.csv").write_text("\n".join(["name,a,y", *rows]))
    found = report("score", tmp_path / "net.safetensors", tmp_path / "x.csv")
    assert found["loss"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_bits_beyond_the_largest_float_are_null_in_json(tmp_path: Path) -> None:
    """They ended in an OverflowError."""
    model, vocabulary = text.load(bundled.models()["shakespeare"])
    linear = model[-1]
    linear.load_state_dict({name: 1e5 * W.astype(np.float32) for name, W in linear.state_dict().items()})
    text.save(tmp_path / "sure.safetensors", model, vocabulary)
    (tmp_path / "x.txt").write_text("To be, or not to be")
    found = report("score", tmp_path / "sure.safetensors", tmp_path / "x.txt")
    assert found["bits_per_character"] > 1024 and found["perplexity"] is None
    assert (
        "perplexity inf"
        in invoke("score", tmp_path / "sure.safetensors", tmp_path / "x.txt", expect=0).output
    )


@pytest.mark.parametrize(
    ("command", "file", "options"),
    [
        ("score", "x.txt", ["--missing", "skip"]),
        ("score", "x.txt", ["--loss", "mse"]),
        ("score", "x.csv", ["--unknown", "error"]),
        ("run", "x.txt", ["--window", "3"]),
        ("run", "x.parquet", ["--missing", "skip"]),
        ("run", "x.parquet", ["--backtest"]),
        ("run", "x.parquet", ["--decimal", ","]),
    ],
)
def test_options_without_effect_are_refused(
    tmp_path: Path, command: str, file: str, options: list[str]
) -> None:
    """They were accepted in silence."""
    (tmp_path / "x.txt").write_text("To be, or not to be")
    (tmp_path / "x.csv").write_text("a\n1\n")
    (tmp_path / "x.parquet").touch()
    words = message(invoke(command, "shakespeare", tmp_path / file, *options, expect=2)).replace("│ ", "")
    assert f"{options[0]}: only for" in words


def test_a_score_of_nan_is_an_error_that_names_the_sequences(tmp_path: Path) -> None:
    """It was a loss of nan with exit code 0."""
    x = np.random.default_rng(0).standard_normal((4, 5, 12)).astype(np.float32)
    x[2, 3, 1] = np.nan
    np.savez(tmp_path / "x.npz", x=x, y=[0, 1, 2, 3], lengths=[5, 0, 5, 2])
    words = message(invoke("score", "vowels", tmp_path / "x.npz", expect=1))
    assert "the outputs are NaN for 1 of 4 sequences: 2. Check the input for NaN" in words
