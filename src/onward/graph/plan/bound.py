"""Bind programs to the sizes of calls and run them, with the nodes that run in NumPy between the steps."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core import budget
from ...errors import ArgumentError
from ..node import Naming, held_by
from ..operations import OPERATIONS
from .builder import Bytes, aligned, aligned_zeros
from .deciding import are_small
from .program import Location, NumPyNode, Program, Rest
from .steps import described
from .view import DTYPES


class Call(NamedTuple):
    """A planner and its inputs, which continue a call whose shapes are known only now."""

    planner: Any
    inputs: tuple[Any, ...]


class LoadedProgram:
    """A program whose constants are in memory, to bind to the sizes of calls."""

    def __init__(self, program: Program, segments: Sequence[Any]) -> None:
        self.program, self.core, self.constants = program, program.core, aligned(program.constants)
        self.segments = segments  # those of the program, with planners instead of graphs
        self.dtypes = [np.dtype(source.view.dtype) for source in program.outputs if _is_filled(source)]
        # what the core needs to run the program without Python, or None
        only_steps = len(self.segments) == 1 and type(self.segments[0]) is tuple
        # also arrays without elements must have a dtype of the core
        held = all(required is not None and required[0] in DTYPES for required in program.signature)
        needs_python = not (only_steps and held and all(map(_is_filled, program.outputs)))
        entry = self.core, self.constants, program.signature, self.dtypes, program.joined
        self.entry = None if needs_python else entry
        self._arenas: list[Bytes] = []  # those that no call uses

    def take_arena(self, size: int) -> Bytes:
        """Return an arena of at least this size for one call."""
        try:
            arena = self._arenas.pop()
        except IndexError:
            return aligned_zeros(size)
        return arena if arena.size >= size else aligned_zeros(size)

    def give_arena(self, arena: Bytes) -> None:
        """Keep the arena of a call that has ended for a later one."""
        self._arenas.append(arena)

    def bind(self, inputs: Sequence[Any], is_first: bool = False) -> Bound | None:
        """Return the plan for the sizes of these inputs, or None if the program does not hold for them.

        It must hold for those of the first call.
        """
        axes = [0] * len(self.program.axes.names)
        for array, required in zip(inputs, self.program.signature, strict=True):
            if required is None:
                continue
            _, shape, value, first_element = required
            if value is not None and array.tobytes() != value:
                return None
            if first_element >= 0:
                if not are_small(array):
                    return None
                axes[first_element : first_element + array.size] = array.ravel().tolist()
            for size, place in zip(array.shape, shape, strict=True):
                if place >= 0 or axes[-1 - place]:
                    if size != (place if place >= 0 else axes[-1 - place]):
                        return None
                elif size == 0:
                    return None
                else:
                    axes[-1 - place] = size
        try:
            plan = self.core.bind(axes, is_first)
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise ArgumentError(f"the core refuses a step of a node: {error}") from error
        return None if plan is None else Bound(self, plan)


class Bound:
    """A program with the plan for the sizes of a call.

    Calls may run concurrently; each one uses its own arena.
    """

    def __init__(self, owner: LoadedProgram, plan: Any) -> None:
        self._owner, self.plan, self.work = owner, plan, plan.work
        self.entry, self.segments = owner.entry, owner.segments
        # bytes counted before a run, with those of outputs if the sizes of the inputs do not bound them
        self.memory = plan.memory if owner.program.elements else plan.arena_size

    def __call__(self, inputs: Sequence[Any]) -> list[Any] | Call:
        """Run the plan on inputs with its sizes; return the outputs, or the call that computes them."""
        arena = self._owner.take_arena(self.plan.arena_size)
        spaces, values, results = self._values(inputs, arena)
        for segment in self.segments:
            rest = self._run(segment, spaces, values)
            if rest is not None:  # the arena is not reused, because the inputs of the rest are views of it
                return rest
        outputs = self._owner.program.outputs
        if len(results) == len(outputs):
            self._owner.give_arena(arena)
            return results
        filled = iter(results)
        results = [
            next(filled) if _is_filled(o) else _copied(self._found(o, spaces, values)) for o in outputs
        ]
        self._owner.give_arena(arena)
        return results

    def _values(self, inputs: Sequence[Any], arena: Bytes) -> tuple[list[Any], Any, list[Any]]:
        """Return the spaces of a call, the values outside of them by name, and the results among them."""
        pairs = list(zip(self._owner.program.inputs, inputs, strict=True))
        arrays = [np.require(array, requirements=["C", "ALIGNED"]) for name, array in pairs if not name]
        pairs_of_outputs = zip(self.plan.outputs, self._owner.dtypes, strict=True)
        results = [np.empty(shape, dtype) for shape, dtype in pairs_of_outputs]
        values = {name: array for name, array in pairs if name}
        return [arena, self._owner.constants, *arrays, *results], values, results

    def timed(self, inputs: Sequence[Any], calls: int) -> list[tuple[str, float]]:
        """Return each step and node, in order, with the median time of `calls` runs, in seconds.

        The nodes after one whose output shapes are known only in a call are a single entry.
        """
        found = [self._timed_once(inputs) for _ in range(calls)]
        runs = [(once[0][0], [seconds for _, seconds in once]) for once in zip(*found, strict=True)]
        return [(step, float(np.median(times))) for step, times in runs]

    def _timed_once(self, inputs: Sequence[Any]) -> list[tuple[str, float]]:
        spaces, values, _ = self._values(inputs, aligned_zeros(self.plan.arena_size))
        times = []
        for segment in self.segments:
            parts = [(step, step + 1) for step in range(*segment)] if type(segment) is tuple else [segment]
            for part in parts:
                start = time.perf_counter()
                rest = self._run(part, spaces, values)
                if rest is not None:
                    rest.planner(*rest.inputs)
                times.append((self._described(part), time.perf_counter() - start))
        return times

    def _described(self, part: Any) -> str:
        if isinstance(part, NumPyNode):
            return f"{part.node} in NumPy"
        if isinstance(part, Rest):
            return "the rest of the graph"
        return described(self._owner.program.steps[part[0]])

    def _run(self, segment: Any, spaces: list[Any], values: dict[str, Any]) -> Call | None:
        """Run a segment, or return the call of the rest of the graph."""
        if isinstance(segment, Rest):
            return Call(
                segment.graph, tuple(self._found(source, spaces, values) for source in segment.inputs)
            )
        if isinstance(segment, NumPyNode):
            self._run_node(segment, spaces, values)
            return None
        self.plan.run(spaces, *segment)
        return None

    def _found(self, source: Any, spaces: list[Any], values: Mapping[str, Any]) -> Any:
        if not isinstance(source, Location):
            return source
        return values[source.name] if source.view is None else self._array_at(source, spaces)

    def _array_at(self, location: Location, spaces: Sequence[Any]) -> Any:
        """Return the elements of a view as an array that shares their memory."""
        assert location.view is not None
        dtype = np.dtype(location.view.dtype)
        space, offset, shape, strides = self.plan.views[location.place]
        steps = [dtype.itemsize * stride for stride in strides]
        return np.ndarray(shape, dtype, spaces[space], dtype.itemsize * offset, steps)

    def _run_node(self, step: NumPyNode, spaces: list[Any], values: dict[str, Any]) -> None:
        operation, attributes = OPERATIONS[step.node.operation], step.node.attributes
        with Naming(step.node):
            inputs = [self._found(source, spaces, values) for source in step.inputs]
            if step.is_open:
                results = operation.run(inputs, attributes, keeps=False)
                budget.current().check(memory=held_by(results))
            else:
                budget.current().check(memory=operation.temporary(inputs, attributes))
                results = operation.compute(inputs, attributes)
            if len(results) < len(step.outputs):
                raise ArgumentError(f"has {len(step.outputs)} outputs, but returns {len(results)}")
            for target, result in zip(step.outputs, results, strict=False):
                if target.view is not None:
                    self._array_at(target, spaces)[...] = result
                elif target.name:
                    values[target.name] = result


def _is_filled(source: Any) -> bool:
    """Whether the core writes an output into an array of its own."""
    return isinstance(source, Location) and source.view is not None


def _copied(value: Any) -> Any:
    """Copy an output, which may be an input or a constant, or a sequence that contains one."""
    if isinstance(value, list):
        return list(map(_copied, value))
    return value.copy() if isinstance(value, np.ndarray) else value
