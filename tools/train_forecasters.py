"""Train the forecasters of the page `onward explore`: an LSTM and an RNN that continue a curve.

    python tools/train_forecasters.py src/onward/explore/page/models

Both learn the same curves: a sine or a triangle wave with a period of 8 to 40 steps,
plus a slower wave.
"""

import sys
from pathlib import Path

import numpy as np

import onward
from onward import train

STEPS, CURVES, HIDDEN, EPOCHS = 100, 3000, 32, 40


def curves(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random curves (count, STEPS + 1) between about -1 and 1."""
    t = np.arange(STEPS + 1)
    result = np.empty((count, STEPS + 1), np.float32)
    for curve in result:
        turns = t / rng.uniform(8, 40) + rng.uniform(0, 1)
        wave = np.sin(2 * np.pi * turns) if rng.random() < 0.6 else 4 * np.abs(turns % 1 - 0.5) - 1
        slow = np.sin(2 * np.pi * (t / rng.uniform(40, 90) + rng.uniform(0, 1)))
        curve[:] = rng.uniform(0.3, 0.7) * wave + rng.uniform(0, 0.3) * slow
    return result + rng.normal(0, 0.01, result.shape).astype(np.float32)


def main(folder: Path) -> None:
    """Train both models and write them to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    training, test = curves(rng, CURVES), curves(rng, 200)
    for name, kind in {"forecaster": onward.LSTM, "forecaster_rnn": onward.RNN}.items():
        model = onward.Sequential(kind(1, HIDDEN, rng=1), onward.Linear(HIDDEN, 1, rng=2))
        x, y = steps(training)
        train.fit(
            model,
            (x, y),
            loss="mse",
            optimizer=train.Adam(4e-3),
            schedule=train.OneCycleLR(cycle_momentum=False),
            epochs=EPOCHS,
            max_norm=1.0,
            rng=3,
        )
        x, y = steps(test)
        error = float(np.sqrt(np.mean((model(x) - y)[20:] ** 2)))
        print(f"{name}: root mean square error {error:.3f}; repeating the last value {repeat(test):.3f}")
        model.save(folder / f"{name}.safetensors")


def repeat(test: np.ndarray) -> float:
    """The error of the forecast that repeats the last value."""
    return float(np.sqrt(np.mean(np.diff(test, axis=1)[:, 20:] ** 2)))


def steps(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The input at each step and the value that follows it, both (T, N, 1)."""
    return rows[:, :-1].T[..., None], rows[:, 1:].T[..., None]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
