"""Check that an exported model opens again and computes what its source computes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError, OnwardError
from ...graph import Graph
from ...graph.declared import UNNAMED, Input
from ...graph.node import AnyArray
from ...model import Model
from .read import read
from .translate import translate

SIZES = (3, 16, 64)  # tried for open axes; those with different names get different sizes
LARGEST_INDEX = 4  # in inputs of integers
MAX_ELEMENTS = 1 << 20


def check_export(graph: Graph, content: bytes, path: str | os.PathLike[str]) -> None:
    """Open the content of a file for a graph, and compare the outputs for inputs that the graph accepts.

    Graphs whose inputs have no declared sizes only open. Raises ArgumentError.
    """
    try:
        exported, source = Model(translate(read(path, content))), Model(graph.replaced(structure=None))
        inputs = [declared for declared in source.planner.graph.inputs if declared.name in source.inputs]
    except OnwardError as error:
        raise _refused(f"cannot be opened: {error}") from error
    for arrays in _examples(inputs):
        try:
            expected = source.planner(*arrays)
        except OnwardError:  # the graph does not accept these sizes
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


def _examples(inputs: Sequence[Input]) -> Iterator[list[AnyArray]]:
    """Yield arrays for inputs, with growing sizes of their open axes; none if a dtype or a rank is open."""
    if any(declared.dtype is None or declared.axes is None for declared in inputs):
        return
    rng, tried = np.random.default_rng(0), list[Any]()
    for size in SIZES:
        sizes: dict[str, int] = {}
        shapes = [
            tuple(
                axis if isinstance(axis, int) else sizes.setdefault(_key(axis, place), size + len(sizes))
                for place, axis in enumerate(declared.axes or ())
            )
            for declared in inputs
        ]
        if shapes not in tried and sum(map(math.prod, shapes)) <= MAX_ELEMENTS:
            tried.append(shapes)
            yield [
                _random(rng, shape, declared.dtype) for shape, declared in zip(shapes, inputs, strict=True)
            ]


def _key(axis: str, place: int) -> str:
    """The name of an open axis; those without a name have the same size if they are in the same place."""
    return f"axis {place}" if axis in UNNAMED else axis


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> AnyArray:
    if dtype.hasobject:
        return np.full(shape, "text", object)
    is_float = dtype.kind in "fc"
    values = rng.standard_normal(shape) if is_float else rng.integers(0, LARGEST_INDEX, shape)
    return np.asarray(values).astype(dtype)
