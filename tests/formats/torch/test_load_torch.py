"""PyTorch's files without torch: what they hold is found, and of what a stranger made nothing is run."""

import json
import os
import pickle
import re
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import support
from safetensors.numpy import save_file
from support import hostile

import onward
from onward.cli import main
from onward.errors import ArgumentError, FileError

DATA = support.DATA / "torch"
ANSWER = np.load(DATA / "answer.npz")
TENSORS = onward.load_tensors(DATA / "weights.pt")
SAYS_ALL, SAYS_LITTLE = ["whole", "script", "trace"], ["weights", "legacy", "big_endian", "checkpoint"]
MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def tensor(
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None = None,
    start: int = 0,
    key: str = "0",
    kind: str = "FloatStorage",
    view: bytes = b"",
) -> bytes:
    """The opcodes by which torch.save writes a tensor."""
    if strides is None:
        strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    axes = [b"(" + b"".join(map(number, sizes)) + b"t" for sizes in (shape, strides)]
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\n" + kind.encode() + b"\n"
        + text(key) + text("cpu") + number(1) + view + b"tQ" + number(start) + b"".join(axes)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def entries(**values: bytes) -> bytes:
    """A pickled dict."""
    return b"\x80\x02}(" + b"".join(text(name) + value for name, value in values.items()) + b"u."


def zipped(pickled: bytes, *storages: bytes, **more: bytes) -> Callable[[Path], Path]:
    """An archive as torch.save writes it."""

    def write(folder: Path) -> Path:
        path = folder / "model.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", pickled)
            for key, storage in enumerate(storages):
                archive.writestr(f"model/data/{key}", storage)
            for name, content in more.items():
                archive.writestr(f"model/{name}", content)
        return path

    return write


def floats(count: int) -> bytes:
    return np.arange(count, dtype="<f4").tobytes()


def problem(path: Path) -> str:
    """The error, by whichever way a file is opened, which must name the file."""
    for opened in (onward.load_tensors, onward.load):
        with pytest.raises(FileError) as error:
            opened(path)
        assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", SAYS_ALL + SAYS_LITTLE)
def test_a_model_answers_as_in_torch_whatever_it_was_saved_by(name: str) -> None:
    said = {} if name in SAYS_ALL else {"batch_first": True, "nonlinearity": "relu"}
    parts = onward.load(DATA / f"{name}.pt", **said)
    assert list(parts) == ["embedding", "lstm", "rnn", "head"]
    y, _ = parts["lstm"](parts["embedding"](ANSWER["x"]))
    y, _ = parts["rnn"](y)
    np.testing.assert_allclose(parts["head"](y), ANSWER["y"], rtol=0, atol=1e-6)


def test_what_a_module_says_of_itself_is_honoured() -> None:
    parts = onward.load(DATA / "whole.pt")
    assert repr(parts["embedding"]) == "Embedding(9, 3, padding_idx=2)"
    assert repr(parts["lstm"]) == "LSTM(3, 4, batch_first=True, bidirectional=True)"
    assert repr(parts["rnn"]) == "RNN(8, 5, nonlinearity='relu', batch_first=True)"
    for name in SAYS_ALL:
        with pytest.raises(ArgumentError, match="says its nonlinearity and batch_first itself"):
            onward.load(DATA / f"{name}.pt", batch_first=True)


def test_arrays_are_found_by_name_with_the_keys_that_lead_to_them() -> None:
    assert list(TENSORS)[:2] == ["embedding.weight", "lstm.weight_ih_l0"]
    for name in ("legacy", "big_endian", "whole", "script", "trace"):
        found = onward.load_tensors(DATA / f"{name}.pt")
        assert list(found) == list(TENSORS)
        for key, array in found.items():
            np.testing.assert_array_equal(array, TENSORS[key])
            assert array.flags.writeable
            assert array.dtype == np.dtype("f4")
    found = onward.load_tensors(DATA / "checkpoint.pt")
    assert found["optimizer_state_dict.state.3.exp_avg"].shape == TENSORS["lstm.bias_ih_l0"].shape
    np.testing.assert_array_equal(found["model_state_dict.module.head.weight"], TENSORS["head.weight"])


