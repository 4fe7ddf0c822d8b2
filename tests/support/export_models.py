"""Models that the export tests write as ONNX, with inputs for the graphs and the outputs to expect."""

from typing import Any

import numpy as np
import onnx

import onward
from onward.core import activations

from . import cases

OPTIONS = [(batch_first, bidirectional) for batch_first in (False, True) for bidirectional in (False, True)]


SIZES = {"features": 5, "channels": 6, "length": 20, "height": 9, "width": 7}
STATELESS_LAYERS = [
    *(cases.spatial(index, "float32")[0] for index in range(len(cases.SPATIAL))),
    *(onward.Activation(name, *(0.3, 0.4)[: f.takes]) for name, f in activations.FUNCTIONS.items()),
    onward.Dropout(0.3),
    onward.Embedding(9, 4, rng=0),
    onward.Softmax(1),
]


PRECISIONS = ["int8", "float16"]
# layers that no operator of ONNX expresses, unless they are quantized
FUNCTION_LAYERS: list[Any] = [
    *(onward.LSTM(7, 33, rng=0, proj_size=size) for size in (0, 5)),
    *(onward.GRU(7, 33, rng=0, reset_after=reset_after) for reset_after in (False, True)),
    onward.RNN(7, 33, bias=False, rng=0),
    onward.LSTM(7, 5, 2, bidirectional=True, proj_size=2, clip=0.5, peephole=True, coupled=True, rng=0),
    onward.LSTM(7, 5, activations=("hard_sigmoid", "mish", "gelu"), bias=False, rng=0),
    onward.GRU(7, 5, activations=("sigmoid", "selu"), rng=0),
    onward.GRU(7, 5, 2, bidirectional=True, clip=0.4, reset_after=False, rng=0),
    onward.RNN(7, 5, nonlinearity=(("leaky_relu", 0.2), "silu"), bidirectional=True, rng=0),
    onward.RNN(7, 1, nonlinearity="relu6", rng=0),
]


def recurrent_layer(cell: str, sizes: tuple[int, int], **options: Any) -> Any:
    if cell == "GRU, reset before":
        return onward.GRU(*sizes, reset_after=False, **options)
    return getattr(onward, cell)(*sizes, **options)


def recurrent_model(cell: str, batch_first: bool, bidirectional: bool) -> onward.Sequential:
    options: dict[str, Any] = {"batch_first": batch_first, "bidirectional": bidirectional}
    D = 1 + bidirectional
    first = onward.Embedding(9, 4, rng=0) if bidirectional else onward.Linear(3, 4, bias=False, rng=0)
    last = [] if bidirectional else [onward.Last(batch_first)]
    return onward.Sequential(
        first,
        recurrent_layer(cell, (4, 5), num_layers=2, rng=1, **options),
        onward.LSTM(5 * D, 7, bias=False, rng=2, **options),
        *last,
        onward.Linear(7 * D, 2, rng=3),
        onward.Softmax(),
    )


def random_model(seed: int) -> onward.Sequential:
    """A random model of up to five layers, all over steps or all over channels."""
    rng = np.random.default_rng(seed)
    batch_first = bool(rng.integers(2))
    size, layers = int(rng.integers(2, 6)), list[Any]()
    if over_channels := rng.integers(4) == 0:
        size = SIZES["channels"]
    elif rng.integers(4) == 0:
        layers.append(onward.Embedding(9, size, rng=seed))
    for _ in range(rng.integers(1, 6)):
        drawing = channel_layer if over_channels else step_layer
        layer, size = drawing(rng, size, batch_first)
        layers.append(layer)
    if not over_channels and rng.integers(2):
        layers.append(onward.Last(batch_first))
    layers.append(activation(rng))
    return onward.Sequential(*layers)


def activation(rng: np.random.Generator) -> onward.Activation:
    name = str(rng.choice([name for name in activations.FUNCTIONS if name != "exponential"]))
    return onward.Activation(name, *(0.3, 0.4)[: activations.FUNCTIONS[name].takes])


