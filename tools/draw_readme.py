"""Draws docs/vowels.png: the bundled model at work on one utterance, frame by frame. Needs matplotlib."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

import onward
from onward import bundled, textbook

UTTERANCE = 9  # in which the model changes its mind
PAPER, INK, FAINT = "#10141f", "#e8ebf2", "#5d677d"
COLOURS = ["#ffb454", "#59c2ff", "#c2d94c", "#f07178", "#d2a6ff", "#95e6cb", "#ff8f40", "#e6b673", "#6c9ef8"]
SIGNED = LinearSegmentedColormap.from_list("signed", ["#9fdcff", "#2b7fd4", PAPER, "#d9622b", "#ffd9a0"])

Array = NDArray[Any]


def run(x: Array, state_dict: dict[str, Array]) -> dict[str, Array]:
    """Gates, states and probabilities (T, units) of one sequence x (T, I), by the textbook's equations."""
    W, R = (np.split(state_dict[f"0.weight_{kind}_l0"], 4) for kind in ("ih", "hh"))
    b = np.split(state_dict["0.bias_ih_l0"] + state_dict["0.bias_hh_l0"], 4)
    parameters = {"Wy": state_dict["2.weight"], "by": state_dict["2.bias"][:, None]}
    for k, gate in enumerate("ifco"):
        parameters |= {f"W{gate}": np.hstack([R[k], W[k]]), f"b{gate}": b[k][:, None]}
    zeros = np.zeros((len(R[0].T), 1), np.float32)
    h, c, y, (cells, *_) = textbook.lstm_forward(x[:, :, None], zeros, zeros, parameters)
    f, i, o = (np.stack([cell[k] for cell in cells]) for k in (3, 4, 5))
    return {name: value[:, :, 0] for name, value in {"f": f, "i": i, "o": o, "c": c, "h": h, "y": y}.items()}


def heat_map(axes: Axes, values: Array, title: str, **style: Any) -> None:
    axes.imshow(values.T, aspect="auto", interpolation="nearest", **style)
    axes.set_title(title, loc="left", color=INK, fontsize=11, pad=5)


def probabilities(axes: Axes, y: Array, speaker: int) -> None:
    """A line for each speaker; those that lead at some time are named where they lead most."""
    leaders = list(dict.fromkeys(y.argmax(axis=1).tolist()))
    for k, line in enumerate(y.T):
        width = 3 if k == speaker else 2 if k in leaders else 1
        axes.plot(line, color=COLOURS[k] if k in leaders else FAINT, lw=width)
    for n, k in enumerate(leaders):
        t = len(y) - 3 if k == speaker else y[:, k].argmax()
        above = 18 if n % 2 == 0 else 6  # neighbours would overlap
        style = {"color": COLOURS[k], "ha": "center", "fontweight": "bold" if k == speaker else "normal"}
        axes.annotate(f"speaker {k}", (t, y[t, k]), (0, above), textcoords="offset points", **style)
    axes.set_title("who speaks: probabilities after each frame", loc="left", color=INK, fontsize=11, pad=5)
    axes.set(xlim=(-0.5, len(y) - 0.5), ylim=(0, 1.16), yticks=[0, 1])


def main() -> None:
    with np.load(bundled.datasets()["japanese_vowels_test"]) as data:
        x = np.split(data["x"], np.cumsum(data["lengths"])[:-1])[UTTERANCE]
        speaker = int(data["y"][UTTERANCE])
    model = onward.load(bundled.models()["vowels"])
    assert isinstance(model, onward.Sequential)
    values = run(x, model.state_dict())
    scale = np.abs(x).max(axis=0)
    order = values["h"][-1].argsort()  # units of like end side by side

    figure, axes = plt.subplot_mosaic(
        [["x", "c"], ["f", "h"], ["i", "y"], ["o", "y"]], figsize=(10.4, 7.4), facecolor=PAPER
    )
    figure.subplots_adjust(left=0.02, right=0.98, top=0.95, bottom=0.07, wspace=0.09, hspace=0.24)
    heat_map(axes["x"], x / scale, "what comes in: 12 cepstral coefficients", cmap=SIGNED, vmin=-1, vmax=1)
    for name, title in {"f": "forget gate", "i": "input gate", "o": "output gate"}.items():
        heat_map(axes[name], values[name][:, order], title, cmap="magma", vmin=0, vmax=1)
    for name, title in {"c": "cell state: what is remembered", "h": "hidden state: what is shown"}.items():
        peak = np.abs(values[name]).max()
        heat_map(axes[name], values[name][:, order], title, cmap=SIGNED, vmin=-peak, vmax=peak)
    probabilities(axes["y"], values["y"], speaker)
    for name, panel in axes.items():
        panel.set_facecolor(PAPER)
        panel.tick_params(colors=FAINT, length=0)
        panel.set_xticks(range(0, len(x), 5))
        panel.spines[:].set_visible(False)
        if name in "oy":
            panel.set_xlabel("frame", color=FAINT)
        else:
            panel.set_xticklabels([])
        if name != "y":
            panel.set_yticks([])
    path = Path(__file__).parents[1] / "docs/vowels.png"
    figure.savefig(path, dpi=100, facecolor=PAPER)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
