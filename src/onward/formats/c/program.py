"""Programs for fixed sizes, whose steps become C: the steps, their arrays, constants and weights."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core.identity import Identity
from ...graph import Graph
from ...graph.node import AnyArray
from ...graph.plan.builder import Weights
from ...graph.plan.compiler import Compiler
from ...graph.plan.planner import constants_of
from ...graph.plan.program import Location, Program
from ...graph.plan.steps import Step, views_of
from ...graph.plan.view import CONSTANTS, DTYPES, View
from ...graph.plan.words import CoreRecorder
from ..compiled.programs import check_in_core, with_wide_tables


class Constants:
    """The constants of a program, which follow each other in memory, as far as its steps use them."""

    def __init__(self, arrays: Sequence[NDArray[np.uint8]], steps: Sequence[Step]) -> None:
        self._arrays, self._starts = arrays, [0, *accumulate(map(len, arrays))][:-1]
        self._ends = [0] * len(arrays)
        for view in (view for step in steps for view in views_of(step)):
            if view.space == CONSTANTS and 0 not in view.shape:
                place, start = self._place(view)
                end = (int(view.extent()[1]) - start + 1) * DTYPES[view.dtype]
                self._ends[place] = max(self._ends[place], end)

    def at(self, view: View) -> tuple[NDArray[Any], int]:
        """Return the constant that a view shows, in its dtype, and the offset of the view in it."""
        place, start = self._place(view)
        return self._arrays[place][: self._ends[place]].view(view.dtype), int(view.offset) - start

    def _place(self, view: View) -> tuple[int, int]:
        """Return the number of a constant, and its offset in elements."""
        size = DTYPES[view.dtype]
        place = bisect_right(self._starts, int(view.offset) * size) - 1
        return place, self._starts[place] // size


class FixedProgram(NamedTuple):
    """The steps for inputs of fixed sizes.

    Negative spaces are arrays of the arena; `arrays` holds their sizes in bytes, and the first and the last
    step that use them. An input that decides about the program has no view.
    """

    steps: list[Step]
    arrays: dict[int, tuple[int, int, int]]
    constants: Constants
    inputs: list[View | None]
    outputs: list[View]


class FixedPrograms:
    """Compiles one graph for fixed sizes; all its programs share their weights."""

    def __init__(self, graph: Graph, recorder: WeightRecorder) -> None:
        self.graph = with_wide_tables(graph)
        constants = list(constants_of(self.graph))
        self._weights = Weights(frozenset(map(Identity, constants)), recorder)
        self._bytes = sum(array.nbytes for array in constants)

    def compiled(self, inputs: Sequence[AnyArray]) -> FixedProgram:
        """Return the program for these inputs. Raises ArgumentError, which names a node without steps."""
        limit = self._weights.limit
        limit.allow(inputs, self._bytes)
        with limit.entered():
            compiler = Compiler(self.graph, inputs, [False] * len(inputs), self._weights)
            program = compiler.compile()
        check_in_core(self.graph, program, "C")
        builder = compiler.builder
        views = [output.view for output in program.outputs if isinstance(output, Location)]
        return FixedProgram(
            builder.steps,
            builder.arrays,
            Constants(program.constants, builder.steps),
            _input_views(program),
            [view for view in views if view is not None],
        )


def _input_views(program: Program) -> list[View | None]:
    """Return the views of the inputs: they are the first arguments, in order."""
    views: list[View | None] = []
    space = CONSTANTS + 1
    for required, name in zip(program.signature, program.inputs, strict=True):
        assert required is not None
        dtype, shape = required[:2]
        views.append(None if name else View.contiguous(space, 0, shape, dtype))
        space += not name
    return views


class WeightRecorder(CoreRecorder):
    """Takes the place of the core; keeps the arguments of the weights. Rows are not padded."""

    def __init__(self) -> None:
        super().__init__(lanes=1)
        self.made: list[tuple[Any, ...]] = []  # arguments of weights, in the order of their numbers

    def keep(self, kind: str, arguments: tuple[Any, ...]) -> None:
        self.made.append(arguments)
