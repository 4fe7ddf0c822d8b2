"""Count the instructions of models as plain C on a Cortex-M4, in QEMU.

    python bench/microcontroller.py

The models are a keyword spotter of depthwise convolutions and one step of a GRU, in float32 and in integers
with calibrated scales. This code and that of emx-onnx-cgen (PyPI), if it is installed, are compiled with -O2.
QEMU runs an instruction in each nanosecond of the board's clock; SysTick counts 40 of them at a time. Needs
the Debian packages gcc-arm-none-eabi and qemu-system-arm.
"""

import math
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import c_code
import numpy as np
import report

import onward
from onward.graph import Graph
from onward.model import Model

BOARD = Path(__file__).parents[1] / "tests" / "data" / "cortex_m"
CPU = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
CPU += ("-std=c99", "-O2", "-ffp-contract=off")
LIBRARY = ("--specs=rdimon.specs", "-T", str(BOARD / "cortex_m.ld"), str(BOARD / "startup.c"))
QEMU = "qemu-system-arm -M mps2-an386 -display none -monitor none -serial none -icount shift=0"
QEMU += " -semihosting-config enable=on,target=native -kernel"
TICK, MOST_TICKS = 40, 1 << 24  # instructions, and ticks until the counter starts again
MAIN = """#include <stdint.h>
#include <stdio.h>
{head}

#define SYSTICK ((volatile uint32_t *)0xE000E010)

int main(void)
{{
    uint32_t start, i;
    {start}
    SYSTICK[1] = 0xFFFFFF;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5;
    start = SYSTICK[2];
    for (i = 0; i < {count}; i++) {{
        {call}
    }}
    printf("%lu\\n", (unsigned long)((start - SYSTICK[2]) & 0xFFFFFF));
    return 0;
}}
"""


class Case(NamedTuple):
    """A model, the options with which it becomes C, its inputs, and its ONNX file for other tools."""

    name: str
    model: Any
    options: dict[str, Any]
    x: np.ndarray[Any, Any]
    states: bool  # whether the file takes and returns states


class Network:
    """A graph under construction, with random weights."""

    def __init__(self, *axes: int | str) -> None:
        self.rng, self.graph = np.random.default_rng(0), Graph()
        self.y = self.graph.add_input("x", np.float32, axes)

    def conv(self, C: int, *kernel: int, activation: str = "Relu", **attributes: Any) -> None:
        W = self.rng.normal(size=(C, *kernel)) * math.sqrt(2 / math.prod(kernel))
        operands = (W, self.rng.normal(0, 0.1, C))
        names = (self.graph.add_constant(array.astype(np.float32)) for array in operands)
        self.y = self.graph.add(activation, self.graph.add("Conv", self.y, *names, **attributes))

    def dense(self, inputs: int, units: int) -> None:
        W = self.rng.normal(size=(inputs, units)) / math.sqrt(inputs)
        self.y = self.graph.add("MatMul", self.y, self.graph.add_constant(W.astype(np.float32)))

    def model(self) -> Model:
        self.graph.outputs = (self.graph.add("Softmax", self.y, axis=-1, output="y"),)
        return Model(self.graph)


def spotter() -> Case:
    """Depthwise convolutions over 49 frames, as in "Hello Edge" (Zhang and others, 2017)."""
    net = Network(1, 1, 49, 10)
    net.conv(64, 1, 10, 4, strides=[2, 2], pads=[4, 1, 5, 1])
    for _ in range(4):
        net.conv(64, 1, 3, 3, group=64, pads=[1, 1, 1, 1])
        net.conv(64, 64, 1, 1)
    net.y = net.graph.add("Flatten", net.graph.add("GlobalAveragePool", net.y))
    net.dense(64, 12)
    x = net.rng.normal(size=(8, 1, 49, 10)).astype(np.float32)
    return Case("keyword spotter, depthwise convolutions, a call", net.model(), {}, x, False)


