"""The page that shows a network at work: its files, and single HTML files that contain a model or a trace.

The page consists of the static files in `page/`. It reads a list of models; each is a dict with an `id`, a
`title`, a `kind` ("text", "curve" or "signal") and either a `file`, which the page runs with Onward for
JavaScript, or a `record` of one run. In a single HTML file, the list and all files are embedded.
"""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..core import atomic, storage
from ..core.arrays import Array
from ..errors import ArgumentError
from ..layers import Activation, Dropout, Embedding, Last, Linear, Sequential, Softmax
from ..layers.base_model import BaseModel
from ..layers.recurrent import Recurrent
from .picture import check_classes, steps_of

if TYPE_CHECKING:
    from .trace import Trace

Entry: TypeAlias = dict[str, Any]

PAGE = Path(__file__).parent / "page"
SCRIPTS = tuple(sorted(path.name for path in PAGE.glob("*.js")))
FILES = ("index.html", "explore.css", "onward.wasm", *SCRIPTS)
MAX_EMBEDDED = 4_000_000  # bytes of a model that a single HTML file contains
HEIGHT = 900  # pixels of the page in a notebook


class Page:
    """A page as one HTML file: it displays itself in Jupyter, and `save` writes it."""

    def __init__(self, html: str) -> None:
        self.html = html

    def _repr_html_(self) -> str:
        frame = 'style="width:100%;border:0" title="A recurrent network at work"'
        return f'<iframe srcdoc="{html.escape(self.html)}" height="{HEIGHT}" {frame}></iframe>'

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the HTML file. Raises FileError."""
        atomic.replace(path, self.html.encode())


def unsupported(model: BaseModel) -> str | None:
    """Why Onward for JavaScript cannot run a model; None if it can."""
    layers = list(model) if isinstance(model, Sequential) else [model]
    for layer in layers:
        if not isinstance(layer, Recurrent | Embedding | Linear | Last | Dropout | Softmax | Activation):
            return f"it has a layer of type {type(layer).__name__}"
    if not any(isinstance(layer, Recurrent) for layer in layers):
        return "it has no recurrent layer"
    if model.dtype != np.float32:
        return f"it computes in {model.dtype}, not in float32"
    if any(isinstance(layer, Recurrent) and layer.bidirectional for layer in layers):
        return "it has a reverse direction, which needs the whole input"
    return None


def model_bytes(model: BaseModel, vocabulary: str | None = None) -> bytes:
    """The content of the model's file."""
    extra = {} if vocabulary is None else {"vocabulary": vocabulary}
    return storage.content(model.weights_by_name(), model.description() | extra)


def page_of(trace: Trace, row: int, classes: Sequence[str] | None, text: str | None) -> Page:
    """The page of one row of a trace; `Trace.explore` documents the arguments."""
    if not trace.recorded:
        raise ArgumentError("the trace has no recurrent layer to show")
    names = list(trace.recorded)
    own = [name for name in names if trace.recorded[name].x.shape[:2] == trace.x.shape[:2]]
    first = (own or names)[0]  # the page shows its steps
    steps = steps_of(trace.recorded[first].lengths, row, text)
    x, y = trace.at_steps(first, row)
    signal: Entry = {"kind": "signal", "features": x.reshape(steps, -1).shape[1]}
    if classes is not None:
        check_classes(classes, trace.y.shape[-1])
        if y is not None:
            signal["classes"] = list(classes)
    symbols = _symbols(trace.model)
    content, reason = b"", _why_recorded(trace.model, symbols, x, classes, text)
    if trace.model is not None and reason is None:
        content = model_bytes(trace.model, "".join(classes) if symbols and classes else None)
    if len(content) > MAX_EMBEDDED:
        sizes = f"{len(content) / 1e6:.1f} MB, and a single file holds {MAX_EMBEDDED / 1e6:.0f} MB"
        reason = f"it has {sizes}"
    if reason is None:
        entry: Entry = {"id": "trace", "title": "The traced model", "bytes": _base64(content)}
        entry |= {"kind": "text", "example": text} if symbols else signal | {"x": _floats(x)}
    else:
        entry = {"id": "trace", "title": "A recorded run", "reason": reason, **signal}
        entry["record"] = _record(trace, first, row, x, y)
        if text is not None:
            entry["labels"] = list(text)
    return single_file([entry])


