"""Forecast series of any level: a linear map of each window, and recurrent layers that correct it.

    y = level + deviation (A z + b + gain network(x))

The targets in a window are taken relative to its mean or to their last value, and divided by their standard
deviation: z are these, and x all scaled inputs. Ridge regression determines A and b; the network then learns
the rest. The model is a graph of this equation: it takes and returns numbers in the units of the table.

Sources: Lai et al. 2018, Modeling Long- and Short-Term Temporal Patterns with Deep Neural Networks (the
linear part); Kim et al. 2022, Reversible Instance Normalization (the scale).
"""

from __future__ import annotations  # np.random is slow to import

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core.arrays import FLOAT32, Array
from ..errors import ArgumentError
from ..graph.operations.expressions import Expression, sqrt, square, where
from ..graph.over_time.named_carries import from_zeros
from ..graph.writer import Recorder
from ..layers import Last, Linear, Sequential
from ..layers.base_model import BaseModel
from ..layers.graphs import graph_of
from ..model import Model
from ..tables import inference, windows
from ..tables.layout import IntArray, Selection, Sequences
from ..tables.rows import Rows
from ..train import AdamW, Batch, Data, History, OneCycleLR, fit, huber, quantile
from .sequences import CONSTANT, HIDDEN, LEARNING_RATE, MAX_NORM, average_decay, moments, recurrent_layers

HELD_OUT = 0.2  # of the steps of each series
READ = 60_000  # windows read over all epochs
MOST = 3000  # windows read in an epoch: neighbours differ by one step
BATCH = 64
LARGEST = 10.0  # deviations: training takes a target further from its level as this far away
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # penalties in units of the mean eigenvalue
MOST_FITTED = 20_000  # windows that determine the linear map
LEVELS = {"series": ("last", "mean"), "table": ("table",)}  # what validation chooses from
TINY = 1e-6
WIDEST = (0.1, 10.0)  # the bounds of the factors of the bounds
END = np.iinfo(np.int64).max


class Scaled(NamedTuple):
    """Windows in units of their own: inputs (N, W, F) and targets (N, H, O)."""

    x: Array
    y: Array


@dataclass(frozen=True)
class Scaling:
    """How windows are scaled.

    level: what the targets in a window are relative to: its "mean", its "last" step, or the mean of the
    "table". columns: those of the inputs that are the targets. inputs, targets: mean and deviation in the
    table. Inputs other than the targets have the scale of the table. known: how many of the last inputs are
    known features, which come a horizon early.
    """

    level: str
    columns: tuple[int, ...]
    inputs: tuple[Array, Array]
    targets: tuple[Array, Array]
    known: int = 0
    horizon: int = 1

    def of(self, part: Sequences, rows: IntArray) -> Scaled:
        """Return windows by number."""
        raw = np.stack([part.items[row] for row in rows]).astype(np.float64)
        columns, targets = list(self.columns), part.targets
        own, x = raw[:, :, columns], (raw - self.inputs[0]) / self.inputs[1]
        if self.level == "table":
            level, deviation = self.targets
        else:
            mean, spread = own.mean(axis=1, keepdims=True), own.std(axis=1, keepdims=True)
            level = own[:, -1:] if self.level == "last" else mean
            # a window of one value becomes 0, and its forecast is that value
            deviation = np.where(spread > CONSTANT * np.abs(mean), spread, np.inf)
            x[:, :, columns] = (own - level) / deviation
        assert isinstance(targets, np.ndarray)
        y = targets[rows].reshape(len(rows), -1, len(self.targets[0]))
        return Scaled(x, np.clip((y - level) / deviation, -LARGEST, LARGEST))

    def history(self, x: Array) -> Array:
        """Return what the linear map reads in windows (N, W, F): (N, P, O) for each target.

        These are the scaled targets, if they are inputs, and the known features of the horizon.
        """
        count = len(self.targets[0])
        own = x[:, :, list(self.columns)] if self.columns else np.zeros((len(x), 0, count))
        known = x[:, -self.horizon :, x.shape[2] - self.known :].reshape(len(x), -1, 1)
        return np.concatenate([own, np.repeat(known, count, axis=2)], axis=1)


