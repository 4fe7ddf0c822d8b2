"""Conversions between dtypes at the limits of their ranges."""

from typing import Any

import numpy as np
import pytest

from onward.errors import ArgumentError, DtypeError
from onward.graph.node import Signature
from onward.graph.operations import OPERATIONS


def cast(x: Any, to: Any, **attributes: Any) -> Any:
    (y,) = OPERATIONS["Cast"].compute([x], {"to": to, **attributes})
    return y


def test_floats_are_truncated_and_wrap_around_in_any_position() -> None:
    x = np.resize(np.array([-1.9, 1.9, 257.5, -3.0, 1e6], np.float32), 101)
    assert cast(x, "uint8").tolist() == [int(number) % 256 for number in x.tolist()]
    assert cast(x, np.int16)[:5].tolist() == [-1, 1, 257, -3, 10**6 % 2**16]
    large = np.array([3e9, 2**33, np.nan], np.float32)
    assert cast(large, np.uint32)[0] == 3 * 10**9
    assert cast(large, np.int32).tolist() == [-(2**31)] * 3
    assert cast(large * 2**31, np.uint64)[0] == 3 * 10**9 * 2**31
    assert cast(np.array([0.5, 0.0, np.nan], np.float32), bool).tolist() == [True, False, True]


def test_strings_become_numbers_and_back() -> None:
    strings = np.array(["3.5", "-INF", "NaN", "1e-3"], object)
    np.testing.assert_array_equal(
        cast(strings, "float32"), np.array([3.5, -np.inf, np.nan, 1e-3], np.float32)
    )
    assert cast(np.array(["9007199254740993"], object), np.int64).tolist() == [2**53 + 1]
    for to in ("string", str, np.dtype(object)):
        written = cast(np.array([0.1, 7.0], np.float32), to)
        assert (written.dtype, written.tolist()) == (object, ["0.1", "7.0"])
    with pytest.raises(ArgumentError, match="not the number of dtype int64"):
        cast(np.array(["seven"], object), np.int64)


def test_eight_bit_floats_saturate_by_default() -> None:
    x = np.array([1e9, -1e9, np.nan, 1.0], np.float32)
    np.testing.assert_array_equal(
        cast(x, "float8_e4m3fn").astype(np.float32), np.array([448, -448, np.nan, 1], np.float32)
    )
    assert np.isnan(cast(x, "float8_e4m3fn", saturate=0).astype(np.float32)[0])


def test_powers_of_two_round_as_chosen() -> None:
    x = np.array([2.9, 3.1, 4.0, np.inf], np.float32)
    for mode, expected in {"up": [4, 4, 4], "down": [2, 2, 4], "nearest": [2, 4, 4]}.items():
        y = cast(x, "float8_e8m0fnu", round_mode=mode).astype(np.float32)
        assert y[:3].tolist() == expected
        assert np.isnan(y[3])


def test_unknown_names_are_errors() -> None:
    with pytest.raises(DtypeError, match="'float7' is not the name of a dtype"):
        cast(np.zeros(1, np.float32), "float7")


def test_bits_keep_their_size() -> None:
    operation = OPERATIONS["BitCast"]
    (bits,) = operation.compute([np.array([1.0], np.float32)], {"to": np.int32})
    assert bits.tolist() == [0x3F800000]
    with pytest.raises(DtypeError, match="expected dtypes of the same size"):
        operation.compute([np.zeros(2, np.float32)], {"to": np.int8})


def test_the_signature_has_the_new_dtype() -> None:
    x = Signature((2, 3), np.dtype(np.float32))
    assert OPERATIONS["Cast"].signatures([x], {"to": "bfloat16"}) == [Signature((2, 3), np.dtype("bfloat16"))]
