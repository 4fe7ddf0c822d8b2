"""Elementwise operations, against Python's own arithmetic."""

import math
from typing import Any

import numpy as np
import pytest

from onward.errors import ArgumentError, ShapeError
from onward.graph.operations import OPERATIONS
from onward.graph.sized import broadcast_shape


def computed(name: str, *inputs: Any, **attributes: Any) -> Any:
    (y,) = OPERATIONS[name].compute([np.asarray(x) for x in inputs], attributes)
    return y


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8])
def test_integers_are_divided_toward_zero(dtype: Any) -> None:
    low = -9 if np.dtype(dtype).kind == "i" else 0
    a, b = np.meshgrid(np.arange(low, 10), [n for n in range(low, 10) if n])
    y = computed("Div", a.astype(dtype), b.astype(dtype))
    assert y.dtype == dtype
    assert y.ravel().tolist() == [math.trunc(m / n) for m, n in zip(a.flat, b.flat, strict=True)]


def test_the_remainder_has_the_sign_of_the_divisor_or_with_fmod_of_the_dividend() -> None:
    a, b = [7, -7, 7, -7], [3, 3, -3, -3]
    assert computed("Mod", a, b).tolist() == [1, 2, -2, -1]
    assert computed("Mod", a, b, fmod=1).tolist() == [1, -1, 1, -1]


def test_erf_is_accurate_to_the_last_bits() -> None:
    x = np.concatenate([np.linspace(-7, 7, 4001), np.geomspace(1e-300, 0.6, 500), [0.5, -0.5, np.inf]])
    expected = np.array([math.erf(number) for number in x])
    np.testing.assert_allclose(computed("Erf", x), expected, rtol=1e-15)
    narrow = x[np.abs(x) > 1e-30].astype(np.float32)
    expected = np.array([math.erf(number) for number in narrow], np.float32)
    np.testing.assert_array_max_ulp(computed("Erf", narrow), expected, 1)
    assert np.isnan(computed("Erf", np.nan))
    assert np.signbit(computed("Erf", -0.0))


def test_half_precision_is_computed_in_float32() -> None:
    x = np.array([0.1, 300.0], np.float16)
    total = computed("Sum", x, x * 200, -x * 200)
    assert total.dtype == np.float16
    assert total[1] == 300  # the partial sum exceeds the range of float16


def test_a_power_keeps_the_dtype_of_its_base() -> None:
    assert computed("Pow", np.array([2, 3], np.int32), np.array(2.0, np.float32)).dtype == np.int32
    assert computed("Pow", np.array([4.0], np.float32), np.array(0.5, np.float16)).dtype == np.float32
    assert computed("Pow", np.array([1, 2, -1]), np.array(-1)).tolist() == [1, 0, -1]


def test_negative_powers_of_integers_leave_those_beside_them_exact() -> None:
    x, exponent = np.array([0, -1, -1, 2, 3, 3]), np.array([-1, -2, -3, -1, 39, 0])
    assert computed("Pow", x, exponent).tolist() == [0, 1, -1, 0, 3**39, 1]


def test_clip_applies_the_maximum_last() -> None:
    x = np.array([-1.0, 5.0, np.nan], np.float32)
    np.testing.assert_array_equal(computed("Clip", x, np.float32(3), np.float32(1)), [1, 1, np.nan])


def test_comparisons_and_isinf() -> None:
    x = [-np.inf, 1.0, np.nan, np.inf]
    assert computed("IsInf", x, detect_negative=0).tolist() == [False, False, False, True]
    assert computed("IsInf", x, detect_positive=0).tolist() == [True, False, False, False]
    strings = np.array(["a", "b"], object)
    assert computed("Equal", strings, np.array("b", object)).tolist() == [False, True]
    assert computed("Equal", strings, strings).dtype == bool


def test_shapes_are_broadcast_as_numpy_does() -> None:
    for shapes in ([(3, 1), (1, 4)], [(0, 1), (5,)], [(), (2, 1, 1), (3, 1)], [(1,), (0,)], [(4,), (4,)]):
        assert broadcast_shape(*shapes) == np.broadcast_shapes(*shapes)
    for shapes in ([(3,), (4,)], [(0,), (2,)], [(2, 3), (3, 2)]):
        with pytest.raises(ShapeError, match="cannot be broadcast together"):
            broadcast_shape(*shapes)


def test_unknown_options_are_errors() -> None:
    with pytest.raises(ArgumentError, match="direction='UP'; expected LEFT or RIGHT"):
        computed("BitShift", [1], [1], direction="UP")
    with pytest.raises(ArgumentError, match="approximate='cubic'; expected none or tanh"):
        computed("Gelu", [1.0], approximate="cubic")


def test_activations_of_infinities_and_nan() -> None:
    x = np.array([-np.inf, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(computed("Swish", x), [0, np.inf, np.nan])
    np.testing.assert_array_equal(computed("Celu", x, alpha=2.0), [-2, np.inf, np.nan])
    np.testing.assert_array_equal(computed("PRelu", x, np.float32(0.5)), [-np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(computed("Relu", np.array([-3, 4], np.int8)), [0, 4])
