"""Elementwise operations give the same bits whatever the batch and the memory layout."""

from typing import Any

import numpy as np
import pytest
from support.in_one_test import in_one_test

from onward.graph.operations import OPERATIONS

UNARY = [
    *("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp"),
    *("Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish", "Reciprocal", "Relu", "Round"),
    *("Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan"),
    *("Tanh", "ThresholdedRelu"),
]
BINARY = ["Add", "Sub", "Mul", "Div", "Mod", "Pow", "Max", "Min", "Mean", "Sum", "PRelu"]
DTYPES = [np.float32, np.float64, np.float16]


def computed(name: str, *inputs: Any) -> Any:
    (y,) = OPERATIONS[name].compute(inputs, {})
    return y


@pytest.mark.parametrize("name", UNARY)
@in_one_test("dtype", DTYPES)
def test_functions_of_one_array(name: str, dtype: Any) -> None:
    x = np.random.default_rng(0).uniform(-3, 3, (17, 33)).astype(dtype)
    y = computed(name, x)
    np.testing.assert_array_equal(computed(name, np.asfortranarray(x)), y)
    np.testing.assert_array_equal(computed(name, x[:, ::3]), y[:, ::3])
    np.testing.assert_array_equal(computed(name, x[::-1, 5:]), y[::-1, 5:])
    for row in (0, 16):
        np.testing.assert_array_equal(computed(name, x[row, 3:10]), y[row, 3:10])
    np.testing.assert_array_equal(computed(name, x[2:3, 3].reshape(())), y[2, 3])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_arrays(name: str, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.1, 3, (17, 33)).astype(dtype), rng.uniform(0.1, 3, 33).astype(dtype)
    y = computed(name, a, b)
    np.testing.assert_array_equal(computed(name, a, np.tile(b, (17, 1))), y)
    np.testing.assert_array_equal(computed(name, np.asfortranarray(a), b), y)
    np.testing.assert_array_equal(computed(name, a[:, ::3], b[::3]), y[:, ::3])
    np.testing.assert_array_equal(computed(name, a[4, 7:8], b[7:8]), y[4, 7:8])
    np.testing.assert_array_equal(computed(name, a[:, 5:6], b[5]), y[:, 5:6])
