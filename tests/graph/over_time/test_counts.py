"""Counts of steps are exact functions, and equal functions are recognized however they are composed."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from support.in_one_test import in_one_test

from onward.errors import ArgumentError
from onward.graph.over_time.counts import MAX_STEPS, Count, Counts

N = np.arange(400)


def compose(rng: np.random.Generator) -> tuple[Count, Any]:
    """Return a random count, and its values at N by a loop over plain integers."""
    count, values = Count(), N.tolist()
    for _ in range(int(rng.integers(1, 6))):
        up, down = ((1, 1), (1, int(rng.integers(2, 5))), (int(rng.integers(2, 5)), 1))[rng.integers(3)]
        add, least = int(rng.integers(-6, 6)), int(rng.integers(0, 9)) * int(rng.integers(0, 4) == 0)
        count = count.then(up, add, down, least)
        values = [max(0, (x * up + add) // down) if x >= least else 0 for x in values]
    return count, values


@in_one_test("seed", range(50))
def test_merged_operations_give_the_numbers_of_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, values = compose(rng)
    assert count.at(N).tolist() == values
    later = N[N >= count.start]
    np.testing.assert_array_equal(count.at(later + count.period), count.at(later) + count.gain)


@in_one_test("seed", range(50))
def test_the_least_of_two_counts_is_that_at_each_number_of_steps(seed: int) -> None:
    rng, counts = np.random.default_rng(seed), Counts()
    (a, first), (b, second) = compose(rng), compose(rng)
    if a.rate != b.rate:
        b, second = a.then(add=-3).then(2).then(down=2), [max(0, x - 3) for x in first]
    least = counts.least(a, b)
    assert least.at(N).tolist() == list(map(min, first, second))
    assert counts.least(b, a) is least  # the same function is the same object


def test_halved_and_doubled_steps_are_not_all_steps() -> None:
    counts, n = Counts(), counts_of_all()
    halved = n.then(down=2).then(2)
    assert counts.distinct(halved) is not counts.distinct(n)
    assert counts.least(n, halved) is counts.distinct(halved)
    assert halved.rate == Fraction(1)


def counts_of_all() -> Count:
    return Count()


def test_the_latency_is_that_of_the_latest_step() -> None:
    n = Count()
    assert n.latency() == 0 and n.is_every_step
    assert n.then(add=-2).latency() == 2
    assert n.then(add=-8, down=4).then(4).latency() == 11  # 12 steps complete none, and so do 4 more
    assert not n.then(add=1).is_every_step


def test_steps_that_may_be_the_last_ones_are_held_back() -> None:
    n = Count()
    assert n.most_that_may_be_last(n, 3) == 3
    assert n.most_that_may_be_last(n.then(add=2), 3) == 1
    assert n.then(add=-2).most_that_may_be_last(n, 2) == 0
    halves = n.then(down=2).then(2)  # lacks one of two steps
    assert halves.most_that_may_be_last(n, 1) == 1


def test_counts_without_a_pattern_are_refused() -> None:
    with pytest.raises(ArgumentError, match="no pattern within"):
        Count().then(down=MAX_STEPS + 1)
