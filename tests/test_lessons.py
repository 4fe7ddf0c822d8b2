"""Lessons have checked exercises and described figures, and need few packages; `make docs` executes them."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import numpy as np
import pytest
from support import ROOT

import onward
from onward import bundled, textbook

LEARN = ROOT / "docs" / "learn"
LESSONS = [path for path in sorted(LEARN.glob("*.md")) if "\njupyter:" in path.read_text(encoding="utf-8")]
NUMPY_ALONE = ["forward", "backward"]
# Ten trainings, which only the build of the site runs in full, and what it asserts about them.
SHORTER = {
    "for _ in range(60)": "for _ in range(2)",
    'assert failed["clipped"] == 0 and failed["not clipped"] >= 2': "",
    "assert all(max(norms) > 5 for found in runs.values() for _, norms in found)": "",
}
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


def cells(lesson: str, tag: str | None = None) -> list[Any]:
    """The code cells of a lesson, or those with a tag."""
    found = [cell for cell in jupytext.read(LEARN / f"{lesson}.md").cells if cell.cell_type == "code"]
    return [cell for cell in found if tag is None or tag in cell.metadata.get("tags", ())]


def site(name: str) -> Any:
    """A module of tools/site."""
    sys.path.insert(0, str(ROOT / "tools" / "site"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


@each_lesson
def test_lesson_without_three_exercises_that_check_their_solutions(lesson: Path) -> None:
    found = cells(lesson.stem)
    tags = [tag for cell in found for tag in cell.metadata.get("tags", ()) if tag != "figure"]
    assert tags == ["solution", "check"] * 3
    assert all("assert " in cell.source for cell in cells(lesson.stem, "check"))
    text = lesson.read_text(encoding="utf-8")
    exercises = text[text.index("\n## Exercises") :]
    assert re.findall(r"^\*\*(\d)\. ", exercises, re.MULTILINE) == ["1", "2", "3"]
    questions = text[text.index("\n## Check yourself") : text.index("\n## Exercises")]
    assert questions.count("<summary>") == questions.count("</details>") == 3


@each_lesson
def test_figure_that_is_not_described_or_not_alone_in_its_cell(lesson: Path) -> None:
    figures = cells(lesson.stem, "figure")
    names = [cell.metadata["name"] for cell in figures]
    assert figures and len(set(names)) == len(names)
    for cell in figures:
        assert len(cell.metadata["alt"]) > 80 and not re.search(r'["|\[\]]', cell.metadata["alt"])
        assert "assert" not in cell.source  # which a fold would hide
    shown = sum("plt.show()" in cell.source and "def " not in cell.source for cell in cells(lesson.stem))
    assert shown == sum("plt.show()" in cell.source and "def " not in cell.source for cell in figures)


UNREADABLE = """
import matplotlib.pyplot as plt

