"""Models written as ONNX: valid, the same when loaded again, and what cannot be written named."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import cases

import onward
from onward import errors
from onward.formats.onnx.model import Graph
from onward.layers import activations
from onward.layers.recurrent import Recurrent

OPTIONS = [(batch_first, bidirectional) for batch_first in (False, True) for bidirectional in (False, True)]


SIZES = {"features": 5, "channels": 6, "length": 20, "height": 9, "width": 7}
ALONE = [
    *(cases.spatial(index, "float32")[0] for index in range(len(cases.SPATIAL))),
    *(onward.Activation(name, *(0.3, 0.4)[: f.takes]) for name, f in activations.FUNCTIONS.items()),
    onward.Dropout(0.3),
    onward.Embedding(9, 4, rng=0),
    onward.Softmax(1),
]


def layer_of(cell: str, sizes: tuple[int, int], **options: Any) -> Any:
    if cell == "GRU, reset before":
        return onward.GRU(*sizes, reset_after=False, **options)
    return getattr(onward, cell)(*sizes, **options)


def model_of(cell: str, batch_first: bool, bidirectional: bool) -> onward.Sequential:
    options: dict[str, Any] = {"batch_first": batch_first, "bidirectional": bidirectional}
    D = 1 + bidirectional
    first = onward.Embedding(9, 4, rng=0) if bidirectional else onward.Linear(3, 4, bias=False, rng=0)
    last = [] if bidirectional else [onward.Last(batch_first)]
    return onward.Sequential(
        first,
        layer_of(cell, (4, 5), num_layers=2, rng=1, **options),
        onward.LSTM(5 * D, 7, bias=False, rng=2, **options),
        *last,
        onward.Linear(7 * D, 2, rng=3),
        onward.Softmax(),
    )


def drawn(seed: int) -> onward.Sequential:
    """A random model of up to five layers of any kind, those over steps or those over channels."""
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
    """A layer over steps of `size` features, and how many it gives."""
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
    """A layer over `size` channels, and how many it gives."""
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


def feeds_of(model: onnx.ModelProto, T: int, B: int) -> dict[str, Any]:
    """Random numbers for all that a graph takes."""
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


def answer_of(net: onward.Sequential, feeds: dict[str, Any]) -> list[Any]:
    """What the model gives for a graph's inputs, in the order of the graph's outputs."""
    own = {name.rpartition(".")[0]: name for name in feeds if name.endswith("h0")}
    states: list[Any] = [
        (feeds[name], feeds[name[:-2] + "c0"]) if name[:-2] + "c0" in feeds else feeds[name]
        for name in own.values()
    ]
    lengths = feeds.get("lengths")
    y, final = net(feeds["x"], states, lengths=lengths, return_state=True)
    recurrent = [layer for layer in net if isinstance(layer, Recurrent)]
    for layer, state in zip(recurrent, final, strict=True):
        # ONNX's nodes give zeros for rows of no steps, and it has none with projection
        if lengths is not None and not getattr(layer, "proj_size", 0):
            for part in state if isinstance(state, tuple) else (state,):
                part[:, lengths == 0] = 0
    flat = [part for state in final for part in (state if isinstance(state, tuple) else (state,))]
    return [y, *flat]


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("batch_first", "bidirectional"), OPTIONS)
@pytest.mark.parametrize("cell", ["RNN", "GRU", "GRU, reset before", "LSTM"])
def test_a_model_written_is_valid_and_comes_back_bitwise(
    tmp_path: Path, cell: str, batch_first: bool, bidirectional: bool, lengths: bool
) -> None:
    net = model_of(cell, batch_first, bidirectional)
    onward.export_onnx(net, tmp_path / "m.onnx", lengths=lengths)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    graph = onward.load(tmp_path / "m.onnx")
    assert isinstance(graph, Graph)
    for T, B in ((6, 4), (1, 1)):
        feeds = feeds_of(model, T, B)
        expected = answer_of(net, feeds)
        for mine, other in zip(graph(**feeds), expected, strict=True):
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("batch_first", "bidirectional"), OPTIONS)
@pytest.mark.parametrize("cell", ["RNN", "GRU", "GRU, reset before", "LSTM"])
def test_a_recurrent_layer_comes_back_bitwise(
    tmp_path: Path, cell: str, batch_first: bool, bidirectional: bool, lengths: bool
) -> None:
    layer = layer_of(cell, (4, 5), num_layers=2, batch_first=batch_first, bidirectional=bidirectional)
    onward.export_onnx(layer, tmp_path / "m.onnx", lengths=lengths)
    graph: Any = onward.load(tmp_path / "m.onnx")
    feeds = feeds_of(onnx.load(tmp_path / "m.onnx"), 6, 4)
    for mine, other in zip(graph(**feeds), answer_of(onward.Sequential(layer), feeds), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("batch_first", "bidirectional"), OPTIONS)
@pytest.mark.parametrize("cell", ["RNN", "GRU", "GRU, reset before", "LSTM", "projection"])
def test_the_layers_of_a_model_written_are_its_layers_again_bitwise(
    tmp_path: Path, cell: str, batch_first: bool, bidirectional: bool, lengths: bool
) -> None:
    # two directions with projection are two nodes side by side, which is no chain
    net = (
        projected(batch_first, False) if cell == "projection" else model_of(cell, batch_first, bidirectional)
    )
    onward.export_onnx(net, tmp_path / "m.onnx", lengths=lengths)
    graph: Any = onward.load(tmp_path / "m.onnx")
    feeds = feeds_of(onnx.load(tmp_path / "m.onnx"), 6, 4)
    given = {"lengths": feeds["lengths"]} if lengths else {}
    np.testing.assert_array_equal(graph.layers()(feeds["x"], **given), net(feeds["x"], **given))


def test_layers_that_act_on_each_step_come_back_and_stream(tmp_path: Path) -> None:
    names = ("relu", "silu", "relu6", "selu", "gelu", "mish", "hard_sigmoid_keras2", "elu", "softsign")
    between: list[Any] = [onward.Activation(name) for name in names]
    between += [onward.Activation("affine", 0.4, 0.1), onward.Activation("scaled_tanh", 0.9, 0.7)]
    net = onward.Sequential(
        onward.GRU(3, 5, rng=0), onward.LayerNorm(5, bias=False), *between, onward.Linear(5, 4, rng=1),
        onward.LayerNorm(4), onward.Softmax(),
    )  # fmt: skip
    onward.export_onnx(net, tmp_path / "m.onnx")
    graph: Any = onward.load(tmp_path / "m.onnx")
    assert [type(layer) for layer in graph.layers()] == [type(layer) for layer in net]
    x = np.random.default_rng(0).normal(0, 2, (6, 3)).astype(np.float32)
    np.testing.assert_array_equal(graph.stream()(x), net(x))


@pytest.mark.parametrize(
    "layer",
    [
        onward.RNN(3, 4, nonlinearity=(("leaky_relu", 0.2), "softsign"), bidirectional=True, clip=0.5, rng=0),
        onward.GRU(3, 4, activations=("hard_sigmoid", ("scaled_tanh", 0.9, 0.7)), clip=0.4, rng=0),
        onward.LSTM(3, 4, peephole=True, coupled=True, clip=0.3, rng=0),
        onward.LSTM(3, 4, activations=(("elu", 0.5), "linear", "hard_sigmoid_keras2"), rng=0),
    ],
    ids=repr,
)
def test_every_option_of_a_cell_is_written(tmp_path: Path, layer: Any) -> None:
    onward.export_onnx(layer, tmp_path / "m.onnx")
    graph: Any = onward.load(tmp_path / "m.onnx")
    feeds = feeds_of(onnx.load(tmp_path / "m.onnx"), 6, 4)
    for mine, other in zip(graph(**feeds), answer_of(onward.Sequential(layer), feeds), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6)  # ONNX has alpha and beta in float32


@pytest.mark.parametrize("layer", ALONE, ids=repr)
def test_every_layer_without_a_state_is_written_and_comes_back_bitwise(tmp_path: Path, layer: Any) -> None:
    onward.export_onnx(onward.Sequential(layer), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    graph: Any = onward.load(tmp_path / "m.onnx")
    feeds = feeds_of(model, 6, 4)
    np.testing.assert_array_equal(graph(**feeds)[0], layer(feeds["x"]))


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("seed", range(150))
def test_a_random_model_is_written_and_comes_back_bitwise(tmp_path: Path, seed: int, lengths: bool) -> None:
    net = drawn(seed)
    onward.export_onnx(net, tmp_path / "m.onnx", lengths=lengths)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    feeds = feeds_of(model, 6, 4)
    graph: Any = onward.load(tmp_path / "m.onnx")
    for mine, other in zip(graph(**feeds), answer_of(net, feeds), strict=True):
        np.testing.assert_array_equal(mine, other)


def projected(batch_first: bool, bidirectional: bool) -> onward.Sequential:
    """A model with two layers of LSTM with projection, one of them without biases."""
    options: dict[str, Any] = {"batch_first": batch_first, "bidirectional": bidirectional, "proj_size": 4}
    D = 1 + bidirectional
    return onward.Sequential(
        onward.LSTM(3, 7, num_layers=2, rng=0, **options),
        onward.LSTM(4 * D, 5, bias=False, rng=1, **options),
        onward.Last(batch_first),
        onward.Linear(4 * D, 2, rng=2),
    )


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("batch_first", "bidirectional"), OPTIONS)
def test_projection_is_written_as_a_function_and_comes_back_bitwise(
    tmp_path: Path, batch_first: bool, bidirectional: bool, lengths: bool
) -> None:
    net = projected(batch_first, bidirectional)
    onward.export_onnx(net, tmp_path / "m.onnx", lengths=lengths)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    graph: Any = onward.load(tmp_path / "m.onnx")
    for T, B in ((6, 9), (1, 1), (0, 2)):
        feeds = feeds_of(model, T, B)
        if lengths:
            feeds["lengths"][0] = 0
        elif T == 0:
            continue  # there is no last step
        for mine, other in zip(graph(**feeds), answer_of(net, feeds), strict=True):
            np.testing.assert_array_equal(mine, other)


def test_a_function_of_a_later_version_is_refused(tmp_path: Path) -> None:
    onward.export_onnx(onward.Sequential(onward.Activation("silu")), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    next(opset for opset in model.opset_import if opset.domain == "onward").version = 2
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(errors.FileError, match=r"onward.silu\) of opset 2"):
        onward.load(tmp_path / "m.onnx")


def test_weights_as_halves_are_written_in_float32_and_come_back_bitwise(tmp_path: Path) -> None:
    small = onward.Sequential(onward.GRU(3, 5, rng=0)).quantize("float16")
    onward.export_onnx(small, tmp_path / "m.onnx")
    graph: Any = onward.load(tmp_path / "m.onnx")
    feeds = feeds_of(onnx.load(tmp_path / "m.onnx"), 6, 4)
    for mine, other in zip(graph(**feeds), answer_of(small, feeds), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_float64_is_written_as_float64(tmp_path: Path) -> None:
    layer = onward.GRU(3, 4, dtype="float64", rng=0)
    onward.export_onnx(layer, tmp_path / "m.onnx")
    graph: Any = onward.load(tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(0, 1, (5, 2, 3))
    y, h = graph(x, np.zeros((1, 2, 4)))
    np.testing.assert_array_equal(y, layer(x)[0])
    assert y.dtype == h.dtype == np.float64


@pytest.mark.parametrize(
    "layer",
    [
        onward.LSTM(3, 4, proj_size=2, clip=1),
        onward.Sequential(onward.GRU(3, 4)).quantize("int8"),
        onward.GRU(3, 4, activations=("selu", "mish")),
    ],
    ids=repr,
)
def test_what_cannot_be_written_is_named_and_nothing_is_written(tmp_path: Path, layer: Any) -> None:
    with pytest.raises(errors.ArgumentError, match="cannot be written as ONNX"):
        onward.export_onnx(layer, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
