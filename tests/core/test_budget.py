"""The budget for files and calls: what is counted, what the errors say, and that nothing gets around it."""

import os
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from support import hostile
from support.script_archives import archived

import onward
from onward.core import budget
from onward.errors import FileError, LimitError, MemoryLimitError, OnwardError, WorkLimitError
from onward.formats.torch.script.program import Program
from onward.graph import Graph, Model


def test_errors_say_what_was_used_and_what_was_allowed() -> None:
    with budget.of_file(1000) as left:
        allowed = left.work
        budget.spend(allowed - 10)
        with pytest.raises(WorkLimitError, match=f"takes at least {allowed + 1} .* at most {allowed} are"):
            budget.spend(11)
        budget.spend(10)  # what was refused was not done
        with pytest.raises(MemoryLimitError, match="for its 1000 bytes"):
            budget.take(1 << 40)


def test_parts_and_temporary_memory_return_what_is_left() -> None:
    with budget.of_file(0) as left:
        work, memory = left.work, left.memory
        with budget.of_part(1000), budget.temporary():
            budget.charge(400, 500)
            with pytest.raises(WorkLimitError):
                budget.spend(601)
        assert (left.work, left.memory) == (work - 400, memory)
        with budget.of_file(10**9) as inner:  # a part of the file
            assert inner is left
    budget.spend(1 << 80)  # nothing counts outside


def test_the_budget_of_one_thread_is_not_that_of_another() -> None:
    seen: list[int] = []
    with budget.of_file(0):
        budget.spend(budget.WORK_OF_ANY_FILE)
        thread = threading.Thread(target=lambda: seen.append(budget.current().work))
        thread.start()
        thread.join()
    assert seen == [budget.WORK_OF_ANY_CALL]


NESTED = "(" * 40 + "t" + ",)" * 40
SCRIPTS = {
    "hash": ["t = ()", "for i in range(900):", f"  t = {NESTED}", "d = {t: 1}"],
    "hash of pairs": ["t = (1, 2)", *["t = (t, t)"] * 60, "d = {t: 1}"],
    "get": ["t = (1, 2)", *["t = (t, t)"] * 60, "d = annotate(Dict[int, int], {})", "y = torch.get(d, t, 1)"],
    "compare": [
        "a = [1, 2]",
        "b = [1, 2]",
        *["a = [a, a]", "b = [b, b]"] * 60,
        "c = torch.ListIndex([a], b)",
    ],
    "tensor": ["t = [1, 2]", *["t = [t, t]"] * 40, "y = torch.tensor(t)"],
    "tensor of tuples": ["t = (1, 2)", *["t = (t, t)"] * 40, "y = torch.tensor([t, t])"],
    "statements": ["for i in range(99999999):", *["  a = torch.add(1, 2)"] * 50],
    "lists": ["b = [0]", "for i in range(9000):", "  b = torch.add(b, b)"],
    "repeated list": ["b = torch.mul([0], 9999999999)"],
    "text": ['s = "ab"', "for i in range(99):", "  s = torch.add(s, s)"],
    "joined": ['s = "ab"', "for i in range(99):", "  s = torch.join(s, [s, s])"],
    "recorded nodes": ["for i in range(9999999):", "  x = torch.relu(x)"],
}


@pytest.mark.parametrize("lines", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_code_of_half_a_kilobyte_is_interpreted_within_a_budget(
    lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "WORK_OF_ANY_FILE", 10**8)
    body = "".join(f"    {line}\n" for line in [*lines, "return x"])
    code = f"class M(Module):\n  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n{body}"
    with hostile.bounded(seconds=3), pytest.raises(OnwardError):
        Program(archived(code, b"}")).graph().nodes[0].attributes["record"]([np.ones(3, np.float32)])


def test_syntax_trees_are_refused_before_they_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MEMORY_OF_ANY_FILE", 1 << 24)
    code = "class M(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    y = [" + "0," * 400_000 + "]\n"
    with hostile.bounded(seconds=3), budget.of_file(1000), pytest.raises(MemoryLimitError):
        Program(archived(code, b"}"))


def shared_member(names: list[bytes], content: bytes) -> bytes:
    """A zip archive whose directory leads from every name to one member."""
    member = len(content), len(content)
    head = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 0, zlib.crc32(content), *member, 1, 0)
    directory = b"".join(
        struct.pack(
            "<4sHHHHHHIIIHHHHHII",
            *(b"PK\1\2", 20, 20, 0, 0, 0, 0, zlib.crc32(content), *member, len(name), 0, 0, 0, 0, 0, 0),
        )
        + name
        for name in names
    )
    start = len(head) + 1 + len(content)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, len(names), len(names), len(directory), start, 0)
    return head + b"a" + content + directory + end


