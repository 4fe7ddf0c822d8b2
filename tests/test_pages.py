"""The code blocks of the README and of all pages run, and links lead to files and headings."""

import re
from pathlib import Path

import pytest
from support import ROOT, pages

WITH_CODE = [page for page in pages.PAGES if any(pages.blocks(page))]
GENERATED = {"", "../explore/index.html"}  # a heading of the page itself; a page that `make docs` writes
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_code_of_a_page_does_not_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pages.write_files(tmp_path, page)
    pages.run(page, with_frameworks=False)


@pytest.mark.parametrize("page", [*pages.PAGES, *ROOT.glob("docs/learn/*.md")], ids=name)
def test_link_to_a_file_that_does_not_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, _ in LINK.findall(text):
        assert target in GENERATED or (page.parent / target).exists(), target
