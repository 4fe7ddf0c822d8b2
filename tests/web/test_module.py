"""The module of Onward for JavaScript: its types, its memory, and the code of its documentation."""

import gzip
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support import ROOT, pages
from support.javascript import evaluated, silero_like

import onward
from onward.tracing.explore import PAGE

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")


def test_memory_does_not_grow_with_calls(tmp_path: Path) -> None:
    silero_like(tmp_path)
    program = """
        const memories = [], instantiate = WebAssembly.instantiate;
        WebAssembly.instantiate = async (...args) => {
          const instance = await instantiate(...args);
          memories.push(instance.exports.memory);
          return instance;
        };
        const { readFile } = await import("node:fs/promises");
        const model = await onward.Onward.load(await readFile("FILE")), stream = model.stream();
        const frame = new Float32Array(128).fill(0.1), state = new Float32Array(18), sizes = [];
        for (let call = 0; call < 10000; call++) {
          stream(frame);
          model.run(frame, state, 16000);
          try { model.run(frame, state, 1); } catch {}
          if (call === 50 || call === 9999) sizes.push(memories[0].buffer.byteLength);
        }
        console.log(JSON.stringify([memories.length, sizes[1] - sizes[0]]));
    """
    assert evaluated(program.replace("FILE", str(tmp_path / "model.safetensors"))) == [1, 0]


@pytest.mark.skipif(shutil.which("tsc") is None, reason="needs TypeScript")
def test_the_types_fit_their_use() -> None:
    target = ["--module", "es2020", "--target", "es2020", "--moduleResolution", "node"]
    command = ["tsc", "--noEmit", "--strict", *target, str(ROOT / "tests/web/types.ts")]
    assert subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout == ""


def test_the_core_for_whole_models_stays_small() -> None:
    for name in ("onward-graph.wasm", "onward-graph-relaxed.wasm"):
        content = (PAGE / name).read_bytes()
        assert len(content) <= 750_000 and len(gzip.compress(content)) <= 170_000


def test_the_types_name_what_the_module_exports() -> None:
    declared = (PAGE / "onward.d.ts").read_text()
    names = re.findall(r"^export (?:class|const) (\w+)", declared, re.MULTILINE)
    assert set(evaluated("console.log(JSON.stringify(Object.keys(onward)));")) == set(names)


def test_the_voice_detector_of_the_documentation_gives_the_bits_of_python(tmp_path: Path) -> None:
    model, frame = pages.voice_detector(), np.zeros((1, 576), np.float32)
    onward.export_web(model, tmp_path / "silero.safetensors", blocks=[frame], sr=16000)
    page = (ROOT / "docs/how_to/browser.md").read_text(encoding="utf-8")
    (block,) = (b for b in re.findall(r"```js\n(.*?)```", page, re.DOTALL) if "probabilityOfSpeech" in b)
    (tmp_path / "detector.mjs").write_text(block)
    for name in ("onward.js", "onward-graph.wasm"):
        shutil.copy(PAGE / name, tmp_path)
    program = """
        const { probabilityOfSpeech } = await import("FILE");
        const chunk = Float32Array.from({ length: 512 }, (_, n) => Math.sin(n / 9));
        console.log(JSON.stringify([0, 1, 2].map(() => probabilityOfSpeech(chunk))));
    """
    found = evaluated(program.replace("FILE", (tmp_path / "detector.mjs").as_uri()))
    stream, chunk = model.stream(sr=16000), np.array([math.sin(n / 9) for n in range(512)], np.float32)
    contexts = np.zeros(64, np.float32), chunk[-64:], chunk[-64:]
    frames = [np.concatenate([context, chunk]) for context in contexts]
    assert found == [float(stream(frame[None])[0, 0]) for frame in frames]
