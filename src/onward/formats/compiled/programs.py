"""The programs of a graph in a file: those that some inputs, or blocks of a stream, need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import onward._core as _core

from ...core.identity import Identity
from ...errors import ArgumentError, OnwardError
from ...graph import Graph
from ...graph.graph import with_bodies
from ...graph.node import AnyArray, Node, Signature
from ...graph.plan.bound import LoadedProgram
from ...graph.plan.builder import Weights
from ...graph.plan.planner import compiled, constants_of
from ...graph.plan.program import Location, Program, Rest
from ...graph.plan.view import name_of
from ...graph.plan.words import CoreRecorder
from .examples import are_empty, without_example

MAX_STATES = 64  # signatures of the carries of a stream


class Made(NamedTuple):
    """The words of a program, and the core's program that they describe."""

    words: NDArray[np.int64]
    core: Any


class FileRecorder(CoreRecorder):
    """Records programs for a file, and makes them in the core, which tells for which sizes they hold."""

    def __init__(self) -> None:
        super().__init__(lanes=_core.FILE_LANES)
        self._made: list[Any] = []  # weights of the core, in the order of their numbers

    def keep(self, kind: str, arguments: tuple[Any, ...]) -> None:
        self._made.append(getattr(_core, kind)(*arguments))

    def Program(self, words: NDArray[np.int64], weights: Sequence[Any]) -> Made:  # type: ignore[override]
        return Made(words, _core.Program(words, self._made))


class Compiled(NamedTuple):
    """A program, the words of its steps, and the plans of the core for the sizes of calls."""

    program: Program
    words: NDArray[np.int64]
    plan: LoadedProgram

    def outputs(self, inputs: Sequence[AnyArray], is_first: bool = False) -> list[Signature] | None:
        """Return the signatures of the outputs for inputs, or None if the program does not take them.

        It must take those that it was compiled for. Raises ArgumentError if the core refuses a step for them.
        """
        for array, required in zip(inputs, self.program.signature, strict=True):
            dtype, shape = ("", ()) if required is None else required[:2]
            if dtype != name_of(array.dtype) or len(shape) != array.ndim:
                return None
        bound = self.plan.bind(inputs, is_first)
        if bound is None:
            return None
        shapes = bound.plan.outputs
        return [Signature(shape, dtype) for shape, dtype in zip(shapes, self.plan.dtypes, strict=True)]


def with_wide_tables(graph: Graph) -> Graph:
    """Return a graph that stores float16 tables, such as those of embeddings, as float32 for the core."""
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            users.setdefault(name, []).append(node)
    constants, nodes, wide = dict(graph.constants), [], dict[str, str]()
    known = {*constants, *(d.name for d in graph.inputs), *(y for node in graph.nodes for y in node.outputs)}
    for node in graph.nodes:
        table, y = constants.get(node.inputs[0]) if node.inputs else None, node.outputs[0]
        if node.operation == "Gather" and table is not None and table.dtype == np.float16:
            casts = [
                each.operation == "Cast" and each.attributes["to"] == np.float32 for each in users.get(y, [])
            ]
            if all(casts) and y not in graph.outputs:
                name, *indices = node.inputs
                if name not in wide:
                    wide[name] = next(n for i in count() if (n := f"{name}/float32:{i}") not in known)
                    constants[wide[name]] = table.astype(np.float32)
                node = node.with_inputs(wide[name], *indices)
        nodes.append(with_bodies(node, with_wide_tables))
    return graph.replaced(nodes=nodes, constants=constants).without_unused()


class GraphPrograms:
    """The programs of one graph, each for all sizes that its guards permit."""

    def __init__(self, graph: Graph, recorder: FileRecorder, host: str = "a compiled model") -> None:
        self.graph, self.compiled, self._host = with_wide_tables(graph), list[Compiled](), host
        constants = list(constants_of(self.graph))
        self._weights = Weights(frozenset(map(Identity, constants)), recorder)
        self._bytes = sum(array.nbytes for array in constants)

    def add(self, inputs: Sequence[AnyArray], decides: Sequence[bool]) -> list[Signature]:
        """Compile a program for these inputs, unless one takes them; return the signatures of the outputs.

        Raises ArgumentError, which names the node, if an operation has no steps in the core.
        """
        for known in self.compiled:
            found = known.outputs(inputs)
            if found is not None:
                return found
        limit = self._weights.limit
        limit.allow(inputs, self._bytes)
        with limit.entered():
            program = compiled(self.graph, inputs, decides, self._weights)
        check_in_core(self.graph, program, self._host)
        made: Made = program.core
        program.core = made.core
        self.compiled.append(Compiled(program, made.words, LoadedProgram(program, program.segments)))
        outputs = self.compiled[-1].outputs(inputs, is_first=True)
        assert outputs is not None  # the guards hold for the sizes that they were recorded with
        return outputs

    def follow(
        self, initial: Sequence[AnyArray], blocks: Sequence[Sequence[AnyArray]], is_strict: bool = True
    ) -> Iterator[list[AnyArray]]:
        """Compile programs for blocks that follow one another; yield carries of each signature.

        Blocks that do not fit the model are left out, unless `is_strict` or none fits. Raises ArgumentError
        if the carries take too many signatures, and what `add` raises.
        """
        start = tuple(map(Signature.of, initial))
        known, new = {start}, [start]
        problem: OnwardError | None = None
        while new:
            carried = [np.zeros(signature.shape, signature.dtype) for signature in new.pop()]
            for block in blocks:
                if are_empty(block) and not (self.compiled or is_strict):
                    continue
                try:
                    decides = [False] * len(carried) + list(decisions(block))
                    following = tuple(self.add([*carried, *block], decides)[: len(carried)])
                except OnwardError as error:
                    if is_strict:
                        raise
                    problem = problem or error
                    continue
                if following not in known:
                    known.add(following)
                    new.append(following)
            yield carried
            if len(known) > MAX_STATES:
                raise ArgumentError(
                    f"the carries of the stream take more than {MAX_STATES} shapes: its memory grows from "
                    "block to block, or the blocks have too many lengths"
                )
        if not self.compiled:
            raise problem or without_example("blocks=")


def check_in_core(graph: Graph, program: Program, host: str) -> None:
    """Raise ArgumentError, which names the node, unless the core alone runs a program, as its host needs."""
    # values decide about the shapes of the first nodes of what follows
    rests = [segment.graph.nodes[:1] for segment in program.segments if isinstance(segment, Rest)]
    for node in chain(program.in_numpy, *rests):
        scalars = [d.name for d in graph.inputs if d.axes == () and d.dtype and d.dtype.kind in "iub"]
        hint = f"; fix inputs that decide what runs, as {scalars[0]}=..." if scalars else ""
        raise ArgumentError(f"{node}: it runs in NumPy for these inputs, and {host} has only the core{hint}")
    for declared, required in zip(graph.inputs, program.signature, strict=True):
        if required is None:
            raise ArgumentError(f"the input {declared.name} is not an array, as {host} needs")
    for name, source in zip(graph.outputs, program.outputs, strict=True):
        if not isinstance(source, Location) or source.view is None:
            raise ArgumentError(f"the output {name} has a dtype that the core does not have")


def decisions(inputs: Sequence[AnyArray]) -> Iterator[bool]:
    """Yield which inputs are scalars whose values decide about a program."""
    for array in inputs:
        yield array.ndim == 0 and array.dtype.kind in "iub"
