"""Execute the lessons in docs/learn and turn them into Markdown with their outputs, and into notebooks.

Tags of a cell say what it is: a `figure` has a name and a description of what one sees, `alt`, and its code
is folded; a `solution` is folded, and missing from the notebook of students; a `check` tests the names that
the exercise before it asks for.
"""

import copy
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

TOOLS = Path(__file__).parent
ROOT = TOOLS.parents[1]
STYLE = ROOT / "docs" / "learn" / "matplotlibrc"
GRAY = "#7f8790"  # of text and axes in STYLE, readable on both backgrounds
INKS = {"light": "#24292f", "dark": "#e2e4e9"}
YOURS = "# Your solution\n"


def execute(lesson: Path) -> Any:
    """The executed notebook of a lesson; kept in build/lessons until the lesson or the package changes.

    A lesson that writes to stderr, for example a warning, raises ValueError; one whose figures have labels
    that are hard to read raises CellExecutionError.
    """
    package = ROOT / "src" / "onward"
    sources = [
        lesson,
        STYLE,
        Path(__file__),
        TOOLS / "figures.py",
        *sorted(package.rglob("*.py")),
        *sorted(package.glob("tracing/page/**/*.json")),
    ]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    kept = ROOT / "build" / "lessons" / f"{lesson.stem}-{digest}.ipynb"
    if kept.exists():
        return nbformat.read(kept, as_version=4)
    notebook = jupytext.read(lesson)
    options = ["--InlineBackend.figure_formats={'png', 'svg'}", "--InteractiveShellApp.extensions=figures"]
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        extra_arguments=options,
        resources={"metadata": {"path": str(lesson.parent)}},  # where the lesson finds its data
    )
    client.execute(env=os.environ | {"MATPLOTLIBRC": str(STYLE), "PYTHONPATH": str(TOOLS)})
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise ValueError(f"{lesson} writes to stderr: {output.text}")
        cell.metadata.pop("execution", None)
    kept.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, kept)
    return notebook


def has_tag(cell: Any, tag: str) -> bool:
    return tag in cell.metadata.get("tags", ())


def solved(notebook: Any) -> Any:
    """The notebook with outputs; the code of figures and the solutions are hidden until one opens them."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/svg+xml", None)
        if has_tag(cell, "solution"):
            cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
        elif has_tag(cell, "figure"):
            cell.metadata["jupyter"] = {"source_hidden": True}
    return notebook


def unsolved(notebook: Any) -> Any:
    """The notebook of students: without outputs, and with an empty cell for each solution."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if has_tag(cell, "solution"):
                cell.source = YOURS
            elif has_tag(cell, "figure"):
                cell.metadata["jupyter"] = {"source_hidden": True}
    return notebook


def to_markdown(notebook: Any, lesson: str) -> tuple[str, dict[str, bytes]]:
    """The page of a notebook, and its pictures by file name; solutions and the code of figures are folded."""
    parts, pictures = [], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        code, shown = [f"```python\n{cell.source}\n```"], []
        text = "".join(
            o.get("text") or o.get("data", {}).get("text/plain", "")
            for o in cell.outputs
            if not _is_picture(o)
        )
        if any(map(_is_picture, cell.outputs)):
            files, picture = _pictures(cell, lesson)
            pictures |= files
            shown.append(picture)
        if text.strip():
            shown.append("```{ .text .output }\n" + text.rstrip() + "\n```")
        if has_tag(cell, "figure"):
            parts += [*shown, _folded("quote", "Code of the figure", code)]
        elif has_tag(cell, "solution"):
            parts.append(_folded("success", "Solution", code + shown))
        elif has_tag(cell, "check"):
            parts.append(_folded("question", "Check your solution", code + shown))
        else:
            parts += code + shown
    return "\n\n".join(parts), pictures


def _is_picture(output: Any) -> bool:
    return "image/svg+xml" in output.get("data", {})


def _pictures(cell: Any, lesson: str) -> tuple[dict[str, bytes], str]:
    """The picture of a cell for light and for dark pages, and the Markdown that shows it."""
    (output,) = filter(_is_picture, cell.outputs)
    stem, alt = f"{lesson}_{cell.metadata['name']}", cell.metadata["alt"]
    svg = re.sub(r"<metadata>.*?</metadata>", "", output.data["image/svg+xml"], flags=re.DOTALL)
    files = {f"{stem}_{mode}.svg": svg.replace(GRAY, ink).encode() for mode, ink in INKS.items()}
    shown = " ".join(f"![{alt}]({stem}_{mode}.svg#only-{mode}){{ .figure }}" for mode in INKS)
    return files, shown


def _folded(kind: str, title: str, blocks: list[str]) -> str:
    block = "\n\n".join(blocks)
    return f'??? {kind} "{title}"\n\n' + re.sub(r"^(?=.)", "    ", block, flags=re.MULTILINE)
