"""The constraints on the sizes of a model's inputs: ranges of symbols, and expressions of symbols."""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import ShapeError

MAX_EXPRESSION = 2000  # characters
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Integer": lambda n: n,
    "Add": lambda *terms: sum(terms),
    "Mul": lambda *factors: math.prod(factors),
    "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv,
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "Max": max,
    "Min": min,
}
BINARY: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
SYMBOL = re.compile(r"Symbol\('(\w+)'[^()]*\)")


class Sizes(NamedTuple):
    """Ranges of symbols by name, and the sizes of inputs as numbers or expressions of symbols."""

    ranges: Mapping[str, tuple[int | None, int | None]] = {}
    axes: Mapping[str, tuple[int | str, ...]] = {}

    def check(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Check the shapes of inputs by name. Raises ShapeError, which names the axis and the constraint.

        Axes with the same symbol have the same size: the model has checked that.
        """
        places = [
            (f"axis {axis} of {name}", size, declared)
            for name, shape in shapes.items()
            for axis, (size, declared) in enumerate(zip(shape, self.axes.get(name, ()), strict=False))
        ]
        sizes = {}
        for place, size, symbol in places:
            if symbol in self.ranges:
                low, high = self.ranges[str(symbol)]
                # torch.export assumes that no size is 0 or 1; as torch does, take a minimum of 2 as none
                if (low is not None and low > 2 and size < low) or (high is not None and size > high):
                    bounds = f"{low or 0} to {'any size' if high is None else high}"
                    raise ShapeError(f"{place} has size {size}, but the model takes {symbol} from {bounds}")
                sizes[str(symbol)] = size
        for place, size, declared in places:
            expected = evaluate(declared, sizes) if isinstance(declared, str) else declared
            if expected is not None and size != expected:
                raise ShapeError(f"{place} has size {size}, but must have {declared} = {expected}")


def readable(expression: str) -> str:
    """Return an expression without sympy's declarations of its symbols."""
    return SYMBOL.sub(r"\1", expression)


def evaluate(expression: str, sizes: Mapping[str, int]) -> int | None:
    """Evaluate an expression of symbols, or return None if one of them is unknown or it is not of sizes."""
    if len(expression) > MAX_EXPRESSION:
        return None
    try:
        value = _evaluated(ast.parse(expression, mode="eval").body, sizes)
    except (SyntaxError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return None
    return value if isinstance(value, int) and abs(value) < 1 << 63 else None


def _evaluated(node: ast.AST, sizes: Mapping[str, int]) -> Any:
    match node:
        case ast.Constant(int() as number):
            return number
        case ast.Name(name):
            return sizes[name]
        case ast.BinOp(left, kind, right):
            return BINARY[type(kind)](_evaluated(left, sizes), _evaluated(right, sizes))
        case ast.Call(ast.Name(name), arguments, []):
            return FUNCTIONS[name](*(_evaluated(argument, sizes) for argument in arguments))
        case ast.UnaryOp(ast.USub(), operand):
            return -_evaluated(operand, sizes)
    raise ValueError(f"{ast.dump(node)[:60]} is not an expression of sizes")
