"""The figures in the README and the pages are those of the benchmarks' JSON."""

import re
from pathlib import Path

import pytest
from support import ROOT
from support.in_one_test import in_one_test

from bench import tables

REPORTS = tables.read(ROOT)
PAGES = [page for page in tables.pages(ROOT) if page.parent.name != "learn"]  # lessons measure as they run
# A number with the unit of a measurement.
FIGURE = re.compile(
    r"(?<![\w.,-])\d[\d.,]*\s?"
    r"(?:%|µs|ns|ms|s|min|seconds|minutes|hours|kB|KB|MB|GB|GB/s|GFLOP/s|times (?:as|that))(?![\w/-])"
)
# Figures that nobody measured: limits, settings and facts about formats, by page.
FRAME = "32 ms"  # a frame of Silero's voice detectors
LIMITS = ["3.5 MB", "1.6 times that"]  # what tools/check_wheel.py checks
KNOWN = {
    "README.md": LIMITS,
    "docs/index.md": LIMITS,
    "docs/explanation/stability.md": LIMITS,
    "docs/how_to/wake_word.md": ["10 ms", "30 ms"],  # the frames of the front end and the steps of the models
    "docs/benchmarks/latency.md": [FRAME],
    "docs/how_to/browser.md": ["25.6 ms", "6.4 ms"],  # the documented frames of the bundled data
    "docs/how_to/serve.md": [FRAME],
    "docs/how_to/silero_vad.md": [FRAME],
    "docs/benchmarks/scale.md": ["48 kB"],  # 1,000 steps of 12 float32
    "docs/benchmarks/single_layers.md": ["100 %"],
    "docs/learn/slides/training.md": ["90 %"],  # the lessons assert both
    "docs/learn/slides/watch.md": ["10 times as"],
}


def prose(page: Path) -> str:
    """A page without code and what bench/tables.py writes."""
    text = tables.BLOCK.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"^( *)```.*?^\1```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@in_one_test("page", PAGES)
def test_figure_differs_from_the_json(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert tables.filled(text, REPORTS) == text, "run python bench/tables.py"


@in_one_test("page", PAGES)
def test_figure_entered_by_hand(page: Path) -> None:
    found = [match.strip() for match in FIGURE.findall(prose(page))]
    assert [figure for figure in found if figure not in KNOWN.get(name(page), ())] == []


def test_a_miss_of_the_zoo_without_a_cause() -> None:
    misses = tables.rows(REPORTS, "zoo.misses")
    assert [row["model"] for row in misses if not row["cause"]] == [], "add it to CAUSES of bench/tables.py"


@pytest.mark.parametrize("picture", tables.PICTURES)
def test_picture_shows_other_measurements(picture: str) -> None:
    source = tables.PICTURES[picture]
    digest = tables.digest(tables.rows(REPORTS, source))
    assert digest.encode() in (ROOT / "docs" / "benchmarks" / picture).read_bytes()


@pytest.mark.parametrize("report", REPORTS)
def test_report_does_not_say_how_it_was_measured(report: str) -> None:
    measured = REPORTS[report]
    assert {"command", "quick", "date", "machine", "load", "versions", "tables"} == measured.keys()
    assert {"processor", "cores", "isa"} == measured["machine"].keys()
    assert measured["command"].startswith(f"python bench/{report}.py")
    assert (ROOT / "bench" / f"{report}.py").exists()


def test_table_that_no_page_shows() -> None:
    shown = {
        match["name"] for page in PAGES for match in tables.BLOCK.finditer(page.read_text(encoding="utf-8"))
    }
    assert shown == {*tables.TABLES, *tables.FIGURES, *REPORTS, "peers.summary"}
