"""The base class of layers: state dicts, configuration, repr and copies."""

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError
from onward.layers.base import Layer

LAYERS = [
    onward.RNN(5, 7, nonlinearity="relu", bias=False, rng=0),
    onward.LSTM(5, 7, num_layers=3, bidirectional=True, proj_size=2, rng=0),
    onward.GRU(5, 7, reset_after=False, batch_first=True, dropout=0.5, dtype="float64", rng=0),
    onward.Linear(5, 7, bias=False, rng=0),
    onward.Embedding(5, 7, padding_idx=0, rng=0),
    onward.Last(batch_first=True),
    onward.Softmax(dim=0),
    onward.Conv1d(6, 4, 3, padding="same", groups=2, rng=0),
    onward.Conv2d(6, 4, (3, 2), stride=(2, 1), bias=False, dtype="float64", rng=0),
    onward.MaxPool1d(3, ceil_mode=True),
    onward.MaxPool2d((3, 2), 1),
    onward.AvgPool1d(3, count_include_pad=False),
    onward.AvgPool2d((3, 2), padding=(1, 0)),
    onward.BatchNorm1d(6, 0.1),
    onward.BatchNorm2d(6, affine=False),
    onward.LayerNorm((3, 7), bias=False),
    onward.GroupNorm(2, 6, dtype="float64"),
]
every_layer = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)


def assert_same_weights(one: Any, other: Any) -> None:
    weights = other.state_dict()
    assert one.state_dict().keys() == weights.keys()
    for name, weight in one.state_dict().items():
        assert weight.dtype == weights[name].dtype
        np.testing.assert_array_equal(weight, weights[name])


@every_layer
def test_config_rebuilds_the_layer_through_json(layer: Any) -> None:
    again = type(layer)(**json.loads(json.dumps(layer.config())))
    assert again.config() == layer.config()
    again.load_state_dict(layer.state_dict())
    assert_same_weights(again, layer)


@every_layer
def test_repr_is_the_constructor_call(layer: Any) -> None:
    assert eval(f"onward.{layer!r}").config() == layer.config()


def test_repr_omits_default_arguments() -> None:
    assert [repr(layer) for layer in LAYERS[:3]] == [
        "RNN(5, 7, nonlinearity='relu', bias=False)",
        "LSTM(5, 7, num_layers=3, bidirectional=True, proj_size=2)",
        "GRU(5, 7, batch_first=True, dropout=0.5, reset_after=False, dtype='float64')",
    ]


@every_layer
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda layer: pickle.loads(pickle.dumps(layer))]
)
def test_copies_are_equal_and_independent(layer: Any, copied: Any) -> None:
    other, before = copied(layer), copy.deepcopy(layer)
    assert other.config() == layer.config()
    assert_same_weights(other, layer)
    other.load_state_dict({name: weight + 1 for name, weight in layer.state_dict().items()})
    assert_same_weights(layer, before)


def test_state_dict_and_load_state_dict_copy() -> None:
    layer = onward.GRU(5, 7, rng=0)
    weights = layer.state_dict()
    before = copy.deepcopy(weights)
    weights["bias_ih_l0"][:] = 7
    np.testing.assert_array_equal(layer.state_dict()["bias_ih_l0"], before["bias_ih_l0"])
    layer.load_state_dict(weights)
    weights["bias_ih_l0"][:] = 8
    np.testing.assert_array_equal(layer.state_dict()["bias_ih_l0"], 7)


@pytest.mark.parametrize("turn", [np.asfortranarray, lambda a: a.astype(">f8"), lambda a: a.tolist()])
def test_load_state_dict_accepts_any_memory_layout_and_dtype(turn: Any) -> None:
    layer, x = onward.LSTM(5, 7, rng=0), np.ones((6, 4, 5))
    y, _ = layer(x)
    layer.load_state_dict({name: turn(weight) for name, weight in layer.state_dict().items()})
    np.testing.assert_array_equal(layer(x)[0], y)


def test_load_state_dict_reports_all_problems_and_changes_nothing() -> None:
    layer = onward.LSTM(5, 7, rng=0)
    weights = layer.state_dict()
    before = copy.deepcopy(weights)
    del weights["bias_hh_l0"]
    weights |= {
        "weight_hh_l1": np.zeros(3),
        "weight_ih_l0": np.zeros((28, 6)),
        "weight_hh_l0": weights["weight_hh_l0"].astype(np.complex64),
        "bias_ih_l0": np.ones(28),
    }
    with pytest.raises(ArgumentError) as error:
        layer.load_state_dict(weights)
    assert str(error.value).splitlines() == [
        "LSTM(5, 7) cannot take these weights:",
        "  bias_hh_l0 is missing; expected shape (28,)",
        "  weight_hh_l1 is not expected",
        "  weight_ih_l0 has shape (28, 6); expected (28, 5)",
        "  weight_hh_l0 has dtype complex64, but must hold booleans, integers or floats: convert it first",
    ]
    assert all(np.array_equal(layer.state_dict()[name], before[name]) for name in before)


def test_non_strict_load_state_dict_loads_matching_names() -> None:
    layer = onward.Linear(5, 7, rng=0)
    bias = layer.state_dict()["bias"]
    result = layer.load_state_dict({"weight": np.ones((7, 5)), "scale": np.ones(7)}, strict=False)
    assert (result.missing_keys, result.unexpected_keys) == (["bias"], ["scale"])
    np.testing.assert_array_equal(layer.state_dict()["weight"], 1)
    np.testing.assert_array_equal(layer.state_dict()["bias"], bias)
    with pytest.raises(ArgumentError, match=r"weight has shape \(5, 7\); expected \(7, 5\)"):
        layer.load_state_dict({"weight": np.ones((5, 7))}, strict=False)


def test_load_state_dict_rejects_other_types() -> None:
    with pytest.raises(ArgumentError, match="takes a dict of arrays by name, not str"):
        onward.Linear(5, 7).load_state_dict("weights.npz")  # type: ignore[arg-type]


class Branches(Layer):
    """Adds the outputs of two layers."""

    def __init__(self) -> None:
        self.layers = {
            "a.": onward.GRU(5, 7, batch_first=True, rng=0),
            "b.": onward.LSTM(5, 7, batch_first=True),
        }

    def sublayers(self) -> dict[str, Layer]:
        return dict(self.layers)


def test_a_model_of_several_layers_has_their_states_weights_and_order_of_axes() -> None:
    model = Branches()
    assert model.batch_first
    assert list(model.split_states(None)) == [None, None]
    assert model.join_states([1, 2]) == [1, 2]
    with pytest.raises(ArgumentError, match="state is 1 states, but must be a list of 2"):
        model.split_states([None])
    weights = model.state_dict()
    assert {name.partition(".")[0] for name in weights} == {"a", "b"}
    model.load_state_dict({name: weight + 1 for name, weight in weights.items()})
    np.testing.assert_array_equal(
        model.layers["a."].state_dict()["weight_ih_l0"], weights["a.weight_ih_l0"] + 1
    )
