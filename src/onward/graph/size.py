"""Sizes that differ from call to call: integer polynomials over the axes of a program's inputs.

A program is compiled once, with the sizes of its first call as hints, and runs for all sizes that satisfy its
guards. Arithmetic stays symbolic. A comparison is decided by the hints and recorded as a guard. A conversion
to an integer, as NumPy and `range` need it, records the guard that the size equals its hint: code that does
not know symbolic sizes makes a program less general, never wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import ArgumentError
from .polynomial import (
    CONDITIONS,
    Factor,
    Guard,
    Monomial,
    Quotient,
    Terms,
    UnsureError,
    degree,
    described,
    follows,
    lowest,
    remembered,
    without,
)

LONG = 1 << 30  # the hint of an axis of which no call is known; less than what files write for the end of one
APART = 99_991  # a prime, between such hints
LARGEST_ELEMENT = (1 << 31) - 1  # and the lowest one is its negative
MAX_PRODUCTS = 1 << 10  # of the terms of two sizes
NEAR = 1 << 8  # sizes that differ by less do so for all long axes

CONTRARY = {"= 0": "!= 0", "!= 0": "= 0", "> 0": "<= 0", "<= 0": "> 0"}


class Axes:
    """The axes of a program, in order, and the guards that its compilation has recorded.

    An axis has at least one element, or is itself an element of an input. If `is_open`, no call gives hints:
    sizes are equal only if all sizes of the axes make them so, they are long if they are compared, and a
    conversion to an integer raises ArgumentError. If `is_strict`, comparisons that decide about values hold
    for all sizes. If `is_general`, the hints are examples, and what they decide holds for other sizes too.
    """

    def __init__(self, is_open: bool = False, is_strict: bool = False, is_general: bool = False) -> None:
        self.is_open, self.is_strict, self.is_general = is_open, is_strict, is_general
        self.is_structural = is_open  # whether sizes are equal only if all sizes of the axes make them so
        self.names: list[str] = []
        self.settled: set[str] = set()  # the names of axes that are fixed from the start
        self.has_elements = False  # whether an axis is an element of an input
        self.guards: dict[tuple[Terms, str], Guard] = {}
        self.node: Any = ""  # the node that is compiled
        self.is_sure = False  # whether comparisons must hold for all sizes
        self.denied: Guard | None = None  # a guard of which the contrary holds
        self.factors: list[Factor] = []
        self._numbers: dict[Any, int] = {}  # of the factors
        self._decisions: dict[Any, bool] = {}  # of comparisons so far
        self._lows: dict[Terms, int | None] = {}  # of polynomials so far
        self._sizes: dict[Terms, Size] = {}  # so far, each of which exists once

    def add(self, name: str, hint: int = 0, low: int = 1) -> Size:
        """Return the size of a new axis; without a hint, it is long, and unlike all others."""
        hint = hint or LONG + APART * len(self.names)
        self.names.append(name)
        return self.of((((self._number(name, Factor(name, hint, low)),), 1),))

    def element(self, name: str, hint: int, is_fixed: bool) -> Any:
        """Return an element of an input as the size of an axis, which may be 0 or negative."""
        self.names.append(name)
        self.has_elements = True
        size = self.of((((self._number(name, Factor(name, hint, -LARGEST_ELEMENT)),), 1),))
        self.settled.update([name] if is_fixed else ())
        return int(size) if is_fixed else size

    def unknown(self, hint: int) -> Size:
        """Return a number that the values of the inputs determine, for which no guard can be checked."""
        name = f"value {len(self.factors)}"
        return self.of((((self._number(name, Factor(name, hint, None)),), 1),))

    def of(self, terms: Terms) -> Size:
        """Return the size of some terms, sorted and without zeros, which exists once."""
        found = self._sizes.get(terms)
        if found is None:
            found = self._sizes[terms] = Size(self, terms)
        return found

    def size(self, terms: Iterable[tuple[Monomial, int]]) -> Any:
        """Return the sum of terms: a size, or an integer if it is constant."""
        total: dict[Monomial, int] = {}
        for monomial, coefficient in terms:
            total[monomial] = total.get(monomial, 0) + coefficient
        kept = tuple(sorted([item for item in total.items() if item[1]]))
        if not kept:
            return 0
        return kept[0][1] if len(kept) == 1 and not kept[0][0] else self.of(kept)

    def total(self, sizes: Iterable[Any]) -> Any:
        """Return the sum of sizes; those that do not follow from the axes are as in the first call."""
        known = [size if type(size) is not Size or size.is_known else size.hint for size in sizes]
        return self.size([term for n in known for term in (n.terms if type(n) is Size else (((), n),))])

    def quotient(self, numerator: Size, denominator: Size) -> Any:
        """Return the floored quotient of two sizes; a quotient of a quotient by numbers is one of its own."""
        divisor = denominator.terms
        is_constant = len(divisor) == 1 and not divisor[0][0] and divisor[0][1] > 0
        (inner, coefficient), *more = numerator.terms[::-1]
        if is_constant and coefficient == 1 and len(inner) == 1 and not (more and more[0][0]):
            meaning = self.factors[inner[0]].meaning
            if isinstance(meaning, Quotient) and (d := meaning.constant):
                return (meaning.numerator + d * self.size(more)) // (d * divisor[0][1])
        least = self.low(numerator.terms)
        low = None
        if least is not None and is_constant:
            low = least // divisor[0][1]
        elif least is not None and least >= 0 and (self.low(divisor) or 0) > 0:
            low = 0
        factor = Factor(Quotient(numerator, denominator), numerator.hint // denominator.hint, low)
        return self.of((((self._number((numerator.terms, divisor), factor),), 1),))

    def _number(self, key: Any, factor: Factor) -> int:
        if key not in self._numbers:
            self._numbers[key] = len(self.factors)
            self.factors.append(factor)
        return self._numbers[key]

    def low(self, terms: Terms) -> int | None:
        """Return a number that a polynomial never falls below, or None if none is plain."""
        if terms not in self._lows:
            self._lows[terms] = lowest(self, terms)
        return self._lows[terms]

    def _is_quotient(self, term: tuple[Monomial, int]) -> bool:
        return any(isinstance(self.factors[number].meaning, Quotient) for number in term[0])

    @property
    def fixed(self) -> dict[str, int]:
        """The sizes of the axes for which a guard accepts only the hint, if they were open before."""
        fixed = {}
        for size, condition, _ in self.guards.values():
            monomials = [monomial for monomial, _ in size.terms if monomial]
            if condition == "= 0" and len(monomials) == 1 and len(monomials[0]) == 1:
                factor = self.factors[monomials[0][0]]
                if isinstance(factor.meaning, str) and factor.meaning not in self.settled:
                    fixed[factor.meaning] = factor.hint
        return fixed

    def compare(self, a: Size, b: Any, condition: str) -> bool:
        """Return whether a condition holds for the difference of the hints of two sizes.

        Record the condition, or its contrary, as a guard.
        """
        comparison = a, b, condition, self.is_structural, self.is_sure
        decision = self._decisions.get(comparison)
        if decision is None:
            difference = a - b
            if type(difference) is Size:
                decision = self._decide(difference, condition)
            else:
                decision = bool(CONDITIONS[condition](difference, 0))
            self._decisions[comparison] = decision
        return decision

    @contextmanager
    def separate(self, denied: Guard | None = None) -> Iterator[dict[tuple[Terms, str], Guard]]:
        """Collect the guards of the comparisons within, which are not recorded; one of them may be denied."""
        before = self.guards, self._decisions, self.denied
        self.guards, self._decisions, self.denied = {}, {}, denied
        try:
            yield self.guards
        finally:
            self.guards, self._decisions, self.denied = before

    def _decide(self, size: Size, condition: str) -> bool:
        is_order = condition in ("> 0", "<= 0")
        if (
            self.is_open
            and not follows(self, size, condition)
            and not follows(self, size, CONTRARY[condition])
        ):
            has_rounding = is_order and any(map(self._is_quotient, size.terms))
            if has_rounding and not self.is_sure and self.low(size.terms) == 0:
                return condition == "> 0"  # what is equal now and then may count as greater in a minimum
            if self.is_sure or (has_rounding and abs(size.hint) < NEAR):
                raise UnsureError(f"it depends on whether {size} {condition}")
        if self.is_structural and not is_order:
            return condition == "!= 0"
        holds = bool(CONDITIONS[condition](size.hint, 0))
        if self.denied is not None and self.denied.size is size:
            return holds != (self.denied.condition in (condition, CONTRARY[condition]))
        self.require(size, condition if holds else CONTRARY[condition])
        return holds

    def require(self, size: Size, condition: str) -> None:
        """Record a guard, unless it holds for all sizes."""
        if not follows(self, size, condition):
            self.guards.setdefault((size.terms, condition), Guard(size, condition, str(self.node)))


class Size:
    """An integer polynomial over axes and quotients. Results that are constant are Python's integers.

    `hint` is the size in the first call, `results` holds those of operations so far. Equal polynomials of the
    same axes are the same object.
    """

    __slots__ = ("_hint", "axes", "results", "terms")

    def __init__(self, axes: Axes, terms: Terms) -> None:
        self.axes, self.terms = axes, terms
        self.results: dict[Any, Any] = {}
        self._hint: int | None = None

    @property
    def hint(self) -> int:
        """The size in the first call."""
        if self._hint is None:
            self._hint = 0
            for monomial, product in self.terms:
                for number in monomial:
                    product *= self.axes.factors[number].hint
                self._hint += product
        return self._hint

    @property
    def name(self) -> str:
        """The name of the axis whose size it is, or "" for any other size."""
        meaning = self.axes.factors[self.terms[0][0][0]].meaning if self.terms[0][0] else ""
        return meaning if meaning in self.axes.names and str(self) == meaning else ""

    def _other(self, other: Any) -> Size | None:
        """Return an operand as a size, or None if it is not an integer."""
        if type(other) is Size:
            return other
        if not isinstance(other, INTEGERS):
            return None
        return self.axes.of((((), int(other)),) if other else ())

    @remembered
    def __add__(self, other: Any) -> Any:
        x = self._other(other)
        return NotImplemented if x is None else self.axes.size(self.terms + x.terms)

    @remembered
    def __mul__(self, other: Any) -> Any:
        if type(other) is int and self.terms and self.terms[-1][0]:  # not a constant
            if other in (0, 1):
                return self if other else 0
            return self.axes.of(tuple([(m, c * other) for m, c in self.terms]))
        x = self._other(other)
        if x is None:
            return NotImplemented
        if len(self.terms) * len(x.terms) > MAX_PRODUCTS:
            raise ArgumentError(f"a size has the product of {len(self.terms)} and {len(x.terms)} terms")
        return self.axes.size((tuple(sorted(m + n)), c * d) for m, c in self.terms for n, d in x.terms)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Size:
        return self.axes.of(tuple([(m, -c) for m, c in self.terms]))

    @remembered
    def __sub__(self, other: Any) -> Any:
        x = self._other(other)
        return NotImplemented if x is None else self + -x

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    @remembered
    def __floordiv__(self, other: Any) -> Any:
        """Return q + r // d, where q d are the terms that the divisor d divides."""
        d = self._other(other)
        if d is None:
            return NotImplemented
        if d.hint == 0:
            raise ZeroDivisionError("a size is divided by 0")
        if len(d.terms) != 1:
            exact = self._exactly_divided(d)
            return self.axes.quotient(self, d) if exact is None else exact
        ((factors, divisor),) = d.terms
        if not factors and divisor > 0:
            return self._divided(divisor)
        divided = [
            (rest, c // divisor)
            for m, c in self.terms
            if (rest := without(m, factors)) is not None and (not rest or c % divisor == 0)
        ]
        q = self.axes.size(divided)
        r = self - q * d
        if type(r) is not Size and r == 0:
            return q
        if type(r) is not Size:
            low = self.axes.low(d.terms)
            if low is not None and -low <= r < low:
                return q - (r < 0)
            r = self.axes.of((((), r),))
        return q + self.axes.quotient(r, d)

    def _exactly_divided(self, d: Size) -> Any:
        """Return the quotient by a polynomial that divides this one, or None if it does not."""
        rest: Any = self
        q, (last, divisor) = 0, max(d.terms, key=degree)
        while type(rest) is Size:
            monomial, coefficient = max(rest.terms, key=degree)
            factors = without(monomial, last)
            if factors is None or coefficient % divisor:
                return None
            part = self.axes.size([(factors, coefficient // divisor)])
            q, rest = q + part, rest - part * d
        return None if rest else q

    def _divided(self, d: int) -> Any:
        """Return the floored quotient by a positive number, in one form for equal quotients.

        No coefficient of the rest exceeds d / 2, and its last one is positive.
        """
        nearest = [(m, (2 * abs(c) + d - 1) // (2 * d) * (1 if c > 0 else -1)) for m, c in self.terms if m]
        q = self.axes.size([*nearest, ((), dict(self.terms).get((), 0) // d)])
        r = self - q * d
        if type(r) is not Size:
            return q + r // d
        if r.terms[-1][1] < 0:
            return q - (d - 1 - r) // d
        return q + self.axes.quotient(r, self.axes.of((((), d),)))

    def __rfloordiv__(self, other: Any) -> Any:
        x = self._other(other)
        return NotImplemented if x is None else x // self

    def __mod__(self, other: Any) -> Any:
        return self - (self // other) * other

    def __rmod__(self, other: Any) -> Any:
        return other - (other // self) * self

    def __divmod__(self, other: Any) -> Any:
        whole = self // other
        return whole, self - whole * other

    def __truediv__(self, other: Any) -> Any:
        return int(self) / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / int(self)

    @property
    def is_positive(self) -> bool:
        """Whether it is above 0 for all sizes of the axes."""
        return (self.axes.low(self.terms) or 0) > 0

    def __eq__(self, other: Any) -> Any:
        if type(other) is int and other == 0 and self.is_positive:
            return False
        return self.axes.compare(self, other, "= 0") if isinstance(other, INTEGERS) else NotImplemented

    def __ne__(self, other: Any) -> Any:
        return self.axes.compare(self, other, "!= 0") if isinstance(other, INTEGERS) else NotImplemented

    def __gt__(self, other: Any) -> Any:
        return self.axes.compare(self, other, "> 0") if isinstance(other, INTEGERS) else NotImplemented

    def __le__(self, other: Any) -> Any:
        return self.axes.compare(self, other, "<= 0") if isinstance(other, INTEGERS) else NotImplemented

    def __lt__(self, other: Any) -> Any:
        x = self._other(other)
        return NotImplemented if x is None else x > self

    def __ge__(self, other: Any) -> Any:
        x = self._other(other)
        return NotImplemented if x is None else x <= self

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __abs__(self) -> Size:
        return self if self >= 0 else -self

    def __index__(self) -> int:
        difference = self - self.hint
        if type(difference) is Size:
            if self.axes.is_open or not self.is_known:
                raise ArgumentError(f"it needs the size {self} as a number")
            if self.axes.denied is not None and self.axes.denied.size is difference:
                return 2 * self.hint + 1
            self.axes.require(difference, "= 0")
        return self.hint

    __int__ = __index__

    @property
    def names(self) -> set[str]:
        """The names of its axes and of its unknown numbers."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for number in monomial:
                meaning = self.axes.factors[number].meaning
                parts = () if isinstance(meaning, str) else meaning
                found = found.union({meaning} if isinstance(meaning, str) else (), *(x.names for x in parts))
        return found

    @property
    def is_known(self) -> bool:
        """Whether it follows from the sizes of the axes."""
        return self.names <= {*self.axes.names}

    def __repr__(self) -> str:
        return described(self.axes, self.terms)


INTEGERS = Size, int, np.integer


def hint(size: Any) -> int:
    """Return a size in the first call, without a guard."""
    return size.hint if type(size) is Size else int(size)


def are_same(a: Any, b: Any) -> bool:
    """Whether two sizes are the same for all sizes of the axes."""
    if a is b or (type(a) is int and type(b) is int):
        return a is b or bool(a == b)
    difference = a - b
    return type(difference) is not Size and difference == 0


def is_symbolic(shape: Iterable[Any]) -> bool:
    """Whether a shape has sizes that differ from call to call."""
    return Size in map(type, shape)
