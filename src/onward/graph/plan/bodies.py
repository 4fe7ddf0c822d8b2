"""Passes over the steps of a loop's body, which run again and again."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

import onward._core as _core

from ..size import are_same
from .passes import optimized
from .steps import Body, Step, with_views
from .view import DTYPES, View

SHARED = 1 << 21  # while the passes run: the spaces of arrays that other steps use too


def improved(body: Body, states: Container[int], sizes: Mapping[int, Any], lanes: int) -> Body:
    """Return a body with fewer steps and copies.

    `states` are the spaces of the next values of states. `sizes` holds those of the arrays of the arena in
    bytes.
    """

    def hidden(view: View) -> View:
        is_shared = view.space < 0 and not body.last <= view.space <= body.first
        return view.in_space(SHARED - view.space) if is_shared else view

    def shown(view: View) -> View:
        return view.in_space(SHARED - view.space) if view.space > SHARED else view

    steps = [with_views(step, hidden) for step in body.steps]
    steps = optimized(_into_states(steps, states, sizes), sizes, lanes)
    return Body([with_views(step, shown) for step in steps], body.first, body.last)


def _into_states(steps: list[Step], states: Container[int], sizes: Mapping[int, Any]) -> list[Step]:
    """Return the steps without the copies of whole arrays to the next values of states.

    The state takes the place of the array, also where steps of the body read it.
    """
    users, moved, kept = _core.users_of(steps, View), dict[int, int](), list[Step]()
    for step in steps:
        name, arguments = step
        x, y = arguments[0], arguments[-1]
        is_state = name == "copy" and y.space in states and len(users[y.space]) == 1
        if is_state and x.space < 0 and x.space not in moved and _is_whole(x, sizes[x.space]):
            moved[x.space] = y.space
        else:
            kept.append(step)
    return [with_views(step, lambda view: view.in_space(moved.get(view.space, view.space))) for step in kept]


def _is_whole(x: View, size: Any) -> bool:
    """Whether a view is a whole array of so many bytes."""
    is_first = x.is_contiguous() and are_same(x.offset, 0)
    return is_first and are_same(math.prod(x.shape) * DTYPES[x.dtype], size)
