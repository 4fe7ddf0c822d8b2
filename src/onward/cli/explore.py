"""`onward explore`: an interactive page that shows a network at work."""

from __future__ import annotations

import json
import sys
import threading
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import numpy as np

from .. import bundled
from ..core import atomic
from ..errors import FileError
from ..recipes import text as text_models
from ..tables import data
from ..tables.rows import Rows
from ..tracing.explore import FILES, PAGE, Entry, example, model_bytes, unsupported
from .sources import ModelFile, as_model, inputs_option

TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript",
    ".wasm": "application/wasm", ".json": "application/json", ".safetensors": "application/octet-stream",
}  # fmt: skip
RECORDINGS = 2  # of each speaker
SPEAKERS = 9
ENTRIES: list[Entry] = json.loads((PAGE / "entries.json").read_text(encoding="utf-8"))  # bundled models
PLAYS = "".join(ENTRIES[0]["corpus"])
OPENING = PLAYS[: PLAYS.index("r sun, and kill")]


@click.command(epilog="Example:  onward explore shakespeare")
@inputs_option
@click.argument("model", required=False, **as_model)
@click.option(
    "--save", type=click.Path(path_type=Path, file_okay=False), help="Write the page to this folder."
)
@click.option(
    "--port",
    default=0,
    type=click.IntRange(0, 65535),
    show_default=False,
    help="Port of the page; default: any free.",
)
@click.option("--no-browser", is_flag=True, help="Print the address without opening it.")
def explore(model: ModelFile | None, save: Path | None, port: int, no_browser: bool) -> None:
    """Open a page that shows every gate of a network while it reads your input.

    Without MODEL, the page offers the bundled models and a forecaster of curves. MODEL is a bundled model, a
    text model or another model of recurrent, Embedding and Linear layers in float32. The page computes in the
    browser; nothing leaves this machine. --save writes static files for any web server.
    """
    files = site(model)
    if save is not None:
        for name, content in files.items():
            target = save / name
            target.parent.mkdir(parents=True, exist_ok=True)
            atomic.replace(target, content)
        size = sum(map(len, files.values()))
        click.echo(f"{save}: {len(files)} files, {size / 1e6:.2f} MB; open index.html through a web server")
        return
    with server(files, port) as running:
        address = f"http://127.0.0.1:{running.server_address[1]}/"
        click.echo(f"{address}  (Ctrl-C stops it)")
        sys.stdout.flush()
        if not no_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        running.serve_forever()


def server(files: dict[str, bytes], port: int = 0) -> ThreadingHTTPServer:
    """A server of these files for this machine only. Raises FileError for a port in use."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].removeprefix("/") or "index.html"
            content = files.get(name)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Type", TYPES.get(Path(name).suffix, "text/plain"))
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise FileError(
            f"cannot listen on port {port}: {error.strerror or error}; choose another --port"
        ) from error


def site(model: ModelFile | None) -> dict[str, bytes]:
    """The files of the page by name."""
    files = {name: (PAGE / name).read_bytes() for name in FILES}
    if model is None or model.card:
        shakespeare, vowels, *others = ENTRIES
        files[shakespeare["file"]] = _small_text_model()
        files[vowels["file"]] = bundled.models()["vowels"].read_bytes()
        files |= {f"models/{path.name}": path.read_bytes() for path in (PAGE / "models").iterdir()}
        passages = (PLAYS[PLAYS.index(name) :][:90] for name in ("KING", "ANTONY", "PORTIA"))
        texts = {"example": OPENING, "corpus": PLAYS, "presets": [OPENING, *passages]}
        entries = [shakespeare | texts, vowels | {"examples": _recordings()}, *others]
        entries.sort(key=lambda entry: entry["id"] != str(model or "shakespeare"))
    else:
        entry, files["models/model.safetensors"] = _other(model)
        entries = [entry]
    files["models.json"] = json.dumps(entries).encode()
    return files


def _small_text_model() -> bytes:
    """The bundled text model with int8 matrices, quantized from float32, which halves the page."""
    model, vocabulary = text_models.load(bundled.models()["shakespeare"])
    layers: list[Any] = [*model.sublayers().values()]
    for place, layer in enumerate(layers):
        if layer.state_names:
            wide = type(layer)(**{key: value for key, value in layer.config().items() if key != "precision"})
            wide.load_state_dict({name: W.astype(np.float32) for name, W in layer.state_dict().items()})
            layers[place] = wide
    return model_bytes(type(model)(*layers).quantize("int8"), vocabulary.characters)


def _recordings() -> list[dict[str, Any]]:
    sequences = data.read(bundled.datasets()["japanese_vowels_test"])
    assert sequences.labels is not None
    return [
        {
            "name": f"speaker {speaker}, recording {number}",
            "x": [[round(float(value), 6) for value in step] for step in sequences.items[number]],
        }
        for speaker in range(SPEAKERS)
        for number in np.flatnonzero(sequences.labels == speaker)[:RECORDINGS]
    ]


def _other(model: ModelFile) -> tuple[Entry, bytes]:
    """The page's entry for a model in a file. Raises UsageError if the page cannot run it."""
    whole: Any = model.model
    net = whole.layers() if isinstance(model.runner, Rows) else model.runner
    vocabulary = model.vocabulary
    if (reason := unsupported(net)) is not None:
        raise click.UsageError(
            f"the page cannot run {model}: {reason}. Record a run instead: "
            "onward.load(...).trace(x).save('gates.html')"
        )
    name = model.path.stem
    entry: Entry = {"id": name, "title": name, "file": "models/model.safetensors"}
    if vocabulary is not None:
        start = vocabulary.without_unknown(PLAYS)[:80] or vocabulary.characters[:1]
        entry |= {"kind": "text", "example": start, "corpus": vocabulary.without_unknown(PLAYS) or start}
        return entry, model_bytes(net, vocabulary.characters)
    shape = net.step_shape
    if shape is None or len(shape) != 1:
        raise click.UsageError(f"the page cannot run {model}: its input is not a vector of numbers per step")
    entry |= {"kind": "signal", "features": shape[0]}
    entry["examples"] = [{"name": "waves", "x": example(shape[0]).tolist()}]
    return entry, model_bytes(net)
