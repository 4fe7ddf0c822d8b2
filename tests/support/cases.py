"""The table of shapes and options on which layers are tested, with random, asymmetric weights."""

import itertools
import random
import zlib
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import onward

AXES: dict[str, list[Any]] = {
    "cell": ["rnn_tanh", "rnn_relu", "lstm", "gru", "gru_reset_before"],
    "layers": [1, 3],
    "bidirectional": [False, True],
    "bias": [True, False],
    "batch_first": [False, True],
    "unbatched": [False, True],
    "projected": [False, True],
    "state": [False, True],
    "lengths": [False, True],
    "dtype": ["float32", "float64"],
    "H": [1, 7, 33, 64],
    "I": [1, 5, 40],
    "B": [1, 5, 17],
    "T": [1, 2, 50],
}
# Cells with options; each name begins with that of the plain cell.
OPTIONS: dict[str, dict[str, Any]] = {
    "rnn_clip": {"nonlinearity": "relu", "clip": 0.9},
    "rnn_functions": {"nonlinearity": (("affine", 0.4, 0.1), ("leaky_relu", 0.2))},
    "lstm_peephole": {"peephole": True},
    "lstm_coupled": {"coupled": True},
    "lstm_all": {
        "peephole": True,
        "coupled": True,
        "clip": 0.4,
        "activations": (
            (("hard_sigmoid", 0.3, 0.4), "softsign", ("scaled_tanh", 1.2, 0.7)),
            ("sigmoid", ("elu", 0.7), "tanh"),
        ),
    },
    "lstm_clip": {"clip": 0.5, "activations": ("hard_sigmoid_keras2", "softplus", "relu")},
    "gru_clip": {"clip": 0.6},
    "gru_functions": {"activations": (("hard_sigmoid", "elu"), ("sigmoid", ("thresholded_relu", 0.3)))},
    "gru_reset_before_all": {"clip": 0.7, "activations": ("hard_sigmoid_keras2", "softsign")},
}
TOLERANCE = {"float32": 2e-6, "float64": 1e-12}
GRADIENT_TOLERANCE = {"float32": 1e-4, "float64": 1e-10}  # relative to the largest magnitude of an array


@dataclass(frozen=True)
class Case:
    """One value for each axis of the table."""

    cell: str
    layers: int
    bidirectional: bool
    bias: bool
    batch_first: bool
    unbatched: bool
    projected: bool
    state: bool
    lengths: bool
    dtype: str
    H: int
    I: int  # noqa: E741
    B: int
    T: int

    @property
    def id(self) -> str:
        flags = [field.name for field in fields(self) if getattr(self, field.name) is True]
        return "-".join(
            [self.cell, f"{self.layers}x", *flags, self.dtype, f"H{self.H}I{self.I}B{self.B}T{self.T}"]
        )

    @property
    def P(self) -> int:
        """The size of h: less than H with a projection."""
        return (self.H + 1) // 3 if self.projected else self.H

    @property
    def possible(self) -> bool:
        return (self.B == 1 or not self.unbatched) and (
            not self.projected or (self.cell == "lstm" and self.H > 1)
        )


class Inputs(NamedTuple):
    """The inputs of a layer in the core's layout: x (T, B, I), states (L*D, B, units)."""

    weights: dict[str, NDArray[Any]]
    x: NDArray[Any]
    h0: NDArray[Any] | None
    c0: NDArray[Any] | None
    lengths: NDArray[np.int64] | None


def covering(seed: int) -> list[Case]:
    """Cases, chosen greedily, that together contain every possible pair of values of two axes."""
    rng = random.Random(seed)  # only random() gives the same numbers in every version of Python
    pairs = [
        ((a, v), (b, w))
        for (a, vs), (b, ws) in itertools.combinations(AXES.items(), 2)
        for v in vs
        for w in ws
    ]
    chosen: list[Case] = []
    while pairs:
        wanted = dict(pairs[0])
        drawn = [
            {name: vs[int(rng.random() * len(vs))] for name, vs in AXES.items()} | wanted for _ in range(200)
        ]
        candidates = [case for case in (Case(**values) for values in drawn) if case.possible]
        if not candidates:  # a pair that excludes itself
            pairs.pop(0)
            continue
        best = max(candidates, key=lambda case: sum(_has(case, pair) for pair in pairs))
        chosen.append(best)
        pairs = [pair for pair in pairs if not _has(best, pair)]
    return chosen


