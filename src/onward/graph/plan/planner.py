"""Run a graph with programs for all sizes of its inputs; the most recent ones are kept."""

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
from ...core import budget
from ...core.budget import Limit
from ...core.identity import Identity
from ...errors import ArgumentError, OnwardError
from ..graph import Graph, bodies, with_bodies
from ..node import Signature
from ..operations import OPERATIONS
from ..operations.registry import naming
from .builder import Weights, aligned, aligned_zeros
from .compiler import Compiler, Location, NumPyNode, Program, Rest
from .view import DTYPES

MAX_PROGRAMS = 8  # the most recent ones

# From a graph, its inputs (arrays or signatures) and its weights to a plan that runs block by block, or None.
InBlocks = Callable[[Graph, Sequence[Any], Weights], Any]


class Planner:
    """Compiles programs of a graph and runs them.

    A program holds for inputs of some dtypes and numbers of axes, for the sizes that satisfy its guards, and,
    if `parameters`, for the values of integer and boolean scalars, such as a sampling rate. A scalar that
    takes more than `max_programs` values becomes an ordinary input. `in_blocks` returns how to run calls that
    need much memory, or None.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Weights | None = None,
        parameters: bool = True,
        max_programs: int = MAX_PROGRAMS,
        weights_size: int | None = None,
        in_blocks: InBlocks | None = None,
    ) -> None:
        self.graph, self.work = graph, 0  # the most elementary operations that a plan takes
        self._weights_size = weights_size  # in bytes, of a whole model before it was simplified
        if weights is None:
            constants = list(constants_of(graph))
            weights = Weights(frozenset(map(Identity, constants)))
            self._weights_size = weights_size or sum(array.nbytes for array in constants)
        self._weights = weights
        self._parameters, self._max_programs, self._in_blocks = parameters, max_programs, in_blocks
        self._varying: set[int] = set()
        self._programs: list[tuple[Any, Plan]] = []  # with what they require of inputs; the most recent last
        self._blocks = OrderedDict[Any, Any]()  # plans that run in blocks, by the signatures of inputs
        self._lock = threading.Lock()
        _planners.add(self)
        self._names = tuple(declared.name for declared in graph.inputs)
        self._ready = _core.Plans(self._names, [])  # the programs that run without Python

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Run the graph on its inputs, in order. Raises the errors of the nodes, which name them."""
        ready = self.run(inputs, {})
        if ready is not None:
            budget.spend(self.work)
            return ready
        if self._weights_size is not None:
            self.limit.allow(inputs, self._weights_size)
        with self.limit.entered(is_whole=self._weights_size is not None) as left:
            planner: Planner = self
            while True:
                plan = planner.find(inputs) or planner._new(inputs)
                left.spend(plan.work)
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
    def limit(self) -> Limit:
        """The limit on the calls of the whole model."""
        return self._weights.limit

    def find(self, inputs: Sequence[Any]) -> Any:
        """Return what runs these inputs, or None if no program holds for them."""
        blocks = self._blocks.get(self._signature(inputs, True)) if self._blocks else None
        if blocks is not None:
            return blocks
        kind = self._signature(inputs, False)
        for required, program in reversed(self._programs):
            bound = program.bind(inputs) if required == kind else None
            if bound is not None:
                return bound if bound.plan.is_allowed or self._allows(bound, inputs) else None
        return None

    @property
    def programs(self) -> list[Program]:
        """The programs so far, whose guards tell for which sizes they hold."""
        return [plan.program for _, plan in self._programs]

    def _allows(self, bound: Bound, inputs: Sequence[Any]) -> bool:
        """Whether a call may use so much memory.

        Otherwise, it runs in blocks, or compiling a program for it tells which node fails.
        """
        if self._runs_in_blocks(inputs) or bound.plan.arena_size > self._weights.limit.memory:
            return False
        bound.plan.is_allowed = True
        return True

    def _runs_in_blocks(self, inputs: Sequence[Any]) -> bool:
        """Whether a call runs block by block, which is decided for the signature of its inputs."""
        if self._weights_size is not None:
            self._weights.limit.allow(inputs, self._weights_size)
        if self._in_blocks is None or not all(isinstance(array, np.ndarray) for array in inputs):
            return False
        signature = self._signature(inputs, True)
        if signature not in self._blocks:
            kinds = self._signature(inputs, False)
            known = [a if k[2] is not None else Signature.of(a) for a, k in zip(inputs, kinds, strict=True)]
            blocks = self._in_blocks(self.graph, known, self._weights)
            if blocks is None:
                return False
            self._blocks[signature] = blocks
            if len(self._blocks) > self._max_programs:
                self._blocks.popitem(last=False)
        return True

    def _new(self, inputs: Sequence[Any]) -> Any:
        with self._lock:
            found = self.find(inputs)
            if found is None and self._runs_in_blocks(inputs):
                found = self.find(inputs)
            if found is not None:
                return found
            kind = self._signature(inputs, False)
            parameters = [each is not None and each[2] is not None for each in kind]
            plan = Plan(self._compiled(inputs, parameters), self._weights, self._parameters)
            self.work = max(self.work, plan.program.work)
            self._programs.append((kind, plan))
            if len(self._programs) > self._max_programs:
                self._programs.pop(0)
                self._stop_following()
            entries = [plan.entry for _, plan in reversed(self._programs) if plan.entry is not None]
            bound = plan.bind(inputs, is_first=True)
            assert bound is not None  # the guards hold for the sizes that they were recorded with
            if not bound.plan.is_allowed:
                self._weights.limit.check(bound.plan.arena_size)
                bound.plan.is_allowed = True
            self._ready = _core.Plans(self._names, entries)
            return bound

    def _compiled(self, inputs: Sequence[Any], parameters: Sequence[bool]) -> Program:
        """Compile a program; again, if guards fix axes, with plain sizes for these, which permit fewer steps.

        An error is that of a program for these sizes alone, which states them.
        """
        options = self.graph, inputs, parameters, self._weights
        try:
            with budget.temporary():
                program = Compiler(*options, fixed=()).compile()
        except OnwardError:
            return Compiler(*options).compile()
        fixed = program.axes.fixed
        return Compiler(*options, fixed=fixed).compile() if fixed else program

    def _signature(self, inputs: Sequence[Any], with_sizes: bool) -> Any:
        """Return the number of axes, or the shape, the dtype, and the value if it decides, of each input."""
        signature: list[Any] = []
        for place, array in enumerate(inputs):
            if type(array) is not np.ndarray:
                signature.append(None)
                continue
            shape, dtype = array.shape, array.dtype
            decides = self._parameters and not shape and dtype.kind in "iub" and place not in self._varying
            signature.append((shape if with_sizes else len(shape), dtype, array.item() if decides else None))
        return tuple(signature)

    def _stop_following(self) -> None:
        """Make ordinary inputs of the scalars that differ between all programs."""
        for place in range(len(self.graph.inputs)):
            kinds = [kind[place] for kind, _ in self._programs]
            values = {kind[2] for kind in kinds if kind is not None and kind[2] is not None}
            if len(values) == len(self._programs):
                self._varying.add(place)

    def __reduce__(self) -> tuple[Any, ...]:
        options = self._parameters, self._max_programs, self._weights_size, self._in_blocks
        return Planner, (self.graph, None, *options)  # without programs and locks


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
    """A program that is ready to be bound to the sizes of a call; the most recent bindings are kept."""

    def __init__(self, program: Program, weights: Weights, parameters: bool) -> None:
        self.program, self.core, self.constants = program, program.core, aligned(program.constants)
        self.segments = [_prepared(segment, weights, parameters) for segment in program.segments]
        self.dtypes = [np.dtype(source.view.dtype) for source in program.outputs if _is_filled(source)]
        # what the core needs to run the program without Python, or None
        only_steps = len(self.segments) == 1 and type(self.segments[0]) is tuple
        # also arrays without elements must have a dtype of the core
        held = all(required is not None and required[0] in DTYPES for required in program.signature)
        needs_python = not (only_steps and held and all(map(_is_filled, program.outputs)))
        self.entry = None if needs_python else (self.core, self.constants, program.signature, self.dtypes)
        self._bound: OrderedDict[tuple[int, ...], Bound] = OrderedDict()

    def bind(self, inputs: Sequence[Any], is_first: bool = False) -> Bound | None:
        """Return the plan for the sizes of these inputs, or None if the program does not hold for them.

        It must hold for those of the first call.
        """
        axes = [0] * len(self.program.axes.names)
        for array, required in zip(inputs, self.program.signature, strict=True):
            if required is None:
                continue
            _, shape, value = required
            if value is not None and array.tobytes() != value:
                return None
            for size, place in zip(array.shape, shape, strict=True):
                if place >= 0 or axes[-1 - place]:
                    if size != (place if place >= 0 else axes[-1 - place]):
                        return None
                elif size == 0:
                    return None
                else:
                    axes[-1 - place] = size
        key = tuple(axes)
        if key not in self._bound:
            try:
                plan = self.core.bind(axes, is_first)
            except (TypeError, ValueError, IndexError, OverflowError) as error:
                raise ArgumentError(f"the core refuses a step of a node: {error}") from error
            if plan is None:
                return None
            self._bound[key] = Bound(self, plan)
            if len(self._bound) > MAX_PROGRAMS:
                self._bound.popitem(last=False)
        return self._bound[key]


