"""Files: what goes in comes out, a crash leaves the old one whole, and no file is believed unchecked."""

import json
import mmap
import os
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from support import hostile

import onward
from onward.errors import ArgumentError, FileError
from onward.formats.native import LAYERS
from onward.layers.base import Layer

RNG = np.random.default_rng(0)


def container(
    tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None
) -> bytes:
    """A safetensors file by hand, from dtype, shape and bytes of each tensor."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def state_dict(layer: Any, prefix: str = "", dtype: str = "f4") -> dict[str, Any]:
    return {prefix + name: weight.astype(dtype) for name, weight in layer.state_dict().items()}


def saved(folder: Path, tensors: dict[str, Any], architecture: Any = None) -> Path:
    path = folder / "model.safetensors"
    metadata = None if architecture is None else {"onward": json.dumps(architecture)}
    path.write_bytes(safetensors.numpy.save(tensors, metadata))
    return path


def problem(path: Path, **options: Any) -> str:
    """The error that loading raises, which must name the file."""
    with pytest.raises(FileError) as error:
        onward.load(path, **options)
    assert str(path) in str(error.value)
    return str(error.value)


MODELS = [
    onward.RNN(5, 7, nonlinearity="relu", bias=False),
    onward.LSTM(5, 7, num_layers=3, bidirectional=True, proj_size=2, dtype="float64"),
    onward.GRU(5, 7, reset_after=False, batch_first=True, dropout=0.5),
    onward.Linear(5, 7, bias=False),
    onward.Embedding(5, 7, padding_idx=0),
    onward.Conv1d(6, 4, 3, padding="same", groups=2),
    onward.Conv2d(6, 4, (3, 2), stride=(2, 1), dtype="float64"),
    onward.MaxPool2d((3, 2), 1),
    onward.AvgPool1d(3, count_include_pad=False),
    onward.BatchNorm1d(6, 0.1),
    onward.LayerNorm((3, 7), bias=False),
    onward.GroupNorm(2, 6),
    onward.Last(),
    onward.Sequential(
        onward.Embedding(9, 5), onward.LSTM(5, 7), onward.Last(), onward.Linear(7, 3), onward.Softmax()
    ),
    onward.Sequential(),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_what_is_saved_is_loaded(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = onward.load(str(tmp_path / "model"))
    assert type(again) is type(model)
    assert repr(again) == repr(model)
    assert again.dtype == model.dtype
    for name, weight in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], weight)
        assert again.state_dict()[name].flags.writeable


def test_every_layer_that_there_is_can_be_loaded() -> None:
    public = [getattr(onward, name) for name in onward.__all__]
    layers = {c.__name__ for c in public if isinstance(c, type) and issubclass(c, Layer)}
    assert layers - {"Sequential"} <= LAYERS.keys()


def test_a_loaded_model_answers_as_the_saved_one(tmp_path: Path) -> None:
    model, x = MODELS[-2], RNG.integers(0, 9, (6, 4))
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(
        onward.load(tmp_path / "model")(x, lengths=[1, 2, 6, 0]), model(x, lengths=[1, 2, 6, 0])
    )


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_crash_leaves_the_old_file_whole_and_nothing_beside_it(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "model"
    MODELS[0].save(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, broken, crash)
    with pytest.raises(FileError, match=f"{path} cannot be written: No space left on device"):
        MODELS[1].save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saving_replaces_what_a_link_leads_to_with_ordinary_permissions(tmp_path: Path) -> None:
    target, link, other = tmp_path / "target", tmp_path / "link", tmp_path / "other"
    other.touch()
    link.symlink_to(target)
    MODELS[0].save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_saving_where_nothing_can_be_names_the_file(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "model", tmp_path):
        with pytest.raises(FileError, match=f"{path} cannot be written"):
            MODELS[0].save(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    MODELS[0].save(tmp_path / "model")
    monkeypatch.setattr(mmap, "mmap", refuse)
    assert "cannot be read: Permission denied" in problem(tmp_path / "model")


def test_a_missing_file_or_a_device_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in problem(tmp_path / "nowhere")
    assert "is not a file" in problem(tmp_path)
    assert "is not a file" in problem(Path("/dev/null"))


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(8), b"\xff" * 64, b'{"a": 1}\n']
)
def test_an_unknown_format_is_refused_with_the_supported_ones(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(content)
    expected = "model has an unknown format" if content else "model is empty"
    assert f"{expected}; supported formats are safetensors" in problem(tmp_path / "model")
    (tmp_path / "model.safetensors").write_bytes(content)
    assert "is not a complete safetensors file" in problem(tmp_path / "model.safetensors")


FLOAT = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def test_what_else_a_header_says_of_a_tensor_is_left_alone(tmp_path: Path) -> None:
    header = json.dumps({"w": {**FLOAT, "say": 1}}).encode()
    (tmp_path / "model").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert onward.load_tensors(tmp_path / "model")["w"].shape == (2,)


@pytest.mark.parametrize(
    ("length", "header", "content"),
    [
        *((1 << bits, {"a": FLOAT}, bytes(8)) for bits in (0, 31, 32, 62, 63)),
        (None, {"a": FLOAT, "b": FLOAT}, bytes(8)),
        (None, {"a": FLOAT, "b": FLOAT | {"data_offsets": [4, 12]}}, bytes(12)),
        (None, {"a": FLOAT | {"data_offsets": [8, 0]}}, bytes(8)),
        (None, {"a": FLOAT | {"data_offsets": [0, 1 << 62]}}, bytes(8)),
        (None, {"a": FLOAT | {"shape": [1 << 62, 1 << 62]}}, bytes(8)),
        (None, {"a": FLOAT | {"shape": [1 << 32, 1 << 32, 0], "data_offsets": [0, 0]}}, b""),
        (None, {"a": FLOAT | {"shape": [1 << 64, 0], "data_offsets": [0, 0]}}, b""),
        (None, {"a": FLOAT | {"shape": [1] * 99 + [2]}}, bytes(8)),
    ],
)  # fmt: skip
def test_lengths_offsets_and_shapes_are_not_believed(
    length: int | None, header: dict[str, Any], content: bytes, tmp_path: Path
) -> None:
    text = json.dumps(header).encode()
    size = len(text) if length is None else length
    (tmp_path / "model").write_bytes(size.to_bytes(8, "little") + text + content)
    with hostile.bounded():
        problem(tmp_path / "model")


def test_sizes_that_the_file_does_not_have_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(container({"weight": ("F32", [1 << 20, 1 << 20], bytes(64))}))
    tracemalloc.start()
    assert "is not a complete safetensors file" in problem(path)
    linear = {"format": 1, "type": "Linear", "in_features": 3, "out_features": 10**12}
    lstm = {"format": 1, "type": "LSTM", "input_size": 3, "hidden_size": 10**30}
    conv = {"format": 1, "type": "Conv1d", "in_channels": 10**300, "out_channels": 1, "kernel_size": 10**300}
    for architecture in (linear, lstm, lstm | {"hidden_size": 1, "num_layers": 10**12}, conv):
        message = problem(saved(tmp_path, state_dict(onward.Linear(3, 2)), architecture))
        assert "expected" in message or "must be an integer from" in message
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


LINEAR = {
    "format": 1,
    "type": "Linear",
    "in_features": 3,
    "out_features": 2,
    "bias": True,
    "dtype": "float32",
}


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        (LINEAR | {"format": 2}, "has format 2, but this Onward reads format 1: upgrade Onward"),
        (LINEAR | {"format": "one"}, "has format 'one'"),
        ({"type": "Linear"}, "'onward' is not the JSON that Onward writes: 'format'"),
        ([LINEAR], "'onward' is not the JSON that Onward writes"),
        (3, "'onward' is not the JSON that Onward writes"),
        (
            LINEAR | {"type": "Telepathy"},
            "a layer of type 'Telepathy'; expected one of RNN, LSTM, GRU, Linear, Embedding",
        ),
        (LINEAR | {"type": ["Linear"]}, r"a layer of type ['Linear']"),
        ({"format": 1}, "a layer of type None"),
        ({"format": 1, "type": "Linear", "in_features": 3}, "missing a required argument: 'out_features'"),
        (LINEAR | {"device": "cuda"}, "Linear: has no argument device"),
        (LINEAR | {"self": 1}, "Linear: multiple values for argument 'self'"),
        (LINEAR | {"in_features": 1e9}, "in_features=1000000000.0, but must be an integer"),
        (LINEAR | {"in_features": {}}, "in_features={}, but must be an integer"),
        (LINEAR | {"dtype": "complex64"}, "dtype='complex64'"),
        (LINEAR | {"in_features": 4}, "weight has shape (2, 3); expected (2, 4)"),
        (LINEAR | {"bias": False}, "bias is not expected"),
        (LINEAR | {"dtype": "float64"}, "weight has dtype float32; expected float64"),
        (LINEAR | {"type": "LSTM"}, "LSTM: has no argument in_features, out_features"),
        ({"format": 1, "type": "Sequential"}, "a layer of type 'Sequential'"),
        ({"format": 1, "type": "Sequential", "layers": [3]}, "a layer of type None"),
        ({"format": 1, "type": "Sequential", "layers": [LINEAR]}, "Linear: has no argument format"),
        ({"format": 1, "type": "Sequential", "layers": []}, "weight is not expected"),
        ({"format": 1, "type": "Last"}, "weight is not expected"),
        ({"format": 1, "type": "Last", "rng": 1}, "Last: has no argument rng"),
    ],
)
def test_an_architecture_is_not_believed(architecture: Any, words: str, tmp_path: Path) -> None:
    assert words in problem(saved(tmp_path, state_dict(onward.Linear(3, 2)), architecture))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "nul", '{"format": 1e999}'])
def test_metadata_that_is_no_json_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(container({}, {"onward": text}))
    assert "model" in problem(tmp_path / "model")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    weights = state_dict(onward.Linear(3, 2))
    del weights["weight"]
    assert "weight is missing; expected shape (2, 3)" in problem(saved(tmp_path, weights, LINEAR))


def test_a_dtype_that_numpy_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(container({"fc.weight": ("F8_E4M3", [2, 3], bytes(6))}))
    assert "fc.weight has dtype F8_E4M3; expected one of" in problem(tmp_path / "model")


def test_arguments_that_the_file_answers_are_refused(tmp_path: Path) -> None:
    MODELS[0].save(tmp_path / "model")
    with pytest.raises(ArgumentError, match="the file records its options; remove the arguments"):
        onward.load(tmp_path / "model", batch_first=False)


STATE_DICTS = [
    onward.LSTM(5, 7),
    onward.LSTM(5, 7, num_layers=3, bidirectional=True, proj_size=2, bias=False),
    onward.LSTM(1, 1),
    onward.GRU(5, 7, bidirectional=True),
    onward.GRU(40, 1, num_layers=12),
    onward.RNN(5, 7, num_layers=2, bias=False),
    onward.Linear(5, 7),
    onward.Linear(5, 7, bias=False),
    onward.GRU(5, 7, dtype="float64"),
]


@pytest.mark.parametrize("prefix", ["", "encoder.rnn.", "module.0."])
@pytest.mark.parametrize("layer", STATE_DICTS, ids=repr)
def test_kind_and_sizes_of_a_layer_are_read_off_names_and_shapes(
    layer: Any, prefix: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, {prefix + name: weight for name, weight in layer.state_dict().items()})
    parts = onward.load(path)
    name = prefix.removeprefix("module.")[:-1]  # DataParallel's wrapper
    assert list(parts) == [name]
    found = parts[name]
    assert repr(found) == repr(layer)
    assert parts.leftover == []
    for name, weight in layer.state_dict().items():
        np.testing.assert_array_equal(found.state_dict()[name], weight)


def test_what_a_state_dict_cannot_say_is_said_by_arguments(tmp_path: Path) -> None:
    weights = state_dict(onward.RNN(5, 7), "a.") | state_dict(onward.GRU(5, 7), "b.")
    parts = onward.load(saved(tmp_path, weights), nonlinearity="relu", batch_first=True)
    assert repr(parts["a"]) == "RNN(5, 7, nonlinearity='relu', batch_first=True)"
    assert repr(parts["b"]) == "GRU(5, 7, batch_first=True)"
    assert "nonlinearity='sin'" in problem(saved(tmp_path, weights), nonlinearity="sin")


def test_a_matrix_is_an_embedding_by_the_last_part_of_its_name_alone(tmp_path: Path) -> None:
    names = ["embedding.weight", "tok_Emb.weight", "emb.fc.weight", "head.weight", "weight"]
    parts = onward.load(saved(tmp_path, {name: np.ones((9, 5), np.float32) for name in names}))
    kinds = {prefix: type(layer).__name__ for prefix, layer in parts.items()}
    assert kinds == {
        "embedding": "Embedding",
        "tok_Emb": "Embedding",
        "emb.fc": "Linear",
        "head": "Linear",
        "": "Linear",
    }


def test_tensors_of_no_layer_are_named_not_dropped(tmp_path: Path) -> None:
    weights = state_dict(onward.LSTM(5, 7), "lstm.") | {
        "norm.weight": np.ones(3, np.float32),
        "norm.bias": np.ones(3, np.float32),
        "conv.weight": np.ones((3, 3, 3), np.float32),
        "norm.steps": np.array(3),
        "fc.weight": np.ones((2, 3), np.float32),
        "fc.weight_g": np.ones((2, 1), np.float32),
        "cell.weight_ih": np.ones((4, 1), np.float32),
        "alpha": np.ones(1),
    }
    parts = onward.load(saved(tmp_path, weights))
    assert sorted(parts) == ["fc", "lstm"]
    assert sorted(parts.leftover) == sorted(
        set(weights) - set(state_dict(onward.LSTM(5, 7), "lstm.")) - {"fc.weight"}
    )


@pytest.mark.parametrize(
    ("cell", "inside"),
    [("lstm.", "scale"), ("lstm.", "norm.weight"), ("cell.", "scale"), ("cell.", "n.bias"), ("", "n.bias")],
)
def test_weights_with_others_among_them_may_be_those_of_another_cell(
    tmp_path: Path, cell: str, inside: str
) -> None:
    weights = state_dict(onward.LSTM(5, 7), cell) | {f"{cell}{inside}": np.ones(3, np.float32)}
    if cell != "lstm.":  # the names of LSTMCell
        weights = {name.removesuffix("_l0"): weight for name, weight in weights.items()}
    other = {} if cell == "" else state_dict(onward.Linear(3, 2), "fc.")
    path = saved(tmp_path, weights | other)
    reason = f"a recurrent layer, but with {cell}{inside}, which such a layer does not have"
    if cell == "":
        with pytest.raises(FileError, match=reason):
            onward.load(path)
        return
    parts = onward.load(path)
    assert list(parts) == ["fc"]
    assert parts.reasons[cell.rstrip(".")] == reason
    assert set(parts.leftover) == set(weights)


def test_a_file_may_hold_more_beside_a_layer_that_has_no_name_of_its_own(tmp_path: Path) -> None:
    weights = state_dict(onward.LSTM(5, 7), "") | {"out": np.ones(3), "norm.weight": np.ones(3)}
    parts = onward.load(saved(tmp_path, weights))
    assert list(parts) == [""]
    assert parts.leftover == ["out", "norm.weight"]


def test_half_precision_is_computed_in_float32_and_loses_nothing(tmp_path: Path) -> None:
    values = RNG.standard_normal((2, 3)).astype(np.float32)
    bfloat16 = (values.view(np.uint32) >> 16).astype("<u2")
    special = np.array([0x7F80, 0xFF80, 0x8000, 0x0001, 0x7FC0, 0x3F80], "<u2")
    (tmp_path / "model").write_bytes(
        container(
            {
                "a.weight": ("F16", [2, 3], values.astype("<f2").tobytes()),
                "b.weight": ("BF16", [2, 3], bfloat16.tobytes()),
                "c.weight": ("BF16", [1, 6], special.tobytes()),
            }
        )
    )
    parts = onward.load(tmp_path / "model")
    weights = {name: layer.state_dict()["weight"] for name, layer in parts.items()}
    np.testing.assert_array_equal(weights["a"], values.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(weights["b"], (values.view(np.uint32) & 0xFFFF0000).view(np.float32))
    np.testing.assert_array_equal(weights["c"], [[np.inf, -np.inf, -0.0, 2.0**-133, np.nan, 1]])
    assert {layer.dtype for layer in parts.values()} == {np.dtype("f4")}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight_hh_l0": None}, "rnn: weight_hh_l0 is missing; expected a matrix"),
        ({"weight_ih_l0": None}, "rnn: weight_ih_l0 is missing; expected a matrix"),
        ({"weight_ih_l0": np.ones(28)}, "rnn: weight_ih_l0 has shape (28,); expected a matrix"),
        (
            {"weight_hh_l0": np.ones((27, 7))},
            "weight_hh_l0 has shape (27, 7); expected 4 (LSTM), 3 (GRU) or 1 (RNN)",
        ),
        ({"weight_hh_l0": np.ones((14, 7))}, "weight_hh_l0 has shape (14, 7); expected 4 (LSTM)"),
        ({"weight_hh_l0": np.ones((28, 0))}, "weight_hh_l0 has shape (28, 0); expected 4 (LSTM)"),
        ({"weight_hr_l0": np.ones((7, 0))}, "weight_hh_l0 has shape (28, 7); expected"),
        ({"weight_hr_l0": np.array(1.0)}, "weight_hr_l0 has shape (); expected a matrix"),
        ({"weight_ih_l0": np.ones((21, 5))}, "weight_ih_l0 has shape (21, 5); expected (28, 5)"),
        ({"weight_ih_l0": np.ones((28, 0))}, "input_size=0"),
        ({"bias_ih_l0": None}, "bias_ih_l0 is missing; expected shape (28,)"),
        ({"weight_ih_l2": np.ones((28, 7))}, "weight_ih_l1 is missing; expected shape (28, 7)"),
        ({"weight_ih_l999999999999": np.ones((28, 7))}, "weight_ih_l1 is missing; expected shape (28, 7)"),
        ({"bias_hh_l0_reverse": np.ones(28)}, "weight_ih_l0_reverse is missing; expected shape (28, 5)"),
        ({"weight_hh_l0": np.ones((28, 7), int)}, "weight_hh_l0 has dtype int64; expected floats"),
    ],
)
def test_a_state_dict_that_does_not_fit_together_is_named(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    weights = state_dict(onward.LSTM(5, 7)) | changes
    weights = {f"rnn.{name}": weight for name, weight in weights.items() if weight is not None}
    assert words in problem(saved(tmp_path, weights))


@pytest.mark.parametrize(
    ("tensors", "words"), [({}, "no tensors"), ({"norm.weight": np.ones(3)}, "norm.weight")]
)
def test_a_file_without_any_layer_is_refused(tensors: dict[str, Any], words: str, tmp_path: Path) -> None:
    message = problem(saved(tmp_path, tensors))
    assert "the file contains no layer that Onward supports" in message
    assert words in message


PEAK = """
import sys
import numpy as np
import onward

def peak() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

before = peak()
model = onward.load(sys.argv[1])
layer = model[""] if isinstance(model, dict) else model
layer(np.zeros((1, 1, layer.input_size)))
print(peak() - before)
"""


@pytest.mark.parametrize("foreign", [False, True])
def test_opening_a_file_takes_the_memory_of_the_weights_and_their_packed_form(
    foreign: bool, tmp_path: Path
) -> None:
    layer, path = onward.LSTM(1024, 600, rng=0), tmp_path / "model"
    layer.save(path)
    if foreign:
        path = saved(tmp_path, layer.state_dict())
    taken = subprocess.run([sys.executable, "-c", PEAK, path], check=True, capture_output=True, text=True)
    weights = sum(weight.nbytes for weight in layer.state_dict().values())
    assert int(taken.stdout) < 1.3 * 2 * weights
