"""Random Sequentials of all layers, with inputs of every number of axes."""

from typing import Any

import numpy as np

import onward


def sequential(rng: np.random.Generator, dtype: str = "") -> tuple[onward.Sequential, int]:
    """Return a Sequential of random layers, by default of a random dtype, and the features of its input."""
    features = first = int(rng.integers(1, 6))
    batch_first, drawn = bool(rng.random() < 0.4), str(rng.choice(["float32", "float64"]))
    options: dict[str, Any] = {"dtype": dtype or drawn, "rng": rng}
    layers: list[Any] = []
    for _ in range(int(rng.integers(1, 5))):
        layer = _layer(rng, features, batch_first, options)
        layers.append(layer)
        y = layer(np.zeros((2, 2, features)))
        features = (y[0] if layer.state_names else y).shape[-1]
    if rng.random() < 0.3:
        layers.append(onward.Last(batch_first))
    if rng.random() < 0.5:
        layers.append(onward.Linear(features, 2, **options))
    return onward.Sequential(*layers), first


def _layer(rng: np.random.Generator, features: int, batch_first: bool, options: dict[str, Any]) -> Any:
    H, recurrent = int(rng.integers(1, 6)), options | {"batch_first": batch_first}
    makers: list[Any] = [
        lambda: onward.LSTM(features, H, bidirectional=True, **recurrent),
        lambda: onward.GRU(features, H, 2, **recurrent),
        lambda: onward.RNN(features, H, nonlinearity="relu", **recurrent),
        lambda: onward.MinGRU(features, H, **recurrent),
        lambda: onward.LayerNormLSTM(features, H, **recurrent),
        lambda: onward.sLSTM(features, H, **recurrent),
        lambda: onward.LRU(features, H, **recurrent),
        lambda: onward.RGLRU(features, **recurrent),
        lambda: onward.SelectiveScan(features, H, **recurrent),
        lambda: onward.Linear(features, H, **options),
        lambda: onward.LayerNorm(features, dtype=options["dtype"]),
        lambda: onward.Softmax(-1),
        lambda: onward.Softmax(int(rng.integers(3))),
        lambda: onward.Activation("tanh"),
    ]
    return makers[int(rng.integers(len(makers)))]()


def shape(rng: np.random.Generator, features: int) -> tuple[int, ...]:
    """Return the shape of an input with random leading axes."""
    return (*rng.integers(1, 5, int(rng.integers(4))).tolist(), features)
