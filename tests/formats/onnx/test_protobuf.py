"""The reader of Protocol Buffers agrees with Google's on every message and refuses damaged ones at once."""

import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from support import hostile
from support.in_one_test import in_one_test
from support.onnx_messages import assert_same, decoded, random_model

from onward.core import budget
from onward.errors import FileError, LimitError
from onward.formats.onnx import messages, protobuf

PACKAGE = Path(onnx.__file__).parent / "backend" / "test" / "data"
FILES = sorted(PACKAGE.rglob("*.onnx"))


def delimited(number: int, content: bytes) -> bytes:
    return protobuf._varint(number << 3 | protobuf.DELIMITED) + protobuf._varint(len(content)) + content


def refused(content: bytes) -> str:
    with hostile.bounded(), pytest.raises((FileError, LimitError)) as error:
        decoded(content)
    return str(error.value)


def model_file() -> bytes:
    """A small model with an int attribute, packed and raw data."""
    graph = onnx.parser.parse_graph(
        "g (float[N, 2] x) => (float[N, 2] y) <float[2] w = {1.5, -2.0}>"
        "{ s = Add (x, w) y = Elu <alpha = 0.5> (s) }"
    )
    graph.initializer.append(onnx.numpy_helper.from_array(np.arange(3), "raw"))
    content: bytes = onnx.helper.make_model(graph).SerializeToString()
    return content


def test_the_onnx_package_contains_the_files_that_the_tests_read() -> None:
    assert len(FILES) > 100


@in_one_test("path", FILES)
def test_real_files_give_the_messages_of_the_onnx_package(path: Path) -> None:
    content = path.read_bytes()
    expected = onnx.ModelProto.FromString(content)
    model = decoded(content)
    assert_same(model, expected)
    assert_same(decoded(protobuf.encode(model)), expected)


