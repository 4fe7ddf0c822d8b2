"""The files of a model in C: header, source and test."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from string import Template
from typing import Any

import numpy as np

from ...graph.node import AnyArray
from .emission import ORDER, Emission, Port
from .library import FIELD_TYPES, TEMPLATES, TYPES, called, functions, initializer, text_of
from .phases import Phase
from .runnable import Runnable


def files(
    emission: Emission,
    source: Runnable,
    with_math: bool,
    blocks: Sequence[Sequence[AnyArray]],
    outputs: Sequence[Sequence[AnyArray]],
) -> dict[str, str]:
    """Return the files of a model by name; the test runs these blocks."""
    name, is_stream = emission.prefix, source.streamed is not None
    arrays = emission.phases[0].program.inputs[len(source.initial) :]
    used = [place for place, x in enumerate(arrays) if x is not None]
    given = [[block[place] for place in used] for block in blocks]
    return {
        f"{name}.c": _source(emission, is_stream, with_math, source.initial),
        f"{name}.h": _header(emission, is_stream, with_math),
        f"{name}_test.c": _test(emission, is_stream, given, outputs),
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


def _functions(emission: Emission, is_stream: bool) -> dict[str, tuple[str, str]]:
    """Return the comment and the declaration of each function."""
    name = emission.prefix
    ports = ", ".join(_parameters(emission))
    if not is_stream:
        return {
            "run": (
                "Runs the model in the static arena: from one thread at a time.",
                f"void {name}_run({ports})",
            ),
            "run_in": (
                "Runs the model in an arena of the caller.",
                f"void {name}_run_in({name}_arena *arena, {ports})",
            ),
        }
    state = f"{name}_state *state"
    found = {
        "reset": ("Starts a stream.", f"void {name}_reset({state})"),
        "step": (
            "Runs a block in the static arena: from one thread at a time.",
            f"void {name}_step({state}, {ports})",
        ),
        "step_in": (
            "Runs a block in an arena of the caller.",
            f"void {name}_step_in({name}_arena *arena, {state}, {ports})",
        ),
    }
    if _varies(emission):
        comment = "The numbers that the last block wrote to an output: the first blocks may write fewer."
        found["count"] = comment, f"int32_t {name}_count(const {state}, int output)"
    return found


def _parameters(emission: Emission, local: bool = False) -> list[str]:
    """Return the declarations of the inputs and outputs; `local` names differ from those of variables."""
    inputs, outputs = (emission.ports.inputs, emission.ports.outputs)
    kinds = [f"const {TYPES[port.dtype]}" for port in inputs] + [TYPES[port.dtype] for port in outputs]
    return [f"{kind} *{name}" for kind, name in zip(kinds, _names(emission, local), strict=True)]


def _counts(phase: Phase, carries: int) -> list[int]:
    return [math.prod(map(int, view.shape)) for view in phase.program.outputs[carries:]]


def _varies(emission: Emission) -> bool:
    count = len(emission.ports.carries)
    return len({tuple(_counts(phase, count)) for phase in emission.phases}) > 1


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
        header=f"{emission.prefix}.h",
        includes=("#include <math.h>\n" if with_math else "") + "#include <string.h>",
        arithmetic=arithmetic,
        functions="\n\n".join([*(functions()[name] for name in names), *made.values()]),
        constants="\n\n".join(emission.module.constants.values()),
        definitions=definitions,
    )


def _definitions(emission: Emission, is_stream: bool, initial: Sequence[AnyArray]) -> str:
    """Return the functions of the phases and those that the header declares."""
    declared = {name: text for name, (_, text) in _functions(emission, is_stream).items()}
    parts = [*_phases(emission, is_stream), *_runs(emission, is_stream, declared)]
    if is_stream:
        parts.append(_function(declared["reset"], _reset(emission, initial)))
    if "count" in declared:
        counts = (", ".join(map(str, _counts(phase, len(initial)))) for phase in emission.phases)
        rows = ", ".join(f"{{{row}}}" for row in counts)
        table = f"static const int32_t counts[][{len(emission.ports.outputs)}] = {{{rows}}};"
        parts.append(_function(declared["count"], [table, "return counts[state->last][output];"]))
    return "\n\n".join(parts)


def _function(declaration: str, lines: Sequence[str]) -> str:
    return "\n".join([declaration, "{", *(f"    {line}" for line in lines), "}"])


def _phases(emission: Emission, is_stream: bool) -> Iterator[str]:
    """Yield the function of each phase."""
    name, memory = emission.prefix, ["arena", *(["state"] if is_stream else [])]
    parameters = [f"{name}_{each} *{each}" for each in memory] + _parameters(emission, local=True)
    known = [*memory, *_names(emission, local=True)]
    for number, text in enumerate(emission.bodies):
        unused = [f"(void){each};" for each in known if not re.search(rf"\b{each}\b", text)]
        declaration = f"static void phase_{number}({', '.join(parameters)})"
        yield _function(declaration, [*unused, text.strip()])


def _runs(emission: Emission, is_stream: bool, declared: Mapping[str, str]) -> Iterator[str]:
    """Yield the functions that run a phase, in an arena of the caller and in the static one."""
    kind = "step" if is_stream else "run"
    rest = ", ".join([*(["state"] if is_stream else []), *_names(emission)])
    run = [f"phase_0(arena, {rest});"]
    if len(emission.phases) > 1:
        run = ["const int32_t phase = state->phase;", "switch (phase) {"]
        for number in range(len(emission.phases)):
            run.append(f"    case {number}: phase_{number}(arena, {rest}); break;")
        following = ", ".join(str(phase.following) for phase in emission.phases)
        run += ["}", "state->last = phase;", "state->phase = following[phase];"]
        run.insert(0, f"static const int32_t following[] = {{{following}}};")
    mode = ["const float_mode mode = flush_subnormals();", *run, "restore_mode(mode);"]
    yield _function(declared[f"{kind}_in"], mode)
    static = f"static {emission.prefix}_arena memory;"
    whole = _function(declared[kind], [f"{emission.prefix}_{kind}_in(&memory, {rest});"])
    yield f"#ifndef ONWARD_NO_STATIC_ARENA\n{static}\n\n{whole}\n#endif"


def _names(emission: Emission, local: bool = False) -> list[str]:
    ports = (*emission.ports.inputs, *emission.ports.outputs)
    return [port.local if local else port.name for port in ports]


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
) -> str:
    """Return a program that runs blocks, or one call, and compares the outputs."""
    name, ports = emission.prefix, emission.ports
    vectors, run, arguments = [], [], []
    for place, port in enumerate(ports.inputs):
        rows = np.stack([block[place].ravel() for block in inputs])
        vectors.append(_vectors(f"{port.name}_given", port, rows))
        arguments.append(f"{port.name}_given[block]")
    for place, port in enumerate(ports.outputs):
        found = [block[place].ravel() for block in outputs]
        rows = np.zeros((len(found), max(port.size, 1)), port.dtype)
        for row, values in zip(rows, found, strict=True):
            row[: len(values)] = values
        sizes = ", ".join(str(len(values)) for values in found)
        vectors.append(_vectors(f"{port.name}_expected", port, rows))
        vectors.append(f"static const long {port.name}_counts[BLOCKS] = {{{sizes}}};")
        arguments.append(f"{port.name}_found")
        is_float = int(port.dtype == "float32")
        compared = f"{port.name}_found, {port.name}_expected[block], {port.name}_counts[block]"
        run.append(
            f"        different += differences({compared}, (int)sizeof *{port.name}_found, {is_float});"
        )
        run.append(f"        numbers += {port.name}_counts[block];")
    called_as = f"{name}_{'step(&state, ' if is_stream else 'run('}{', '.join(arguments)});"
    statics = [
        f"static {TYPES[port.dtype]} {port.name}_found[{max(port.size, 1)}];" for port in ports.outputs
    ]
    if is_stream:
        statics.append(f"static {name}_state state;")
    return _filled(
        "model_test.c",
        title=name,
        header=f"{name}.h",
        blocks=str(len(inputs)),
        vectors="\n".join(vectors),
        statics="\n".join(statics),
        start=f"    {name}_reset(&state);" if is_stream else "",
        run="\n".join([f"        {called_as}", *run]),
    )


def _vectors(name: str, port: Port, rows: Any) -> str:
    if rows.dtype == bool:
        rows = rows.astype(np.uint8)
    lines = ",\n".join(
        "{" + "\n".join(initializer(row if row.size else np.zeros(1, row.dtype))) + "}" for row in rows
    )
    kind = TYPES[port.dtype]
    text = f"static const {kind} {name}[BLOCKS][{max(port.size, 1)}] = {{\n{lines}\n}};"
    return text.replace("NOT_A_NUMBER", "(0.0f / 0.0f)").replace("INFINITE", "(1.0f / 0.0f)")


def _filled(file: str, **parts: str) -> str:
    return Template((TEMPLATES / file).read_text()).substitute(parts)
