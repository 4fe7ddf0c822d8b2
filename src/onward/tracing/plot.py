"""Draws heat maps and curves over time, one under the other, with matplotlib: onward's extra [plot]."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.extras import install_hint
from ..errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

DOTS = 100  # an inch, in which pictures are written by default
TEXT_INCHES, INCHES_PER_CHARACTER = 0.2, 0.08
MARKED = 100  # points of a curve; the marks of more would run into each other
VISIBLE = str.maketrans({"\n": "↵", "\t": "→", " ": "␣"})  # what else would be blank


class Panel(NamedTuple):
    """A heat map of (T, units), its colours from `low` to `high`; around 0 where low is negative.

    unit: what each row of the picture is.
    """

    title: str
    values: NDArray[Any]
    low: float
    high: float
    unit: str = "unit"


def heat_maps(panels: Sequence[Panel], title: str, text: str | None = None) -> Figure:
    """A figure of panels one under the other, that of time in common; characters of `text` along its top.

    Panels that follow one another in the same scale of colours share one bar. pyplot is not touched: the
    figure is the caller's alone. Raises ArgumentError without matplotlib.
    """
    steps = len(panels[0].values)
    # in inches, and so that up to 2,300 steps and 275 units have a dot each
    width = float(np.clip(1 + steps / DOTS, 10, 24))
    heights = [float(np.clip(0.25 + panel.values.shape[1] / DOTS, 1.2, 3)) for panel in panels]
    heights = heights if text is None else [TEXT_INCHES, *heights]
    figure = _figure(width, sum(heights) + 0.8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, family="monospace")
    axes = list(figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    if text is not None:
        _write(axes.pop(0), text, width)
    drawn = [(panel, ax, _draw(ax, panel)) for panel, ax in zip(panels, axes, strict=True)]
    for _, group in groupby(drawn, lambda each: (each[0].low, each[0].high)):
        shown, shared, images = zip(*group, strict=True)
        bar = figure.colorbar(images[0], ax=shared, pad=0.005, fraction=0.03, extend=_beyond(shown))
        bar.ax.tick_params(labelsize=7)
    axes[-1].set_xlabel("step", fontsize=8)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


class Curve(NamedTuple):
    """A line through points (x, y), named; a faint one stands behind the others."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    faint: bool = False


def curves(panels: Mapping[str, Sequence[Curve]], x_label: str) -> Figure:
    """A figure of panels by title, one under the other, each of the curves given; x is theirs in common.

    Raises ArgumentError without matplotlib.
    """
    figure = _figure(9, 1 + 2.5 * len(panels))
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for ax, (title, shown) in zip(axes, panels.items(), strict=True):
        ax.set_title(title, loc="left", fontsize=9, pad=3)
        for curve in shown:
            looks: dict[str, Any] = {"color": "0.8", "lw": 0.8} if curve.faint else {"lw": 1.5}
            if not curve.faint and len(curve.x) <= MARKED:
                looks["marker"] = "."
            ax.plot(curve.x, curve.y, label=curve.name, **looks)
        ax.tick_params(labelsize=7, length=2)
        if len(shown) > 1:
            ax.legend(fontsize=8, frameon=False)
    axes[-1].set_xlabel(x_label, fontsize=8)
    return figure


def _figure(width: float, height: float) -> Figure:
    """An empty one, in inches."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ArgumentError(f"plots need matplotlib: {install_hint('plot')}") from error
    return Figure(figsize=(width, height), layout="constrained")


def _draw(ax: Axes, panel: Panel) -> AxesImage:
    colours = "magma" if panel.low >= 0 else "RdBu_r"
    # matplotlib's own interpolation would smooth over time, too
    image = ax.imshow(
        panel.values.T, colours, aspect="auto", interpolation="nearest", vmin=panel.low, vmax=panel.high
    )
    ax.set_title(panel.title, loc="left", fontsize=9, pad=3)
    ax.set_ylabel(panel.unit, fontsize=8)
    ax.tick_params(labelsize=7, length=2)
    units = panel.values.shape[1]
    if units <= 12:
        ax.set_yticks(range(0, units, 1 + units // 7))
    return image


def _beyond(panels: Sequence[Panel]) -> str:
    """At which ends of their scale there are values beyond it, as matplotlib calls them."""
    under = any((panel.values < panel.low).any() for panel in panels)
    over = any((panel.values > panel.high).any() for panel in panels)
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[
        under, over
    ]


def _write(ax: Axes, text: str, width: float) -> None:
    """Each character over its step where there is room, else here and there what begins at a step."""
    ax.set_axis_off()
    room = math.ceil(len(text) * INCHES_PER_CHARACTER / width)  # steps that a character takes
    length, align = (1, "center") if room == 1 else (12, "left")
    shown = text.translate(VISIBLE)
    for t in range(0, len(text), 1 if room == 1 else room * (length + 2)):
        ax.text(t, 0, shown[t : t + length], fontsize=8, family="monospace", ha=align, parse_math=False)


def by_similarity(values: NDArray[Any]) -> NDArray[np.intp]:
    """An order of the units of (T, units) in which those of a like course stand side by side.

    Each stands at its angle in the plane of the two courses that explain most, the principal components.
    """
    centred = np.nan_to_num(values - values.mean(axis=0))
    scaled = centred / np.maximum(np.linalg.norm(centred, axis=0), np.finfo(centred.dtype).tiny)
    _, strengths, courses = np.linalg.svd(scaled, full_matrices=False)
    plane = np.zeros((2, values.shape[1]))
    plane[: len(courses[:2])] = strengths[:2, None] * courses[:2]
    return np.argsort(np.arctan2(plane[1], plane[0]), kind="stable")


def peak(values: NDArray[Any], percentile: float = 100) -> float:
    """The largest finite magnitude, or that which so many percent do not exceed; 1 where all are 0."""
    finite = np.abs(values)[np.isfinite(values)]
    if not finite.size:
        return 1.0
    return float(np.percentile(finite, percentile)) or float(finite.max()) or 1.0
