"""What happened inside a model while it ran: every gate and state of every step, to read, plot and save."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import arrays, storage
from ..core.arrays import Array
from ..core.checks import integer
from ..errors import ArgumentError
from ..layers.base import Layer
from ..layers.bptt import LayerRecord, record_call
from ..layers.recurrent import Inputs, Recurrent
from . import plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "r": "reset gate r",
    "z": "update gate z",
    "n": "candidate n",
    "c": "cell state c: what is remembered",
    "h": "hidden state h: what is shown",
}
MOST = 98  # percent of the values of a state without bounds are within its scale: one unit can be far beyond
SIGMOID = "ifozr"  # the gates from 0 to 1; the others, and h, lie from -1 to 1


class Habits(NamedTuple):
    """What a layer's units do, over all valid steps of all rows.

    saturated: of each gate, how often it lies in the lowest and in the highest tenth of its range.
    memory (H,): over how many steps each unit remembers, the mean run with f (GRU: z) > 0.9; 0 where there is
    no such step; None for an RNN. dead: the units whose h hardly changes, by less than 1e-3.
    """

    saturated: dict[str, tuple[float, float]]
    memory: Array | None
    dead: NDArray[np.intp]


class Trace(Mapping[str, Array]):
    """Arrays (T, B, H) of a model's run by name, bitwise those of the forward pass; 0 past a row's length.

    A name says where and what: `1.l0_reverse.f` is the forget gate f of module 1, its layer 0, reverse
    direction, as in the names of weights. There are the gates (LSTM: i f g o, GRU: r z n), h, c (LSTM) and,
    with preactivations, what each gate is a function of, as `f_preactivation` (RNN: h_preactivation). The
    end of a name is enough where no other name ends so: `trace["f"]`.

    x and y are what the model took and gave, `lengths` the valid steps of each row, and `layers` the arrays
    once more, as one dict for each layer and direction.
    """

    def __init__(
        self, x: NDArray[Any], y: Array, lengths: NDArray[np.int64], layers: dict[str, dict[str, Array]]
    ):
        self.x, self.y, self.lengths, self.layers = x, y, lengths, layers

    def __getitem__(self, name: str) -> Array:
        names = [whole for whole in self if whole == name or whole.endswith(f".{name}")]
        if len(names) != 1:
            raise KeyError(f"{name!r}: the trace has {', '.join(names) or ', '.join(self)}")
        where, _, what = names[0].rpartition(".")
        return self.layers[where][what]

    def __iter__(self) -> Iterator[str]:
        return (f"{where}.{what}" for where, named in self.layers.items() for what in named)

    def __len__(self) -> int:
        return sum(map(len, self.layers.values()))

    def __repr__(self) -> str:
        return f"Trace({', '.join(self)})"

    def summary(self) -> dict[str, Habits]:
        """The habits of each layer and direction."""
        return {where: _habits(named, self.lengths) for where, named in self.layers.items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a .npz of every array under its whole name, and x, y and lengths. Raises FileError."""
        content = io.BytesIO()
        arrays: dict[str, Any] = {"x": self.x, "y": self.y, "lengths": self.lengths, **self}
        np.savez_compressed(content, **arrays)
        storage.replace(path, content.getvalue())

    def plot(
        self, layer: int | str = 0, row: int = 0, *, text: str | None = None, similar: bool = False
    ) -> Figure:
        """One row over time: the input, every gate and state of a layer, and the output of each step.

        `layer` is a name or a number among `layers`; text, a character for each step, stands along the top;
        `similar` puts units of a like course side by side. Returns a matplotlib Figure, for `savefig`.
        Raises ArgumentError, also where matplotlib is missing.
        """
        names = list(self.layers)
        if layer not in names:
            layer = names[integer("layer", layer, 0, len(names) - 1)]
        row = integer("row", row, 0, len(self.lengths) - 1)
        steps = int(self.lengths[row])
        if steps == 0:
            raise ArgumentError(f"row={row} has no step to plot")
        if text is not None and len(text) != steps:
            raise ArgumentError(f"text has {len(text)} characters, but row {row} has {steps} steps")
        named = {what: values[:steps, row] for what, values in self.layers[str(layer)].items()}
        x = [] if text is not None else [_features("input x", self.x[:steps, row].reshape(steps, -1))]
        # the output of a recurrent layer alone is h once more
        y = [_features("output y", self.y[:steps, row])] if self.y.ndim == 3 and "." in str(layer) else []
        which = f", sequence {row}" if len(self.lengths) > 1 else ""
        return plot.heat_maps([*x, *_panels(named, similar), *y], f"layer {layer}{which}", text)


