"""The lessons have exercises and need few packages; `make docs` executes them."""

from pathlib import Path

import jupytext
import pytest
from support import ROOT

LESSONS = [path for path in sorted(ROOT.glob("docs/learn/*.md")) if path.stem != "index"]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lesson_without_three_exercises_and_solutions(lesson: Path) -> None:
    cells = jupytext.read(lesson).cells
    assert sum("solution" in cell.metadata.get("tags", ()) for cell in cells) == 3
    exercises = next(k for k, cell in enumerate(cells) if "## Exercises" in cell.source)
    assert sum("**" in cell.source for cell in cells[exercises:] if cell.cell_type == "markdown") >= 3


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lesson_needs_only_numpy_and_matplotlib(lesson: Path) -> None:
    standard = {"copy", "os", "re", "time", "warnings"}
    for cell in jupytext.read(lesson).cells:
        for line in cell.source.splitlines() if cell.cell_type == "code" else ():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] in standard | {"numpy", "matplotlib", "onward"}, line
