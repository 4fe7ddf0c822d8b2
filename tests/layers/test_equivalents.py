"""The names that users of PyTorch and Keras type either work or raise an error with Onward's equivalent."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from support.in_one_test import in_one_test

import onward
from onward.core.equivalents import ATTRIBUTES
from onward.errors import ArgumentError, DtypeError, LayerAttributeError, SignatureError

X = np.zeros((6, 4, 5), np.float32)


def models() -> list[Any]:
    return [
        onward.LSTM(5, 7, rng=0),
        onward.Linear(5, 7, rng=0),
        onward.Sequential(onward.LSTM(5, 7, rng=0), onward.Last(), onward.Linear(7, 2, rng=0)),
    ]


@pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)
@in_one_test("name", ATTRIBUTES)
def test_a_familiar_attribute_raises_an_error_with_the_equivalent(model: Any, name: str) -> None:
    assert not hasattr(model, name)
    with pytest.raises(LayerAttributeError) as error:
        getattr(model, name)
    assert str(error.value).endswith(ATTRIBUTES[name])


def test_every_equivalent_exists() -> None:
    model = models()[0]
    for name in ("forward", "backward", "quantize", "save", "config", "stream", "sublayers", "summary"):
        assert f"model.{name}(" in " ".join(ATTRIBUTES.values())
        assert callable(getattr(model, name))
    assert callable(onward.train.fit)
    assert callable(onward.train.evaluate)


def test_eval_and_cpu_return_the_model() -> None:
    for model in models():
        assert model.eval() is model
        assert model.cpu() is model


def test_summary_prints_a_row_for_each_layer(capsys: pytest.CaptureFixture[str]) -> None:
    models()[2].summary()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["0", "LSTM"], ["1", "Last"], ["2", "Linear"]]
    assert "408 " in lines[4] + " "  # 4*7*(5+7+2) + 2*7 + 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"hx": None}, "a call of LSTM has no argument hx; it takes .*; hx: pass the state as the second"),
        ({"training": False}, "training: omit it"),
        ({"mask": None}, "mask: pass the number of valid steps of each row as lengths"),
    ],
)
def test_a_familiar_argument_of_a_call_raises_an_error_with_the_equivalent(
    arguments: dict[str, Any], words: str
) -> None:
    layer, _, sequential = models()
    with pytest.raises(SignatureError, match=words):
        layer(X, **arguments)
    with pytest.raises(SignatureError, match=words.replace("LSTM", "Sequential")):
        sequential(X, **arguments)


@pytest.mark.parametrize(
    "layer",
    [
        *(onward.Linear(5, 7), onward.Embedding(5, 7), onward.Conv1d(4, 2, 1), onward.MaxPool1d(2)),
        *(onward.AvgPool1d(2), onward.LayerNorm(5), onward.BatchNorm1d(4), onward.GroupNorm(2, 4)),
        *(onward.Activation("tanh"), onward.Softmax(), onward.Dropout(0.5), onward.Last()),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_familiar_argument_of_a_call_of_any_layer_raises_an_error_with_the_equivalent(layer: Any) -> None:
    with pytest.raises(SignatureError, match=r"has no argument training; it takes .*; training: "):
        layer(X, training=False)


def test_a_familiar_argument_of_a_constructor_raises_an_error_with_the_equivalent() -> None:
    with pytest.raises(SignatureError, match="units: pass input_size and hidden_size"):
        onward.LSTM(units=64)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["hidden_size", "bias", "batch_first", "dtype", "precision", "causal"])
def test_hyperparameters_are_read_only(name: str) -> None:
    layer = models()[0]
    with pytest.raises(LayerAttributeError, match=f"LSTM.{name} is read-only: .* load_state_dict"):
        setattr(layer, name, getattr(layer, name))
    with pytest.raises(LayerAttributeError, match="layers is read-only"):
        models()[2].layers = ()


def test_weights_are_read_only_attributes() -> None:
    layer = models()[0]
    np.testing.assert_array_equal(layer.weight_hh_l0, layer.state_dict()["weight_hh_l0"])
    with pytest.raises(ValueError, match="read-only"):
        layer.weight_hh_l0[:] = 0
    with pytest.raises(LayerAttributeError, match="weight_hh_l0 is a weight and read-only: use load_state_"):
        layer.weight_hh_l0 = 0


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_read_only_as_well(copied: Any) -> None:
    layer = copied(models()[0])
    with pytest.raises(LayerAttributeError, match="read-only"):
        layer.hidden_size = 8


def test_masked_arrays_are_rejected_instead_of_losing_their_mask() -> None:
    layer, linear, sequential = models()
    masked = np.ma.masked_array(X, mask=np.ones_like(X, bool))
    for model in (layer, linear, sequential):
        for x in (masked, list(masked)):
            with pytest.raises(DtypeError, match="x is a masked array: convert it with"):
                model(x)
    with pytest.raises(DtypeError, match="h0 is a masked array"):
        layer(X, (np.ma.zeros((1, 4, 7)), np.zeros((1, 4, 7))))


LAYERS_AFTER_LAST = [
    onward.GRU(7, 3),
    onward.Last(),
    onward.Conv1d(4, 2, 1),
    onward.MaxPool1d(2),
    onward.LayerNorm((4, 7)),
]


@pytest.mark.parametrize("layer", LAYERS_AFTER_LAST, ids=lambda layer: type(layer).__name__)
def test_a_layer_that_takes_sequences_is_rejected_after_last(layer: Any) -> None:
    with pytest.raises(ArgumentError, match=r"layer 3, .*, needs a time axis, but layer 1, Last"):
        onward.Sequential(onward.LSTM(5, 7), onward.Last(), onward.Linear(7, 7), layer)


def test_a_slice_of_a_sequential_is_a_sequential_of_the_same_layers() -> None:
    model = models()[2]
    head = model[:2]
    assert isinstance(head, onward.Sequential)
    assert list(head) == [model[0], model[1]]
    np.testing.assert_array_equal(model[2](head(X)), model(X))
    assert len(model[3:]) == 0
