"""What the README and CONTRIBUTING.md refer to exists."""

import re

from support import ROOT

from onward.cli import COMMANDS

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_command_without_an_example_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "command_line.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^onward ([\w-]+)", page, re.MULTILINE)) == set(COMMANDS)


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_contributing_lists_the_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())
    assert targets == set(re.findall(r"`make ([\w-]+)", CONTRIBUTING))


def test_contributing_names_files_that_exist() -> None:
    folders = [ROOT, ROOT / "src", ROOT / "src" / "onward", ROOT / "src" / "onward" / "formats"]
    for name in re.findall(r"`([\w./]+/[\w.]+\.(?:py|cpp|h))`", CONTRIBUTING):
        assert any((folder / name).exists() for folder in folders), name


def test_contributing_lists_every_folder_of_the_sources() -> None:
    for parent in ("src/onward", "cpp"):
        for folder in (ROOT / parent).iterdir():
            if folder.is_dir() and not folder.name.startswith(("_", ".")):
                assert re.search(rf"^(?:cpp/|  ){folder.name}/ ", CONTRIBUTING, re.MULTILINE), folder.name
