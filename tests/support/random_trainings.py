"""Random trainings: a model, data of any kind, a loss, an optimizer, a schedule and the options of `fit`."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import onward
from onward import train

CELLS: tuple[Any, ...] = (
    lambda i, h, **options: onward.LSTM(i, h, 2, dropout=0.2, **options),
    lambda i, h, **options: onward.LSTM(i, h + 1, proj_size=h, **options),
    lambda i, h, **options: onward.GRU(i, h, reset_after=False, **options),
    lambda i, h, **options: onward.RNN(i, h, nonlinearity="relu", **options),
    onward.MinGRU,
    onward.LayerNormLSTM,
    onward.sLSTM,
)
SCANS: tuple[Any, ...] = (  # whose outputs have as many features as x
    lambda i, **options: onward.LRU(i, 4, **options),
    lambda i, **options: onward.RGLRU(i, **options),
    lambda i, **options: onward.SelectiveScan(i, 3, **options),
)
OPTIMIZERS: tuple[Any, ...] = (
    lambda: train.SGD(0.05, momentum=0.9, nesterov=True),
    lambda: train.RMSprop(1e-3, weight_decay=1e-3),
    lambda: train.Adam(1e-2),
    lambda: train.AdamW(1e-2, decay_biases=False),
)


class Training(NamedTuple):
    """The arguments of `fit`; `model` copies the model, so that all trainings share compiled gradients."""

    model: Callable[[], Any]
    data: train.Data
    options: dict[str, Any]


def training(rng: np.random.Generator, in_chunks: bool) -> Training:
    """Return a random training of a few steps, on chunks of one sequence or on batches of sequences."""
    features, units, outputs = (int(n) for n in rng.integers(1, 5, 3))
    batch_first = bool(rng.random() < 0.4)
    per_step = in_chunks or rng.random() < 0.5
    loss, targets = _loss(rng, outputs)
    seed, cell = int(rng.integers(1 << 30)), int(rng.integers(len(CELLS)))
    scan = int(rng.integers(len(SCANS))) if rng.random() < 0.4 else None
    bidirectional = not in_chunks and cell < 4 and rng.random() < 0.3
    dtype = str(rng.choice(["float32", "float64"]))

    def make() -> Any:
        draws, options = np.random.default_rng(seed), {"batch_first": batch_first, "dtype": dtype}
        layers = [] if scan is None else [SCANS[scan](features, rng=draws, **options)]
        reverse = {"bidirectional": True} if bidirectional else {}
        layers += [CELLS[cell](features, units, rng=draws, **reverse, **options), onward.Dropout(0.1)]
        layers += [] if per_step else [onward.Last(batch_first=batch_first)]
        width = len(loss.keywords["quantiles"]) * outputs if loss.func is train.quantile else outputs
        return onward.Sequential(
            *layers, onward.Linear(units * (1 + bidirectional), width, dtype=dtype, rng=draws)
        )

    model, data = make(), _data(rng, features, targets, in_chunks, per_step)
    return Training(lambda: copy.deepcopy(model), data, _options(rng, data, loss))


def _loss(rng: np.random.Generator, outputs: int) -> tuple[partial[Any], Callable[[int], Any]]:
    """Return a loss and a function of N that draws the targets of N rows."""
    if rng.random() < 0.4 and outputs > 1:
        smoothing = float(rng.choice([0.0, 0.1]))
        ignored = partial(train.cross_entropy, ignore_index=0, label_smoothing=smoothing)
        return ignored, lambda n: np.append(1, rng.integers(0, outputs, n))[:n]
    number = [train.mse, train.mae, partial(train.huber, delta=0.3), train.bce]
    chosen: Any = [*number, partial(train.quantile, quantiles=(0.2, 0.7))][int(rng.integers(5))]
    return partial(chosen), lambda n: rng.uniform(0, 1, (n, outputs))


def _data(
    rng: np.random.Generator, features: int, targets: Callable[[int], Any], in_chunks: bool, per_step: bool
) -> train.Data:
    """Return chunks of one sequence, or batches of sequences of other lengths, some with weights."""
    if in_chunks:
        N = int(rng.integers(12, 60))
        size, steps = (int(n) for n in rng.integers(1, 9, 2))
        return train.Chunks(rng.normal(size=(N, features)), targets(N), min(size, N), steps)
    items = [rng.normal(size=(int(T), features)) for T in rng.integers(1, 9, int(rng.integers(1, 20)))]
    y = [targets(len(item)) for item in items] if per_step else targets(len(items))
    weights: Any = None
    if rng.random() < 0.4:
        weights = rng.choice([0.0, 0.5, 1.0, 2.5], len(items)) + np.eye(len(items))[0]
    batch_size = int(rng.integers(1, len(items) + 1))
    return train.Batches(items, y, batch_size=batch_size, per_step=per_step, weights=weights)


def _options(rng: np.random.Generator, data: train.Data, loss: partial[Any]) -> dict[str, Any]:
    """Return options of `fit`."""

    def maybe(value: Any) -> Any:
        return value if rng.random() < 0.4 else None

    cosine = train.CosineAnnealingLR(eta_min=1e-4)
    plateau = train.ReduceLROnPlateau(0.5, patience=0)
    schedules = [None, train.StepLR(3, 0.7), cosine, plateau, train.OneCycleLR(cycle_momentum=False)]
    schedules.append(train.Warmup(3, after=train.OneCycleLR(cycle_momentum=False)))
    return {
        "loss": loss,
        "optimizer": OPTIMIZERS[int(rng.integers(len(OPTIMIZERS)))](),
        "schedule": schedules[int(rng.integers(len(schedules)))],
        "epochs": int(rng.integers(1, 5)),
        "validation": maybe(data),
        "average": maybe(0.8),
        "max_norm": maybe(0.5),
        "max_value": maybe(0.1),
        "recurrent_dropout": maybe(0.3) or 0.0,
        "progress": False,
    }