class Bound:
    """A program with the plan for the sizes of a call.

    Calls may run concurrently; each one uses its own arena.
    """

    def __init__(self, owner: Plan, plan: Any) -> None:
        self._owner, self.plan, self.work = owner, plan, owner.program.work
        self.entry, self.segments = owner.entry, owner.segments
        self._views, self._arenas = plan.views, list[NDArray[np.uint8]]()

    def __call__(self, inputs: Sequence[Any]) -> list[Any] | Call:
        """Run the plan on inputs with its sizes; return the outputs, or the call that computes them."""
        try:
            arena = self._arenas.pop()
        except IndexError:
            arena = aligned_zeros(self.plan.arena_size)
        spaces, values, results = self._values(inputs, arena)
        for segment in self.segments:
            rest = self._run(segment, spaces, values)
            if rest is not None:  # the arena is not reused, because the inputs of the rest are views of it
                return rest
        outputs = self._owner.program.outputs
        if len(results) == len(outputs):
            self._arenas.append(arena)
            return results
        filled = iter(results)
        results = [
            next(filled) if _is_filled(o) else _copied(self._found(o, spaces, values)) for o in outputs
        ]
        self._arenas.append(arena)
        return results

    def _values(self, inputs: Sequence[Any], arena: NDArray[np.uint8]) -> tuple[list[Any], Any, list[Any]]:
        """Return the spaces of a call, the values outside of them by name, and the results among them."""
        pairs = list(zip(self._owner.program.inputs, inputs, strict=True))
        arrays = [np.asarray(array, order="C") for name, array in pairs if not name]
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
        return "the rest of the graph" if isinstance(part, Rest) else self._owner.program.steps[part[0]]

    def _run(self, segment: Any, spaces: list[Any], values: dict[str, Any]) -> Call | None:
        """Run a segment, or return the call of the rest of the graph."""
        if isinstance(segment, Rest):
            return Call(
                segment.graph, tuple(self._found(source, spaces, values) for source in segment.inputs)
            )
        if isinstance(segment, NumPyNode):
            self._run_node(segment, spaces, values)
            return None
        try:
            self.plan.run(spaces, *segment)
        except IndexError as error:  # a step met an index out of range; it names its node
            raise ArgumentError(str(error)) from None
        return None

    def _found(self, source: Any, spaces: list[Any], values: Mapping[str, Any]) -> Any:
        if not isinstance(source, Location):
            return source
        return values[source.name] if source.view is None else self._array_at(source, spaces)

    def _array_at(self, location: Location, spaces: Sequence[Any]) -> Any:
        """Return the elements of a view as an array that shares their memory."""
        assert location.view is not None
        dtype = np.dtype(location.view.dtype)
        space, offset, shape, strides = self._views[location.place]
        steps = [dtype.itemsize * stride for stride in strides]
        return np.ndarray(shape, dtype, spaces[space], dtype.itemsize * offset, steps)

    def _run_node(self, step: NumPyNode, spaces: list[Any], values: dict[str, Any]) -> None:
        operation, attributes = OPERATIONS[step.node.operation], step.node.attributes
        with naming(step.node):
            inputs = [self._found(source, spaces, values) for source in step.inputs]
            if step.is_open:
                results = operation.run(inputs, attributes, keeps=False)
                budget.current().check(memory=sum(map(_size, results)))
            else:
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


