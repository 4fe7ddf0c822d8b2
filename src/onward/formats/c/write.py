"""Write models as C99: a header, a source and a test with vectors."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from ...core import atomic
from ...core.checks import MOST_ROWS, integer
from ...errors import ArgumentError
from ...graph.plan.view import View
from ...layers.base_model import BaseModel
from . import render, vectors
from .emission import Emission, Figures, Port, Ports, identifiers
from .phases import Phase, largest, of_call, of_stream, phase_after
from .program import FixedPrograms, WeightRecorder
from .runnable import Runnable


class Exported(NamedTuple):
    """A model in C: the content of its files by name, and its figures."""

    files: dict[str, str]
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    figures: Figures
    phases: int
    accuracy: vectors.Accuracy | None  # of int8


def export_c(
    model: BaseModel,
    path: str | os.PathLike[str],
    **options: Any,
) -> Exported:
    """Write a model as C; `BaseModel.export_c` documents the arguments."""
    path = Path(path)
    if path.suffix != ".c":
        raise ArgumentError(f"path is {path}, but its name must end in .c")
    found = exported(model, path.stem, **options)
    write(found, path)
    return found


def write(found: Exported, path: Path) -> None:
    """Write the files of a model: PATH.c, PATH.h and PATH_test.c."""
    for name, content in found.files.items():
        atomic.replace(path.parent / name, content.encode())


def exported(
    model: BaseModel,
    stem: str,
    *,
    prefix: str = "",
    stream: bool = False,
    steps: int = 1,
    rows: int = 1,
    math: bool = True,
    int8: bool = False,
    calibrate: Mapping[str, ArrayLike] | None = None,
    data: Mapping[str, ArrayLike] | None = None,
    **options: Any,
) -> Exported:
    """Return a model in C without writing it. Raises ArgumentError, which names the node or the step."""
    prefix = prefix or stem
    if not re.fullmatch(r"[A-Za-z]\w*", prefix, re.ASCII):
        raise ArgumentError(f"prefix is {prefix!r}, but must be a name of C, such as 'detector'")
    steps, rows = integer("steps", steps, 1, MOST_ROWS), integer("rows", rows, 1, MOST_ROWS)
    original = Runnable.of(model, stream, steps, rows, **options)
    source = original
    if calibrate:
        source = original.calibrated(vectors.given(original, calibrate))
    elif int8:
        source = Runnable.of(model.quantize("int8"), stream, steps, rows, **options)
    recorder = WeightRecorder()
    programs = FixedPrograms(source.graph, recorder)
    if source.streamed is None:
        phases = of_call(programs, source.block)
    else:
        last = source.streamed.last
        ends = None if last is None else FixedPrograms(last, recorder)
        phases = of_stream(programs, ends, source.streamed, source.block)
    emission = Emission(stem, prefix, phases, _ports(phases, source), recorder)
    data = data or calibrate
    blocks = vectors.given(source, data) if data else vectors.random(source, len(phases))
    outputs = source.outputs(blocks)
    accuracy = vectors.accuracy(outputs, original.outputs(blocks)) if source is not original else None
    few = max(len(phases) + 2, vectors.MAX_NUMBERS // max(sum(x.size for x in source.block), 1))
    at_end = source.end(blocks[:few]) if phase_after(phases, len(blocks[:few])).end else []
    files = render.files(emission, source, math, blocks[:few], outputs[:few], at_end)
    ports = emission.ports
    inputs, found = ({port.name: port.shape for port in each} for each in (ports.inputs, ports.outputs))
    return Exported(files, inputs, found, emission.figures, len(phases), accuracy)


def _ports(phases: Sequence[Phase], source: Runnable) -> Ports:
    """Return the inputs that are arrays, the outputs and the carries, with names in C."""
    carries = [] if source.streamed is None else [carry.name for carry in source.streamed.carries]
    count = len(carries)
    sizes = largest([phase.program.inputs for phase in phases])
    shapes = [view.shape if view is not None else () for view in phases[-1].program.inputs]
    names = identifiers([*carries, *(each.name for each in source.inputs)])
    ins = [Port(names[i], *sizes[i], tuple(map(int, shapes[i]))) for i in range(len(names))]
    carried = largest([phase.program.outputs[:count] for phase in phases])
    taken = [port.name for port in ins]
    kept = [
        Port(port.name, dtype, max(port.size, size), port.shape)
        for port, (dtype, size) in zip(ins[:count], carried, strict=True)
    ]
    named = identifiers(source.outputs_by_name, taken)
    ends = [phase.end for phase in phases if phase.end]
    outs = _outputs(named, [phase.program.outputs[count:] for phase in phases])
    at_end = _outputs(named, [end.outputs for end in ends]) if ends else []
    return Ports([port for port in ins[count:] if port.dtype], outs, kept, at_end)


def _outputs(names: Sequence[str], views: Sequence[Sequence[View]]) -> list[Port]:
    """Return the outputs of programs, with the most elements that one has, and the shapes of the last one."""
    return [
        Port(name, *size, tuple(map(int, view.shape)))
        for name, size, view in zip(names, largest(views), views[-1], strict=True)
    ]
