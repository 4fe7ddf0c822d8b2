"""Record every gate and state of a model at every step; summarize, plot and save the record."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import arrays, atomic, npz
from ..core.arrays import Array
from ..core.checks import integer
from ..errors import ArgumentError, OnwardError
from ..layers.base_model import BaseModel, call
from . import explore, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PREFIXES = 100  # prefixes that `Trace.answers` runs for a model with a single output per sequence


class LayerSummary(NamedTuple):
    """Statistics of a layer's units over all valid steps of all rows.

    saturated: for each gate, the fraction of its values in the lowest and in the highest tenth of its range.
    open_steps (H,): the mean number of consecutive steps for which the gate that keeps a unit's state is
    open, that is, the mean length of runs with f > 0.9 (GRU: z > 0.9); 0 for a unit without such a step; None
    for an RNN. An open gate is no proof that the model needs the unit: the page of `explore` freezes each.
    dead: the units whose h varies by less than 1e-3.
    """

    saturated: dict[str, tuple[float, float]]
    open_steps: Array | None
    dead: NDArray[np.intp]


class Recorded(NamedTuple):
    """The record of one layer and direction: arrays (T, B, H), the input x (T, B, I), and lengths (B,).

    kind is that of the cell, such as "LSTM", or the class of the layer.
    """

    kind: str
    arrays: dict[str, Array]
    x: Array
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, kind: str, arrays: dict[str, Array], x: Array, lengths: NDArray[Any] | None) -> Recorded:
        """The record of a run; None for rows of equal length."""
        ends = np.full(x.shape[1], len(x)) if lengths is None else lengths.astype(np.int64)
        return cls(kind, arrays, x, ends)


class Trace(Mapping[str, Array]):
    """The gates and states of one run of a model: arrays (T, B, H) by name, 0 past a row's length.

    The values are bitwise those of the forward pass. Names follow the names of the weights: `1.l0_reverse.f`
    is the forget gate f of module 1, its layer 0, in the reverse direction. Each layer has its gates (LSTM:
    i f g o, GRU: r z n), h, c (LSTM) and, with `preactivations=True`, the argument of each gate's activation,
    such as `f_preactivation` (RNN: h_preactivation). A unique ending of a name is enough, as in
    `trace["f"]`; an ambiguous one raises KeyError, which lists the candidates.

    x and y are the model's input and output, time first, `lengths` (B,) the valid steps of each row, and
    `layers` holds the same arrays as one dict per layer and direction. If the recurrent layers of a file do
    not show which axis of its input is time, x is the input of the first of them. `intermediate` holds
    the values that `Model.trace(values=...)` named, which are also entries of the trace.

    >>> import numpy as np, onward
    >>> trace = onward.LSTM(3, 4, rng=0).trace(np.ones((5, 3)))
    >>> trace["f"].shape
    (5, 1, 4)
    """

    def __init__(
        self,
        x: NDArray[Any],
        y: Array,
        recorded: Mapping[str, Recorded],
        has_steps: bool,
        answer: Callable[[int, int], Array] | None = None,
        values: Mapping[str, NDArray[Any]] | None = None,
        model: BaseModel | None = None,
    ):
        self.x, self.y, self.recorded, self.intermediate = x, y, recorded, values or {}
        self.model = model  # which `explore` runs again from zero states; None for a whole graph
        self.layers = {layer: record.arrays for layer, record in recorded.items()}
        self._has_steps = has_steps  # whether y is (T, B, ...)
        self._answer = answer  # (row, steps) to the output (O,) for that prefix; None if it is unknown

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The valid steps (B,) of each row of x."""
        first = next(iter(self.recorded.values()))
        is_own = first.x.shape[:2] == self.x.shape[:2]
        return first.lengths if is_own else np.full(self.x.shape[1], len(self.x))

    def __getitem__(self, name: str) -> Array:
        if name in self.intermediate:
            return self.intermediate[name]
        names = [whole for whole in self if whole == name or whole.endswith((f".{name}", f"/{name}"))]
        if len(names) != 1:
            raise KeyError(f"{name!r}: the trace has {', '.join(names) or ', '.join(self)}")
        layer, _, array = names[0].rpartition(".")
        return self.intermediate[names[0]] if names[0] in self.intermediate else self.layers[layer][array]

    def __iter__(self) -> Iterator[str]:
        yield from (f"{layer}.{name}" for layer, arrays in self.layers.items() for name in arrays)
        yield from self.intermediate

    def __len__(self) -> int:
        return sum(map(len, self.layers.values())) + len(self.intermediate)

    def __repr__(self) -> str:
        return f"Trace({', '.join(self)})"

    def answers(self, row: int = 0) -> Array:
        """The output (steps, O) of the model after each step of a row, as if the row ended there.

        A model with an output per step already has these outputs. Any other model runs again on prefixes of
        the row: on all of them up to 100 steps, otherwise on 100 of them, and the steps in between repeat the
        output of the previous prefix. Prefixes too short for the model, such as for a convolution, give NaN.
        Raises ArgumentError if there is no such row, or if the axes of the output are unknown.
        """
        steps = int(self.lengths[integer("row", row, 0, len(self.lengths) - 1)])
        if self._has_steps:
            return self.y[:steps, row]
        if self._answer is None:
            raise ArgumentError("no recurrent layer shows which axis of the output is time: use y")
        if steps == 0:
            raise ArgumentError(f"row={row} has no steps, so there are no outputs")
        prefixes = np.unique(np.linspace(1, steps, min(steps, MAX_PREFIXES)).astype(np.int64))
        outputs = np.full((len(prefixes), *self.y.shape[1:]), np.nan, self.y.dtype)
        for at, prefix in enumerate(prefixes):
            with suppress(OnwardError):
                outputs[at] = self._answer(row, int(prefix))
        return outputs[np.searchsorted(prefixes, np.arange(1, steps + 1), side="right") - 1]

    def at_steps(self, layer: str, row: int) -> tuple[NDArray[Any], Array | None]:
        """The input (T, ...) and the output (T, O) of a row at the steps of a layer.

        The input is that of the layer if the model's has other steps, and the output is then None.
        """
        recorded = self.recorded[layer]
        steps, shape = recorded.lengths[row], recorded.x.shape[:2]
        is_own = self.x.shape[:2] == shape
        x = (self.x if is_own else recorded.x)[:steps, row]
        if self._has_steps:
            return x, self.y[:steps, row] if self.y.shape[:2] == shape else None
        if not is_own or self._answer is None:
            return x, None
        y = self.answers(row)
        return x, y if len(y) == steps else None

    def summary(self) -> dict[str, LayerSummary]:
        """The statistics of each layer and direction."""
        return {layer: _summarize(record) for layer, record in self.recorded.items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .npz file with every array under its full name, and x, y and lengths.

        For a path that ends in .html, write the page of `explore` instead. Raises FileError.
        """
        if os.fspath(path).lower().endswith(".html"):
            return self.explore().save(path)
        arrays: dict[str, Any] = {"x": self.x, "y": self.y, **self}
        if self.recorded:
            arrays["lengths"] = self.lengths
        atomic.replace(path, npz.content(arrays))

    def explore(
        self, row: int = 0, *, classes: Sequence[str] | None = None, text: str | None = None
    ) -> explore.Page:
        """The interactive page of `onward explore` for one row, as a single HTML file.

        It displays itself in Jupyter; its `save(path)` writes the file. The page runs the model itself, with
        the same bits, if Onward for JavaScript supports it; otherwise it shows the recorded values, and says
        so. classes names the outputs, and text holds a character for each step, as for `plot`; a model that
        starts with an Embedding runs there only if these are the characters of its integers. Raises
        ArgumentError.
        """
        return explore.page_of(self, row, classes, text)

    def plot(
        self,
        layer: int | str = 0,
        row: int = 0,
        *,
        title: str | None = None,
        classes: Sequence[str] | None = None,
        label: int | None = None,
        text: str | None = None,
        units: Sequence[int] | None = None,
        similar: bool = False,
    ) -> Figure:
        """Draw one row over time: the input, every gate and state of a layer, and the output after each step.

        Args:
            layer: a name or an index of `layers`.
            row: the row of the batch.
            title: names the model and the input.
            classes: names of the outputs, if they are scores or probabilities of classes. The last panel then
                shows the probabilities, and the title the prediction.
            label: the index of the true class.
            text: a character for each step, drawn along the top; `classes` are then the next characters.
            units: the units to draw; by default all, averaged in groups of similar units if more than 64.
            similar: draw units with similar time courses next to each other.

        Returns a matplotlib Figure; write it with `savefig`. Raises ArgumentError, also if matplotlib is not
        installed.
        """
        return picture.draw(self, layer, row, title, classes, label, text, units, similar)


def _summarize(recorded: Recorded) -> LayerSummary:
    arrays, valid = recorded.arrays, np.arange(len(recorded.x))[:, None] < recorded.lengths
    h = arrays["h"][valid]
    if not len(h):
        raise ArgumentError("the trace has no steps to summarize")
    saturated = {}
    bounded = "ifgorzn" if recorded.kind in picture.TITLED else picture.SIGMOID
    for gate in (gate for gate in arrays if gate in bounded):
        low, high = (0.1, 0.9) if gate in picture.SIGMOID else (-0.8, 0.8)
        values = arrays[gate][valid]
        saturated[gate] = (float((values < low).mean()), float((values > high).mean()))
    keep = arrays.get("f", arrays.get("z"))  # a unit keeps its state while this gate is near 1
    open_steps = None if keep is None else _mean_run((keep > 0.9) & valid[:, :, None])
    with np.errstate(invalid="ignore"):  # infinities vary
        return LayerSummary(saturated, open_steps, np.flatnonzero(np.ptp(h, axis=0) < 1e-3))


def _mean_run(on: NDArray[np.bool_]) -> Array:
    """The mean length of the runs of True along the T axis of an array (T, B, H), for each unit."""
    begins = on & ~np.concatenate([np.zeros_like(on[:1]), on[:-1]])
    mean: Array = on.sum(axis=(0, 1)) / np.maximum(begins.sum(axis=(0, 1)), 1)
    return mean


def trace(
    model: BaseModel, x: ArrayLike, state: Any, lengths: ArrayLike | None, preactivations: bool
) -> Trace:
    """Run a model and record its gates and states; `Model.trace` documents the arguments."""
    recorded: dict[str, Recorded] = {}
    calls: list[tuple[Any, Any]] = []  # the layers and their checked arguments

    def record(name: str, layer: Any, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
        y, state, inputs, by_suffix = layer.traced(x, state, lengths, preactivations)
        calls.append((layer, inputs))
        for suffix, own in by_suffix.items():
            recorded[name + suffix] = Recorded.of(layer.cell_kind, own, inputs.x, inputs.lengths)
        return y, state

    x = arrays.as_array(x, "x").copy()
    y, _ = model.run(x, state, lengths, record)
    if not calls:
        raise ArgumentError(f"{model!r} has no recurrent layer to trace")
    batched, batch_first = calls[0][1].batched, calls[-1][0].batch_first
    has_steps = y.ndim == 2 + batched
    if not batched:  # (T, B, ...), or (B, ...) for an output without a time axis
        x, y = x[:, None], y[:, None] if has_steps else y[None]
    elif batch_first:
        x, y = x.swapaxes(0, 1), y.swapaxes(0, 1) if has_steps else y
    initial = None if state is None else [inputs.initial for _, inputs in calls]
    answer = None if has_steps else partial(_answer, model.frozen(), x, initial, batch_first)
    return Trace(x, y, recorded, has_steps, answer, model=model.frozen() if state is None else None)


def _answer(
    model: BaseModel,
    x: NDArray[Any],
    initial: Sequence[tuple[Array | None, Array | None]] | None,
    batch_first: bool,
    row: int,
    steps: int,
) -> Array:
    """The output (O,) of a model without an output per step for the first `steps` steps of a row."""
    state = None
    if initial is not None:
        of_row = [[part if part is None else part[:, row : row + 1] for part in pair] for pair in initial]
        layers = zip(model.recurrent_sublayers(), of_row, strict=True)
        state = model.join_states([None if h is None else layer.join_state(h, c) for layer, (h, c) in layers])
    prefix = x[:steps, row : row + 1]
    y, _ = model.run(prefix.swapaxes(0, 1) if batch_first else prefix, state, None, call)
    answer: Array = y[0]
    return answer
