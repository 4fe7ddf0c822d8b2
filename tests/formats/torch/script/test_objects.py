"""The attributes that calls of TorchScript change, however the code spells that."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.pickles import tensor
from support.script_archives import archive, forward

import onward

X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2

SPELLINGS = {
    "without spaces": "self.count=torch.add(count, 1)",
    "with spaces": "self . count  = torch.add(count, 1)",
    "in parentheses": "(self).count = torch.add(count, 1)",
    "on two lines": "self.count = \\\n      torch.add(count, 1)",
}


@pytest.mark.parametrize("assignment", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_assigned_attributes_are_found_however_the_code_spells_the_assignment(
    tmp_path: Path, assignment: str
) -> None:
    body = forward("count = self.count", assignment, "return torch.add(x, self.count)")
    state = b"}X\x05\x00\x00\x00countK\x07s"
    program = onward.load(archive(tmp_path, body, "  count : int\n", state=state))
    y, count = program(X)
    np.testing.assert_array_equal(y, X + 8)
    assert count == 8


CALLS = [
    *("torch.add_(past, 1)", "torch.add_ (self.past, 1)", "torch.add_(\n      past, 1)"),
    *("torch.add_(torch.select(past, 0, 0), 1)", "torch.add_(torch.view(self.past, [3]), 1)"),
    *("torch.add_([past][0], 1)", "torch.copy_(past, torch.add(past, 1))"),
]


@pytest.mark.parametrize("call", CALLS)
def test_tensors_that_calls_change_in_place_are_carries(tmp_path: Path, call: str) -> None:
    body = forward("past = self.past", f"_0 = {call}", "return torch.add(x, self.past)")
    state = b"}X\x04\x00\x00\x00past" + tensor((1, 3)) + b"s"
    path = archive(tmp_path, body, "  past : Tensor\n", state=state)
    with zipfile.ZipFile(path, "a") as members:
        members.writestr("m/data/0", np.ones(3, "<f4").tobytes())
    program = onward.load(path)
    assert program.carries == {"past": "past_out"}
    np.testing.assert_array_equal(program(X)[0], X + 2)
