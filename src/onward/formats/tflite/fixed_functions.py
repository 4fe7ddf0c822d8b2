"""Functions of integers in fixed point, as gemmlowp and TensorFlow Lite compute them."""

import math

import numpy as np

from ...graph.node import AnyArray
from ...graph.operations.fixed_factors import INT16_LIMITS, INT32_LIMITS, factor, rounded
from ...graph.operations.fixed_point import (
    high_product,
    newton_reciprocal,
    reciprocal_of_one_plus,
    rescaled,
    shifted_right,
)

INT16 = np.arange(-(1 << 15), 1 << 15)
EXPONENTIALS = [1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242]  # exp(-2^k), k from -2

# Where the kernels' table of the logistic function of k / 24 is 1 above the rounded numbers.
ABOVE = [
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44),
    *(45, 46, 49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255),
]


def scaled(x: AnyArray, value: float) -> AnyArray:
    """Multiply integers by a factor."""
    multiplier, shift = (np.array(number, np.int32) for number in factor(value))
    return rescaled(x.astype(np.int32), multiplier, shift)


def exp_of_negative(x: AnyArray, integer_bits: int, bits: int = 32) -> AnyArray:
    """exp(x) for x of at most 0, with so many bits before the point; the result has none."""
    fraction_bits, highest, low = bits - 1 - integer_bits, (1 << (bits - 1)) - 1, 32 - bits
    x = np.asarray(x, np.int64)
    quarter = 1 << (fraction_bits - 2)
    remainder = (x & (quarter - 1)) - quarter  # from -1/4 to 0
    inner = np.clip(remainder << integer_bits, -highest - 1, highest) + (1 << (bits - 4))  # plus 1/8
    constants = [int(shifted_right(np.array(c), low)) for c in (1895147668, 715827883)]  # exp(-1/8), 1/3
    square = high_product(inner, inner, bits)
    cube, fourth = high_product(square, inner, bits), high_product(square, square, bits)
    higher = high_product(shifted_right(fourth, 2) + cube, constants[1], bits) + square
    result = constants[0] + high_product(inner + shifted_right(higher, 1), constants[0], bits)
    result = np.minimum(result, highest)
    for exponent, constant in zip(range(-2, 5), EXPONENTIALS, strict=True):
        if integer_bits > exponent:
            is_set = ((remainder - x) >> (fraction_bits + exponent)) & 1
            reduced = high_product(result, int(shifted_right(np.array(constant), low)), bits)
            result = np.where(is_set, reduced, result)
    if integer_bits > 5:
        result = np.where(x < -(1 << (fraction_bits + 5)), 0, result)
    return np.where(x == 0, highest, result)


def logistic_table() -> AnyArray:
    """Return the logistic function of int16 with 3 bits before the point; the results have none."""
    positive = reciprocal_of_one_plus(exp_of_negative(-np.abs(INT16), 3, 16), 16)
    y = np.where(INT16 > 0, positive, INT16_LIMITS[1] - positive)
    return np.where(INT16 == 0, 1 << 14, y).astype(np.int32)


def tanh_table(integer_bits: int) -> AnyArray:
    """Return the hyperbolic tangent of int16 with so many bits before the point; the results have none."""
    e = exp_of_negative(-np.abs(INT16), integer_bits + 1, 16)
    y = np.clip((newton_reciprocal(e, 16) - (1 << 13)) * 4, *INT16_LIMITS)
    return np.where(INT16 == 0, 0, np.where(INT16 < 0, -y, y)).astype(np.int32)


