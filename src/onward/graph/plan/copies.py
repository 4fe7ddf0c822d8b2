"""Remove copies from the steps of a plan: a step writes its result where the copy would put it."""

from collections.abc import Callable
from typing import Any

from .view import ARENA, CONSTANTS, View

Step = tuple[str, tuple[Any, ...]]

# Steps whose output, the last argument, may have any strides.
STRIDED = frozenset({"activate", "binary", "cast", "compare", "copy", "fused", "unary", "where", "window"})


def without_copies(steps: list[Step], array_of: Callable[[View], int], lanes: int) -> list[Step]:
    """Return the steps without the copies of results that nothing else reads.

    `array_of` returns the number of the array, in the arena, that a view belongs to; `lanes` is the number of
    floats in a vector.
    """
    users: dict[Any, list[int]] = {}  # the steps that use each array or space, in order
    for number, (_, arguments) in enumerate(steps):
        for memory in {_memory(view, array_of) for view in arguments if isinstance(view, View)}:
            users.setdefault(memory, []).append(number)
    result = [[step] for step in steps]  # the steps that replace each step
    for number, (name, arguments) in enumerate(steps):
        if name != "copy" or arguments[0].space != ARENA:
            continue
        x, y = arguments
        writers, target = users[_memory(x, array_of)], users[_memory(y, array_of)]
        producer = writers[0]
        if len(writers) != 2 or producer in target or not result[producer]:
            continue
        # Nothing may use the target between the producer and the copy, except a fill that can precede both.
        others = [user for user in target if producer < user < number]
        moves_fill = (
            others == target[:1] and result[others[0]] == [steps[others[0]]] and _is_fill(steps[others[0]])
        )
        redirected = _redirected(result[producer][-1], x, y, lanes)
        if redirected is None or (others and not moves_fill):
            continue
        result[producer][-1:] = [*(steps[other] for other in others), redirected]
        for moved in (*others, number):
            result[moved] = []
            target[target.index(moved)] = producer
        target.sort()
    return [step for replacement in result for step in replacement]


def _memory(view: View, array_of: Callable[[View], int]) -> tuple[str, int]:
    return ("array", array_of(view)) if view.space == ARENA else ("space", view.space)


def _is_fill(step: Step) -> bool:
    return step[0] in ("copy", "fill_border") and step[1][0].space == CONSTANTS


def _redirected(step: Step, x: View, y: View, lanes: int) -> Step | None:
    """Return the step that writes its output x to y instead, or None if it cannot."""
    name, arguments = step
    places = [i for i, view in enumerate(arguments) if isinstance(view, View) and view[:2] == x[:2]]
    if len(places) != 1:
        return None
    (place,) = places
    target = arguments[place].like(x, y)
    if target is None:
        return None
    if name == "product":
        is_aligned = y.space == ARENA and target.offset % lanes == 0 and target.strides[0] % lanes == 0
        allowed = place == len(arguments) - 1 and is_aligned and target.shape[1] % lanes == 0
    elif name == "recurrent":
        allowed = (place == 4 and target.strides[2] == 1) or (place > 4 and target.is_contiguous())
    else:
        # With another innermost axis, the loop of an elementwise function would be slower than the copy.
        same_order = name == "copy" or _innermost(target) == _innermost(arguments[place])
        allowed = name in STRIDED and place == len(arguments) - 1 and same_order
    return (name, (*arguments[:place], target, *arguments[place + 1 :])) if allowed else None


def _innermost(view: View) -> list[int]:
    """Return the axis whose elements are adjacent, if there is one."""
    return [axis for axis, size in enumerate(view.shape) if size > 1 and view.strides[axis] == 1]
