"""The steps of a program: their views, the arrays that they use and when, and their descriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from .view import View

Step = tuple[str, tuple[Any, ...]]


class Body(NamedTuple):
    """The steps of one iteration of a loop, the argument of the step "loop".

    Only they use the arrays of the arena whose spaces are from `last` to `first`.
    """

    steps: list[Step]
    first: int
    last: int


def views_of(step: Step) -> list[View]:
    """Return the views among the arguments of a step, in order, with those of a loop and its body."""
    if step[0] == "loop":
        return [*_views_in(step[1])]
    return [argument for argument in step[1] if type(argument) is View]


def _views_in(argument: Any) -> Iterator[View]:
    if type(argument) is View:
        yield argument
    elif type(argument) is Body:
        for step in argument.steps:
            yield from views_of(step)
    elif isinstance(argument, tuple | list):
        for item in argument:
            yield from _views_in(item)


def with_views(step: Step, change: Callable[[View], View]) -> Step:
    """Return a step with what `change` makes of its views."""
    name, arguments = step
    if name == "loop":
        return name, _with_views_in(arguments, change)
    return name, tuple([change(a) if type(a) is View else a for a in arguments])


def _with_views_in(argument: Any, change: Callable[[View], View]) -> Any:
    if type(argument) is View:
        return change(argument)
    if type(argument) is Body:
        steps, *rest = argument
        return Body([with_views(inner, change) for inner in steps], *rest)
    if isinstance(argument, tuple | list):
        return type(argument)([_with_views_in(item, change) for item in argument])
    return argument


def lifetimes(steps: Sequence[Step]) -> dict[int, tuple[int, int]]:
    """Return when each array of the arena is used first and last, in the order of their first uses.

    The steps of a body count as steps of their own. A loop uses all arrays that its body shares with others
    from its start to its end.
    """
    lives: dict[int, tuple[int, int]] = {}
    _add_lifetimes(lives, steps, 0)
    return dict(sorted(lives.items(), key=lambda item: item[1][0]))


def _add_lifetimes(lives: dict[int, tuple[int, int]], steps: Sequence[Step], time: int) -> int:
    """Add the lifetimes of what steps use that start at a time; return the time after them."""
    for step in steps:
        name, arguments = step
        first, spaces = time, [view.space for view in views_of(step) if view.space < 0]
        if name == "loop":
            body = arguments[-1]
            time = _add_lifetimes(lives, body.steps, time + 1)
            spaces = [space for space in spaces if not body.last <= space <= body.first]
        for space in spaces:
            lives[space] = (min(lives[space][0], first) if space in lives else first), time
        time += 1
    return time


def described(step: Step) -> str:
    """Describe a step of the core by its name, its function and the shape of its output."""
    name, arguments = step
    functions = [str(a[0] if isinstance(a, tuple) else a) for a in arguments[:1] if type(a) in (str, tuple)]
    views = views_of(step)
    shape = f" ({', '.join(map(str, views[-1].shape))})" if views else ""
    return " ".join([name, *functions]) + shape


def users_of(steps: Sequence[Step]) -> dict[int, list[int]]:
    """Return the numbers of the steps that use each space, in order."""
    users: dict[int, list[int]] = {}
    for number, step in enumerate(steps):
        for argument in views_of(step) if step[0] == "loop" else step[1]:
            if type(argument) is View:
                numbers = users.setdefault(argument.space, [])
                if not numbers or numbers[-1] != number:
                    numbers.append(number)
    return users
