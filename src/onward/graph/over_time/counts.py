"""How many steps of a value there are after n steps of the input, as an exact function of n."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..node import AnyArray
from ..size import Size

MAX_STEPS = 1 << 22  # until a function repeats itself
NONE = np.iinfo(np.int64).max
# numbers of steps at which equal functions must agree before they are compared everywhere
SAMPLES = np.concatenate([np.arange(64), np.random.default_rng(0).integers(64, 1 << 20, 64)])


class Count:
    """max(0, (x * up + add) // down) where x >= least, and 0 elsewhere; x is the least of `sources`, or n.

    If `repeats_one`, x is the number of steps of sequences that are broadcast: the least of the sources that
    are not 1. From n = `start` on, `period` more steps of the input give `gain` more. Raises ArgumentError if
    that takes too many steps.
    """

    period: int
    gain: int
    start: int

    def __init__(
        self,
        *sources: Count,
        up: int = 1,
        add: int = 0,
        down: int = 1,
        least: int = 0,
        repeats_one: bool = False,
    ) -> None:
        self.sources, self.up, self.add, self.down, self.least = sources, up, add, down, least
        self.repeats_one = repeats_one
        period = math.lcm(*(source.period for source in sources))
        gain = sources[0].gain * period // sources[0].period if sources else 1
        start = max((source.first(2 if repeats_one else 0) for source in sources), default=0)
        repeats = down // math.gcd(gain * up, down)
        if start + period * repeats <= MAX_STEPS:
            missing = max(0, least, -(add // up)) - int(self._source_at(np.array([start]), {})[0])
            start += period * max(0, -(-missing // gain))
        self.period, self.gain, self.start = period * repeats, gain * up * repeats // down, start
        if self.start + self.period > MAX_STEPS:
            raise ArgumentError(f"its steps follow no pattern within {MAX_STEPS} steps of the input")

    @property
    def rate(self) -> Fraction:
        """The steps for each step of the input."""
        return Fraction(self.gain, self.period)

    def then(self, up: int = 1, add: int = 0, down: int = 1, least: int = 0) -> Count:
        """Return max(0, (self * up + add) // down), or 0 where self < least."""
        if (up, add, down, least) == (1, 0, 1, 0):
            return self
        joins = (up == 1 or self.down == 1) and (self.add >= 0 or add < down) and not least and not self.least
        if not joins:
            return Count(self, up=up, add=add, down=down, least=least)
        up, add, down = self.up * up, self.add * up + add * self.down, self.down * down
        return Count(*self.sources, up=up, add=add, down=down, repeats_one=self.repeats_one)

    def first(self, count: int) -> int:
        """Return a number of steps of the input, at least `start`, from which on there are `count` steps."""
        missing = max(0, count - int(self.at(np.array([self.start]))[0]))
        return self.start + self.period * -(-missing // self.gain)

    def at(self, n: AnyArray) -> AnyArray:
        """Return the numbers of steps after each n of an array."""
        return self.at_all(n, {})

    def size(self, n: Size) -> Any:
        """Return the number of steps after a long n. Raises UnsureError for the least of unlike sources."""
        x = min(source.size(n) for source in self.sources) if self.sources else n
        return (x * self.up + self.add) // self.down

    def at_all(self, n: AnyArray, known: dict[Count, AnyArray]) -> AnyArray:
        """Return the numbers as `at` does, and add those of all counts before this one to the known ones."""
        if self not in known:
            x = self._source_at(n, known)
            y = np.maximum((x * self.up + self.add) // self.down, 0)
            known[self] = y if not self.least else np.where(x >= self.least, y, 0)
        return known[self]

    def _source_at(self, n: AnyArray, known: dict[Count, AnyArray]) -> AnyArray:
        found = [source.at_all(n, known) for source in self.sources]
        if self.repeats_one:
            several = np.minimum.reduce([np.where(x == 1, NONE, x) for x in found])
            return np.where(several == NONE, 1, several)
        return np.minimum.reduce(found) if found else n

    @property
    def is_every_step(self) -> bool:
        """Whether each step of the input adds one."""
        n = np.arange(self.start + 2)
        return self.period == self.gain and bool((self.at(n) == n).all())

    def latency(self) -> int:
        """Return the largest number of steps that step k is complete after step k / rate of the input."""
        n = np.arange(self.start + self.period)
        return -int(np.min(self.at(n) * self.period - n * self.gain) // self.gain)

    def most_that_may_be_last(self, length: Count, count: int) -> int:
        """Return how many of these steps must be held back because they may be among the last `count`.

        `length` are the steps of the sequence if it ends now.
        """
        n = np.arange(_until_repeated(self, length) + self.period * -(-count // self.gain))
        complete = self.at(n)
        return int(max(0, np.minimum(complete, count - length.at(n) + complete).max()))


class Counts:
    """Finds out which counts are the same function."""

    def __init__(self) -> None:
        self._found: dict[bytes, list[Count]] = {}

    def distinct(self, count: Count) -> Count:
        """Return the first count that is the same function."""
        alike = self._found.setdefault(count.at(SAMPLES).tobytes(), [])
        for other in alike:
            if count is other or (count.rate == other.rate and _are_equal(count, other)):
                return other
        alike.append(count)
        return count

    def least(self, *counts: Count) -> Count:
        """Return the smallest of several counts of the same rate, at each n."""
        first, *others = dict.fromkeys(map(self.distinct, counts))
        for other in others:
            n = np.arange(min(_until_repeated(first, other), 2 * MAX_STEPS))
            difference = first.at(n) - other.at(n)
            if (difference > 0).any():
                first = other if (difference >= 0).all() else self.distinct(Count(first, other))
        return first

    def broadcast(self, *counts: Count) -> Count | None:
        """Return the steps of sequences that are broadcast; None if no length repeats one of them."""
        distinct = list(dict.fromkeys(map(self.distinct, counts)))
        n = np.arange(min(max(count.first(2) for count in distinct), 2 * MAX_STEPS))
        found = np.array([count.at(n) for count in distinct])
        if not ((found == 1).any(0) & (found != 1).any(0)).any():
            return None
        return self.distinct(Count(*distinct, repeats_one=True))


def _are_equal(count: Count, other: Count) -> bool:
    """Whether two counts of the same rate are the same function, as far as that can be compared."""
    end = _until_repeated(count, other)
    return end <= 2 * MAX_STEPS and np.array_equal(count.at(np.arange(end)), other.at(np.arange(end)))


def _until_repeated(count: Count, other: Count) -> int:
    """Return the number of steps after which the difference of two counts of the same rate is periodic."""
    return max(count.start, other.start) + math.lcm(count.period, other.period)
