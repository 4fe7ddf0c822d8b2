"""Arrays that join what a stream carries with the steps of a block.

Such an array starts with the carry and ends with its next value. If the memory of the carry goes on behind
it, that memory may be the array: the copies of the carry are then copies of elements to themselves.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import onward._core as _core

from ..size import are_same, hint
from .passes import ONE_OUTPUT, STRIDED, WINDOWED
from .steps import Step
from .view import DTYPES, View

LAST_IS_OUTPUT = ONE_OUTPUT | STRIDED | WINDOWED  # steps that write nothing but their last argument


def joined_arrays(
    steps: Sequence[Step], sizes: Mapping[int, Any], carries: Mapping[int, int]
) -> dict[int, int]:
    """Return the arrays of the arena that start with a carry and end with its next value, with the carry.

    `sizes` holds those of arrays and of arguments in bytes, by their spaces, and `carries` the space of the
    output that is the next value of an input. Steps write to the arrays only what follows the carry.
    """
    users, found = _core.users_of(list(steps), View), dict[int, int]()
    for name, arguments in steps:
        if name != "copy" or arguments[0].space not in carries or arguments[1].space >= 0:
            continue
        carry, start = arguments
        output, others = carries[carry.space], users[start.space][1:]
        if not others or users.get(output) != others[-1:]:
            continue
        last, (end, *_, following) = steps[others[-1]]
        if (
            last == "copy"
            and end.space == start.space
            and _has_all(carry, start, 0, sizes)
            and _has_all(following, end, sizes[start.space] - sizes[output], sizes)
            and all(_keeps_start(steps[other], start.space, sizes[carry.space]) for other in others)
        ):
            found[start.space] = carry.space
    return found


def _has_all(whole: View, part: View, start: Any, sizes: Mapping[int, Any]) -> bool:
    """Whether a view shows all bytes of its space, and another one as many from `start` on in this order."""
    size, order = DTYPES[whole.dtype], range(len(whole.shape))
    in_order = whole.permuted(*sorted(order, key=lambda axis: -hint(whole.strides[axis])))
    expected = 0, sizes[whole.space], start, *whole.strides
    actual = whole.offset, math.prod(whole.shape) * size, part.offset * size, *part.strides
    has_axis = [True, True, True, *(type(n) is not int or n != 1 for n in whole.shape)]
    pairs = zip(expected, actual, has_axis, strict=True)
    return in_order.is_contiguous() and all(are_same(a, b) for a, b, is_needed in pairs if is_needed)


def _keeps_start(step: Step, space: int, size: Any) -> bool:
    """Whether a step writes nothing to the first bytes of an array, so many."""
    name, (*_, y) = step
    if name not in LAST_IS_OUTPUT or type(y) is not View:
        return False
    distance = y.offset * DTYPES[y.dtype] - size
    is_behind = type(distance) is int and distance >= 0 and all(hint(stride) >= 0 for stride in y.strides)
    return y.space != space or is_behind
