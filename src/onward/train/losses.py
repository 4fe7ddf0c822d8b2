"""Losses: how far a model's outputs are from what they should be, and the gradient by the outputs.

Each is a function of outputs y (..., O), targets, and a mask (...) of booleans, which says which rows of y
count; it returns the mean over what counts, 0 if nothing does, and the gradient dy of that mean, in the shape
and dtype of y. y may have a row for each sequence, (B, O), or for each step, (T, B, O).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import LARGEST, integer, positive, probability
from ..errors import ArgumentError, DtypeError, ShapeError

IGNORED = -100  # PyTorch's

Loss: TypeAlias = Callable[[Array, NDArray[Any], "NDArray[np.bool_] | None"], tuple[float, Array]]


def cross_entropy(
    y: ArrayLike,
    targets: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    ignore_index: int = IGNORED,
    label_smoothing: float = 0.0,
) -> tuple[float, Array]:
    """-sum_k q_k log softmax(y)_k, q = (1 - e) [k = target] + e / C, e = label_smoothing.

    y (..., C): logits; targets (...): the number of the right class of each row, or ignore_index for a row
    that does not count. As torch.nn.functional.cross_entropy, which has the classes in axis 1. Raises
    ShapeError, DtypeError, ArgumentError. Source of the smoothing: Szegedy et al. 2016.
    """
    y = _outputs(y)
    C = y.shape[-1]
    if C == 0:
        raise ShapeError(f"y has shape {y.shape}, but must be (..., C): C classes, at least 1")
    smoothing = probability("label_smoothing", label_smoothing)
    because = f"y has {C} classes"
    targets = arrays.as_integers(targets, -LARGEST - 1, LARGEST, "targets", because)
    _check_shape(targets, y.shape[:-1], y)
    counted = _counted(mask, targets.shape) & (targets != integer("ignore_index", ignore_index, -(1 << 63)))
    right = arrays.as_integers(np.where(counted, targets, 0), 0, C - 1, "targets", because)[..., None]

    with np.errstate(invalid="ignore"):  # what is not finite comes out as NaN
        shifted = y - y.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    sums = powers.sum(axis=-1, keepdims=True)
    losses = np.log(sums) - (1 - smoothing) * np.take_along_axis(shifted, right, -1)
    dy = powers / sums
    np.put_along_axis(dy, right, np.take_along_axis(dy, right, -1) - (1 - smoothing), -1)
    if smoothing:
        losses -= smoothing * shifted.mean(axis=-1, keepdims=True)
        dy -= smoothing / C
    return _mean(losses, dy, counted)


def mse(y: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None) -> tuple[float, Array]:
    """(y - targets)^2, as torch.nn.functional.mse_loss. Raises ShapeError, DtypeError."""
    error, counted = _error(y, targets, mask)
    return _mean(error * error, 2 * error, counted)


def mae(y: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None) -> tuple[float, Array]:
    """|y - targets|, as torch.nn.functional.l1_loss. Raises ShapeError, DtypeError."""
    error, counted = _error(y, targets, mask)
    return _mean(np.abs(error), np.sign(error), counted)


def huber(
    y: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None, *, delta: float = 1.0
) -> tuple[float, Array]:
    """e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2); e = y - targets.

    As torch.nn.functional.huber_loss. Raises ShapeError, DtypeError, ArgumentError. Source: Huber 1964.
    """
    bound = positive("delta", delta)
    error, counted = _error(y, targets, mask)
    near = np.clip(error, -bound, bound)
    return _mean(near * (error - near / 2), near, counted)


def bce(y: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None) -> tuple[float, Array]:
    """-t log s - (1 - t) log(1 - s), s = sigmoid(y), for targets t from 0 to 1.

    As torch.nn.functional.binary_cross_entropy_with_logits. Raises ShapeError, DtypeError, ArgumentError.
    """
    y = _outputs(y)
    t, counted = _targets(y, targets, mask)
    if ((t < 0) | (t > 1)).any(where=counted[..., None]):
        raise ArgumentError("targets of bce must be from 0 to 1: each is the probability of its output")
    tail = np.exp(-np.abs(y))
    sigmoid = np.where(y >= 0, 1, tail) / (1 + tail)
    return _mean(np.maximum(y, 0) - y * t + np.log1p(tail), sigmoid - t, counted)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy, "mse": mse, "mae": mae, "huber": huber, "bce": bce,
}  # fmt: skip


def named(loss: str | Loss) -> Loss:
    """The loss of that name, or the function itself; functools.partial gives one with other options."""
    if callable(loss):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ArgumentError(f"loss={loss!r}, but must be one of {', '.join(LOSSES)}, or such a function")
    return LOSSES[loss]


def described(loss: Loss) -> str:
    """A loss by its name and its options, the same wherever it stands in memory."""
    if isinstance(loss, partial):
        options = [*map(repr, loss.args), *(f"{name}={value!r}" for name, value in loss.keywords.items())]
        return f"{described(loss.func)}({', '.join(options)})"
    return str(getattr(loss, "__name__", type(loss).__name__))


def not_ignored(loss: Loss, targets: ArrayLike, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of the rows in a mask, those whose target the loss does not ignore."""
    if (loss.func if isinstance(loss, partial) else loss) is not cross_entropy:
        return mask
    ignored = loss.keywords.get("ignore_index", IGNORED) if isinstance(loss, partial) else IGNORED
    counted: NDArray[np.bool_] = mask & (np.asarray(targets) != ignored)
    return counted


def _outputs(y: ArrayLike) -> Array:
    y = arrays.as_array(y, "y")
    if y.ndim == 0:
        raise ShapeError("y has shape (), but must be (..., O): O outputs of each row")
    return arrays.as_floats(y, arrays.working_dtype(y), "y")


def _check_shape(targets: NDArray[Any], expected: Shape, y: Array) -> None:
    if targets.shape != expected:
        raise ShapeError(f"targets has shape {targets.shape}, but for y of {y.shape} it must be {expected}")


def _targets(y: Array, targets: ArrayLike, mask: ArrayLike | None) -> tuple[Array, NDArray[np.bool_]]:
    """Targets that are numbers like y, and which rows count."""
    t = arrays.as_floats(targets, y.dtype, "targets")
    _check_shape(t, y.shape, y)
    return t, _counted(mask, y.shape[:-1])


def _error(y: ArrayLike, targets: ArrayLike, mask: ArrayLike | None) -> tuple[Array, NDArray[np.bool_]]:
    y = _outputs(y)
    t, counted = _targets(y, targets, mask)
    return y - t, counted


def _counted(mask: ArrayLike | None, rows: Shape) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(rows, np.bool_)
    array = arrays.as_array(mask, "mask")
    if array.dtype != np.bool_:
        raise DtypeError(f"mask has dtype {array.dtype}, but must hold booleans")
    if array.shape != rows:
        raise ShapeError(f"mask has shape {array.shape}, but must have {rows}, one for each row of y")
    return array


def _mean(losses: Array, dy: Array, counted: NDArray[np.bool_]) -> tuple[float, Array]:
    """The mean of losses (..., n) over the rows counted, and dy made its gradient; both are consumed."""
    where = counted[..., None]
    count = max(1, int(counted.sum()) * losses.shape[-1])
    np.copyto(dy, 0, where=~where)
    dy /= dy.dtype.type(count)
    return float(losses.sum(where=where, dtype=np.float64)) / count, dy
