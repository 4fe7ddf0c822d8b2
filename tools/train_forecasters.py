"""Train the small models of the page `onward explore`: each as an LSTM and as an RNN, for comparison.

    python tools/train_forecasters.py src/onward/tracing/page/models

The forecaster predicts the next value of a curve: a sine or a triangle wave with a period of 8 to 40
steps, plus a slower wave. The latch returns the last pulse that it has read, however long ago. Its models
are also saved before training, beside other initializations: forget biases, and an orthogonal RNN.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import onward
from onward import train

STEPS, SEQUENCES, EPOCHS, FORGET_BIAS = 100, 3000, 40, 3


def waves(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random curves and the value that follows each step, both (T, N, 1)."""
    t = np.arange(STEPS + 1)
    curves = np.empty((count, STEPS + 1), np.float32)
    for curve in curves:
        turns = t / rng.uniform(8, 40) + rng.uniform(0, 1)
        wave = np.sin(2 * np.pi * turns) if rng.random() < 0.6 else 4 * np.abs(turns % 1 - 0.5) - 1
        slow = np.sin(2 * np.pi * (t / rng.uniform(40, 90) + rng.uniform(0, 1)))
        curve[:] = rng.uniform(0.3, 0.7) * wave + rng.uniform(0, 0.3) * slow
    curves += rng.normal(0, 0.01, curves.shape).astype(np.float32)
    return curves[:, :-1].T[..., None], curves[:, 1:].T[..., None]


def pulses(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rare pulses of any height between zeros, and the last pulse at each step, both (T, N, 1)."""
    heights = rng.choice([-1.0, 1.0], (STEPS, count)) * rng.uniform(0.2, 1, (STEPS, count))
    x = np.where(rng.random((STEPS, count)) < 0.03, heights, 0)
    last = np.zeros_like(x)
    for t in range(STEPS):
        last[t] = np.where(x[t] != 0, x[t], last[t - 1] if t else 0)
    return x[..., None].astype(np.float32), last[..., None].astype(np.float32)


TASKS: dict[str, tuple[Callable[..., tuple[np.ndarray, np.ndarray]], int]] = {
    "forecaster": (waves, 32),
    "latch": (pulses, 16),
}


def initial(kind: type[onward.RNN | onward.LSTM], hidden: int, forget_bias: float = 0) -> onward.Sequential:
    """A model initialized as in PyTorch, with `forget_bias` added to the forget gates of an LSTM."""
    model = onward.Sequential(kind(1, hidden, rng=1), onward.Linear(hidden, 1, rng=2))
    if forget_bias:  # forget gates that start open learn to remember (Jozefowicz et al. 2015)
        bias = model.state_dict()["0.bias_ih_l0"]
        bias[hidden : 2 * hidden] += forget_bias
        model.load_state_dict({"0.bias_ih_l0": bias}, strict=False)
    return model


def orthogonal(model: onward.Sequential) -> onward.Sequential:
    """The model with the orthogonal matrix nearest to its recurrent one (Saxe et al. 2014), and no bias."""
    weights = model.state_dict()
    left, _, right = np.linalg.svd(weights["0.weight_hh_l0"])
    none = {name: np.zeros_like(weights[name]) for name in ("0.bias_ih_l0", "0.bias_hh_l0")}
    model.load_state_dict({"0.weight_hh_l0": left @ right} | none, strict=False)
    return model


def save_starts(folder: Path, hidden: int) -> None:
    """Write models of the latch as they are before training."""
    for bias in (0, 1, FORGET_BIAS):
        initial(onward.LSTM, hidden, bias).save(folder / f"latch_start_bias{bias}.safetensors")
    initial(onward.RNN, hidden).save(folder / "latch_rnn_start.safetensors")
    orthogonal(initial(onward.RNN, hidden)).save(folder / "latch_rnn_start_orthogonal.safetensors")


def main(folder: Path) -> None:
    """Train all models and write them to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_starts(folder, TASKS["latch"][1])
    for name, (data, hidden) in TASKS.items():
        rng = np.random.default_rng(0)
        training, (x, y) = data(rng, SEQUENCES), data(rng, 200)
        for suffix, kind in {"": onward.LSTM, "_rnn": onward.RNN}.items():
            model = initial(kind, hidden, FORGET_BIAS if kind is onward.LSTM else 0)
            train.fit(
                model,
                training,
                loss="mse",
                optimizer=train.Adam(1e-2),
                schedule=train.OneCycleLR(cycle_momentum=False),
                epochs=EPOCHS,
                max_norm=1.0,
                rng=3,
            )
            error = float(np.sqrt(np.mean((model(x) - y)[20:] ** 2)))
            print(f"{name}{suffix}: root mean square error {error:.3f}")
            model.save(folder / f"{name}{suffix}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
