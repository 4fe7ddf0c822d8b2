"""When the code of a TorchScript archive is recorded, for which sizes, and what tells the axes of inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import invoke, message, report
from support.script_archives import archive, forward, model

import onward
from onward.errors import ArgumentError
from onward.formats.torch.script.program import Program


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
    assert [declared.axes for declared in program._whole().inputs] == [("x_0", "x_1", 3), ("x_0", 4)]
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
