"""Traces of whole models in JavaScript have the bits of `Model.trace` in Python."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.javascript import Exported, evaluated, in_chromium, in_node, voice_detector
from support.sequence_graphs import RandomGraph, normal
from support.skips import counted_cases

import onward
from onward.errors import ArgumentError
from onward.graph import Graph, Input, Model

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
CELLS = (onward.RNN, onward.LSTM, onward.GRU)


def node(layer: Any, operation: str = "Recurrent", second: str = "lengths", **attributes: Any) -> Model:
    """A graph of a recurrent node, perhaps with lengths or a mask, and its output (batch, time, features)."""
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", "batch", layer.input_size))
    if second == "lengths":
        graph.add_input("lengths", np.int64, ("batch",))
    elif second == "mask":
        graph.add_input("mask", np.bool_, ("time", "batch"))
    outputs = 1 + len(layer.state_names)
    y = graph.add_all(operation, (x, second), outputs, cell=layer.cell, name="encoder/rnn", **attributes)
    graph.outputs = (graph.add("Transpose", y[0], perm=[1, 0, 2]), *y[1:])
    return Model(graph)


def steps(layer: Any) -> Model:
    """A graph of two single steps over rows with two axes."""
    graph = Graph()
    x = graph.add_input("x", np.float32, (2, "batch", layer.input_size))
    states = [
        graph.add_input(name, np.float32, (2, "batch", layer.hidden_size)) for name in layer.state_names
    ]
    for _ in range(2):
        states = list(graph.add_all("Step", (x, *states), len(states), cell=layer.cell, name="cell"))
    graph.outputs = tuple(states)
    return Model(graph)


def scanned(layer: Any) -> Model:
    """A Scan over rows of sequences; each runs the layer from the state that the one before left."""
    body = Graph()
    h = body.add_input("h", np.float32, (1, "batch", layer.hidden_size))
    x = body.add_input("x", np.float32, ("time", "batch", layer.input_size))
    y, h_n = body.add_all("Recurrent", (x, "", h), 2, cell=layer.cell, name="rnn")
    body.outputs = (h_n, y)
    body.declared_outputs = (
        Input("", np.dtype(np.float32), (1, "batch", layer.hidden_size)),
        Input("", None),
    )
    graph = Graph()
    start = graph.add_input("h0", np.float32, (1, "batch", layer.hidden_size))
    xs = graph.add_input("xs", np.float32, ("runs", "time", "batch", layer.input_size))
    graph.outputs = graph.add_all("Scan", (start, xs), 2, body=body, num_scan_inputs=1, name="scan")
    return Model(graph)


def models() -> Iterator[tuple[Any, list[Any]]]:
    rng = np.random.default_rng(0)
    for number, cell in enumerate(CELLS):
        both = cell(3, 5, 2, bidirectional=True, rng=number)
        one = cell(3, 5, rng=number)
        lengths, mask = np.array([9, 0, 4]), rng.random((9, 3)) < 0.6
        yield node(both), [(normal(rng, 9, 3, 3), lengths)]
        yield node(one, second="", reverse=True), [normal(rng, 9, 3, 3), normal(rng, 2, 1, 3)]
        yield node(both, "MaskedRecurrent", "mask"), [(normal(rng, 9, 3, 3), mask)]
        yield steps(one), [(normal(rng, 2, 4, 3), *(normal(rng, 2, 4, 5) for _ in one.state_names))]
    yield scanned(onward.GRU(3, 5, rng=7)), [(normal(rng, 1, 2, 5), normal(rng, 4, 6, 2, 3))]
    layers = onward.GRU(3, 8, 2, rng=0), onward.LayerNorm(8), onward.Linear(8, 2, rng=1)
    for precision in ("", "float16", "int8"):
        sequential = onward.Sequential(*layers)
        if precision:
            sequential = sequential.quantize(precision)
        yield sequential, [normal(rng, 7, 1, 3), normal(rng, 5, 4, 3)]
    first = onward.Sequential(
        onward.LSTM(3, 6, batch_first=True, proj_size=4, rng=2), onward.Last(batch_first=True)
    )
    yield first, [normal(rng, 2, 7, 3)]
    detector = voice_detector()
    yield detector, [(normal(rng, 2, 128), normal(rng, 2, 2, 9), np.int64(16000))]


def test_traces_of_nodes_and_layers_have_the_bits_of_python(tmp_path: Path) -> None:
    exported = [Exported(tmp_path, model, calls, traced=True) for model, calls in models()]
    for model, answer in zip(exported, in_node(tmp_path, [each.case for each in exported]), strict=True):
        model.check(answer)


@pytest.mark.parametrize("first", range(0, 40, 20))
def test_traces_of_random_graphs_have_the_bits_of_python(tmp_path: Path, first: int) -> None:
    exported = []
    for case in counted_cases(20, first):
        with case:
            rng = np.random.default_rng(case.seed)
            model = RandomGraph(case.seed).build(int(rng.integers(2, 9)))
            with case.skipping(ArgumentError, match="NumPy|no recurrent layer"):
                exported.append(Exported(tmp_path, model, [normal(rng, 3, 50, 5)], traced=True))
    for model, answer in zip(exported, in_node(tmp_path, [each.case for each in exported]), strict=True):
        model.check(answer)


def test_traces_have_the_bits_of_python_in_chromium(tmp_path: Path, visit: Any) -> None:
    exported = [Exported(tmp_path, model, calls, traced=True) for model, calls in models()]
    for model, answer in zip(exported, in_chromium(visit(), [each.case for each in exported]), strict=True):
        model.check(answer)


def test_a_file_without_traces_says_how_to_export_them(tmp_path: Path) -> None:
    model, x = onward.Sequential(onward.GRU(3, 8, rng=0), onward.LayerNorm(8)), np.zeros((5, 1, 3))
    onward.export_web(model, tmp_path / "model.safetensors", x)
    program = f"""
        const {{ readFile }} = await import("node:fs/promises");
        const model = await onward.Onward.load(await readFile("{tmp_path / "model.safetensors"}"));
        try {{
          model.trace(new Float32Array(15));
        }} catch ({{ message }}) {{
          console.log(JSON.stringify(message));
        }}
    """
    assert "trace=True" in evaluated(program)


def test_models_that_javascript_cannot_trace_are_refused(tmp_path: Path) -> None:
    path, x = tmp_path / "model.safetensors", np.zeros((5, 1, 3))
    with pytest.raises(ArgumentError, match="no recurrent layer"):
        onward.export_web(onward.Sequential(onward.Linear(3, 2)), path, x, trace=True)
    wide = onward.Sequential(onward.GRU(3, 2, dtype="float64"))
    with pytest.raises(ArgumentError, match="it runs in NumPy"):
        onward.export_web(wide, path, x, trace=True)