class LinearMap(NamedTuple):
    """A map from what `Scaling.history` returns to the forecast: A (O, P, H) and b (O, H)."""

    A: Array
    b: Array

    def __call__(self, z: Array) -> Array:
        """Return (N, H, O) for z (N, P, O)."""
        y: Array = np.matmul(np.moveaxis(z, 2, 0), self.A) + self.b[:, None]
        return np.moveaxis(y, 0, 2)


def linear_maps(windows: Scaled, scaling: Scaling) -> list[LinearMap]:
    """Return the ridge regression of the targets on those in the window, for each penalty in RIDGES."""
    maps: list[list[tuple[Array, Array]]] = [[] for _ in RIDGES]
    for own, target in zip(
        np.moveaxis(scaling.history(windows.x), 2, 0), np.moveaxis(windows.y, 2, 0), strict=True
    ):
        mean, bias = own.mean(axis=0), target.mean(axis=0)
        if not own.shape[1]:
            for found in maps:
                found.append((np.zeros((0, target.shape[1])), bias))
            continue
        values, vectors = np.linalg.eigh((own - mean).T @ (own - mean))
        projected = vectors.T @ ((own - mean).T @ (target - bias))
        power = max(float(values.mean()), np.finfo(np.float64).tiny)
        for found, ridge in zip(maps, RIDGES, strict=True):
            A = vectors @ (projected / (values.clip(min=0) + ridge * power)[:, None])
            found.append((A, bias - mean @ A))
    return [LinearMap(np.stack([A for A, _ in each]), np.stack([b for _, b in each])) for each in maps]


