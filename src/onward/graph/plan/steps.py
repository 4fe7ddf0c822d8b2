"""The steps of a program: their views, and their descriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .view import View

Step = tuple[str, tuple[Any, ...]]
INTEGER_PRODUCTS = ("integer_product", "integer_window")
NODE = "node"  # a step that the core does not see: a node that runs in NumPy, and the views that it uses


class Body(NamedTuple):
    """The steps of one iteration of a loop, the argument of the step "loop".

    Only they use the arrays of the arena whose spaces are from `last` to `first`.
    """

    steps: list[Step]
    first: int
    last: int


class OutputStage(NamedTuple):
    """What the exact sums of a product of integers become: the arguments of its step before the output.

    `OutputStage` in cpp/run/plan.h describes them.
    """

    row_scale: View | None = None
    scale: View | None = None
    bias: View | None = None
    multiplier: View | None = None
    shift: View | None = None
    zero_point: int = 0
    low: int = 0
    high: int = 0

    def with_scale(self, scale: View) -> OutputStage:
        """Return a stage that multiplies by a scale."""
        return self._replace(scale=scale)

    def with_bias(self, bias: View | None) -> OutputStage:
        """Return a stage that adds this bias, or none."""
        return self._replace(bias=bias)


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


def described(step: Step) -> str:
    """Describe a step of the core by its name, its function and the shape of its output."""
    name, arguments = step
    functions = [str(a[0] if isinstance(a, tuple) else a) for a in arguments[:1] if type(a) in (str, tuple)]
    views = views_of(step)
    shape = f" ({', '.join(map(str, views[-1].shape))})" if views else ""
    return " ".join([name, *functions]) + shape
