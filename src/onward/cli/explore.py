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
from ..formats import load
from ..layers.base import Layer
from ..recipes import text as text_models
from ..tables import data
from ..tracing.explore import FILES, PAGE, Entry, example, model_bytes, unsupported
from .common import complete_model, layer_of, model_file

TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript",
    ".wasm": "application/wasm", ".json": "application/json", ".safetensors": "application/octet-stream",
}  # fmt: skip
EXAMPLES = 2  # recordings of each speaker
SPEAKERS = 9
MICROPHONE = {
    "hint": "Say “a-e”: two vowels within a fifth of a second. The model names the most similar of its nine "
    "speakers. The sound stays on this page.",
    "about": "The page computes what the recordings contain: 12 LPC cepstrum coefficients per frame, at 10 "
    "kHz, in frames of 25.6 ms every 6.4 ms. The documentation of the recordings does not say how "
    "a frame was weighted, so the page uses the customary Hamming window and a pre-emphasis of "
    "0.97.",
}
PLAYS = """\
ROMEO.
But, soft! what light through yonder window breaks?
It is the east, and Juliet is the sun.
Arise, fair sun, and kill the envious moon,
Who is already sick and pale with grief,
That thou her maid art far more fair than she.

JULIET.
O Romeo, Romeo! wherefore art thou Romeo?
Deny thy father and refuse thy name;
Or, if thou wilt not, be but sworn my love,
And I'll no longer be a Capulet.

KING RICHARD.
Now is the winter of our discontent
Made glorious summer by this sun of York;
And all the clouds that lour'd upon our house
In the deep bosom of the ocean buried.

ANTONY.
Friends, Romans, countrymen, lend me your ears;
I come to bury Caesar, not to praise him.
The evil that men do lives after them;
The good is oft interred with their bones.

PORTIA.
The quality of mercy is not strain'd,
It droppeth as the gentle rain from heaven
Upon the place beneath: it is twice blest;
It blesseth him that gives and him that takes.
"""
OPENING = PLAYS[: PLAYS.index("r sun, and kill")]


@click.command(epilog="Example:  onward explore shakespeare")
@click.argument("model", required=False, shell_complete=complete_model)
@click.option(
    "--save", type=click.Path(path_type=Path, file_okay=False), help="Write the page to this folder."
)
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="Port of the page; default: any free.")
@click.option("--no-browser", is_flag=True, help="Print the address without opening it.")
def explore(model: str | None, save: Path | None, port: int, no_browser: bool) -> None:
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
    """A server of these files for this machine only."""

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

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def site(model: str | None) -> dict[str, bytes]:
    """The files of the page by name."""
    files = {name: (PAGE / name).read_bytes() for name in FILES}
    entries: list[Entry] = []
    if model is None or model in bundled.models():
        for entry, content in (_shakespeare(), _vowels()):
            files[entry["file"]] = content
            entries.append(entry)
        files |= {f"models/{path.name}": path.read_bytes() for path in (PAGE / "models").iterdir()}
        entries += [_forecaster(), _latch()]
        entries.sort(key=lambda entry: entry["id"] != (model or "shakespeare"))
    else:
        entry, files["models/model.safetensors"] = _other(model)
        entries.append(entry)
    files["models.json"] = json.dumps(entries).encode()
    return files


def _shakespeare() -> tuple[Entry, bytes]:
    """The bundled text model with int8 matrices, which halves the page."""
    model, vocabulary = text_models.load(bundled.models()["shakespeare"])
    small = _float32(model).quantize("int8")
    entry = {
        "id": "shakespeare", "title": "Shakespeare, character by character", "kind": "text",
        "file": "models/shakespeare.safetensors", "example": OPENING, "corpus": PLAYS,
        "presets": [OPENING, *(PLAYS[PLAYS.index(name) :][:90] for name in ("KING", "ANTONY", "PORTIA"))],
        "lead": "It reads the text character by character. After each one, it predicts the next.",
        "about": "Model: two LSTM layers of 256 units with int8 matrices, trained by Onward on nine plays.",
    }  # fmt: skip
    return entry, model_bytes(small, vocabulary.characters)


def _float32(model: Layer) -> Layer:
    """A copy of a model whose recurrent layers are quantized to float16, with the same weights in float32."""
    layers = []
    for layer in model.in_order() or []:
        if layer.state_names:
            wide = type(layer)(**{key: value for key, value in layer.config().items() if key != "precision"})
            wide.load_state_dict(
                {name: weight.astype(np.float32) for name, weight in layer.state_dict().items()}
            )
            layer = wide
        layers.append(layer)
    return type(model)(*layers)


