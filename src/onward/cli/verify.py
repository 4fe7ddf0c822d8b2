"""`onward verify`: compare the outputs of a model with expected ones, or with another file of the model."""

import sys
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from ..recipes.random_inputs import example_inputs
from ..recipes.verify import TOLERANCE, Verification
from ..recipes.verify import verify as verify_model
from .common import Printed, Real, display, json_option, new_table, print_json
from .sources import ModelFile, as_model, model_argument, read_arrays


@click.command(epilog="Example:  onward verify model.onnx inputs.npz expected.npz")
@model_argument
@click.argument("inputs", metavar="[INPUTS]", required=False, type=click.Path(path_type=Path))
@click.argument("expected", metavar="[EXPECTED]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--against", metavar="OTHER", help="Compare with this file of the same model instead.", **as_model
)
@click.option(
    "--tolerance",
    type=Real(0),
    default=TOLERANCE,
    help="The largest difference allowed, relative to the largest expected magnitude of an output.",
)
@json_option
def verify(
    model: ModelFile,
    inputs: Path | None,
    expected: Path | None,
    against: ModelFile | None,
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
    net = model.model
    other: Any = read_arrays(str(expected)) if against is None else against.model
    arrays = example_inputs([net, other]) if inputs is None else read_arrays(inputs)
    result = verify_model(net, arrays, other, tolerance=tolerance)
    if as_json:
        print_json(result.report())
    else:
        display(_show(result))
    sys.exit(0 if result else 1)


def _show(result: Verification) -> Printed:
    table = new_table("", "output", "shape", "largest difference", "at", "mean", "relative")
    for y in result.outputs:
        relative = f"{y.largest / y.scale:.3g}" if y.scale else ""
        table.add_row(y.name, str(y.shape), f"{y.largest:.3g}", str(y.position), f"{y.mean:.3g}", relative)
    yield table
    if result.divergence is not None:
        text = str(result.divergence)
        yield f"{text[0].upper()}{text[1:]}."
    for name, same in result.same_bits.items():
        words = {True: "the same bits", False: "other bits"}
        yield f"{name}: {words[same] if isinstance(same, bool) else 'not checked: ' + same}"
    for precision, cost in result.cost.items():
        text = f"{cost:.3g} of the scale" if isinstance(cost, float) else f"not checked: {cost}"
        yield f"{precision}: {text}"
    yield f"A call takes {result.microseconds:,.0f} µs."
    verdict = "All outputs agree" if result else "Outputs differ by more than the tolerance"
    yield Text(f"{verdict} (tolerance {result.tolerance:g} of the scale).", "bold")
