"""The rare functions that run in NumPy, against definitions and the properties of their results."""

import math

import numpy as np
import pytest

from onward.errors import ArgumentError
from onward.graph.operations import OPERATIONS

RNG = np.random.default_rng(5)


def run(function, *inputs, **options):
    inputs = [np.asarray(x) for x in inputs]
    attributes = {"function": function, **options}
    results = OPERATIONS["NumPy"].compute(inputs, attributes)
    declared = OPERATIONS["NumPy"].signatures(inputs, attributes)
    assert [(d.shape, d.dtype) for d in declared] == [(y.shape, y.dtype) for y in results]
    return results


def test_special_functions_have_their_known_values():
    x = np.array([0.1, 0.5, 3.3, 20.0, -0.5])
    np.testing.assert_allclose(run("lgamma", x)[0], [math.lgamma(v) for v in x], rtol=1e-12)
    euler = 0.5772156649015329
    (found,) = run("digamma", np.array([1.0, 0.5, 2.0, -0.5]))
    wanted = [-euler, -euler - 2 * math.log(2), 1 - euler, 2 - euler - 2 * math.log(2)]
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    y = np.array([-2.5, -0.3, 0.0, 1e-4, 0.9, 3.0])
    np.testing.assert_allclose(run("erfinv", np.array([math.erf(v) for v in y]))[0], y, rtol=1e-6, atol=1e-12)
    assert run("erfinv", np.array([1.0, -1.0]))[0].tolist() == [math.inf, -math.inf]
    assert np.isnan(run("erfinv", np.array(1.5))[0])


@pytest.mark.parametrize("name", ["lgamma", "digamma", "erfinv", "ndtri", "i0", "signbit"])
def test_functions_of_elements_take_arrays_without_elements(name):
    assert run(name, np.zeros((0, 3), np.float32))[0].shape == (0, 3)


def test_the_exponential_of_a_matrix_is_its_series():
    x = RNG.standard_normal((3, 5, 5)).astype(np.float32) * 2
    wide = x.astype(np.float64)
    total = term = np.broadcast_to(np.eye(5), x.shape)
    for k in range(1, 80):
        term = term @ wide / k
        total = total + term
    (found,) = run("matrix_exp", x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, total, rtol=1e-5, atol=1e-5)


def test_the_mode_is_the_smallest_of_the_most_frequent_elements_at_its_last_place():
    values, places = run("mode", np.array([[3, 1, 3, 1, 2], [5, 4, 4, 5, 5]]), axis=1)
    assert values.tolist() == [1, 5] and places.tolist() == [3, 4]
    nan = math.nan  # each is an element of its own
    rows = np.array(
        [[nan, 1, nan, 2, 2], [nan, nan, nan, 5, 5], [nan, 3, 1, nan, nan], [nan] * 5], np.float32
    )
    values, places = run("mode", rows, axis=1)
    np.testing.assert_array_equal(values, [2, 5, 1, nan])
    assert places.tolist() == [4, 4, 2, 0]


def test_each_matrix_of_a_batch_has_the_bits_that_it_has_alone():
    x = RNG.standard_normal((17, 4, 4)).astype(np.float32)
    for function in ("inverse", "svd", "qr"):
        options = {"mode": "reduced"} if function == "qr" else {}
        whole, one = run(function, x, **options), run(function, x[3:4], **options)
        for y, z in zip(whole, one, strict=True):
            np.testing.assert_array_equal(y[3:4], z)


def test_unknown_functions_and_singular_matrices_raise_clear_errors():
    with pytest.raises(ArgumentError, match="'system' is unknown; expected cholesky"):
        OPERATIONS["NumPy"].compute([np.eye(2)], {"function": "system"})
    with pytest.raises(ArgumentError, match="inverse: Singular matrix"):
        OPERATIONS["NumPy"].compute([np.zeros((2, 2))], {"function": "inverse"})
