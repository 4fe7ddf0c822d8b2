"""`onward verify`: compare the outputs of a model with expected ones, or with another file of the model."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from ..recipes.divergence import example_inputs
from ..recipes.verify import TOLERANCE, Verification
from ..recipes.verify import verify as verify_model
from .common import console, json_option, model_argument, model_file, model_in, new_table
from .named_arrays import read_arrays


@click.command(epilog="Example:  onward verify model.onnx inputs.npz expected.npz")
@model_argument
@click.argument("inputs", metavar="[INPUTS]", required=False, type=click.Path(path_type=Path))
@click.argument("expected", metavar="[EXPECTED]", required=False, type=click.Path(path_type=Path))
@click.option("--against", metavar="OTHER", help="Compare with this file of the same model instead.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=TOLERANCE,
    help="The largest difference allowed, relative to the largest expected magnitude of an output.",
)
@json_option
def verify(
    model: str,
    inputs: Path | None,
    expected: Path | None,
    against: str | None,
    tolerance: float,
    as_json: bool,
) -> None:
    """Compare the outputs of MODEL on INPUTS with EXPECTED outputs.

    With --against, the expected outputs are those of the model in OTHER; if they differ, the first nodes that
    do are named. Without INPUTS, the inputs are random and of the declared shapes. INPUTS and EXPECTED are
    .npz files with one array for each input or output, by name or in order. Also shows whether a single row,
    blocks of time, other thread counts and other instruction sets give the same bits, what float16 and int8
    would cost, and the time of a call. The exit code is 1 if an output differs.
    """
    if (expected is None) == (against is None):
        raise click.UsageError("pass EXPECTED or --against OTHER, and not both")
    net = model_in(model_file(model), model)
    other: Any = (
        read_arrays(str(expected)) if against is None else model_in(model_file(against, "--against"), against)
    )
    if inputs is None and against is None:
        raise click.UsageError("pass INPUTS and EXPECTED, or --against OTHER")
    arrays = example_inputs([net, other]) if inputs is None else read_arrays(inputs)
    result = verify_model(net, arrays, other, tolerance=tolerance)
    if as_json:
        print(json.dumps(result.report()))
    else:
        _show(result)
    sys.exit(0 if result else 1)


def _show(result: Verification) -> None:
    table = new_table("", "output", "shape", "largest difference", "at", "mean", "relative")
    for y in result.outputs:
        relative = f"{y.largest / y.scale:.3g}" if y.scale else ""
        table.add_row(y.name, str(y.shape), f"{y.largest:.3g}", str(y.position), f"{y.mean:.3g}", relative)
    console().print(table)
    if result.divergence is not None:
        text = str(result.divergence)
        console().print(f"{text[0].upper()}{text[1:]}.", soft_wrap=True)
    for name, same in result.same_bits.items():
        words = {True: "the same bits", False: "other bits"}
        console().print(f"{name}: {words[same] if isinstance(same, bool) else 'not checked: ' + same}")
    for precision, cost in result.cost.items():
        text = f"{cost:.3g} of the scale" if isinstance(cost, float) else f"not checked: {cost}"
        console().print(f"{precision}: {text}")
    console().print(f"A call takes {result.microseconds:,.0f} µs.")
    verdict = "All outputs agree" if result else "Outputs differ by more than the tolerance"
    console().print(f"{verdict} (tolerance {result.tolerance:g} of the scale).", style="bold")
