"""Loops of TorchScript whose length only a call knows, and lists that loops and branches change."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.script_archives import model

import onward
from onward.errors import ArgumentError, ShapeError

X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2


def test_the_value_of_a_tensor_decides_the_number_of_iterations(tmp_path: Path) -> None:
    program = model(
        tmp_path, "y = x", "for i in range(int(torch.sum(x))):", "  y = torch.add(y, i)", "return y"
    )
    for total in (0, 1, 3, 40):
        x = np.array([total, 0], np.float32)
        np.testing.assert_array_equal(program(x), x + total * (total - 1) // 2)


def test_a_while_loop_ends_when_a_tensor_says_so(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "y = x",
        "n = 0",
        "_0 = bool(torch.lt(torch.sum(y), 100))",
        "while _0:",
        "  y = torch.mul(y, 2)",
        "  n = torch.add(n, 1)",
        "  _0 = bool(torch.lt(torch.sum(y), 100))",
        "return torch.add(y, n)",
    )
    np.testing.assert_array_equal(program(np.float32([3, 4])), np.float32([48, 64]) + 4)
    np.testing.assert_array_equal(program(np.float32([300, 4])), np.float32([300, 4]))


STACKED = ("for t in range(torch.size(x, 0)):", "  h = torch.add(torch.select(x, 0, t), h)")


@pytest.mark.parametrize("rows", [1, 2, 17, 50])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("  _1 = torch.append(y, h)", "return torch.stack(y)"), lambda s: s),
        (("  torch.insert(y, 0, h)", "return torch.stack(y)"), lambda s: s[::-1]),
        (("  y = torch.add(y, [h, h])", "return torch.stack(y)"), lambda s: s.repeat(2, 0)),
        (("  _1 = torch.append(y, h)", "torch.reverse(y)", "return torch.stack(y, 1)"), lambda s: s[::-1].T),
        (("  _1 = torch.append(y, h)", "return torch.cat(y)"), np.ravel),
        (("  _1 = torch.append(y, h)", "return y[-1]"), lambda s: s[-1]),
        (("  _1 = torch.append(y, h)", "return torch.add(y[0], torch.len(y))"), lambda s: s[0] + len(s)),
        (("  _1 = torch.append(y, h)", "return torch.stack(torch.slice(y, 1))"), lambda s: s[1:]),
        (
            ("  _1 = torch.append(y, (h, torch.neg(h)))", "a, b, = y[-1]", "return torch.sub(a, b)"),
            lambda s: 2 * s[-1],
        ),
        (("  _1 = torch.append(y, torch.item(torch.sum(h)))", "return torch.tensor(y)"), lambda s: s.sum(1)),
        (
            (
                "  _1 = torch.append(y, h)",
                "_2 = torch.append(y, x)",
                "_3 = torch.pop(y)",
                "return torch.stack(y)",
            ),
            lambda s: s,
        ),
        (("  _1 = torch.append(y, h)", "_2 = torch.append(y, x[0])", "return torch.stack(y)"), None),
    ],
)
def test_a_loop_over_steps_collects_a_list(lines: Any, expected: Any, rows: int, tmp_path: Path) -> None:
    start = ("h = torch.zeros([torch.size(x, 1)])", "y = annotate(List[Tensor], [])")
    program = model(tmp_path, *start, *STACKED, *lines)
    assert program.description()  # one graph for all sizes
    x = np.random.default_rng(0).integers(-9, 9, (rows, 3)).astype(np.float32)
    sums = x.cumsum(0)
    if expected is None:
        np.testing.assert_array_equal(program(x), np.vstack([sums, x[:1]]))
    elif rows > 1 or expected(sums).size:
        np.testing.assert_array_equal(program(x), expected(sums))


def test_a_loop_that_writes_the_first_steps_of_a_tensor_keeps_the_others(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "y = torch.ones([torch.add(torch.size(x, 0), 2), torch.size(x, 1)])",
        "for i in range(torch.size(x, 0)):",
        "  _0 = torch.copy_(torch.select(y, 0, i), torch.mul(torch.select(x, 0, i), 2))",
        "return y",
    )
    program(X)
    program.save(tmp_path / "m.safetensors")
    for opened in (program, onward.load(tmp_path / "m.safetensors")):
        for rows in (1, 2, 30):
            x = np.random.default_rng(rows).integers(-9, 9, (rows, 3)).astype(np.float32)
            np.testing.assert_array_equal(opened(x), np.vstack([2 * x, np.ones((2, 3), np.float32)]))


def test_a_variable_without_a_value_before_a_loop_gets_that_of_the_last_iteration(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "h, n = uninitialized(Tensor), uninitialized(int)",
        "for i in range(torch.size(x, 0)):",
        "  h, n = torch.add(torch.select(x, 0, i), 1), torch.mul(i, 2)",
        "return torch.add(h, n)",
    )
    for rows in (1, 2, 30):
        x = np.random.default_rng(rows).integers(-9, 9, (rows, 3)).astype(np.float32)
        np.testing.assert_array_equal(program(x), x[-1] + 1 + 2 * (rows - 1))


def test_tensors_that_share_memory_stay_apart_from_those_that_a_loop_carries(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "y = torch.zeros([torch.size(x, 1)])",
        "z = torch.zeros([torch.size(x, 0), torch.size(x, 1)])",
        "for t in range(torch.size(x, 0)):",
        "  _0 = torch.add_(y, torch.select(x, 0, t))",
        "  _1 = torch.copy_(torch.select(z, 0, t), y)",
        "  _2 = torch.mul_(torch.slice(y, 0, 0, 1), 2)",
        "return (y, z)",
        returns="Tuple[Tensor, Tensor]",
    )
    assert program.description()  # one graph for all sizes
    x = np.random.default_rng(0).integers(-9, 9, (20, 3)).astype(np.float32)
    y, z = np.zeros(3, np.float32), np.zeros_like(x)
    for t in range(20):
        y += x[t]
        z[t] = y
        y[0] *= 2
    for actual, expected in zip(program(x), (y, z), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_steps_of_different_shapes_are_recorded_for_each_size(tmp_path: Path) -> None:
    lines = (
        "y = annotate(List[Tensor], [])",
        "for t in range(torch.size(x, 0)):",
        "  _0 = torch.append(y, torch.slice(x, 0, 0, t))",
        "return torch.cat(y)",
    )
    program = model(tmp_path, *lines)
    expected = np.concatenate([X[:t] for t in range(2)])
    np.testing.assert_array_equal(program(X), expected)
    with pytest.raises(ArgumentError, match=r"code/__torch__.py, line 5: the shape of an element .*inputs="):
        program.save(tmp_path / "m.safetensors")
    fixed = onward.load(tmp_path / "m.pt", inputs={"x": X.shape})
    fixed.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(onward.load(tmp_path / "m.safetensors")(X), expected)


def test_a_list_that_a_branch_changes_has_the_elements_of_its_side(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "y = [x, torch.neg(x)]",
        "if bool(torch.gt(torch.sum(x), 0)):",
        "  _0 = torch._set_item(y, 0, torch.mul(x, 2))",
        "else:",
        "  torch.reverse(y)",
        "return torch.stack(y)",
    )
    np.testing.assert_array_equal(program(X), [2 * X, -X])
    np.testing.assert_array_equal(program(-X), [X, -X])


def test_branches_and_loops_may_have_checks_alone(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "if bool(torch.gt(torch.sum(x), 0)):",
        "  for t in range(torch.size(x, 0)):",
        "    if bool(torch.gt(torch.sum(torch.select(x, 0, t)), 9)):",
        '      ops.prim.RaiseException("too large", "builtins.ValueError")',
        "    else:",
        "      _0 = torch.neg(x)",
        "else:",
        "  pass",
        "return torch.neg(x)",
    )
    np.testing.assert_array_equal(program(X), -X)
    np.testing.assert_array_equal(program(np.tile(X, (20, 1))), -np.tile(X, (20, 1)))
    with pytest.raises(ArgumentError, match=r"line 7: the code raises builtins\.ValueError: too large"):
        program(np.vstack([X, X + 9]))


def test_shapes_that_the_code_does_not_accept_name_its_line_and_the_inputs(tmp_path: Path) -> None:
    program = model(
        tmp_path, "z = torch.neg(x)", "return torch.add(z, y)", signature="self, x: Tensor, y: Tensor"
    )
    np.testing.assert_array_equal(program(X, X), np.zeros_like(X))
    with pytest.raises(ShapeError, match=r"^code/__torch__.py, line 5: .*\(7, 3\).* x \(2, 3\), y \(7, 3\)$"):
        program(X, np.ones((7, 3), np.float32))


def test_a_loop_without_iterations_gives_what_the_code_gives(tmp_path: Path) -> None:
    lines = ("h = torch.zeros([1, 1])", *STACKED, "return h")
    program = model(tmp_path, *lines)
    np.testing.assert_array_equal(program(X), X.sum(0, keepdims=True))
    np.testing.assert_array_equal(program(X[:0]), np.zeros((1, 1)))


def test_a_view_that_a_branch_made_is_not_written(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "if bool(torch.gt(torch.sum(x), 0)):",
        "  y = torch.select(x, 0, 0)",
        "else:",
        "  y = torch.select(x, 0, 1)",
        "_0 = torch.add_(y, 1)",
        "return x",
    )
    with pytest.raises(ArgumentError, match="line 8: the code writes into a tensor whose memory differs"):
        program(X)


def test_a_tensor_that_a_branch_made_with_a_view_of_it_is_not_written(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "if bool(torch.gt(torch.sum(x), 0)):",
        "  y = torch.clone(x)",
        "  z = torch.select(y, 0, 0)",
        "else:",
        "  y = torch.neg(x)",
        "  z = torch.select(y, 0, 1)",
        "_0 = torch.add_(y, 1)",
        "return z",
    )
    with pytest.raises(ArgumentError, match="line 10: the code writes into a tensor whose memory differs"):
        program(X)


def test_a_view_that_a_loop_made_follows_the_tensor_that_it_made(tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "y = torch.clone(torch.select(x, 0, 0))",
        "z = torch.slice(y, 0, 0, 1)",
        "for t in range(torch.size(x, 0)):",
        "  y = torch.mul(torch.select(x, 0, t), 2)",
        "  z = torch.slice(y, 0, 0, 1)",
        "_0 = torch.add_(y, 1)",
        "return z",
    )
    np.testing.assert_array_equal(program(X), 2 * X[-1, :1] + 1)
