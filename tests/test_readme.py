"""What the README shows runs."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import support

README = Path(__file__).parents[1] / "README.md"
DATA = support.DATA
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DATA / "torch" / "whole.pt", "tagger.pt")
    shutil.copy(DATA / "keras" / "tagger_3.keras", "tagger.keras")
    assert BLOCKS
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, str(README), "exec"), names)


def test_what_the_readme_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
