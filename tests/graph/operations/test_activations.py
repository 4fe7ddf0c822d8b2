"""Elementwise functions of the core match float64, with the same bits on every instruction set."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.onnx_nodes import model_of, open_model
from support.running import runs_in_core

from onward import _core
from onward.errors import ArgumentError, ShapeError
from onward.graph.operations import OPERATIONS

RNG = np.random.default_rng(0)
SPECIAL = [
    0.0,
    -0.0,
    0.5,
    1.5,
    2.5,
    -0.5,
    -1.5,
    2**23 - 0.5,
    2**23,
    2**24 + 2,
    -(2**23) - 1,
    math.inf,
    -math.inf,
]
X = np.concatenate([*(RNG.standard_normal(2000) * 10.0**n for n in range(-4, 38)), SPECIAL, [math.nan]])
X = X.astype(np.float32)

# The function, and the largest error in units in the last place.
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], float]] = {
    "Ceil": (np.ceil, 0),
    "Floor": (np.floor, 0),
    "Round": (np.rint, 0),
    "Sign": (np.sign, 0),
    "Sin": (np.sin, 0.51),
    "Cos": (np.cos, 0.51),
    "Erf": (np.vectorize(math.erf), 3),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("operation", FUNCTIONS)
def test_functions_match_float64(operation: str) -> None:
    function, ulps = FUNCTIONS[operation]
    before, results = _core.isa(), []
    for isa in _core.available_isas():
        _core.set_isa(isa)
        graph = open_model(model_of([helper.make_node(operation, ["x"], ["y"])], {"x": X}, ["y"], {}))
        results.append(graph(X)[0])
        assert runs_in_core(graph, X)
    _core.set_isa(before)
    for result in results:
        np.testing.assert_array_equal(result.view(np.int32), results[0].view(np.int32))
    expected = function(X.astype(np.float64))
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(results[0][~finite], expected[~finite])
    mine, expected = results[0][finite], expected[finite]
    error = np.abs(mine - expected) / np.spacing(np.abs(expected).astype(np.float32))
    assert error.max() <= ulps
    assert (np.signbit(mine) == np.signbit(expected))[expected != 0].all()


def test_powers_with_small_exponents_match_numpy() -> None:
    x = X[np.abs(X) < 100]
    for exponent in (2.0, 3.0, 4.0, 0.5, -1.0):
        nodes = [helper.make_node("Pow", ["x", "p"], ["y"])]
        (y,) = open_model(model_of(nodes, {"x": x}, ["y"], {"p": np.float32(exponent)}))(x)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(y, np.power(x.astype(np.float64), exponent), rtol=3e-7, atol=1e-38)


def test_slopes_multiply_negative_numbers_only() -> None:
    x, slope = X[:70].reshape(2, 5, 7), RNG.standard_normal((5, 1)).astype(np.float32)
    nodes = [helper.make_node("PRelu", ["x", "s"], ["y"])]
    (y,) = open_model(model_of(nodes, {"x": x}, ["y"], {"s": slope}))(x)
    np.testing.assert_array_equal(y, np.where(x < 0, x * slope, x))


def test_activations_refuse_slopes_that_are_larger_than_the_input_and_attributes_they_lack() -> None:
    prelu, elu = OPERATIONS["PRelu"], OPERATIONS["Elu"]
    with pytest.raises(ShapeError, match=r"\[\(3, 4\)\] cannot be broadcast to shape \(4,\)"):
        prelu.signatures([np.ones(4, np.float32), np.ones((3, 4), np.float32)], {})
    with pytest.raises(ArgumentError, match=r"Elu has no attribute beta; it has \(alpha\)"):
        elu.check_attributes({"beta": 1.0})
    with pytest.raises(ArgumentError, match="Affine lacks the attribute beta"):
        OPERATIONS["Affine"].check_attributes({"alpha": 1.0})


def test_relu_takes_unsigned_integers() -> None:
    x = np.array([0, 3, 255], np.uint8)
    np.testing.assert_array_equal(OPERATIONS["Relu"].compute([x], {})[0], x, strict=True)