def _symbols(model: BaseModel | None) -> int:
    """How many integers a model reads; 0 if it reads other numbers."""
    layers = [] if model is None else model.sublayers().values()
    return next((layer.num_embeddings for layer in layers if isinstance(layer, Embedding)), 0)


def _why_recorded(
    model: BaseModel | None, symbols: int, x: NDArray[Any], classes: Sequence[str] | None, text: str | None
) -> str | None:
    """Why the page cannot run a model on x itself; None if it can."""
    if model is None:
        return "it is a graph of operators, or its run did not start from zero states"
    if (reason := unsupported(model)) is not None or not symbols:
        return reason
    if text is None or classes is None:
        return "it reads integers, and explore() was called without the characters that they stand for"
    characters = "".join(classes)
    if not len(characters) == len(classes) == symbols or [*map(characters.find, text)] != x.tolist():
        return "the classes and the text are not the characters that its integers stand for"
    return None


def _record(trace: Trace, first: str, row: int, x: NDArray[Any], y: Array | None) -> Entry:
    """The values of a run over x (T, ...) of the layers that have the steps of the first one.

    If the output y has other steps, the h of the last of these layers takes its place.
    """
    layers, shape = [], trace.recorded[first].x.shape[:2]
    for name, recorded in trace.recorded.items():
        if recorded.x.shape[:2] == shape:
            values = {key: array[: len(x), row] for key, array in recorded.arrays.items()}
            packed = {key: _rows(array) for key, array in values.items()}
            H = max(array.shape[1] for array in values.values())
            layers.append({"name": name, "type": recorded.kind, "H": H, "arrays": packed})
    outputs = values["h"] if y is None else y
    return {"x": _floats(x), "layers": layers, "outputs": _rows(outputs.reshape(len(x), -1))}


def _rows(array: Array) -> dict[str, Any]:
    """The rows of an array (T, width)."""
    return {"data": _floats(array), "width": array.shape[1]}


def _floats(array: Array) -> str:
    return _base64(np.ascontiguousarray(array, np.float32).tobytes())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def single_file(entries: Sequence[Entry]) -> Page:
    """The page with all that it needs in one file. Without a model that runs, it leaves out the core."""
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    style = (PAGE / "explore.css").read_text(encoding="utf-8")
    embedded: dict[str, Any] = {"models": list(entries)}
    if any("record" not in entry for entry in entries):
        embedded["wasm"] = _base64((PAGE / "onward.wasm").read_bytes())
    imports = {f"page/{name}": _script(name) for name in SCRIPTS}
    head = f'<script type="importmap">{json.dumps({"imports": imports})}</script>'
    data = json.dumps(embedded).replace("<", "\\u003c")  # so that no text ends the script
    body = f'<script type="application/json" id="embedded">{data}</script>'
    program = f'{body}<script type="module">import "page/explore.js";</script>'
    replacements = {
        '<link rel="stylesheet" href="explore.css">': f"<style>{style}</style>{head}",
        '<script type="module" src="explore.js"></script>': program,
    }
    for original, replacement in replacements.items():
        page = page.replace(original, replacement)
    return Page(page)


def _script(name: str) -> str:
    """A script as a URL that contains it; its imports name the entries of the import map."""
    source = (PAGE / name).read_text(encoding="utf-8").replace('from "./', 'from "page/')
    return f"data:text/javascript;base64,{_base64(source.encode())}"


def example(features: int, steps: int = 40) -> NDArray[Any]:
    """A smooth signal (steps, features) for a model that comes without recordings."""
    t, i = np.arange(steps)[:, None], np.arange(features)
    return np.sin(2 * np.pi * t / (11 + 3 * (i % 7)) + i).astype(np.float32)