class WindowBatches(Data):
    """Batches of scaled windows and of what the linear map leaves of their targets, in units of `unit`.

    An epoch with a generator draws at most MOST windows.
    """

    def __init__(self, part: Sequences, scaling: Scaling, linear: LinearMap, unit: float) -> None:
        self.part, self.scaling, self.linear, self.unit = part, scaling, linear, unit
        self.size = -(-min(MOST, len(part.items)) // BATCH)

    def settings(self) -> dict[str, Any]:
        assert self.part.series is not None
        sums = [float(np.nansum(item)) for item in self.part.series.items]
        described = {"data set": [len(self.part.items), *sums], "scaling": self.scaling.level}
        return super().settings() | {"batch size": BATCH, "unit": self.unit} | described

    def epoch(self, rng: np.random.Generator | None) -> Iterator[Batch]:
        order = evenly(len(self.part.items), MOST) if rng is None else rng.permutation(len(self.part.items))
        for start in range(0, min(MOST, len(order)), BATCH):
            scaled = self.scaling.of(self.part, order[start : start + BATCH][: MOST - start])
            rest = (scaled.y - self.linear(self.scaling.history(scaled.x))) / self.unit
            flat = rest.reshape(len(rest), -1).astype(np.float32)
            yield Batch(scaled.x.swapaxes(0, 1).astype(np.float32), flat)


@dataclass(frozen=True)
class Fitted:
    """A linear map, and the network that corrects it, in units of `unit` deviations of the window.

    gains: the factors of the network's output, and of the distances of the lower and the upper bound from it.
    """

    linear: LinearMap
    network: Sequential
    unit: float
    gains: tuple[float, float, float]
    history: History


def fit_forecasts(
    table: Sequences,
    *,
    scale: str = "series",
    hold_out: float = HELD_OUT,
    refit: bool = True,
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    announce: Callable[[str], None] = lambda message: None,
    **options: Any,
) -> tuple[Model, History, dict[str, Any]]:
    """Train on windows of series; return the model, the history and the comparison on held-out windows.

    The end of each series is held out: the first half of it selects the level, the linear map and the epoch,
    and the second half is reported on. With `refit`, the returned model is then trained on all windows.
    scale: "series" or "table". options: those of `fit_part`. Raises ArgumentError and the errors of `fit`.
    """
    if table.targets is None:
        raise ArgumentError("the table has no targets: name the column to forecast with --target")
    training, selection, reported = (
        windows.take(table, np.flatnonzero(mask)) for mask in windows.hold_out(table, hold_out)
    )
    season = table.selection.season or windows.find_season(training)
    second = None if checkpoint is None else checkpoint.with_suffix(".refit.run")
    if second is not None and not resume:
        second.unlink(missing_ok=True)  # it would belong to another training
    options |= {"seed": seed, "resume": resume}
    scaling, ridge = choose(training, selection, scale)
    fitted = fit_part(training, selection, scaling, ridge, checkpoint=checkpoint, **options)
    model = assemble(scaling, fitted, table.selection)
    report = compare(model, reported, season)
    if refit:
        announce("Training once more, on all windows")
        options["epochs"] = (fitted.history.best or 0) + 1
        whole = fit_part(table, None, scaling, ridge, checkpoint=second, **options)
        model = assemble(scaling, replace(whole, gains=fitted.gains), table.selection)
        if second is not None:
            second.unlink(missing_ok=True)
    counts = {"training": len(training.items), "held_out": len(reported.items)}
    return model, fitted.history, report | {"windows": counts, "level": scaling.level}


def compare(model: BaseModel | Rows, part: Sequences, season: int | None = None) -> dict[str, Any]:
    """Compare the forecasts of a model, and naive ones, with the targets of windows."""
    season = season or part.selection.season or windows.find_season(part)
    outputs = np.stack(inference.outputs_of_steps(model, part.items))
    windows.check_outputs(part, outputs[0])
    outputs = outputs.reshape(len(outputs), len(part.selection.quantiles), -1)
    forecasts = {"model": outputs[:, outputs.shape[1] // 2], "naive": windows.naive(part)}
    if season > 1:
        forecasts["seasonal naive"] = windows.naive(part, season)
    report = windows.compare(part, forecasts, season)
    if part.selection.interval:
        inside = (outputs[:, 0] <= part.targets) & (part.targets <= outputs[:, -1])
        report |= {"interval": part.selection.interval, "coverage": float(inside.mean())}
    return report


def choose(training: Sequences, selection: Sequences, scale: str) -> tuple[Scaling, int]:
    """Return the scaling, and the index in RIDGES, whose linear map has the lowest error on `selection`."""
    series = training.series
    assert series is not None and isinstance(series.targets, list)
    columns = inputs_of_targets(series)
    known = [values[~np.isnan(values).any(axis=1)] for values in series.targets]
    inputs_known = [item[np.isfinite(item).all(axis=1)] for item in series.items]
    table = moments(inputs_known), moments(known, "target")
    horizon = training.selection.horizon or 1
    found: list[tuple[float, Scaling, int]] = []
    for level in LEVELS[scale] if columns else LEVELS["table"]:
        scaling = Scaling(level, columns, *table, len(training.selection.known), horizon)
        maps = linear_maps(scaling.of(training, evenly(len(training.items), MOST_FITTED)), scaling)
        held = scaling.of(selection, evenly(len(selection.items), MOST_FITTED))
        errors = [float(np.abs(held.y - each(scaling.history(held.x))).mean()) for each in maps]
        found.append((min(errors), scaling, int(np.argmin(errors))))
    _, scaling, ridge = min(found, key=lambda each: each[0])
    return scaling, ridge


def inputs_of_targets(series: Sequences) -> tuple[int, ...]:
    """Return the inputs that are the targets: by name or, in arrays, by value; () unless all targets are."""
    inputs, targets = series.selection.inputs, series.selection.targets
    if targets:
        return tuple(map(inputs.index, targets)) if set(targets) <= set(inputs) else ()
    x, y = np.concatenate(series.items).astype(np.float32), np.concatenate(list(series.targets or []))
    equal = ((x[:, :, None] == y[:, None]) | np.isnan(y[:, None])).all(axis=0)
    return tuple(equal.argmax(axis=0).tolist()) if equal.any(axis=0).all() else ()


def fit_part(
    training: Sequences,
    selection: Sequences | None,
    scaling: Scaling,
    ridge: int,
    *,
    seed: int = 0,
    epochs: int | None = None,
    learning_rate: float = LEARNING_RATE,
    patience: int | None = None,
    cell: str = "lstm",
    hidden_size: int = HIDDEN,
    num_layers: int = 1,
    bidirectional: bool = False,
    **options: Any,
) -> Fitted:
    """Fit the linear map, then the network. `options` are those of `fit`, whose errors are raised."""
    sample = scaling.of(training, evenly(len(training.items), MOST_FITTED))
    linear = linear_maps(sample, scaling)[ridge]
    unit = float((sample.y - linear(scaling.history(sample.x))).std()) or 1.0
    N, rng = len(training.items), np.random.default_rng(seed)
    epochs = min(200, max(READ // MOST, READ // N)) if epochs is None else epochs
    layers = recurrent_layers(sample.x.shape[2], cell, hidden_size, num_layers, bidirectional, rng)
    quantiles = training.selection.quantiles
    network = Sequential(*layers, Last(), Linear(hidden_size, len(quantiles) * sample.y[0].size, rng=rng))
    batches = WindowBatches(training, scaling, linear, unit)
    validation = None if selection is None else WindowBatches(selection, scaling, linear, unit)
    history = fit(
        network,
        batches,
        loss=huber if len(quantiles) == 1 else partial(quantile, quantiles=quantiles),
        optimizer=AdamW(learning_rate),
        schedule=OneCycleLR(cycle_momentum=False),
        epochs=epochs,
        validation=validation,
        patience=None if validation is None else patience,
        max_norm=MAX_NORM,
        average=average_decay(epochs * (batches.size or 1)),
        rng=rng,
        **options,
    )
    gains = (1.0, 1.0, 1.0) if validation is None else calibrated(network, validation, quantiles)
    return Fitted(linear, network, unit, gains, history)


def calibrated(
    network: Sequential, batches: WindowBatches, quantiles: tuple[float, ...]
) -> tuple[float, float, float]:
    """Return the gains that fit other windows: the least squares factor, from 0 to 1, or those of the bounds.

    The bounds then contain their share of these windows, as in conformal prediction (Romano et al. 2019).
    """
    pairs = [(network(batch.x), batch.targets) for batch in batches.epoch(None)]
    ys, rest = (np.concatenate(each) for each in zip(*pairs, strict=True))
    if len(quantiles) == 1:
        return float(np.clip((ys * rest).sum() / max(float((ys * ys).sum()), TINY), 0, 1)), 1.0, 1.0
    low, middle, high = np.split(ys, 3, axis=1)
    below = np.quantile((middle - rest) / np.maximum(middle - low, TINY), quantiles[-1])
    above = np.quantile((rest - middle) / np.maximum(high - middle, TINY), quantiles[-1])
    return 1.0, float(np.clip(below, *WIDEST)), float(np.clip(above, *WIDEST))


def evenly(N: int, most: int) -> IntArray:
    """Return the numbers from 0 to N - 1, or `most` of them at even distances."""
    return np.arange(N) if N <= most else np.linspace(0, N - 1, most).astype(np.int64)


def assemble(scaling: Scaling, fitted: Fitted, selection: Selection) -> Model:
    """Return the graph of the equation above, from windows (T, B, F) to forecasts (B, Q * H * O)."""
    H, count = fitted.linear.b.T.shape
    Q = len(selection.quantiles)
    graph = graph_of(Sequential(*list(fitted.network)[:-1], scaled_head(fitted, Q)))
    body, graph.nodes = graph.nodes, []
    W = selection.window or 1
    level, deviation, x = scaled(Expression(Recorder(graph), "x", FLOAT32), W, scaling)
    y = mapped(last_steps(x, W), fitted.linear, scaling).apply("Reshape", [-1, 1, H, count])
    graph.nodes += [node.with_inputs(*(x.name if i == "x" else i for i in node.inputs)) for node in body]
    y = y + Expression(x.t, graph.outputs[0], FLOAT32).apply("Reshape", [-1, Q, H, count])
    level, deviation = (each.apply("Reshape", [-1, 1, 1, count]) for each in (level, deviation))
    y = y * deviation + level
    if Q > 1:  # the bounds contain the median
        low, median, high = (y.apply("Gather", [q], axis=1) for q in range(Q))
        y = low.apply("Min", median).apply("Concat", median, median.apply("Max", high), axis=1)
    graph.outputs = (y.apply("Reshape", [-1, Q * H * count]).name, *graph.outputs[1:])
    return Model(from_zeros(graph))


def scaled_head(fitted: Fitted, quantiles: int) -> Linear:
    """Return the last layer of the network with its unit and gains."""
    last = fitted.network[-1]
    weights = {}
    for name, weight in last.state_dict().items():
        blocks = np.split(fitted.unit * weight, quantiles)
        middle = blocks[quantiles // 2]
        factor, below, above = fitted.gains
        if quantiles == 1:
            blocks = [factor * middle]
        else:
            low, _, high = blocks
            blocks = [middle + below * (low - middle), middle, middle + above * (high - middle)]
        weights[name] = np.concatenate(blocks).astype(np.float32)
    head = Linear(weights["weight"].shape[1], len(weights["bias"]), rng=0)
    head.load_state_dict(weights)
    return head


def last_steps(x: Expression, steps: int) -> Expression:
    """Return the last steps of x (T, ...)."""
    return x.apply("Slice", [-steps], [END], [0])


def scaled(x: Expression, window: int, scaling: Scaling) -> tuple[Expression, Expression, Expression]:
    """Return level and deviation (B, 1, O) of the last `window` steps, and x (T, B, F) scaled by them."""
    mean, deviation = scaling.inputs
    if scaling.level == "table":
        ours, theirs = (x.constant(each.reshape(1, 1, -1)) for each in scaling.targets)
        return ours, theirs, (x - x.constant(mean)) / x.constant(deviation)
    F, columns = len(mean), list(scaling.columns)
    others = np.ones(F)
    others[columns] = 0
    place = x.constant(np.eye(F)[columns])  # (O, F)
    own = last_steps(x, window).apply("Gather", columns, axis=2)
    centre = own.reduce("ReduceMean", [0], True)
    level = last_steps(own, 1) if scaling.level == "last" else centre
    spread = sqrt(square(own - centre).reduce("ReduceMean", [0], True))
    varies = spread > abs(centre) * CONSTANT
    offset = level.apply("MatMul", place) + x.constant(mean * others)
    factor = where(varies, spread, 1.0).apply("MatMul", place)
    factor = factor + x.constant(np.where(others > 0, deviation, 0.0))
    level, spread = (each.apply("Transpose", perm=[1, 0, 2]) for each in (level, where(varies, spread, 0.0)))
    return level, spread, (x - offset) / factor


def mapped(x: Expression, linear: LinearMap, scaling: Scaling) -> Expression:
    """Return A z + b as (B, H, O)."""
    F, read = len(scaling.inputs[0]), scaling.horizon * scaling.known
    own, ahead = np.split(linear.A, [linear.A.shape[1] - read], axis=1)
    y = x.constant(linear.b[:, None])  # (O, 1, H)
    if scaling.columns:
        z = x.apply("Gather", list(scaling.columns), axis=2).apply("Transpose", perm=[2, 1, 0])
        y = z.apply("MatMul", x.constant(own)) + y
    if read:
        known = last_steps(x, scaling.horizon).apply("Gather", list(range(F - scaling.known, F)), axis=2)
        z = known.apply("Transpose", perm=[1, 0, 2]).apply("Reshape", [1, -1, read])
        y = z.apply("MatMul", x.constant(ahead)) + y
    return y.apply("Transpose", perm=[1, 2, 0])
