"""The command line: what it prints and writes, its exit codes, and that a mistake ends in a message."""

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
import support
from click.testing import CliRunner, Result
from support import onnx_nodes

import onward
from onward import bundled
from onward.cli import main
from onward.layers.base import Layer
from onward.tables import data

VOWELS = bundled.models()["vowels"]
TEST = bundled.datasets()["japanese_vowels_test"]


def onward_(*arguments: str | Path) -> Result:
    """The command run in this process; nothing but an exit may come out of it."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def report(*arguments: str | Path) -> dict[str, Any]:
    """The JSON object of a command that succeeds and prints nothing else."""
    result = onward_(*arguments, "--json")
    assert result.exit_code == 0, result.output
    parsed: dict[str, Any] = json.loads(result.stdout, parse_constant=pytest.fail)  # NaN is no JSON
    return parsed


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    """What the bundled model gives for each test utterance on its own."""
    net = onward.load(VOWELS)
    assert isinstance(net, onward.Sequential)
    return np.stack([net(x) for x in data.read(TEST).items])


@pytest.fixture
def lstm(tmp_path: Path) -> Path:
    """A model of one layer, which gives an output for each step."""
    onward.LSTM(12, 5, rng=0).save(tmp_path / "lstm.safetensors")
    return tmp_path / "lstm.safetensors"


@pytest.fixture
def state_dict(tmp_path: Path) -> Path:
    """Somebody's PyTorch state dict, with a tensor of no layer that Onward knows."""
    tensors = {f"encoder.{key}": value for key, value in onward.GRU(3, 4).state_dict().items()}
    tensors |= {"head.weight": np.ones((2, 4), np.float32), "scale": np.ones(3, np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "theirs.safetensors")
    return tmp_path / "theirs.safetensors"


# --- run --------------------------------------------------------------------------------


def test_run_shows_accuracy_by_class_overall_and_speed() -> None:
    result = onward_("run", "vowels")
    assert result.exit_code == 0
    assert all(
        text in result.output for text in ("370", "5,687", "98.9%", "91.4%", "7 (1x)", "steps per second")
    )


def test_json_says_what_the_model_gives(expected: np.ndarray) -> None:
    said = report("run", "vowels", "japanese_vowels_test")
    labels = data.read(TEST).labels
    assert said["predicted"] == expected.argmax(axis=1).tolist()
    assert said["accuracy"] == (expected.argmax(axis=1) == labels).mean()
    assert said["output_shape"] == [370, 9] and said["sequences"] == 370 and said["steps"] == 5687
    assert sum(row["correct"] for row in said["classes"]) == round(said["accuracy"] * 370)
    assert all(row["sequences"] == row["correct"] + sum(row["taken_for"].values()) for row in said["classes"])
    assert said["outputs"][3]["max"] == expected[:, 3].max()


def test_every_form_of_input_gives_the_same_predictions(tmp_path: Path) -> None:
    items = data.read(TEST).items[:70]  # more than one batch
    lengths = [len(x) for x in items]
    padded = np.full((max(lengths), len(items), 12), 1e6, np.float32)
    for b, x in enumerate(items):
        padded[: len(x), b] = x
    np.savez(tmp_path / "ragged.npz", x=np.concatenate(items), lengths=lengths)
    np.savez(tmp_path / "padded.npz", x=padded, lengths=lengths)
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sequence", *(f"c{k}" for k in range(12))])
        for b, x in enumerate(items):
            rows.writerows([b, *map(str, frame)] for frame in x)
    for b in range(3):
        np.save(tmp_path / f"{b}.npy", items[b])
    said = [report("run", "vowels", tmp_path / name) for name in ("ragged.npz", "padded.npz", "rows.csv")]
    for other in said[1:]:
        assert other["predicted"] == said[0]["predicted"] and other["outputs"] == said[0]["outputs"]
    alone = [report("run", "vowels", tmp_path / f"{b}.npy")["predicted"] for b in range(3)]
    assert [p for predicted in alone for p in predicted] == said[0]["predicted"][:3]


def test_outputs_are_written_in_the_order_of_the_sequences(tmp_path: Path, expected: np.ndarray) -> None:
    for suffix in data.SUFFIXES:
        assert onward_("run", "vowels", "--out", tmp_path / f"y{suffix}").exit_code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npz")["outputs"], expected)
    with (tmp_path / "y.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sequence"]) for row in rows] == list(range(370))
    assert [int(row["predicted"]) for row in rows] == expected.argmax(axis=1).tolist()
    read = np.array([[row[f"output_{k}"] for k in range(9)] for row in rows], np.float32)
    np.testing.assert_array_equal(read, expected)