@in_one_test("seed", range(50))
def test_random_messages_are_read_written_and_merged_as_by_google(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = random_model(rng), random_model(rng)
    content = first.SerializeToString(), second.SerializeToString()
    for one, expected in zip(content, (first, second), strict=True):
        assert_same(decoded(one), expected)
        written = onnx.ModelProto.FromString(protobuf.encode(decoded(one)))
        assert written.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    assert_same(decoded(b"".join(content)), onnx.ModelProto.FromString(b"".join(content)))


def test_mutated_messages_are_accepted_only_if_google_accepts_them() -> None:
    accepted = 0
    for seed in range(1300):
        content = bytearray(random_model(np.random.default_rng(seed % 30)).SerializeToString())
        rng = np.random.default_rng(seed)
        for place in rng.integers(len(content), size=2) if content else ():
            content[place] = rng.integers(256)
        try:
            mine = decoded(bytes(content))
        except FileError as error:
            if "UTF-8" not in str(error):  # Google's reader decodes texts later
                with pytest.raises(Exception, match=r"(?i)pars|decod"):
                    onnx.ModelProto.FromString(bytes(content))
            continue
        theirs = onnx.ModelProto.FromString(bytes(content))
        try:
            assert_same(mine, theirs)
        except AssertionError as error:
            if "data_location" not in str(error) and ".type" not in str(
                error
            ):  # Google's drops unknown enums
                raise
        accepted += 1
    assert accepted > 300


@pytest.mark.parametrize(
    "dtype", ["float_data", "int32_data", "int64_data", "double_data", "uint64_data", "dims"]
)
def test_packed_and_unpacked_numbers_are_the_same(dtype: str) -> None:
    rng = np.random.default_rng(len(dtype))
    signed = rng.integers(-(2**31), 2**31, 200) >> rng.integers(0, 31, 200)
    numbers = signed.clip(0) if dtype == "uint64_data" else signed
    packed = messages.Tensor(**{dtype: numbers})
    field = messages.Tensor.fields[dtype]
    unpacked = b"".join(
        protobuf._varint(field.number << 3 | field.kind.wire) + protobuf._packed(field.kind, [number])
        for number in numbers.tolist()
    )
    for content in (protobuf.encode(packed), unpacked, unpacked[:0] + protobuf.encode(packed) + unpacked):
        mine = protobuf.decode(messages.Tensor, content)
        assert_same(mine, onnx.TensorProto.FromString(content))
        assert len(getattr(mine, dtype)) in (200, 400)


def test_messages_that_are_merged_often_take_linear_time() -> None:
    part = delimited(5, delimited(4, np.float32(1.5).tobytes()) + delimited(1, b"\x01"))
    with hostile.bounded(seconds=4):
        attribute = protobuf.decode(messages.Attribute, part * 80_000)
    assert attribute.t is not None
    np.testing.assert_array_equal(attribute.t.float_data, np.full(80_000, 1.5, np.float32))
    assert attribute.t.dims == [1] * 80_000


def test_numbers_of_every_length_survive() -> None:
    numbers = [n for bits in range(63) for n in (1 << bits, (1 << bits) - 1, -(1 << bits))]
    numbers = [*numbers, 2**63 - 1, -(2**63)] * 500  # more than one block
    content = protobuf.encode(messages.Tensor(int64_data=numbers))
    assert onnx.TensorProto.FromString(content).int64_data == numbers
    np.testing.assert_array_equal(protobuf.decode(messages.Tensor, content).int64_data, numbers)


def test_messages_survive_pickling() -> None:
    model = decoded(model_file())
    assert protobuf.encode(pickle.loads(pickle.dumps(model))) == protobuf.encode(model)


def test_unknown_fields_and_groups_are_skipped() -> None:
    group = (
        b"\xa3\x06" + b"\x08\x05" + b"\x13\x14" + b"\xa4\x06"
    )  # 100, which holds a number and an empty group 2
    for extra in (
        group,
        delimited(1000, b"abc"),
        b"\xa0\x06\x01",
        b"\xa1\x06" + bytes(8),
        b"\xa5\x06" + bytes(4),
    ):
        content = extra + model_file() + extra
        assert_same(decoded(content), onnx.ModelProto.FromString(content))


def test_a_field_with_another_wire_type_is_skipped() -> None:
    content = b"\x0d\x01\x02\x03\x04" + model_file()  # ir_version as 4 bytes
    assert_same(decoded(content), onnx.ModelProto.FromString(content))


@pytest.mark.parametrize("levels", [99, 100, 101, 1_000_000])
def test_messages_nested_too_deeply_are_refused(levels: int) -> None:
    """A chain of subgraphs: graph, node, attribute, graph and so on."""
    keys, parts, size = (b"\x3a", *[b"\x0a", b"\x2a", b"\x32"] * (levels // 3 + 1)), [], 0
    for key in reversed(keys[: levels - 1]):
        parts.append(key + protobuf._varint(size))
        size += len(parts[-1])
    content = b"".join(reversed(parts))
    if levels <= protobuf.MAX_DEPTH:
        decoded(content)
    else:
        assert "nested more than 100 deep" in refused(content)


def test_groups_nested_too_deeply_are_refused() -> None:
    assert "nested more than 100 deep" in refused(b"\x0b" * 1_000_000)


def test_a_file_truncated_at_any_byte_gives_an_error_or_a_shorter_model() -> None:
    content = model_file()
    for end in range(len(content)):
        with hostile.bounded():
            try:
                assert_same(decoded(content[:end]), onnx.ModelProto.FromString(content[:end]))
            except FileError:
                with pytest.raises(Exception, match=r"(?i)pars|decod"):
                    onnx.ModelProto.FromString(content[:end])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x12" + b"\xff" * 8 + b"\x7f" + b"abc", "bytes at byte 10 end after byte 13"),
        (b"\x12" + b"\xff" * 9 + b"\x01", "18446744073709551615 bytes"),
        (b"\x3a\x05" + b"\x12\x09" + b"123456789", "9 bytes at byte 4 end after byte 7"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "more than 10 bytes"),
        (b"\x08" + b"\x80" * 3, "is not complete"),
        (b"\x12", "is not complete"),
        (b"\x0e", "wire type 6"),
        (b"\x0c", "wire type 4"),
        (b"\x0b\x14", "wire type 4"),
        (b"\x00\x01", "number 0"),
        (b"\x12\x01\xff", "Model.producer_name at byte 2 is not UTF-8"),
        (delimited(7, delimited(5, delimited(4, b"123"))), "Tensor.float_data has 3 bytes"),
        (delimited(7, delimited(5, delimited(7, b"\x80"))), "last number of Tensor.int64_data is incomplete"),
        (delimited(7, delimited(5, delimited(7, b"\x80" * 10 + b"\x01"))), "more than 10 bytes"),
        (delimited(7, delimited(5, delimited(7, b"\x80" * 100_000 + b"\x01"))), "more than 10 bytes"),
    ],
)
def test_damaged_files_are_refused_at_once(content: bytes, message: str) -> None:
    assert message in refused(content)
    if "UTF-8" not in message:
        with pytest.raises(Exception, match=r"(?i)pars|decod"):
            onnx.ModelProto.FromString(content)


def peak(content: bytes) -> int:
    """The memory that reading takes, in bytes."""
    tracemalloc.start()
    try:
        model = decoded(content)
    except (FileError, LimitError):
        model = None
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del model
    return size


@pytest.mark.parametrize("number", [4, 9, 10])
def test_large_data_share_the_memory_of_the_file(number: int) -> None:
    content = delimited(7, delimited(5, delimited(number, bytes(1 << 24))))
    assert peak(content) < 1 << 16


@pytest.mark.parametrize("byte", [b"\x01", b"\xff\x7f", b"\xff" * 9 + b"\x01"])
def test_packed_numbers_take_at_most_twelve_bytes_per_byte(byte: bytes) -> None:
    content = byte * ((1 << 22) // len(byte))
    assert peak(delimited(7, delimited(5, delimited(7, content)))) < 12 * len(content)


@pytest.mark.parametrize(
    "field", [b"\x0a\x00", b"\x5a\x00", b"\x12\x00", b"\x0a\x02\x0a\x00", b"\x0a\x02\x2a\x00"]
)
def test_many_tiny_fields_take_a_bounded_memory(field: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MEMORY_OF_ANY_FILE", 1 << 20)
    content = delimited(7, field * 20_000)
    assert "bytes of memory" in refused(content)
    assert peak(content) < 300 * 40_000


def test_many_numbers_in_a_list_take_a_bounded_memory() -> None:
    with hostile.bounded():
        decoded(delimited(7, delimited(5, delimited(1, b"\x01" * 2_000_000))))


def test_reading_needs_only_numpy(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(model_file())
    code = f"""
import sys
sys.modules.update(dict.fromkeys(["onnx", "google", "google.protobuf", "ml_dtypes"]))
from onward.formats.onnx.read import read
from onward.formats.onnx.tensors import tensor_array
path = {str(tmp_path / "m.onnx")!r}
initializers = read(path, open(path, "rb").read()).graph.initializer
print({{tensor.name: tensor_array(tensor).tolist() for tensor in initializers}})
"""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.strip() == "{'w': [1.5, -2.0], 'raw': [0, 1, 2]}"