def _vowels() -> tuple[Entry, bytes]:
    sequences = data.read(bundled.datasets()["japanese_vowels_test"])
    assert sequences.labels is not None
    examples = []
    for speaker in range(SPEAKERS):
        for number in np.flatnonzero(sequences.labels == speaker)[:EXAMPLES]:
            x = [[round(float(value), 6) for value in step] for step in sequences.items[number]]
            examples.append({"name": f"speaker {speaker}, recording {number}", "x": x})
    entry = {
        "id": "vowels", "title": "Vowels: who is speaking?", "kind": "signal", "features": 12,
        "channel": "coefficient", "microphone": MICROPHONE,
        "file": "models/vowels.safetensors", "examples": examples,
        "classes": [f"speaker {speaker}" for speaker in range(SPEAKERS)],
        "lead": "It hears 12 numbers per frame of sound. After each frame, it names one of nine speakers.",
        "about": "Model: an LSTM of 48 units, trained by Onward. Recordings: Kudo, Toyama and Shimbo, "
        "Japanese Vowels, UCI Machine Learning Repository, CC BY 4.0.",
    }  # fmt: skip
    return entry, bundled.models()["vowels"].read_bytes()


def _forecaster() -> Entry:
    t = np.arange(80)
    wave = 0.45 * np.sin(2 * np.pi * t / 14) + 0.3 * np.sin(2 * np.pi * t / 60)
    return {
        "id": "forecaster", "title": "Forecaster: continue a curve", "kind": "curve", "features": 1,
        "file": "models/forecaster.safetensors", "compare": _compared("forecaster"),
        "examples": [{"name": "two waves", "x": wave.round(6)[:, None].tolist()}],
        "predicts": "Next value",
        "lead": "It reads one value per step and predicts the next. “Let it go on” continues the curve.",
        "about": "Model: an LSTM of 32 units, trained by Onward on waves, and an RNN for comparison.",
    }  # fmt: skip


def _compared(name: str) -> list[dict[str, str]]:
    """The LSTM and the RNN of one task, also before training where there are files, to compare gradients."""
    kinds = {"LSTM": "", "RNN": "_rnn"}
    times = {"before training": "_start", "after training": ""}
    return [
        {"name": f"{kind} {time}", "file": f"models/{name}{model}{suffix}.safetensors"}
        for time, suffix in times.items()
        for kind, model in kinds.items()
        if (PAGE / f"models/{name}{model}{suffix}.safetensors").exists()
    ]


def _latch() -> Entry:
    x = np.zeros((90, 1))
    x[[8, 45], 0] = 0.8, -0.5
    return {
        "id": "latch", "title": "Latch: remember the last pulse", "kind": "signal", "features": 1,
        "file": "models/latch.safetensors", "compare": _compared("latch"),
        "examples": [{"name": "two pulses", "x": x.tolist()}], "predicts": "Last pulse",
        "lead": "It reads mostly zeros. Its output is the last pulse that it has seen, however long ago.",
        "about": "Model: an LSTM of 16 units, trained by Onward on pulses, and an RNN for comparison.",
    }  # fmt: skip


def _other(model: str) -> tuple[Entry, bytes]:
    """The page's entry for a model in a file. Raises UsageError if the page cannot run it."""
    path = model_file(model)
    vocabulary = text_models.vocabulary_of(path)
    net = layer_of(path, model) if vocabulary is None else load(path)
    assert isinstance(net, Layer)
    reason = unsupported(net)
    if reason is not None:
        raise click.UsageError(
            f"the page cannot run {model}: {reason}. Record a run instead: "
            "onward.load(...).trace(x).save('gates.html')"
        )
    entry: Entry = {"id": path.stem, "title": path.stem, "file": "models/model.safetensors"}
    if vocabulary is not None:
        start = vocabulary.without_unknown(PLAYS)[:80] or vocabulary.characters[:1]
        entry |= {"kind": "text", "example": start, "corpus": vocabulary.without_unknown(PLAYS) or start}
        return entry, model_bytes(net, vocabulary.characters)
    shape = net.step_shape
    if shape is None or len(shape) != 1:
        raise click.UsageError(f"the page cannot run {model}: its input is not a vector of numbers per step")
    x = example(shape[0])
    return entry | {
        "kind": "signal", "features": shape[0], "examples": [{"name": "waves", "x": x.tolist()}],
    }, model_bytes(net)  # fmt: skip