figure, ax = plt.subplots()
ax.plot([0, 1], [0, 1])
ax.text(0.2, 0.8, "above")
{}
"""
FAULTS = {
    "pass": [],
    'ax.text(0.2, 0.1, "below")': [],
    'ax.text(0.22, 0.8, "beside")': ["'above' overlaps 'beside'"],
    "ax.set_xticks([0.5, 0.51], ['1000', '1001'])": ["'1000' overlaps '1001'"],
    "ax.set_xticks([0, 1, 1.01], ['1', '2', '3'])\nax.set_xlim(0, 1)": [],  # the last is not drawn
    'ax.text(1.1, 0.5, "a label with many words")': ["'a label with many words' leaves the figure"],
    'ax.text(0.5, 0.5, "on", ha="center", va="center")': ["'on' lies on a line"],
    'ax.axhline(0.82, color="none")': [],
}


@pytest.mark.parametrize(("code", "faults"), FAULTS.items())
def test_figure_whose_labels_are_hard_to_read(code: str, faults: list[str]) -> None:
    names: dict[str, Any] = {}
    exec(UNREADABLE.format(code), names)
    assert site("figures").faults(names["figure"]) == faults
    names["plt"].close()


def test_lesson_with_labels_that_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    lessons = site("lessons")
    monkeypatch.setattr(lessons, "ROOT", tmp_path)
    lesson, code = tmp_path / "lesson.md", UNREADABLE.format('ax.text(0.22, 0.8, "beside")')
    lesson.write_text(f"```python{code}plt.show()\n```\n", encoding="utf-8")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="'above' overlaps 'beside'"):
        lessons.execute(lesson)


@each_lesson
def test_citation_without_a_link(lesson: Path) -> None:
    text = re.sub(r"```.*?```", "", lesson.read_text(encoding="utf-8"), flags=re.DOTALL)
    unlinked = re.sub(r"\[[^\]]*\]\(http[^)]*\)", "", text)
    assert re.findall(r"[^\n]*[(, ](?:1[89]|20)\d\d\)", unlinked) == []


@each_lesson
def test_lesson_needs_only_numpy_and_matplotlib(lesson: Path) -> None:
    standard = {"copy", "json", "os", "pathlib", "re", "time", "warnings"}
    for cell in cells(lesson.stem):
        for line in cell.source.splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                package = words[1].split(".")[0]
                assert package in standard | {"numpy", "matplotlib", "onward", "textbook"}, line


def run_beside_the_textbook(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    # None makes the import of a package fail as if it were not installed
    absent = "import sys\nsys.modules |= dict.fromkeys(['onward', 'scipy', 'torch', 'pandas'])\n"
    (folder / "lesson.py").write_text(absent + code, encoding="utf-8")
    shutil.copy(ROOT / "src/onward/textbook.py", folder)
    command, environment = [sys.executable, "lesson.py"], os.environ | {"MPLBACKEND": "agg"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("lesson", NUMPY_ALONE)
def test_lesson_that_needs_more_than_textbook_py_beside_it(lesson: str, tmp_path: Path) -> None:
    code = "\n".join(cell.source for cell in cells(lesson))
    for whole, shorter in SHORTER.items():
        assert lesson != "backward" or whole in code
        code = code.replace(whole, shorter)
    run = run_beside_the_textbook(code, tmp_path)
    assert run.returncode == 0, run.stderr


def namespace(lesson: str, change: tuple[str, str] = ("", ""), until: str = "") -> dict[str, Any]:
    """Run the cells of a lesson but its figures, up to one that contains a text; change one of its cells."""
    right, wrong = change
    shown = [cell for cell in cells(lesson) if "figure" not in cell.metadata.get("tags", ())]
    sources = [cell.source.replace("rounds=15", "rounds=1") for cell in shown]  # of measured times
    changed = [source.replace(right, wrong) for source in sources] if right else sources
    assert sum(a != b for a, b in zip(sources, changed, strict=True)) == bool(right)
    names: dict[str, Any] = {}
    with np.printoptions():  # which lessons set
        for source in changed:
            exec(source, names)
            if until and until in source:
                break
    return names


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("return s * (1 - s)", "return s * (1.01 - s)"),
        ("sigmoid(points - 1e-6)) / 2e-6", "sigmoid(points - 1e-6)) / 2.1e-6"),
        ("return (1 - t) * (1 + t)", "return (1 - t) * (1.01 + t)"),
        ("softmax(scores - step)) / 2e-6", "softmax(scores - step)) / 2.1e-6"),
        ("(confident, confident) <", "(confident, confident) > 9 + "),
        ("return (1 - z) * n + z * a_prev\n\n\ngru =", "return (1 - z) * n + 1.01 * z * a_prev\n\n\ngru ="),
        ("c_next = f * c_prev + i * g", "c_next = 1.01 * f * c_prev + i * g"),
        ("np.where(y == 1, 0.5, 0.25)", "np.where(y == 1, 0.51, 0.25)"),
        ("{np.abs(a).max():.3f}, but |c|", "{np.abs(a).max():.3f}, but |c|" + '")\nc /= 9\nprint(f"'),
    ],
)  # fmt: skip
def test_claim_of_lesson_1_that_stays_true_whatever_it_computes(right: str, wrong: str) -> None:
    with pytest.raises(AssertionError):
        namespace("forward", (right, wrong))


@pytest.mark.parametrize(
    ("lesson", "right", "wrong", "until"),
    [
        ("backward", '"dxt": Wax.T @ dz', '"dxt": 1.01 * Wax.T @ dz', "rnn_cell_backward("),
        ("backward", '"dWaa": dz @ a_prev.T', '"dWaa": 1.01 * dz @ a_prev.T', "rnn_cell_backward("),
        ("watch", "abs(y[89] + 0.5)", "abs(y[88] + 0.53)", ""),
        ("watch", "f[(closed or {}).get(step, [])] = 0", "f[(closed or {}).get(step, [])] = 0.9", ""),
        ("watch", "h[unit] = value", "h[unit] += 0 * value", ""),
        ("watch", "x_long[8] = 0.8", "x_long[8] = 0.2", ""),
        ("training", "steps=300", "steps=3", ""),
        ("training", "flashes = rng.random((T, m)) < 0.06", "flashes = rng.random((T, m)) < 0.6", ""),
        ("text", "STEPS, losses = 800, []", "STEPS, losses = 1, [9.0]", ""),
        ("machine", "c = f * c + i * np.tanh", "c = 1.01 * f * c + i * np.tanh", "def fused"),
        ("inside", "length=16_000, temperature=0.7", "length=1_000, temperature=3.0", ""),
    ],
)  # fmt: skip
def test_claim_of_another_lesson_that_stays_true_whatever_it_computes(
    lesson: str, right: str, wrong: str, until: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(LEARN)  # where the lesson on text finds its play
    with pytest.raises((AssertionError, ValueError)):
        namespace(lesson, (right, wrong), until)


@pytest.mark.parametrize("lesson", ["forward", "watch"])
def test_check_that_passes_without_a_solution(lesson: str) -> None:
    names = namespace(lesson, until=cells(lesson, "solution")[0].source)
    for solution in cells(lesson, "solution"):
        for name in re.findall(r"^(?:def )?(\w+)(?: = |\()", solution.source, re.MULTILINE):
            names.pop(name, None)
    for check in cells(lesson, "check"):
        with pytest.raises(NameError):
            exec(check.source, dict(names))


def test_mean_over_padding_that_the_exercise_on_vowels_accepts() -> None:
    sources = [cell.source for cell in cells("training")]
    start = next(k for k, source in enumerate(sources) if "def recordings(" in source)
    given, solution, check = sources[start : start + 3]
    padded = solution.replace("x.sum(axis=0) / lengths[:, None]", "x.mean(axis=0)")
    assert padded != solution
    names = {"np": np, "onward": onward, "bundled": bundled, "textbook": textbook}
    exec(f"{given}\n{solution}\n{check}", names)
    exec(f"{given}\n{padded}", names)
    with pytest.raises(AssertionError):
        exec(check, names)


@each_lesson
def test_notebook_of_students_that_contains_a_solution(lesson: Path) -> None:
    pytest.importorskip("nbclient")
    lessons = site("lessons")
    notebook = jupytext.read(lesson)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    unsolved, solved = lessons.unsolved(notebook), lessons.solved(notebook)
    for before, without, shown in zip(notebook.cells, unsolved.cells, solved.cells, strict=True):
        is_solution = "solution" in before.metadata.get("tags", ())
        assert without.source == (lessons.YOURS if is_solution else before.source)
        assert shown.source == before.source
        hidden = shown.metadata.get("jupyter", {}).get("source_hidden", False)
        assert hidden == (is_solution or "figure" in before.metadata.get("tags", ()))


@each_lesson
def test_slides_with_a_figure_that_the_lesson_lacks(lesson: Path) -> None:
    source = (LEARN / "slides" / lesson.name).read_text(encoding="utf-8")
    names = {cell.metadata["name"] for cell in cells(lesson.stem, "figure")}
    used = set(re.findall(r"!\[\]\((\w+)\)", source))
    assert used and used <= names
    assert len(re.findall(r"^---$", source, re.MULTILINE)) >= 3


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lesson_that_the_index_or_the_page_for_instructors_forgets(lesson: Path) -> None:
    for page in ("index.md", "instructors.md"):
        assert f"]({lesson.name})" in (LEARN / page).read_text(encoding="utf-8")
    instructors = (LEARN / "instructors.md").read_text(encoding="utf-8")
    for file in (f"slides/{lesson.stem}.html", f"{lesson.stem}.ipynb", f"{lesson.stem}_exercises.ipynb"):
        assert f"]({file})" in instructors


def test_the_path_of_two_hours_takes_two_hours() -> None:
    text = (LEARN / "instructors.md").read_text(encoding="utf-8")
    path = text[text.index("## A path of two hours") : text.index("## A path of a semester")]
    assert sum(map(int, re.findall(r"^\| (\d+) \|", path, re.MULTILINE))) == 120


def test_terms_of_the_glossary_that_are_out_of_order_or_lead_nowhere() -> None:
    text = (LEARN / "glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"^(\S.*)\n:   (.*(?:\n    .*)*)", text, re.MULTILINE)
    terms = [term.lower() for term, _ in entries]
    assert len(terms) > 30 and terms == sorted(terms)
    assert all("](" in meaning for _, meaning in entries)


def test_words_that_the_search_must_find_have_a_heading() -> None:
    for words, place in site("findable").FINDABLE.items():
        page = (ROOT / "docs" / f"{place.rstrip('/')}.md").read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)", page, re.MULTILINE)
        assert any(words in heading.lower() for heading in headings), words


def test_index_of_the_search_without_a_word() -> None:
    findable = site("findable")
    pages = [{"location": f"{page}#x", "title": words} for words, page in findable.FINDABLE.items()]
    assert findable.not_found({"docs": pages}) == []
    for k, words in enumerate(findable.FINDABLE):
        assert findable.not_found({"docs": pages[:k] + pages[k + 1 :]}) == [words]


def test_program_that_needs_more_than_a_hundred_lines() -> None:
    text = (LEARN / "text.md").read_text(encoding="utf-8")
    program = text[text.index("\n## The program") : text.index("\n## Is it any good?")]
    code = "".join(re.findall(r"^```python\n(.*?)^```", program, re.DOTALL | re.MULTILINE))
    assert 50 < sum(bool(line.strip()) for line in code.splitlines()) <= 100


def test_number_of_the_card_of_a_model_that_a_lesson_repeats_wrongly() -> None:
    card = (ROOT / "src/onward/bundled/shakespeare.md").read_text(encoding="utf-8")
    (bits,) = re.findall(r"^bits_per_character: (.*)$", card, re.MULTILINE)
    assert f"reports {bits} bits" in (LEARN / "text.md").read_text(encoding="utf-8")


def test_equation_without_the_spaces_of_latex() -> None:
    pytest.importorskip("latex2mathml")
    equations = site("equations")
    space = equations.SPACE
    assert f"<mi>tanh</mi>{space}<mi>x</mi>" in equations.to_mathml(r"\tanh x")
    assert f"</msub>{space}<mi>log</mi>{space}<msub>" in equations.to_mathml(r"y_i \log \hat p_i")
    assert f"</msup>{space}<msub>" in equations.to_mathml(r"1 - \tanh^2 c_t")
    assert space not in equations.to_mathml(r"\sigma(x) + \tanh(x) + \max(x, 0)")
    assert "<mo>;</mo>" in equations.to_mathml("[a; x]")
    assert 'accent="true"' in equations.to_mathml(r"\tilde{d}")
    assert [equations.to_mathml(latex).count("prefix") for latex in ("L = -y", "L = x - y")] == [1, 0]


def test_deck_with_an_unknown_figure() -> None:
    pytest.importorskip("markdown")
    slides = site("slides")
    figures = {"cell": "The cell."}
    page = slides.deck("# Title\n\n$\\tanh x$\n\n---\n\n## Two\n\n![](cell)\n", "forward", figures)
    assert page.count("<section>") == 2 and "<title>Title</title>" in page and "<math" in page
    assert '<img src="../forward_cell_light.svg" alt="The cell.">' in page
    with pytest.raises(ValueError, match="lesson forward has no figure 'sell': it has cell"):
        slides.deck("# Title\n\n![](sell)\n", "forward", figures)


def test_picture_that_is_the_same_on_dark_pages() -> None:
    pytest.importorskip("nbclient")
    lessons = site("lessons")
    cell = cells("forward", "figure")[0]
    svg = f'<svg><metadata>2026</metadata><text style="fill: {lessons.GRAY}"/></svg>'
    data = {"image/svg+xml": svg, "text/plain": "<Figure>"}
    cell.outputs = [nbformat.v4.new_output("display_data", data=data)]
    notebook = jupytext.read(LEARN / "forward.md")
    notebook.cells = [cell]
    text, pictures = lessons.to_markdown(notebook, "forward")
    assert set(pictures) == {"forward_unrolled_light.svg", "forward_unrolled_dark.svg"}
    assert len(set(pictures.values())) == 2 and b"2026" not in b"".join(pictures.values())
    assert text.count(f"![{cell.metadata['alt']}]") == 2 and '??? quote "Code of the figure"' in text
    assert "<Figure>" not in text
