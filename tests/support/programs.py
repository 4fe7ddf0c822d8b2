"""Programs of the core: their steps in words, and single steps, for tests of what the core accepts."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from onward import _core
from onward.graph.plan.steps import described
from onward.graph.plan.words import WordWriter


def described_steps(program: Any) -> list[str]:
    """Return what the steps of a compiled graph do, in words."""
    return [described(step) for step in program.steps]


def program_of(
    steps: Sequence[tuple[str, Sequence[Any]]],
    spaces: Sequence[Any] = (0,),
    arrays: Sequence[tuple[Any, int, int]] = (),
    locations: Sequence[Any] = (),
    weights: Sequence[Any] = (),
) -> Any:
    """Return a program of some steps; raises what the core raises.

    `spaces` are the sizes in bytes of the constants and the arguments, `arrays` those of the arena with their
    first and last steps.
    """
    writer = WordWriter(weights.index)
    for part in ([], list(spaces), list(arrays), [], list(locations)):
        writer.write(part)
    writer.steps(steps)
    table = [len(writer.values), *chain.from_iterable(writer.values)]
    return _core.Program(np.array([*table, *writer.words], np.int64), [*weights])


def plan_of(*parts: Any, axes: Sequence[int] = (), **named: Any) -> Any:
    """Bind a program of these parts; raises what the core raises."""
    return program_of(*parts, **named).bind(list(axes), True)