FRONT = {
    "conv": "Conv1d(4, 6, 3, stride=2, padding=1, groups=2)",
    "same": "Conv1d(6, 6, 3, padding='same', bias=False)",
    "group_norm": "GroupNorm(2, 6)",
    "batch_norm": "BatchNorm1d(6, eps=0.001)",
    "average": "AvgPool1d(2, stride=1)",
    "relu": "Activation('relu')",
    "pool": "MaxPool1d(2, stride=2)",
    "image": "Conv2d(1, 1, (3, 1), padding=(1, 0))",
    "layer_norm": "LayerNorm((6,), eps=0.01)",
    "head": "Linear(6, 2)",
}


@pytest.mark.parametrize("name", ["whole", "script", "trace"])
def test_convolution_and_normalization_have_the_options_that_the_file_says(name: str) -> None:
    parts = onward.load(DATA / f"front_{name}.pt")
    assert {path: repr(layer) for path, layer in parts.items()} == FRONT
    assert parts.leftover == []
    assert parts.reasons == {"dropout": "Dropout, which does nothing here"}
    answer = np.load(DATA / "front_answer.npz")
    y = answer["x"]
    for layer in ("conv", "same", "group_norm", "batch_norm", "average", "relu", "pool"):
        y = parts[layer](y)
    y = parts["image"](y[:, None])[:, 0]
    y = parts["head"](parts["layer_norm"](y.swapaxes(1, 2)))
    np.testing.assert_allclose(y, answer["y"], rtol=0, atol=3e-6)


def test_what_a_state_dict_cannot_prove_is_left_over_with_the_reason() -> None:
    parts = onward.load(DATA / "front_weights.bin")
    assert list(parts) == ["head"]
    unknown_window = "but a state dict does not say its stride, padding and dilation"
    assert parts.reasons == {
        "conv": f"a convolution, weight (6, 2, 3), {unknown_window}",
        "same": f"a convolution, weight (6, 6, 3), {unknown_window}",
        "image": f"a convolution, weight (1, 1, 3, 1), {unknown_window}",
        "group_norm": "a normalization, but a state dict does not say which, and its eps",
        "layer_norm": "a normalization, but a state dict does not say which, and its eps",
        "batch_norm": "a batch normalization, but a state dict does not say its eps",
    }
    assert {name.split(".")[0] for name in parts.leftover} == set(parts.reasons)


def test_weights_of_a_convolution_go_into_one_built_by_hand() -> None:
    tensors = onward.load_tensors(DATA / "front_weights.bin")
    conv = onward.Conv1d(4, 6, 3, stride=2, padding=1, groups=2)
    conv.load_state_dict({name: tensors[f"conv.{name}"] for name in ("weight", "bias")})
    x = np.load(DATA / "front_answer.npz")["x"]
    np.testing.assert_array_equal(conv(x), onward.load(DATA / "front_whole.pt")["conv"](x))


def test_options_of_a_module_are_not_believed(tmp_path: Path) -> None:
    whole = (DATA / "front_whole.pt").read_bytes()
    for was, becomes, words in (
        (
            rb"(in_channels(q.|r....))K\x04",
            b"\\1K\x06",
            "conv: the file says in_channels=6, but the weights have 4",
        ),
        (
            rb"(groups(q.|r....))K\x02",
            b"\\1K\x04",
            "conv: the file says in_channels=4, but the weights have 8",
        ),
        (rb"(num_channels(q.|r....))K\x06", b"\\1K\x05", "group_norm: the file says num_channels=5, but"),
    ):
        (tmp_path / "model.pt").write_bytes(re.sub(was, becomes, whole, count=1, flags=re.DOTALL))
        assert words in problem_of_load(tmp_path / "model.pt")


