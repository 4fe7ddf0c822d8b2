"""Tables of forecasts: the errors of a model beside those of naive forecasts, and the forecast itself."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from ..tables import windows
from ..tables.layout import Sequences
from .common import Printed, Report, add_rows, new_table
from .group import warn

MOST_NAMED = 10
MEASURES = {"mae": "MAE", "rmse": "RMSE", "r2": "R²", "mase": "MASE"}


def show(report: Report) -> Printed:
    """Show the errors over all series, the errors of each series, and the best forecast."""
    season = report["season"]
    table = new_table("", "forecast", *MEASURES.values())
    for row in report["forecasts"]:
        table.add_row(_title(row["name"], season), *(_number(row[key]) for key in MEASURES))
    yield table
    names = [row["name"] for row in report["forecasts"]]
    series = report["series"]
    if len(series) > 1:
        table = new_table("", "series", *(f"MAE, {_title(name, season)}" for name in names))
        rows = [(row["name"], *(_number(row["mae"][name]) for name in names)) for row in series]
        yield add_rows(table, rows)
    if "interval" in report:
        yield f"The bounds for {report['interval']:.0%} contain {report['coverage']:.1%} of the targets."
    yield Text(report["verdict"], "yellow" if "loses" in report["verdict"] else "green")


def _title(name: str, season: int) -> str:
    return f"{name} ({season} steps)" if name == "seasonal naive" else name


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def classes(report: Report) -> Table:
    """The recall, the precision and the AUC of each class."""
    rows = []
    for row in report["by_class"]:
        shares = ("" if row[key] is None else f"{row[key]:.1%}" for key in ("recall", "precision"))
        rows.append((row["class"], f"{row['count']:,}", *shares, _number(row["auc"])))
    return add_rows(new_table("", "class", "count", "recall", "precision", "AUC"), rows)


def warn_of_short(table: Sequences) -> None:
    """Name the series that have no window."""
    names, total = windows.left_out(table)
    if names:
        listed = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
        lack = "no complete window" if table.selection.missing == "skip" else "too few steps"
        warn(
            f"{len(names)} of {total} series have {lack} for --window {table.selection.window} and "
            f"--horizon {table.selection.horizon}: {listed}"
        )


def numbers(report: Report) -> str:
    """The errors of predicted numbers beside those of a constant, in words; "" for other outputs."""
    if "mae" not in report:
        return ""
    text, r2 = f", mean absolute error {report['mae']:.4g} in the units of the targets", report["r2"]
    if r2 is None:  # of equal targets
        return text
    return f"{text}, R² {r2:.3g}" + ("" if r2 > 0 else ": the model loses to the mean of the targets")
