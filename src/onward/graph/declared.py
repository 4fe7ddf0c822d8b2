"""Check the inputs of a call against the inputs that a graph declares."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays
from ..errors import DtypeError, ShapeError, SignatureError
from .graph import Input
from .node import AnyArray

UNNAMED = {"", "?", "-1", "None"}  # what exporters write for an axis of any size


def check_names(known: Mapping[str, Any], names: Sequence[str], what: str) -> None:
    """Raise SignatureError for names that are not known."""
    if unknown := [name for name in names if name not in known]:
        raise SignatureError(f"unknown {what}: {', '.join(unknown)}; the model has ({', '.join(known)})")


def as_declared(declared: Input, value: ArrayLike) -> Any:
    """Convert a value to the declared dtype and check its shape. Raises DtypeError, ShapeError."""
    if declared.dtype is None:
        return value
    name = declared.name
    array = value if type(value) is np.ndarray else arrays.as_array(value, name)
    if array.dtype != declared.dtype:
        if not np.can_cast(array.dtype, declared.dtype, "same_kind"):
            raise DtypeError(
                f"{name} has dtype {array.dtype}, but the model takes {declared.dtype}: convert it first"
            )
        with np.errstate(all="ignore"):
            array = array.astype(declared.dtype)
    if declared.axes is not None and not _fits(array.shape, declared.axes):
        takes = ", ".join("any" if axis in UNNAMED else str(axis) for axis in declared.axes)
        raise ShapeError(f"{name} has shape {array.shape}, but the model takes ({takes})")
    return array


def _fits(shape: tuple[int, ...], axes: tuple[int | str, ...]) -> bool:
    if len(shape) != len(axes):
        return False
    return all(size == axis or isinstance(axis, str) for size, axis in zip(shape, axes, strict=True))


def open_sizes(inputs: Sequence[Input], arrays: Sequence[Any]) -> dict[str, int]:
    """Return the size of each named axis. Raises ShapeError if axes of the same name have different sizes."""
    sizes: dict[str, tuple[int, str]] = {}
    for declared, array in zip(inputs, arrays, strict=True):
        for axis, size in zip(declared.axes or (), getattr(array, "shape", ()), strict=False):
            if isinstance(axis, str) and axis not in UNNAMED:
                known, owner = sizes.setdefault(axis, (size, declared.name))
                if known != size:
                    raise ShapeError(
                        f"the axis {axis} has size {known} in {owner}, but {size} in {declared.name}: "
                        "pass inputs of matching sizes"
                    )
    return {axis: size for axis, (size, _) in sizes.items()}


def zeros_of(declared: Input, sizes: Mapping[str, int]) -> AnyArray | None:
    """Return zeros of the declared shape, or None if one of its sizes is unknown."""
    axes = [sizes.get(axis) if isinstance(axis, str) else axis for axis in declared.axes or (None,)]
    return None if None in axes else np.zeros(axes, declared.dtype)  # type: ignore[arg-type]  # no axis is None


def check_call(
    names: Sequence[str], args: Sequence[Any], inputs: Mapping[str, Any], missing: Sequence[str]
) -> None:
    """Raise SignatureError for inputs of a model that are unknown, missing or passed twice."""
    takes = f"the model takes ({', '.join(names)})"
    if len(args) > len(names):
        raise SignatureError(f"got {len(args)} inputs; {takes}")
    if any(isinstance(value, dict) for value in args):
        raise SignatureError(f"got a dict of inputs: pass them by name, as model(**inputs); {takes}")
    twice, unknown = set(names[: len(args)]) & inputs.keys(), inputs.keys() - set(names)
    for wrong, problem in (
        (twice, "inputs passed twice"),
        (unknown, "unknown inputs"),
        (missing, "missing inputs"),
    ):
        if wrong:
            raise SignatureError(f"{problem}: {', '.join(sorted(wrong))}; {takes}")
