"""`onward export-c`: write a model as C for microcontrollers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..formats.c import write
from ..formats.c.runnable import Runnable
from . import common
from .common import Printed, Report, kilobytes
from .sources import ModelFile, model_argument, read_arrays


def _sizes(found: write.Exported) -> Printed:
    """Yield the table that is printed before anything is written."""
    figures, table = found.figures, common.new_table(f"Sizes of {next(iter(found.files))}", "", "<")
    for kind, ports in (("input", found.inputs), ("output", found.outputs)):
        for name, shape in ports.items():
            table.add_row(f"{kind} {name}", _shown(shape))
    table.add_row("constants, in flash", kilobytes(figures.weights))
    if figures.state:
        table.add_row("state of a stream", kilobytes(figures.state))
    table.add_row("arena, shared by all streams" if figures.state else "arena", kilobytes(figures.arena))
    if found.accuracy is not None:
        table.add_row("largest difference from float32", f"{found.accuracy.largest_difference:.3g}")
        table.add_row("relative error", f"{found.accuracy.relative_error:.3g}")
    table.add_row("multiply-adds", f"{figures.multiply_adds:,}")
    yield table


def _shown(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _show(report: Report) -> Printed:
    yield f"Wrote {', '.join(report['files'])}"


@click.command(epilog="Example:  onward export-c detector.onnx --stream -o detector.c")
@model_argument
@common.out_option("The .c file to write, beside a header and a test.", required=True)
@click.option("--stream", is_flag=True, help="Write a stream, which keeps its state from block to block.")
@click.option(
    "--steps", metavar="N", default=1, type=click.IntRange(1), help="With --stream, the steps of a block."
)
@click.option(
    "--rows", metavar="N", default=1, type=click.IntRange(1), help="The sequences that run together."
)
@click.option(
    "--prefix", metavar="NAME", help="What the names in C start with. Default: the name of the file."
)
@click.option(
    "--no-math", "math", flag_value=False, default=True, show_default=False, help="Do not use math.h."
)
@click.option(
    "--size",
    "sizes",
    metavar="AXIS=N",
    multiple=True,
    callback=common.equations(int, "AXIS=N, such as time=16"),
    help="The size of an open axis, such as seq_len=1.",
)
@common.fixed_option("--fix")
@common.carry_option
@click.option("--int8", is_flag=True, help="Quantize the weights to int8, and activations in each call.")
@click.option(
    "--calibrate",
    metavar="DATA",
    help="Quantize weights, activations and states, with fixed scales that fit the inputs in a .npz file.",
)
@click.option(
    "--data",
    metavar="DATA",
    help="A .npz file of inputs by name, with blocks one after the other, for the test and the accuracy. "
    "Default: those of --calibrate, or random ones.",
)
@click.option("--time-axis", type=int, help="With --stream, the axis of the input that is time.")
@common.reported(_show)
def export_c(model: ModelFile, out: Path, fixed: dict[str, Any], **options: Any) -> Report:
    """Write MODEL as C99 for microcontrollers.

    MODEL is a bundled model (see `onward models`) or a file that onward.load opens. The command writes a
    source, a header, and a test with vectors, for calls or for streams, and prints the sizes before. The code
    allocates no memory, and gives the bits of Onward when it is compiled with -ffp-contract=off.
    """
    common.check_suffix(out, "--out", (".c",))
    common.refuse_to_overwrite({"MODEL": model.path}, out)
    arrays = {name: _inputs(options[name], f"--{name}") for name in ("calibrate", "data")}
    options |= {**arrays, "carry": options["carry"] or None}
    options |= model.fixed(fixed, write.exported, Runnable.of)
    found = write.exported(model.model, out.stem, **options)
    if not common.is_json():
        common.display(_sizes(found))
    write.write(found, out)
    return {
        "model": model.name,
        "out": str(out),
        "files": [str(out.parent / name) for name in found.files],
        "inputs": found.inputs,
        "outputs": found.outputs,
        **found.figures._asdict(),
        **({} if found.accuracy is None else found.accuracy._asdict()),
    }


def _inputs(path: str | None, option: str) -> Any:
    """Return the inputs in a file by name, those of a single array as x, or None."""
    arrays = path and read_arrays(path, option)
    return {"x": arrays[0]} if isinstance(arrays, list) else arrays or None
