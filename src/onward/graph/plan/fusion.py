"""Fuse elementwise steps of a plan: one pass over memory computes several operations."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .view import ARENA, View

Step = tuple[str, tuple[Any, ...]]

MOST_INPUTS, MOST_OPERATIONS = 7, 16  # limits of a fused step
# Steps that write only their last argument.
ONE_OUTPUT = frozenset("activate binary cast compare copy matmul product reduce unary".split())


class Expression(NamedTuple):
    """Operations (kind, function, a, b) on numbered operands: first the inputs, then the earlier results."""

    operations: list[tuple[str, Any, int, int]]
    inputs: list[View]
    y: View

    @classmethod
    def of(cls, step: Step) -> Expression | None:
        """Return the expression of an elementwise step on float32, or None for any other step."""
        name, arguments = step
        if name not in ("unary", "activate", "binary"):
            return None
        function, *inputs, y = arguments
        if any(view.dtype != "float32" for view in (*inputs, y)):
            return None
        distinct = list(dict.fromkeys(inputs))
        operands = [distinct.index(view) for view in inputs]
        return cls([(name, function, operands[0], operands[-1])], distinct, y)

    def step(self) -> Step:
        """Return the step that computes the expression."""
        if len(self.operations) == 1:
            kind, function, a, b = self.operations[0]
            operands = [self.inputs[a], self.inputs[b]] if kind == "binary" else [self.inputs[a]]
            return kind, (function, *operands, self.y)
        return "fused", (self.operations, *self.inputs, self.y)

    def with_input(self, view: View, other: Expression) -> Expression | None:
        """Return the expression with an input replaced by the expression that computes it, or None."""
        replaced = [view.like(other.y, _broadcast(u, other.y.shape)) for u in other.inputs]
        if None in replaced or math.prod(view.shape) != math.prod(self.y.shape):
            return None
        own = [u for u in self.inputs if u != view]
        inputs = list(dict.fromkeys([*replaced, *own]))
        count = len(other.operations)
        if len(inputs) > MOST_INPUTS or count + len(self.operations) > MOST_OPERATIONS:
            return None

        def place(operand: int, expression: Expression, found: list[Any], shift: int) -> int:
            if operand >= len(expression.inputs):
                return operand - len(expression.inputs) + len(inputs) + shift
            return inputs.index(found[operand]) if found[operand] is not None else len(inputs) + count - 1

        first = [
            (kind, function, place(a, other, replaced, 0), place(b, other, replaced, 0))
            for kind, function, a, b in other.operations
        ]
        mine = [None if u == view else u for u in self.inputs]
        second = [
            (kind, function, place(a, self, mine, count), place(b, self, mine, count))
            for kind, function, a, b in self.operations
        ]
        return Expression([*first, *second], inputs, self.y)  # type: ignore[arg-type]  # none is None


def fused(steps: list[Step], array_of: Callable[[View], int]) -> list[Step]:
    """Return the steps with each elementwise step merged into the one that alone reads its result.

    `array_of` returns the number of the array, in the arena, that a view belongs to.
    """

    def arrays(values: Iterable[Any]) -> set[int]:
        return {array_of(view) for view in values if isinstance(view, View) and view.space == ARENA}

    def only_reads(step: Step, array: int) -> bool:
        name, (*_, y) = step
        return name in ONE_OUTPUT and isinstance(y, View) and array not in arrays([y])

    def is_unchanged(expression: Expression, first: int, last: int) -> bool:
        """Whether no step between two numbers may write to the inputs of an expression."""
        for array in arrays(expression.inputs):
            between = users[array][bisect_right(users[array], first) : bisect_left(users[array], last)]
            if not all(only_reads(steps[user], array) for user in between):
                return False
        return True

    users: dict[int, list[int]] = {}
    for number, (_, arguments) in enumerate(steps):
        for array in arrays(arguments):
            users.setdefault(array, []).append(number)
    expressions = [Expression.of(step) for step in steps]
    removed = set()
    for number, expression in enumerate(expressions):
        if expression is None:
            continue
        for view in list(expression.inputs):
            if view.space != ARENA or len(users[array_of(view)]) != 2:
                continue
            producer = users[array_of(view)][0]
            other = expressions[producer]
            views = [u for u in expression.inputs if u.space == ARENA and array_of(u) == array_of(view)]
            if other is None or views != [view] or not is_unchanged(other, producer, number):
                continue
            merged = expression.with_input(view, other)
            if merged is not None:
                expression = expressions[number] = merged
                removed.add(producer)
                for array in arrays(other.inputs):
                    own = users[array]
                    del own[bisect_left(own, producer)]
                    place = bisect_left(own, number)
                    if own[place : place + 1] != [number]:
                        own.insert(place, number)
    return [
        step if expression is None else expression.step()
        for number, (step, expression) in enumerate(zip(steps, expressions, strict=True))
        if number not in removed
    ]


def _broadcast(view: View, shape: tuple[int, ...]) -> View:
    missing = len(shape) - len(view.shape)
    sizes, strides = (1,) * missing + view.shape, (0,) * missing + view.strides
    pairs = zip(sizes, strides, strict=True)
    return view._replace(shape=shape, strides=tuple(stride if size > 1 else 0 for size, stride in pairs))
