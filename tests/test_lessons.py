"""The lessons have exercises and need few packages; `make docs` executes them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import numpy as np
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
                assert words[1].split(".")[0] in standard | {"numpy", "matplotlib", "onward", "textbook"}, (
                    line
                )


@pytest.mark.parametrize("lesson", ["forward", "backward"])
def test_lesson_that_needs_more_than_textbook_py_beside_it(lesson: str, tmp_path: Path) -> None:
    cells = jupytext.read(ROOT / f"docs/learn/{lesson}.md").cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    # None makes the import of a package fail as if it were not installed
    absent = "import sys\nsys.modules |= dict.fromkeys(['onward', 'scipy', 'torch', 'pandas'])\n"
    (tmp_path / "lesson.py").write_text(absent + code, encoding="utf-8")
    shutil.copy(ROOT / "src/onward/textbook.py", tmp_path)
    environment = os.environ | {"MPLBACKEND": "agg"}
    run = subprocess.run(
        [sys.executable, "lesson.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("return s * (1 - s)", "return s * (1.01 - s)"),
        ("sigmoid(x - 1e-6)) / 2e-6", "sigmoid(x - 1e-6)) / 2.1e-6"),
        ("return (1 - t) * (1 + t)", "return (1 - t) * (1.01 + t)"),
        ("softmax(x - step)) / 2e-6", "softmax(x - step)) / 2.1e-6"),
        ("(confident, confident) <", "(confident, confident) > 9 + "),
    ],
)
def test_claim_that_stays_true_whatever_the_lesson_computes(
    right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    import matplotlib.pyplot as plt

    names: dict[str, object] = {}
    cells = [
        cell.source
        for cell in jupytext.read(ROOT / "docs/learn/forward.md").cells
        if cell.cell_type == "code"
    ]
    changed = [source.replace(right, wrong) for source in cells]
    assert sum(a != b for a, b in zip(cells, changed, strict=True)) == 1
    with pytest.raises(AssertionError), np.printoptions():  # which the lesson sets
        for source in changed:
            exec(source, names)
    plt.close("all")
