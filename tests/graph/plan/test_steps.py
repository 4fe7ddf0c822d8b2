"""What the core says about steps, against plain loops over random steps and loops in loops."""

from typing import Any

import numpy as np
import pytest

from onward import _core
from onward.graph.plan.steps import Body, Step, views_of
from onward.graph.plan.view import View
from onward.graph.plan.words import WordWriter

SPACES = [*range(-9, 4), 1 << 20]


def random_steps(rng: np.random.Generator, count: int, depth: int = 0) -> list[Step]:
    """Return steps that use random spaces, some of them several times, and loops."""
    steps: list[Step] = []
    for _ in range(count):
        views = [View.contiguous(int(space), 0, (2, 3)) for space in rng.choice(SPACES, rng.integers(0, 4))]
        if depth < 2 and rng.random() < 0.25:
            first = int(rng.integers(-6, 1))
            body = Body(random_steps(rng, 3, depth + 1), first, first - int(rng.integers(0, 4)))
            steps.append(("loop", (5, None, [(view, 0, True) for view in views], body)))
        else:
            steps.append(("fused", ([("unary", "sine", 0, 0)], *views, 1.5, None)))
    return steps


def plain_lifetimes(steps: list[Step], lives: dict[int, tuple[int, int]], time: int) -> int:
    for step in steps:
        start, spaces = time, [view.space for view in views_of(step)]
        if step[0] == "loop":
            body = step[1][-1]
            time = plain_lifetimes(body.steps, lives, time + 1)
            spaces = [space for space in spaces if not body.last <= space <= body.first]
        for space in spaces:
            lives[space] = min(start, lives.get(space, (start, 0))[0]), time
        time += 1
    return time


@pytest.mark.parametrize("seed", range(30))
def test_users_and_lifetimes_count_the_steps_of_loops_in_loops(seed: int) -> None:
    steps = random_steps(np.random.default_rng(seed), 12)
    users: dict[int, list[int]] = {}
    for number, step in enumerate(steps):
        for space in dict.fromkeys(view.space for view in views_of(step)):
            users.setdefault(space, []).append(number)
    assert _core.users_of(steps, View) == users
    lives: dict[int, tuple[int, int]] = {}
    plain_lifetimes(steps, lives, 0)
    found = _core.lifetimes(steps, View)
    assert found == {space: life for space, life in lives.items() if space < 0}
    assert list(found) == sorted(found, key=lambda space: found[space][0])


FLOATS = 0.1, -0.0, 1e300, -1e300, float("nan"), 1e-45, 2.0**24 + 1


@pytest.mark.parametrize("number", FLOATS)
@pytest.mark.parametrize("kind", [float, np.float64, np.float32])
def test_numbers_have_the_bits_of_float32_also_if_they_are_infinite_in_it(number: float, kind: Any) -> None:
    writer = WordWriter(lambda _: 0)
    with np.errstate(over="ignore"):
        writer.write(kind(number), ("elu", kind(number), 1))
        (bits,) = np.array([number], np.float32).view(np.int32).tolist()
        (one,) = np.array([1], np.float32).view(np.int32).tolist()
    assert writer.words.tolist() == [bits, 3, *b"elu", bits, one]


def test_each_kind_of_value_is_written_as_its_words() -> None:
    written, weights = WordWriter(lambda found: weights.index(found), {-1: 7}), ["é", object()]
    view = View(-1, 4, (2, 3), (3, 1), "int8")
    written.write([1, [], (True, np.int64(-5))], None, weights[0], weights[1], view, np.bool_(False))
    nothing = 1 << 62
    expected = [3, 1, 0, 1, -5, nothing, 2, *"é".encode(), 1, 7, 4, 2, 2, 3, 2, 3, 1, 4, *b"int8", 0]
    assert written.words.tolist() == expected
    body = Body([("copy", (view,))], 0, 0)
    inner = [7, 4, 2, 2, 3, 2, 3, 1, 4, *b"int8"]
    steps = WordWriter(lambda _: 0, {-1: 7})
    steps.steps([("loop", (2, body)), ("x", ())])
    copy = [1, len(inner) + 5, 4, *b"copy", *inner]
    assert steps.words.tolist() == [2, len(copy) + 6, 4, *b"loop", 2, *copy, 2, 1, *b"x"]


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1, 1 << 200])
def test_an_integer_of_more_than_64_bits_is_refused(number: int) -> None:
    with pytest.raises(OverflowError):
        WordWriter(lambda _: 0).write((1, [number]))
