"""Draw the pictures of the benchmarks' pages from rows of measurements, for tables.py."""

from typing import Any

Row = dict[str, Any]


def plot_models(found: list[Row]) -> Any:
    """The speedup of each model over its fastest peer."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.3 * len(found) + 1.1), layout="constrained")
    ratios = [row["ratio"] for row in found]
    colors = ["tab:blue" if ratio >= 1 else "tab:gray" for ratio in ratios]
    bars = axes.barh([row["model"] for row in found], ratios, color=colors)
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3)
    axes.axvline(1, color="gray", linewidth=1, linestyle="--")
    axes.set(
        xlabel="time of the fastest of them / time of Onward, for one call on one thread",
        xlim=(0, max(ratios) * 1.12),
    )
    figure.suptitle("Speedup of Onward over the fastest of onnxruntime, OpenVINO and PyTorch")
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_cells(found: list[Row]) -> Any:
    """The speedup over the fastest peer by size, in one panel per (T, B)."""
    from matplotlib import pyplot

    found = [row for row in found if row["threads"] == 1]
    shapes = list(dict.fromkeys((row["T"], row["B"]) for row in found))
    sizes = sorted({row["H"] for row in found})
    figure, panels = pyplot.subplots(
        1, len(shapes), figsize=(11, 3), sharey=True, layout="constrained", squeeze=False
    )
    for panel, (T, B) in zip(panels[0], shapes, strict=True):
        for kind in dict.fromkeys(row["cell"] for row in found):
            line = [row for row in found if (row["cell"], row["T"], row["B"]) == (kind, T, B)]
            panel.plot([row["H"] for row in line], [row["ratio"] for row in line], "o-", label=kind.upper())
        panel.axhline(1, color="gray", linewidth=1, linestyle="--")
        title = f"{T} steps, batch {B}" if T > 1 else "one step"
        panel.set(xscale="log", yscale="log", title=title, xlabel="H = I")
        panel.set_xticks(sizes, labels=map(str, sizes))
        panel.set_yticks([1, 2, 4, 8, 16], labels=["1", "2", "4", "8", "16"])
        panel.minorticks_off()
    panels[0][0].set_ylabel("speedup over the fastest peer")
    panels[0][0].legend(frameon=False)
    return figure


PLOTS = {"models.png": plot_models, "speed.png": plot_cells}
