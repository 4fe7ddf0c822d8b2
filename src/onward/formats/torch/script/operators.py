"""TorchScript's operators on numbers, strings, lists and dicts."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from ....errors import ArgumentError

MAX_INTEGER = 1 << 63
MAX_SIZE = 20_000  # elements of a list or characters of a string

Plain = Callable[..., Any]
SCALARS = (int, float, str, bool, type(None))


def checked(value: Any) -> Any:
    """Return a value if it is as small as its type allows. Raises ArgumentError."""
    if isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
        raise ArgumentError("the integer does not fit in 64 bits")
    if isinstance(value, str | list | dict | tuple) and len(value) > MAX_SIZE:
        raise ArgumentError(f"a {type(value).__name__} has more than {MAX_SIZE} elements")
    return value


def _add(a: Any, b: Any) -> Any:
    if type(a) is type(b) and isinstance(a, str | list):
        if len(a) + len(b) > MAX_SIZE:
            raise ArgumentError(f"a {type(a).__name__} has more than {MAX_SIZE} elements")
        joined: Any = operator.add(a, b)
        return joined
    return _number(a) + _number(b)


def _mul(a: Any, b: Any) -> Any:
    if isinstance(a, list) and type(b) is int:
        if len(a) * b > MAX_SIZE:
            raise ArgumentError(f"a list has more than {MAX_SIZE} elements")
        return a * b
    return _number(a) * _number(b)


def _number(value: Any) -> Any:
    if not isinstance(value, int | float | complex):
        raise ArgumentError(f"expected a number, got a {type(value).__name__}")
    return value


def _power(a: Any, b: Any) -> Any:
    if type(a) is int and type(b) is int and b > 64 and abs(a) > 1:
        raise ArgumentError("the integer does not fit in 64 bits")
    return _number(a) ** _number(b)


def _shift(a: int, b: int) -> int:
    if not 0 <= b < 64:
        raise ArgumentError(f"an integer cannot be shifted by {b} bits")
    return a << b


def _divide(a: Any, b: Any, rounding_mode: str | None = None) -> Any:
    quotient = _number(a) / _number(b)
    rounding: dict[str | None, Plain] = {"trunc": math.trunc, "floor": math.floor}
    return rounding.get(rounding_mode, float)(quotient)


def _equal(a: Any, b: Any) -> bool:
    """Compare scalars or flat lists of them; nested values could take forever."""
    for value in (a, b):
        elements = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(element, (*SCALARS, complex)) for element in elements):
            raise ArgumentError(f"a {type(value).__name__} of other values than numbers cannot be compared")
    return bool(a == b)


def _compare(function: Plain) -> Plain:
    def compare(a: Any, b: Any) -> bool:
        if isinstance(a, str) and isinstance(b, str):
            return bool(function(a, b))
        return bool(function(_number(a), _number(b)))

    return compare


def _contains(container: Any, value: Any) -> bool:
    if isinstance(container, dict | str):
        return value in container
    return any(type(element) in SCALARS and element == value for element in container)


def _format(template: str, *values: Any) -> str:
    parts = template.split("{}")
    texts = [text(value) for value in values][: len(parts) - 1]
    texts += ["{}"] * (len(parts) - 1 - len(texts))
    return "".join(part + value for part, value in zip(parts, [*texts, ""], strict=True))


def text(value: Any) -> str:
    """Return a value as TorchScript prints it, shortened."""
    if isinstance(value, list | tuple) and all(isinstance(element, SCALARS) for element in value[:100]):
        return str(value[:100])[:1000]
    return str(value)[:1000] if isinstance(value, SCALARS) else f"<{type(value).__name__}>"


def _sliced(values: Any, start: Any = None, end: Any = None, step: Any = None) -> Any:
    return values[slice(start, end, step)]


def _smallest(function: Plain) -> Plain:
    def smallest(*values: Any) -> Any:
        return function(_number(value) for value in (values if len(values) > 1 else values[0]))

    return smallest


def _split(string: str, separator: str | None = None, maximum: int = -1) -> list[str]:
    return string.split(separator, maximum)


# operators whose operands are numbers and strings, unless one of them is a tensor
PLAIN: dict[str, Plain] = {
    "add": _add, "sub": lambda a, b: _number(a) - _number(b), "mul": _mul, "div": _divide,
    "floordiv": lambda a, b: _number(a) // _number(b), "floor_divide": lambda a, b: _number(a) // _number(b),
    "remainder": lambda a, b: _number(a) % _number(b), "fmod": math.fmod, "neg": lambda a: -_number(a),
    "pow": _power, "eq": _equal, "ne": lambda a, b: not _equal(a, b), "lt": _compare(operator.lt),
    "le": _compare(operator.le), "gt": _compare(operator.gt), "ge": _compare(operator.ge),
    "__and__": lambda a, b: _number(a) & _number(b), "__or__": lambda a, b: _number(a) | _number(b),
    "__xor__": lambda a, b: _number(a) ^ _number(b), "__not__": lambda a: not a,
    "__lshift__": _shift, "__rshift__": lambda a, b: a >> min(max(b, 0), 64),
    "floor": math.floor, "ceil": math.ceil, "sqrt": math.sqrt, "log": math.log, "log2": math.log2,
    "log10": math.log10, "exp": math.exp, "abs": abs, "round": round, "sin": math.sin, "cos": math.cos,
    "tan": math.tan, "tanh": math.tanh, "isnan": math.isnan, "isinf": math.isinf, "gcd": math.gcd,
    "max": _smallest(max), "min": _smallest(min), "sum": lambda a: sum(map(_number, a)),
    "prim.max": _smallest(max), "prim.min": _smallest(min), "prim.abs": abs,
    "Int": int, "Float": float, "Bool": bool, "str": text, "ScalarImplicit": lambda a: a, "item": lambda a: a,
    "format": _format, "lower": str.lower, "upper": str.upper, "strip": str.strip, "split": _split,
    "startswith": str.startswith, "endswith": str.endswith, "find": str.find,
    "any": any, "all": all,
    "is_floating_point": lambda a: isinstance(a, float),
}  # fmt: skip

# operators on containers, whatever their elements are
CONTAINERS: dict[str, Plain] = {
    "append": lambda values, value: (values.append(value), checked(values))[1],
    "add_": lambda values, others: (values.extend(others), checked(values))[1],
    "extend": lambda values, others: (values.extend(others), checked(values))[1],
    "insert": lambda values, place, value: (values.insert(place, value), checked(values))[1],
    "pop": lambda values, *place: values.pop(*place), "popitem": lambda values: values.popitem(),
    "reverse": lambda values: values.reverse(), "clear": lambda values: values.clear(),
    "copy": lambda values: values.copy(), "list": list, "len": len, "slice": _sliced, "add": _add,
    "__getitem__": lambda values, place: values[place], "select": lambda values, place: values[place],
    "_set_item": lambda values, place, value: values.__setitem__(place, value),
    "Delete": lambda values, place: values.__delitem__(place),
    "keys": lambda values: list(values.keys()), "values": lambda values: list(values.values()),
    "items": lambda values: list(values.items()), "get": lambda values, key, *other: values.get(key, *other),
    "update": lambda values, others: values.update(others), "dict": dict,
    "setdefault": lambda values, key, value: values.setdefault(key, value),
    "__contains__": _contains, "ListIndex": list.index, "mul": _mul,
    "join": lambda separator, parts: separator.join(parts),
}  # fmt: skip
