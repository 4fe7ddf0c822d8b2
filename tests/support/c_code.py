"""Compile models in C, and run their tests on this machine or in an emulator."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off")


class Target(NamedTuple):
    """A processor: its compiler with options, and what runs a program for it."""

    compiler: tuple[str, ...]
    emulator: tuple[str, ...] = ()


HERE = Target(("cc", "-march=native"))


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
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def checked(model: Any, path: Path, target: Target = HERE, flags: Sequence[str] = (), **options: Any) -> Any:
    """Write a model as C, and check that its test passes; returns what was exported."""
    found = model.export_c(path, **options)
    sources = [path, path.with_name(f"{path.stem}_test.c")]
    assert run(compiled(sources, target, flags), target).startswith("PASS")
    return found
