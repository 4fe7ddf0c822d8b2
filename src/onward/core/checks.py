"""Check arguments: each function returns a plain Python value or raises an error that names the argument."""

from __future__ import annotations  # np.random is slow to import

import contextlib
import functools
import inspect
import math
import operator
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, ParamSpec, Self, TypeAlias, TypeVar

import numpy as np

from ..errors import ArgumentError, MemoryLimitError, OnwardError, SignatureError
from .equivalents import argument_hints

P = ParamSpec("P")
Value = TypeVar("Value")
Rng: TypeAlias = "np.random.Generator | int | None"


def checked(init: Callable[P, None]) -> Callable[P, None]:
    """Make a constructor raise SignatureError, with its signature, for unknown or missing arguments."""

    @functools.wraps(init)
    def checked_init(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            init(*args, **kwargs)
        except TypeError:
            check_signature(type(args[0]), inspect.signature(init), args, kwargs)
            raise

    return checked_init


def check_signature(
    kind: type, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Raise SignatureError, with the signature of a constructor, for arguments that it does not take."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        unknown = ", ".join(name for name in kwargs if name not in signature.parameters)
        problem = f"has no argument {unknown}" if unknown else str(error)
        parameters = [p for name, p in signature.parameters.items() if name != "self"]
        takes = str(inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in parameters]))
        hints = argument_hints(kwargs)
        raise SignatureError(f"{kind.__name__}: {problem}; it takes {takes}{hints}") from None


def unknown_arguments(layer: Any, names: Iterable[str], takes: str) -> SignatureError:
    """The error for unknown keyword arguments of a call; `takes` lists the valid ones."""
    problem = f"a call of {type(layer).__name__} has no argument {', '.join(names)}; it takes ({takes})"
    return SignatureError(problem + argument_hints(names))


LARGEST = (1 << 63) - 1  # the largest size of an axis


def integer(name: str, value: Any, low: int, high: int = LARGEST) -> int:
    """`value` as an int from `low` to `high`. Raises ArgumentError."""
    number: int | None = None
    if not isinstance(value, bool | np.bool_):
        with contextlib.suppress(TypeError):  # an array of one integer
            number = operator.index(value)
    if number is None or not low <= number <= high:
        plain = high == LARGEST and (number is None or number < low)
        bounds = f"of at least {low}" if plain else f"from {low} to {high}"
        raise ArgumentError(f"{name}={reprlib.repr(value)}, but must be an integer {bounds}")
    return number


MOST_ROWS = (1 << 31) - 1  # whose states no computer holds


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Raise MemoryLimitError if the memory for `what` cannot be allocated."""
    try:
        yield
    except OnwardError:
        raise
    except MemoryError as error:
        raise MemoryLimitError(f"this process cannot allocate the memory for {what}: {error}") from error


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

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if args or kwargs:  # copying and unpickling pass none
            check_signature(cls, inspect.signature(cls.__init__), (None, *args), kwargs)
        return super().__new__(cls)

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
