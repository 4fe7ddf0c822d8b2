"""The summaries of `onward run`: statistics of the outputs, and the accuracy or error if known."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from ..tables import model_files
from ..tables.data import AnyArray, Sequences
from ..tables.layout import UNKNOWN, targets_like
from .common import Printed, Report, add_rows, counted, new_table, statistics_cells
from .sources import ModelFile


@dataclass(frozen=True)
class Predictions:
    """The class predicted for each sequence; None if its outputs are NaN."""

    classes: list[int | None]
    class_names: tuple[str, ...]

    def name(self, number: int) -> str:
        return self.class_names[number] if number < len(self.class_names) else str(number)

    @property
    def names(self) -> list[str]:
        return ["" if number is None else self.name(number) for number in self.classes]


def predict(
    model: ModelFile, sequences: Sequences, outputs: list[AnyArray], bad: list[int]
) -> Predictions | None:
    """The class with the largest output, or None if the outputs are not scores of classes.

    Outputs are scores if the file has labels, the model was trained on classes, or they are probabilities.
    """
    if outputs[0].shape[-1] == 1 or sequences.targets is not None:
        return None
    if outputs[0].ndim != 1:
        return _predict_steps(model, sequences, outputs)
    scores = np.stack(outputs)
    if sequences.labels is None and "accuracy" not in model.card:
        probable = (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3)
        if not (probable or model_files.load_saved(model.path).classes):
            return None
    classes: list[int | None] = scores.argmax(axis=1).tolist()
    for row in bad:
        classes[row] = None
    return Predictions(classes, sequences.classes)


def _predict_steps(model: ModelFile, sequences: Sequences, outputs: list[AnyArray]) -> Predictions | None:
    """The class of each step, if the model was trained on classes of steps."""
    saved = model_files.load_saved(model.path)
    if saved.selection.task != "label-steps" or len(saved.classes) != outputs[0].shape[-1]:
        return None
    scores = np.concatenate(outputs)
    classes = np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1)).tolist()
    return Predictions([None if number < 0 else number for number in classes], saved.classes)


def summarize(
    sequences: Sequences,
    outputs: list[AnyArray],
    predictions: Predictions | None,
    bad: list[int],
    names: tuple[str, ...],
) -> Report:
    """Statistics of each output and, if the targets are known, the accuracy or the mean squared error.

    names: those of the outputs, if the model was trained on a table.
    """
    good = sorted({*range(len(outputs))} - {*bad})
    per_step = outputs[0].ndim > 1
    found = [outputs[row] if per_step else outputs[row][None] for row in good if outputs[row].size]
    values = np.concatenate(found or [np.full((1, *outputs[0].shape[per_step:]), np.nan)])
    longest = [max(map(len, outputs)), *values.shape[1:-1]] if per_step else []
    values = values.reshape(-1, values.shape[-1])
    report: Report = {
        "sequences": len(outputs),
        "steps": int(sequences.lengths.sum()),
        "output_shape": [len(outputs), *longest, values.shape[-1]],
        "labels": sequences.labels is not None,
        "bad": bad,
        "bad_names": [sequences.name(row) for row in bad],
        "not_finite": sum(int((~np.isfinite(y)).sum()) for y in outputs),
    }
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        mean = values.mean(axis=0, dtype=np.float64)
    columns = zip(mean, values.min(axis=0), values.max(axis=0), strict=True)
    report["outputs"] = [
        {"name": names[k] if len(names) == len(mean) else str(k), **_statistics(*column)}
        for k, column in enumerate(columns)
    ]
    if predictions is not None:
        report["predicted"] = [
            predictions.name(k) if k is not None and predictions.class_names else k
            for k in predictions.classes
        ]
        if sequences.labels is not None and outputs[0].ndim == 1:
            report |= _accuracy(sequences.labels, predictions, good)
    elif (error := _squared_error(sequences, outputs, good)) is not None:
        report["mean_squared_error"] = _number(error)
    return report


def _accuracy(known: AnyArray, predictions: Predictions, good: list[int]) -> Report:
    good = [row for row in good if known[row] != UNKNOWN]
    labels = np.array([known[row] for row in good])
    predicted = np.array([predictions.classes[row] for row in good])
    classes = []
    for k in np.union1d(labels, predicted).tolist():
        own = predicted[labels == k]
        correct = int((own == k).sum())
        others = Counter(own[own != k].tolist()).most_common()
        classes.append({
            "class": predictions.name(k) if predictions.class_names else k,
            "sequences": len(own),
            "correct": correct,
            "accuracy": correct / len(own) if len(own) else None,
            "taken_for": {predictions.name(other): times for other, times in others},
        })  # fmt: skip
    return {"accuracy": float((predicted == labels).mean()) if good else None, "classes": classes}


def _squared_error(sequences: Sequences, outputs: list[AnyArray], good: list[int]) -> float | None:
    """The mean squared error of the outputs whose targets are known; None if there are none."""
    targets = targets_like(sequences.targets, outputs)
    if targets is None:
        return None
    pairs = [(outputs[row], targets[row]) for row in good]
    if any(y.shape != target.shape for y, target in pairs):
        return None
    errors = np.concatenate([(y - target).reshape(-1) for y, target in pairs or [(np.empty(0), np.empty(0))]])
    known = errors[~np.isnan(errors)]
    return float((known.astype(np.float64) ** 2).mean()) if len(known) else None


def _statistics(mean: Any, low: Any, high: Any) -> Report:
    return {"mean": _number(mean), "min": _number(low), "max": _number(high)}


def _number(value: Any) -> float | None:
    """A float, or None for NaN and infinities, which JSON cannot represent."""
    return float(value) if np.isfinite(value) else None


def finite(row: list[Any]) -> list[Any]:
    """A row of a table for JSON: None in place of NaN and infinities."""
    return [value if isinstance(value, str) else _number(value) for value in row]


def of_array(name: str, y: AnyArray) -> Report:
    """The shape, and the mean, minimum and maximum of the finite numbers, of one output."""
    finite = y[np.isfinite(y)] if y.dtype.kind in "fiub" else y[:0]
    some = finite if finite.size else np.array([np.nan])
    statistics = _statistics(some.mean(dtype=np.float64), some.min(), some.max())
    return {"name": name, "shape": list(y.shape), "dtype": str(y.dtype), **statistics}


def show(report: Report) -> Printed:
    """Show the report of a run on arrays of one call, on Parquet, or on sequences."""
    kind = "inputs" if "inputs" in report else "rows" if "sequences_per_second" in report else "sequences"
    yield from {"inputs": _show_arrays, "rows": _show_parquet, "sequences": _show_sequences}[kind](report)
    if report["out"] not in (None, "-"):
        yield f"{'Written' if kind == 'rows' else 'Outputs written'} to {report['out']}"


def _show_arrays(report: Report) -> Printed:
    table = new_table(f"{report['model']} on {report['input']}", "output", "shape", "mean", "min", "max")
    for row in report["outputs"]:
        table.add_row(row["name"], str(tuple(row["shape"])), *statistics_cells(row))
    yield table
    yield f"One call in {report['seconds'] * 1e3:,.1f} ms"


def _show_parquet(report: Report) -> Printed:
    yield (
        f"{counted(report['sequences'], 'sequence')} in {report['seconds']:,.2f} s: "
        f"{report['sequences_per_second']:,.0f} sequences per second"
    )
    if report["bad"]:
        yield Text(f"{counted(report['bad'], 'row')} set aside, with the reason.", "yellow")


def _show_sequences(report: Report) -> Printed:
    yield report["read_as"]
    if "forecast" in report:
        yield _forecast_table(report)
        return
    yield _classes_table(report) if "classes" in report else _outputs_table(report)
    yield (
        f"{counted(report['sequences'], 'sequence')}, {counted(report['steps'], 'time step')} in "
        f"{report['seconds'] * 1e3:,.1f} ms: {report['steps_per_second']:,.0f} steps per second"
    )
    if report.get("mean_squared_error") is not None:
        yield f"Mean squared error where the target is known: {report['mean_squared_error']:.4g}"
    if report["labels"] and "classes" not in report:
        yield "The labels are not used: the model does not have one output per class."
    if bad := len(report["bad"]):
        names = ", ".join(report["bad_names"][:10]) + (", ..." if bad > 10 else "")
        yield Text(f"{counted(bad, 'sequence')} set aside, outputs NaN: {names}", "yellow")
    elif report["not_finite"]:
        yield Text(f"{counted(report['not_finite'], 'output')} infinite.", "yellow")


def _forecast_table(report: Report) -> Table:
    rows = report["forecast"]
    table = new_table(f"{report['model']} on {report['input']}: the forecast", *rows[0])
    return add_rows(table, [[_cell(value) for value in row.values()] for row in rows])


def _cell(value: str | float | None) -> str:
    return value if isinstance(value, str) else "" if value is None else f"{value:.5g}"


def _title(report: Report) -> str:
    return f"{report['model']} on {report['input']}: outputs {tuple(report['output_shape'])}"


def _classes_table(report: Report) -> Table:
    table = new_table(_title(report), "class", "sequences", "correct", "accuracy", "<", "<predicted as")
    for row in report["classes"]:
        accuracy = row["accuracy"]
        cells = [str(row[key]) for key in ("class", "sequences", "correct")]
        cells.append("" if accuracy is None else f"{accuracy:.1%}")
        others = ", ".join(f"{name} ({times}x)" for name, times in row["taken_for"].items())
        table.add_row(*cells, _bar(accuracy), others)
    table.add_section()
    sums = [str(sum(row[key] for row in report["classes"])) for key in ("sequences", "correct")]
    table.add_row("all", *sums, f"{report['accuracy'] or 0:.1%}", _bar(report["accuracy"]), style="bold")
    return table


def _bar(accuracy: float | None) -> Bar:
    return Bar(1, 0, accuracy or 0, width=20, color="green")


def _outputs_table(report: Report) -> Table:
    predicted = Counter(map(str, report.get("predicted", [])))
    count = ["predicted for"] if predicted else []
    rows = []
    for row in report["outputs"]:
        count_of_row = [f"{predicted[row['name']]:,} of {predicted.total():,}"] if predicted else []
        rows.append((row["name"], *statistics_cells(row), *count_of_row))
    return add_rows(new_table(_title(report), "output", "mean", "min", "max", *count), rows)