def _size(value: Any) -> int:
    """Return the bytes of an array, of its texts, or of a sequence of arrays."""
    if isinstance(value, list):
        return sum(map(_size, value))
    if not isinstance(value, np.ndarray):
        return 0
    texts = value.flat if value.dtype.hasobject else ()
    return value.nbytes + sum(len(text) for text in texts if isinstance(text, str))


def constants_of(graph: Graph) -> Iterator[Any]:
    """Yield the constants of a graph and its bodies."""
    yield from graph.constants.values()
    for node in graph.nodes:
        for body in bodies(node):
            yield from constants_of(body)


def _prepared(segment: Any, weights: Weights, parameters: bool) -> Any:
    """Make planners of the graphs of a segment; `parameters` is as in the planner around them."""
    if isinstance(segment, Rest):
        return segment._replace(graph=Planner(segment.graph, weights, parameters))
    if not isinstance(segment, NumPyNode):
        return segment
    # in a loop, the number of the iteration is an ordinary input, also of an If
    follows = parameters and segment.node.operation == "If"

    def planner(body: Graph) -> Planner:
        key = Identity(body)
        if key not in weights.planners:
            weights.planners[key] = Planner(body, weights, follows)
        found: Planner = weights.planners[key]
        return found

    return segment._replace(node=with_bodies(segment.node, planner))
