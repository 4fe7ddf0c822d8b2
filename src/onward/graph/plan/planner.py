"""Run a graph with programs for all sizes of its inputs; the most recent ones are kept."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import onward._core as _core

from ...core import budget
from ...core.budget import Limit
from ...core.identity import Identity
from ...errors import ArgumentError, MemoryLimitError, OnwardError
from ..graph import Graph, bodies, with_bodies
from ..node import Node, Signature, held_by
from .bound import Bound, Call, LoadedProgram
from .builder import Weights
from .compiler import Compiler
from .deciding import MOST_INPUTS, ElementsDecide
from .program import AxesFixed, NumPyNode, Program, Recordings, Rest

MAX_PROGRAMS = 8  # the most recent ones

# From a graph, its inputs (arrays or signatures), its weights and the bytes that a call needs otherwise to a
# plan that runs block by block, or None.
InBlocks = Callable[[Graph, Sequence[Any], Weights, float], Any]


class Planner:
    """Compiles programs of a graph and runs them.

    A program holds for inputs of some dtypes and numbers of axes, for the sizes that satisfy its guards, and,
    if `parameters`, for the values of integer and boolean scalars, such as a sampling rate. A scalar that
    takes more than `max_programs` values becomes an ordinary input. `in_blocks` returns how to run calls that
    need much memory, or None. The elements of an integer input that decide sizes are sizes of a program, at
    first those of `elements`; after MAX_PROGRAMS such programs, a program ends where they decide. `ready`
    gets the programs of the core, by default in a new object.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Weights | None = None,
        parameters: bool = True,
        max_programs: int = MAX_PROGRAMS,
        weights_size: int | None = None,
        in_blocks: InBlocks | None = None,
        elements: frozenset[str] = frozenset(),
        ready: _core.Plans | None = None,
    ) -> None:
        self.graph = graph
        self._weights_size = weights_size  # in bytes, of a whole model before it was simplified
        if weights is None:
            weights = Weights(frozenset(map(Identity, constants_of(graph))))
            self._weights_size = weights_size or size_of_weights(graph)
        self._weights = weights
        self._parameters, self._max_programs, self._in_blocks = parameters, max_programs, in_blocks
        # the inputs whose elements are sizes of the programs; None once these are too many programs
        self._elements: frozenset[str] | None = elements
        self._programs_of_elements = 0  # so far
        names = [declared.name for declared in graph.inputs]
        self._varying = {place for place, name in enumerate(names) if name in elements}
        # each program behind what it requires of inputs; the most recent one is the last
        self._programs: list[tuple[Any, LoadedProgram]] = []
        self._blocks = OrderedDict[Any, Any]()  # plans that run in blocks, by the signatures of inputs
        self._lock = threading.RLock()  # a signal handler may call a model that it interrupts
        _planners.add(self)
        # The programs that run without Python. Called with inputs in order and by name, they return the
        # outputs, or None if no program holds, and raise ArgumentError, which names the node.
        self.ready = _core.Plans(names, []) if ready is None else ready

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Run the graph on its inputs, in order. Raises the errors of the nodes, which name them."""
        ready: Any = self.ready(inputs, {})
        if ready is not None:
            budget.spend(self.work)
            return tuple(ready)
        if self._weights_size is not None:
            self.limit.allow(inputs, self._weights_size)
        with self.limit.entered(is_whole=self._weights_size is not None) as left, budget.temporary():
            planner, memory = self, left.memory
            while True:
                plan = planner.find(inputs) or planner._new(inputs)
                left.spend(plan.work)
                results = plan(inputs)
                if not isinstance(results, Call):
                    return tuple(results)
                planner, inputs = results
                left.memory = memory
                left.take(held_by(inputs))
                ready = planner.ready.run(inputs)
                if ready is not None:
                    left.spend(ready[0])
                    return tuple(ready[1])

    def detach(self) -> None:
        """Give no programs to `ready` from now on, which will have those of another planner.

        Calls that run continue; this waits for a program that another thread compiles.
        """
        with self._lock:
            self.ready = _core.Plans([declared.name for declared in self.graph.inputs], [])

    def repeat(self, count: int, inputs: tuple[Any, ...], carried: int) -> Any:
        """Run the body of a loop up to `count` times in the core, while its condition is true.

        The inputs are (i, condition, *carried, *others), the outputs (condition, *carried, *scanned).
        Returns how often it ran, the condition, and the carried and the stacked scanned arrays, or None if
        it needs Python.
        """
        return self.ready.repeat(count, inputs, carried)

    @property
    def work(self) -> int:
        """The most elementary operations that a plan in the core took."""
        return self.ready.most_work

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
        for required, loaded in reversed(self._programs):
            bound = loaded.bind(inputs) if required == kind else None
            if bound is not None:
                return bound if bound.plan.is_allowed or self._allows(bound, inputs) else None
        return None

    @property
    def programs(self) -> list[Program]:
        """The programs so far, whose guards tell for which sizes they hold."""
        return [loaded.program for _, loaded in self._programs]

    def in_numpy(self) -> Iterator[Node]:
        """Yield the nodes that run in NumPy in the programs so far, and in what follows them."""
        for _, loaded in self._programs:
            yield from loaded.program.in_numpy
            for segment in loaded.segments:
                if isinstance(segment, Rest):
                    yield from segment.graph.in_numpy()

    def _allows(self, bound: Bound, inputs: Sequence[Any]) -> bool:
        """Whether a call may take so much memory and work.

        Otherwise, it runs in blocks, or compiling a program for it tells which node fails.
        """
        blocks, limit = self._runs_in_blocks(inputs, bound.plan.memory), self._weights.limit
        if blocks or bound.memory > limit.memory or bound.plan.work > limit.work:
            return False
        bound.plan.is_allowed = True
        return True

    def _runs_in_blocks(self, inputs: Sequence[Any], memory: float) -> bool:
        """Whether a call that otherwise needs so many bytes runs block by block.

        It is decided for the signature of its inputs.
        """
        if self._weights_size is not None:
            self._weights.limit.allow(inputs, self._weights_size)
        if self._in_blocks is None or not all(isinstance(array, np.ndarray) for array in inputs):
            return False
        signature = self._signature(inputs, True)
        if signature not in self._blocks:
            kinds = self._signature(inputs, False)
            known = [a if k[2] is not None else Signature.of(a) for a, k in zip(inputs, kinds, strict=True)]
            blocks = self._in_blocks(self.graph, known, self._weights, memory)
            if blocks is None:
                return False
            self._blocks[signature] = blocks
            if len(self._blocks) > self._max_programs:
                self._blocks.popitem(last=False)
        return True

    def _new(self, inputs: Sequence[Any]) -> Any:
        with self._lock:
            found = self.find(inputs)
            if found is not None:
                return found
            kind = self._signature(inputs, False)
            parameters = [each is not None and each[2] is not None for each in kind]
            try:
                program, loaded, bound = self._compiled(inputs, parameters)
            except MemoryLimitError:
                if self._runs_in_blocks(inputs, math.inf):
                    return self.find(inputs)
                raise
            bound.plan.is_allowed = not self._runs_in_blocks(inputs, bound.plan.memory)
            if bound.plan.is_allowed:
                self._weights.limit.check(bound.memory)
            self._programs.append((kind, loaded))
            if len(self._programs) > self._max_programs:
                self._programs.pop(0)
                self._stop_following()
            if program.elements and self._elements is not None:
                self._programs_of_elements += 1
                is_allowed = self._programs_of_elements < MAX_PROGRAMS
                self._elements = self._elements | program.elements if is_allowed else None
            entries = [each.entry for _, each in reversed(self._programs) if each.entry is not None]
            self.ready.replace(entries)
            return bound if bound.plan.is_allowed else self.find(inputs)

    def _compiled(self, inputs: Sequence[Any], parameters: Sequence[bool]) -> tuple[Program, Any, Any]:
        """Return a program for the inputs of a call, loaded, and its plan for their sizes."""
        options = self.graph, inputs, parameters, self._weights
        program = compiled(*options, self._elements)
        while True:
            segments = [_prepared(each, self._weights, self._parameters) for each in program.segments]
            loaded = LoadedProgram(program, segments)
            try:
                bound = loaded.bind(inputs, is_first=True)
            except ArgumentError:  # a step refuses the sizes, such as a negative number of iterations
                if not program.axes.names:
                    raise
                program = compiled_for_sizes(*options, program.elements)
                continue
            assert bound is not None  # the guards hold for the sizes that they were recorded with
            return program, loaded, bound

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
        """Make ordinary inputs of the scalars that differ between most programs."""
        for place in range(len(self.graph.inputs)):
            kinds = [kind[place] for kind, _ in self._programs]
            values = {kind[2] for kind in kinds if kind is not None and kind[2] is not None}
            if 2 * len(values) > len(self._programs):
                self._varying.add(place)


def compiled(
    graph: Graph,
    inputs: Sequence[Any],
    parameters: Sequence[bool],
    weights: Weights,
    elements: frozenset[str] | None = None,
) -> Program:
    """Compile a program, and again with plain sizes, which permit fewer steps, while guards fix axes.

    `parameters` tells on which values of inputs it may depend. The elements of the inputs in `elements`, and
    of those that decide sizes, are sizes, unless that is None. An error is that of a program for these sizes
    alone, which states them.
    """
    options, fixed, recordings = (graph, inputs, parameters, weights), dict[str, int](), Recordings()
    while True:
        try:
            with budget.temporary():
                program = Compiler(*options, fixed, recordings, elements).compile()
            found: Mapping[str, int] = program.axes.fixed
        except ElementsDecide as error:
            elements = (elements or frozenset()) | error.names
            elements = elements if len(elements) <= MOST_INPUTS else None  # each compiles once more
            continue
        except AxesFixed as error:
            found = error.fixed
        except OnwardError:
            return compiled_for_sizes(*options, elements)
        if found.keys() <= fixed.keys():
            return program
        fixed |= found


def compiled_for_sizes(
    graph: Graph,
    inputs: Sequence[Any],
    parameters: Sequence[bool],
    weights: Weights,
    elements: frozenset[str] | None,
) -> Program:
    """Compile a program for the sizes, and the values of the elements, of a call alone."""
    return Compiler(graph, inputs, parameters, weights, None, Recordings(is_plain=True), elements).compile()


_planners: weakref.WeakSet[Planner] = weakref.WeakSet()


def _renew_locks() -> None:
    """Replace the locks that threads of the parent held during a fork; they do not exist in the child."""
    for planner in _planners:
        planner._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def constants_of(graph: Graph) -> Iterator[Any]:
    """Yield the constants of a graph and its bodies."""
    yield from graph.constants.values()
    for node in graph.nodes:
        for body in bodies(node):
            yield from constants_of(body)


def size_of_weights(graph: Graph) -> int:
    """Return how many bytes the constants of a graph and its bodies take, and the weights of its layers."""
    arrays = list(graph.constants.values())
    for node in graph.nodes:
        if "cell" in node.attributes:
            arrays += node.attributes["cell"].weights.values()
    return sum(array.nbytes for array in arrays) + sum(
        size_of_weights(body) for node in graph.nodes for body in bodies(node)
    )


def _prepared(segment: Any, weights: Weights, parameters: bool) -> Any:
    """Make planners of the graphs of a segment; `parameters` is as in the planner around them."""
    if isinstance(segment, Rest):
        rest = Planner(segment.graph, weights, parameters, elements=segment.elements)
        return Rest(rest, segment.inputs, segment.elements)
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

    return NumPyNode(with_bodies(segment.node, planner), segment.inputs, segment.outputs, segment.is_open)
