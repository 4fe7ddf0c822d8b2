"""`onward models`: list the models and data sets that come with Onward."""

import click

from .. import bundled
from ..tables import data
from .common import Report, console, kilobytes, new_table, reported


def _show(report: Report) -> None:
    models = new_table("Models", "name", "size", "quality")
    models.add_column("license")
    models.add_column("predicts")
    for row in report["models"]:
        quality = (
            f"{float(row['accuracy']):.1%} correct"
            if "accuracy" in row
            else f"{row['bits_per_character']} bits per character"
        )
        models.add_row(row["name"], kilobytes(row["bytes"]), quality, row["license"], row["summary"])
    sets = new_table("Data sets", "name", "sequences", "time steps")
    for row in report["data"]:
        sets.add_row(row["name"], f"{row['sequences']:,}", f"{row['steps']:,}")
    console().print(models)
    console().print(sets)


@click.command(epilog="Example:  onward models")
@reported(_show)
def models() -> Report:
    """List the models and data sets that come with Onward.

    Their names can be used wherever a command takes a model or a data file.
    """
    lengths = {name: data.read(path).lengths for name, path in bundled.datasets().items()}
    return {
        "models": [
            {"name": name, "bytes": path.stat().st_size, **bundled.card(name)}
            for name, path in bundled.models().items()
        ],
        "data": [
            {"name": name, "sequences": len(steps), "steps": int(steps.sum())}
            for name, steps in lengths.items()
        ],
    }
