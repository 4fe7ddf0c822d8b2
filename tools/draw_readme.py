"""Draws docs/vowels.png: the bundled model at work on one utterance, frame by frame. Needs onward[plot]."""

from pathlib import Path

import numpy as np

import onward
from onward import bundled

UTTERANCE = 9  # in which the model changes its mind


def main() -> None:
    with np.load(bundled.datasets()["japanese_vowels_test"]) as data:
        x = np.split(data["x"], np.cumsum(data["lengths"])[:-1])[UTTERANCE]
    model = onward.load(bundled.models()["vowels"])
    assert isinstance(model, onward.Sequential)
    lstm, _, linear = model
    # without Last: what it would say by then
    at_each_step = onward.Sequential(lstm, linear, onward.Softmax())
    figure = at_each_step.trace(x).plot(similar=True)
    path = Path(__file__).parents[1] / "docs/vowels.png"
    figure.savefig(path, dpi=100)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
