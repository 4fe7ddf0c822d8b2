"""Check arguments: each function returns a plain Python value or raises an error that names the argument."""

from __future__ import annotations  # np.random is slow to import

import functools
import inspect
import math
import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, ParamSpec, TypeAlias, TypeVar

import numpy as np

from ..errors import ArgumentError, SignatureError
from .equivalents import argument_hints

P = ParamSpec("P")
Value = TypeVar("Value")
Rng: TypeAlias = "np.random.Generator | int | None"


def checked(init: Callable[P, None]) -> Callable[P, None]:
    """Make a constructor raise SignatureError, with its signature, for unknown or missing arguments."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def checked_init(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = ", ".join(name for name in kwargs if name not in signature.parameters)
            problem = f"has no argument {unknown}" if unknown else str(error)
            takes = ", ".join(
                str(parameter.replace(annotation=inspect.Parameter.empty))
                for name, parameter in signature.parameters.items()
                if name != "self"
            )
            layer = type(args[0]).__name__
            raise SignatureError(f"{layer}: {problem}; it takes ({takes}){argument_hints(kwargs)}") from None
        init(*args, **kwargs)

    return checked_init


def unknown_arguments(layer: Any, names: Iterable[str], takes: str) -> SignatureError:
    """The error for unknown keyword arguments of a call; `takes` lists the valid ones."""
    problem = f"a call of {type(layer).__name__} has no argument {', '.join(names)}; it takes ({takes})"
    return SignatureError(problem + argument_hints(names))


LARGEST = (1 << 63) - 1  # the largest size of an axis


def integer(name: str, value: Any, low: int, high: int = LARGEST) -> int:
    """`value` as an int from `low` to `high`. Raises ArgumentError."""
    is_integer = hasattr(value, "__index__") and not isinstance(value, bool | np.bool_)
    number = operator.index(value) if is_integer else None
    if number is None or not low <= number <= high:
        plain = high == LARGEST and (number is None or number < low)
        bounds = f"of at least {low}" if plain else f"from {low} to {high}"
        raise ArgumentError(f"{name}={value!r}, but must be an integer {bounds}")
    return number


def finite(value: Any) -> float | None:
    """`value` as a float, or None if it is not a finite number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def probability(name: str, value: Any) -> float:
    """`value` as a float from 0 to 1. Raises ArgumentError."""
    number = finite(value)
    if number is None or not 0 <= number <= 1:
        raise ArgumentError(f"{name}={value!r}, but must be a number from 0 to 1")
    return number


def non_negative(name: str, value: Any) -> float:
    """`value` as a non-negative float. Raises ArgumentError."""
    number = finite(value)
    if number is None or number < 0:
        raise ArgumentError(f"{name}={value!r}, but must be a number of at least 0")
    return number


def positive(name: str, value: Any) -> float:
    """`value` as a positive float. Raises ArgumentError."""
    number = finite(value)
    if number is None or number <= 0:
        raise ArgumentError(f"{name}={value!r}, but must be a positive number")
    return number


def flag(name: str, value: Any) -> bool:
    """`value` as a bool. Raises ArgumentError, also for numbers: a misplaced size would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{name}={value!r}, but must be True or False")
    return bool(value)


def instance(name: str, value: Any, kind: type[Value], such_as: str) -> Value:
    """`value`. Raises ArgumentError if it is not an instance of `kind`, described as `such_as`."""
    if not isinstance(value, kind):
        raise ArgumentError(f"{name}={reprlib.repr(value)}, but must be {such_as}")
    return value


class Checked:
    """The base of frozen dataclasses: CHECKS maps a field to the check that returns its plain number or bool.

    A NumPy scalar would promote float32 to float64, and its repr differs from that of the equal float.
    """

    CHECKS: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {}

    def __post_init__(self) -> None:
        for kind in reversed(type(self).__mro__):
            for name, check in vars(kind).get("CHECKS", {}).items():
                object.__setattr__(self, name, check(name, getattr(self, name)))


def generator(rng: Rng) -> np.random.Generator:
    """A generator unchanged, or a new one with the given seed, or a random seed. Raises ArgumentError."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"rng={rng!r}, but must be a numpy.random.Generator, an integer or None"
        ) from error
