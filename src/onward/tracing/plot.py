"""Draw heat maps and curves over time with matplotlib (the extra `plot`)."""

from __future__ import annotations

import math
import textwrap
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

DOTS_PER_INCH = 100
TEXT_HEIGHT, CHARACTER_WIDTH, ROW_NAME_HEIGHT = 0.2, 0.08, 0.15  # in inches
MAX_NAMED_ROWS = 16
MAX_MARKERS = 100  # markers on a longer curve would overlap
LETTERS: dict[str, Any] = {"fontsize": 8, "family": "monospace", "parse_math": False}
GATES = ["#f0eee8", "#7abab4", "#06545a"]  # from 0 to 1, as on the page of `onward explore`
STATES = ["#20549e", "#f6f4ef", "#c75410"]  # from negative to positive
VISIBLE = str.maketrans({"\n": "↵", "\t": "→", " ": "␣"})  # characters that would otherwise be invisible


class Panel(NamedTuple):
    """A heat map of `values` (T, rows), colored from `low` to `high`.

    If `low` is negative, the colors diverge from 0. `rows` labels the vertical axis and `bar` the color bar.
    `names` labels each row; an empty sequence hides the row numbers. `letters` (T, rows) holds a character to
    write into each cell.
    """

    title: str
    values: NDArray[Any]
    low: float
    high: float
    rows: str = "unit"
    bar: str = ""
    names: Sequence[str] | None = None
    letters: NDArray[Any] | None = None


def figure_width(steps: int, text: bool) -> float:
    """The width of a picture in inches, for a number of steps: one dot per step, or room for a character."""
    return float(np.clip(1.5 + steps * (1.25 * CHARACTER_WIDTH if text else 1 / DOTS_PER_INCH), 10, 24))


def letters_fit(steps: int) -> bool:
    """Whether a picture with this number of steps has room for one character per step."""
    return steps * CHARACTER_WIDTH <= figure_width(steps, True) - 2


