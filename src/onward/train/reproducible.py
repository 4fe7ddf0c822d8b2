"""Powers and cosines whose bits do not depend on the processor, unlike those of the C library.

The C library's `pow` and `cos` round differently on processors with and without FMA instructions. A learning
rate that differs in its last bit would make resumed trainings diverge.
"""

import math


def power(base: float, exponent: int) -> float:
    """Return base**exponent, exponent >= 0, by repeated squaring."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def cos_pi(x: float) -> float:
    """Return cos(pi x) = sin(pi (1/2 - x)), from the Taylor series of the sine.

    >>> [round(cos_pi(x), 12) for x in (0.0, 1 / 3, 0.5, 1.0, 2.0)]
    [1.0, 0.5, 0.0, -1.0, 1.0]
    """
    x = abs(x) % 2
    angle = math.pi * (0.5 - min(x, 2 - x))  # from -pi/2 to pi/2
    square, total = angle * angle, 0.0
    for n in range(23, 1, -2):
        total = -(1 + total) * (square / (n * (n - 1)))
    return angle + angle * total
