"""Files for Onward for JavaScript; tests/web runs them."""

from pathlib import Path

import numpy as np
import pytest
from support.javascript import voice_detector

import onward
from onward.core import storage
from onward.errors import ArgumentError
from onward.graph import Graph, Input, Model


def test_an_operation_in_numpy_is_named() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (4, 4))
    graph.outputs = (graph.add("Det", x, name="the product"),)
    with pytest.raises(ArgumentError, match=r"the product .*NumPy"):
        onward.export_web(Model(graph), "unused", np.ones((4, 4), np.float32))


def test_a_memory_that_grows_from_block_to_block_is_refused(tmp_path: Path) -> None:
    graph = Graph()
    x, old = graph.add_input("x", np.float32, (1, 3)), graph.add_input("past", np.float32, ("n", 3))
    graph.outputs = (graph.add("ReduceSum", old), graph.add("Concat", old, x, axis=0))
    graph.declared_outputs = (Input("y", None), Input("present", None))
    with pytest.raises(ArgumentError, match="more than 64 shapes"):
        onward.export_web(
            Model(graph), "unused", blocks=[np.ones((1, 3), np.float32)], carry={"past": "present"}
        )


def test_a_file_for_javascript_is_not_a_model_in_python(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    onward.export_web(onward.Linear(3, 2), path, np.ones((1, 1, 3)))
    with pytest.raises(onward.errors.FileError, match="programs for JavaScript"):
        onward.load(path)
    with pytest.raises(ArgumentError, match="at least one call"):
        onward.export_web(onward.Linear(3, 2), path)


def test_weights_are_stored_once_for_all_programs(tmp_path: Path) -> None:
    model, sizes = voice_detector(), []
    for batches in ([1], [1, 2, 3, 4, 5]):
        path = tmp_path / "model.safetensors"
        calls = [(np.zeros((b, 128)), np.zeros((2, b, 9)), np.int64(16000)) for b in batches]
        onward.export_web(model, path, *calls, blocks=[np.zeros((1, 128))], sr=np.int64(16000))
        tensors, _ = storage.read(path)
        sizes.append(sum(a.nbytes for a in tensors.values() if a.dtype == np.float32))
    assert sizes[1] == sizes[0]
