"""`onward explore` writes the page with its models, and rejects models that it cannot run."""

import json
import socket

import numpy as np
from support.cli import invoke, message

import onward
from onward.cli.explore import site
from onward.cli.sources import ModelFile


def test_save_writes_the_bundled_models_with_the_chosen_one_first(tmp_path):
    invoke("explore", "vowels", "--save", tmp_path / "page", expect=0)
    entries = json.loads((tmp_path / "page/models.json").read_text())
    assert [entry["id"] for entry in entries] == ["vowels", "shakespeare", "forecaster", "latch"]
    for entry in entries:
        assert onward.load(tmp_path / "page" / entry["file"]).dtype == np.float32
    assert (tmp_path / "page/index.html").exists() and (tmp_path / "page/onward.wasm").exists()


def test_a_model_file_becomes_the_only_model_with_an_example_of_its_size(tmp_path):
    onward.Sequential(onward.GRU(3, 4, rng=0), onward.Linear(4, 2)).save(tmp_path / "mine.safetensors")
    files = site(ModelFile(str(tmp_path / "mine.safetensors")))
    (entry,) = json.loads(files["models.json"])
    assert entry["id"] == "mine" and np.shape(entry["examples"][0]["x"]) == (40, 3)


def test_a_model_that_the_page_cannot_run_is_refused_with_the_reason(tmp_path):
    onward.LSTM(3, 4, bidirectional=True, rng=0).save(tmp_path / "both.safetensors")
    result = invoke("explore", tmp_path / "both.safetensors", expect=2)
    assert "reverse direction" in message(result) and "gates.html" in message(result)


def test_a_port_in_use_is_an_error():
    """It was reported as an output that cannot be written."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = invoke("explore", "--port", str(port), "--no-browser", expect=1)
    assert f"cannot listen on port {port}: Address already in use" in message(result)