def test_a_module_with_an_option_that_onward_lacks_is_left_over_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes((DATA / "front_whole.pt").read_bytes().replace(b"zeros", b"wraps"))
    parts = onward.load(tmp_path / "model.pt")
    assert "Conv1d: padding_mode='wraps', but Onward pads with 'zeros' alone" in parts.reasons["conv"]
    assert {"conv.weight", "conv.bias", "same.weight"} < set(parts.leftover)


def test_a_traced_call_that_is_not_understood_is_no_call_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(DATA / "front_trace.pt") as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            for call in (b"torch._convolution(", b"torch.batch_norm(", b"torch.avg_pool1d("):
                content = content.replace(call, b"torch.of_the_future(")
            archive.writestr(name, content)
    parts = onward.load(path)
    for missing in ("conv", "image", "batch_norm", "average"):
        assert "the file does not say its options" in parts.reasons[missing]
        assert missing not in parts


def test_info_shows_parts_as_a_tree_of_paths(capsys: pytest.CaptureFixture[str]) -> None:
    for name, expected in (
        (
            "front_whole.pt",
            ["├── layer_norm: LayerNorm((6,), eps=0.01)", "dropout: Dropout, which does nothing"],
        ),
        (
            "checkpoint.pt",
            ["├── lstm: LSTM(3, 4, bidirectional=True)", "── state", "exp_avg: a tensor that"],
        ),
        ("front_weights.bin", ["├── head: Linear(6, 2)", "├── conv: a convolution, weight (6, 2, 3), but"]),
    ):
        with pytest.raises(SystemExit):
            main(["info", str(DATA / name)])
        output = capsys.readouterr().out
        for words in expected:
            assert words in output


def test_what_belongs_to_no_layer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    parts = onward.load(DATA / "checkpoint.pt")
    assert "optimizer_state_dict.state.0.exp_avg" in parts.leftover
    with pytest.raises(SystemExit):
        main(["info", "--json", str(DATA / "checkpoint.pt")])
    report = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in report["layers"]] == list(parts)
    assert report["leftover"] == parts.leftover


def test_a_suffix_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes((DATA / "weights.pt").read_bytes())
    onward.Linear(3, 2).save(tmp_path / "model.pt")
    assert list(onward.load(tmp_path / "model.safetensors")) == ["embedding", "lstm", "rnn", "head"]
    assert repr(onward.load(tmp_path / "model.pt")) == "Linear(3, 2)"


@pytest.mark.parametrize("name", SAYS_ALL + SAYS_LITTLE)
def test_weights_go_into_a_model_built_by_hand_in_order(name: str) -> None:
    model = onward.Sequential(
        onward.Embedding(9, 3),
        onward.LSTM(3, 4, batch_first=True, bidirectional=True),
        onward.RNN(8, 5, nonlinearity="relu", batch_first=True),
        onward.Linear(5, 2),
    )
    model.load_weights(DATA / f"{name}.pt")
    np.testing.assert_allclose(model(ANSWER["x"]), ANSWER["y"], rtol=0, atol=1e-6)


def test_weights_of_another_model_change_nothing(tmp_path: Path) -> None:
    model = onward.Sequential(onward.Embedding(9, 3), onward.Linear(5, 2))
    before = model.state_dict()
    with pytest.raises(ArgumentError, match=r"weights\.pt: (?s:.*)cannot take these weights"):
        model.load_weights(DATA / "weights.pt")
    with pytest.raises(FileError):
        model.load_weights(tmp_path / "nowhere")
    for name, weight in model.state_dict().items():
        np.testing.assert_array_equal(weight, before[name])


def test_weights_by_name_from_safetensors(tmp_path: Path) -> None:
    source, target = (onward.Sequential(onward.GRU(3, 4), onward.Linear(4, 2)) for _ in range(2))
    source.save(tmp_path / "model")
    target.load_weights(tmp_path / "model")
    np.testing.assert_array_equal(target(np.ones((5, 3))), source(np.ones((5, 3))))


