"""The files of a model in C: header, source and test."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from string import Template
from typing import NamedTuple

import numpy as np

from ...graph.node import AnyArray
from ...graph.plan.view import View
from .emission import ORDER, Emission, Port
from .library import FIELD_TYPES, TEMPLATES, TYPES, called, functions, initializer, text_of
from .runnable import Runnable


def files(
    emission: Emission,
    source: Runnable,
    with_math: bool,
    blocks: Sequence[Sequence[AnyArray]],
    outputs: Sequence[Sequence[AnyArray]],
    at_end: Sequence[AnyArray],
) -> dict[str, str]:
    """Return the files of a model by name; the test runs these blocks, and ends the stream."""
    stem, is_stream = emission.stem, source.streamed is not None
    arrays = emission.phases[0].program.inputs[len(source.initial) :]
    used = [place for place, x in enumerate(arrays) if x is not None]
    given = [[block[place] for place in used] for block in blocks]
    return {
        f"{stem}.c": _source(emission, is_stream, with_math, source.initial),
        f"{stem}.h": _header(emission, is_stream, with_math),
        f"{stem}_test.c": _test(emission, is_stream, given, outputs, at_end),
    }


def title_of(emission: Emission, is_stream: bool) -> str:
    """Return one line that tells what the model takes and returns."""
    ports = emission.ports
    inputs, outputs = (", ".join(map(_shown, each)) for each in (ports.inputs, ports.outputs))
    return f"{emission.prefix}: {'a block of a stream, ' if is_stream else ''}{inputs} -> {outputs}"


def _shown(port: Port) -> str:
    return f"{port.name} ({', '.join(map(str, port.shape))})"


def _header(emission: Emission, is_stream: bool, with_math: bool) -> str:
    """Return the header: sizes, types and declarations."""
    name, figures = emission.prefix, emission.figures
    sizes = [(f"{port.name}_SIZE", port.size) for port in (*emission.ports.inputs, *emission.ports.outputs)]
    sizes += [(f"FINISH_{port.name}_SIZE", port.size) for port in emission.ports.ends]
    sizes += [
        ("WEIGHT_BYTES", figures.weights),
        ("STATE_BYTES", figures.state),
        ("ARENA_BYTES", figures.arena),
    ]
    sizes += [("MULTIPLY_ADDS", figures.multiply_adds)]
    structs = [
        _struct(
            f"{name}_arena", "The memory of one call, which keeps nothing between calls.", _arena(emission)
        )
    ]
    if is_stream:
        fields = [f"{TYPES[p.dtype]} {p.name}[{max(p.size, 1)}];" for p in _by_size(emission.ports.carries)]
        fields += ["int32_t phase, last;"] if len(emission.phases) > 1 or not fields else []
        structs.insert(0, _struct(f"{name}_state", "What a stream keeps from block to block.", fields))
    return _filled(
        "model.h",
        title=title_of(emission, is_stream),
        version=version("onward"),
        libraries="the mathematical library" if with_math else "memcpy, memmove and memset",
        PREFIX=name.upper(),
        macros="\n".join(f"#define {name.upper()}_{key.upper()} {size}" for key, size in sizes),
        structs="\n".join(structs),
        declarations="\n\n".join(
            f"/* {comment} */\n{text};" for comment, text in _functions(emission, is_stream).values()
        ),
    )


def _by_size(carries: Sequence[Port]) -> list[Port]:
    """Return the carries so that their alignment leaves no gaps."""
    return sorted(carries, key=lambda port: -np.dtype(port.dtype).itemsize)


def _arena(emission: Emission) -> list[str]:
    fields = [f"{FIELD_TYPES[f]} {f}[{emission.fields[f]}];" for f in ORDER if emission.fields.get(f)]
    return fields or ["float floats[1];"]


def _struct(name: str, comment: str, fields: Sequence[str]) -> str:
    lines = "\n".join(f"    {field}" for field in fields)
    return f"/* {comment} */\ntypedef struct {{\n{lines}\n}} {name};\n"


class Call(NamedTuple):
    """A function that runs a model, a block of a stream or its end, with lines for each phase."""

    name: str
    comment: str
    bodies: Sequence[str | None]
    inputs: Sequence[Port]
    outputs: Sequence[Port]
    sizes: Sequence[Sequence[int]]  # of the outputs in each phase
    told: tuple[str, str, str]  # what tells them: its name, its comment, and where the state has the phase

    def names(self, local: bool = False) -> list[str]:
        """Return the names of the inputs and outputs; `local` names differ from those of variables."""
        return [port.local if local else port.name for port in (*self.inputs, *self.outputs)]

    def parameters(self, local: bool = False) -> list[str]:
        """Return the declarations of the inputs and outputs."""
        kinds = [f"const {TYPES[port.dtype]}" for port in self.inputs]
        kinds += [TYPES[port.dtype] for port in self.outputs]
        return [f"{kind} *{name}" for kind, name in zip(kinds, self.names(local), strict=True)]

    @property
    def phases(self) -> list[tuple[int, str]]:
        """The phases that have lines: their numbers and their lines."""
        return [(number, text) for number, text in enumerate(self.bodies) if text is not None]

    @property
    def varies(self) -> bool:
        """Whether the phases write different numbers of elements."""
        return len(set(map(tuple, self.sizes))) > 1


def _calls(emission: Emission, is_stream: bool) -> list[Call]:
    ports, carries = emission.ports, len(emission.ports.carries)
    name, comment = ("step", "Runs a block") if is_stream else ("run", "Runs the model")
    sizes = [_sizes(phase.program.outputs[carries:]) for phase in emission.phases]
    text = "The numbers that the last block wrote to an output: the first blocks may write fewer."
    told = "count", text, "last"
    calls = [Call(name, comment, emission.bodies, ports.inputs, ports.outputs, sizes, told)]
    if ports.ends:
        comment = "Writes what remains at the end of a stream, which only reset may follow,"
        nothing = [-1] * len(ports.ends)
        sizes = [_sizes(phase.end.outputs) if phase.end else nothing for phase in emission.phases]
        text = "The numbers that finish writes to an output; -1 if no sequence of the model has this length."
        told = "finish_count", text, "phase"
        calls.append(Call("finish", comment, emission.ends, [], ports.ends, sizes, told))
    return calls


def _sizes(outputs: Sequence[View]) -> list[int]:
    return [math.prod(map(int, view.shape)) for view in outputs]


def _functions(emission: Emission, is_stream: bool) -> dict[str, tuple[str, str]]:
    """Return the comment and the declaration of each function."""
    name, found = emission.prefix, {}
    state = [f"{name}_state *state"] if is_stream else []
    if is_stream:
        found["reset"] = "Starts a stream.", f"void {name}_reset({state[0]})"
    for call in _calls(emission, is_stream):
        arguments = ", ".join([*state, *call.parameters()])
        comment = f"{call.comment} in the static arena: from one thread at a time."
        found[call.name] = comment, f"void {name}_{call.name}({arguments})"
        comment = f"{call.comment} in an arena of the caller."
        found[f"{call.name}_in"] = comment, f"void {name}_{call.name}_in({name}_arena *arena, {arguments})"
        if call.varies:
            count, comment, _ = call.told
            found[count] = comment, f"int32_t {name}_{count}(const {state[0]}, int output)"
    return found


def _source(emission: Emission, is_stream: bool, with_math: bool, initial: Sequence[AnyArray]) -> str:
    """Return the source: functions, constants, phases and what the header declares."""
    arithmetic = text_of("arithmetic") + "\n" + text_of("with_math" if with_math else "without_math")
    definitions = _definitions(emission, is_stream, initial)
    made = emission.module.functions
    names = called([*made.values(), definitions], arithmetic)
    return _filled(
        "model.c",
        title=title_of(emission, is_stream),
        version=version("onward"),
        header=f"{emission.stem}.h",
        includes=("#include <math.h>\n" if with_math else "") + "#include <string.h>",
        arithmetic=arithmetic,
        functions="\n\n".join([*(functions()[name] for name in names), *made.values()]),
        constants="\n\n".join(emission.module.constants.values()),
        definitions=definitions,
    )


def _definitions(emission: Emission, is_stream: bool, initial: Sequence[AnyArray]) -> str:
    """Return the functions of the phases and those that the header declares."""
    declared = {name: text for name, (_, text) in _functions(emission, is_stream).items()}
    parts = [f"#ifndef ONWARD_NO_STATIC_ARENA\nstatic {emission.prefix}_arena memory;\n#endif"]
    for call in _calls(emission, is_stream):
        parts += [*_phases(emission, call, is_stream), *_runs(emission, call, is_stream, declared)]
        if call.varies:
            count, _, phase = call.told
            rows = ", ".join(f"{{{', '.join(map(str, counts))}}}" for counts in call.sizes)
            table = f"static const int32_t counts[][{len(call.outputs)}] = {{{rows}}};"
            parts.append(_function(declared[count], [table, f"return counts[state->{phase}][output];"]))
    if is_stream:
        parts.append(_function(declared["reset"], _reset(emission, initial)))
    return "\n\n".join(parts)


def _function(declaration: str, lines: Sequence[str]) -> str:
    return "\n".join([declaration, "{", *(f"    {line}" for line in lines), "}"])


def _phases(emission: Emission, call: Call, is_stream: bool) -> Iterator[str]:
    """Yield the function of each phase of a call."""
    memory = ["arena", *(["state"] if is_stream else [])]
    parameters = [f"{emission.prefix}_{each} *{each}" for each in memory] + call.parameters(local=True)
    known = [*memory, *call.names(local=True)]
    for number, text in call.phases:
        unused = [f"(void){each};" for each in known if not re.search(rf"\b{each}\b", text)]
        declaration = f"static void {call.name}_{number}({', '.join(parameters)})"
        yield _function(declaration, [*unused, text.strip()])


def _runs(emission: Emission, call: Call, is_stream: bool, declared: Mapping[str, str]) -> Iterator[str]:
    """Yield the functions that run a phase of a call, in an arena of the caller and in the static one."""
    rest = ", ".join([*(["state"] if is_stream else []), *call.names()])
    run = [f"{call.name}_0(arena, {rest});"]
    if len(call.bodies) > 1:
        run = ["switch (state->phase) {"]
        for number, _ in call.phases:
            run.append(f"    case {number}: {call.name}_{number}(arena, {rest}); break;")
        run.append("}")
        if call.name == "step":
            following = ", ".join(str(phase.following) for phase in emission.phases)
            run.insert(0, f"static const int32_t following[] = {{{following}}};")
            run += ["state->last = state->phase;", "state->phase = following[state->phase];"]
    mode = ["const float_mode mode = flush_subnormals();", *run, "restore_mode(mode);"]
    yield _function(declared[f"{call.name}_in"], mode)
    whole = _function(declared[call.name], [f"{emission.prefix}_{call.name}_in(&memory, {rest});"])
    yield f"#ifndef ONWARD_NO_STATIC_ARENA\n{whole}\n#endif"


def _reset(emission: Emission, initial: Sequence[AnyArray]) -> list[str]:
    """Return the lines that set the carries to what they are at the start."""
    lines = ["memset(state, 0, sizeof *state);"]
    for port, array in zip(emission.ports.carries, initial, strict=True):
        if array.size and np.any(array.view(np.uint8)):
            stored = array.astype(np.uint8) if array.dtype == bool else array
            numbers = emission.module.constant(stored, "initial")
            lines.append(f"memcpy(state->{port.name}, {numbers}, sizeof {numbers});")
    return lines


def _test(
    emission: Emission,
    is_stream: bool,
    inputs: Sequence[Sequence[AnyArray]],
    outputs: Sequence[Sequence[AnyArray]],
    at_end: Sequence[AnyArray],
) -> str:
    """Return a program that runs blocks and ends the stream, or runs one call, and compares the outputs."""
    name, ports = emission.prefix, emission.ports
    vectors = [
        _vectors(f"{port.name}_given", port, [block[place].ravel() for block in inputs])
        for place, port in enumerate(ports.inputs)
    ]
    given = [*(["&state"] if is_stream else []), *(f"{port.name}_given[block]" for port in ports.inputs)]
    function, end = f"{name}_{'step' if is_stream else 'run'}", [""]
    run = _compared(function, given, ports.outputs, outputs, "block", vectors)
    if at_end:
        finished = [Port(f"finish_{port.name}", *port[1:]) for port in ports.ends]
        end += _compared(f"{name}_finish", ["&state"], finished, [at_end], "0", vectors)
    if is_stream:
        vectors.append(f"static {name}_state state;")
    return _filled(
        "model_test.c",
        title=name,
        header=f"{emission.stem}.h",
        blocks=str(len(inputs)),
        vectors="\n".join(vectors),
        start=f"    {name}_reset(&state);" if is_stream else "",
        run="\n".join(f"        {line}" for line in run),
        end="\n    ".join(end),
    )


def _compared(
    function: str,
    given: Sequence[str],
    ports: Sequence[Port],
    outputs: Sequence[Sequence[AnyArray]],
    block: str,
    vectors: list[str],
) -> list[str]:
    """Return the lines that call a function and compare its outputs; declares what they need in `vectors`."""
    lines = []
    for place, port in enumerate(ports):
        found = [each[place].ravel() for each in outputs]
        vectors.append(_vectors(f"{port.name}_expected", port, found))
        counts = ", ".join(str(len(values)) for values in found)
        vectors.append(f"static const long {port.name}_counts[] = {{{counts}}};")
        vectors.append(f"static {TYPES[port.dtype]} {port.name}_found[{max(port.size, 1)}];")
        compared = f"{port.name}_found, {port.name}_expected[{block}], {port.name}_counts[{block}]"
        kind = f"(int)sizeof *{port.name}_found, {int(port.dtype == 'float32')}"
        lines.append(f"different += differences({compared}, {kind});")
        lines.append(f"numbers += {port.name}_counts[{block}];")
    return [f"{function}({', '.join([*given, *(f'{port.name}_found' for port in ports)])});", *lines]


def _vectors(name: str, port: Port, blocks: Sequence[AnyArray]) -> str:
    """Return the declaration of the numbers of each block; some may have fewer than others."""
    rows = np.zeros((len(blocks), max(port.size, 1)), np.uint8 if port.dtype == "bool" else port.dtype)
    for row, values in zip(rows, blocks, strict=True):
        row[: len(values)] = values
    lines = ",\n".join("{" + "\n".join(initializer(row)) + "}" for row in rows)
    text = f"static const {TYPES[port.dtype]} {name}[][{max(port.size, 1)}] = {{\n{lines}\n}};"
    return text.replace("NOT_A_NUMBER", "(0.0f / 0.0f)").replace("INFINITE", "(1.0f / 0.0f)")


def _filled(file: str, **parts: str) -> str:
    return Template((TEMPLATES / file).read_text(encoding="utf-8")).substitute(parts)
