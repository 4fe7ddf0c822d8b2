"""Branches that depend on the values of tensors leave what their sides changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.script_archives import model

X = np.random.default_rng(0).integers(1, 9, (4, 3)).astype(np.float32)


@pytest.fixture(params=[1, -1])
def x(request: pytest.FixtureRequest) -> Any:
    """Inputs that select the first and the second side."""
    return X * request.param


def branch(first: list[str], second: list[str]) -> list[str]:
    """Return the lines of a branch on the sum of x."""
    indented = [[f"  {line}" for line in side] for side in (first, second)]
    return ["if bool(torch.gt(torch.sum(x), 0)):", *indented[0], "else:", *indented[1]]


def test_a_view_shows_in_a_branch_and_after_it_what_the_branch_wrote(x: Any, tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "y = torch.clone(x)",
        "row = torch.select(y, 0, 1)",
        *branch(["_0 = torch.mul_(y, 2)", "z = torch.add(row, 1)"], ["z = torch.neg(row)"]),
        "return (y, row, z)",
        returns="Tuple[Tensor, Tensor, Tensor]",
    )
    y = 2 * x if x.sum() > 0 else x
    for found, expected in zip(program(x), (y, y[1], y[1] + 1 if x.sum() > 0 else -y[1]), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_parts_that_a_branch_wrote_follow_later_writes(x: Any, tmp_path: Path) -> None:
    program = model(
        tmp_path,
        "y = torch.clone(x)",
        "first, last, = torch.chunk(y, 2, 0)",
        *branch(["_0 = torch.neg_(last)"], ["_1 = torch.mul_(y, 3)", "_2 = torch.neg_(first)"]),
        "_3 = torch.add_(y, 1)",
        "_4 = torch.mul_(first, 2)",
        "return (first, last, y)",
        returns="Tuple[Tensor, Tensor, Tensor]",
    )
    y = np.concatenate([x[:2], -x[2:]]) if x.sum() > 0 else 3 * np.concatenate([-x[:2], x[2:]])
    y = (y + 1) * np.array([[2], [2], [1], [1]], np.float32)
    for found, expected in zip(program(x), (y[:2], y[2:], y), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_dict_has_the_values_of_the_side_that_ran(x: Any, tmp_path: Path) -> None:
    program = model(
        tmp_path,
        'd = {"a": x, "b": torch.add(x, 1)}',
        *branch(['torch._set_item(d, "a", torch.mul(x, 2))'], ['torch._set_item(d, "b", x)']),
        'return torch.sub(torch.mul(d["a"], 3), d["b"])',
    )
    np.testing.assert_array_equal(program(x), 6 * x - x - 1 if x.sum() > 0 else 2 * x)