def _panels(named: Mapping[str, Array], similar: bool) -> Iterator[plot.Panel]:
    """First the gates from 0 to 1, which share a scale, then those from -1 to 1 and h, then the others."""
    orders = {}  # h has fewer units than the gates under a projection
    if similar:
        orders = {
            values.shape[1]: plot.by_similarity(values) for values in (named["h"], named.get("c", named["h"]))
        }
    for what in sorted(named, key=lambda what: ("_" in what, "ifozrgnhc".find(what[0]))):
        values = named[what][:, orders.get(named[what].shape[1], slice(None))]
        title = TITLES.get(what, what.replace("_", " "))
        bounded = what in "ifozrgnh" and plot.peak(values) <= 1
        yield (
            plot.Panel(title, values, float(what not in SIGMOID) * -1, 1)
            if bounded
            else _scaled(title, values, plot.peak(values, MOST), "unit")
        )


def _features(title: str, values: NDArray[Any]) -> plot.Panel:
    return _scaled(title, values, plot.peak(values), "feature")


def _scaled(title: str, values: NDArray[Any], high: float, unit: str) -> plot.Panel:
    """One with a scale of its own."""
    return plot.Panel(title, values, 0 if values.min(initial=0) >= 0 else -high, high, unit)


def _habits(named: Mapping[str, Array], lengths: NDArray[np.int64]) -> Habits:
    valid = np.arange(len(named["h"]))[:, None] < lengths
    h = named["h"][valid]
    if not len(h):
        raise ArgumentError("the trace has no step, and so nothing to sum up")
    saturated = {}
    for gate in (gate for gate in named if gate in "ifgorzn"):
        low, high = (0.1, 0.9) if gate in SIGMOID else (-0.8, 0.8)
        values = named[gate][valid]
        saturated[gate] = (float((values < low).mean()), float((values > high).mean()))
    keeps = named.get("f", named.get("z"))  # the gate that keeps a unit's state while it is near 1
    memory = None if keeps is None else _mean_run((keeps > 0.9) & valid[:, :, None])
    return Habits(saturated, memory, np.flatnonzero(np.ptp(h, axis=0) < 1e-3))


def _mean_run(on: NDArray[np.bool_]) -> Array:
    """Of (T, B, H), the mean length of the runs of True along T, for each of H."""
    begins = on & ~np.concatenate([np.zeros_like(on[:1]), on[:-1]])
    mean: Array = on.sum(axis=(0, 1)) / np.maximum(begins.sum(axis=(0, 1)), 1)
    return mean


class Tracing:
    """A RunRecurrent that calls recurrent layers recording them, and keeps what they recorded."""

    def __init__(self, preactivations: bool) -> None:
        self.preactivations = preactivations
        self.layers: dict[str, dict[str, Array]] = {}
        self.first: Inputs | None = None
        self.batch_first = False

    def __call__(self, name: str, layer: Recurrent[Any], x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
        y, state, given, records = record_call(layer, x, state, lengths, sums=self.preactivations)
        if self.first is None:
            self.first, self.batch_first = given, layer.batch_first
        D = layer.sizes.D
        for at, suffix in enumerate(layer.suffixes()):
            self.layers[name + suffix.removeprefix("_")] = _named(layer, records[at // D], at % D)
        return y, state

    def steps_first(self, array: NDArray[Any], has_steps: bool) -> NDArray[Any]:
        """What the model takes or gives, as (T, B, ...), or as (B, ...) where it has no steps."""
        assert self.first is not None
        if not self.first.batched:
            return array[:, None] if has_steps else array[None]
        return array.swapaxes(0, 1) if has_steps and self.batch_first else array


def _named(layer: Recurrent[Any], record: LayerRecord, direction: int) -> dict[str, Array]:
    """The arrays (T, B, H) of one layer and direction."""
    P = layer.sizes.P
    named = {gate: record.gates[direction, :, :, k] for k, gate in enumerate(layer.gates)}
    if "c" in layer.state_names:
        named["c"] = record.gates[direction, :, :, len(layer.gates)]
    named["h"] = record.y[:, :, direction * P : (direction + 1) * P]
    if record.sums is not None:
        sums = record.sums[direction]
        named |= {f"{gate}_preactivation": sums[:, :, k] for k, gate in enumerate(layer.gates)}
    return named


def trace(model: Layer, x: ArrayLike, state: Any, lengths: ArrayLike | None, preactivations: bool) -> Trace:
    """The trace of one run of a model."""
    tracing = Tracing(preactivations)
    given = arrays.as_array(x, "x").copy()
    output, _ = model._run(given, state, lengths, tracing)
    if tracing.first is None:
        raise ArgumentError(f"{model!r} has no recurrent layer to trace")
    y = output[0] if isinstance(output, list | tuple) else output
    T, B, _ = tracing.first.x.shape
    valid = np.full(B, T) if tracing.first.lengths is None else tracing.first.lengths
    has_steps = y.ndim == 2 + tracing.first.batched
    return Trace(tracing.steps_first(given, True), tracing.steps_first(y, has_steps), valid, tracing.layers)