def test_a_model_with_an_output_for_each_step(tmp_path: Path, lstm: Path) -> None:
    layer = onward.load(lstm)
    assert isinstance(layer, onward.LSTM)
    items = data.read(TEST).items
    expected = np.concatenate([layer(x)[0] for x in items])
    said = report("run", lstm, "japanese_vowels_test", "--out", tmp_path / "y.npz")
    assert said["output_shape"] == [5687, 5]
    assert "predicted" not in said and "accuracy" not in said  # its labels are of whole sequences
    with np.load(tmp_path / "y.npz") as written:
        np.testing.assert_array_equal(written["outputs"], expected)
        np.testing.assert_array_equal(written["lengths"], [len(x) for x in items])
    shown = onward_("run", lstm, "japanese_vowels_test", "--out", tmp_path / "y.csv").output
    assert "(5687, 5)" in shown and "labels are not used" in shown
    with (tmp_path / "y.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [(str(s), str(t)) for s, x in enumerate(items) for t in range(len(x))]
    assert [(row["sequence"], row["step"]) for row in rows] == steps


def test_a_batch_first_model_does_not_take_time_for_the_batch(tmp_path: Path, lstm: Path) -> None:
    layer = onward.load(lstm)
    assert isinstance(layer, onward.LSTM)
    other = onward.LSTM(12, 5, batch_first=True)
    other.load_state_dict(layer.state_dict())
    other.save(tmp_path / "batch_first.safetensors")
    for model in ("lstm", "batch_first"):
        out = tmp_path / f"{model}.npy"
        assert onward_("run", tmp_path / f"{model}.safetensors", TEST, "--out", out).exit_code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "lstm.npy"), np.load(tmp_path / "batch_first.npy"))


def test_without_labels_it_shows_how_often_each_output_is_largest(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "x.npz", x=np.concatenate(data.read(TEST).items[:31]), lengths=data.read(TEST).lengths[:31]
    )
    result = onward_("run", "vowels", tmp_path / "x.npz")
    assert "31 of 31" in result.output and "accuracy" not in result.output


def test_a_table_of_very_many_outputs_is_cut_and_says_so(tmp_path: Path) -> None:
    onward.RNN(12, 100, rng=0).save(tmp_path / "rnn.safetensors")
    result = onward_("run", tmp_path / "rnn.safetensors", "japanese_vowels_test")
    assert "76 more outputs" in result.output
    assert len(result.output.splitlines()) < 40


def test_nan_in_the_input_is_reported_and_leaves_the_json_valid(tmp_path: Path) -> None:
    x = np.zeros((4, 12), np.float32)
    x[2, 5] = np.nan
    np.save(tmp_path / "x.npy", x)
    said = report("run", "vowels", tmp_path / "x.npy")
    assert said["not_finite"] == 9 and said["outputs"][0]["mean"] is None
    assert "9 outputs NaN" in onward_("run", "vowels", tmp_path / "x.npy").output


def test_a_failed_run_leaves_the_old_output_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "y.csv"
    out.write_text("old")
    np.save(tmp_path / "x.npy", np.zeros((5, 13), np.float32))
    assert onward_("run", "vowels", tmp_path / "x.npy", "--out", out).exit_code == 1

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    result = onward_("run", "vowels", "--out", out)
    assert result.exit_code == 1 and "No space left on device" in result.output
    assert out.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"y.csv", "x.npy"}


# --- info, models --------------------------------------------------------------------------------


def test_info_counts_every_weight() -> None:
    said = report("info", "vowels")
    assert (
        said["parameters"] == 4 * 48 * (12 + 48 + 2) + 9 * 49 == sum(x["parameters"] for x in said["layers"])
    )
    assert said["bytes"] == 4 * said["parameters"] < said["file_bytes"]
    assert said["layers"][0]["weights"][0]["shape"] == [192, 12]
    shown = onward_("info", "vowels").output
    assert all(text in shown for text in ("LSTM(12, 48)", "weight_hh_l0", "192 x 48", "12,345", "49,380"))


