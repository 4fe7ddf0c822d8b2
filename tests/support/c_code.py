"""Compile models in C, and run their tests on this machine or in an emulator."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from onward.graph import Graph, Model

from . import DATA

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off")


class Target(NamedTuple):
    """A processor: its compiler with options, and what runs a program for it."""

    compiler: tuple[str, ...]
    emulator: tuple[str, ...] = ()


HERE = Target(("cc", "-march=native"))
BOARD = DATA / "cortex_m"
SEMIHOSTING = ("-display", "none", "-monitor", "none", "-serial", "none", "-semihosting-config")
SEMIHOSTING += ("enable=on,target=native", "-kernel")
PLACES = {"flash": "0x80000000", "flash_size": "0x400000", "ram": "0x80400000", "ram_size": "0x400000"}


def _cortex(cpu: str, fpu: str, board: str) -> Target:
    options = (f"-mcpu=cortex-{cpu}", "-mthumb", "-mfloat-abi=hard", f"-mfpu={fpu}", "-O2")
    library = ("--specs=rdimon.specs", "-T", f"{BOARD}/cortex_m.ld", f"{BOARD}/startup.c")
    return Target(("arm-none-eabi-gcc", *options, *library), ("qemu-system-arm", "-M", board, *SEMIHOSTING))


def _risc_v(bits: int, march: str, abi: str) -> Target:
    library = ("--specs=picolibc.specs", "--oslib=semihost", "--crt0=hosted", "-mcmodel=medany", "-O2")
    places = (f"-Wl,--defsym=__{name}={value}" for name, value in PLACES.items())
    emulator = (f"qemu-system-riscv{bits}", "-M", "virt", "-bios", "none", *SEMIHOSTING)
    return Target(("riscv64-unknown-elf-gcc", f"-march={march}", f"-mabi={abi}", *library, *places), emulator)


MICROCONTROLLERS = {
    "Cortex-M4": _cortex("m4", "fpv4-sp-d16", "mps2-an386"),
    "Cortex-M7": _cortex("m7", "fpv5-d16", "mps2-an500"),
    "RISC-V 32": _risc_v(32, "rv32imafc", "ilp32f"),
    "RISC-V 32 without floats": _risc_v(32, "rv32imac", "ilp32"),
    "RISC-V 64": _risc_v(64, "rv64imafdc", "lp64d"),
}


def with_sizes(graph: Graph, *arrays: Any) -> Model:
    """Return a model whose inputs have the shapes of arrays."""
    pairs = zip(graph.inputs, arrays, strict=True)
    return Model(graph.replaced(inputs=[declared.with_axes(*x.shape) for declared, x in pairs]))


def compiled(sources: Sequence[Path], target: Target = HERE, flags: Sequence[str] = ()) -> Path:
    """Compile a program; warnings are errors. Skips the test if a tool is not installed."""
    for tool in (target.compiler[0], *target.emulator[:1]):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    program = sources[0].with_suffix(".out")
    command = [*target.compiler, *STRICT, *flags, *map(str, sources), "-o", str(program), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    return program


def run(program: Path, target: Target = HERE) -> str:
    """Run a program, and return what it prints."""
    command = [*target.emulator, str(program)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )  # emulators of RISC-V print to stderr
    assert done.returncode == 0, done.stdout
    return done.stdout


def checked(model: Any, path: Path, target: Target = HERE, flags: Sequence[str] = (), **options: Any) -> Any:
    """Write a model as C, and check that its test passes; returns what was exported."""
    found = model.export_c(path, **options)
    sources = [path, path.with_name(f"{path.stem}_test.c")]
    assert run(compiled(sources, target, flags), target).startswith("PASS")
    return found
