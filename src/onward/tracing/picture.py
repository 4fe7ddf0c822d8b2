"""The picture of a trace: the input, the gates and states of one layer, and the output of one row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.arrays import Array
from ..core.checks import integer
from ..errors import ArgumentError
from ..layers.activation import Softmax
from . import plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .trace import Trace

TITLES = {
    "i": "input gate i: 1 lets the candidate in",
    "f": "forget gate f: 1 keeps the cell state",
    "o": "output gate o: 1 lets the cell state out",
    "g": "candidate g",
    "r": "reset gate r: 1 lets the previous hidden state into the candidate",
    "z": "update gate z: 1 keeps the hidden state",
    "n": "candidate n",
    "c": "cell state c: what the cell keeps",
    "h": "hidden state h: the output",
}
TITLED = "RNN", "LSTM", "GRU", "LayerNormLSTM", "sLSTM"  # kinds whose letters mean this
SIGMOID = "ifozr"  # gates lie between 0 and 1; candidates and h between -1 and 1
PERCENTILE = 98  # for an unbounded state, since a single unit may far exceed all others
MAX_UNITS = 64  # rows of a panel before units are grouped
RANKS = 4  # likeliest characters per step
LIKELIEST = 12  # classes shown if there are too many to name them all


def steps_of(lengths: NDArray[np.int64], row: int, text: str | None) -> int:
    """The steps of a row. Raises ArgumentError if there are none, or not one character of text for each."""
    row = integer("row", row, 0, len(lengths) - 1)
    if not lengths[row]:
        raise ArgumentError(f"row={row} has no step to show")
    if text is not None and len(text) != lengths[row]:
        raise ArgumentError(f"text has {len(text)} characters, but row {row} has {lengths[row]} steps")
    return int(lengths[row])


def draw(
    trace: Trace,
    layer: int | str,
    row: int,
    title: str | None,
    classes: Sequence[str] | None,
    label: int | None,
    text: str | None,
    units: Sequence[int] | None,
    similar: bool,
) -> Figure:
    """Draw one row of a trace; `Trace.plot` documents the arguments."""
    names = list(trace.layers)
    if layer not in names:
        layer = names[integer("layer", layer, 0, len(names) - 1)]
    recorded = trace.recorded[str(layer)]
    steps = steps_of(recorded.lengths, row, text)
    values = {name: array[:steps, row] for name, array in recorded.arrays.items()}
    ordering = *values.values(), values["h"], values.get("c", values["h"])  # the last array of a size decides
    rows = {array.shape[1]: array for array in ordering}
    if units is not None:
        if len(units) == 0:
            raise ArgumentError("units is empty: name at least one unit, or omit it to draw all")
        units = [integer("units", unit, 0, max(rows) - 1) for unit in units]
    arrangements = {size: _arrange(array, units, similar) for size, array in rows.items()}
    x, y = trace.at_steps(str(layer), row)
    panels = []
    if text is None:
        is_own = trace.x.shape[:2] == recorded.x.shape[:2]
        heading = "input x" if is_own else "input of the layer"
        panels = [_numbers(heading, x.reshape(steps, -1), "feature")]
    panels += _layer_panels(values, arrangements, TITLES if recorded.kind in TITLED else {})
    headings = [title or (f"sequence {row}" if len(recorded.lengths) > 1 else "")]
    # only for a model: the output of a single recurrent layer is its h
    if y is not None and "." in str(layer):
        panel, verdict = _output(y.reshape(steps, -1), classes, label, text is not None)
        panels.append(panel)
        headings.append(verdict)
    lines = [": ".join(filter(None, headings)), _layer_heading(names, str(layer), arrangements[max(rows)])]
    return plot.heat_maps(panels, "\n".join(filter(None, lines)), text)


def _layer_heading(names: Sequence[str], layer: str, arrangement: _Arrangement) -> str:
    """Describe which layer and units the picture shows."""
    others = [name for name in names if name != layer]
    if len(others) > 4:
        others = [*others[:2], "...", others[-1]]
    also = f"; also {', '.join(others)}" if others else ""
    return f"layer {layer} ({names.index(layer) + 1} of {len(names)}{also}){arrangement.note}"


class _Arrangement(NamedTuple):
    """The units to draw, in order, the number of units averaged per row, and a note that describes both."""

    order: NDArray[np.intp]
    group: int
    rows: str
    names: Sequence[str] | None
    note: str

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """The rows of a panel, (T, rows), from the units (T, H)."""
        starts = np.arange(0, len(self.order), self.group)
        counts = np.diff(starts, append=len(self.order))
        with np.errstate(all="ignore"):  # of infinities
            means: NDArray[Any] = np.add.reduceat(values[:, self.order], starts, axis=1) / counts
        return means


def _arrange(values: NDArray[Any], units: Sequence[int] | None, similar: bool) -> _Arrangement:
    """The units of `values` (T, H) as the rows of a panel."""
    H = values.shape[1]
    if units is not None:
        chosen = np.array([unit for unit in units if unit < H], np.intp)  # a projected h has fewer
        names = [str(unit) for unit in chosen] if len(chosen) <= plot.MAX_NAMED_ROWS else []
        return _Arrangement(chosen, 1, "unit", names, f": {len(chosen)} of {H} units")
    group = -(-H // MAX_UNITS)
    if group == 1 and not similar:
        return _Arrangement(np.arange(H), 1, "unit", None, "")
    rows, note = f"{H} units", "ordered by similarity"
    if group > 1:
        rows, note = f"groups of {group}", f"similar ones averaged in groups of {group}"
    return _Arrangement(plot.by_similarity(values), group, rows, [], f": {H} units, {note}")


def _layer_panels(
    values: Mapping[str, Array], arrangements: Mapping[int, _Arrangement], titles: Mapping[str, str]
) -> Iterator[plot.Panel]:
    """The gates, which share a scale from 0 to 1, then the candidate, c, h and the preactivations."""
    for name in sorted(values, key=lambda name: ("_" in name, "ifozrgnch".find(name[0]))):
        arrangement = arrangements[values[name].shape[1]]
        if len(arrangement.order) == 0:
            continue
        array = arrangement.apply(values[name])
        title = titles.get(name, name.replace("_", " "))
        if name in SIGMOID and plot.peak(array) <= 1:
            low, high, bar = 0.0, 1.0, "0 closed, 1 open"
        elif name in "gnh" and plot.peak(array) <= 1:
            low, high, bar = -1.0, 1.0, ""
        else:
            low, high, bar = *_scale(array, plot.peak(array, PERCENTILE)), ""
        yield plot.Panel(title, array, low, high, arrangement.rows, bar, arrangement.names)


def _numbers(title: str, values: NDArray[Any], rows: str) -> plot.Panel:
    return plot.Panel(title, values, *_scale(values, plot.peak(values)), rows)


def _scale(values: NDArray[Any], high: float) -> tuple[float, float]:
    """A color scale from 0 if no value is negative, otherwise symmetric about 0."""
    return (0.0 if values.min(initial=0) >= 0 else -high), high


def _output(
    outputs: Array, classes: Sequence[str] | None, label: int | None, is_text: bool
) -> tuple[plot.Panel, str]:
    """The panel of the outputs (T, O) after each step and, if there are classes, the prediction in words."""
    if classes is None:
        return _numbers("output y after each step", outputs, "output"), ""
    probabilities = _probabilities(outputs, classes)
    verdict = _verdict(probabilities[-1], classes, label, is_text)
    return _class_panel(probabilities, classes, is_text), verdict


def check_classes(classes: Sequence[str], outputs: int) -> None:
    """Raise ArgumentError unless there is a name for each output."""
    if len(classes) != outputs:
        raise ArgumentError(f"classes names {len(classes)} classes, but the model has {outputs} outputs")


def _probabilities(scores: Array, classes: Sequence[str]) -> Array:
    """The softmax of the scores (T, O), or the scores themselves if they are already probabilities."""
    check_classes(classes, scores.shape[1])
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        return scores
    probabilities: Array = Softmax()(scores)
    return probabilities


def _class_panel(probabilities: Array, classes: Sequence[str], is_text: bool) -> plot.Panel:
    """The panel of the probability of each class, or of the likeliest ones, after each step."""
    noun = "next characters" if is_text else "classes"
    names = [name.translate(plot.VISIBLE) if is_text else name for name in classes]
    if is_text and plot.letters_fit(len(probabilities)):
        ranking = np.argsort(-probabilities, axis=1, kind="stable")[:, :RANKS]
        return plot.Panel(
            "likeliest next characters after each step",
            np.take_along_axis(probabilities, ranking, axis=1),
            *(0, 1, "rank", "probability"),
            names=[str(rank + 1) for rank in range(ranking.shape[1])],
            letters=np.array(names)[ranking],
        )
    title = "probability of each class after each step"
    if len(classes) > plot.MAX_NAMED_ROWS:
        likeliest = np.argsort(-probabilities.max(axis=0), kind="stable")[:LIKELIEST]
        likeliest.sort()
        title = f"probability of the {LIKELIEST} likeliest of {len(classes)} {noun} after each step"
        probabilities, names = probabilities[:, likeliest], [names[k] for k in likeliest]
    rows = "character" if is_text else "class"
    return plot.Panel(title, probabilities, 0, 1, rows, "probability", names)


def _verdict(probabilities: Array, classes: Sequence[str], label: int | None, is_text: bool) -> str:
    """The true label and the prediction after the last step."""
    if not np.isfinite(probabilities).all():
        return "the outputs are not finite"
    names = [repr(name) for name in classes] if is_text else classes
    best = int(probabilities.argmax())
    predicted = f"{names[best]} ({probabilities[best]:.0%})"
    if is_text:
        return f"likeliest next character {predicted}"
    true = "" if label is None else f"true label {names[integer('label', label, 0, len(names) - 1)]}, "
    return f"{true}predicted {predicted}"
