"""Sequences of arrays, which no operation changes, and optional values, which exist inside of models."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ..node import AnyArray
from .arguments import as_axis, as_integers
from .control import BodyPlanner
from .registry import EVERY_INPUT, operation


def _place(position: AnyArray | None, size: int, last: int) -> int:
    """Return a position counted from 0, which is `last` if it is omitted. Raises ArgumentError."""
    if position is None:
        return last
    if position.size != 1:
        raise ArgumentError(f"the position has shape {position.shape}; expected one number")
    place = int(position.item())
    if not -size <= place < size:
        raise ArgumentError(f"the position is {place}; expected {-size} to {size - 1}")
    return place % size


def _listed(sequence: Any) -> list[AnyArray]:
    if not isinstance(sequence, list):
        raise ArgumentError(f"got a value of type {type(sequence).__name__}; expected a sequence")
    return sequence


@operation("SequenceEmpty", shape_inputs=EVERY_INPUT, is_pure=False)
def sequence_empty(*, dtype: Any = np.float32) -> Any:
    """A sequence of no arrays."""
    return ([],)


@operation("SequenceConstruct", shape_inputs=EVERY_INPUT, is_pure=False)
def sequence_construct(*arrays: AnyArray) -> Any:
    """The sequence of some arrays."""
    return (list(arrays),)


@operation("SequenceLength", shape_inputs=EVERY_INPUT, is_pure=False)
def sequence_length(sequence: list[AnyArray]) -> AnyArray:
    """The number of arrays."""
    return np.array(len(_listed(sequence)), np.int64)


@operation("SequenceAt", shape_inputs=EVERY_INPUT, is_pure=False)
def sequence_at(sequence: list[AnyArray], position: AnyArray) -> AnyArray:
    """The array at a position, which counts from the end if it is negative."""
    size = len(_listed(sequence))
    return sequence[_place(position, size, size - 1)]


@operation("SequenceErase", shape_inputs=EVERY_INPUT, is_pure=False)
def sequence_erase(sequence: list[AnyArray], position: AnyArray | None = None) -> Any:
    """The sequence without the array at a position, by default the last one."""
    size = len(_listed(sequence))
    if not size:
        raise ArgumentError("the sequence is empty")
    place = _place(position, size, size - 1)
    return (sequence[:place] + sequence[place + 1 :],)


@operation("SequenceInsert", shape_inputs=EVERY_INPUT, is_pure=False)
def sequence_insert(sequence: list[AnyArray], array: AnyArray, position: AnyArray | None = None) -> Any:
    """The sequence with an array inserted before a position, by default at the end."""
    size = len(_listed(sequence))
    at_end = position is None or (position.size == 1 and position.item() == size)
    place = size if at_end else _place(position, size, size)
    return ([*sequence[:place], array, *sequence[place:]],)


@operation("ConcatFromSequence", shape_inputs=EVERY_INPUT, is_pure=False)
def concat_from_sequence(sequence: list[AnyArray], *, axis: int, new_axis: int = 0) -> AnyArray:
    """The arrays joined along an axis, which is a new one if `new_axis` is 1."""
    if not _listed(sequence):
        raise ArgumentError("the sequence is empty")
    ranks = {array.ndim for array in sequence}
    axis = as_axis(axis, max(ranks) + new_axis)
    shapes = {array.shape[:axis] + (() if new_axis else array.shape[axis + 1 :]) for array in sequence}
    if new_axis:
        shapes = {array.shape for array in sequence}
    if len(ranks) > 1 or len(shapes) > 1:
        raise ShapeError(f"the arrays have shapes {', '.join(str(array.shape) for array in sequence)}")
    return np.stack(sequence, axis) if new_axis else np.concatenate(sequence, axis)


@operation("SplitToSequence", shape_inputs=EVERY_INPUT, is_pure=False)
def split_to_sequence(x: AnyArray, split: AnyArray | None = None, *, axis: int = 0, keepdims: int = 1) -> Any:
    """The parts of x along an axis: of equal sizes if `split` is a number, and of 1 if it is omitted.

    Parts of size 1 lose the axis if `keepdims` is 0 and `split` is omitted.
    """
    axis = as_axis(axis, x.ndim)
    size = x.shape[axis]
    if split is None or not split.ndim:
        step = 1 if split is None else int(split.item())
        if step < 1:
            raise ArgumentError(f"split={step}; expected at least 1")
        sizes = [min(step, size - start) for start in range(0, size, step)]
    else:
        sizes = as_integers(split)
    if min(sizes, default=0) < 0 or sum(sizes) != size:
        raise ArgumentError(f"split={sizes[:9]}; expected sizes whose sum is {size}")
    parts = np.split(x, np.cumsum(sizes)[:-1], axis) if sizes else []
    return ([part.squeeze(axis) for part in parts] if split is None and not keepdims else parts,)


@operation("SequenceMap", shape_inputs=EVERY_INPUT, is_pure=False)
def sequence_map(sequence: list[AnyArray], *values: Any, body: BodyPlanner, captured: int = 0) -> Any:
    """Run a graph for each array; sequences among the other inputs give it their arrays, one by one."""
    own: Sequence[Any] = (_listed(sequence), *values[: len(values) - captured])
    if lengths := {len(each) for each in own if isinstance(each, list)} - {len(sequence)}:
        raise ArgumentError(f"the sequences have {len(sequence)} and {min(lengths)} arrays")
    outer, results = values[len(values) - captured :], list[Any]()
    for place in range(len(sequence)):
        results.append(body(*(each[place] if isinstance(each, list) else each for each in own), *outer))
    return tuple([result[place] for result in results] for place in range(len(body.graph.outputs)))


# Optional values: an array, a sequence of arrays, or nothing, which is None.


@operation("Optional", shape_inputs=EVERY_INPUT, is_pure=False)
def optional(x: Any = None) -> Any:
    """The input, or nothing if it is omitted."""
    return (x,)


@operation("OptionalGetElement", shape_inputs=EVERY_INPUT, is_pure=False)
def optional_get_element(x: Any) -> Any:
    """The array or the sequence of an optional value that has one."""
    if x is None:
        raise ArgumentError("the optional value is empty")
    return (x,)


@operation("OptionalHasElement", shape_inputs=EVERY_INPUT, is_pure=False)
def optional_has_element(x: Any = None) -> Any:
    """Whether an optional value has an element; an array or a sequence is one."""
    return np.array(x is not None)
