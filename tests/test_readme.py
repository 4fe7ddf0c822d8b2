"""The examples in the README run, and what it and the other pages refer to exists."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import DATA, ROOT
from support.sequence_graphs import detector, stepper

import onward
from onward.cli import COMMANDS

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def test_the_examples_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DATA / "torch" / "whole.pt", "tagger.pt")
    shutil.copy(DATA / "torch" / "script.pt", "tagger_script.pt")
    shutil.copy(DATA / "exported_program" / "version_8.pt2", "tagger.pt2")
    shutil.copy(DATA / "keras" / "tagger_3.keras", "tagger.keras")
    onward.export_onnx(onward.LSTM(12, 64), "lstm.onnx")
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 7
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)


def test_the_example_of_the_training_page_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    example = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0]
    names: dict[str, Any] = {}
    exec(compile(example, "training.md", "exec"), names)
    losses = names["history"].losses
    assert sum(losses[-9:]) < 0.5 * sum(losses[:9])
    assert Path("speakers.safetensors").exists() and Path("losses.png").exists()


def test_the_examples_of_the_streaming_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    detector(8).save("detector.onnx")
    stepper().save("stepper.onnx")
    page = (ROOT / "docs" / "streaming.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        exec(compile(block, "streaming.md", "exec"), names)


def test_the_readme_shows_every_command() -> None:
    assert set(re.findall(r"^onward (\w+)", README, re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_contributing_lists_the_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())
    assert targets == set(re.findall(r"`make ([\w-]+)", CONTRIBUTING))


def test_contributing_names_files_that_exist() -> None:
    folders = [ROOT, ROOT / "src" / "onward", ROOT / "src" / "onward" / "formats"]
    for name in re.findall(r"`([\w./]+/[\w.]+\.(?:py|cpp|h))`", CONTRIBUTING):
        assert any((folder / name).exists() for folder in folders), name


def test_contributing_lists_every_folder_of_the_sources() -> None:
    for parent in ("src/onward", "cpp"):
        for folder in (ROOT / parent).iterdir():
            if folder.is_dir() and not folder.name.startswith(("_", ".")):
                assert re.search(rf"^(?:cpp/|  ){folder.name}/ ", CONTRIBUTING, re.MULTILINE), folder.name
