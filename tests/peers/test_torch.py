"""Recurrent layers and the layers around them, against PyTorch, on the table of cases."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import cases
from support.cases import CASES, SPATIAL, SPATIAL_IDS, TOLERANCE, Case
from support.frameworks import spatial_answer, torch_answer, torch_module

import onward

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

TORCH_CASES = [case for case in CASES if case.cell != "gru_reset_before"]


@pytest.mark.parametrize("case", TORCH_CASES, ids=lambda case: case.id)
def test_outputs_are_those_of_torch(case: Case) -> None:
    inputs = cases.inputs_of(case)
    for mine, theirs in zip(cases.run(case, inputs), torch_answer(case, inputs), strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE[case.dtype])


@pytest.mark.parametrize("case", TORCH_CASES, ids=lambda case: case.id)
def test_state_dicts_have_torchs_names_shapes_and_order(case: Case) -> None:
    theirs = {name: tuple(weight.shape) for name, weight in torch_module(case).state_dict().items()}
    assert list(cases.layer_of(case).shapes()) == list(theirs.items())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RNN", (5, 7, 2, "relu", False, True, 0.25, True)),
        ("LSTM", (5, 7, 2, False, True, 0.25, True, 3)),
        ("GRU", (5, 7, 2, False, True, 0.25, True)),
        ("Linear", (5, 7, False)),
        ("Embedding", (5, 7, -2)),
        ("Conv1d", (6, 4, 3, 2, 1, 3, 2, False)),
        ("Conv2d", (6, 4, (3, 2), (2, 1), (1, 0), (1, 3), 2)),
        ("MaxPool1d", (3, 2, 1, 2)),
        ("AvgPool2d", (3, 2, 1, True, False)),
        ("BatchNorm1d", (6, 0.1, 0.2, False)),
        ("LayerNorm", ((3, 6), 0.1, True, False)),
        ("GroupNorm", (2, 6, 0.1, False)),
    ],
)
def test_positional_arguments_are_those_of_torch(name: str, arguments: tuple[Any, ...]) -> None:
    mine, theirs = getattr(onward, name)(*arguments), getattr(torch.nn, name)(*arguments)
    for argument, value in mine.config().items():
        if hasattr(theirs, argument) and argument not in ("dtype", "bias"):
            of_theirs = getattr(theirs, argument)
            assert of_theirs in (value, (value,), (value, value)), (
                argument
            )  # torch repeats some for each axis
    assert list(mine.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(9, 3, 5), (9, 5)])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_return_values_have_torchs_layout(name: str, shape: tuple[int, ...], batch_first: bool) -> None:
    theirs = getattr(torch.nn, name)(5, 7, 2, batch_first=batch_first, bidirectional=True)
    mine = getattr(onward, name)(5, 7, 2, batch_first=batch_first, bidirectional=True)
    mine.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    my_y, my_state = mine(x)
    with torch.no_grad():
        their_y, their_state = theirs(torch.from_numpy(x))
    np.testing.assert_allclose(my_y, their_y.numpy(), rtol=0, atol=2e-6)
    if name != "LSTM":
        my_state, their_state = (my_state,), (their_state,)
    for my_part, their_part in zip(my_state, their_state, strict=True):
        np.testing.assert_allclose(my_part, their_part.numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(40,), (17, 40), (2, 3, 40)])
def test_linear_gives_the_outputs_of_torch(shape: tuple[int, ...]) -> None:
    theirs, mine = torch.nn.Linear(40, 7), onward.Linear(40, 7)
    mine.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(mine(x), theirs(torch.from_numpy(x)).detach().numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("index", range(len(SPATIAL)), ids=SPATIAL_IDS)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_convolution_pooling_and_normalization_give_the_outputs_of_torch(index: int, dtype: str) -> None:
    layer, _, x = cases.spatial(index, dtype)
    mine, theirs = layer(x), spatial_answer(index, dtype)
    assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
    np.testing.assert_allclose(mine, theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_state_dicts_of_recurrent_layers_load_into_torch(dtype: Any) -> None:
    """A model trained in Onward runs in torch: same names, shapes and dtypes, same outputs."""
    options: Any = {"bidirectional": True, "batch_first": True}
    mine = onward.Sequential(
        onward.Linear(5, 6, dtype=dtype, rng=0),
        onward.LSTM(6, 7, 2, proj_size=3, **options, dtype=dtype, rng=1),
        onward.LayerNorm(6, dtype=dtype),
        onward.GRU(6, 4, bias=False, **options, dtype=dtype, rng=2),
        onward.RNN(8, 3, nonlinearity="relu", batch_first=True, dtype=dtype, rng=3),
    )
    theirs = torch.nn.ModuleList(
        [
            torch.nn.Linear(5, 6),
            torch.nn.LSTM(6, 7, 2, proj_size=3, **options),
            torch.nn.LayerNorm(6),
            torch.nn.GRU(6, 4, bias=False, **options),
            torch.nn.RNN(8, 3, nonlinearity="relu", batch_first=True),
        ]
    ).to(getattr(torch, dtype))
    theirs.load_state_dict({name: torch.from_numpy(weight) for name, weight in mine.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((3, 9, 5)).astype(dtype)
    y = torch.from_numpy(x)
    for module in theirs:
        y = module(y)[0] if isinstance(module, torch.nn.RNNBase) else module(y)
    np.testing.assert_allclose(mine(x), y.detach().numpy(), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("index", range(len(SPATIAL)), ids=SPATIAL_IDS)
def test_state_dicts_of_other_layers_load_into_torch(index: int) -> None:
    name, arguments, options, _ = SPATIAL[index]
    layer, weights, _ = cases.spatial(index, "float32")
    theirs = getattr(torch.nn, name)(*arguments, **options)
    theirs.load_state_dict({name: torch.from_numpy(weight) for name, weight in layer.state_dict().items()})
    for name, weight in theirs.state_dict().items():
        if weight.is_floating_point():  # num_batches_tracked is not
            np.testing.assert_array_equal(weight.numpy(), weights[name])


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax_gives_the_outputs_of_torch_for_infinities_and_nan(dim: int) -> None:
    x = np.random.default_rng(0).standard_normal((6, 5, 6)) * 50
    x[0, 0, 0], x[1, :, 1], x[2, 2, 2], x[:, 3, 3], x[3, 4] = np.nan, -np.inf, np.inf, -np.inf, -np.inf
    theirs = torch.nn.Softmax(dim)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(onward.Softmax(dim)(x), theirs, rtol=1e-14, atol=1e-300)


def test_a_module_saved_as_safetensors_loads_as_layers(tmp_path: Path) -> None:
    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(11, 5)
            self.encoder = torch.nn.ModuleDict(
                {"lstm": torch.nn.LSTM(5, 7, 2, bidirectional=True, proj_size=3)}
            )
            self.norm = torch.nn.LayerNorm(6)
            self.gru = torch.nn.GRU(6, 4, bias=False, dtype=torch.bfloat16)
            self.fc = torch.nn.Linear(4, 2)

    module = Tagger()
    save_file(module.state_dict(), tmp_path / "tagger.safetensors")
    parts = onward.load(tmp_path / "tagger.safetensors")
    assert {prefix: repr(layer) for prefix, layer in parts.items()} == {
        "embedding": "Embedding(11, 5)",
        "encoder.lstm": "LSTM(5, 7, num_layers=2, bidirectional=True, proj_size=3)",
        "gru": "GRU(6, 4, bias=False)",
        "fc": "Linear(4, 2)",
    }
    assert sorted(parts.leftover) == ["norm.bias", "norm.weight"]
    for prefix, layer in parts.items():
        for name, weight in layer.state_dict().items():
            np.testing.assert_array_equal(weight, module.state_dict()[f"{prefix}.{name}"].float().numpy())
