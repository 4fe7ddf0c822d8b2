"""Signature rules that several operations share."""

from typing import Any

import numpy as np

from ...errors import DtypeError, ShapeError
from ..node import Operand, Signature
from ..sized import broadcast_shape, dtype_of


def like_first(x: Operand, *others: Operand | None, **attributes: Any) -> Signature:
    """The output has the shape and dtype of the first input."""
    return Signature.of(x)


def like_first_boolean(x: Operand, **attributes: Any) -> Signature:
    """The output has the shape of the input; its dtype is bool."""
    return Signature(x.shape, np.dtype(bool))


def check_broadcast(x: Operand, *others: Operand | None) -> None:
    """Raise ShapeError if an input does not broadcast into the shape of the first."""
    shapes = [a.shape for a in others if a is not None]
    if broadcast_shape(x.shape, *shapes) != x.shape:
        raise ShapeError(f"inputs of shapes {shapes} cannot be broadcast to shape {x.shape}")


def common_dtype(*inputs: Operand | None) -> np.dtype[Any]:
    """Return the dtype of all inputs. Raises DtypeError if they differ."""
    first, *others = [dtype_of(a) for a in inputs if a is not None]
    if any([dtype is not first and dtype != first for dtype in others]):
        found = ", ".join(map(str, dict.fromkeys([first, *others])))
        raise DtypeError(f"the inputs have dtypes {found}; expected one dtype for all")
    return first


def broadcast(*inputs: Operand, **attributes: Any) -> Signature:
    """The output has the broadcast shape and the dtype of the inputs."""
    return Signature(broadcast_shape(*[a.shape for a in inputs]), common_dtype(*inputs))


def broadcast_booleans(*inputs: Operand, **attributes: Any) -> Signature:
    """The output has the broadcast shape of the inputs, which have one dtype; its dtype is bool."""
    return broadcast(*inputs).of_dtype(bool)
