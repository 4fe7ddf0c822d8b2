"""The terms of symbolic sizes: monomials of axes and quotients, bounds of their sums, and kept results."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..errors import ArgumentError

if TYPE_CHECKING:
    from .size import Axes, Size

Monomial = tuple[int, ...]  # the numbers of its factors, sorted
Terms = tuple[tuple[Monomial, int], ...]  # monomials and their coefficients, sorted


Result = TypeVar("Result")

LARGE = 1 << 60  # no array has so many elements
CONDITIONS = {"= 0": operator.eq, "!= 0": operator.ne, "> 0": operator.gt, "<= 0": operator.le}


class UnsureError(ArgumentError):
    """Whether a comparison holds depends on sizes that are not known."""


class Guard(NamedTuple):
    """A condition on a size, and the node that required it first."""

    size: Size
    condition: str
    node: str

    def __str__(self) -> str:
        return f"{self.size} {self.condition}"


class Quotient(NamedTuple):
    """The floored quotient of two sizes, where no polynomial expresses it."""

    numerator: Size
    denominator: Size

    def __str__(self) -> str:
        return f"(({self.numerator}) // ({self.denominator}))"

    @property
    def constant(self) -> int:
        """The denominator if it is a positive number, otherwise 0."""
        ((monomial, number), *_) = self.denominator.terms
        return 0 if monomial or len(self.denominator.terms) > 1 else max(0, number)


class Factor(NamedTuple):
    """A factor of a monomial: an axis or a quotient, its hint, and a number that it never falls below."""

    meaning: str | Quotient
    hint: int
    low: int | None


def degree(term: tuple[Monomial, int]) -> tuple[int, Monomial]:
    """Return a key that orders terms as their products with any monomial are ordered."""
    return len(term[0]), term[0]


def without(monomial: Monomial, factors: Monomial) -> Monomial | None:
    """Return a monomial divided by factors; None if they do not divide it."""
    rest = list(monomial)
    for number in factors:
        if number not in rest:
            return None
        rest.remove(number)
    return tuple(rest)


def lowest(axes: Axes, terms: Terms) -> int | None:
    """Return a number that a polynomial never falls below, or None if none is plain.

    Each factor is its lowest number and a rest of at least 0. If no term with rests is negative, the
    polynomial is never below the term without rests. Where that fails, quotients lose their rounding.
    """
    total: dict[Monomial, int] = {}
    for monomial, coefficient in terms:
        expanded: list[tuple[Monomial, int]] = [((), coefficient)]
        for number in monomial:
            low = axes.factors[number].low
            if low is None:
                return None
            with_rest = [((*rests, number), product) for rests, product in expanded]
            expanded = [(rests, product * low) for rests, product in expanded] + with_rest
        for rests, product in expanded:
            total[rests] = total.get(rests, 0) + product
    least = total.pop((), 0)
    return _lowest_unrounded(axes, terms) if any(product < 0 for product in total.values()) else least


def _lowest_unrounded(axes: Axes, terms: Terms) -> int | None:
    """Return the lowest number of a polynomial in which (n - d + 1) / d <= n // d <= n / d.

    If there are quotients by d and by e d, the latter are quotients of quotients by d.
    """
    found: dict[Monomial, tuple[Any, int]] = {}
    for monomial, _ in terms:
        meaning = axes.factors[monomial[0]].meaning if len(monomial) == 1 else ""
        if isinstance(meaning, Quotient) and meaning.constant:
            found[monomial] = meaning.numerator, meaning.constant
    if not found:
        return None
    divisors = sorted({d for _, d in found.values()})
    for monomial, (numerator, d) in found.items():
        inner = max((e for e in divisors if e < d and d % e == 0), default=1)
        found[monomial] = numerator // inner, d // inner
    common, bound = math.lcm(*(d for _, d in found.values())), 0
    for monomial, coefficient in terms:
        if monomial in found:
            numerator, d = found[monomial]
            each = coefficient * common // d
            bound += each * (numerator - (d - 1 if each > 0 else 0))
        else:
            bound += axes.size([(monomial, coefficient * common)])
    low = bound if isinstance(bound, int) else axes.low(bound.terms)
    return None if low is None else -(-low // common)


def described(axes: Axes, terms: Terms) -> str:
    """Return a polynomial as text."""
    text = ""
    for monomial, coefficient in terms:
        names = [str(axes.factors[number].meaning) for number in monomial]
        number = [str(abs(coefficient))] if abs(coefficient) != 1 or not names else []
        sign = ("-" if coefficient < 0 else "+" * bool(text)).center(3 if text else 0)
        text += sign + "*".join(number + names)
    return text or "0"


def evaluated(size: Any, numbers: Mapping[str, int]) -> int:
    """Return a size for numbers of its axes, by name; a quotient by 0 is 0, as in Div."""
    total = 0
    for monomial, product in size.terms if hasattr(size, "terms") else [((), int(size))]:
        for number in monomial:
            meaning = size.axes.factors[number].meaning
            if isinstance(meaning, str):
                product *= numbers[meaning]
            else:
                divisor = evaluated(meaning.denominator, numbers)
                product *= evaluated(meaning.numerator, numbers) // divisor if divisor else 0
        total += product
    return total


def follows(axes: Axes, size: Size, condition: str) -> bool:
    """Whether a condition holds for all sizes of the axes."""
    if abs(dict(size.terms).get((), 0)) >= LARGE and not axes.has_elements:
        return bool(CONDITIONS[condition](size.hint, 0))
    low, negative = axes.low(size.terms), axes.low((-size).terms)
    is_positive, is_negative = low is not None and low > 0, negative is not None and negative > 0
    return {
        "> 0": is_positive,
        "<= 0": negative is not None and negative >= 0,
        "!= 0": is_positive or is_negative,
        "= 0": low == negative == 0,
    }[condition]


def remembered(operation: Callable[[Any, Any], Result]) -> Callable[[Any, Any], Result]:
    """Keep the results of an operation of a size on integers and sizes: programs repeat few of them."""
    name = operation.__name__

    def method(size: Any, other: Any) -> Any:
        if type(other) is not int and type(other) is not type(size):
            return operation(size, other)
        found = size.results.get((name, other))
        if found is None:
            found = size.results[name, other] = operation(size, other)
        return found

    return method
