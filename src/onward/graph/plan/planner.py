"""Run a graph with one plan for each signature of its inputs; the most recent plans are kept."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import _core
from ...errors import ArgumentError
from ..graph import Graph, bodies, with_bodies
from ..node import MemoryLimit, Signature, size_of
from ..operations import OPERATIONS
from ..operations.registry import naming
from .builder import Weights, aligned, aligned_zeros
from .compiler import Compiler, Location, NumPyNode, Program, Rest
from .view import View

MAX_PLANS = 8  # the most recent signatures

# From a graph, its inputs (arrays or signatures) and its weights to a plan that runs block by block, or None.
InBlocks = Callable[[Graph, Sequence[Any], Weights], Any]


class Planner:
    """Plans a graph for each signature of its inputs and runs the plans.

    A signature consists of the shapes and dtypes of the inputs and, if `parameters`, of the values of integer
    and boolean scalars, such as a sampling rate. A scalar that takes more than `max_plans` values becomes
    an ordinary input. `in_blocks` returns how to run calls that need much memory, or None.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Weights | None = None,
        parameters: bool = True,
        max_plans: int = MAX_PLANS,
        copied: int = 0,
        weights_size: int | None = None,
        in_blocks: InBlocks | None = None,
    ) -> None:
        self.graph, self._copied = graph, copied
        self._weights_size = weights_size  # in bytes, of a whole model before it was simplified
        if weights is None:
            constants = list(constants_of(graph))
            weights = Weights(frozenset(map(id, constants)))
            self._weights_size = weights_size or sum(array.nbytes for array in constants)
        self._weights = weights
        self._parameters, self._max_plans, self._in_blocks = parameters, max_plans, in_blocks
        self._varying: set[int] = set()
        self._plans: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()
        _planners.add(self)
        self._names = tuple(declared.name for declared in graph.inputs)
        self._ready = _core.Plans(self._names, [])  # the plans that run without Python

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Run the graph on its inputs, in order. Raises the errors of the nodes, which name them."""
        planner: Planner = self
        while True:
            ready = planner.run(inputs, {})
            if ready is not None:
                return ready
            plan = planner.find(inputs) or planner._plan(inputs)
            results = plan(inputs)
            if not isinstance(results, Call):
                return tuple(results)
            planner, inputs = results

    def run(
        self, args: tuple[Any, ...], inputs: dict[str, Any], outputs: tuple[Any, ...] = ()
    ) -> tuple[Any, ...] | None:
        """Run the plan for inputs in order and by name, and return its outputs.

        Arrays in `outputs` with the shape and dtype of the output in their place hold the results. Returns
        None if there is no such plan yet, or if it has steps in NumPy.
        """
        try:
            return self._ready(args, inputs, outputs)
        except IndexError as error:  # a step met an index out of range; it names its node
            raise ArgumentError(str(error)) from None

    def repeat(self, count: int, inputs: tuple[Any, ...], carried: int) -> Any:
        """Run the body of a loop up to `count` times in the core, while its condition is true.

        The inputs are (i, condition, *carried, *others), the outputs (condition, *carried, *scanned).
        Returns how often it ran, the condition, and the carried and the stacked scanned arrays, or None if
        it needs Python.
        """
        try:
            return self._ready.repeat(count, inputs, carried)
        except IndexError as error:  # as in `run`
            raise ArgumentError(str(error)) from None

    @property
    def limit(self) -> MemoryLimit:
        """The limit on the memory of the values of the whole model."""
        return self._weights.limit

    def find(self, inputs: Sequence[Any]) -> Any:
        """Return the existing plan for the signature of these inputs, or None."""
        return self._plans.get(self._signature(inputs))

    def _plan(self, inputs: Sequence[Any]) -> Any:
        with self._lock:
            signature = self._signature(inputs)
            plan = self._plans.get(signature)
            if plan is None:
                parameters = [kind is not None and kind[2] is not None for kind in signature]
                if self._weights_size is not None:
                    self._weights.limit.allow(inputs, self._weights_size)
                plan = self._plans[signature] = self._new_plan(inputs, parameters)
                if len(self._plans) > self._max_plans:
                    self._plans.popitem(last=False)
                    self._stop_following()
                entries = [plan.entry for plan in self._plans.values() if plan.entry is not None]
                self._ready = _core.Plans(self._names, entries)
            return plan

    def _new_plan(self, inputs: Sequence[Any], parameters: Sequence[bool]) -> Any:
        if self._in_blocks is not None and all(isinstance(array, np.ndarray) for array in inputs):
            known = [a if p else Signature.of(a) for a, p in zip(inputs, parameters, strict=True)]
            blocks = self._in_blocks(self.graph, known, self._weights)
            if blocks is not None:
                return blocks
        compiler = Compiler(self.graph, inputs, parameters, self._weights, self._copied)
        return Plan(compiler.compile(), self._weights, self._parameters)

    def _signature(self, inputs: Sequence[Any]) -> Any:
        signature: list[Any] = []
        for place, array in enumerate(inputs):
            if type(array) is not np.ndarray:
                signature.append(None)
                continue
            shape, dtype = array.shape, array.dtype
            decides = self._parameters and not shape and dtype.kind in "iub" and place not in self._varying
            signature.append((shape, dtype, array.item() if decides else None))
        return tuple(signature)

    def _stop_following(self) -> None:
        """Make ordinary inputs of the scalars that differ between all plans."""
        for place in range(len(self.graph.inputs)):
            kinds = [signature[place] for signature in self._plans]
            values = {kind[2] for kind in kinds if kind is not None and kind[2] is not None}
            if len(values) == len(self._plans):
                self._varying.add(place)

    def __reduce__(self) -> tuple[Any, ...]:
        options = self._parameters, self._max_plans, 0, self._weights_size, self._in_blocks
        return Planner, (self.graph, None, *options)  # without plans and locks


_planners: weakref.WeakSet[Planner] = weakref.WeakSet()


def _renew_locks() -> None:
    """Replace the locks that threads of the parent held during a fork; they do not exist in the child."""
    for planner in _planners:
        planner._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class Call(NamedTuple):
    """A planner and its inputs, which continue a call whose shapes are known only now."""

    planner: Planner
    inputs: tuple[Any, ...]


class Plan:
    """A compiled graph, ready to run. Calls may run concurrently; each one uses its own arena."""

    def __init__(self, program: Program, weights: Weights, parameters: bool) -> None:
        self._inputs, self._outputs = program.inputs, program.outputs
        self._segments = [_prepared(segment, weights, parameters) for segment in program.segments]
        views = [source.view for source in program.outputs if _is_filled(source)]
        self._filled = [(view.shape, np.dtype(view.dtype)) for view in views]
        self._core, self._constants = program.core, aligned(program.constants)
        self._arena_size, self._steps = program.arena_size, program.steps
        # what the core needs to run the plan without Python, or None
        only_steps = len(self._segments) == 1 and type(self._segments[0]) is tuple
        needs_python = not only_steps or not all(map(_is_filled, self._outputs))
        self.entry = None if needs_python else (self._core, self._constants, program.signature, self._filled)
        self._arenas: list[NDArray[np.uint8]] = []

    def __call__(self, inputs: Sequence[Any]) -> list[Any] | Call:
        """Run the plan on inputs with its signature; return the outputs, or the call that computes them."""
        try:
            arena = self._arenas.pop()
        except IndexError:
            arena = aligned_zeros(self._arena_size)
        spaces, values, results = self._values(inputs, arena)
        for segment in self._segments:
            rest = self._run(segment, spaces, values)
            if rest is not None:  # the arena is not reused, because the inputs of the rest are views of it
                return rest
        self._arenas.append(arena)
        if len(results) == len(self._outputs):
            return results
        filled = iter(results)
        return [next(filled) if _is_filled(o) else _copied(_found(o, spaces, values)) for o in self._outputs]

    def _values(self, inputs: Sequence[Any], arena: NDArray[np.uint8]) -> tuple[list[Any], Any, list[Any]]:
        """Return the spaces of a call, the values outside of them by name, and the results among them."""
        pairs = list(zip(self._inputs, inputs, strict=True))
        arrays = [np.asarray(array, order="C") for name, array in pairs if not name]
        results = [np.empty(shape, dtype) for shape, dtype in self._filled]
        values = {name: array for name, array in pairs if name}
        return [arena, self._constants, *arrays, *results], values, results

    def timed(self, inputs: Sequence[Any], calls: int) -> list[tuple[str, float]]:
        """Return each step and node, in order, with the median time of `calls` runs, in seconds.

        The nodes after one whose output shapes are known only in a call are a single entry.
        """
        found = [self._timed_once(inputs) for _ in range(calls)]
        runs = [(once[0][0], [seconds for _, seconds in once]) for once in zip(*found, strict=True)]
        return [(step, float(np.median(times))) for step, times in runs]

    def _timed_once(self, inputs: Sequence[Any]) -> list[tuple[str, float]]:
        spaces, values, _ = self._values(inputs, aligned_zeros(self._arena_size))
        times = []
        for segment in self._segments:
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
        return "the rest of the graph" if isinstance(part, Rest) else self._steps[part[0]]

    def _run(self, segment: Any, spaces: list[Any], values: dict[str, Any]) -> Call | None:
        """Run a segment, or return the call of the rest of the graph."""
        if isinstance(segment, Rest):
            return Call(segment.graph, tuple(_found(source, spaces, values) for source in segment.inputs))
        if isinstance(segment, NumPyNode):
            _run_node(segment, spaces, values)
            return None
        try:
            self._core.run(spaces, *segment)
        except IndexError as error:  # a step met an index out of range; it names its node
            raise ArgumentError(str(error)) from None
        return None


def _is_filled(source: Any) -> bool:
    """Whether the core writes an output into an array of its own."""
    return isinstance(source, Location) and source.view is not None


def _copied(value: Any) -> Any:
    """Copy an output, which may be an input or a constant, or a sequence that contains one."""
    if isinstance(value, list):
        return list(map(_copied, value))
    return value.copy() if isinstance(value, np.ndarray) else value


def _found(source: Any, spaces: list[Any], values: Mapping[str, Any]) -> Any:
    if not isinstance(source, Location):
        return source
    if source.view is None:
        return values[source.name]
    return _array_at(source.view, spaces)


def _array_at(view: View, spaces: Sequence[Any]) -> Any:
    """Return the elements of a view as an array that shares their memory."""
    size = np.dtype(view.dtype).itemsize
    strides = [size * stride for stride in view.strides]
    return np.ndarray(view.shape, view.dtype, spaces[view.space], size * view.offset, strides)


def _run_node(step: NumPyNode, spaces: list[Any], values: dict[str, Any]) -> None:
    operation, attributes = OPERATIONS[step.node.operation], step.node.attributes
    with naming(step.node):
        inputs = [_found(source, spaces, values) for source in step.inputs]
        if step.limit is not None and operation.has_rule:
            step.limit.check(size_of(operation.signatures(inputs, attributes) or ()))
        results = operation.compute(inputs, attributes)
        if step.limit is not None:
            step.limit.check(sum(getattr(a, "nbytes", 0) for a in results))
        if len(results) < len(step.outputs):
            raise ArgumentError(f"has {len(step.outputs)} outputs, but returns {len(results)}")
        for target, result in zip(step.outputs, results, strict=False):
            if target.view is not None:
                _array_at(target.view, spaces)[...] = result
            elif target.name:
                values[target.name] = result


def constants_of(graph: Graph) -> Iterator[Any]:
    """Yield the constants of a graph and its bodies."""
    yield from graph.constants.values()
    for node in graph.nodes:
        for body in bodies(node):
            yield from constants_of(body)


def _prepared(segment: Any, weights: Weights, parameters: bool) -> Any:
    """Make planners of the graphs of a segment; `parameters` is as in the planner around them."""
    if isinstance(segment, Rest):
        return segment._replace(graph=Planner(segment.graph, weights, parameters, copied=segment.copied))
    if not isinstance(segment, NumPyNode):
        return segment
    # in a loop, the number of the iteration is an ordinary input, also of an If
    follows = parameters and segment.node.operation == "If"

    def planner(body: Graph) -> Planner:
        if id(body) not in weights.planners:
            weights.planners[id(body)] = Planner(body, weights, follows)
        found: Planner = weights.planners[id(body)]
        return found

    return segment._replace(node=with_bodies(segment.node, planner))
