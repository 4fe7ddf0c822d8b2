"""Execute the lessons in docs/learn and turn them into Markdown with their outputs."""

import base64
import hashlib
import os
import re
from itertools import groupby
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
STYLE = ROOT / "docs" / "learn" / "matplotlibrc"


def execute(lesson: Path) -> Any:
    """The executed notebook of a lesson; kept in build/lessons until the lesson or the package changes.

    A lesson that writes to stderr, for example a warning, raises ValueError.
    """
    sources = [lesson, STYLE, *sorted((ROOT / "src" / "onward").rglob("*.py"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    kept = ROOT / "build" / "lessons" / f"{lesson.stem}-{digest}.ipynb"
    if kept.exists():
        return nbformat.read(kept, as_version=4)
    os.environ["MATPLOTLIBRC"] = str(STYLE)
    notebook = jupytext.read(lesson)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise ValueError(f"{lesson} writes to stderr: {output.text}")
        cell.metadata.pop("execution", None)
        if is_solution(cell):
            cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    kept.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, kept)
    return notebook


def is_solution(cell: Any) -> bool:
    return "solution" in cell.metadata.get("tags", ())


def to_markdown(notebook: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """The page of a notebook, and its pictures by file name; solutions are collapsed."""
    parts, pictures, heading = [], {}, name
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ (.*)", cell.source, re.MULTILINE) or [heading])[-1]
            parts.append(cell.source)
            continue
        blocks = [f"```python\n{cell.source}\n```"]
        for is_picture, outputs in groupby(
            cell.outputs, lambda output: "image/png" in output.get("data", {})
        ):
            if is_picture:
                for output in outputs:
                    file = f"{name}_{len(pictures) + 1}.png"
                    pictures[file] = base64.b64decode(output.data["image/png"])
                    blocks.append(f"![{heading}]({file})")
            else:
                text = "".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs)
                blocks.append("```{ .text .output }\n" + text.rstrip() + "\n```")
        block = "\n\n".join(blocks)
        if is_solution(cell):
            block = '??? success "Solution"\n\n' + re.sub(r"^(?=.)", "    ", block, flags=re.MULTILINE)
        parts.append(block)
    return "\n\n".join(parts), pictures
