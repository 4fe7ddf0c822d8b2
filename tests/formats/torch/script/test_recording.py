"""When the code of a TorchScript archive is recorded, for which sizes, and what tells the axes of inputs."""

import operator
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import invoke, message, report
from support.randomized import random_cases
from support.script_archives import archive, forward, model

import onward
from onward.errors import ArgumentError, OnwardError
from onward.formats.torch.script.program import Program
from onward.graph.size import Size


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The names of what is known about the inputs of each recording."""
    made: list[Any] = []
    record = Program.record

    def count(program: Program, known: Any, *args: Any, **options: Any) -> Any:
        made.append(known)
        return record(program, known, *args, **options)

    monkeypatch.setattr(Program, "record", count)
    return made


def rows(count: int, columns: int = 3) -> Any:
    return np.random.default_rng(count).integers(-9, 9, (count, columns)).astype(np.float32)


def test_a_file_opens_without_a_recording_and_records_once_for_all_sizes(
    tmp_path: Path, recordings: list[Any]
) -> None:
    program = model(
        tmp_path, "n = torch.size(x, 0)", "return torch.mul(torch.add(x, y), torch.mul(n, torch.sub(n, 1)))",
        signature="self, x: Tensor, y: Tensor",
    )  # fmt: skip
    assert not recordings
    program(rows(4), rows(4))
    count = len(recordings)
    for n in (5, 9, 40):
        np.testing.assert_array_equal(program(rows(n), rows(n)), 2 * rows(n) * n * (n - 1))
    assert len(recordings) == count > 0
    program(rows(4)[None], rows(4)[None])  # another rank
    assert len(recordings) > count


def test_the_code_sees_no_batch_of_one(tmp_path: Path, recordings: list[Any]) -> None:
    """It would compute what it computes with states of zeros, in another order than for other batches."""
    program = model(
        tmp_path, "h = torch.zeros([torch.size(x, 0), 3])", "return torch.add(torch.neg(h), torch.add(x, h))"
    )
    np.testing.assert_array_equal(program(rows(1)), rows(1))
    np.testing.assert_array_equal(program(rows(5)), rows(5))
    assert [[type(size) for size in known["x"].shape] for known in recordings] == [[Size, Size]] * 2


@pytest.mark.parametrize("called", [False, True])
def test_a_table_that_is_cut_to_the_length_of_the_input_fixes_no_length(called: bool, tmp_path: Path) -> None:
    """The examples of sizes were longer than the table, as if all calls were."""
    table = "torch.reshape(torch.arange(60), [1, 20, 3])"
    program = model(
        tmp_path,
        f"y = torch.add(x, torch.slice({table}, 1, 0, torch.size(x, 1)))",
        "return torch.matmul(y, torch.ones([3, 3]))",
    )
    if called:
        program(np.stack([rows(7)] * 2))
    program.save(tmp_path / "m.safetensors")
    saved, positions = onward.load(tmp_path / "m.safetensors"), np.arange(60, dtype=np.float32).reshape(20, 3)
    for length in (1, 2, 7, 19, 20):
        x = np.stack([rows(length), -rows(length)])
        expected = (x + positions[:length]).sum(2, keepdims=True).repeat(3, 2)
        for opened in (program, saved):
            np.testing.assert_array_equal(opened(x), expected)
    with pytest.raises(OnwardError, match="cannot be broadcast"):
        saved(np.stack([rows(21)] * 2))


def test_a_table_for_time_first_gives_the_input_the_axis_of_rows(tmp_path: Path) -> None:
    """With two axes, x (T, 3) + table (T, 1, 3) would pair each step with each other one."""
    table = "torch.reshape(torch.arange(60), [20, 1, 3])"
    program = model(tmp_path, f"return torch.add(x, torch.slice({table}, 0, 0, torch.size(x, 0)))")
    assert program.general_graph().inputs[0].axes == ("x_0", "x_1", 3)


def test_a_tensor_has_as_many_rows_as_the_code_unpacks(tmp_path: Path, recordings: list[Any]) -> None:
    program = model(tmp_path, "a, b, c, = torch.unbind(x)", "return torch.sub(torch.mul(a, b), c)")
    for columns in (1, 4):
        x = rows(3, columns)
        np.testing.assert_array_equal(program(x), x[0] * x[1] - x[2])
    assert len(recordings) == 2  # the number of rows is not tried as that of the call alone
    program.save(tmp_path / "m.safetensors")
    saved, x = onward.load(tmp_path / "m.safetensors"), rows(3, 9)
    np.testing.assert_array_equal(saved(x), x[0] * x[1] - x[2])
    with pytest.raises(OnwardError, match="expected 3 values, got 4"):
        program(rows(4))


def test_sizes_that_break_a_guard_record_the_other_side(tmp_path: Path, recordings: list[Any]) -> None:
    lines = (
        "y = [x]",
        "if torch.gt(torch.floordiv(torch.size(x, 0), 2), 3):",
        "  _0 = torch.append(y, torch.neg(x))",
        "else:",
        "  pass",
        "return torch.cat(y, 0)",
    )
    program = model(tmp_path, *lines)
    counts = []
    for n in (20, 8, 31, 7, 6, 2, 9):
        x = rows(n)
        np.testing.assert_array_equal(program(x), np.concatenate([x, -x][: 1 + (n // 2 > 3)]))
        counts.append(len(recordings))
    assert counts[0] == counts[2] and counts[3] == counts[-1] > counts[0]
    guards = [str(guard) for each in program.programs for guard in each.axes.guards.values()]
    assert any("//" in guard and guard.endswith("> 0") for guard in guards)


def test_the_tables_of_a_file_need_axes_that_the_error_tells(tmp_path: Path) -> None:
    lines = ("return torch.add(torch.linear(x, torch.ones([4, 3])), torch.unsqueeze(y, 1))",)
    path = archive(tmp_path, forward(*lines, signature="self, x: Tensor, y: Tensor"))
    program = onward.load(path)
    with pytest.raises(ArgumentError, match=r'inputs=\{"x": \("float32".*"y": .*or call the model first'):
        program.description()
    program(np.ones((2, 5, 3), np.float32), np.ones((2, 4), np.float32))
    assert [declared.axes for declared in program.general_graph().inputs] == [("x_0", "x_1", 3), ("x_0", 4)]
    declared = onward.load(path, inputs={"x": ("batch", "time", 3), "y": ("batch", 4)})
    assert declared.description()


def test_commands_take_the_inputs_of_a_program(tmp_path: Path) -> None:
    lines = ("return torch.add(torch.mul(x, n), y)",)
    path = archive(tmp_path, forward(*lines, signature="self, x: Tensor, y: Tensor, n: int"))
    assert "inputs=" in message(invoke("info", path, expect=1))
    declared = "x=float32(batch,time,3),y=float64(batch,1,3)"
    assert report("info", path, "--inputs", declared, "--inputs", "n=2")["model"]
    invoke("convert", path, tmp_path / "m.safetensors", "--inputs", f"{declared},n=2", expect=0)
    opened = onward.load(tmp_path / "m.safetensors")
    y = opened(rows(5)[None], np.ones((1, 1, 3)))
    np.testing.assert_array_equal(y, 2 * rows(5)[None] + 1)
    for wrong in ("x", "x=float32(3", "n=two", "x=float32(3),,y=1"):
        assert invoke("info", path, "--inputs", wrong).exit_code == 2


def test_functions_of_lists_of_sizes_reduce_their_elements(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "n = [torch.size(x, 0), torch.size(x, 1), 2]",
        "are = [torch.gt(torch.size(x, 0), 4), torch.gt(torch.size(x, 1), 4)]",
        "if torch.any(are):",
        "  y = torch.mul(x, torch.sum(n))",
        "else:",
        "  y = torch.mul(x, torch.sub(torch.max(n), torch.min(n)))",
        "if torch.all(are):",
        "  y = torch.neg(y)",
        "else:",
        "  pass",
        "return y",
    )
    for shape in ((3, 4), (4, 2), (3, 5), (5, 3), (6, 7), (1, 1)):
        x, n = rows(*shape), [*shape, 2]
        y = x * (sum(n) if max(shape) > 4 else max(n) - min(n)) * (-1 if min(shape) > 4 else 1)
        np.testing.assert_array_equal(program(x), y)
    saved = tmp_path / "m.safetensors"
    program.save(saved)
    np.testing.assert_array_equal(onward.load(saved)(rows(6, 7)), -15 * rows(6, 7))
    np.testing.assert_array_equal(onward.load(saved)(rows(3, 4)), 2 * rows(3, 4))


def test_sizes_that_values_decide_follow_from_rules_and_not_from_examples(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "a = torch.masked_select(x, torch.gt(x, 0))",
        "b = torch.nonzero(torch.slice(x, 0, 0, 4))",
        "c = torch.sort(torch.flatten(x))[0]",
        "d = torch.unique_consecutive(c)[0]",
        "return (torch.cat([a, d]), torch.mul(b, torch.size(b, 0)), torch.add(d, torch.size(d, 0)))",
        returns="Tuple[Tensor, Tensor, Tensor]",
    )
    program.save(tmp_path / "m.safetensors")
    for opened in (program, onward.load(tmp_path / "m.safetensors")):
        for shape in ((1, 1), (2, 5), (4, 3), (5, 3), (40, 7)):
            x = rows(*shape)
            places, distinct = np.argwhere(x[:4]), np.unique(x)
            joined, indices, shifted = opened(x)
            np.testing.assert_array_equal(joined, np.concatenate([x[x > 0], distinct]))
            np.testing.assert_array_equal(indices, places * len(places))
            np.testing.assert_array_equal(shifted, distinct + len(distinct))


def test_positions_along_an_axis_have_its_size(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "T = torch.size(x, 0)",
        "places = torch.unsqueeze(torch.arange(T), 1)",
        "y = torch.where(torch.gt(places, torch.sub(T, 3)), torch.neg(x), x)",
        "return torch.add(y, torch.mul(places, torch.unsqueeze(torch.arange(torch.size(x, 1)), 0)))",
    )
    program.save(tmp_path / "m.safetensors")
    for opened in (program, onward.load(tmp_path / "m.safetensors")):
        for shape in ((1, 1), (2, 5), (4, 3), (40, 7)):
            x, places = rows(*shape), np.arange(shape[0])[:, None]
            expected = np.where(places > shape[0] - 3, -x, x) + places * np.arange(shape[1])
            np.testing.assert_array_equal(opened(x), expected)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("y[-1]", lambda x, parts: parts[-1]),
        ("torch.mul(x, torch.len(y))", lambda x, parts: x * len(parts)),
        ("torch.neg(torch.cat(y))", lambda x, parts: -x),
    ],
)
def test_a_graph_for_all_sizes_reads_no_parts_whose_number_is_open(
    tmp_path: Path, code: str, expected: Callable[[Any, Any], Any]
) -> None:
    program = model(tmp_path, "y = torch.split(x, 2, 0)", f"return {code}")
    for count in (1, 4, 5):
        x = rows(count)
        parts = [x[start : start + 2] for start in range(0, count, 2)]
        np.testing.assert_array_equal(program(x), expected(x, parts))
    with pytest.raises(ArgumentError, match="the code reads elements of a list whose number depends"):
        program.save(tmp_path / "m.safetensors")


def test_the_first_parts_of_an_open_axis_are_those_of_every_size(tmp_path: Path) -> None:
    program = model(tmp_path, "y = torch.split(x, 2, 0)", "return torch.sub(torch.neg(y[0]), y[1])")
    program.save(tmp_path / "m.safetensors")
    for opened in (program, onward.load(tmp_path / "m.safetensors")):
        for count in (4, 5, 30):
            x = rows(count)
            np.testing.assert_array_equal(opened(x), -x[:2] - x[2:4])


def test_a_late_part_of_an_open_axis_is_read_and_is_an_error_where_the_axis_is_too_short(
    tmp_path: Path,
) -> None:
    program = model(tmp_path, "y = torch.split(x, 2, 0)", "return torch.neg(y[9])")
    program.save(tmp_path / "m.safetensors")
    for opened in (program, onward.load(tmp_path / "m.safetensors")):
        for count in (19, 20, 31):
            np.testing.assert_array_equal(opened(rows(count)), -rows(count)[18:20])
    with pytest.raises(ArgumentError, match="an axis has no part 9: it is too short"):
        opened(rows(18))


def test_results_in_place_have_the_shape_of_the_tensor(tmp_path: Path) -> None:
    """Others, which PyTorch refuses, became the value of the tensor."""
    lines = ("y = torch.zeros([1, 3])", "_0 = torch.add_(y, x)", "return y")
    program = model(tmp_path, *lines)
    np.testing.assert_array_equal(program(rows(1)), rows(1))
    for x, problem in ((rows(2), "2 elements along axis 0"), (rows(1)[None], "3 axes")):
        with pytest.raises(ArgumentError, match=f"a value of {problem} is written into"):
            program(x)


def test_a_graph_for_all_sizes_has_windows_longer_than_the_first_examples_of_sizes(tmp_path: Path) -> None:
    program = model(tmp_path, "return torch.conv1d(x, torch.ones([2, 1, 400]))")
    program.save(tmp_path / "m.safetensors")
    x = rows(1, 404)[None]
    np.testing.assert_array_equal(onward.load(tmp_path / "m.safetensors")(x), program(x))
    assert program(x).shape == (1, 2, 5)


OPERATORS: dict[str, Callable[..., Any]] = {
    "torch.add": lambda a, b: a + b, "torch.sub": lambda a, b: a - b, "torch.mul": lambda a, b: a * b,
    "torch.floordiv": lambda a, b: a // b, "torch.remainder": lambda a, b: a % b,
    "ops.prim.max": max, "ops.prim.min": min, "torch.max": max, "torch.min": min,
}  # fmt: skip


def expression(
    random: np.random.Generator, depth: int, lines: list[str]
) -> tuple[str, Callable[[int, int], int]]:
    """Return code that computes a number from the sizes T and C after some lines, and the function."""
    kind = random.integers(6 if depth else 2)
    if kind == 0:
        n = int(random.integers(1, 6))
        return str(n), lambda T, C: n
    if kind == 1:
        axis = int(random.integers(2))
        return f"torch.size(x, {axis})", lambda *sizes: sizes[axis]
    (a, f), (b, g), (c, h) = (expression(random, depth - 1, lines) for _ in range(3))
    if kind == 2:
        name = str(random.choice([*OPERATORS]))
        if name in ("torch.floordiv", "torch.remainder"):
            c, h = b, g
            b, g = f"ops.prim.max({c}, 1)", lambda T, C: max(h(T, C), 1)
        return f"{name}({a}, {b})", lambda T, C: OPERATORS[name](f(T, C), g(T, C))
    if kind == 3:
        name, of_all = (("sum", sum), ("max", max), ("min", min))[random.integers(3)]
        return f"torch.{name}([{a}, {b}, {c}])", lambda T, C: of_all([f(T, C), g(T, C), h(T, C)])
    if kind == 4:
        factor = random.integers(1, 30) / 10  # which float32 does not represent
        return f"int(torch.mul(float({a}), {factor}))", lambda T, C: int(f(T, C) * factor)
    name, holds = (("gt", operator.gt), ("le", operator.le), ("eq", operator.eq))[random.integers(3)]
    chosen = f"n{len(lines)}"
    lines += [f"if torch.{name}({b}, {c}):", f"  {chosen} = {a}", "else:", f"  {chosen} = {b}"]
    return chosen, lambda T, C: f(T, C) if holds(g(T, C), h(T, C)) else g(T, C)


def test_arithmetic_of_sizes_holds_for_all_sizes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for _ in range(random_cases(20)):
        lines: list[str] = []
        last, expected = expression(random, 3, lines)
        code = "\n".join([*lines, f"n = {last}"])
        program = model(tmp_path, *code.split("\n"), "return torch.add(torch.mul(x, 0), n)")
        saved = tmp_path / "m.safetensors"
        for shape in ((3, 5), (7, 2), (10, 30), (5, 5), (1, 4), (12, 1)):
            x, wanted = rows(*shape), float(expected(*shape))
            np.testing.assert_array_equal(program(x), np.full(shape, np.float32(wanted)), err_msg=code)
            program.save(saved)
            np.testing.assert_array_equal(onward.load(saved)(x), program(x), err_msg=code)


@pytest.mark.parametrize(
    "parts", ["torch.chunk(x, 2, 0)", "torch.split(x, torch.floordiv(torch.add(torch.size(x, 0), 1), 2), 0)"]
)
def test_the_number_of_parts_is_that_of_the_recording(parts: str, tmp_path: Path) -> None:
    program = model(tmp_path, f"y = {parts}", "return torch.cat([y[-1], y[0]])")
    program.save(tmp_path / "m.safetensors")
    saved = onward.load(tmp_path / "m.safetensors")
    for count in (2, 5, 40):
        x, half = rows(count), (count + 1) // 2
        for opened in (program, saved):
            np.testing.assert_array_equal(opened(x), np.concatenate([x[half:], x[:half]]))
    np.testing.assert_array_equal(program(rows(1)), rows(1).repeat(2, 0))  # a single part
    with pytest.raises(ArgumentError, match="an axis does not have 2 parts"):
        saved(rows(1))


def test_a_call_without_elements_tells_no_sizes(tmp_path: Path) -> None:
    """It was a ZeroDivisionError in what reads the sizes of the last call."""
    program = model(tmp_path, "return torch.view(x, [torch.size(x, 0), -1, 2])")
    program(np.ones((2, 4, 4), np.float32))
    for empty in ((0, 4, 4), (3, 0, 4)):
        with suppress(OnwardError):
            program(np.ones(empty, np.float32))
        with suppress(OnwardError):
            program.save(tmp_path / "m.safetensors")
    x = np.arange(48, dtype=np.float32).reshape(3, 4, 4)
    np.testing.assert_array_equal(program(x), x.reshape(3, -1, 2))


def test_numbers_that_values_decide_differ_between_nodes_on_values_of_one_shape(tmp_path: Path) -> None:
    program = model(
        tmp_path, "n = torch.size(torch.nonzero(x), 0)", "m = torch.size(torch.nonzero(torch.relu(x)), 0)",
        "return torch.mul(x, torch.sub(n, m))",
    )  # fmt: skip
    for x in np.array([[[1.0, 0, -3]], [[-2, -5, 0]], [[0, 4, 7]]], np.float32):
        np.testing.assert_array_equal(program(x), x * (x < 0).sum())
