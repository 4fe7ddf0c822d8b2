"""TorchScript's operators on numbers, strings, lists and dicts."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ....core import budget
from ....errors import ArgumentError

MAX_INTEGER = 1 << 63
ELEMENT, CHARACTER = 100, 10  # operations for an element of a container, or for a character

Plain = Callable[..., Any]
SCALARS = (int, float, str, type(None))


def checked(value: Any) -> Any:
    """Return a value. Raises ArgumentError for an integer that its type does not hold."""
    if isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
        raise ArgumentError("the integer does not fit in 64 bits")
    return value


def charge_copies(*values: Any) -> None:
    """Charge for visiting and copying the elements of the containers, and the texts, among some values."""
    for value in values:
        if isinstance(value, list | tuple | dict):
            budget.spend(ELEMENT * len(value))
            budget.take(2 * budget.OBJECT * len(value))
        elif isinstance(value, str):
            budget.spend(CHARACTER * len(value))
            budget.take(4 * len(value))


def as_key(value: Any) -> Any:
    """Return a key of a dict. Raises ArgumentError for other types: nested tuples take forever to hash."""
    if not isinstance(value, (*SCALARS, complex)):
        raise ArgumentError(f"a {type(value).__name__} is a key; expected a number or a string")
    return value


def text(value: Any) -> str:
    """Return a value as TorchScript prints it, shortened."""
    if isinstance(value, list | tuple) and all(isinstance(element, SCALARS) for element in value[:100]):
        charge_copies(*value[:100])
        return str(value[:100])[:1000]
    return str(value)[:1000] if isinstance(value, SCALARS) else f"<{type(value).__name__}>"


def _numeric(function: Plain) -> Plain:
    """Return a function that takes numbers alone."""

    def apply(*values: Any) -> Any:
        for value in values:
            if not isinstance(value, int | float | complex):
                raise ArgumentError(f"expected a number, got a {type(value).__name__}")
        return function(*values)

    return apply


def _of_all(function: Plain) -> Plain:
    """Return a function of numbers, or of a list of them. The result is a float if one of them is."""

    def apply(*values: Any) -> Any:
        result = function(values)
        return float(result) if any(isinstance(value, float) for value in values) else result

    numeric = _numeric(apply)
    return lambda *values: numeric(*(values if len(values) > 1 else values[0]))


def _of_floats(function: Plain) -> Plain:
    return lambda *values: float(function(*values))


def _compare(function: Plain) -> Plain:
    numeric = _numeric(function)
    return lambda a, b: bool((function if isinstance(a, str) and isinstance(b, str) else numeric)(a, b))


def _equal(a: Any, b: Any) -> bool:
    for value in (a, b):
        if not isinstance(value, (*SCALARS, complex)):
            raise ArgumentError(f"a {type(value).__name__} cannot be compared")
    return bool(a == b)


def _power(a: Any, b: Any) -> float:
    """Unlike Python, TorchScript returns a float for two integers, and NaN for roots of negative numbers."""
    if type(a) is int and a == 0 and b < 0:
        raise ArgumentError("0 cannot be raised to a negative power")
    with np.errstate(all="ignore"):
        return float(np.power(np.float64(a), np.float64(b)))


def _shift(a: int, b: int) -> int:
    if not 0 <= b < 64:
        raise ArgumentError(f"an integer cannot be shifted by {b} bits")
    return a << b


def _divide(a: Any, b: Any, rounding_mode: str | None = None) -> Any:
    rounding: dict[str | None, Plain] = {"trunc": math.trunc, "floor": math.floor}
    return rounding.get(rounding_mode, float)(_numeric(operator.truediv)(a, b))


def _floor_divide(a: Any, b: Any) -> Any:
    """Unlike Python, TorchScript rounds the quotient of floats down."""
    return float(math.floor(a / b)) if float in (type(a), type(b)) else a // b


def _repeat(values: Any, count: Any) -> Any:
    if not isinstance(values, list) or type(count) is not int:
        raise ArgumentError(f"a {type(values).__name__} cannot be repeated")
    budget.spend(len(values) * max(count, 0))
    budget.take(8 * len(values) * max(count, 0))
    return values * count


def _contains(container: Any, value: Any) -> bool:
    if isinstance(container, dict | str):
        return value in container
    return any(type(element) in (*SCALARS, bool) and element == value for element in container)


def _index(values: list[Any], value: Any) -> int:
    for place, element in enumerate(values):
        if type(element) in (*SCALARS, bool) and element == value:
            return place
    raise ArgumentError("the list does not contain the value, or is one of other values than numbers")


def _sorted(values: Any, reverse: bool = False) -> list[Any]:
    for kind in ((int, float), str):
        if all(isinstance(value, kind) for value in values):
            return sorted(values, reverse=reverse)
    raise ArgumentError("the order of a list depends on the values of tensors")


def _sort(values: list[Any], reverse: bool = False) -> None:
    values[:] = _sorted(values, reverse)


def _join(separator: str, parts: list[str]) -> str:
    charge_copies(separator * min(1, len(parts)), *parts)
    budget.take(4 * len(separator) * len(parts))
    return separator.join(parts)


def _split(string: str, separator: str | None = None, maximum: int = -1) -> list[str]:
    budget.take(2 * budget.OBJECT * len(string))
    return string.split(separator, maximum)


def _format(template: str, *values: Any) -> str:
    texts = map(text, values)
    return re.sub(r"\{\}", lambda found: next(texts, "{}"), template)


NUMERIC: dict[str, Plain] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "floordiv": _floor_divide,
    "floor_divide": _floor_divide, "remainder": operator.mod, "neg": operator.neg, "pow": _power,
    "__and__": operator.and_, "__or__": operator.or_, "__xor__": operator.xor, "__lshift__": _shift,
    "__rshift__": lambda a, b: a >> min(max(b, 0), 64),
}  # fmt: skip

# Functions of floats: unlike Python, TorchScript also returns floats for integers.
FLOATING: dict[str, Plain] = {
    **{name: _of_floats(getattr(math, name)) for name in (
        "sqrt", "log", "log2", "log10", "log1p", "exp", "expm1", "sin", "cos", "tan", "asin", "acos", "atan",
        "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "gamma", "lgamma", "fmod",
        "copysign", "fabs", "degrees", "radians",
    )},
    "mathremainder": _of_floats(math.remainder), "round": _of_floats(round),
}  # fmt: skip
# operators whose operands are numbers and strings, unless one of them is a tensor
PLAIN: dict[str, Plain] = {
    **FLOATING,
    **{name: _numeric(function) for name, function in NUMERIC.items()},
    "div": _divide, "eq": _equal, "ne": lambda a, b: not _equal(a, b),
    **{name: _compare(getattr(operator, name)) for name in ("lt", "le", "gt", "ge")},
    **{name: getattr(math, name) for name in ("floor", "ceil", "isnan", "isinf", "isfinite", "gcd")},
    **dict.fromkeys(("max", "prim.max"), _of_all(max)), **dict.fromkeys(("min", "prim.min"), _of_all(min)),
    "sum": _of_all(sum), "any": any, "all": all, "__not__": operator.not_,
    "abs": abs, "prim.abs": abs, "is_floating_point": lambda a: isinstance(a, float),
    "str": text, "ScalarImplicit": lambda a: a, "item": lambda a: a,
    "format": _format, "split": _split,
    **{name: getattr(str, name) for name in ("lower", "upper", "strip", "startswith", "endswith", "find")},
}  # fmt: skip

# operators that change a container
CHANGES: dict[str, Plain] = {
    "append": lambda values, value: (values.append(value), values)[1],
    **dict.fromkeys(("add_", "extend"), lambda values, others: (values.extend(others), values)[1]),
    "insert": lambda values, place, value: (values.insert(place, value), values)[1],
    "pop": lambda values, *place: values.pop(*place), "popitem": lambda values: values.popitem(),
    "sort": _sort, "reverse": lambda values: values.reverse(), "clear": lambda values: values.clear(),
    "_set_item": operator.setitem, "Delete": operator.delitem,
    "update": lambda values, others: values.update(others),
    "setdefault": lambda values, key, value: values.setdefault(key, value),
}  # fmt: skip
# operators on containers, whatever their elements are; those in SINGLE visit a single element
CONTAINERS: dict[str, Plain] = {
    **CHANGES, "copy": lambda values: values.copy(), "list": list, "sorted": _sorted, "len": len,
    "select": operator.getitem,
    "slice": lambda values, start=None, end=None, step=None: values[start:end:step],
    "add": operator.add, "mul": _repeat, "keys": list, "values": lambda values: list(values.values()),
    "items": lambda values: list(values.items()), "get": lambda values, key, *other: values.get(key, *other),
    "dict": lambda values: {
        as_key(name): value for name, value in (values.items() if isinstance(values, dict) else values)},
    "__contains__": _contains, "index": _index, "join": _join,
}  # fmt: skip
SINGLE = {"append", "pop", "popitem", "len", "select", "_set_item", "get", "setdefault", "Delete"}