def inverse_root(x: int, output: tuple[int, int]) -> int:
    """1 / sqrt(x) times a factor, by Newton's method with 28 bits behind the point; at most 127 for 0."""
    if x <= 0:
        return 1 << 20
    inverse, shift = INT32_LIMITS[1], 0
    if x > 1:
        pairs = (31 - x.bit_length()) // 2 - 1
        shift, start = 11 - pairs, (x << 2 * pairs) >> 1
        half, y = int(shifted_right(np.array(start), 1)), 1 << 28
        for _ in range(5):
            cube = _saturated(_high(_high(y, y), y) << 6)
            y = _saturated((_high((1 << 28) + (1 << 27), y) - _high(half, cube)) << 3)
        inverse = _high(y, 1518500250)
        inverse, shift = inverse << max(0, -shift), max(0, shift)
    first = rescaled(*(np.array(n, np.int32) for n in (1, inverse, 20 - shift)))
    return int(rescaled(first, *(np.array(n, np.int32) for n in (output[0], output[1] - 20))))


def _high(a: int, b: int) -> int:
    return int(high_product(np.array(a), b))


def _saturated(x: int) -> int:
    return int(np.clip(x, *INT32_LIMITS))


def interpolated(scale: float, is_tanh: bool) -> AnyArray:
    """Return the logistic function or the tangent of int16 of a scale, between 256 known numbers."""
    known = np.minimum(rounded(65536 / (1 + np.exp(-np.arange(257) / 24))), 65535).astype(np.int64)
    known[ABOVE] += 1
    exponent = math.log2(scale)
    multiplier, shift = 3 << max(0, round(12 + exponent)), 0
    if abs(exponent - round(exponent)) > 1e-3 or round(12 + exponent):
        real = float(np.float32(scale)) * 4096 * 3
        while real <= 32767 / 2 and shift <= 30:
            real, shift = real * 2, shift + 1
        multiplier = int(real)
    x = INT16 * multiplier + ((1 << shift) >> 1) >> shift
    bits, size = 8 if is_tanh else 9, np.abs(x)
    place, rest = np.minimum(size >> bits, 255), size & ((1 << bits) - 1)
    y = (known[place] << bits) + rest * (known[place + 1] - known[place])
    y = np.where(size >> bits >= 255, (0xFFFF << 8) if is_tanh else (0x7FFF << 10), y)
    if is_tanh:
        return (np.where(x >= 0, y - (1 << 23) + 128, -y + (1 << 23) + 127) >> 8).astype(np.int32)
    return (np.where(x >= 0, y + (1 << 9), (1 << 25) - y + (1 << 9) - 1) >> 10).astype(np.int32)


def softmax_tables(scale: float, beta: float) -> tuple[AnyArray, AnyArray]:
    """Return exp(scale beta x) of integers x from -255 to 0: with no bits before the point, and with 12."""
    x = np.arange(-255, 1)
    real = min(float(beta) * float(np.float32(scale)) * (1 << 26), float(INT32_LIMITS[1]))
    multiplier, shift = factor(real)
    radius = math.floor(31 * 2.0**26 / 2.0**shift)
    steps = rescaled(x.astype(np.int32), *(np.array(n, np.int32) for n in (multiplier, shift)))
    values = np.where(x >= -radius, exp_of_negative(steps, 5), 0)
    return values.astype(np.int32), shifted_right(values, 12).astype(np.int32)


def hard_swish(x: AnyArray, scale: float, y_scale: float) -> AnyArray:
    """x clip(x / 6 + 1/2, 0, 1) of integers of a scale, in steps of another one."""
    fine = np.float32(1 / 128) * np.float32(scale)
    output, reluish = (factor(float(fine / np.float32(s))) for s in (y_scale, 3 / 32768))
    multipliers = [min((m + (1 << 15)) >> 16, INT16_LIMITS[1]) for m, _ in (output, reluish)]
    steps = x.astype(np.int64) << 7
    scaled_up = high_product(steps, multipliers[0], 16)
    shift = reluish[1]
    gate = np.clip(steps << max(shift - 1, 0), *INT16_LIMITS)
    gate = high_product(gate, multipliers[1], 16)
    gate = np.clip(gate << 1, *INT16_LIMITS) if shift > 0 else shifted_right(gate, -shift)
    gate = (gate + (1 << 15)) >> 1
    product = gate * scaled_up
    before = np.where(product >= 0, product >> 15, -(-product >> 15))
    return shifted_right(before, max(0, -output[1]))
