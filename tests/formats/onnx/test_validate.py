"""The validation of names and their order agrees with the checker of the onnx package."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import hostile

from onward.errors import FileError
from onward.formats.onnx.read import read

PACKAGE = Path(onnx.__file__).parent / "backend" / "test" / "data"
FILES = [path for path in sorted(PACKAGE.rglob("*.onnx")) if path.stat().st_size < 20_000]


def graphs(graph: Any) -> Iterator[Any]:
    """A graph, and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def change(model: Any, rng: np.random.Generator) -> None:
    """Rename a value, or swap or remove nodes, in one of the graphs."""

    def some(items: Any) -> int:
        return int(rng.integers(len(items)))

    every = list(graphs(model.graph))
    used = {name for graph in every for node in graph.node for name in (*node.input, *node.output)}
    names = [*sorted(used), "absent"]
    graph, name = every[some(every)], names[some(names)]
    node = graph.node[some(graph.node)]
    match rng.integers(7):
        case 0 if node.input:
            node.input[some(node.input)] = name
        case 1:
            node.output[some(node.output)] = name
        case 2:
            other, kept = graph.node[some(graph.node)], onnx.NodeProto()
            kept.CopyFrom(node)
            node.CopyFrom(other)
            other.CopyFrom(kept)
        case 3:
            graph.output[some(graph.output)].name = name
        case 4 if graph.input:
            graph.input[some(graph.input)].name = name
        case 5 if graph.initializer:
            graph.initializer[some(graph.initializer)].name = name
        case _:
            del graph.node[some(graph.node)]


@pytest.mark.parametrize("inputs", [["x"], ["absent"], ["o9"] * 100_000])
def test_a_node_with_many_outputs_takes_linear_time(inputs: list[str]) -> None:
    """Errors and names were once made for every output."""
    model = onnx.ModelProto(ir_version=8)
    model.opset_import.add(version=14)
    model.graph.input.append(onnx.helper.make_tensor_value_info("x", 1, None))
    model.graph.node.add(op_type="Split", input=inputs, output=[f"o{n}" for n in range(100_000)])
    content = model.SerializeToString()
    with hostile.bounded(seconds=2), contextlib.suppress(FileError):
        read("model.onnx", content)


@pytest.mark.parametrize("seed", range(20))
def test_changed_models_are_refused_exactly_if_the_onnx_package_refuses_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    refused = 0
    for _ in range(50):
        model = onnx.load(FILES[rng.integers(len(FILES))])
        model.ir_version = max(model.ir_version, 4)  # before, the checker wants initializers among the inputs
        change(model, rng)
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError:
            refused += 1
            with pytest.raises(FileError):
                read("model.onnx", model.SerializeToString())
        else:
            read("model.onnx", model.SerializeToString())
    assert refused > 5
