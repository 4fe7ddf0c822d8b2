"""Models as plain C: what `model.export_c` and emx-onnx-cgen write, the time of a step, and the size.

Both are compiled by the same compiler with the same flags, and run on one thread. The sizes are those of the
compiled code and constants for x86-64 with -O2.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnx

import onward

FLAGS = ("-std=c99", "-O3", "-march=native", "-ffp-contract=off")
MAIN = """#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <string.h>
#include <time.h>
{head}

int main(void)
{{
    double best = 1e9;
    int round, i;
    for (round = 0; round < 200; round++) {{
        struct timespec start, end;
        double seconds;
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (i = 0; i < {count}; i++) {{
            {call}
        }}
        clock_gettime(CLOCK_MONOTONIC, &end);
        seconds = (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
        if (seconds / {count} < best) best = seconds / {count};
    }}
    printf("%.9f\\n", best);
    return 0;
}}
"""


class Case(NamedTuple):
    """A file of ONNX, the shape of a block of its stream, and the states that it takes and returns."""

    name: str
    path: Path
    block: tuple[int, ...]
    states: dict[str, tuple[int, ...]]
    carry: Mapping[str, str] = MappingProxyType({})  # of states that the file does not name as such


def cases(folder: Path | None, files: Path) -> list[Case]:
    """Layers with 32 inputs and 64 units, Silero 6, both models of DTLN, and GTCRN."""
    found = []
    for kind, states in ((onward.LSTM, ("h0", "c0")), (onward.GRU, ("h0",))):
        path = files / f"{kind.__name__}.onnx"
        kind(32, 64, rng=0).export_onnx(path)
        shapes = {name: (1, 1, 64) for name in states}
        found.append(Case(f"{kind.__name__} 32 -> 64", path, (1, 1, 32), shapes))
    if folder is not None:
        path = folder / "silero_v6" / "silero_vad_v6.onnx"
        found.append(Case("Silero 6", path, (1, 576), {name: (1, 1, 128) for name in "hc"}))
        for number, size, state, after in ((1, 257, "input_3", "2"), (2, 512, "input_5", "5")):
            path, carry = folder / "dtln" / f"model_{number}.onnx", {state: f"tf_op_layer_stack_{after}"}
            shapes = {state: (1, 2, 128, 2)}
            found.append(Case(f"DTLN, part {number}", path, (1, 1, size), shapes, carry))
        caches = {"conv": (2, 1, 16, 16, 33), "tra": (2, 3, 1, 1, 16), "inter": (2, 1, 33, 16)}
        shapes = {f"{name}_cache": shape for name, shape in caches.items()}
        found.append(Case("GTCRN", folder / "gtcrn" / "gtcrn_simple.onnx", (1, 257, 1, 2), shapes))
    return found


def seconds_of(folder: Path, source: Path, head: str, call: str, count: int) -> float:
    """The fewest seconds of a call among rounds of many."""
    (folder / "main.c").write_text(MAIN.format(head=head, call=call, count=count))
    program = folder / "program"
    command = ["cc", *FLAGS, str(source), str(folder / "main.c"), "-o", str(program), "-lm"]
    subprocess.run(command, check=True, capture_output=True)
    return float(subprocess.run([program], check=True, capture_output=True, text=True).stdout)


def size_of(source: Path) -> int:
    """The bytes of code and constants."""
    compiled = source.with_suffix(".o")
    command = ["cc", "-std=c99", "-O2", "-ffp-contract=off", "-c", str(source), "-o", str(compiled)]
    subprocess.run(command, check=True, capture_output=True)
    printed = subprocess.run(["size", compiled], check=True, capture_output=True, text=True).stdout
    return int(printed.splitlines()[1].split()[0])


def of_onward(folder: Path, case: Case, count: int) -> tuple[float, int, Any]:
    """The seconds of a step, the size, and the figures."""
    model: Any = onward.load(case.path)
    options = {"sizes": {"batch": 1, "seq_len": 1}, **({"carry": case.carry} if case.carry else {})}
    found = model.export_c(folder / "net.c", stream=True, **options)
    ports = [*found.inputs.items(), *found.outputs.items()]
    arrays = "\n".join(f"static float {name}[{int(np.prod(shape))}];" for name, shape in ports)
    head = f'#include "{folder}/net.h"\nstatic net_state state;\n{arrays}'
    call = f"net_step(&state, {', '.join(name for name, _ in ports)});"
    return seconds_of(folder, folder / "net.c", head, call, count), size_of(folder / "net.c"), found.figures


def of_emx(folder: Path, case: Case, count: int) -> tuple[float, int]:
    """The seconds of a call, which includes that of its states, and the size; NaN and 0 without the tool."""
    found = written_by_emx(case.path, folder / "emx.c")
    if found is None:
        return np.nan, 0
    return seconds_of(folder, folder / "emx.c", *found, count), size_of(folder / "emx.c")


def written_by_emx(path: Path, source: Path) -> tuple[str, str] | None:
    """Write the C of emx-onnx-cgen; return the declarations and the statements of a call.

    The call keeps the states. Returns None if the tool is not installed, or refuses the model.
    """
    if shutil.which("emx-onnx-cgen") is None:
        return None
    graph, simple = onnx.load(path), source.with_suffix(".onnx")
    for node in graph.graph.node:  # emx-onnx-cgen refuses a GRU that states its default
        kept = [each for each in node.attribute if each.name != "direction" or each.s != b"forward"]
        del node.attribute[:]
        node.attribute.extend(kept)
    onnx.save(graph, simple)
    axes = (axis for each in graph.graph.input for axis in each.type.tensor_type.shape.dim)
    sizes = [f"--input-dim={name}=1" for name in sorted({axis.dim_param for axis in axes} - {""})]
    limits = ("--large-temp-threshold=0", "--large-weight-threshold=0")
    command = ["emx-onnx-cgen", "compile", str(simple), str(source), *sizes, *limits]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"emx-onnx-cgen refuses {path.name}: {(done.stderr or done.stdout).strip()[-300:]}")
        return None
    found = re.search(r"^void model\((.*)\) {", source.read_text(), re.MULTILINE)
    assert found is not None
    declared = re.findall(r"(const )?(\w+) (\w+)((?:\[[^]]*\])+)", found[1])
    arrays = [
        f"static {kind} a{i}[{int(np.prod([int(n) for n in re.findall(r'([0-9]+)]', axes)]))}];"
        for i, (_, kind, _, axes) in enumerate(declared)
    ]
    inputs = sum(bool(const) for const, *_ in declared)
    states = min(len(declared) - inputs - 1, inputs - 1)
    copies = [
        f"memcpy(a{inputs - states + i}, a{inputs + 1 + i}, sizeof a{inputs + 1 + i});" for i in range(states)
    ]
    call = f"model({', '.join(f'a{i}' for i in range(len(declared)))}); " + " ".join(copies)
    return "\n".join(["#include <stdint.h>", "void model();", *arrays]), call
