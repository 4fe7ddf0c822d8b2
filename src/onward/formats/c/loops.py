"""Loops in C: a `for` around the blocks of the steps of a body."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...graph.plan.steps import Body as LoopBody
from ...graph.plan.steps import views_of
from ...graph.plan.view import View
from .code import Body, plus
from .library import TYPES
from .steps import step, write


@step
def loop(
    c: Body,
    count: int,
    counter: View | None,
    condition: View | None,
    slices: Sequence[tuple[View, int, bool]],
    carries: Sequence[tuple[View, View, View]],
    body: LoopBody,
) -> None:
    """Loops and scans that keep their states in place, and branches, which run once or not at all."""
    used = {view.space for inner in body.steps for view in views_of(inner)}
    first, multiply_adds = c.loop_spaces, c.multiply_adds
    c.loop_spaces += len(slices) + 2 * len(carries)
    spaces = iter(range(first, c.loop_spaces))
    declared = [f"*({c.at(counter)}) = run;"] if counter is not None and counter.space in used else []
    for whole, axis, is_backward in slices:
        space = next(spaces)
        if space in used and 0 not in whole.shape:
            one = whole.sliced(axis, 0, 1)
            lowest = c.at(one.with_axes((), (), one.extent()[0] - one.offset))
            run = f"({count - 1} - run)" if is_backward else "run"
            at = plus(lowest, f"{int(whole.strides[axis])} * {run}")
            declared.append(_pointer(c, space, whole, whole.space in c.read_only, at))
    following, unfinished = [], []
    for initial, result, spare in carries:
        before, after = next(spaces), next(spaces)
        if condition is not None:  # fewer runs leave the state where the next one would read it
            size = f"{math.prod(initial.shape)} * sizeof *{c.name(before)}"
            unfinished.append(f"if (run < {count}) memmove({c.at(result)}, {c.name(before)}, {size});")
        if before in used or condition is not None:
            c.read_only.add(before)
            c.add(f"const {TYPES[initial.dtype]} *{c.name(before)} = {c.at(initial)};")
            following.append(f"{c.name(before)} = {c.name(after)};")
        target = f"({count} - run) % 2 ? {c.at(result)} : {c.at(spare)}"  # the last run writes the result
        declared.append(_pointer(c, after, result, False, target))
    goes_on = f"run < {count}" + ("" if condition is None else f" && *({c.at(condition)})")
    c.add("int run;", f"for (run = 0; {goes_on}; run++) {{", *(f"    {line}" for line in declared))
    start, c.step = len(c.lines), c.step + 1
    write(c, body.steps)
    c.lines[start:] = [f"        {line}" for line in c.lines[start:]]
    c.add(*(f"    {line}" for line in following), "}", *unfinished)
    c.loop_spaces = first
    c.multiply_adds = multiply_adds + count * (c.multiply_adds - multiply_adds)


def _pointer(c: Body, space: int, view: View, is_read_only: bool, address: str) -> str:
    """Return the declaration of where a space is during one run."""
    (c.read_only.add if is_read_only else c.read_only.discard)(space)
    return f"{'const ' if is_read_only else ''}{TYPES[view.dtype]} *const {c.name(space)} = {address};"
