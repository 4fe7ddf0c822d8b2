"""Hostile PyTorch files: nothing in them runs, and the sizes that they claim are checked."""

import os
import pickle
import re
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support
from support import hostile
from support.pickles import MAGIC, entries, floats, problem, problem_of_load, tensor, text, zipped

import onward
import onward.formats.torch.find_layers  # so that the watch sees no import of ours
from onward.errors import FileError
from onward.formats.torch.archive import Archive, Storage
from onward.formats.torch.unpickle import Global, PickledObject

DATA = support.DATA / "torch"


def test_recorded_sizes_must_agree_with_the_weights(tmp_path: Path) -> None:
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
def test_nothing_is_called_or_imported(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bare = CALLS[call]
    inside = entries(
        weight=tensor((2, 3)), evil=bare.removeprefix(b"\x80\x02").removeprefix(b"\x80\x04")[:-1]
    )
    assert "it contains no tensors" in problem_of_load(zipped(bare)(tmp_path))
    assert list(onward.load_tensors(zipped(inside, floats(6))(tmp_path))) == ["weight"]
    (tmp_path / "legacy.pt").write_bytes(MAGIC + bare + pickle.dumps([], 2))
    assert onward.load_tensors(tmp_path / "legacy.pt") == {}
    assert set(os.listdir(tmp_path)) == {"model.pt", "legacy.pt"}


def nested_tenfold(opening: bytes, closing: bytes, inner: bytes) -> bytes:
    """Lists nested 64 levels deep; each contains the next level ten times."""
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
)  # incomplete: its _modules come next