def test_safetensors_has_no_order_to_go_by(tmp_path: Path) -> None:
    model = onward.Sequential(onward.GRU(3, 4), onward.Linear(4, 2))
    gru, linear = onward.GRU(3, 4), onward.Linear(4, 2)
    weights = {f"z.{name}": weight for name, weight in gru.state_dict().items()}
    weights |= {f"a.{name}": weight for name, weight in linear.state_dict().items()}
    save_file(weights, tmp_path / "model")
    model.load_weights(tmp_path / "model")
    np.testing.assert_array_equal(model(np.ones((5, 3))), linear(gru(np.ones((5, 3)))[0]))
    for shape, others in (((4, 4), 1), ((2, 2), 0)):  # two of one shape; one of a shape that the model lacks
        save_file({f"{k}.weight": np.ones(shape, "f4") for k in range(1 + others)}, tmp_path / "model")
        two = onward.Sequential(*(onward.Linear(4, 4, bias=False) for _ in range(1 + others)))
        renamed = onward.Sequential(onward.Last(), *two)
        with pytest.raises(ArgumentError, match="cannot take these weights"):
            renamed.load_weights(tmp_path / "model")


# what a state dict can hold


def test_views_that_share_a_storage_are_read_as_they_lie(tmp_path: Path) -> None:
    pickled = entries(
        a=tensor((3, 4)), b=tensor((4, 3), (1, 4)), c=tensor((2,), (5,), 1), d=tensor((2, 3), (0, 1)),
        e=tensor((), ()), f=tensor((0, 7)), g=tensor((1, 3), (1 << 60, 2)),
    )  # fmt: skip
    found = onward.load_tensors(zipped(pickled, floats(12))(tmp_path))
    whole = np.arange(12, dtype="f4").reshape(3, 4)
    expected = [whole, whole.T, [1, 6], [[0, 1, 2]] * 2, 0, np.zeros((0, 7)), [[0, 2, 4]]]
    for array, values in zip(found.values(), expected, strict=True):
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("Double", "f8"), ("Half", "f2"), ("Long", "i8"), ("Int", "i4"), ("Short", "i2"), ("Char", "i1"),
        ("Byte", "u1"), ("Bool", "?"), ("ComplexFloat", "c8"), ("ComplexDouble", "c16"),
    ],
)  # fmt: skip
def test_every_dtype_in_either_byte_order(kind: str, dtype: str, order: str, tmp_path: Path) -> None:
    values = np.array([0, 1, 100, 0, 1, 3]).astype(dtype)
    content = values.astype(values.dtype.newbyteorder(order)).tobytes()  # type: ignore[arg-type]
    write = zipped(entries(a=tensor((6,), kind=f"{kind}Storage")), content, byteorder=order.encode())
    found = onward.load_tensors(write(tmp_path))["a"]
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_bfloat16_is_widened_and_strided(tmp_path: Path) -> None:
    content = np.array([0x3F80, 0x4000, 0x4040, 0x7F80], "<u2").tobytes()
    pickled = entries(a=tensor((2, 2), (1, 2), kind="BFloat16Storage"))
    found = onward.load_tensors(zipped(pickled, content)(tmp_path))["a"]
    np.testing.assert_array_equal(found, np.array([[1, 3], [2, np.inf]], "f4"))


@pytest.mark.parametrize(
    ("pickled", "names"),
    [
        (entries(weight=tensor((3, 4))), [""]),
        (entries(a=entries(weight=tensor((3, 4)))[2:-1], b=number(3)), [""]),
        (entries(a=entries(b=entries(weight=tensor((3, 4)))[2:-1])[2:-1]), [""]),
        (entries(a=entries(weight=tensor((3, 4)))[2:-1], b=entries(weight=tensor((3, 4)))[2:-1]), ["a", "b"]),
        (entries(**{"_orig_mod.module.fc.weight": tensor((3, 4))}), ["fc"]),
        (entries(**{"net._orig_mod.fc.weight": tensor((3, 4))}), ["net.fc"]),
        (entries(**{"module.module.fc.weight": tensor((3, 4))}), ["fc"]),
        (b"\x80\x02]" + entries(weight=tensor((3, 4)))[2:-1] + b"a.", [""]),
    ],
)  # fmt: skip
def test_state_dicts_are_found_wherever_they_are(pickled: bytes, names: list[str], tmp_path: Path) -> None:
    assert list(onward.load(zipped(pickled, floats(12))(tmp_path))) == names


