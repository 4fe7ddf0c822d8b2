"""`onward compile`: compile a model to a file that the C library runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..formats.compiled.write import compile_model
from ..layers.base_model import BaseModel
from ..tables import model_files
from . import common
from .common import Printed, Report, counted, kilobytes
from .sources import ModelFile, model_argument


def _show(report: Report) -> Printed:
    calls, blocks = report["call_programs"], report["block_programs"]
    yield f"Inputs: {', '.join(report['inputs'])}. Outputs: {', '.join(report['outputs'])}."
    yield f"Calls: {counted(calls, 'program')}." if calls else f"No calls: {report['no_calls']}"
    yield f"Streams: {counted(blocks, 'program')}." if blocks else f"No streams: {report['no_streams']}"
    yield f"Wrote {report['out']} ({kilobytes(report['file_bytes'])})"


@click.command(epilog="Example:  onward compile vowels -o vowels.onward")
@model_argument
@common.out_option("The .onward file to write.", required=True)
@common.fixed_option("--fix")
@common.carry_option
@common.reported(_show)
def compile(model: ModelFile, out: Path, fixed: dict[str, Any], carry: dict[str, str]) -> Report:
    """Compile MODEL to a .onward file, which runs in C without Python.

    MODEL is a bundled model (see `onward models`) or a file that onward.load opens. The file holds programs
    for calls and, if the model streams, for the blocks of streams, for all sizes that the model permits; the
    columns and classes of its training table stay with it.
    """
    common.check_suffix(out, "--out", (".onward",))
    common.refuse_to_overwrite({"MODEL": model.path}, out)
    given = model.fixed(fixed, BaseModel.compile, compile_model)
    found = model.model.compile(out, carry=carry or None, **given)
    model_files.add_records(out, model.path)
    return {
        "model": model.name,
        "out": str(out),
        "inputs": found.inputs,
        "outputs": found.outputs,
        "call_programs": found.calls,
        "no_calls": found.no_calls,
        "block_programs": found.blocks,
        "no_streams": found.no_streams,
        "file_bytes": out.stat().st_size,
    }
