"""Write models as C99: a header, a source and a test with vectors."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...core import atomic
from ...core.checks import MOST_ROWS, integer
from ...errors import ArgumentError
from ...graph import Input
from ...graph.declared import UNNAMED
from ...graph.node import AnyArray
from ...graph.of_layers import graph_of
from ...graph.over_time.streamed import Streamed
from ...layers.base_model import BaseModel
from ...model import Model
from ...streaming.graph_stream import stream_of
from ..compiled.write import names_of_outputs, with_fixed
from . import render
from .emission import Emission, Figures, Port, Ports, identifiers
from .phases import Phase, largest, of_call, of_stream
from .program import FixedPrograms, WeightRecorder

MAX_NUMBERS = 1 << 14  # in the vectors of the test


class Exported(NamedTuple):
    """A model in C: the content of its files by name, and its figures."""

    prefix: str
    files: dict[str, str]
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    figures: Figures
    phases: int


def export_c(
    model: BaseModel,
    path: str | os.PathLike[str],
    *,
    stream: bool = False,
    steps: int = 1,
    rows: int = 1,
    prefix: str = "",
    math: bool = True,
    **options: Any,
) -> Exported:
    """Write a model as C; `BaseModel.export_c` documents the arguments."""
    path = Path(path)
    if path.suffix != ".c":
        raise ArgumentError(f"path is {path}, but its name must end in .c")
    found = exported(model, prefix or path.stem, stream=stream, steps=steps, rows=rows, math=math, **options)
    write(found, path)
    return found


def write(found: Exported, path: Path) -> None:
    """Write the files of a model: PATH.c, PATH.h and PATH_test.c."""
    for name, content in found.files.items():
        atomic.replace(path.parent / name, content.encode())


def exported(
    model: BaseModel,
    prefix: str,
    *,
    stream: bool = False,
    steps: int = 1,
    rows: int = 1,
    math: bool = True,
    sizes: Mapping[str, int] | None = None,
    carry: Mapping[str, str] | None = None,
    initial: Mapping[str, ArrayLike] | None = None,
    time_axis: int | None = None,
    **fixed: ArrayLike,
) -> Exported:
    """Return a model in C without writing it. Raises ArgumentError, which names the node or the step."""
    if not re.fullmatch(r"[A-Za-z]\w*", prefix, re.ASCII):
        raise ArgumentError(f"prefix is {prefix!r}, but must be a name of C, such as 'detector'")
    steps, rows = integer("steps", steps, 1, MOST_ROWS), integer("rows", rows, 1, MOST_ROWS)
    whole = model if isinstance(model, Model) else Model(graph_of(model)).of_sequences
    general, others = whole.generalized(fixed)
    recorder = WeightRecorder()
    if not stream:
        general = with_fixed(general, others)
        graph = general.planner.graph
        inputs = [_example(each, {"batch": rows, **(sizes or {})}) for each in graph.inputs]
        phases = of_call(FixedPrograms(graph, recorder), inputs)
        ports = _ports(phases, graph.inputs, general.outputs or graph.outputs, [])
        emission = Emission(prefix, phases, ports, recorder)
        given, expected = _calls(general, graph.inputs, inputs)
        return _exported(emission, False, math, [], given, expected)
    streamed = general.streamed(rows, carry, initial, time_axis, others)
    block = _block(streamed, steps, rows, sizes or {})
    phases = of_stream(FixedPrograms(streamed.graph, recorder), streamed, block)
    names = names_of_outputs(general, streamed, carry)
    ports = _ports(phases, streamed.inputs, names, [carry.name for carry in streamed.carries])
    emission = Emission(prefix, phases, ports, recorder)
    given, expected = _steps(streamed, block, rows, len(phases))
    return _exported(emission, True, math, streamed.initial, given, expected)


def _exported(
    emission: Emission,
    is_stream: bool,
    math: bool,
    initial: Sequence[AnyArray],
    given: Sequence[Sequence[AnyArray]],
    expected: Sequence[Sequence[AnyArray]],
) -> Exported:
    name = emission.prefix
    used = [
        place for place, x in enumerate(emission.phases[0].program.inputs[len(initial) :]) if x is not None
    ]
    files = {
        f"{name}.c": render.source(emission, is_stream, math, initial),
        f"{name}.h": render.header(emission, is_stream, math),
        f"{name}_test.c": render.test(
            emission, is_stream, [[block[i] for i in used] for block in given], expected
        ),
    }
    ports = emission.ports
    inputs, outputs = ({port.name: port.shape for port in each} for each in (ports.inputs, ports.outputs))
    return Exported(name, files, inputs, outputs, emission.figures, len(emission.phases))


def _ports(
    phases: Sequence[Phase], inputs: Sequence[Input], outputs: Sequence[str], carries: Sequence[str]
) -> Ports:
    """Return the inputs that are arrays, the outputs and the carries, with names in C."""
    count = len(carries)
    sizes = largest(phases, lambda program: program.inputs)
    shapes = [view.shape if view is not None else () for view in phases[-1].program.inputs]
    names = identifiers([*carries, *(each.name for each in inputs)])
    ins = [Port(names[i], *sizes[i], tuple(map(int, shapes[i]))) for i in range(len(names))]
    sizes_out = largest(phases, lambda program: program.outputs)
    taken = [port.name for port in ins]
    kept = [
        Port(port.name, dtype, max(port.size, size), port.shape)
        for port, (dtype, size) in zip(ins[:count], sizes_out, strict=False)
    ]
    named = identifiers(outputs, taken)
    last = phases[-1].program.outputs[count:]
    outs = [
        Port(name, *size, tuple(map(int, view.shape)))
        for name, size, view in zip(named, sizes_out[count:], last, strict=True)
    ]
    return Ports([port for port in ins[count:] if port.dtype], outs, kept)


def _example(declared: Input, sizes: Mapping[str, int]) -> AnyArray:
    """Return zeros for an input. Raises ArgumentError for axes without a size."""
    if declared.axes is None or declared.dtype is None:
        raise ArgumentError(f"the axes of {declared.name} are unknown: export the model with declared shapes")
    shape = []
    for place, axis in enumerate(declared.axes):
        name = f"{declared.name}.shape[{place}]" if axis in UNNAMED else axis
        if isinstance(name, str) and name not in sizes:
            raise ArgumentError(
                f"the axis {name} of {declared.name} is open, and C has fixed sizes: pass its size"
            )
        shape.append(sizes[name] if isinstance(name, str) else name)
    return np.zeros(shape, declared.dtype)


def _block(streamed: Streamed, steps: int, rows: int, sizes: Mapping[str, int]) -> list[AnyArray]:
    """Return zeros for a block of a stream."""
    if streamed.last is None:
        return [_example(each, {"batch": rows, **sizes}) for each in streamed.inputs]
    known = {streamed.x.time: steps, streamed.x.batch: rows}
    shape = [known.get(axis, size) for axis, size in enumerate(streamed.step_shape)]
    return [np.zeros(shape, streamed.inputs[0].dtype)]


def _random(like: AnyArray, rng: np.random.Generator) -> AnyArray:
    if like.dtype.kind == "f":
        return rng.normal(size=like.shape).astype(like.dtype)
    return rng.integers(0, 2, like.shape).astype(like.dtype)


def _calls(
    model: Model, declared: Sequence[Input], like: Sequence[AnyArray]
) -> tuple[list[list[AnyArray]], list[list[AnyArray]]]:
    rng = np.random.default_rng(0)
    given = [_random(each, rng) if each.ndim else each for each in like]
    outputs = model.planner(*given)
    return [given], [[np.asarray(y) for y in outputs]]


def _steps(
    streamed: Streamed, block: Sequence[AnyArray], rows: int, phases: int
) -> tuple[list[list[AnyArray]], list[list[AnyArray]]]:
    """Return blocks of a stream and its outputs, so many that each phase is among them."""
    rng = np.random.default_rng(0)
    size = sum(each.size for each in block)
    count = max(phases + 2, min(16, MAX_NUMBERS // max(size, 1)))
    blocks = [[_random(each, rng) if each.ndim else each for each in block] for _ in range(count)]
    stream = stream_of(streamed, rows)
    outputs = [stream(*each) for each in blocks]
    return blocks, [
        [np.asarray(y) for y in (each if isinstance(each, tuple) else (each,))] for each in outputs
    ]
