"""Compiled models in Python: errors and damaged files; tests/test_c_library.py compares the bits."""

import hashlib
import itertools
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT, hostile
from support.compiled_files import CHECKED, changed, models, run, with_checksum
from support.examples import detector_of_voices
from support.random_sequentials import sequential
from support.randomized import random_cases
from support.skips import counted_cases

import onward
from onward import _core
from onward.errors import ArgumentError, DtypeError, FileError, ShapeError, SignatureError
from onward.formats.compiled import SIGNATURE
from onward.graph import Graph, Input
from onward.graph.plan.words import WordWriter
from onward.model import Model


def small(tmp_path: Path) -> bytes:
    net = onward.Sequential(onward.GRU(2, 3, rng=0), onward.Linear(3, 2, rng=1))
    net.compile(tmp_path / "x.onward")
    return (tmp_path / "x.onward").read_bytes()


def test_damaged_files_are_refused_or_run(tmp_path: Path) -> None:
    content = small(tmp_path)

    def load(path: Path) -> Any:
        return onward.load(path)

    def damaged() -> Iterator[bytes]:
        yield from hostile.truncated(content)
        yield from hostile.flipped(content, 50)
        yield from map(with_checksum, hostile.flipped(content, 150))
        for start in range(CHECKED, len(content) - 8, 8):  # each size of a program in turn
            for size in (1 << 47, (1 << 63) - 1, 1 << 63):  # the last is the lowest number
                yield with_checksum(content[:start] + size.to_bytes(8, "little") + content[start + 8 :])

    assert hostile.open_damaged(tmp_path / "x.onward", damaged(), load, run) > 200


@pytest.mark.parametrize("name", models())
def test_changed_numbers_of_programs_are_refused_or_run(name: str, tmp_path: Path) -> None:
    """Extreme and moved numbers in many kinds of steps."""
    models()[name].compile(tmp_path / "x.onward")
    content, rng = (tmp_path / "x.onward").read_bytes(), np.random.default_rng(len(name))
    run(onward.load(tmp_path / "x.onward"))
    (tmp_path / "x.onward").unlink()
    cases = (changed(content, rng) for _ in range(random_cases(150)))
    assert hostile.open_damaged(tmp_path / "x.onward", cases, onward.load, run) > 10


