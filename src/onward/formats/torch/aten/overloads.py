"""Choose the overload of an ATen operator from its arguments, as PyTorch does for TorchScript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .refusals import reason
from .registry import OPERATORS, Symbol, Tensor
from .schemas import DTYPES, IGNORED, REQUIRED, Parameter, overloads

OTHERS = {"Tensor": Tensor, "str": str, "Device": str}
KINDS = {"int": "iu", "float": "f", "bool": "b", "Scalar": "iufc", "ScalarType": "i"}  # of dtypes


def overload(
    name: str, arguments: Sequence[Any], keywords: Mapping[str, Any], in_place: bool = False
) -> tuple[str, dict[str, Any]]:
    """Return the overload that takes these arguments, and all of its arguments by name.

    As in PyTorch, it is the first one whose types fit, else the first one to whose types the arguments can be
    converted. Raises ArgumentError if the operator or the arguments are not supported.
    """
    candidates = (overloads(f"{name}_") if in_place else {}) or overloads(name)
    problem = ""
    for converts in (False, True):
        for key, parameters in candidates.items():
            try:
                bound = _bound(parameters, arguments, keywords, converts)
            except TypeError as error:
                problem = problem or str(error)
                continue
            found = f"{name}.{key.rpartition('.')[2]}"
            if found not in OPERATORS:
                raise ArgumentError(f"the overload {key} of an operator is not supported")
            return found, bound
    if not candidates:
        raise ArgumentError(f"the operator {name[:100]} is not supported{reason(name)}")
    raise ArgumentError(f"the operator {name} does not take these arguments: {problem}")


def _bound(
    parameters: Sequence[Parameter], arguments: Sequence[Any], keywords: Mapping[str, Any], converts: bool
) -> dict[str, Any]:
    """Match arguments with parameters. Raises TypeError if they do not fit."""
    count = len(arguments)
    if count > len(parameters) or (count and not parameters[count - 1].is_positional):
        positional = sum(parameter.is_positional for parameter in parameters)
        raise TypeError(f"got {count} arguments, expected at most {positional}")
    given = {**{p.name: value for p, value in zip(parameters, arguments, strict=False)}, **keywords}
    if keywords and (unknown := keywords.keys() - {parameter.name for parameter in parameters}):
        raise TypeError(f"unknown argument {min(unknown)}")
    bound = {}
    for name, kind, default, _ in parameters:
        if name not in given and default is REQUIRED:
            raise TypeError(f"the argument {name} is missing")
        if name not in IGNORED:
            bound[name] = _converted(name, kind, given[name], converts) if name in given else default
    return bound


def _converted(name: str, kind: str, value: Any, converts: bool) -> Any:
    """Return a value as an argument of a type. Raises TypeError if it is none."""
    if value is None and kind.endswith("?"):
        return None
    kind = kind.removesuffix("?")
    if kind.endswith("]"):
        inner, _, count = kind[:-1].rpartition("[")
        if isinstance(value, list | tuple):
            return [_converted(name, inner, each, converts) for each in value]
        if count:
            return [_converted(name, inner, value, converts)] * int(count)
    elif kind == "ScalarType" and type(value) is int and value in DTYPES:
        return np.dtype(DTYPES[value])
    elif kind in KINDS and (number := _number(kind, value, converts)) is not None:
        return number
    elif kind not in KINDS and isinstance(value, OTHERS.get(kind, int)):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, not a {kind}")


def _number(kind: str, value: Any, converts: bool) -> Any:
    """Return a number of a type, or None. A tensor without axes may be converted to a number."""
    if isinstance(value, bool | int | float | complex):
        fits = np.min_scalar_type(value).kind in KINDS[kind]
    elif isinstance(value, Symbol):
        fits = value.dtype.kind in KINDS[kind]
    elif isinstance(value, Tensor) and not value.shape and converts:
        return Symbol(value.name, value.dtype)
    else:
        return None
    return value if fits or (converts and kind in ("float", "int", "Scalar")) else None
