"""Check that an exported model opens again and computes what its source computes."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ...errors import ArgumentError, OnwardError
from ...graph import Graph
from ...graph.random_inputs import SIZES, random_inputs
from ...model import Model
from .read import read
from .translate import translate


def check_export(graph: Graph, content: bytes, path: str | os.PathLike[str]) -> None:
    """Open the content of a file for a graph, and compare the outputs for inputs that the graph accepts.

    Graphs whose inputs have no declared sizes only open. Raises ArgumentError.
    """
    try:
        exported, source = Model(translate(read(path, content))), Model(graph.replaced(structure=None))
        inputs = [declared for declared in source.planner.graph.inputs if declared.name in source.inputs]
    except OnwardError as error:
        raise _refused(f"cannot be opened: {error}") from error
    for size in SIZES:
        try:
            arrays = random_inputs(inputs, size)
            expected = source.planner(*arrays)
        except OnwardError:  # the graph does not accept these sizes, or does not declare any
            continue
        try:
            outputs = exported.planner(*arrays)
        except OnwardError as error:
            raise _refused(f"does not run: {error}") from error
        again = expected if _same(outputs, expected) else source.planner(*arrays)
        if _same(again, expected) and not _same(outputs, expected):  # otherwise its numbers are random
            raise _refused("gives other outputs than the model")
        return


def _same(outputs: Any, others: Any) -> bool:
    """Whether outputs are the same bits, in the same sequences."""
    if not isinstance(others, np.ndarray):
        pairs = zip(outputs or (), others or (), strict=False)
        return type(outputs) is type(others) and all(_same(y, other) for y, other in pairs)
    return (
        isinstance(outputs, np.ndarray)
        and outputs.dtype == others.dtype
        and np.array_equal(outputs, others, equal_nan=others.dtype.kind in "fc")
    )


def _refused(problem: str) -> ArgumentError:
    advice = "please report this; check=False writes the file nevertheless"
    return ArgumentError(f"nothing was written, because the ONNX file {problem}: {advice}")