@pytest.mark.parametrize(("precision", "bytes_"), [("float16", 2), ("int8", 1)])
def test_info_shows_the_bytes_of_a_quantised_model(tmp_path: Path, precision: str, bytes_: int) -> None:
    path = tmp_path / "small.safetensors"
    onward.Sequential(onward.LSTM(12, 32), onward.Linear(32, 9)).quantize(precision).save(path)
    said, rest = report("info", path), 4 * (2 * 128 + 9 * 33)  # biases, and Linear, are float32
    scales = 4 * 2 * 128 if precision == "int8" else 0
    assert said["bytes"] == bytes_ * 128 * (12 + 32) + scales + rest < said["file_bytes"]
    shown = onward_("info", path).output
    assert f"{said['bytes']:,}" in shown and f"quantize('{precision}')" in shown


def test_info_of_a_state_dict_names_what_belongs_to_no_layer(state_dict: Path) -> None:
    said = report("info", state_dict)
    assert [layer["name"] for layer in said["layers"]] == ["encoder", "head"]
    assert said["leftover"] == ["scale"]
    shown = onward_("info", state_dict).output
    assert all(text in shown for text in ("encoder", "GRU(3, 4)", "scale: a tensor that belongs to no layer"))


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
def test_convert_there_and_back_changes_nothing(tmp_path: Path, suffix: str) -> None:
    assert onward_("convert", "vowels", tmp_path / f"a{suffix}").exit_code == 0
    assert onward_("convert", tmp_path / f"a{suffix}", tmp_path / "b.safetensors").exit_code == 0
    onward.load(VOWELS).save(tmp_path / "own.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "own.safetensors").read_bytes()


def source_of(kind: str, folder: Path) -> Path:
    """A model in each format that can be read."""
    path, data, gru = folder / f"source.{kind}", support.DATA, onward.GRU(3, 4, rng=0)
    match kind:
        case "safetensors" | "onnx":
            net = onward.Sequential(gru, onward.Last(), onward.Linear(4, 2, rng=1))
            net.save(path) if kind == "safetensors" else onward.export_onnx(net, path)
        case "bin":  # a state dict in safetensors
            path.write_bytes(safetensors.numpy.save(gru.state_dict()))
        case "npz":
            np.savez(path, **gru.state_dict())
        case "h5":
            shutil.copy(data / "keras" / "cudnn.h5", path)
        case "pt":
            shutil.copy(data / "torch" / "weights.pt", path)
        case "keras":  # without the mask, which no other format can say
            with zipfile.ZipFile(data / "keras" / "tagger_3.keras") as old, zipfile.ZipFile(path, "w") as new:
                for name in old.namelist():
                    content = old.read(name)
                    new.writestr(name, content.replace(b'"mask_zero": true', b'"mask_zero": false'))
    return path


def answer_of(path: Path) -> Any:
    """What a model answers to the same input, whatever its format; of a state dict, one layer."""
    rng, net = np.random.default_rng(0), onward.load(path)
    if isinstance(net, dict):
        net = next(iter(net.values()))
    model: Any = net if isinstance(net, Layer) else net.layers()
    if "Embedding" in repr(model):
        return model(rng.integers(0, 5, (2, 6)))
    y = model(rng.normal(0, 1, (2, 6, model.step_shape[0])))
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("target", ["safetensors", "onnx"])
@pytest.mark.parametrize("kind", ["safetensors", "onnx", "bin", "npz", "h5", "keras", "pt"])
def test_convert_from_every_format_to_every_other(tmp_path: Path, kind: str, target: str) -> None:
    source, result = source_of(kind, tmp_path), tmp_path / f"target.{target}"
    done = onward_("convert", source, result)
    if (kind, target) == ("pt", "onnx"):  # a state dict of several layers
        assert done.exit_code == 2 and "does not say how its layers" in done.stderr.replace("\n", " ")
    else:
        assert done.exit_code == 0, done.output
        np.testing.assert_array_equal(answer_of(result), answer_of(source))


def test_a_file_of_onnx_is_run_and_looked_into_as_any_other(tmp_path: Path) -> None:
    path = tmp_path / "vowels.onnx"
    onward_("convert", "vowels", path)
    own, other = report("run", path, TEST), report("run", "vowels")
    assert own["predicted"] == other["predicted"]
    assert report("info", path)["layers"] == report("info", "vowels")["layers"]


def test_a_graph_that_is_no_chain_of_layers_shows_its_arrays_and_is_not_run(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Mul", ["x", "scale"], ["y"], "scaled")
    x = np.zeros((4, 1, 12), np.float32)
    model = onnx_nodes.model_of([node], {"x": x}, ["y"], {"scale": np.ones(12, np.float32)})
    onnx.save(model, tmp_path / "m.onnx")
    (layer,) = report("info", tmp_path / "m.onnx")["layers"]
    assert [weight["name"] for weight in layer["weights"]] == ["scale"]
    for arguments in (
        ["run", tmp_path / "m.onnx", TEST],
        ["convert", tmp_path / "m.onnx", tmp_path / "m.safetensors"],
    ):
        result = onward_(*arguments)
        assert result.exit_code == 1
        assert "node scaled (Mul) stands in the way" in result.stderr.replace("\n", " ")


def test_a_state_dict_keeps_its_tensors_and_becomes_no_graph(tmp_path: Path, state_dict: Path) -> None:
    assert onward_("convert", state_dict, tmp_path / "copy.safetensors").exit_code == 0
    for name, tensor in onward.load_tensors(state_dict).items():
        np.testing.assert_array_equal(onward.load_tensors(tmp_path / "copy.safetensors")[name], tensor)
    result = onward_("convert", state_dict, tmp_path / "m.onnx")
    assert (result.exit_code, "onward.Sequential" in result.stderr) == (2, True)


@pytest.mark.parametrize("target", ["safetensors", "onnx"])
def test_what_a_state_dict_does_not_say_can_be_said(tmp_path: Path, target: str) -> None:
    rnn = onward.RNN(3, 4, nonlinearity="relu", batch_first=True, rng=0)
    source, result = tmp_path / "rnn.bin", tmp_path / f"rnn.{target}"
    source.write_bytes(safetensors.numpy.save(rnn.state_dict()))
    said = ["--nonlinearity", "relu", "--batch-first"]
    assert onward_("convert", source, result, *said).exit_code == 0
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    net = onward.load(result)
    y = net.layers()(x) if target == "onnx" else net(x)[0]
    np.testing.assert_array_equal(y, rnn(x)[0])
    assert report("info", source, *said)["layers"][0]["layer"] == repr(rnn)


def test_options_that_tensors_cannot_hold_are_not_lost(tmp_path: Path) -> None:
    whole = support.DATA / "torch" / "whole.pt"
    result = onward_("convert", whole, tmp_path / "m.safetensors")
    said = " ".join(result.stderr.split())
    assert (result.exit_code, "tensors alone do not say lstm: LSTM(3, 4, batch_first=True" in said) == (
        2,
        True,
    )
    assert not list(tmp_path.iterdir())


def test_a_format_that_cannot_be_written_is_exit_code_2(tmp_path: Path) -> None:
    for target in (tmp_path / "vowels.pt", tmp_path / "nowhere" / "vowels.onnx"):
        result = onward_("convert", "vowels", target)
        assert (result.exit_code, "OUT" in result.stderr) == (2, True)


def test_models_lists_all_that_is_bundled() -> None:
    said = report("models")
    assert [model["name"] for model in said["models"]] == list(bundled.models())
    assert {row["name"]: row["steps"] for row in said["data"]}["japanese_vowels_train"] == 4274
    shown = onward_("models").output
    assert all(
        text in shown
        for text in ("vowels", "98.9%", "Apache-2.0", "japanese_vowels_test", "shakespeare", "bits per")
    )


# --- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["walk"], "walk"),
        (["run"], "MODEL"),
        (["run", "vowls"], "bundled model (shakespeare, vowels)"),
        (["run", "vowels", "missing.csv"], "bundled data set (japanese_vowels_test"),
        (["run", "vowels", "--jsn"], "--json"),
        (["run", "vowels", "x.txt"], ".npy, .npz, .csv"),
        (["run", "vowels", "."], "neither a file"),
        (["run", "vowels", "--out", "y.txt"], ".npy, .npz, .csv"),
        (["run", "vowels", "--out", "nowhere/y.csv"], "nowhere"),
        (["run", "lstm.safetensors"], "INPUT is missing"),
        (["run", "vowels", "--address", "auto"], "--engine ray"),
        (["run", "vowels", "--engine", "ray"], "--engine: of Parquet only"),
        (["run", "vowels", "x.npy", "--lengths", "n"], "--lengths: of Parquet only"),
        (["run", "vowels", "x.npy", "--input", "x", "--output", "y"], "--input, --output: of Parquet only"),
        (["run", "vowels", "x.npy", "--on-error", "keep"], "--on-error: of Parquet only"),
        (["run", "theirs.safetensors", "japanese_vowels_test"], "encoder, head"),
        (["info", "missing.safetensors"], "missing.safetensors"),
        (["models", "vowels"], "vowels"),
    ],
)
@pytest.mark.usefixtures("lstm", "state_dict")
def test_wrong_use_is_exit_code_2_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], fragment: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.txt").touch()
    result = onward_(*arguments)
    assert result.exit_code == 2
    assert fragment in result.output