def _has(case: Case, pair: tuple[tuple[str, Any], tuple[str, Any]]) -> bool:
    return all(getattr(case, name) == value for name, value in pair)


def with_options(cell: str, bidirectional: bool, dtype: str) -> Case:
    """A case of odd sizes with a state and lengths."""
    flags = {"bias": True, "batch_first": False, "unbatched": False, "projected": False}
    sizes = {"H": 7, "I": 5, "B": 5, "T": 9, "layers": 2 if bidirectional else 1}
    return Case(cell, bidirectional=bidirectional, state=True, lengths=True, dtype=dtype, **flags, **sizes)


CASES = list(dict.fromkeys(case for seed in range(3) for case in covering(seed)))


# Layers of torch.nn without time steps: name, arguments and options, and the shape of x, batched or not.
SPATIAL: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Conv1d", (6, 4, 3), {"stride": 2, "padding": 2, "dilation": 3, "groups": 2}, (5, 6, 20)),
    ("Conv1d", (6, 33, 4), {"padding": "same", "dilation": 3, "bias": False}, (6, 20)),
    ("Conv1d", (1, 7, 5), {"padding": "valid"}, (17, 1, 5)),
    ("Conv1d", (6, 6, 3), {"groups": 6}, (0, 6, 9)),
    ("Conv2d", (6, 4, (3, 2), (2, 1), (0, 2), (1, 3), 2), {}, (5, 6, 9, 7)),
    ("Conv2d", (2, 3, (4, 3)), {"padding": "same"}, (2, 8, 5)),
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True}, (5, 6, 20)),
    ("MaxPool1d", (2,), {}, (6, 7)),
    ("MaxPool2d", ((3, 2),), {"stride": (2, 1), "padding": 1, "dilation": (2, 1)}, (5, 6, 20, 9)),
    ("AvgPool1d", (4, 3, 2, True, False), {}, (5, 6, 20)),
    ("AvgPool1d", (4, 3, 2, True), {}, (5, 6, 21)),
    ("AvgPool1d", (4, 3, 2, True), {}, (6, 22)),
    ("AvgPool2d", ((3, 2),), {"padding": 1}, (5, 6, 9, 7)),
    ("BatchNorm1d", (6,), {}, (5, 6)),
    ("BatchNorm1d", (6, 0.1), {"affine": False}, (5, 6, 7)),
    ("BatchNorm2d", (6,), {}, (5, 6, 4, 3)),
    ("LayerNorm", (7,), {}, (5, 3, 7)),
    ("LayerNorm", ((3, 7), 0.1), {"bias": False}, (5, 3, 7)),
    ("GroupNorm", (2, 6), {}, (5, 6, 7)),
    ("GroupNorm", (1, 6, 0.1, False), {}, (5, 6, 4, 3)),
]  # fmt: skip
SPATIAL_IDS = [f"{name}{arguments}{options}{shape}" for name, arguments, options, shape in SPATIAL]


def spatial(index: int, dtype: str) -> tuple[Any, dict[str, NDArray[Any]], NDArray[Any]]:
    """The layer of a row of the table, its weights and x."""
    name, arguments, options, shape = SPATIAL[index]
    rng = np.random.default_rng(index)
    layer = getattr(onward, name)(*arguments, **options)
    if "dtype" in layer.config():
        layer = getattr(onward, name)(*arguments, **options, dtype=dtype)
    weights = {name: rng.uniform(0.2, 1, shape).astype(dtype) for name, shape in layer.shapes()}
    layer.load_state_dict(weights)
    return layer, weights, rng.standard_normal(shape).astype(dtype)


OPTION_CASES = [
    with_options(cell, bidirectional, dtype)
    for cell in OPTIONS
    for bidirectional in (False, True)
    for dtype in ("float32", "float64")
]


def options_of(case: Case) -> dict[str, Any]:
    """The options of a case's cell; for one direction, those of the first."""
    options = dict(OPTIONS.get(case.cell, {}))
    for name in ("nonlinearity", "activations"):
        chosen = options.get(name)
        if (
            chosen
            and not case.bidirectional
            and isinstance(chosen[0], tuple)
            and isinstance(chosen[1], tuple)
        ):
            options[name] = chosen[0]
    return options


