"""Random Sequentials of RNNs, LSTMs, GRUs and layers around them, with every option, and inputs for them."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import onward

FUNCTIONS: tuple[Any, ...] = (
    *(
        "sigmoid",
        "tanh",
        "relu",
        "relu6",
        "hard_sigmoid",
        "hard_sigmoid_keras2",
        "hard_swish",
        "softsign",
        "linear",
        "silu",
    ),
    *("selu", "gelu", "mish", "softplus", "exponential", ("leaky_relu", 0.2), ("elu", 0.7)),
    *(("hard_sigmoid", 0.3, 0.4), ("thresholded_relu", 0.3), ("scaled_tanh", 1.7, 0.6), ("affine", 0.5, 0.1)),
)


class Drawn(NamedTuple):
    """A model, an input of a batch or of one sequence, and the valid steps of its rows; None: all."""

    model: onward.Sequential
    x: NDArray[Any]
    lengths: list[int] | None


def drawn(rng: np.random.Generator) -> Drawn:
    """Return a random model with a recurrent layer and an input."""
    features = first = int(rng.integers(1, 5))
    batch_first, symbols = bool(rng.random() < 0.4), int(rng.integers(2, 9)) if rng.random() < 0.3 else 0
    layers: list[Any] = [onward.Embedding(symbols, features, rng=rng)] if symbols else []
    for _ in range(int(rng.integers(1, 4))):
        layers.append(_layer(rng, features, batch_first))
        y = layers[-1](np.zeros((2, 2, features)))
        features = (y[0] if layers[-1].state_names else y).shape[-1]
    layers += [onward.Last(batch_first)] if rng.random() < 0.3 else []
    layers += [onward.Linear(features, 2, rng=rng)] if rng.random() < 0.5 else []
    model = onward.Sequential(*layers)
    if not model.recurrent_sublayers():
        return drawn(rng)
    if rng.random() < 0.3:
        model = model.quantize(str(rng.choice(["int8", "float16"])))
    T, B = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    is_batch = rng.random() < 0.6
    shape = ((B, T) if batch_first else (T, B)) if is_batch else (T,)
    x = rng.integers(0, symbols, shape) if symbols else rng.normal(size=(*shape, first)).astype(np.float32)
    return Drawn(model, x, rng.integers(0, T + 1, B).tolist() if is_batch and rng.random() < 0.5 else None)


def _layer(rng: np.random.Generator, features: int, batch_first: bool) -> Any:
    H, kind = int(rng.integers(1, 7)), int(rng.integers(6))
    if kind < 3:
        return _recurrent(rng, kind, features, H, batch_first)
    if kind == 3:
        return onward.Linear(features, H, bool(rng.random() < 0.5), rng=rng)
    if kind == 4:
        return onward.Activation(*np.atleast_1d(np.array(_function(rng), object)))
    return onward.Dropout(0.2) if rng.random() < 0.5 else onward.Softmax()


def _recurrent(rng: np.random.Generator, kind: int, features: int, H: int, batch_first: bool) -> Any:
    both, reset_after = bool(rng.random() < 0.3), bool(rng.random() < 0.5)
    options: dict[str, Any] = {"batch_first": batch_first, "bidirectional": both, "rng": rng}
    options |= {"num_layers": int(rng.integers(1, 3)), "bias": bool(rng.random() < 0.7)}
    options |= {"clip": float(rng.uniform(0.2, 2))} if rng.random() < 0.2 else {}
    if rng.random() < 0.5:
        of_directions = [tuple(_function(rng) for _ in range((1, 3, 2)[kind])) for _ in range(1 + both)]
        if kind == 0:
            of_directions = [functions[0] for functions in of_directions]
        functions = tuple(of_directions) if both else of_directions[0]
        options["activations" if kind else "nonlinearity"] = functions
    if kind == 0:
        return onward.RNN(features, H, **options)
    if kind == 2:
        return onward.GRU(features, H, reset_after=reset_after, **options)
    options |= {name: bool(rng.random() < 0.3) for name in ("peephole", "coupled")}
    options |= {"cell_clip": 0.3} if rng.random() < 0.2 else {}
    options |= {"proj_size": int(rng.integers(1, H))} if H > 1 and rng.random() < 0.3 else {}
    return onward.LSTM(features, H, **options)


def _function(rng: np.random.Generator) -> Any:
    return FUNCTIONS[int(rng.integers(len(FUNCTIONS)))]
