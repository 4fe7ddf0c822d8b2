"""TorchScript archives without torch: stored programs, hand-written code, and code that must not run."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support
from support.hostile import bounded
from support.pickles import tensor
from support.script_archives import archive, forward, model

import onward
from onward.core import budget
from onward.errors import ArgumentError, DtypeError, FileError, OnwardError
from onward.graph.plan.builder import Builder

DATA = support.DATA / "torch"


X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2


# Stored programs.


@pytest.mark.parametrize("name", ["script", "trace"])
def test_a_stored_program_gives_the_outputs_of_torch(name: str) -> None:
    answer = np.load(DATA / "answer.npz")
    y = onward.load(DATA / f"{name}.pt")(answer["x"])
    np.testing.assert_allclose(y, answer["y"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["front_script", "front_trace"])
def test_a_stored_front_end_gives_the_outputs_of_torch(name: str) -> None:
    answer = np.load(DATA / "front_answer.npz")
    program = onward.load(DATA / f"{name}.pt")
    for batch in (answer["x"], answer["x"][:1]):
        y = program(batch)
        np.testing.assert_allclose(y, answer["y"][: len(batch)], rtol=0, atol=1e-5)


def test_a_part_is_a_program_of_its_own() -> None:
    answer = np.load(DATA / "answer.npz")
    path = DATA / "script.pt"
    y = onward.load(path, part="embedding")(answer["x"])
    y = onward.load(path, part="lstm")(y)[0]
    y = onward.load(path, part="rnn")(y)[0]
    y = onward.load(path, part="head")(y)
    np.testing.assert_allclose(y, answer["y"], rtol=0, atol=1e-6)


def test_unknown_parts_and_methods_are_named() -> None:
    with pytest.raises(FileError, match="has no part decoder; it has embedding, lstm, rnn, head"):
        onward.load(DATA / "script.pt", part="decoder")
    with pytest.raises(FileError, match="has no method encode; it has forward"):
        onward.load(DATA / "script.pt", method="encode")
    with pytest.raises(ArgumentError, match="they apply to TorchScript files only"):
        onward.load(DATA / "whole.pt", part="head")


# The language.


def test_numbers_lists_and_loops_are_evaluated(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "sizes = annotate(List[int], [])",
        "for i in range(torch.len(torch.size(x))):",
        "  _0 = torch.append(sizes, torch.size(x, i))",
        "n = 0",
        "while torch.lt(n, 3):",
        "  n = torch.add(n, 1)",
        "if torch.eq(sizes, [2, 3]):",
        "  y = torch.mul(x, n)",
        "else:",
        '  ops.prim.RaiseException(torch.format("size {}", sizes), "builtins.ValueError")',
        "  y = x",
        "return y",
    )
    np.testing.assert_array_equal(program(X), 3 * X)
    with pytest.raises(ArgumentError, match=r"code/__torch__.py, line 13: the code raises .*: size \[3, 2\]"):
        program(X.T)


def test_both_sides_of_a_branch_on_a_tensor_are_recorded(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "n = 1",
        "if bool(torch.gt(torch.sum(x), 0)):",
        "  y, n = torch.mul(x, 2), 5",
        "else:",
        "  y = torch.neg(x)",
        "return torch.add(y, n)",
    )
    np.testing.assert_array_equal(program(X), 2 * X + 5)
    np.testing.assert_array_equal(program(-X), X + 1)


def test_a_side_that_raises_becomes_a_check(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "if bool(torch.gt(torch.sum(x), 0)):",
        '  ops.prim.RaiseException("too large", "builtins.ValueError")',
        "else:",
        "  pass",
        "return torch.neg(x)",
    )
    np.testing.assert_array_equal(program(-X), X)
    with pytest.raises(ArgumentError, match=r"line 5: the code raises builtins\.ValueError: too large"):
        program(X)


def test_a_value_of_one_side_only_cannot_be_used(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "if bool(torch.gt(torch.sum(x), 0)):",
        "  y = x",
        "else:",
        "  y = None",
        "return torch.neg(y)",
    )
    with pytest.raises(ArgumentError, match=r"line 8: the sides of a branch .* a NoneType and a Tensor"):
        program(X)


def test_views_change_with_the_tensor_that_they_show(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "y = torch.clone(x)",
        "row = torch.select(y, 0, 1)",
        "_0 = torch.mul_(y, 2)",
        "_1 = torch.add_(torch.slice(row, 0, 1), 10)",
        "return (y, row)",
        returns="Tuple[Tensor, Tensor]",
    )
    y, row = program(X)
    expected = 2 * X
    expected[1, 1:] += 10
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(row, expected[1])


@pytest.mark.parametrize("split", ["torch.chunk(y, 2, 1)", "torch.split(y, 2, -1)"])
def test_parts_of_a_known_size_may_differ_from_the_last_one_and_are_views(tmp_path: Path, split: str) -> None:
    program = model(
        tmp_path,
        "y = torch.add(torch.reshape(x, [2, 3]), 1)",
        f"first, last, = {split}",
        "_0 = torch.neg_(last)",
        "return (first, last, y)",
        returns="Tuple[Tensor, Tensor, Tensor]",
    )
    first, last, y = program(X)
    expected = (X + 1) * np.array([1, 1, -1], np.float32)
    for found, right in ((first, expected[:, :2]), (last, expected[:, 2:]), (y, expected)):
        np.testing.assert_array_equal(found, right)


def test_assigned_attributes_are_carries_that_start_from_the_file(tmp_path: Path) -> None:
    body = forward(
        "count = self.count", "self.count = torch.add(count, 1)", "return torch.add(x, self.count)"
    )
    state = b"}X\x05\x00\x00\x00countK\x07s"
    program = onward.load(archive(tmp_path, body, "  count : int\n", state=state))
    assert (program.inputs, program.outputs) == (("x", "count"), ("output", "count_out"))
    for _ in range(2):  # a call does not change the model
        y, count = program(X)
        np.testing.assert_array_equal(y, X + 8)
        assert count == 8
    np.testing.assert_array_equal(program(X, count)[0], X + 9)
    for start in range(20):  # more values than there are plans
        np.testing.assert_array_equal(program(X, start)[0], X + start + 1)


def test_attributes_are_carries_whatever_the_code_calls_the_module(tmp_path: Path) -> None:
    body = forward(
        "count = self.count", "self.count = torch.add(count, 1)", "return torch.add(x, self.count)"
    )
    state = b"}X\x05\x00\x00\x00countK\x07s"
    path = archive(tmp_path, body.replace("self", "module"), "  count : int\n", state=state)
    assert onward.load(path).carries == {"count": "count_out"}


def test_code_that_fixes_an_axis_is_compiled_for_its_size_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = model(tmp_path, "y = torch.add(x, torch.ones([3]))", "return torch.tanh(y)")
    functions, add = list[str](), Builder.add

    def counted(builder: Builder, step: str, *arguments: Any) -> None:
        functions.append(str(arguments[0]))
        add(builder, step, *arguments)

    monkeypatch.setattr(Builder, "add", counted)
    np.testing.assert_allclose(program(X), np.tanh(X + 1), rtol=1e-6)
    assert sum("tanh" in each for each in functions) == 1


def test_a_list_for_inputs_of_another_rank_stays_a_list(tmp_path: Path) -> None:
    program = model(tmp_path, "y = torch.add(x, 1)", "return [y, x]", returns="List[Tensor]")
    for x in (X, X[0], X[None]):
        y, same = program(x)
        np.testing.assert_array_equal(y, x + 1)
        np.testing.assert_array_equal(same, x)


def test_a_stream_carries_the_attributes_from_call_to_call(tmp_path: Path) -> None:
    body = forward("past = self.past", "self.past = torch.cat([past, x])", "return torch.sum(self.past, [0])")
    state = b"}X\x04\x00\x00\x00past" + tensor((1, 3)) + b"s"
    path = archive(tmp_path, body, "  past : Tensor\n", state=state)
    with zipfile.ZipFile(path, "a") as members:
        members.writestr("m/data/0", np.ones(3, "<f4").tobytes())
    program = onward.load(path)
    stream = program.stream()
    for calls in range(1, 4):
        np.testing.assert_array_equal(stream(X), 1 + calls * X.sum(0))
    stream.reset()
    np.testing.assert_array_equal(stream(X), 1 + X.sum(0))
    copied = pickle.loads(pickle.dumps(program))
    np.testing.assert_array_equal(copied(X)[0], 1 + X.sum(0))


def test_numbers_among_the_inputs_decide_branches_and_sizes(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "if flag:",
        "  y = torch.slice(x, 1, 0, n)",
        "else:",
        "  y = torch.mul(x, scale)",
        "return y",
        signature="self, x: Tensor, n: int, flag: bool=True, scale: float=2.",
    )
    np.testing.assert_array_equal(program(X, 2), X[:, :2])
    np.testing.assert_array_equal(program(X, 2, False), 2 * X)
    np.testing.assert_array_equal(program(X, 2, False, np.float32(3)), 3 * X)


def test_a_mask_selects_rows_whose_number_only_a_call_knows(tmp_path: Path) -> None:
    program = model(tmp_path, "return torch.mul(torch.index(x, [torch.gt(x, 0)]), 2)")
    np.testing.assert_array_equal(program(X), 2 * X[X > 0])


# Code that must not run, or never ends.

NOTHING = "return x"
DEEP = "(" * 150 + "x" + ",)" * 150
HOSTILE: dict[str, tuple[str, ...]] = {
    "import": ('_0 = __import__("os").system("touch ran")', NOTHING),
    "import statement": ("import os", NOTHING),
    "attributes": ("_0 = x.__class__.__mro__.__getitem__(1).__subclasses__()", NOTHING),
    "attributes of a function": ('_0 = torch.add.__globals__["os"]', NOTHING),
    "getattr": ('_0 = getattr(x, "__class__")', NOTHING),
    "eval": ('_0 = eval("1")', NOTHING),
    "open": ('_0 = open("ran", "w")', NOTHING),
    "long chain of attributes": ("_0 = torch" + ".a" * 20_000, NOTHING),
    "comprehension": ("_0 = [i for i in range(1000000000)]", NOTHING),
    "long range": ("for i in range(1000000000):", "  pass", NOTHING),
    "nested ranges": (
        *("  " * i + f"for i{i} in range(1000):" for i in range(8)),
        "  " * 8 + "pass",
        NOTHING,
    ),
    "nested loops of unknown length": (
        "y = 0",
        *("  " * i + f"for i{i} in range(int(torch.sum(x))):" for i in range(30)),
        "  " * 30 + "y = torch.add(y, i29)",
        "return torch.add(x, y)",
    ),
    "endless loop": ("while True:", "  pass", NOTHING),
    "endless list": ("y = [1]", "while True:", "  _0 = torch.append(y, 1)", NOTHING),
    "doubled list": ("y = [1]", "while True:", "  y = torch.add(y, y)", NOTHING),
    "doubled string": ('y = "ab"', "while True:", "  y = torch.add(y, y)", NOTHING),
    "doubled tuple": ("y = (1, 1)", "for i in range(60):", "  y = (y, y)", "_0 = torch.eq(y, y)", NOTHING),
    "doubled tuple in a branch": (
        *("y = (x, x)", "if bool(torch.gt(torch.sum(x), 0)):", "  for i in range(60):", "    y = (y, y)"),
        *("else:", "  y = (x, x)", NOTHING),
    ),
    "chain of attributes": ("_0 = torch" + ".a" * 1500, "_1 = torch.add_(x, 1)", NOTHING),
    "repeated list": ("y = torch.mul([1], 1000000000000)", NOTHING),
    "recursion": ("return (self).forward(x, )",),
    "calls that multiply": ("_0 = (self).forward(x, )", "_1 = (self).forward(x, )", NOTHING),
    "huge product": ("y = 2", "while True:", "  y = torch.mul(y, y)", NOTHING),
    "huge integer": (f"y = {'9' * 5000}", NOTHING),
    "huge shift": ("y = torch.__lshift__(1, 1000000000)", NOTHING),
    "huge tensor": ("return torch.add(x, torch.zeros([1000000, 1000000]))",),
    "many tensors": ("y = x", "while True:", "  y = torch.add(y, 1)", NOTHING),
    "many constants": ("y = [x]", "while True:", "  _0 = torch.append(y, torch.zeros([1000000]))", NOTHING),
    "deep nesting": (f"return {DEEP}",),
    "deeper nesting": (f"return {'(' * 5000}x{')' * 5000}",),
    "many signs": (f"return {'-' * 50_000}1",),
    "deep statements": (*("  " * i + "if True:" for i in range(98)), "  " * 98 + "pass", NOTHING),
    "unknown operator": ("return torch.launch_missiles(x)",),
    "unknown function": ("return __torch__.os.system(x)",),
    "unknown class": ("return __torch__.Missing.__new__(__torch__.Missing)",),
    "wrong arguments": ("return torch.linear(x, 3, 4, 5, 6, 7)",),
    "wrong types": ('return torch.add(x, "a")',),
    "lambda": ("f = lambda y: y", "return f(x)"),
    "walrus": ("return (y := x)",),
    "starred": ("return torch.add(*[x, x])",),
    "format": ('_0 = "{0.__class__}".format(x)', NOTHING),
    "missing name": ("return y",),
    "syntax error": ("return (",),
    "zero step": ("for i in range(0, 9, 0):", "  pass", NOTHING),
    "division by zero": ("y = torch.floordiv(1, 0)", NOTHING),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_code_is_refused_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(budget, "WORK_OF_ANY_FILE", 10**8)  # a tenth of the limits, for a tenth of the time
    monkeypatch.setattr(budget, "MEMORY_OF_ANY_FILE", 1 << 23)
    path = archive(tmp_path, forward(*HOSTILE[name]))
    with (
        bounded(seconds=1),
        pytest.raises(OnwardError, match=r"code/__torch__\.py|nested too deeply|are allowed"),
    ):
        onward.load(path)(X)
    assert [file.name for file in tmp_path.iterdir()] == ["m.pt"]


def test_a_decorator_is_refused(tmp_path: Path) -> None:
    body = forward(NOTHING).replace("  def", "  @staticmethod\n  def")
    with pytest.raises(OnwardError, match="decorator"):
        onward.load(archive(tmp_path, body))(X)


def test_a_module_that_contains_itself_opens(tmp_path: Path) -> None:
    pickled = b"\x80\x02c__torch__\nM\n)\x81q\x00}X\x05\x00\x00\x00innerh\x00sb."
    path = archive(tmp_path, forward(NOTHING))
    with zipfile.ZipFile(path) as members:
        code = members.read("m/code/__torch__.py")
    with zipfile.ZipFile(path, "w") as members:
        members.writestr("m/data.pkl", pickled)
        members.writestr("m/code/__torch__.py", code)
    np.testing.assert_array_equal(onward.load(path)(X), X)


# One graph for all sizes.


def test_a_check_of_a_size_becomes_the_size_of_the_input(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "if torch.ne(torch.size(x, 1), 3):",
        '  ops.prim.RaiseException(torch.format("size {}", torch.size(x, 1)), "builtins.ValueError")',
        "else:",
        "  pass",
        "if torch.gt(torch.size(x, 0), 5):",
        "  y = torch.slice(x, 0, 0, 5)",
        "else:",
        "  y = x",
        "return torch.neg(y)",
    )
    assert program.general_graph().inputs[0].axes == ("x_0", 3)
    program.save(tmp_path / "m.safetensors")
    restored = onward.load(tmp_path / "m.safetensors")
    for rows in (1, 5, 6, 9):
        x = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
        np.testing.assert_array_equal(restored(x), -x[:5])


def test_a_check_of_values_survives_saving(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "if bool(torch.gt(torch.sum(x), 0)):",
        '  ops.prim.RaiseException("too large", "builtins.ValueError")',
        "else:",
        "  pass",
        "return torch.neg(x)",
    )
    program.save(tmp_path / "m.safetensors")
    restored = onward.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(restored(-X), X)
    with pytest.raises(ArgumentError, match="too large"):
        restored(X)


def test_declared_inputs_are_the_axes_and_values_of_the_graph(tmp_path: Path) -> None:
    lines = ("y = x", "for i in range(n):", "  y = torch.add(y, torch.size(x, 0))", "return y")
    path = archive(tmp_path, forward(*lines, signature="self, x: Tensor, n: int"))
    program = onward.load(path, inputs={"x": ("rows", 3), "n": 2})
    assert program.inputs == ("x",)
    np.testing.assert_array_equal(program(X), X + 4)
    with pytest.raises(FileError, match="unknown inputs: z"):
        onward.load(path, inputs={"z": 1})
    with pytest.raises(FileError, match="expected sizes and names"):
        onward.load(path, inputs={"x": (2.5,), "n": 2})


def test_a_state_that_the_first_call_creates_starts_at_zeros(tmp_path: Path) -> None:
    body = forward(
        "if torch.eq(torch.len(self.past), 0):",
        "  self.past = torch.zeros([torch.size(x, 0), 2])",
        "else:",
        "  pass",
        "y = torch.cat([self.past, x], 1)",
        "self.past = torch.slice(y, 1, -2)",
        "return torch.sum(y, [1])",
    )
    state = b"}X\x04\x00\x00\x00past" + tensor((0,)) + b"s"
    path = archive(tmp_path, body, "  past : Tensor\n", state=state)
    with zipfile.ZipFile(path, "a") as members:
        members.writestr("m/data/0", b"")
    program = onward.load(path, inputs={"x": ("batch", "samples")})
    assert program.carries == {"past": "past_out"}
    pool = program.pool(4)
    ids = pool.open(2)
    np.testing.assert_array_equal(pool.step(ids[:1], X[:1]), X[:1].sum(1))
    np.testing.assert_array_equal(pool.step(ids, X), X.sum(1) + np.array([X[0, 1:].sum(), 0]))


def test_two_inputs_that_are_both_tokens_are_recorded_for_all_sizes(tmp_path: Path) -> None:
    opened = model(
        tmp_path,
        "w = torch.ones([9, 3])",
        "source = torch.sum(torch.permute(torch.embedding(w, src), [0, 2, 1]), [2])",
        "return torch.add(source, torch.sum(torch.permute(torch.embedding(w, tgt), [0, 2, 1]), [2]))",
        signature="self, src: Tensor, tgt: Tensor",
    )
    src, tgt = np.zeros((2, 7), np.int64), np.ones((2, 5), np.int64)
    with pytest.raises(
        ArgumentError, match=r'inputs=\{"src": \("float32".*"tgt": .* or call the model first'
    ):
        opened.save(tmp_path / "m.safetensors")
    opened(src[:1], tgt[:1, :3])
    opened.save(tmp_path / "m.safetensors")
    saved = onward.load(tmp_path / "m.safetensors")
    assert np.array_equal(saved(src, tgt), np.full((2, 3), 12, np.float32))


def test_inputs_without_a_declared_dtype_keep_theirs(tmp_path: Path) -> None:
    program = model(tmp_path, "return torch.cat([x, x])")
    for dtype in (np.bool_, np.uint8, np.int64, np.float16, np.float64, np.float32):
        y = program(np.ones((2, 3), dtype))
        assert y.dtype == dtype and y.shape == (4, 3)
    assert program([[1.0, 2.0]]).dtype == np.float32
    with pytest.raises(
        DtypeError, match="recorded for float32, since the file states no dtype: pass inputs="
    ):
        next(iter(program.stream(time_axis=1)(np.ones((1, 4), np.int64))))
