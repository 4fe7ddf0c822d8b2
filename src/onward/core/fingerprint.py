"""A hash of everything that determines what a model computes, to recognize the model of a saved state."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import ArgumentError


@runtime_checkable
class Meaningful(Protocol):
    """An object that names what determines its results."""

    def meaning(self) -> Any:
        """Return numbers, strings, arrays and containers of them, or objects that have a meaning."""


def fingerprint(value: Any) -> str:
    """Return a hash that is equal for equal values, in every process: arrays, containers, models, functions.

    Lists equal tuples. A function is identified by its name and its module, and an object by what `pickle`
    would store. Raises ArgumentError for an object that cannot be pickled.
    """
    import hashlib  # deferred: hashlib loads OpenSSL, which takes as much memory as all of Onward

    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(len(part).to_bytes(8, "little"))  # no part continues another one
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[Any]:
    """Yield buffers from which the value could be rebuilt."""
    match value:
        case np.ndarray() if not value.dtype.hasobject:
            yield f"array {value.dtype.str} {value.shape}".encode()
            yield np.ascontiguousarray(value).data.cast("B") if value.size else b""
        case np.ndarray():
            yield from _parts(("objects", value.shape, value.ravel().tolist()))
        case np.generic():
            yield from _parts(value.item())
        case None | bool() | int() | float() | complex() | str() | bytes():
            yield f"{type(value).__name__} {value!r}".encode("utf-8", "surrogatepass")
        case np.dtype():
            yield f"dtype {value.str} {value.name}".encode()
        case list() | tuple():
            yield f"sequence {len(value)}".encode()
            for item in value:
                yield from _parts(item)
        case Mapping():
            yield f"mapping {len(value)}".encode()
            for key in sorted(value, key=repr):
                yield from _parts((key, value[key]))
        case set() | frozenset():
            yield from _parts(("set", sorted(map(fingerprint, value))))
        case Meaningful() if not isinstance(value, type):
            yield from _parts((type(value).__name__, value.meaning()))
        case _:
            yield from _parts(_reduced(value))


def _reduced(value: Any) -> Any:
    """Return the name of a function or class, or the parts of another object."""
    name = getattr(value, "__qualname__", None)
    if name is not None and getattr(value, "__self__", None) is None:
        return "name", value.__module__, name
    try:
        reduced = value.__reduce_ex__(2)
    except TypeError as error:
        raise ArgumentError(
            f"the model contains {value!r}, which cannot be compared with that of another process: {error}"
        ) from error
    if isinstance(reduced, str):
        return "name", getattr(value, "__module__", None), reduced
    make, arguments, *rest = reduced
    return "object", make, arguments, [list(part) if isinstance(part, Iterator) else part for part in rest]