def test_weight_norm_is_undone(tmp_path: Path) -> None:
    pickled = entries(
        **{
            "old.weight_g": tensor((3, 1), start=1),
            "old.weight_v": tensor((3, 4)),
            "new.parametrizations.weight.original0": tensor((1, 4), start=1),
            "new.parametrizations.weight.original1": tensor((3, 4)),
            "gate.weight_g": tensor((3, 4)),
            "gate.weight_v": tensor((3, 4)),
        }
    )
    parts = onward.load(zipped(pickled, floats(12))(tmp_path))
    v = np.arange(12.0).reshape(3, 4)
    old = v / np.linalg.norm(v, axis=1, keepdims=True) * np.arange(1, 4)[:, None]
    new = v / np.linalg.norm(v, axis=0) * np.arange(1, 5)
    np.testing.assert_allclose(parts["old"].state_dict()["weight"], old, rtol=1e-6)
    np.testing.assert_allclose(parts["new"].state_dict()["weight"], new, rtol=1e-6)
    assert parts.leftover == ["gate.weight_g", "gate.weight_v"]


def test_a_cell_is_a_layer_of_one(tmp_path: Path) -> None:
    pickled = entries(**{"cell.weight_ih": tensor((12, 5)), "cell.weight_hh": tensor((12, 4))})
    parts = onward.load(zipped(pickled, floats(60))(tmp_path))
    assert repr(parts["cell"]) == "GRU(5, 4, bias=False)"


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_numpy_are_read_too(protocol: int, tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.eye(3, 2, dtype=">f4"))}
    found = onward.load_tensors(zipped(pickle.dumps(arrays, protocol))(tmp_path))
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_of_every_protocol_are_passed_over(protocol: int, tmp_path: Path) -> None:
    values = [
        None, True, False, 0, 1, -1, 255, 256, -70000, 1 << 40, -(1 << 70), 0.5, "text", "ä\n€", "x" * 300,
        b"bytes", b"b" * 300, bytearray(b"array"), (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [1, [2, []]],
        {1, 2}, frozenset({3}), {"a": {1: "b", (1, 2): None, 0.5: 1}}, Path("/etc/passwd"), range(3), len,
    ]  # fmt: skip
    pickled = pickle.dumps({"values": values, "weight": np.ones((2, 3))}, protocol)
    assert list(onward.load_tensors(zipped(pickled)(tmp_path))) == ["weight"]


# what strangers make

MARKER = "onward_marker"
CALLS = {
    "REDUCE": b"\x80\x02cos\nsystem\n(" + text(f"touch {MARKER}") + b"tR.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text(f"touch {MARKER}") + b"\x85R.",
    "NEWOBJ": b"\x80\x02cos\nsystem\n(" + text(f"touch {MARKER}") + b"t\x81.",
    "NEWOBJ_EX": b"\x80\x04cos\nsystem\n(" + text(f"touch {MARKER}") + b"t}\x92.",
    "INST": b"(" + text(f"touch {MARKER}") + b"ios\nsystem\n.",
    "OBJ": b"(cos\nsystem\n" + text(f"touch {MARKER}") + b"o.",
    "BUILD": b"\x80\x02cos\nsystem\n)\x81" + text(f"touch {MARKER}") + b"b.",
    "eval": b"c__builtin__\neval\n(" + text(f"__import__('os').system('touch {MARKER}')") + b"tR.",
    "nested": b"cbuiltins\ngetattr\n(cos\n__dict__\n" + text("system") + b"tR(" + text("touch x") + b"tR.",
}


@pytest.mark.parametrize("call", CALLS)
def test_no_call_is_made_and_nothing_is_imported(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bare = CALLS[call]
    inside = entries(
        weight=tensor((2, 3)), evil=bare.removeprefix(b"\x80\x02").removeprefix(b"\x80\x04")[:-1]
    )
    assert "it is empty" in problem_of_load(zipped(bare)(tmp_path))
    assert list(onward.load_tensors(zipped(inside, floats(6))(tmp_path))) == ["weight"]
    (tmp_path / "legacy.pt").write_bytes(MAGIC + bare + pickle.dumps([], 2))
    assert onward.load_tensors(tmp_path / "legacy.pt") == {}
    assert set(os.listdir(tmp_path)) == {"model.pt", "legacy.pt"}


def problem_of_load(path: Path) -> str:
    with pytest.raises(FileError) as error:
        onward.load(path)
    assert str(path) in str(error.value)
    return str(error.value)


def laughs(opening: bytes, closing: bytes, inner: bytes) -> bytes:
    """Each of 64 levels holds the one below ten times."""
    pickled = inner + b"q\x00"
    for level in range(64):
        pickled += opening + (b"h" + bytes([level])) * 10 + closing + b"q" + bytes([level + 1])
    return pickled


OPCODES_OF_ONE_BYTE = b"(012\x94N\x88\x89)t\x85\x86\x87\x91]\x8flea\x90}dsu\x93R\x81\x92obQ"
CALLED = b"c_codecs\nencode\n"
PAIRS = b"ccollections\nOrderedDict\n"
TEXT = b"T" + (1 << 16).to_bytes(4, "little") + bytes(1 << 16)
MODULE = b"c__main__\nM\n)\x81q\x00}(" + b"".join(
    text(name) + b"}" for name in ("_parameters", "_buffers")
)  # open: its _modules come next
LAUGHS = {
    "lists": b"\x80\x02" + laughs(b"](", b"e", b"]") + b".",
    "lists of tensors": b"\x80\x02" + laughs(b"](", b"e", tensor((1,))) + b".",
    "tuples": b"\x80\x02" + laughs(b"(", b"t", text("ha")) + b".",
    "tuples as keys": b"\x80\x02}" + laughs(b"(", b"t", text("ha")) + b"Ns.",
    "sets of tuples": b"\x80\x04\x8f(" + laughs(b"(", b"t", text("ha")) + b"\x90.",
    "a list in itself": b"\x80\x02]q\x00(h\x00h\x00e.",
    "a dict in itself": b"\x80\x02}q\x00(" + text("a") + b"h\x00" + text("b") + b"h\x00u.",
    "a module in itself": b"\x80\x02" + MODULE + text("_modules") + b"}" + text("a") + b"h\x00sub.",
    "deep lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "marks": b"\x80\x02" + b"(" * 200_000 + b".",
    "calls of calls": b"\x80\x02cos\nsystem\n" + b")R" * 200_000 + b".",
    "wrapped for ever": b"\x80\x02ctorch._utils\n_rebuild_parameter\nq\x00)R"
    + b"q\x01h\x00h\x01\x85R" * 100_000 + b".",
    "text copied": b"\x80\x02" + TEXT + b"q\x00" + (CALLED + b"(h\x00" + text("latin1") + b"tR0") * 9999
    + b".",
    "colliding keys": b"\x80\x02}("
    + b"".join(b"\x8a\x14" + (k * (2**61 - 1)).to_bytes(20, "little") + b"N" for k in range(1, 50_000))
    + b"u.",
    "long integer": b"\x80\x02\x8b" + (1 << 20).to_bytes(4, "little") + bytes(1 << 20) + b".",
    "many digits": b"L" + b"9" * 60_000 + b"L\n.",
    "too long text": b"\x80\x02X\xff\xff\xff\xff.",
    "too long bytes": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    "nothing": b"\x80\x02",
    "next protocol": b"\x80\x06N.",
    "extension": b"\x80\x02\x82\x01.",
    "no entry": b"\x80\x02h\x07.",
    "unhashable": b"\x80\x02}]Ns.",
    "appended to a number": b"\x80\x02K\x01Na.",
    "half an item": b"\x80\x02}(Nu.",
    "no mark": b"\x80\x02t.",
    "nothing to put": b"\x80\x02q\x00.",
    "no name": b"\x80\x04NN\x93.",
    "no tuple": b"\x80\x02cos\nsystem\nNR.",
    "no pairs": b"\x80\x02" + PAIRS + b"(K\x01tR.",
    "an odd id": b"\x80\x02NQ.",
    "a key that is a list": b"\x80\x02(" + text("storage") + b"ctorch\nFloatStorage\n]NNtQ.",
    "a long name copied": b"\x80\x04" + TEXT + b"\x94" + b"h\x00h\x00\x930" * 99_999 + b".",
    "a long key copied": b"\x80\x02](" + TEXT + b"q\x00" + tensor((1,)) + b"q\x010"
    + b"}h\x00h\x01s" * 9_999 + b"e.",
    "strings of protocol 0": b"S'text'\n.",
    "no line end": b"c" + b"x" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("name", LAUGHS)
def test_a_pickle_that_would_never_end_or_makes_no_sense_is_refused_in_a_second(
    name: str, tmp_path: Path
) -> None:
    path = zipped(LAUGHS[name], floats(1))(tmp_path)
    (tmp_path / "legacy.pt").write_bytes(MAGIC + LAUGHS[name])
    for file in (path, tmp_path / "legacy.pt"):
        hostile.refused(file)


def test_opcodes_at_random_are_read_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    opcodes = [bytes([code]) for code in OPCODES_OF_ONE_BYTE] + [
        b"K\x02", b"h\x00", b"h\x01", b"q\x00", b"q\x01", b"X\x01\x00\x00\x00a", b"cos\nsystem\n", b"C\x01a",
        PAIRS, CALLED, tensor((1,)), b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n",
    ]  # fmt: skip
    for _ in range(2000):
        pickled = b"".join(opcodes[k] for k in rng.integers(len(opcodes), size=rng.integers(4, 60)))
        try:
            onward.load_tensors(zipped(b"\x80\x04" + pickled + b".", floats(1))(tmp_path))
        except FileError as error:
            assert str(tmp_path) in str(error)


@pytest.mark.parametrize(
    ("of_tensor", "words"),
    [
        (tensor((4, 4)), "a: it has 16 elements of float32, but its storage 48 bytes"),
        (tensor((3, 4), start=1), "it has 13 elements"),
        (tensor((2,), (12,)), "it has 13 elements"),
        (tensor((1 << 40, 1 << 40)), "elements of float32, but its storage 48 bytes"),
        (tensor((1 << 62, 1 << 62), (0, 0)), "its tensors have"),
        (tensor((1 << 20, 1 << 20), (0, 0)), "its tensors have"),
        (tensor((0, 1 << 62, 1 << 62)), "it has shape"),
        (tensor((0, 1 << 63)), "not up to 64 integers from 0 on"),
        (tensor((1,) * 99, (0,) * 99), "not up to 64 integers from 0 on"),
        (tensor((-1,), (1,)), "not up to 64 integers from 0 on"),
        (tensor((3,), (-1,)), "not up to 64 integers from 0 on"),
        (tensor((3,), (1,), start=-1), "not up to 64 integers from 0 on"),
        (tensor((3,), (1, 1)), "it has shape (3,) and strides (1, 1)"),
        (tensor((3,), kind="QInt8Storage"), "it has dtype QInt8Storage; expected one of FloatStorage"),
        (tensor((3,), key="7"), "the entry model/data/7 is missing"),
        (b"ctorch._utils\n_rebuild_qtensor\n)R", "a kind that NumPy lacks, made by torch._utils._rebuild_qt"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "a kind that NumPy lacks"),
    ],
)
def test_what_a_tensor_claims_is_checked_before_memory_is_taken(
    of_tensor: bytes, words: str, tmp_path: Path
) -> None:
    path = zipped(entries(a=of_tensor), floats(12))(tmp_path)
    tracemalloc.start()
    assert words in problem(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_tensors_that_claim_one_storage_a_thousand_times_are_refused(tmp_path: Path) -> None:
    pickled = entries(**{str(k): tensor((1 << 16,)) for k in range(9_999)})
    assert "its tensors have" in problem(zipped(pickled, floats(1 << 16))(tmp_path))


def test_a_view_in_the_legacy_format_is_a_part_of_its_root(tmp_path: Path) -> None:
    view = b"(" + text("view") + number(4) + number(2) + b"t"
    pickled = entries(a=tensor((2,), view=view), b=tensor((6,), view=b"N"))
    storage = (6).to_bytes(8, "little") + floats(6)
    (tmp_path / "model.pt").write_bytes(MAGIC + pickled + pickle.dumps(["0"], 2) + storage)
    found = onward.load_tensors(tmp_path / "model.pt")
    np.testing.assert_array_equal(found["a"], [4, 5])
    np.testing.assert_array_equal(found["b"], np.arange(6))


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (
            pickle.dumps(["0", "1"], 2) + (1).to_bytes(8, "little") + floats(1) + bytes(8),
            "that no tensor uses",
        ),
        (pickle.dumps(["0"], 2) + (1 << 62).to_bytes(8, "little"), "the file ends before"),
        (pickle.dumps([], 2), "its storage is missing"),
        (pickle.dumps(0, 2), "the list of storages is missing"),
        (pickle.dumps([["0"]], 2), "that no tensor uses"),
    ],
)
def test_storages_of_the_legacy_format_are_not_believed(ending: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(MAGIC + entries(a=tensor((1,))) + ending)
    assert words in problem(tmp_path / "model.pt")


def test_what_a_module_claims_must_agree_with_its_weights(tmp_path: Path) -> None:
    whole = (DATA / "whole.pt").read_bytes()
    for was, becomes, words in (
        (
            rb"(hidden_size(q.|r....))K\x04",
            b"\\1K\x05",
            "lstm: the file says hidden_size=5, but the weights have 4",
        ),
        (rb"RNN_RELU", b"GRU_RELU", "rnn: the file says that it is 'GRU', but the weights are of RNN"),
        (rb"RNN_RELU", b"RNN_SINE", "rnn: nonlinearity='sine', but must be"),
        (
            rb"(batch_first(q.|r....))\x88",
            rb"\1]",
            "the file says nothing plain of batch_first: it is a list",
        ),
    ):
        (tmp_path / "model.pt").write_bytes(re.sub(was, becomes, whole, count=1, flags=re.DOTALL))
        assert words in problem_of_load(tmp_path / "model.pt")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", entries(a=tensor((1 << 24,))))
        archive.writestr("model/data/0", bytes(1 << 26))
    tracemalloc.start()
    assert "the compressed entries have" in problem(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_an_archive_that_was_compressed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    for method, expected in ((zipfile.ZIP_DEFLATED, None), (zipfile.ZIP_BZIP2, "other means than deflate")):
        with zipfile.ZipFile(DATA / "weights.pt") as source, zipfile.ZipFile(path, "w", method) as archive:
            for name in source.namelist():
                archive.writestr(name, source.read(name))
        if expected:
            assert expected in problem(path)
        else:
            np.testing.assert_array_equal(onward.load_tensors(path)["head.bias"], TENSORS["head.bias"])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["model/data.pkl", "model/../../evil"], "'model/../../evil', which leads out of it"),
        (["model/data.pkl", "/evil"], "'/evil', which leads out of it"),
        (["model/data.pkl", "model/data.pkl"], "two entries of one name"),
        (["model/data.pkl", "other/data.pkl"], "it has no data.pkl"),
        (["config.json"], "it has no data.pkl"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_in_an_archive_are_not_believed(names: list[str], words: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for name in names:
            archive.writestr(name, entries(a=b"N"))
    assert words in problem(tmp_path / "model.pt")


def test_pickles_that_torch_did_not_write_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"weight": 1}))
    assert "a pickle, but none that torch.save wrote" in problem(path)
    path.write_bytes(MAGIC[:22] + pickle.dumps(1002, 2))
    problem(path)
