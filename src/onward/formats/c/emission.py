"""The C of a model: its functions, its header, and the figures of its size."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from ...graph.plan.view import DTYPES
from . import integers, layers, loops, recurrent  # noqa: F401  # which register their steps
from .code import PLACE, Body, Module, placed, plus
from .library import TYPES, field_of
from .phases import Phase
from .program import FixedProgram, WeightRecorder
from .steps import write

ORDER = ("doubles", "longs", "floats", "ints", "bytes")  # of the fields of the arena, by alignment
BYTES = {"doubles": 8, "longs": 8, "floats": 4, "ints": 4, "bytes": 1}
RESERVED = """
auto break case char const continue default do double else enum extern float for goto if inline int long
register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
arena state mode following counts memory memcpy memset flush_subnormals restore_mode
""".split()  # keywords, and names that the functions of a model use


class Port(NamedTuple):
    """An input, an output or a carry: its name in C, its dtype, its most elements and its shape."""

    name: str
    dtype: str
    size: int
    shape: tuple[int, ...]

    @property
    def local(self) -> str:
        """Its name in the functions of phases, in which steps have variables."""
        return f"port_{self.name}"


class Ports(NamedTuple):
    """What the functions of a model take and keep."""

    inputs: list[Port]
    outputs: list[Port]
    carries: list[Port]
    ends: list[Port]  # the outputs at the end of a stream; none if nothing remains there


class Figures(NamedTuple):
    """What a model takes: bytes of constants, of a state and of the arena; and its work."""

    weights: int
    state: int
    arena: int
    multiply_adds: int


def identifiers(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Return different names of C for names of a graph."""
    found: list[str] = []
    for name in names:
        text = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "value"
        text = f"n{text}" if text[0].isdigit() or text in RESERVED else text
        unique, number = text, 1
        while unique in found or unique in taken:
            number += 1
            unique = f"{text}_{number}"
        found.append(unique)
    return found


class Emission:
    """Writes the functions of a model, phase by phase; `stem` names the files, and `prefix` the functions."""

    def __init__(
        self, stem: str, prefix: str, phases: Sequence[Phase], ports: Ports, recorder: WeightRecorder
    ) -> None:
        self.stem, self.prefix, self.phases, self.ports = stem, prefix, phases, ports
        self.module = Module()
        self.fields: dict[str, int] = {}  # elements of the arena
        self.multiply_adds = 0
        self.bodies = [self._body(each.program, each.kept, ports.outputs, recorder) for each in phases]
        self.ends = [each.end and self._body(each.end, [], ports.ends, recorder) for each in phases]

    def _body(
        self, program: FixedProgram, kept: Sequence[bool], targets: Sequence[Port], recorder: WeightRecorder
    ) -> str:
        """Return the lines that run a program, whose first outputs are carries if `kept` tells about them.

        Raises ArgumentError if a step has no C.
        """
        body = Body(self.module, program, recorder.made)
        write(body, program.steps)
        arrays = dict(body.arrays)
        for space, field in body.fields.items():
            if space in program.arrays:
                size, first, last = program.arrays[space]
                arrays[space] = [-(-int(size) // BYTES[field]), first, last]
        count, lines = len(self.ports.carries), list(body.lines)
        places = {
            x.space: f"state->{carry.name}"
            for x, carry in zip(program.inputs, self.ports.carries, strict=False)
            if x is not None
        }
        for y, carry, is_kept in zip(program.outputs, self.ports.carries, kept, strict=False):
            places[y.space] = f"state->{carry.name}"
            n = math.prod(map(int, y.shape))
            if not is_kept and n and y.space in body.first_uses:
                del places[y.space]
                body.fields[y.space] = field_of(y.dtype)
                arrays[y.space] = [n, body.first_uses[y.space], body.step]
                lines.append(
                    f"    memcpy(state->{carry.name}, <{y.space}>, {n} * sizeof *state->{carry.name});"
                )
        inputs = [x for x in program.inputs[count:] if x is not None]
        for x, port in zip(inputs, self.ports.inputs, strict=False):  # the end may not use its input
            is_empty = 0 in x.shape  # at the end of a stream
            places[x.space] = f"((const {TYPES[port.dtype]} *)0)" if is_empty else port.local
        outputs = zip(program.outputs[len(kept) :], targets, strict=True)
        places |= {y.space: port.local for y, port in outputs}
        offsets, sizes = placed(arrays, body.fields)
        for field, size in sizes.items():
            self.fields[field] = max(size, self.fields.get(field, 0))
        signed = {y.space for y in program.outputs[: len(kept)] if y.dtype == "int8"}
        for space, offset in offsets.items():
            cast = "(int8_t *)" if space in signed else ""
            places[space] = plus(f"{cast}arena->{body.fields[space]}", offset)
        self.multiply_adds = max(self.multiply_adds, body.multiply_adds)
        text = "\n".join(lines)
        text = PLACE.sub(lambda match: places[int(match[1])], text)
        return re.sub(r" *memmove\((.*), \1, .*\);\n", "", text)  # of a state that stays where it is

    @property
    def figures(self) -> Figures:
        """The size of the model."""
        state = sum(port.size * DTYPES[port.dtype] for port in self.ports.carries)
        state = -(-state // 8) * 8 + 8 * (len(self.phases) > 1)
        arena = sum(size * BYTES[field] for field, size in self.fields.items())
        return Figures(self.module.flash, state, arena, self.multiply_adds)