def test_a_file_that_names_an_array_again_and_again_is_refused(tmp_path: Path) -> None:
    """Each fixed value of an input would be a copy of the whole file."""
    size, count = 1 << 20, 400
    value = ["int8", [size], 0]  # an array at byte 0 of the data; and an input with the value of array 0
    program, writer = WordWriter(lambda _: 0), WordWriter(lambda _: 0)
    program.write((count, *value * count))
    writer.write((1, *value, 0, True, 0, 0, 1, program.words.tolist()))
    words = np.array(writer.words)
    end = 64 * (1 + -(-len(words) // 8))
    sizes = struct.pack("<5q", end + size, 64, len(words), end, size)
    content = sizes + words.tobytes().ljust(end - 64, b"\0") + bytes(size)
    start_of_file = struct.pack("<8sIIQ", SIGNATURE, _core.FILE_VERSION, _core.FILE_LANES, 0)
    (tmp_path / "x.onward").write_bytes(with_checksum(start_of_file + content))
    assert "repeat arrays too often" in hostile.refused(tmp_path / "x.onward")


@pytest.mark.parametrize("version", [1, 7])
def test_a_file_of_another_version_says_so(version: int, tmp_path: Path) -> None:
    content = small(tmp_path)
    (tmp_path / "x.onward").write_bytes(content[:8] + version.to_bytes(4, "little") + content[12:])
    message = f"version {version} of the format, but this is version {_core.FILE_VERSION}: compile the model"
    with pytest.raises(FileError, match=message):
        onward.load(tmp_path / "x.onward")


def test_the_version_changes_with_the_arguments_of_the_steps() -> None:
    """Files hold the arguments of steps, as plan.h declares them, in order."""
    plan, program, readers = (
        (ROOT / "cpp/run" / name).read_text() for name in ("plan.h", "program.h", "program_steps.cpp")
    )
    declared = dict(re.findall(r"    void (\w+)\(([^;]*)\);", re.sub(r"//.*", "", plan)))
    names = dict(re.findall(r'\{"(\w+)", read<&Plan::(\w+)>\}', readers))
    steps = {name: " ".join(declared[method].split()) for name, method in sorted(names.items())}
    structures = re.findall(r"struct (?:OutputStage|Slices|Carry) \{.*?\n *\};", plan, re.DOTALL)
    (words,) = re.findall(r"// What the words of a program contain.*?class Program", program, re.DOTALL)
    digest = hashlib.sha256(f"{steps} {structures} {words}".encode()).hexdigest()[:16]
    assert (_core.FILE_VERSION, digest) == (6, "cac5b13485452024"), (
        "raise ModelFile::version, and change this pair"
    )


def test_a_changed_byte_is_found_by_the_checksum(tmp_path: Path) -> None:
    content = bytearray(small(tmp_path))
    content[-100] ^= 1
    (tmp_path / "x.onward").write_bytes(content)
    with pytest.raises(FileError, match="checksum is wrong"):
        onward.load(tmp_path / "x.onward")


def test_an_operation_in_numpy_is_named(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("n", 4, 4))
    graph.outputs = (graph.add("Det", x, name="the product"),)
    with pytest.raises(ArgumentError, match=r"the product .*NumPy.*has only the core"):
        Model(graph).compile(tmp_path / "x.onward")
    assert not (tmp_path / "x.onward").exists()


@pytest.mark.parametrize("kind", [onward.RNN, onward.Linear])
def test_a_layer_in_float64_is_named(kind: Any, tmp_path: Path) -> None:
    """Programs in Python run it, but files hold weights in float32."""
    with pytest.raises(ArgumentError, match=r"node 0 .*NumPy.*has only the core"):
        kind(3, 5, dtype="float64").compile(tmp_path / "x.onward")
    with pytest.raises(ArgumentError, match=r"node 0 .*NumPy.*has only the core"):
        kind(3, 5, dtype="float64").export_c(tmp_path / "x.c", sizes={"time": 2, "batch": 1})


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_quantized_embedding_compiles(precision: str, tmp_path: Path) -> None:
    net = onward.Sequential(onward.Embedding(11, 3, rng=0), onward.GRU(3, 4, rng=1)).quantize(precision)
    net.compile(tmp_path / "net.onward")
    net.export_c(tmp_path / "net.c", stream=True)
    x = np.random.default_rng(0).integers(0, 11, (9, 1))
    compiled, y = onward.load(tmp_path / "net.onward"), net(x)
    np.testing.assert_array_equal(compiled(x), y)
    np.testing.assert_array_equal(compiled.stream()(x), y)


def test_random_sequentials_take_calls_without_steps_or_rows(tmp_path: Path) -> None:
    """Scans of many steps are loops, which have nothing to do for no rows; `Last` of no steps is zeros."""
    for case in counted_cases(7, first=38):
        with case:
            net, features = sequential(rng := np.random.default_rng(case.seed), "float32")
            net.compile(tmp_path / "x.onward")
            opened = onward.load(tmp_path / "x.onward")
            for sizes in itertools.product((0, 1, 17, 40), repeat=2):
                x = rng.standard_normal((*sizes, features)).astype(np.float32)
                y = net(x)
                np.testing.assert_array_equal(opened(x), y[0] if isinstance(y, tuple) else y, str(sizes))


def test_the_wide_table_of_an_embedding_takes_the_name_of_no_other_constant(tmp_path: Path) -> None:
    graph, rng = Graph(), np.random.default_rng(0)
    table, other = (rng.standard_normal((4, 3)).astype(dtype) for dtype in (np.float16, np.float32))
    places = graph.add_input("places", np.int64, ("n",))
    names = graph.add_constant(table, "table"), graph.add_constant(other, "table/float32:0")
    found = graph.add("Cast", graph.add("Gather", names[0], places), to=np.dtype(np.float32))
    graph.outputs = (graph.add("Add", found, graph.add("Gather", names[1], places)),)
    Model(graph).compile(tmp_path / "x.onward", x := np.array([1, 2, 0, 3]))
    np.testing.assert_array_equal(
        onward.load(tmp_path / "x.onward")(x), table.astype(np.float32)[x] + other[x]
    )


def test_few_steps_of_several_rows_with_one_channel_have_a_program(tmp_path: Path) -> None:
    """One short axis was compiled with all others long, or of size 1 or 0."""
    pool = onward.MaxPool1d(2)
    pool.compile(tmp_path / "x.onward")
    opened = onward.load(tmp_path / "x.onward")
    for shape in itertools.product((1, 2, 30), (1, 2, 30), (2, 3, 4, 50)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        np.testing.assert_array_equal(opened(x), pool(x))


def test_calls_are_checked_as_those_of_models(tmp_path: Path) -> None:
    detector_of_voices().compile(tmp_path / "x.onward", sr=np.int64(16000))
    model: Any = onward.load(tmp_path / "x.onward")
    x, state = np.ones((2, 576), np.float32), np.zeros((2, 2, 128), np.float32)
    y, _ = model(x, state=state)
    np.testing.assert_array_equal(model(x.astype(float).tolist(), state)[0], y)
    for error, message, call in (
        (SignatureError, "missing inputs: state", lambda: model(x)),
        (ShapeError, r"takes \(batch, sequence\)", lambda: model(x[0], state)),
        (DtypeError, "complex", lambda: model(x.astype(complex), state)),
        (ShapeError, "no program for", lambda: model(x[:1], state)),
        (ArgumentError, "holds programs", lambda: model.save(tmp_path / "y.safetensors")),
        (ArgumentError, "has no options", lambda: onward.load(tmp_path / "x.onward", batch_first=True)),
    ):
        with pytest.raises(error, match=message):
            call()


def test_a_pool_and_a_batch_have_the_bits_of_the_model(tmp_path: Path) -> None:
    net = onward.Sequential(onward.LSTM(3, 5, rng=0), onward.Linear(5, 2, rng=1))
    net.compile(tmp_path / "x.onward")
    model: Any = onward.load(tmp_path / "x.onward")
    pools = net.pool(20), model.pool(20)
    ids = [pool.open(9) for pool in pools]
    rng = np.random.default_rng(0)
    for n in (9, 0, 1, 4):
        x = rng.normal(size=(n, 3)).astype(np.float32)
        np.testing.assert_array_equal(pools[1].step(ids[1][:n], x), pools[0].step(ids[0][:n], x))
    assert pools[1].finish([]) == pools[0].finish([]) == []
    x = rng.normal(size=(7, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(model.stream(4)(x), net.stream(4)(x))
    one, other = model.stream(), model.stream()
    one(x[:, 0])
    one.save(tmp_path / "state")
    other.load(tmp_path / "state")
    np.testing.assert_array_equal(one(x[:, 1]), other(x[:, 1]))


def test_streams_whose_frames_have_an_open_size_compile(tmp_path: Path) -> None:
    """Which axes hold the rows of a pool is known after a step, which not all sizes fit."""
    whole, rate = detector_of_voices(), np.int64(16000)
    whole.compile(tmp_path / "x.onward", sr=rate)
    model: Any = onward.load(tmp_path / "x.onward")
    x = np.random.default_rng(0).normal(size=(4, 3, 576)).astype(np.float32)
    streams, pools = (model.stream(), whole.stream(sr=rate)), (model.pool(3), whole.pool(3, sr=rate))
    ids = [pool.open(3) for pool in pools]
    for block in x:
        np.testing.assert_array_equal(*(stream(block[:1]) for stream in streams))
        for n in (0, 3):
            np.testing.assert_array_equal(
                *(pool.step(own[:n], block[:n]) for pool, own in zip(pools, ids, strict=True))
            )
    assert all(pool.runs_together for pool in pools)


def test_inputs_without_an_example_need_one(tmp_path: Path) -> None:
    path = tmp_path / "x.onward"
    for size in (3 << 20, 5 << 20):
        graph = Graph()
        x, state = (graph.add_input(name, np.float32, axes) for name, axes in (("x", (size,)), ("s", (1,))))
        graph.outputs = graph.add("Add", x, state, output="y"), graph.add("Neg", state, output="next")
        graph.declared_outputs = tuple(Input(name, np.dtype(np.float32)) for name in graph.outputs)
        whole, x = Model(graph), np.ones(size, np.float32)
        if size > 4 << 20:
            with pytest.raises(ArgumentError, match="pass the inputs of a call"):
                whole.compile(path)
            with pytest.raises(ArgumentError, match="pass blocks="):
                whole.compile(path, carry={"s": "next"})
        whole.compile(path, *(size > 4 << 20) * [(x, np.ones(1))])
        assert onward.load(path)(x, np.ones(1))[0][-1] == 2


def test_a_file_may_hold_only_streams_or_only_calls(tmp_path: Path) -> None:
    onward.GRU(3, 4, bidirectional=True, rng=0).compile(tmp_path / "x.onward")
    model: Any = onward.load(tmp_path / "x.onward")
    with pytest.raises(ArgumentError, match="does not stream"):
        model.stream()


def with_equal_axes(count: int) -> Graph:
    """A graph of inputs whose steps it adds: their axes have different names, but need equal sizes or 1."""
    graph = Graph()
    inputs = [graph.add_input(f"x{i}", np.float32, (f"t{i}", 3)) for i in range(count)]
    value = inputs[0]
    for x in inputs[1:]:
        value = graph.add("Add", value, x)
    graph.outputs = (value,)
    return graph


@pytest.mark.parametrize("count", [2, 3, 6])
def test_axes_of_different_names_may_have_equal_sizes(count: int, tmp_path: Path) -> None:
    whole = Model(with_equal_axes(count))
    whole.compile(tmp_path / "x.onward")
    model: Any = onward.load(tmp_path / "x.onward")
    rng = np.random.default_rng(0)
    for steps in (12, 1, 5):
        inputs = [rng.normal(size=(steps, 3)).astype(np.float32) for _ in range(count)]
        np.testing.assert_array_equal(model(*inputs), whole(*inputs))
    for each in (whole, model):
        with pytest.raises(ShapeError):
            each(*inputs[1:], inputs[0][:4])


@pytest.mark.parametrize("sides", [2, 3])
def test_any_axes_of_different_names_may_have_equal_sizes(sides: int, tmp_path: Path) -> None:
    """Pairs of axes must be equal, as those of the inputs a, b and c, or the first axes of a and b alone."""
    graph = Graph()
    a, b, c = (graph.add_input(n, np.float32, (f"{n}0", f"{n}1")) for n in "abc")
    first = graph.add("Add", a, b)
    graph.outputs = (graph.add("MatMul", first, c) if sides == 2 else graph.add("Concat", first, c, axis=0),)
    whole = Model(graph)
    whole.compile(tmp_path / "x.onward")
    model: Any = onward.load(tmp_path / "x.onward")
    shape = (7, 4) if sides == 2 else (4, 7)
    inputs = [
        np.random.default_rng(0).normal(size=each).astype(np.float32) for each in ((5, 7), (5, 7), shape)
    ]
    np.testing.assert_array_equal(model(*inputs), whole(*inputs))
