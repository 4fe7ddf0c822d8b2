"""Checks of the sizes of inputs against what a file declares."""

import sys
from contextlib import suppress
from typing import Any

import pytest

from onward.errors import ShapeError
from onward.graph import declared
from onward.graph.declared import Sizes, evaluate


def test_a_call_does_not_parse_conditions_that_an_earlier_call_parsed(monkeypatch) -> None:
    parsed = []

    def parse(source: str) -> object:
        parsed.append(source)
        return original(source)

    original = declared.parse_expression
    declared._function_of.cache_clear()
    monkeypatch.setattr(declared, "parse_expression", parse)
    sizes = Sizes({"T": (3, None)}, {"x": ("T", "2*T + 1")}, ("T % 7 < 6", "unknown(T)"))
    for T in (4, 5, 4, 8):
        sizes.check_call({"x": (T, 2 * T + 1)})
    assert parsed == ["T", "2*T + 1", "T % 7 < 6", "unknown(T)"]


def test_wrong_sizes_are_refused_also_after_right_ones_and_a_second_time() -> None:
    sizes = Sizes({"T": (3, None)}, {"x": ("T", 2)}, ("T % 7 < 6",))
    sizes.check_call({"x": (4, 2)})
    for wrong, message in (((4, 3), "must have 2"), ((6, 2), "T % 7 < 6"), ((2, 2), "from 3")):
        for _ in range(2):
            with pytest.raises(ShapeError, match=message):
                sizes.check_call({"x": wrong})
    sizes.check_call({"x": (4, 2)})


def test_a_condition_that_a_deep_call_cannot_parse_is_checked_later() -> None:
    condition = "-" * 60 + "T == 4"

    def evaluated(depth: int) -> Any:
        return evaluated(depth - 1) if depth else evaluate(condition, {"T": 5})

    for room in range(20, 300, 20):
        with suppress(RecursionError):
            evaluated(sys.getrecursionlimit() - room)
    assert evaluated(0) is False
