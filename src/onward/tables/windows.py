"""Cut long series into windows, hold out the end of each series, and compare forecasts with naive ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..errors import ArgumentError
from .layout import AnyArray, IntArray, Sequences
from .times import Step, after

Mask = NDArray[np.bool_]
LONGEST_SEARCH = 1000  # windows that determine the season
CLEAR = 1.2  # a shorter season is preferred unless a longer one has a lower error by this factor
ROUNDING = 1e-6  # lower errors, relative to the naive forecast's, are not told apart


def cut(sequences: Sequences, window: int, horizon: int, future: bool) -> Sequences:
    """Return every window, named after its last step, with the next `horizon` targets, (N, H * O).

    `ends` holds the series of each window and the number of its steps up to the end of the window; `series`,
    the sequences that were cut. With `future`, windows whose targets are not all known stay, with NaN. A
    window with a missing input is left out. Raises ArgumentError if no window remains.
    """
    targets = sequences.targets
    if sequences.labels is not None or not (targets is None or isinstance(targets, list)):
        raise ArgumentError(
            f"{sequences.origin}: --window forecasts numbers, so the target must be a number for each step"
        )
    ahead = 0 if future or targets is None else horizon
    items: list[AnyArray] = []
    following: list[AnyArray] = []
    ends: list[IntArray] = []
    for row, item in enumerate(sequences.items):
        found = np.arange(window, len(item) - ahead + 1)
        if sequences.selection.missing == "skip":
            found = found[_none(~np.isfinite(item), found - window, found)]
        if targets is not None:
            if ahead:
                found = found[_none(np.isnan(targets[row]), found, found + horizon)]
            padded = np.pad(targets[row], ((0, horizon), (0, 0)), constant_values=np.nan)
            steps = sliding_window_view(padded, horizon, axis=0)[found]  # (windows, O, H)
            following.append(steps.swapaxes(1, 2).reshape(len(found), padded.shape[1] * horizon))
        if len(found):
            every = np.moveaxis(sliding_window_view(item, window, axis=0), -1, 1)
            items += map(every.__getitem__, (found - window).tolist())
        ends.append(np.stack([np.full(len(found), row), found], axis=1))
    if not items:
        if sequences.lengths.max() >= window + ahead:
            raise ArgumentError(
                f"{sequences.origin}: every window of {window} steps, or what follows it, has a missing "
                "value: pass --missing fill, or a shorter --window"
            )
        raise ArgumentError(
            f"{sequences.origin}: the longest sequence has {sequences.lengths.max()} steps, but --window "
            f"{window}{f' and --horizon {horizon}' if ahead else ''} need {window + ahead}"
        )
    return replace(
        sequences,
        items=items,
        targets=None if targets is None else np.concatenate(following),
        names=None,
        times=None,
        selection=replace(sequences.selection, window=window, horizon=horizon),
        single=False,
        series=sequences,
        ends=np.concatenate(ends),
    )


def _none(absent: Mask, starts: IntArray, ends: IntArray) -> Mask:
    """Whether no step (T, F) from each start to each end is absent."""
    count = np.concatenate([[0], np.cumsum(absent.any(axis=1))])
    none: Mask = count[ends] == count[starts]
    return none


def latest(windows: Sequences) -> Sequences:
    """The window at the end of each series. Raises ArgumentError if there is none."""
    assert windows.ends is not None and windows.series is not None
    series, ends = windows.ends.T
    found = np.flatnonzero(ends == windows.series.lengths[series])
    if not len(found):
        raise ArgumentError(f"{windows.series.origin}: no series has a complete window at its end")
    return take(windows, found)


def check_outputs(windows: Sequences, forecast: AnyArray) -> None:
    """Raise ArgumentError unless the output of a model for a window forecasts the targets of windows."""
    chosen, outputs = windows.selection, forecast.size
    if forecast.ndim > 1:
        raise ArgumentError(
            f"the model returns outputs of shape {forecast.shape} for a window, but a forecast has (O,): "
            "omit --window, or use a model that returns the last step"
        )
    horizon, targets = chosen.horizon or 1, len(chosen.targets) or 1
    each = horizon * len(chosen.quantiles)
    if outputs % each or (chosen.targets and outputs != each * targets):
        bounds = f" with bounds for {chosen.interval:.0%}" if chosen.interval else ""
        raise ArgumentError(
            f"the model has {outputs} outputs, but {horizon} steps of {targets} targets{bounds} are "
            f"{each * targets}: choose --horizon, --target and --interval as in its training"
        )


def forecast_rows(windows: Sequences, forecasts: Sequence[AnyArray]) -> tuple[list[str], list[list[Any]]]:
    """The header and rows of forecasts (Q * H * O): series, last known time, time, a column per target.

    Bounds follow the target, in the columns <target>_low and <target>_high.
    """
    assert windows.ends is not None and windows.series is not None
    check_outputs(windows, forecasts[0])
    series, chosen = windows.series, windows.selection
    horizon = chosen.horizon or 1
    Q = len(chosen.quantiles)
    count = len(forecasts[0]) // (horizon * Q)
    order = [1, 0, 2] if Q > 1 else [0]
    names = chosen.targets or tuple(f"output_{n}" for n in range(count))
    targets = [f"{name}{end}" for name in names for end in ("", "_low", "_high")[:Q]]
    step = Step.parse(chosen.every) if chosen.every else None
    has_time = step is not None and series.times is not None
    group = [] if series.single else [chosen.group or "sequence"]
    header = [*group, "from", (chosen.time or "step") if has_time else "step", *targets]
    rows: list[list[Any]] = []
    for (number, end), forecast in zip(windows.ends.tolist(), forecasts, strict=True):
        last = str(end - 1) if series.times is None else series.times[number][end - 1]
        for ahead, values in enumerate(forecast.reshape(Q, horizon, count)[order].transpose(1, 2, 0), 1):
            time = after(last, step, ahead) if step is not None and has_time else str(end - 1 + ahead)
            rows.append([*([series.name(number)] if group else []), last, time, *values.reshape(-1)])
    return header, rows


def take(windows: Sequences, rows: IntArray) -> Sequences:
    """The windows with these numbers."""
    assert windows.ends is not None
    targets = windows.targets
    return replace(
        windows,
        items=[windows.items[row] for row in rows],
        targets=targets[rows] if isinstance(targets, np.ndarray) else targets,
        ends=windows.ends[rows],
    )


def left_out(windows: Sequences) -> tuple[list[str], int]:
    """The series that have no window, with their steps, and the number of all series."""
    assert windows.ends is not None and windows.series is not None
    series, present = windows.series, set(windows.ends[:, 0].tolist())
    lengths = dict(enumerate(series.lengths.tolist()))
    return [f"{series.name(n)} ({steps:,})" for n, steps in lengths.items() if n not in present], len(lengths)


def hold_out(windows: Sequences, share: float) -> tuple[Mask, Mask, Mask]:
    """Masks of the windows to train on, to select with and to report on: of each series, the end in time.

    The targets of the last `share` of the steps of a series are held out; the first half of them selects,
    the second half is reported on, or all of them for both if half is less than a horizon. No target belongs
    to two parts. A series that is too short to be divided is trained on. Raises ArgumentError if all are.
    """
    assert windows.ends is not None and windows.series is not None
    series, ends = windows.ends.T
    horizon = windows.selection.horizon or 1
    lengths = windows.series.lengths
    held = np.maximum(horizon, np.rint(share * lengths)).astype(np.int64)
    cuts = lengths - held
    first = np.full(len(lengths), np.iinfo(np.int64).max)
    np.minimum.at(first, series, ends)
    cuts[cuts < first + horizon] = np.iinfo(np.int64).max // 2  # nothing would remain to train on
    middle = np.where(held >= 2 * horizon, cuts + held // 2, cuts)
    selection_end = np.where(held >= 2 * horizon, middle, cuts + held)
    training = ends + horizon <= cuts[series]
    training |= cuts[series] > lengths[series]
    selection = (ends >= cuts[series]) & (ends + horizon <= selection_end[series])
    reported = ends >= middle[series]
    if not (selection.any() and reported.any() and training.any()):
        need = (windows.selection.window or 1) + 2 * horizon
        raise ArgumentError(
            f"{windows.series.origin}: the longest series has {lengths.max()} steps, but holding out its end "
            f"needs {need}: a window and two horizons. Lower --window or --horizon, or add steps"
        )
    return training, selection, reported


def naive(windows: Sequences, season: int = 1) -> AnyArray:
    """The forecasts that repeat the last `season` known targets, (N, H * O); 1 is the naive forecast.

    Where fewer are known, they repeat the last one.
    """
    assert windows.ends is not None and windows.series is not None and windows.series.targets is not None
    ends = windows.ends[:, 1, None]
    ahead = np.arange(windows.selection.horizon or 1) % season - season
    forecasts = np.empty((len(ends), len(ahead) * windows.series.targets[0].shape[-1]))
    for number, own in _by_series(windows).items():
        steps = np.where(ends[own] >= season, ends[own] + ahead, ends[own] - 1)
        forecasts[own] = filled(windows.series.targets[number])[steps].reshape(len(steps), -1)
    return forecasts


def _by_series(windows: Sequences) -> dict[int, slice]:
    """The windows of each series that has some, by its number; they stand in the order of the series."""
    assert windows.ends is not None
    series = windows.ends[:, 0]
    starts = np.flatnonzero(np.diff(series, prepend=-1)).tolist()
    return {int(series[start]): slice(start, end) for start, end in pairwise([*starts, len(series)])}


def filled(values: AnyArray, otherwise: Any = np.nan) -> AnyArray:
    """Numbers (T, F) with the last known one in place of each NaN, and their mean before the first.

    otherwise: the numbers (F,) of columns in which none is known.
    """
    absent = np.isnan(values)
    if not absent.any():
        return values
    last = np.maximum.accumulate(np.where(absent, -1, np.arange(len(values))[:, None]), axis=0)
    means = mean(values)
    first = np.where(np.isnan(means), otherwise, means).astype(values.dtype)
    return np.where(last < 0, first, np.take_along_axis(values, np.maximum(last, 0), axis=0))


def mean(values: AnyArray) -> AnyArray:
    """The mean of the known numbers of each column (T, F); NaN if there are none."""
    present = ~np.isnan(values)
    count = present.sum(axis=0)
    sums = np.where(present, values, 0).sum(axis=0)
    means: AnyArray = np.where(count > 0, sums / np.maximum(count, 1), np.nan)
    return means


def find_season(windows: Sequences) -> int:
    """The number of steps after which the targets repeat best, at most a window; 1 if nothing repeats.

    It is the one whose seasonal naive forecast has the lowest absolute error, relative to each series, once
    the slope of the series is added to the forecast. Its neighbors repeat a smooth series about as well.
    """
    assert windows.ends is not None and isinstance(windows.targets, np.ndarray)
    step = max(1, len(windows.items) // LONGEST_SEARCH)
    some = take(windows, np.arange(0, len(windows.items), step))
    scales = _means(some, np.abs(naive(some) - some.targets).mean(axis=1, keepdims=True))
    weights = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    slopes = _slopes(some)
    errors = np.array([
        (np.abs(naive(some, season) + _rise(slopes, season) - some.targets) * weights).mean()
        for season in range(1, (windows.selection.window or 1) + 1)
    ])  # fmt: skip
    errors = np.maximum(errors, ROUNDING)
    clear = errors <= CLEAR * errors.min()
    first = int(clear.argmax())
    neighbors = int(np.append(~clear[first:], True).argmax())
    return first + int(errors[first : first + neighbors].argmin()) + 1


def _slopes(windows: Sequences) -> AnyArray:
    """For each window, how much the targets of its series rise in a step, (N, H, O): the median change."""
    assert windows.ends is not None and windows.series is not None
    targets, ends = windows.series.targets or [], windows.ends[:, 1]
    horizon, apart = windows.selection.horizon or 1, windows.selection.window or 1
    slopes = np.empty((len(ends), horizon, targets[0].shape[-1]))
    for number, own in _by_series(windows).items():
        history = filled(targets[number][: ends[own].max() + horizon])
        slopes[own] = np.median(history[apart:] - history[:-apart], axis=0) / apart
    return slopes


def _rise(slopes: AnyArray, season: int) -> AnyArray:
    """How much lines of slopes (N, H, O) rise from the steps that `naive` repeats, (N, H * O)."""
    rise: AnyArray = slopes * (np.arange(slopes.shape[1]) // season + 1)[:, None] * season
    return rise.reshape(len(slopes), -1)


def _means(windows: Sequences, values: AnyArray) -> AnyArray:
    """The mean of values (N, 1) over the windows of the same series."""
    assert windows.ends is not None
    series = windows.ends[:, 0]
    sums = np.bincount(series, values[:, 0]) / np.maximum(1, np.bincount(series))
    means: AnyArray = sums[series][:, None]
    return means


def scales(windows: Sequences, season: int) -> AnyArray:
    """The mean absolute change over a season of each series, (series,), before its first scored target.

    If less than a season of changes is known there, it is that of the whole series.
    """
    assert windows.ends is not None and windows.series is not None
    targets: Any = windows.series.targets
    found = np.full(len(windows.series.items), np.nan)
    for row, own in _by_series(windows).items():
        first = windows.ends[own, 1].min()
        changes = np.abs(targets[row][season:] - targets[row][:-season])
        before = changes[: max(0, first - season)]
        known = before if np.count_nonzero(~np.isnan(before).all(axis=1)) >= season else changes
        if not np.isnan(known).all():
            found[row] = np.nanmean(known)
    return found


def compare(windows: Sequences, forecasts: Mapping[str, AnyArray], season: int) -> dict[str, Any]:
    """Compare forecasts (N, H * O) by name with the targets, over all series and for each.

    mae, rmse: in the units of the targets. r2: the explained share of the variance around the mean of each
    series. mase: the mean over the series of the absolute error divided by their mean change over a season
    (Hyndman and Koehler 2006), None if the series do not change.
    """
    assert windows.ends is not None and windows.series is not None
    y: Any = windows.targets
    groups = _by_series(windows)
    scale = scales(windows, season)[list(groups)]
    spread = sum(float(((y[own] - y[own].mean()) ** 2).sum()) for own in groups.values())
    report: dict[str, Any] = {"season": season, "forecasts": [], "series": []}
    each = {}
    for name, forecast in forecasts.items():
        error = forecast.astype(np.float64) - y
        absolute = np.array([np.abs(error[own]).mean() for own in groups.values()])
        scaled = absolute[scale > 0] / scale[scale > 0]
        each[name] = absolute
        squares = float((error**2).sum())
        report["forecasts"].append({
            "name": name,
            "mae": float(np.abs(error).mean()),
            "rmse": float(np.sqrt((error**2).mean())),
            "r2": 1 - squares / spread if spread else None,
            "mase": float(scaled.mean()) if len(scaled) else None,
        })  # fmt: skip
    for place, number in enumerate(groups):
        errors = {name: float(values[place]) for name, values in each.items()}
        report["series"].append({"name": windows.series.name(number), "mae": errors})
    return report | {"verdict": verdict(report)}


def verdict(report: Mapping[str, Any]) -> str:
    """A sentence that says whether the model is better than the naive forecasts, and for which series not."""
    model, *others = report["forecasts"]
    key = "mae" if model["mase"] is None else "mase"
    better = [other for other in others if float(f"{other[key]:.3g}") < float(f"{model[key]:.3g}")]
    names = [other["name"] for other in others]
    series = report["series"]
    leads = {one["name"]: min(one["mae"][n] for n in names) - one["mae"]["model"] for one in series}
    losing = [name for name, lead in leads.items() if lead < 0]
    if better:
        best = min(better, key=lambda other: float(other[key]))
        return (
            f"The model loses to the {best['name']} forecast ({key.upper()} {model[key]:.3g} against "
            f"{best[key]:.3g}): use that forecast instead, or change the window, the inputs or the training."
        )
    if losing:
        listed = ", ".join(losing[:10]) + (", ..." if len(losing) > 10 else "")
        return f"The model loses to a naive forecast for {len(losing)} of {len(series)} series: {listed}."
    compared = "better than" if all(lead > 0 for lead in leads.values()) else "at least as good as"
    wins = f"The model is {compared} the {' and the '.join(names)} forecast"
    return f"{wins} for each of {len(series)} series." if len(series) > 1 else f"{wins}."
