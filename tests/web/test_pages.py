"""The JavaScript blocks of the pages run: modules in Node, and clients of a server in Chromium."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support import ROOT, pages

import onward
from onward import bundled

SERVE = ROOT / "docs" / "how_to" / "serve.md"
PAGE = ROOT / "src" / "onward" / "tracing" / "page"


def scripts(server: bool) -> list[pages.Block]:
    """The blocks of JavaScript that need a server, or the others."""
    found = [block for page in pages.pages_of("web") for block in pages.blocks(page)]
    return [b for b in found if pages.suite(b) == "web" and (pages.SERVER in b.code) == server]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
@pytest.mark.parametrize("block", scripts(server=False), ids=lambda block: f"line {block.line}")
def test_module_of_a_page_does_not_run_in_node(block: pages.Block, tmp_path: Path) -> None:
    for name in ("onward.js", "onward.wasm", "onward-graph.wasm"):
        shutil.copy(PAGE / name, tmp_path)
    frame = np.zeros((1, 576), np.float32)
    onward.export_web(pages.voice_detector(), tmp_path / "silero.safetensors", blocks=[frame], sr=16000)
    shutil.copy(bundled.models()["vowels"], tmp_path / "vowels.safetensors")
    (tmp_path / "page.mjs").write_text(block.code)
    subprocess.run(["node", "page.mjs"], cwd=tmp_path, check=True)


@pytest.mark.parametrize("block", scripts(server=True), ids=lambda block: f"line {block.line}")
def test_client_of_a_page_does_not_run_in_chromium(block: pages.Block, browser) -> None:
    with pages.serving(["onward", "serve", "vowels"]) as address:
        page = browser.new_page()
        page.goto(f"http://{address}/")
        answers = []
        page.on("console", lambda message: answers.append(message.text))
        page.add_script_tag(content=block.code.replace(pages.SERVER, address))
        while len(answers) < 2:  # what the server says first, and the answer to a step
            page.wait_for_event("console")
        page.close()
    assert "position" in answers[0] and "Float32Array" in answers[1]


@pytest.mark.parametrize("allowed", [False, True])
def test_a_file_on_disk_needs_the_origin_that_the_page_names(allowed: bool, browser, tmp_path: Path) -> None:
    (block,) = [block for block in pages.blocks(SERVE) if block.language == "js"]
    options = ["--origin", "null"]
    assert " ".join(options) in SERVE.read_text(encoding="utf-8")
    with pages.serving(["onward", "serve", "vowels", *(options if allowed else [])]) as address:
        client = tmp_path / "client.html"
        client.write_text(f"<script>{block.code.replace(pages.SERVER, address)}</script>")
        page = browser.new_page()
        with page.expect_console_message() as message:
            page.goto(client.as_uri())
        page.close()
    assert ("position" if allowed else "403") in message.value.text