def recurrent() -> Case:
    """A GRU with 10 inputs and 64 units, and a dense layer."""
    net = onward.Sequential(onward.GRU(10, 64, rng=0), onward.Linear(64, 12, rng=1), onward.Softmax())
    x = np.random.default_rng(0).normal(size=(60, 10)).astype(np.float32)
    return Case("keyword spotter, GRU, a step", net, {"stream": True}, x, True)


class Measured(NamedTuple):
    """Instructions of a call, and bytes of code and constants, and of variables."""

    instructions: float
    flash: int
    ram: int


def measured(folder: Path, source: Path, head: str, start: str, call: str) -> Measured:
    """Compile a program, and count its instructions."""
    compiler, compiled = ["arm-none-eabi-gcc", *CPU], folder / "model.o"
    subprocess.run([*compiler, "-c", str(source), "-o", str(compiled)], check=True, capture_output=True)
    printed = subprocess.run(
        ["arm-none-eabi-size", str(compiled)], check=True, capture_output=True, text=True
    ).stdout
    text, data, bss = map(int, printed.splitlines()[1].split()[:3])

    def ticks(count: int) -> int:
        (folder / "main.c").write_text(MAIN.format(head=head, start=start, call=call, count=count))
        program = folder / "program"
        command = [*compiler, str(folder / "main.c"), str(compiled), *LIBRARY, "-o", str(program), "-lm"]
        subprocess.run(command, check=True, capture_output=True)
        run = subprocess.run([*QEMU.split(), str(program)], check=True, capture_output=True, text=True)
        return int((run.stdout + run.stderr).split()[-1])

    once = ticks(1)
    assert once < MOST_TICKS // 2, "a call takes too long for the counter"
    count = max(1, min(100, MOST_TICKS // 2 // max(once, 1)))
    return Measured(ticks(count) / count * TICK, text + data, data + bss)


def of_onward(folder: Path, case: Case, **options: Any) -> tuple[Measured, Any]:
    """Measure the C of this package."""
    found = case.model.export_c(folder / "net.c", data={"x": case.x}, **case.options, **options)
    ports = [*found.inputs.items(), *found.outputs.items()]
    arrays = "\n".join(f"static float {name}[{int(np.prod(shape))}];" for name, shape in ports)
    is_stream = "stream" in case.options
    head = f'#include "{folder}/net.h"\n{arrays}' + ("\nstatic net_state state;" if is_stream else "")
    arguments = ", ".join([*(["&state"] if is_stream else []), *(name for name, _ in ports)])
    call = f"net_{'step' if is_stream else 'run'}({arguments});"
    return measured(folder, folder / "net.c", head, "net_reset(&state);" if is_stream else "", call), found


def of_emx(folder: Path, case: Case) -> Measured | None:
    """Measure the C of emx-onnx-cgen, or return None if it is not installed."""
    path = folder / "emx.onnx"
    case.model.export_onnx(path)
    found = c_code.written_by_emx(path, folder / "emx.c")
    if found is None:
        return None
    head, call = found
    return measured(folder, folder / "emx.c", f"#include <string.h>\n{head}", "", call)


def main() -> None:
    options = report.parser(__doc__).parse_args()
    table = report.Report(options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in (recurrent(), spotter()):
            exact, _ = of_onward(folder, case)
            small, found = of_onward(folder, case, calibrate={"x": case.x})
            emx = of_emx(folder, case)
            for tool, precision, each in (
                ("Onward", "float32", exact),
                ("Onward", "integers", small),
                ("emx-onnx-cgen", "float32", emx),
            ):
                if each is not None:
                    table.add(
                        "instructions",
                        model=case.name,
                        tool=tool,
                        precision=precision,
                        instructions=each.instructions,
                        flash_kB=each.flash / 1e3,
                        **({"ram_kB": each.ram / 1e3} if each.ram else {}),  # or arrays on the stack
                        per_multiply_add=each.instructions / found.figures.multiply_adds,
                    )


if __name__ == "__main__":
    main()