def test_a_member_with_many_names_counts_for_each(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (262144,), }".ljust(117) + b"\n"
    array = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(1 << 20)
    path = tmp_path / "m.npz"
    path.write_bytes(shared_member([b"%05d.npy" % i for i in range(300)], array))
    assert "bytes of memory" in hostile.refused(path, onward.load_tensors)


def test_a_description_of_countless_layers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    onward.LSTM(3, 4, rng=0).save(path)
    onward.load(path)  # imports count as execution
    for precision in ({}, {"precision": "int8"}):
        described = {"type": "LSTM", "input_size": 2, "hidden_size": 3, "num_layers": 1 << 40, **precision}
        onward.core.storage.write(path, {"a": np.zeros(1, np.float32)}, described)
        assert "elementary operations" in hostile.refused(path)


def pooled(operation: str, size: int, kernel: int) -> Model:
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, 1, 4))
    made = graph.add("ConstantOfShape", graph.add_constant(np.array([1, 1, size])))
    attributes = {"kernel_shape": [kernel], "auto_pad": "SAME_UPPER"}
    y = graph.add(operation, made if size else x, **attributes)
    graph.outputs = (graph.add("Add", y, graph.add("ReduceMax", x)),)
    return Model(graph)


@pytest.mark.parametrize("operation", ["LpPool", "MaxPool", "AveragePool", "SumPool"])
def test_windows_are_refused_before_they_are_made(operation: str) -> None:
    with hostile.bounded(seconds=2):
        for size, kernel in ((1 << 20, 1 << 19), (0, 1 << 25), (0, (1 << 31) - 1)):
            model = pooled(operation, size, kernel)  # which folds no constant that takes too long
            with pytest.raises(LimitError):
                model(np.ones((1, 1, 4), np.float32))


def test_iterations_are_counted_with_what_they_compute() -> None:
    body = Graph()
    body.add_input("i", np.int64, ())
    body.add_input("condition", np.bool_, ())
    state = body.add_input("state", np.float32, (100, 100))
    body.outputs = ("condition", body.add("MatMul", state, state))
    graph = Graph()
    count, x = graph.add_input("count", np.int64, ()), graph.add_input("x", np.float32, (100, 100))
    graph.outputs = (graph.add_all("Loop", (count, "", x), 1, body=body)[0],)
    model, ones = Model(graph), np.ones((100, 100), np.float32)
    assert model(np.array(20), ones).shape == (100, 100)
    with hostile.bounded(seconds=3), pytest.raises(WorkLimitError, match="elementary operations"):
        model(np.array(10**12), ones)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    onward.LSTM(100, 300, rng=0).save(path)
    good = path.read_bytes()
    code = (
        "import onward, sys\n"
        "while True:\n"
        "    try: onward.load(sys.argv[1])\n"
        "    except onward.errors.OnwardError: pass\n"
        "    print(end='.', flush=True)\n"
    )
    reader = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    try:
        assert reader.stdout is not None and reader.stdout.read(1) == b"."
        for round in range(30):
            path.write_bytes(good)
            os.truncate(path, 1000 * (round % 3))
        assert reader.poll() is None  # a mapped file would have ended it with SIGBUS
    finally:
        reader.kill()
        reader.communicate()


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    onward.LSTM(3, 4, rng=0).save(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileError, match="is not a complete safetensors file"):
        onward.load(path)


def growing() -> Graph:
    """A graph whose work is the cube of the size of its input."""
    graph = Graph()
    x = graph.add_input("x", np.float32, ("T",))
    column = graph.add("Unsqueeze", x, graph.add_constant(np.array([1])))
    outer = graph.add("Mul", x, column)
    graph.outputs = (graph.add("ReduceMax", graph.add("MatMul", outer, outer), keepdims=0),)
    return graph


def test_a_program_that_is_bound_to_larger_sizes_is_charged_for_these() -> None:
    model = Model(growing())
    assert model(np.ones(10, np.float32)) == 10 and model(np.ones(300, np.float32)) == 300
    assert len(model.planner.programs) == 1 and model.planner.work > 4 * 300**3
    with hostile.bounded(seconds=3), pytest.raises(WorkLimitError, match=r"MatMul.*elementary operations"):
        model(np.ones(3500, np.float32))