def step_layer(rng: np.random.Generator, size: int, batch_first: bool) -> tuple[Any, int]:
    """A random layer over steps of `size` features, and the number of its output features."""
    hidden, D = int(rng.integers(2, 6)), int(rng.integers(1, 3))
    seed, flag = int(rng.integers(100)), bool(rng.integers(2))
    options: dict[str, Any] = {"batch_first": batch_first, "bidirectional": D == 2, "bias": flag, "rng": seed}
    options["num_layers"] = int(rng.integers(1, 3))
    match rng.integers(12):
        case 0:
            return onward.LSTM(size, hidden, **options), hidden * D
        case 1:
            return onward.LSTM(size, hidden, proj_size=hidden - 1, **options), (hidden - 1) * D
        case 2:
            return onward.LSTM(size, hidden, peephole=True, coupled=flag, clip=0.5, **options), hidden * D
        case 3:
            return onward.GRU(size, hidden, reset_after=bool(rng.integers(2)), **options), hidden * D
        case 4:
            return onward.GRU(size, hidden, activations=("hard_sigmoid", "softsign"), **options), hidden * D
        case 5:
            nonlinearity = str(rng.choice(["tanh", "relu", "sigmoid", "softsign"]))
            return onward.RNN(size, hidden, nonlinearity=nonlinearity, **options), hidden * D
        case 6 | 7:
            return onward.Linear(size, hidden, bias=flag, rng=seed), hidden
        case 8 | 9:
            return onward.LayerNorm(size, bias=flag), size
        case 10:
            return [onward.Softmax(), onward.Dropout(0.3)][int(flag)], size
        case _:
            return activation(rng), size


def channel_layer(rng: np.random.Generator, size: int, batch_first: bool) -> tuple[Any, int]:
    """A random layer over `size` channels, and the number of its output channels."""
    seed, flag = int(rng.integers(100)), bool(rng.integers(2))
    match rng.integers(6):
        case 0:
            return onward.Conv1d(size, size, 3, padding="same", groups=1 + flag, bias=flag, rng=seed), size
        case 1:
            return onward.MaxPool1d(3, stride=1, padding=1), size
        case 2:
            return onward.AvgPool1d(3, stride=1, padding=1, count_include_pad=flag), size
        case 3:
            return onward.BatchNorm1d(size, affine=flag), size
        case 4:
            return onward.GroupNorm(2, size, affine=flag), size
        case _:
            return activation(rng), size


def random_inputs(model: onnx.ModelProto, T: int, B: int) -> dict[str, Any]:
    """Random arrays for the inputs of a graph."""
    rng = np.random.default_rng(T)
    sizes, feeds = SIZES | {"time": T, "batch": B}, {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [sizes.get(axis.dim_param, axis.dim_value) for axis in kind.shape.dim]
        integers = rng.integers(0, T + 1 if value.name == "lengths" else 9, shape)
        floats = rng.normal(0, 1, shape)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        feeds[value.name] = (floats if dtype.kind == "f" else integers).astype(dtype)
    return feeds


def expected_outputs(net: onward.Sequential, feeds: dict[str, Any]) -> list[Any]:
    """The model's outputs for a graph's inputs, in the order of the graph's outputs."""
    own = {name.rpartition(".")[0]: name for name in feeds if name.endswith("h0")}
    states: list[Any] = [
        (feeds[name], feeds[name[:-2] + "c0"]) if name[:-2] + "c0" in feeds else feeds[name]
        for name in own.values()
    ]
    lengths = feeds.get("lengths")
    y, final = net(feeds["x"], states, lengths=lengths, return_state=True)
    flat = [part for state in final for part in (state if isinstance(state, tuple) else (state,))]
    return [y, *flat]


def projected_model(batch_first: bool, bidirectional: bool) -> onward.Sequential:
    """A model of two LSTMs with projection, one without biases."""
    options: dict[str, Any] = {"batch_first": batch_first, "bidirectional": bidirectional, "proj_size": 4}
    D = 1 + bidirectional
    return onward.Sequential(
        onward.LSTM(3, 7, num_layers=2, rng=0, **options),
        onward.LSTM(4 * D, 5, bias=False, rng=1, **options),
        onward.Last(batch_first),
        onward.Linear(4 * D, 2, rng=2),
    )
