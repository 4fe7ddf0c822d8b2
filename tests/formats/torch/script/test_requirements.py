"""What torch refuses is an error, also where an operation of ONNX would give a result."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.script_archives import model

from onward.errors import OnwardError


def floats(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def numbers(*values: int) -> Any:
    return np.array(values, np.int64)


TABLE = floats(4, 3)
# the code, inputs that torch accepts, and inputs that it refuses
CASES: list[tuple[str, list[Any], list[list[Any]]]] = [
    ("torch.one_hot(y, 3)", [TABLE, numbers(0, 2)], [[TABLE, numbers(0, 3)], [TABLE, numbers(-1, 2)]]),
    ("torch.one_hot(y, -1)", [TABLE, numbers(0, 2)], [[TABLE, numbers(-1, 2)]]),
    ("torch.embedding(x, y)", [TABLE, numbers(0, 3)], [[TABLE, numbers(0, 4)], [TABLE, numbers(-1, 0)]]),
    ("torch.index_select(x, 1, y)", [TABLE, numbers(0, 2)], [[TABLE, numbers(-1)], [TABLE, numbers(3)]]),
    ("torch.gather(x, 0, y)", [TABLE, numbers(0)[None]], [[TABLE, numbers(-1)[None]]]),
    ("torch.scatter(x, 0, y, 1)", [TABLE, numbers(0)[None]], [[TABLE, numbers(-1)[None]]]),
    ("torch.index_add(x, 0, y, x)", [TABLE, numbers(0, 1, 1, 3)], [[TABLE, numbers(0, 1, -1, 3)]]),
    ("torch.index(x, [torch.gt(y, 0)])", [TABLE, numbers(0, 1, 0, 1)], [[TABLE, numbers(0, 1)]]),
    ("torch.repeat_interleave(x, y, 0)", [TABLE, numbers(0, 2, 1, 1)], [[TABLE, numbers(0, 2, -1, 1)]]),
    ("torch.bincount(y)", [TABLE, numbers(0, 2)], [[TABLE, numbers(-1, 2)]]),
    ("torch.bmm(x, y)", [floats(2, 3, 4), floats(2, 4, 5)], [[floats(1, 3, 4), floats(2, 4, 5)]]),
    ("torch.addmm(x, y, y)", [floats(3, 3), floats(3, 3)], [[floats(2, 3, 3), floats(3, 3)]]),
    ("torch.addmv(x, y, torch.select(y, 0, 0))", [floats(2), floats(2, 2)], [[floats(2), floats(1, 2)]]),
    ("torch.amax(x, [1])", [floats(2, 3), TABLE], [[floats(2, 0), TABLE]]),
    ("torch.min(x)", [floats(2, 3), TABLE], [[floats(2, 0), TABLE]]),
    ("torch.argmin(x, 1)", [floats(2, 3), TABLE], [[floats(2, 0), TABLE]]),
    ("torch.arange(torch.size(x, 0), 4)", [floats(2, 3), TABLE], [[floats(5, 3), TABLE]]),
    ("torch.unfold(x, 0, 3, 1)", [floats(3, 2), TABLE], [[floats(2, 2), TABLE]]),
    ("torch.adaptive_avg_pool1d(x, [2])", [floats(2, 3), TABLE], [[floats(2, 0), TABLE]]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_inputs_beyond_the_requirements_of_an_operator_give_no_result(case: Any, tmp_path: Path) -> None:
    code, accepted, refused = case
    program = model(tmp_path, f"return {code}", signature="self, x: Tensor, y: Tensor")
    for inputs in (accepted, *refused, accepted):
        if inputs is accepted:
            program(*inputs)
        else:
            with pytest.raises(OnwardError):
                program(*inputs)


def test_a_negative_index_that_does_not_count_from_the_end_is_named(tmp_path: Path) -> None:
    program = model(tmp_path, "return torch.embedding(x, y)", signature="self, x: Tensor, y: Tensor")
    for table in (TABLE, TABLE.astype(np.float16)):
        with pytest.raises(OnwardError, match="a negative index is out of range for an axis of size 4"):
            program(table, numbers(0, -1))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_power_of_two_integers_is_a_float(steps: int, tmp_path: Path) -> None:
    line = "return torch.add(torch.zeros([2], dtype=7), torch.pow(torch.size(x, 0), -1))"
    np.testing.assert_array_equal(model(tmp_path, line)(floats(steps, 2)), [1 / steps] * 2)


def test_windows_of_one_element_are_one(tmp_path: Path) -> None:
    program = model(tmp_path, "return torch.mul(x, torch.hann_window(1))")
    np.testing.assert_array_equal(program(TABLE), TABLE)