def heat_maps(panels: Sequence[Panel], title: str, text: str | None = None) -> Figure:
    """Stack panels over a common time axis, with the characters of `text` along the top.

    Consecutive panels with the same color scale share a color bar. The figure is independent of pyplot.
    Raises ArgumentError without matplotlib.
    """
    width = figure_width(len(panels[0].values), text is not None)
    heights = [_height(panel) for panel in panels]
    heights = heights if text is None else [TEXT_HEIGHT, *heights]
    # 12 characters of the title are an inch wide
    title = "\n".join(textwrap.fill(line, int(11 * width)) for line in title.splitlines())
    lines = title.count("\n") + 1
    figure = _figure(width, sum(heights) + 0.6 + 0.2 * lines)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, family="monospace", parse_math=False)
    axes = list(figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    if text is not None:
        _write(axes.pop(0), text, width)
    drawn = [(panel, ax, _draw(ax, panel)) for panel, ax in zip(panels, axes, strict=True)]
    for _, group in groupby(drawn, lambda entry: (entry[0].low, entry[0].high, entry[0].bar)):
        members, group_axes, images = zip(*group, strict=True)
        under = any((panel.values < panel.low).any() for panel in members)
        over = any((panel.values > panel.high).any() for panel in members)
        extend = ("neither", "min", "max", "both")[under + 2 * over]
        bar = figure.colorbar(images[0], ax=group_axes, pad=0.005, fraction=0.03, extend=extend)
        bar.set_label(members[0].bar, fontsize=8)
        bar.ax.tick_params(labelsize=7)
        bar.ax.locator_params(axis="y", nbins=4 if len(members) == 1 else 6)
    axes[-1].set_xlabel("step", fontsize=8)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def _height(panel: Panel) -> float:
    """The height of a panel in inches: a dot for each of up to 275 rows, or a line for each named row."""
    rows: int = panel.values.shape[1]
    if panel.names:
        return max(1.2, 0.25 + float(rows) * ROW_NAME_HEIGHT)
    return float(np.clip(0.25 + rows / DOTS_PER_INCH, 1.2, 3))


class Curve(NamedTuple):
    """A named line through the points (x, y); a faint line is drawn in the background."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    faint: bool = False


def curves(panels: Mapping[str, Sequence[Curve]], x_label: str) -> Figure:
    """Stack panels of curves, by title, over a common x axis.

    Raises ArgumentError without matplotlib.
    """
    figure = _figure(9, 1 + 2.5 * len(panels))
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        ax.set_title(title, loc="left", fontsize=9, pad=3, parse_math=False)
        for curve in lines:
            style: dict[str, Any] = {"color": "0.8", "lw": 0.8} if curve.faint else {"lw": 1.5}
            if not curve.faint and len(curve.x) <= MAX_MARKERS:
                style["marker"] = "."
            ax.plot(curve.x, curve.y, label=curve.name, **style)
        ax.tick_params(labelsize=7, length=2)
        if len(lines) > 1:
            ax.legend(fontsize=8, frameon=False)
    axes[-1].set_xlabel(x_label, fontsize=8)
    return figure


def _figure(width: float, height: float) -> Figure:
    """An empty figure; sizes in inches."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ArgumentError(f"plots need matplotlib: {install_hint('plot')}") from error
    return Figure(figsize=(width, height), layout="constrained")


def _draw(ax: Axes, panel: Panel) -> AxesImage:
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("onward", GATES if panel.low >= 0 else STATES)
    # matplotlib's default interpolation would blur neighboring steps
    image = ax.imshow(
        panel.values.T, colors, aspect="auto", interpolation="nearest", vmin=panel.low, vmax=panel.high
    )
    ax.set_title(panel.title, loc="left", fontsize=9, pad=3)
    ax.set_ylabel(panel.rows, fontsize=8)
    ax.tick_params(labelsize=7, length=2)
    rows = panel.values.shape[1]
    if panel.names is not None:
        ax.set_yticks(range(len(panel.names)), panel.names, parse_math=False)
    elif rows <= 12:
        ax.set_yticks(range(0, rows, 1 + rows // 7))
    for (t, row), letter in np.ndenumerate([] if panel.letters is None else panel.letters):
        red, green, blue, _ = image.cmap(image.norm(panel.values[t, row]))
        color = "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.4 else "white"
        ax.text(t, row, str(letter).translate(VISIBLE), color=color, ha="center", va="center", **LETTERS)
    return image


def _write(ax: Axes, text: str, width: float) -> None:
    """Write each character above its step if there is room, otherwise excerpts at regular intervals."""
    ax.set_axis_off()
    visible = text.translate(VISIBLE)
    steps = math.ceil(len(text) * CHARACTER_WIDTH / width)  # covered by one character
    length, align = (1, "center") if steps == 1 else (12, "left")
    for t in range(0, len(text), 1 if steps == 1 else steps * (length + 2)):
        ax.text(t, 0, visible[t : t + length], ha=align, **LETTERS)


def by_similarity(values: NDArray[Any]) -> NDArray[np.intp]:
    """Order the units of `values` (T, units) so that units with similar time courses are neighbors.

    The order is that of each unit's angle in the plane of the first two principal components. Values that
    are not finite count as 0.
    """
    finite = np.where(np.isfinite(values), values, 0).astype(np.float64)
    centered = finite - finite.mean(axis=0)
    scaled = centered / np.maximum(np.linalg.norm(centered, axis=0), np.finfo(centered.dtype).tiny)
    _, strengths, courses = np.linalg.svd(scaled, full_matrices=False)
    plane = np.zeros((2, values.shape[1]))
    plane[: len(courses[:2])] = strengths[:2, None] * courses[:2]
    return np.argsort(np.arctan2(plane[1], plane[0]), kind="stable")


def peak(values: NDArray[Any], percentile: float = 100) -> float:
    """A percentile of the finite magnitudes, by default their maximum; 1 if all are 0."""
    finite = np.abs(values)[np.isfinite(values)]
    if not finite.size:
        return 1.0
    return float(np.percentile(finite, percentile)) or float(finite.max()) or 1.0