def test_the_iterations_of_a_loop_are_charged_for_their_own_sizes() -> None:
    body = growing()
    y = body.outputs[0]
    x = body.add("Concat", "x", "x", axis=0)
    for name in ("condition", "i"):
        body.inputs.insert(0, body.inputs[0]._replace(name=name, dtype=np.dtype(np.bool_), axes=()))
    body.inputs[0] = body.inputs[0]._replace(dtype=np.dtype(np.int64))
    short = body.add("Slice", x, *(body.add_constant(np.array([n])) for n in (0, 2000, 0)))
    body.outputs = ("condition", short, y)
    graph = Graph()
    count, x = graph.add_input("count", np.int64, ()), graph.add_input("x", np.float32, ("T",))
    graph.outputs = (graph.add_all("Loop", (count, "", x), 2, body=body)[1],)
    model = Model(graph)
    assert model(np.array(5), np.ones(1, np.float32)).shape == (5,)
    with hostile.bounded(seconds=8), pytest.raises(WorkLimitError):
        model(np.array(10**6), np.ones(1, np.float32))


def doubled(count: int, keeps: bool) -> Model:
    """Strings that a loop doubles, or that are doubled in many nodes, all of which are used in the end."""
    graph, body = Graph(), Graph()
    if keeps:
        x = graph.add_input("x", np.object_, (1,))
        for _ in range(18):
            x = graph.add("StringConcat", x, x)
        ends = [graph.add_constant(np.array([str(place)], object)) for place in range(count)]
        parts = [graph.add("StringConcat", x, end) for end in ends]
        graph.outputs = (graph.add("Concat", *parts, axis=0),)
        return Model(graph)
    body.add_input("i", np.int64, ())
    body.add_input("condition", np.bool_, ())
    state = body.add_input("state", np.object_, (1,))
    body.outputs = ("condition", body.add("StringConcat", state, state))
    times, x = graph.add_input("times", np.int64, ()), graph.add_input("x", np.object_, (1,))
    graph.outputs = (graph.add_all("Loop", (times, "", x), 1, body=body)[0],)
    return Model(graph)


def test_strings_are_counted_before_they_are_made() -> None:
    text = np.array(["text"], object)
    assert doubled(2, False)(np.array(2), text)[0] == "text" * 4
    tracemalloc.start()
    try:
        with hostile.bounded(seconds=5):
            with pytest.raises(MemoryLimitError, match="StringConcat"):
                doubled(0, False)(np.array(100), text)
            with pytest.raises(MemoryLimitError, match="StringConcat"):
                doubled(200, True)(text)
            with pytest.raises(LimitError, match="StringSplit"):
                spaces = np.array([" a" * 10**5] + ["a"] * 1000, object)
                split = Graph()
                x = split.add_input("x", np.object_, ("N",))
                split.outputs = (split.add_all("StringSplit", (x,), 2)[0],)
                Model(split)(spaces)
        assert tracemalloc.get_traced_memory()[1] < 2 * budget.MEMORY_OF_ANY_CALL
    finally:
        tracemalloc.stop()


def test_the_memory_that_views_keep_alive_counts() -> None:
    """A part of each large array of a size that only its call knows is used in the end."""
    graph = Graph()
    count = graph.add_input("count", np.int64, (1,))
    parts = []
    for place in range(20):
        longer = graph.add("Add", count, graph.add_constant(np.array([place])))
        total = graph.add("ReduceSum", graph.add("NonZero", graph.add("ConstantOfShape", longer)))
        size = graph.add("Add", longer, graph.add("Reshape", total, graph.add_constant(np.array([1]))))
        end = graph.add("Squeeze", size, graph.add_constant(np.array([0])))
        start, step = (graph.add_constant(np.array(n)) for n in (0, 1))
        large = graph.add("Range", start, end, step)
        parts.append(graph.add("Slice", large, *(graph.add_constant(np.array([n])) for n in (0, 2, 0))))
    graph.outputs = (graph.add("Concat", *parts, axis=0),)
    model = Model(graph)
    np.testing.assert_array_equal(model(np.array([10])), [0, 1] * 20)
    with hostile.bounded(seconds=5), pytest.raises(MemoryLimitError):
        model(np.array([5 * 10**6]))
