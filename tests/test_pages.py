"""The code blocks of the README and of all pages run, and links lead to files and headings."""

import re
from pathlib import Path

import pytest
from support import ROOT, pages
from support.in_one_test import in_one_test

# The page itself, and files that `make docs` writes
GENERATED = re.compile(r"$|.*explore/index\.html$|slides/\w+\.html$|\w+\.ipynb$|learn/\w+_(light|dark)\.svg$")
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", pages.pages_of("tests"), ids=name)
def test_code_of_a_page_does_not_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pages.write_files(tmp_path, page)
    pages.run(page, "tests")


@in_one_test("page", pages.PAGES)
def test_block_that_no_suite_runs(page: Path) -> None:
    files = {"tests": "tests", "peers": "tests/peers", "web": "tests/web"}
    files = {suite: f"{folder}/test_pages.py" for suite, folder in files.items()} | {
        "c": "tests/test_c_library.py"
    }
    for suite in map(pages.suite, pages.blocks(page)):  # raises an error for other languages
        assert f'pages.pages_of("{suite}")' in (ROOT / files[suite]).read_text()


def test_ci_does_not_run_the_commands_that_install() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^## Install.*?^```sh\npip ", readme, re.DOTALL | re.MULTILINE)
    assert "^## Install" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@in_one_test("page", [*pages.PAGES, *ROOT.glob("docs/learn/*.md")])
def test_link_to_a_file_that_does_not_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, _ in LINK.findall(text):
        assert GENERATED.match(target) or (page.parent / target).exists(), target


def test_page_without_a_place_in_the_site() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    docs = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    docs -= {place for place in docs if place.startswith("learn/slides/")}
    examples = {f"examples/{path.stem}.md" for path in ROOT.glob("examples/*.py")}
    assert docs | examples <= set(re.findall(r"[\w/]+\.md", config))