def layer_of(case: Case, **changes: Any) -> Any:
    """The layer of a case, with its own random weights."""
    options = {
        "num_layers": case.layers,
        "bias": case.bias,
        "batch_first": case.batch_first,
        "bidirectional": case.bidirectional,
        "dtype": case.dtype,
    }
    options |= options_of(case)
    if case.cell in ("rnn_tanh", "rnn_relu"):
        options["nonlinearity"] = case.cell.removeprefix("rnn_")
    if case.cell.startswith("gru"):
        options["reset_after"] = not case.cell.startswith("gru_reset_before")
    if case.projected:
        options["proj_size"] = case.P
    layer_type = {"r": onward.RNN, "l": onward.LSTM, "g": onward.GRU}[case.cell[0]]
    return layer_type(case.I, case.H, **(options | changes))


def inputs_of(case: Case) -> Inputs:
    """Random weights, x, state and lengths, the same in every run."""
    rng = np.random.default_rng(zlib.crc32(case.id.encode()))
    parts = case.layers * (1 + case.bidirectional)

    def draw(*shape: int) -> NDArray[Any]:
        return rng.uniform(-2, 2, shape).astype(case.dtype)

    bound = case.H**-0.5
    weights = {
        name: rng.uniform(-bound, bound, shape).astype(case.dtype) for name, shape in layer_of(case).shapes()
    }
    return Inputs(
        weights,
        x=draw(case.T, case.B, case.I),
        h0=draw(parts, case.B, case.P) if case.state else None,
        c0=draw(parts, case.B, case.H) if case.state and case.cell.startswith("lstm") else None,
        lengths=1 + (rng.uniform(0, case.T, case.B)).astype(np.int64) if case.lengths else None,
    )


def run(
    case: Case, inputs: Inputs, layer: Any = None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Onward's y (T, B, D*P), h_n and c_n (or None), from a call in the layout of the case."""
    if layer is None:
        layer = layer_of(case)
        layer.load_state_dict(inputs.weights)
    x, h0, c0, lengths = inputs.x, inputs.h0, inputs.c0, inputs.lengths
    if case.unbatched:
        x, h0, c0, lengths = (
            None if a is None else a[..., 0, :] if a.ndim > 1 else a[0] for a in (x, h0, c0, lengths)
        )
    elif case.batch_first:
        x = x.swapaxes(0, 1)
    state = None if h0 is None else (h0, c0) if case.cell.startswith("lstm") else h0
    y, state = layer(x, state, lengths=lengths)
    h, c = state if case.cell.startswith("lstm") else (state, None)
    if case.unbatched:
        y, h, c = (None if a is None else a[:, None] for a in (y, h, c))
    elif case.batch_first:
        y = y.swapaxes(0, 1)
    return y, h, c


def output_gradients(case: Case) -> list[NDArray[Any]]:
    """Random gradients with respect to y (T, B, D*P), h_n and c_n (LSTM), the same in every run."""
    rng, D = np.random.default_rng(0), 1 + case.bidirectional
    shapes = [(case.T, case.B, D * case.P), (case.layers * D, case.B, case.P)]
    if case.cell == "lstm":
        shapes.append((case.layers * D, case.B, case.H))
    return [rng.standard_normal(shape).astype(case.dtype) for shape in shapes]


def gradients(case: Case, inputs: Inputs) -> dict[str, NDArray[Any]]:
    """Onward's gradients with respect to x, the initial state if there is one, and the weights."""
    layer = layer_of(case, batch_first=False)
    layer.load_state_dict(inputs.weights)
    lstm = case.cell == "lstm"
    state = None if inputs.h0 is None else (inputs.h0, inputs.c0) if lstm else inputs.h0
    _, _, cache = layer.forward(inputs.x, state, lengths=inputs.lengths)
    dy, dh, *dc = output_gradients(case)
    dx, dstate, by_weights = layer.backward(dy, (dh, *dc) if lstm else dh, cache)
    by_state = zip(("h0", "c0"), dstate if lstm else (dstate,), strict=False) if state is not None else ()
    return {"x": dx, **dict(by_state), **by_weights}


def sample(array: NDArray[Any], most: int = 120) -> NDArray[Any]:
    """Up to `most` elements at fixed positions of an array, as golden files store them."""
    places = np.random.default_rng(0).random(min(most, array.size)) * array.size
    return array.reshape(-1)[places.astype(np.int64)]
