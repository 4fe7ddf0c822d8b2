"""Heat maps: scales, sizes, labels and the order of units."""

import sys

import numpy as np
import pytest

from onward.errors import ArgumentError
from onward.tracing import plot


def test_units_with_similar_courses_are_neighbors() -> None:
    t = np.linspace(0, 6, 50)
    kinds = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
    courses = np.stack([np.sin(t), np.cos(t), -np.sin(t + 1)])
    values = courses[kinds].T * np.arange(1, 10) + 0.01 * np.random.default_rng(0).standard_normal((50, 9))
    sorted_kinds = kinds[plot.by_similarity(values)]
    changes = np.count_nonzero(sorted_kinds != np.roll(sorted_kinds, 1))  # around the circle of angles
    assert changes == 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 2)])
def test_order_holds_every_unit_once_for_degenerate_values(shape: tuple[int, int]) -> None:
    infinities = np.where(np.indices(shape).sum(axis=0) % 2, -np.inf, np.inf)
    for values in (np.zeros(shape), np.full(shape, np.nan), infinities, np.full(shape, 3e38, np.float32)):
        assert sorted(plot.by_similarity(values)) == list(range(shape[1]))


def test_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ArgumentError, match=r"pip install 'matplotlib>=[\d.]+' \(the extra plot\)"):
        plot.heat_maps([plot.Panel("x", np.ones((3, 2)), 0, 1)], "title")


def test_consecutive_panels_with_one_scale_share_a_color_bar() -> None:
    values = np.ones((3, 2))
    panels = [plot.Panel("a", values, 0, 1), plot.Panel("b", values, 0, 1), plot.Panel("c", values, -1, 1)]
    assert len(plot.heat_maps(panels, "title").axes) == 3 + 2


@pytest.mark.parametrize("shape", [(2000, 48), (19, 256)])
def test_each_step_and_unit_has_its_own_unblurred_pixel(shape: tuple[int, int]) -> None:
    figure = plot.heat_maps([plot.Panel(name, np.ones(shape), 0, 1) for name in "ifo"], "title")
    figure.draw_without_rendering()
    for ax in figure.axes[:3]:
        extent = ax.get_window_extent()
        assert (extent.width > 0.98 * shape[0]) and (extent.height > 0.98 * shape[1])
        assert ax.images[0].get_interpolation() == "nearest"


@pytest.mark.parametrize(
    ("low", "high", "ends"), [(-1, 1, "both"), (-1, 3, "min"), (0, 3, "min"), (-2, 3, "neither")]
)
def test_color_bar_has_an_arrow_where_values_exceed_it(low: float, high: float, ends: str) -> None:
    values = np.array([[-2.0, np.nan], [0, 3]])
    figure = plot.heat_maps([plot.Panel("c", values, low, high)], "title")
    assert figure.axes[0].images[0].colorbar.extend == ends


def test_one_extreme_unit_does_not_set_the_scale() -> None:
    values = np.ones((10, 100))
    values[:, 7] = -13
    assert plot.peak(values) == 13 and plot.peak(values, 98) == 1
    for sparse, peak in ((np.eye(100), 1), (np.zeros((3, 2)), 1), (np.full((3, 2), np.nan), 1)):
        assert plot.peak(sparse, 98) == peak  # never 0, which is no scale


def test_long_titles_wrap_within_the_figure() -> None:
    panel = plot.Panel("a", np.ones((19, 2)), 0, 1)
    figure = plot.heat_maps([panel], "predicted " + " ".join(["word"] * 60) + "\nlayer 0.l0")
    figure.draw_without_rendering()
    (title,) = figure.texts
    assert title.get_window_extent().width < figure.bbox.width
    assert title.get_text().endswith("\nlayer 0.l0") and title.get_text().count("\n") == 3


def test_steps_are_labeled_with_whole_numbers() -> None:
    figure = plot.heat_maps([plot.Panel("a", np.ones((19, 2)), 0, 1)], "title")
    figure.draw_without_rendering()
    ticks = figure.axes[0].get_xticks()
    np.testing.assert_array_equal(ticks, np.round(ticks))
