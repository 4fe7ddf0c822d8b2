"""Hooks of MkDocs: lessons with outputs, generated parts, links and equations."""

import json
import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
import equations
import findable
import generated
import lessons
import slides

from onward.cli import explore

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Files outside of docs that are pages of the site, and where.
PAGES = {
    "SECURITY.md": "explanation/security.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "src/onward/bundled/README.md": "project/bundled_data.md",
    "src/onward/bundled/shakespeare.md": "project/shakespeare.md",
    "src/onward/bundled/vowels.md": "project/vowels.md",
    **{f"examples/{path.name}": f"examples/{path.stem}.md" for path in sorted(ROOT.glob("examples/*.py"))},
}
FILES = {"src/onward/textbook.py": "learn/textbook.py"}  # to download
SOURCES = {page: source for source, page in PAGES.items()}
CODE = re.compile(
    r"(^(?P<indent> *)(?P<fence>```+).*?^(?P=indent)(?P=fence)\s*?$|`[^`\n]+`)", re.DOTALL | re.MULTILINE
)
texts: dict[str, str] = {}  # the Markdown of pages that are not files, by their place in the site
mathml: list[str] = []


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs, the outputs of the lessons, the notebooks and `onward explore`."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        if source.endswith(".py"):
            text = f"# {source}\n\n```python\n{text}```\n"
        elif text.startswith("---\n"):
            text = text.split("---\n", 2)[2]
        files.append(File.generated(config, page, content=text))
    for lesson in sorted(DOCS.glob("learn/*.md")):
        if "\njupyter:" in lesson.read_text(encoding="utf-8"):
            for name, content in _lesson(lesson).items():
                files.append(File.generated(config, f"learn/{name}", content=content))
    for source, place in FILES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    for name, content in explore.site(None).items():
        files.append(File.generated(config, f"explore/{name}", content=content))
    return files


def _lesson(lesson: Path) -> dict[str, str | bytes]:
    """The pictures, notebooks and slides of a lesson by name; its Markdown is added to `texts`."""
    notebook = lessons.execute(lesson)
    texts[f"learn/{lesson.name}"], pictures = lessons.to_markdown(notebook, lesson.stem)
    figures = {
        cell.metadata["name"]: cell.metadata["alt"]
        for cell in notebook.cells
        if lessons.has_tag(cell, "figure")
    }
    source = (DOCS / "learn" / "slides" / lesson.name).read_text(encoding="utf-8")
    return pictures | {
        f"{lesson.stem}.ipynb": nbformat.writes(lessons.solved(notebook)),
        f"{lesson.stem}_exercises.ipynb": nbformat.writes(lessons.unsolved(notebook)),
        f"slides/{lesson.stem}.html": slides.deck(source, lesson.stem, figures),
    }


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Fill in generated parts and outputs; replace links to files outside of docs, and equations."""
    place = page.file.src_uri
    if place in texts:
        name = posixpath.basename(place).removesuffix(".md")
        links = {
            "Notebook with exercises": f"{name}_exercises.ipynb",
            "Notebook with solutions": f"{name}.ipynb",
            "Slides": f"slides/{name}.html",
        }
        buttons = " ".join(f"[{label}]({link}){{ .md-button }}" for label, link in links.items())
        markdown = f"{texts[place]}\n\n{buttons}\n"
    markdown = re.sub(
        r"^<!-- generate: (.*) -->$", lambda match: generated.PARTS[match[1]](), markdown, flags=re.MULTILINE
    )
    markdown = re.sub(r"<!-- (?:bench: .*?|end) -->", "", markdown)
    return _outside_code(markdown, lambda text: _equations(_links(text, place)))


def on_page_content(html: str, page: Page, config: Any, files: Files) -> str:
    """Put the equations, which Markdown must not see, back into the page."""
    return re.sub(r"EQUATION(\d+)END", lambda match: mathml[int(match[1])], html)


def on_post_build(config: Any) -> None:
    """Raise ValueError if the search of the site does not find what readers look for."""
    index = json.loads(
        (Path(config["site_dir"]) / "search" / "search_index.json").read_text(encoding="utf-8")
    )
    if missing := findable.not_found(index):
        raise ValueError(f"the search does not find {', '.join(missing)}: see tools/site/findable.py")


def _outside_code(markdown: str, change: Any) -> str:
    parts, at = [], 0
    for match in CODE.finditer(markdown):
        parts += [change(markdown[at : match.start()]), match[0]]
        at = match.end()
    return "".join([*parts, change(markdown[at:])])


def _links(text: str, place: str) -> str:
    source = ROOT / SOURCES[place] if place in SOURCES else DOCS / place

    def moved(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if ":" in target:
            return match[0]
        path = Path(os.path.normpath(source.parent / target))
        found = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else target
        there = {**PAGES, **FILES}.get(found) or (
            found.removeprefix("docs/") if found.startswith("docs/") else None
        )
        if there is None:  # a file that only the repository has
            return label.strip("[]") if label.startswith("[") else match[0]
        return f"{label}({posixpath.relpath(there, posixpath.dirname(place) or '.')}{anchor})"

    return re.sub(r"(!?\[[^\]]*\])\(([^)#\s]+)(#[^)\s]*)?\)", moved, text)


def _equations(text: str) -> str:
    def keep(match: re.Match[str]) -> str:
        display = "block" if match[0].startswith("$$") else "inline"
        mathml.append(equations.to_mathml(match[0].strip("$"), display))
        return f"EQUATION{len(mathml) - 1}END"

    return re.sub(
        r"\$\$.+?\$\$|(?<![\w$\\])\$[^\s$](?:(?:(?!\n\n)[^$])*[^\s$])?\$(?!\w)", keep, text, flags=re.DOTALL
    )