MALFORMED = {
    "lists": b"\x80\x02" + nested_tenfold(b"](", b"e", b"]") + b".",
    "lists of tensors": b"\x80\x02" + nested_tenfold(b"](", b"e", tensor((1,))) + b".",
    "tuples": b"\x80\x02" + nested_tenfold(b"(", b"t", text("ha")) + b".",
    "tuples as keys": b"\x80\x02}" + nested_tenfold(b"(", b"t", text("ha")) + b"Ns.",
    "sets of tuples": b"\x80\x04\x8f(" + nested_tenfold(b"(", b"t", text("ha")) + b"\x90.",
    "a list in itself": b"\x80\x02]q\x00(h\x00h\x00e.",
    "a dict in itself": b"\x80\x02}q\x00(" + text("a") + b"h\x00" + text("b") + b"h\x00u.",
    "a module in itself": b"\x80\x02" + MODULE + text("_modules") + b"}" + text("a") + b"h\x00sub.",
    "deep lists": b"\x80\x02" + b"]" * 30_000 + b"a" * 29_999 + b".",
    "marks": b"\x80\x02" + b"(" * 30_000 + b".",
    "calls of calls": b"\x80\x02cos\nsystem\n" + b")R" * 30_000 + b".",
    "wrapped for ever": b"\x80\x02ctorch._utils\n_rebuild_parameter\nq\x00)R"
    + b"q\x01h\x00h\x01\x85R" * 15_000 + b".",
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
    "an invalid escape": b"\x80\x02cos\\e\nsystem\n.",
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_endless_or_malformed_pickles_are_refused_within_a_second(name: str, tmp_path: Path) -> None:
    path = zipped(MALFORMED[name], floats(1))(tmp_path)
    (tmp_path / "legacy.pt").write_bytes(MAGIC + MALFORMED[name])
    for file in (path, tmp_path / "legacy.pt"):
        hostile.refused(file)


def test_random_opcodes_are_read_or_refused(tmp_path: Path) -> None:
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
        (tensor((4, 4)), "a: the tensor needs 16 elements of float32, but its storage has 48 bytes"),
        (tensor((3, 4), start=1), "the tensor needs 13 elements"),
        (tensor((2,), (12,)), "the tensor needs 13 elements"),
        (tensor((1 << 40, 1 << 40)), "elements of float32, but its storage has 48 bytes"),
        (tensor((1 << 62, 1 << 62), (0, 0)), "bytes of memory"),
        (tensor((1 << 20, 1 << 20), (0, 0)), "bytes of memory"),
        (tensor((0, 1 << 62, 1 << 62)), "is not possible"),
        (tensor((0, 1 << 63)), "must each be up to 64 integers"),
        (tensor((1,) * 99, (0,) * 99), "must each be up to 64 integers"),
        (tensor((-1,), (1,)), "must each be up to 64 integers"),
        (tensor((3,), (-1,)), "must each be up to 64 integers"),
        (tensor((3,), (1,), start=-1), "must each be up to 64 integers"),
        (tensor((3,), (1, 1)), "has shape (3,), but strides (1, 1)"),
        (
            tensor((3,), kind="QInt8Storage"),
            "the tensor has dtype QInt8Storage; expected one of",
        ),
        (tensor((3,), key="7"), "the zip archive has no member model/data/7"),
        (
            b"ctorch._utils\n_rebuild_qtensor\n)R",
            "the weights are quantized: save the model before quantizing it in PyTorch",
        ),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "a kind of tensor that NumPy does not have"),
    ],
)
def test_claimed_sizes_are_checked_before_allocation(of_tensor: bytes, words: str, tmp_path: Path) -> None:
    path = zipped(entries(a=of_tensor), floats(12))(tmp_path)
    tracemalloc.start()
    assert words in problem(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_many_tensors_over_one_storage_are_refused(tmp_path: Path) -> None:
    pickled = entries(**{str(k): tensor((1 << 16,)) for k in range(9_999)})
    assert "bytes of memory" in problem(zipped(pickled, floats(1 << 16))(tmp_path))


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (
            pickle.dumps(["0", "1"], 2) + (1).to_bytes(8, "little") + floats(1) + bytes(8),
            "or no tensor uses it",
        ),
        (pickle.dumps(["0"], 2) + (1 << 62).to_bytes(8, "little"), "the file ends before"),
        (pickle.dumps([], 2), "the storage is missing"),
        (pickle.dumps(0, 2), "the list of storages is missing"),
        (pickle.dumps([["0"]], 2), "or no tensor uses it"),
    ],
)
def test_legacy_storages_are_checked(ending: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(MAGIC + entries(a=tensor((1,))) + ending)
    assert words in problem(tmp_path / "model.pt")


def test_recorded_options_must_agree_with_the_weights(tmp_path: Path) -> None:
    whole = (DATA / "whole.pt").read_bytes()
    for was, becomes, words in (
        (
            rb"(hidden_size(q.|r....))K\x04",
            b"\\1K\x05",
            "lstm: the file says hidden_size=5, but the weights have 4",
        ),
        (rb"RNN_RELU", b"GRU_RELU", "rnn: the file says mode='GRU', but the weights are those of RNN"),
        (rb"RNN_RELU", b"RNN_SINE", "rnn: nonlinearity='sine'; expected one of"),
        (
            rb"(batch_first(q.|r....))\x88",
            rb"\1]",
            "the file says that batch_first is a list; expected a plain value",
        ),
    ):
        (tmp_path / "model.pt").write_bytes(re.sub(was, becomes, whole, count=1, flags=re.DOTALL))
        assert words in problem_of_load(tmp_path / "model.pt")


def test_a_zip_bomb_is_refused_before_decompression(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", entries(a=tensor((1 << 25,))))
        archive.writestr("model/data/0", bytes(1 << 27))
    tracemalloc.start()
    assert "bytes of memory" in problem(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["model/data.pkl", "model/../../evil"], "'model/../../evil', which leads out of its folder"),
        (["model/data.pkl", "/evil"], "'/evil', which leads out of its folder"),
        (["model/data.pkl", "model/data.pkl"], "two members with the same name"),
        (["model/data.pkl", "other/data.pkl"], "the zip archive has no data.pkl"),
        (["config.json"], "the zip archive has no data.pkl"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_names_are_checked(names: list[str], words: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for name in names:
            archive.writestr(name, entries(a=b"N"))
    assert words in problem(tmp_path / "model.pt")


def test_pickles_from_other_programs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"weight": 1}))
    assert "a pickle that torch.save did not write" in problem(path)
    path.write_bytes(MAGIC[:22] + pickle.dumps(1002, 2))
    problem(path)


def quantized(scheme: Any, kind: str = "QInt8Storage") -> Any:
    archive = Archive(None, lambda key: memoryview(bytes(range(12)) if key == "q" else np.ones(4).tobytes()))
    rebuild = "torch._utils._rebuild_qtensor"
    return archive.dequantized(
        PickledObject(rebuild, (Storage(kind, "q"), 0, (4, 3), (3, 1), scheme, False, ()))
    )


def doubles(*shape: int) -> PickledObject:
    place = Storage("DoubleStorage", "d"), 0, shape, (1,) * len(shape)
    return PickledObject("torch._utils._rebuild_tensor_v2", (*place, False, ()))


PER_TENSOR, PER_CHANNEL = Global("torch.per_tensor_affine"), Global("torch.per_channel_affine")


@pytest.mark.parametrize(
    "scheme",
    [
        None, (), (PER_TENSOR, 1.0), (PER_TENSOR, 1e300, 0), (PER_TENSOR, np.nan, 0), (PER_TENSOR, "1", 0),
        (PER_TENSOR, 1.0, 10**400), (PER_CHANNEL, doubles(3), doubles(3), 0), (PER_CHANNEL, doubles(4), 1, 0),
        (PER_CHANNEL, doubles(4), doubles(4), 2), (PER_CHANNEL, doubles(4), doubles(4), -1),
        (PER_CHANNEL, doubles(4, 1), doubles(4, 1), 0), (Global("torch.other"), 1.0, 0),
    ],
)  # fmt: skip
def test_scales_of_quantized_tensors_must_match_them(scheme: Any) -> None:
    with pytest.raises(FileError, match="scales or zero points that do not match"):
        quantized(scheme)


def test_quantized_tensors_inside_a_scheme_are_not_read() -> None:
    """Each level of them doubled the work."""
    inner: Any = 1.0
    for _ in range(100):
        inner = PickledObject(
            "torch._utils._rebuild_qtensor", (None, 0, (), (), (PER_CHANNEL, inner, inner, 0))
        )
    with pytest.raises(FileError, match="quantized"):
        quantized((PER_CHANNEL, inner, inner, 0))


def test_scales_along_an_axis_and_of_a_tensor() -> None:
    numbers = np.arange(12).reshape(4, 3)
    np.testing.assert_array_equal(quantized((PER_TENSOR, 0.5, 3)), (numbers - 3) / 2)
    np.testing.assert_array_equal(quantized((PER_CHANNEL, doubles(4), doubles(4), 0)), numbers - 1)
    assert quantized((PER_TENSOR, 0.5, 3), "QInt32Storage") is None
