"""The schemas of ATen's overloads: the names, order, types and default values of arguments, and the outputs.

`schemas.txt` lists them as PyTorch registers them; `tools/make_schemas.py` writes it.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ....core.syntax import parse_expression
from ....errors import ArgumentError

REQUIRED = object()  # the default value of an argument that has none
IGNORED = {"device", "layout", "pin_memory", "memory_format", "generator", "non_blocking", "requires_grad"}
# bfloat16 has no NumPy dtype, and is widened to float32
DTYPES = {
    0: np.uint8, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.int64, 5: np.float16, 6: np.float32,
    7: np.float64, 9: np.complex64, 10: np.complex128, 11: np.bool_, 15: np.float32,
}  # fmt: skip


class Parameter(NamedTuple):
    """A parameter of an overload; `kind` is its type, such as "int[2]?"."""

    name: str
    kind: str
    default: Any
    is_positional: bool


def completed(key: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an overload, of which a call may have omitted some, with the default values."""
    return {**arguments, **{name: value for name, value in _defaults(key).items() if name not in arguments}}


@cache
def _defaults(key: str) -> dict[str, Any]:
    """Return the default values of the parameters of an overload."""
    return {p.name: p.default for p in schema(key) if p.default is not REQUIRED and p.name not in IGNORED}


def taken(key: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a function takes. Raises ArgumentError if others have no default values."""
    parameters, takes_any = _signature(function)
    if takes_any or parameters.issuperset(arguments):
        return dict(arguments)
    defaults = _defaults(key)
    for name in arguments.keys() - parameters - IGNORED:
        if name not in defaults or not _equal(arguments[name], defaults[name]):
            raise ArgumentError(f"{key} takes no other value of {name} than {defaults.get(name)}")
    return {name: value for name, value in arguments.items() if name in parameters}


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


@cache
def _signature(function: Callable[..., Any]) -> tuple[frozenset[str], bool]:
    """Return the names of the parameters of a function, and whether it takes any keywords."""
    kinds = {name: p.kind for name, p in inspect.signature(function).parameters.items()}
    return frozenset(kinds), inspect.Parameter.VAR_KEYWORD in kinds.values()


def schema(key: str) -> tuple[Parameter, ...]:
    """Return the parameters of an overload, or of its in-place variant if there is no other."""
    name, _, overload = key.rpartition(".")
    return overloads(name).get(key) or overloads(f"{name}_").get(f"{name}_.{overload}", ())


def outputs(key: str) -> int:
    """Return the number of tensors that an overload returns; 1 if it returns a list of them, or nothing."""
    return _outputs().get(key, 1)


@cache
def _outputs() -> dict[str, int]:
    several = [line.rpartition(" -> ") for line in lines() if " -> " in line]
    return {_key(schema): int(count) for schema, _, count in several}


def _key(schema: str) -> str:
    """Return the name of an overload, such as add.Tensor or relu.default."""
    name = schema.partition("(")[0]
    return name if "." in name else f"{name}.default"


def in_place(name: str) -> str:
    """Return the operator that another one, such as add_, computes in place, or "" if it does not."""
    return next(iter(_table().get(f"{name} =", ())), "")


def lines() -> list[str]:
    """Return the lines of the table."""
    return (pkgutil.get_data(__name__, "schemas.txt") or b"").decode().splitlines()


@cache
def _table() -> dict[str, list[str]]:
    """Return the lines of the table by the names of operators."""
    table: dict[str, list[str]] = {}
    for line in lines():
        name, _, plain = line.partition(" = ")
        is_alias = plain.isidentifier()
        key = f"{name} =" if is_alias else re.split(r"[.(]", line, maxsplit=1)[0]
        table.setdefault(key, []).append(plain if is_alias else line)
    return table


@cache
def overloads(name: str) -> Mapping[str, tuple[Parameter, ...]]:
    """Return the overloads of an operator, such as split.sizes, in the order in which PyTorch tries them."""
    found = {}
    for line in _table().get(name, ()):
        parameters = line.partition("(")[2].rpartition(")")[0]
        found[_key(line)] = tuple(_parameters(parameters))
    return found


def _parameters(text: str) -> list[Parameter]:
    parameters, is_positional = [], True
    for part in re.split(r", (?![^\[]*\])", text) if text else ():
        if part == "*":
            is_positional = False
            continue
        kind, _, declared = part.partition(" ")
        name, has_default, default = declared.partition("=")
        value = ast.literal_eval(parse_expression(default)) if has_default else REQUIRED
        if kind.startswith("ScalarType") and type(value) is int:
            value = np.dtype(DTYPES[value])
        parameters.append(Parameter(name, kind, value, is_positional))
    return parameters
