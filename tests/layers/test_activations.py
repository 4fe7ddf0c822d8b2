"""Activation functions by name: definitions, parameters, errors, and saving."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from support import oracle
from support.cases import TOLERANCE

import onward
from onward.core.activations import FUNCTIONS
from onward.errors import ArgumentError

PARAMETERS = {"affine": (0.7, -0.3), "scaled_tanh": (1.3, 0.6)}
X = np.linspace(-9, 9, 1001)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_match_naive_definitions_with_their_defaults(name: str, dtype: str) -> None:
    parameters = PARAMETERS.get(name, ())
    y = onward.Activation(name, *parameters)(X.astype(dtype))
    assert y.dtype == dtype
    right = oracle.FUNCTIONS[name](X.astype(dtype).astype(np.float64), *parameters)
    np.testing.assert_allclose(y, right, rtol=0, atol=TOLERANCE[dtype] * max(1, abs(right).max()))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("elu", (0.3,)), ("hard_sigmoid", (0.3, 0.4)), ("leaky_relu", (0.2,)), ("thresholded_relu", (0.5,))],
)
def test_parameters_override_the_defaults(name: str, parameters: tuple[float, ...]) -> None:
    y = onward.Activation(name, *parameters)(X)
    np.testing.assert_allclose(y, oracle.FUNCTIONS[name](X, *parameters), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5, 7), (2, 3, 4)])
def test_any_shape_and_stride(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).T
    y = onward.Activation("relu")(x)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    assert not np.shares_memory(x, y)


KINKS = (-3, 0, 1, 3, 6)  # of the functions with their defaults


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_equal_central_differences(name: str) -> None:
    layer, step = onward.Activation(name, *PARAMETERS.get(name, ())), 1e-6
    x = X[np.abs(X[:, None] - (*KINKS, -2.5, 2.5)).min(1) > 1e-3]
    y, _, cache = layer.forward(x)
    np.testing.assert_array_equal(y, layer(x))
    dy = np.random.default_rng(0).standard_normal(x.shape)
    dx, _, gradients = layer.backward(dy, None, cache)
    right = dy * (layer(x + step) - layer(x - step)) / (2 * step)
    np.testing.assert_allclose(dx, right, rtol=1e-6, atol=1e-8 * max(1, np.abs(y).max()))
    assert not gradients
    small = layer.backward(dy.astype(np.float32), None, layer.forward(x.astype(np.float32))[2])[0]
    np.testing.assert_allclose(small, dx, rtol=1e-5, atol=1e-5)
    assert small.dtype == np.float32


LIMITS = {
    "linear": (-np.inf, np.inf), "gelu": (0, np.inf), "silu": (0, np.inf), "mish": (0, np.inf),
    "softplus": (0, np.inf), "softsign": (-1, 1), "elu": (-1, np.inf), "hard_sigmoid": (0, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinities_give_limits_and_nan_gives_nan(isa: str, name: str, dtype: str) -> None:
    y = onward.Activation(name)(np.array([-np.inf, np.inf, np.nan], dtype))
    np.testing.assert_array_equal(y, [*LIMITS[name], np.nan])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: onward.Activation("selo"), "name='selo'; expected one of affine, elu, "),
        (lambda: onward.Activation("relu", 1), r"name=\('relu', 1\) has 1 parameters; relu takes 0"),
        (lambda: onward.Activation("affine"), "has 0 parameters; affine takes 2"),
        (lambda: onward.Activation("elu", float("nan")), "has a parameter that is not a finite number"),
        (lambda: onward.LSTM(3, 4, activations="tanh"), r"expected 3 functions \(gate, cell, output\)"),
        (lambda: onward.LSTM(3, 4, activations=("tanh", "tanh")), "expected 3 functions"),
        (lambda: onward.GRU(3, 4, activations=("tanh", ("elu", "1"))), "expected 2 functions"),
        (
            lambda: onward.GRU(3, 4, activations=("tanh", ("elu", True))),
            "has a parameter that is not a finite number",
        ),
        (
            lambda: onward.GRU(3, 4, activations=(("tanh", "tanh"), ("relu", "tanh"))),
            "for a bidir",
        ),
        (lambda: onward.RNN(3, 4, nonlinearity=("tanh", "relu")), "expected the name of a function"),
        (lambda: onward.Activation("elu", 10**400), "has a parameter that is not a finite number"),
        (lambda: onward.RNN(3, 4, clip=10**400), "must be a positive number"),
        (lambda: onward.RNN(3, 4, clip=0), "clip=0, but must be a positive number"),
        (lambda: onward.LSTM(3, 4, clip=float("inf")), "clip=inf, but must be a positive number"),
        (lambda: onward.LSTM(3, 4, peephole=1), "peephole=1, but must be True or False"),
        (lambda: onward.LSTM(3, 4, coupled=None), "coupled=None, but must be True or False"),
    ],
)
def test_invalid_functions_are_rejected(make: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        make()


LAYERS = [
    onward.Activation("leaky_relu", alpha=0.2),
    onward.RNN(3, 4, nonlinearity=("elu", 0.5), clip=2),
    onward.RNN(3, 4, nonlinearity=("tanh", ("elu", 0.5)), bidirectional=True),
    onward.LSTM(3, 4, 2, bidirectional=True, peephole=True, coupled=True, clip=0.5),
    onward.LSTM(
        3, 4, bidirectional=True,
        activations=(("sigmoid", "relu", "tanh"), (("hard_sigmoid", 0.2), "selu", "elu")),
    ),
    onward.GRU(3, 4, activations=("hard_sigmoid_keras2", "tanh"), clip=1),
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_saving_and_loading_preserves_a_layer(layer: Any, tmp_path: Path) -> None:
    layer.save(tmp_path / "layer.safetensors")
    loaded: Any = onward.load(tmp_path / "layer.safetensors")
    assert repr(loaded) == repr(layer)
    assert loaded.config() == layer.config()
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_array_equal(layer(x)[0], loaded(x)[0])


def test_peephole_weights_have_the_suffix_of_their_direction() -> None:
    names = [name for name, _ in onward.LSTM(3, 4, 2, bidirectional=True, peephole=True).shapes()]
    peepholes = [name for name in names if "peephole" in name]
    assert peepholes == [f"weight_peephole_l{layer}{end}" for layer in (0, 1) for end in ("", "_reverse")]


def test_default_functions_by_name_give_the_bits_of_the_plain_cell() -> None:
    x = np.random.default_rng(0).standard_normal((9, 2, 5)).astype(np.float32)
    plain, clipped = onward.LSTM(5, 33, rng=0), onward.LSTM(5, 33, clip=1e30, rng=0)
    np.testing.assert_array_equal(plain(x)[0], clipped(x)[0])


def test_peepholes_in_a_state_dict_are_not_ignored(tmp_path: Path) -> None:
    layer = onward.LSTM(3, 4, bidirectional=True, peephole=True, rng=0)
    save_file(layer.state_dict(), tmp_path / "weights.safetensors")
    parts: Any = onward.load(tmp_path / "weights.safetensors")
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    assert repr(parts[""]) == repr(layer)
    np.testing.assert_array_equal(parts[""](x)[0], layer(x)[0])
