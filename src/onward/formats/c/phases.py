"""The programs that a stream runs one after the other, or the only one of a call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, ShapeError
from ...graph.node import AnyArray, Signature
from ...graph.over_time.streamed import Streamed
from ...graph.plan.steps import views_of
from ...graph.plan.view import View
from .program import FixedProgram, FixedPrograms

MAX_PHASES = 64


class Phase(NamedTuple):
    """A program, the phase after it, and where the values are that the next block takes.

    The first inputs and outputs of the program are the carries. A carry is `kept` if its output may take the
    place of its input, because nothing reads that any more. `end` is the program that ends a stream before
    this phase, unless nothing remains there, or the model takes no sequence of that length.
    """

    program: FixedProgram
    following: int
    kept: list[bool]
    end: FixedProgram | None = None


def of_call(programs: FixedPrograms, inputs: Sequence[AnyArray]) -> list[Phase]:
    """Return the phase of a call. Raises ArgumentError if a step has no program for fixed sizes."""
    return [Phase(programs.compiled(inputs), 0, [])]


def of_stream(
    programs: FixedPrograms, last: FixedPrograms | None, streamed: Streamed, block: Sequence[AnyArray]
) -> list[Phase]:
    """Return the phases of a stream of equal blocks, until the carries have the sizes of an earlier block.

    `last` compiles the programs that end a stream. Raises ArgumentError if the carries grow from block to
    block.
    """
    count = len(streamed.carries)
    known: list[tuple[Signature, ...]] = []
    phases: list[FixedProgram] = []
    ends: list[FixedProgram | None] = []
    carried: Sequence[AnyArray] = streamed.initial
    axis = streamed.sequence.axes.time
    while (signature := tuple(map(Signature.of, carried))) not in known:
        if len(known) == MAX_PHASES:
            raise ArgumentError(
                f"the carries of the stream take more than {MAX_PHASES} shapes: its memory grows from block "
                "to block, or blocks fit its strides only after many of them"
            )
        known.append(signature)
        program = programs.compiled([*carried, *block])
        phases.append(program)
        ends.append(None if last is None else _end(last, carried, block[0].take([], axis)))
        carried = [np.zeros(tuple(map(int, y.shape)), y.dtype) for y in program.outputs[:count]]
    following = [*range(1, len(phases)), known.index(signature)]
    kept = [[_is_kept(program, place) for place in range(count)] for program in phases]
    remaining = ends if _remain(ends, streamed) else [None] * len(phases)
    return list(map(Phase, phases, following, kept, remaining))


def phase_after(phases: Sequence[Phase], blocks: int) -> Phase:
    """Return the phase of a stream after a number of blocks."""
    place = 0
    for _ in range(blocks):
        place = phases[place].following
    return phases[place]


def _end(last: FixedPrograms, carried: Sequence[AnyArray], none: AnyArray) -> FixedProgram | None:
    """Return the program that ends a stream, or None if the model does not take a sequence of this length."""
    try:
        return last.compiled([*carried, none])
    except ShapeError:
        return None


def _remain(ends: Sequence[FixedProgram | None], streamed: Streamed) -> bool:
    """Whether the end of a stream returns anything that its blocks did not."""
    outputs = [zip(end.outputs, streamed.outputs, strict=True) for end in ends if end]
    is_over_time = (axes.time is not None and 0 not in y.shape for pairs in outputs for y, axes in pairs)
    return any(is_over_time) or (streamed.latency > 0 and bool(outputs))


def _is_kept(program: FixedProgram, place: int) -> bool:
    """Whether the output of a carry may be written where its input is."""
    x, y = program.inputs[place], program.outputs[place]
    if x is None or math.prod(x.shape) < math.prod(y.shape):
        return False
    reads = [number for number, step in enumerate(program.steps) if _uses(step, x.space)]
    writes = [number for number, step in enumerate(program.steps) if _uses(step, y.space)]
    if not reads or not writes:
        return True
    in_one = (
        reads[-1] == writes[0] and program.steps[reads[-1]][0] == "recurrent"
    )  # which copies its states first
    return reads[-1] < writes[0] or in_one


def _uses(step: Any, space: int) -> bool:
    return any(view.space == space for view in views_of(step))


def largest(programs: Sequence[Sequence[View | None]]) -> list[tuple[str, int]]:
    """Return the dtype and the most elements of each input or output of programs."""
    found = []
    for views in zip(*programs, strict=True):
        known = [view for view in views if view is not None]
        found.append((known[0].dtype, max(math.prod(view.shape) for view in known)) if known else ("", 0))
    return found