def test_failed_work_is_exit_code_1_in_the_words_of_the_library(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 13), np.float32))
    result = onward_("run", "vowels", tmp_path / "x.npy")
    assert result.exit_code == 1 and "13" in result.output and "input_size=12" in result.output

    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,oops\n")
    result = onward_("run", "vowels", tmp_path / "x.csv")
    assert result.exit_code == 1
    assert all(text in result.output for text in ("x.csv", "line 3", "column 'b'", "'oops'"))

    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(VOWELS.read_bytes()[:-100])
    for result in (onward_("info", cut), onward_("run", cut, TEST)):
        assert result.exit_code == 1 and "cut.safetensors" in result.output


@pytest.mark.parametrize("command", [[], ["run"], ["info"], ["convert"], ["models"]])
def test_help_ends_with_an_example_that_runs(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = onward_(*command, "--help")
    assert result.exit_code == 0
    last = result.output.strip().splitlines()[-1]
    assert last.strip().startswith("Example:  onward ")
    if "recordings.csv" not in last:
        assert onward_(*last.split()[2:]).exit_code == 0


def test_names_with_square_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    np.save(tmp_path / "[red]x.npy", np.zeros((5, 12), np.float32))
    shown = onward_("run", "vowels", tmp_path / "[red]x.npy").output
    assert "[red]x.npy" in shown.replace("\n", "")


# --- trace -------------------------------------------------------------------------------------------


def test_trace_sums_up_each_layer_and_writes_what_the_name_says(tmp_path: Path) -> None:
    told = report("trace", "vowels", TEST, "--sequence", "9", "--similar", "-o", tmp_path / "gates.png")
    assert told["steps"] == 23
    (layer,) = told["layers"]
    assert (
        layer["layer"] == "0.l0" and list(layer["saturated"]) == list("ifgo") and len(layer["memory"]) == 48
    )
    assert (tmp_path / "gates.png").read_bytes().startswith(b"\x89PNG")
    assert onward_("trace", "vowels", "-o", tmp_path / "gates.PDF").exit_code == 0
    assert (tmp_path / "gates.PDF").read_bytes().startswith(b"%PDF")
    shown = onward_("trace", "vowels", "-o", tmp_path / "gates.NPZ").output
    assert "0.l0" in shown and "lowest tenth" in shown
    with np.load(tmp_path / "gates.NPZ") as saved:
        assert saved["0.l0.f"].shape == (19, 1, 48)


def test_trace_of_a_model_of_text(tmp_path: Path) -> None:
    told = report("trace", "shakespeare", "--text", "To be, or not", "-o", tmp_path / "gates.svg")
    assert told["steps"] == 13 and [layer["layer"] for layer in told["layers"]] == ["1.l0", "1.l1"]
    assert "<svg" in (tmp_path / "gates.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message", "exit_code"),
    [
        (["--sequence", "370"], "370 sequences", 2),
        (["--layer", "1.l0"], "there are 0.l0", 2),
        (["-o", "gates.gif"], "must end in one of .png, .svg, .pdf, .npz", 2),
        (["-o", "nowhere/gates.png"], "there is no folder nowhere", 2),
        ([str(TEST), "--text", "a"], "or --text, not both", 2),
        (["--text", "a"], "is no model of text", 1),
    ],
)
def test_trace_says_what_was_wrong(arguments: list[str], message: str, exit_code: int) -> None:
    result = onward_("trace", "vowels", *arguments)
    assert result.exit_code == exit_code and message in " ".join(result.output.split())


# --- the real command --------------------------------------------------------------------------------


def test_the_installed_command_keeps_stdout_for_results_and_stderr_for_errors() -> None:
    command = Path(sysconfig.get_path("scripts")) / "onward"
    good = subprocess.run([command, "run", "vowels", "--json"], capture_output=True, text=True, check=False)
    assert good.returncode == 0 and good.stderr == ""  # no progress bar where there is no terminal
    assert json.loads(good.stdout)["accuracy"] >= 0.95
    bad = subprocess.run([command, "run", "vowls"], capture_output=True, text=True, check=False)
    assert (
        bad.returncode == 2 and bad.stdout == "" and "vowls" in bad.stderr and "Traceback" not in bad.stderr
    )


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_a_message_names_it(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; import onward.cli"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "pip install 'onward[cli]'" in result.stderr and "Traceback" not in result.stderr
