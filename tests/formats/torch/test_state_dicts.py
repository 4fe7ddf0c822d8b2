"""State dicts in PyTorch files: where they are found, and the tensors that they can contain."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support
from support.pickles import MAGIC, entries, floats, number, problem, tensor, text, zipped

import onward
from onward.errors import LayerAttributeError, OnwardError
from onward.formats.torch import unpickle

DATA = support.DATA / "torch"
TENSORS = onward.load_tensors(DATA / "weights.pt")


def test_views_of_one_storage_have_their_own_strides(tmp_path: Path) -> None:
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
def test_every_dtype_is_read_in_both_byte_orders(kind: str, dtype: str, order: str, tmp_path: Path) -> None:
    values = np.array([0, 1, 100, 0, 1, 3]).astype(dtype)
    content = values.astype(values.dtype.newbyteorder(order)).tobytes()  # type: ignore[arg-type]
    write = zipped(entries(a=tensor((6,), kind=f"{kind}Storage")), content, byteorder=order.encode())
    found = onward.load_tensors(write(tmp_path))["a"]
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_bfloat16_becomes_float32_with_strides(tmp_path: Path) -> None:
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
def test_state_dicts_are_found_at_any_depth(pickled: bytes, names: list[str], tmp_path: Path) -> None:
    assert list(onward.load(zipped(pickled, floats(12))(tmp_path))) == names


def test_weight_norm_is_computed(tmp_path: Path) -> None:
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


def test_a_cell_becomes_a_one_layer_rnn(tmp_path: Path) -> None:
    pickled = entries(**{"cell.weight_ih": tensor((12, 5)), "cell.weight_hh": tensor((12, 4))})
    parts = onward.load(zipped(pickled, floats(60))(tmp_path))
    assert repr(parts["cell"]) == "GRU(5, 4, bias=False)"


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_numpy_arrays_are_read(protocol: int, tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.eye(3, 2, dtype=">f4"))}
    found = onward.load_tensors(zipped(pickle.dumps(arrays, protocol))(tmp_path))
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_of_every_protocol_are_skipped(protocol: int, tmp_path: Path) -> None:
    values = [
        None, True, False, 0, 1, -1, 255, 256, -70000, 1 << 40, -(1 << 70), 0.5, "text", "ä\n€", "x" * 300,
        b"bytes", b"b" * 300, bytearray(b"array"), (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [1, [2, []]],
        {1, 2}, frozenset({3}), {"a": {1: "b", (1, 2): None, 0.5: 1}}, Path("/etc/passwd"), range(3), len,
    ]  # fmt: skip
    pickled = pickle.dumps({"values": values, "weight": np.ones((2, 3))}, protocol)
    assert list(onward.load_tensors(zipped(pickled)(tmp_path))) == ["weight"]


def test_a_view_in_the_legacy_format_starts_inside_its_storage(tmp_path: Path) -> None:
    view = b"(" + text("view") + number(4) + number(2) + b"t"
    pickled = entries(a=tensor((2,), view=view), b=tensor((6,), view=b"N"))
    storage = (6).to_bytes(8, "little") + floats(6)
    (tmp_path / "model.pt").write_bytes(MAGIC + pickled + pickle.dumps(["0"], 2) + storage)
    found = onward.load_tensors(tmp_path / "model.pt")
    np.testing.assert_array_equal(found["a"], [4, 5])
    np.testing.assert_array_equal(found["b"], np.arange(6))


def test_a_deflated_archive_is_read(tmp_path: Path) -> None:
    path, bzip2 = tmp_path / "model.pt", "compression method 12, not deflate"
    for method, expected in (
        (zipfile.ZIP_DEFLATED, None),
        (zipfile.ZIP_BZIP2, bzip2),
    ):
        with zipfile.ZipFile(DATA / "weights.pt") as source, zipfile.ZipFile(path, "w", method) as archive:
            for name in source.namelist():
                archive.writestr(name, source.read(name))
        if expected:
            assert expected in problem(path)
        else:
            np.testing.assert_array_equal(onward.load_tensors(path)["head.bias"], TENSORS["head.bias"])


def test_familiar_names_work_on_layers_without_a_forward_or_name_the_equivalent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts: Any = onward.load(DATA / "weights.pt")
    assert parts.eval() is parts
    parts.summary()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]] == list(parts)
    with pytest.raises(LayerAttributeError, match="'cuda': Onward runs on the CPU only"):
        parts.cuda()
    with pytest.raises(LayerAttributeError, match=r"'stream': use model.sequential\(...\).stream"):
        parts.stream()


def test_given_options_make_layers_of_modules_that_a_state_dict_does_not_describe(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "conv.weight": rng.standard_normal((5, 3, 4)).astype(np.float32),
        "conv.bias": rng.standard_normal(5).astype(np.float32),
        "norm.weight": rng.standard_normal(5).astype(np.float32),
        "norm.bias": rng.standard_normal(5).astype(np.float32),
        "lstm.weight_ih_l0": rng.standard_normal((28, 5)).astype(np.float32),
        "lstm.weight_hh_l0": rng.standard_normal((28, 7)).astype(np.float32),
    }
    path = tmp_path / "weights.npz"
    np.savez(path, **weights)
    assert "pass them to load" in onward.load(path).reasons["conv"]
    options = {"conv": {"stride": 2, "padding": 1}, "norm": {"eps": 0.1}, "lstm": {"batch_first": True}}
    parts = onward.load(path, **options)
    assert isinstance(parts["conv"], onward.Conv1d) and parts["lstm"].batch_first and not parts.reasons
    conv = onward.Conv1d(3, 5, 4, stride=2, padding=1)
    conv.load_state_dict({name[5:]: array for name, array in weights.items() if name.startswith("conv")})
    x = rng.standard_normal((2, 3, 9)).astype(np.float32)
    np.testing.assert_array_equal(parts["conv"](x), conv(x))
    assert parts["norm"].eps == 0.1
    assert isinstance(
        onward.load(path, norm={"type": "GroupNorm", "num_groups": 5})["norm"], onward.GroupNorm
    )
    assert "parts.sequential('conv', 'norm', 'lstm')" in repr(parts)
    for given, message in (
        ({"con": {}}, "no module con; it has conv, norm, lstm"),
        ({"conv": {"strides": 2}}, "Conv1d has no option strides; it has"),
        ({"conv": {"type": "Conv9d"}}, "the type is 'Conv9d'; expected one of"),
        ({"conv": {"in_channels": 4}}, "in_channels=4, but the weights have 3"),
        ({"lstm": {"stride": 2}}, "expected nonlinearity or batch_first"),
        ({"conv": 2}, "load has no argument conv"),
    ):
        with pytest.raises(OnwardError, match=message):
            onward.load(path, **given)


@pytest.mark.parametrize("protocol", range(6))
def test_scalars_of_numpy_are_numbers(protocol: int) -> None:
    """Options of modules, such as numbers of channels, may be scalars, which were refused as objects."""
    numbers = [np.float32(0.1), np.int64(-3), np.bool_(True), np.array(7, ">u2")[()], np.float16(0.5)]
    others = [np.str_("a"), np.datetime64(5, "s"), np.longdouble(1.5)]
    found, _ = unpickle.load(pickle.dumps([*numbers, *others], protocol), 0, lambda persistent: None)
    assert found[: len(numbers)] == [number.item() for number in numbers]
    assert all(type(value) in (int, float, bool) for value in found[: len(numbers)])
    assert all(not isinstance(value, float) for value in found[len(numbers) :])
