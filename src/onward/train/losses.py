"""Loss functions: the mean loss of a model's outputs, and its gradient with respect to them.

A loss takes outputs y (..., O), targets, and a boolean mask (...) that selects the rows of y to average over
(None: all). It returns the mean, which is 0 if no row is selected, and its gradient dy, with the shape and
dtype of y. y has one row per sequence, (B, O), or one per time step, (T, B, O). The results have the same
bits on every processor: exponentials, logarithms and sums are computed by the core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

import onward._core as _core

from ..core import arrays
from ..core.activations import call
from ..core.arrays import Array, Shape
from ..core.checks import LARGEST, flag, integer, positive, probability
from ..core.functions import activate, unary
from ..errors import ArgumentError, DtypeError, ShapeError
from ..layers.base_model import BaseModel
from .outputs import final_function

IGNORE_INDEX = -100  # as in PyTorch

Loss: TypeAlias = Callable[[Array, NDArray[Any], "NDArray[np.bool_] | None"], tuple[float, Array]]


def cross_entropy(
    y: ArrayLike,
    targets: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    ignore_index: int = IGNORE_INDEX,
    label_smoothing: float = 0.0,
    from_logits: bool = True,
) -> tuple[float, Array]:
    """Cross entropy of logits, as torch.nn.functional.cross_entropy but with the classes on the last axis.

    loss = -sum_k q_k log softmax(y)_k, where q = (1 - e) [k = target] + e / C and e = label_smoothing.
    y (..., C): logits or, with from_logits=False as in Keras, probabilities, which a final softmax returns;
    then log y_k takes the place of log softmax(y)_k. targets (...): class indices; a row whose target is
    ignore_index does not count. Raises ShapeError, DtypeError, ArgumentError.

    >>> loss, dy = cross_entropy([[0.0, 0.0]], [1])
    >>> round(loss, 4), dy.tolist()
    (0.6931, [[0.5, -0.5]])

    Source: Szegedy et al. 2016 (label smoothing).
    """
    y = _outputs(y)
    C = y.shape[-1]
    if C == 0:
        raise ShapeError(f"y has shape {y.shape}; expected (..., C) with at least one class")
    smoothing = probability("label_smoothing", label_smoothing)
    reason = f"y has {C} classes" if C > 1 else "y has one class: use bce for a model with one output"
    targets = arrays.as_integers(targets, -LARGEST - 1, LARGEST, "targets", reason)
    _check_shape(targets, y.shape[:-1], y)
    counted = _mask(mask, targets.shape) & (targets != integer("ignore_index", ignore_index, -(1 << 63)))
    arrays.as_integers(np.where(counted, targets, 0), 0, C - 1, "targets", reason)
    if not flag("from_logits", from_logits):
        q = smoothing / C + (1 - smoothing) * (np.arange(C) == targets[..., None])
        p = _probabilities(y, counted)
        losses = -(q * unary("log", p)).sum(axis=-1, keepdims=True)
        return _mean(losses, (-q / p).astype(y.dtype), counted)
    logits, classes = arrays.contiguous(y).reshape(-1, C), np.where(counted, targets, -1).reshape(-1)
    dy = np.empty_like(logits)
    loss = _core.cross_entropy(logits, classes, smoothing, dy)
    return loss, dy.reshape(y.shape)


def mse(y: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None) -> tuple[float, Array]:
    """Mean squared error, (y - targets)^2, as torch.nn.functional.mse_loss. Raises ShapeError, DtypeError.

    >>> loss, dy = mse([[1.0, 2.0]], [[0.0, 0.0]])
    >>> loss, dy.tolist()
    (2.5, [[1.0, 2.0]])
    """
    error, counted = _error(y, targets, mask)
    return _mean(error * error, 2 * error, counted)


def mae(y: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None) -> tuple[float, Array]:
    """Mean absolute error, |y - targets|, as torch.nn.functional.l1_loss. Raises ShapeError, DtypeError.

    >>> loss, dy = mae([[1.0, -2.0]], [[0.0, 0.0]])
    >>> loss, dy.tolist()
    (1.5, [[0.5, -0.5]])
    """
    error, counted = _error(y, targets, mask)
    return _mean(np.abs(error), np.sign(error), counted)


def huber(
    y: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None, *, delta: float = 1.0
) -> tuple[float, Array]:
    """Huber loss, as torch.nn.functional.huber_loss.

    With e = y - targets, the loss is e^2 / 2 where |e| <= delta and delta (|e| - delta / 2) elsewhere.
    Raises ShapeError, DtypeError, ArgumentError. Source: Huber 1964.

    >>> loss, dy = huber([[0.5, 3.0]], [[0.0, 0.0]])
    >>> loss, dy.tolist()
    (1.3125, [[0.25, 0.5]])
    """
    bound = positive("delta", delta)
    error, counted = _error(y, targets, mask)
    clipped = np.clip(error, -bound, bound)
    return _mean(clipped * (error - clipped / 2), clipped, counted)


def quantile(
    y: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None, *, quantiles: Sequence[float] = (0.5,)
) -> tuple[float, Array]:
    """Quantile loss, whose minimum is the quantiles of the targets.

    With e = targets - y, the loss is q e where e > 0 and (q - 1) e elsewhere. y (..., Q O): the O outputs of
    each of the Q quantiles, one after another. targets (..., O). Raises ShapeError, DtypeError and
    ArgumentError.
    Source: Koenker and Bassett 1978.

    >>> loss, dy = quantile([[1.0, 3.0]], [[2.0]], quantiles=(0.1, 0.9))
    >>> round(loss, 4), dy.round(2).tolist()
    (0.1, [[-0.05, 0.05]])
    """
    levels = np.array([probability("quantiles", each) for each in quantiles])
    y = _outputs(y)
    if not len(levels) or y.shape[-1] % len(levels):
        raise ShapeError(
            f"y has shape {y.shape}; expected a multiple of {len(levels)} outputs, the quantiles"
        )
    goal = np.asarray(targets)
    if y.shape[-1] == len(levels) and goal.ndim < y.ndim:
        goal = goal[..., None]
    error, counted = _error(y, np.concatenate([goal] * len(levels), axis=-1), mask)
    level = np.repeat(levels, y.shape[-1] // len(levels)).astype(y.dtype)
    slope = np.where(error > 0, 1 - level, -level).astype(y.dtype)  # error is y - targets
    return _mean(slope * error, slope, counted)


def bce(
    y: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None, *, from_logits: bool = True
) -> tuple[float, Array]:
    """Binary cross entropy of logits, as torch.nn.functional.binary_cross_entropy_with_logits.

    loss = -t log s - (1 - t) log(1 - s), where s = sigmoid(y) and the targets t are probabilities. With
    from_logits=False as in Keras, s = y: probabilities, which a final sigmoid returns.
    Raises ShapeError, DtypeError, ArgumentError.

    >>> loss, dy = bce([[0.0]], [[1.0]])
    >>> round(loss, 4), dy.tolist()
    (0.6931, [[-0.5]])
    """
    y = arrays.contiguous(_outputs(y))
    t, counted = _targets(y, targets, mask)
    if ((t < 0) | (t > 1)).any(where=counted[..., None]):
        raise ArgumentError(
            "the targets of bce must be probabilities, from 0 to 1: use cross_entropy for more classes"
        )
    if not flag("from_logits", from_logits):
        p, wide = _probabilities(y, counted), t.astype(np.float64)
        rest = np.maximum(1 - p, np.finfo(y.dtype).tiny)
        losses = -wide * unary("log", p) - (1 - wide) * unary("log", rest)
        return _mean(losses, ((1 - wide) / rest - wide / p).astype(y.dtype), counted)
    # with z = -|y|, no term cancels another: for y > 0, the loss is softplus(z) + (1 - t) y
    z, positive_logit = -np.abs(y), y > 0
    s, rest = activate(call("sigmoid"), z), 1 - t
    errors = activate(call("softplus"), z) + np.where(positive_logit, rest * y, -t * y)
    return _mean(errors, np.where(positive_logit, rest - s, s - t), counted)


LABELS = {
    cross_entropy: "cross entropy in nats",
    mse: "mean squared error",
    mae: "mean absolute error",
    huber: "Huber loss",
    quantile: "quantile loss",
    bce: "binary cross entropy in nats",
}
LOSSES: dict[str, Loss] = {loss.__name__: loss for loss in LABELS}
OF_LOGITS: dict[str, Any] = {"cross_entropy": cross_entropy, "bce": bce}  # or of probabilities


def as_loss(loss: str | Loss | None, model: BaseModel, from_logits: bool | None = None) -> Loss:
    """Return a function itself, or the loss with this name for the outputs of a model.

    None means bce for a model that ends in a sigmoid, and otherwise cross_entropy. Unless `from_logits` tells
    otherwise, the outputs of a model that ends in a softmax or a sigmoid are probabilities. Use
    functools.partial to set the options of a loss.
    """
    if callable(loss):
        return loss
    if loss is not None and (not isinstance(loss, str) or loss not in LOSSES):
        raise ArgumentError(f"loss={loss!r}, but must be one of {', '.join(LOSSES)}, or a loss function")
    if loss is not None and loss not in OF_LOGITS:
        return LOSSES[loss]
    final = final_function(model) if None in (loss, from_logits) else ""
    if loss is None:
        loss = "bce" if final == "sigmoid" else "cross_entropy"
    if loss == "cross_entropy" and final == "sigmoid" and from_logits is None:
        raise ArgumentError(
            "loss='cross_entropy' needs logits or probabilities of classes, but the model ends in a sigmoid: "
            "use 'bce', or functools.partial(cross_entropy, from_logits=True) to take its outputs as logits"
        )
    is_logit = not final if from_logits is None else from_logits
    return LOSSES[loss] if is_logit else partial(OF_LOGITS[loss], from_logits=False)


def weighted(
    loss: Loss, y: Array, targets: NDArray[Any], mask: NDArray[np.bool_], weights: NDArray[np.float64] | None
) -> tuple[float, Array, float]:
    """Return the mean of a loss over rows with weights (...), its gradient, and the sum of the weights.

        sum_i w_i loss_i / sum_i w_i

    The mask (...) selects rows. Without weights, all are 1. Raises ArgumentError for a function that does not
    return a value and a gradient.
    """
    counted, found = counted_rows(loss, targets, mask), loss(y, targets, mask)
    if not isinstance(found, tuple) or [np.shape(each) for each in found] != [(), y.shape]:
        is_tuple = isinstance(found, tuple)
        what = f"the shapes {[np.shape(each) for each in found]}" if is_tuple else f"a {type(found).__name__}"
        wanted = f"a number, and its gradient with respect to y, of shape {y.shape}"
        raise ArgumentError(f"the loss {describe(loss)} returned {what}; expected {wanted}")
    value, dy = found
    count = int(counted.sum())
    if weights is None or not count:
        return float(value), dy, count
    total = float((weights * counted).sum())
    scale = (weights * (count / total if total else 0.0)).astype(dy.dtype)
    values = [
        float(loss(y, targets, mask & (weights == weight))[0])
        * weight
        * int((counted & (weights == weight)).sum())
        for weight in np.unique(weights[counted]).tolist()
    ]
    return _core.sum(np.array(values, np.float64)) / (total or 1.0), dy * scale[..., None], total


def describe(loss: Loss) -> str:
    """Return the name and the options of a loss: "cross_entropy(label_smoothing=0.1)"."""
    function, options = _parts(loss)
    name = getattr(function, "__name__", type(function).__name__)
    return f"{name}({', '.join(options)})" if options else name


def label(loss: Loss) -> str:
    """Return the label of a loss for axes and tables: "cross entropy in nats, label_smoothing=0.1"."""
    function: Any
    function, options = _parts(loss)
    return ", ".join([LABELS.get(function, describe(function)), *options])


def _parts(loss: Loss) -> tuple[Loss, list[str]]:
    """Return the function and the options of a loss."""
    if not isinstance(loss, partial):
        return loss, []
    return loss.func, [*map(repr, loss.args), *(f"{key}={value!r}" for key, value in loss.keywords.items())]


def counted_rows(loss: Loss, targets: ArrayLike, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the rows of a mask whose target the loss does not ignore."""
    options = loss.keywords if isinstance(loss, partial) else {}
    classes = np.asarray(targets)
    if _parts(loss)[0] is not cross_entropy or classes.shape != mask.shape:  # which the loss refuses
        return mask
    counted: NDArray[np.bool_] = mask & (classes != options.get("ignore_index", IGNORE_INDEX))
    return counted


def predicted_classes(loss: Loss, y: Array) -> NDArray[Any] | None:
    """Return the class of each row of y (..., O): of two if O is 1 and the loss is bce; None for a number."""
    if y.shape[-1] != 1:
        return np.asarray(y.argmax(axis=-1))
    if _parts(loss)[0] is not bce:
        return None
    is_logit = not isinstance(loss, partial) or loss.keywords.get("from_logits", True)
    return (y[..., 0] > (0 if is_logit else 0.5)).astype(np.int64)


def _outputs(y: ArrayLike) -> Array:
    y = arrays.as_array(y, "y")
    if y.ndim == 0:
        raise ShapeError("y has shape (); expected (..., O): the outputs of each row")
    return arrays.as_floats(y, arrays.working_dtype(y), "y")


def _probabilities(y: Array, counted: NDArray[np.bool_]) -> Array:
    """Return y in float64, clipped from below at the smallest normal number of its dtype."""
    if ((y < 0) | (y > 1.001)).any(where=counted[..., None]):
        raise ArgumentError("y has values outside 0 to 1, but with from_logits=False it holds probabilities")
    return np.maximum(y, np.finfo(y.dtype).tiny).astype(np.float64)


def _check_shape(targets: NDArray[Any], expected: Shape, y: Array) -> None:
    if targets.shape != expected:
        raise ShapeError(f"targets has shape {targets.shape}; expected {expected} for y of shape {y.shape}")


def _targets(y: Array, targets: ArrayLike, mask: ArrayLike | None) -> tuple[Array, NDArray[np.bool_]]:
    """Return targets with the shape and dtype of y, and the mask of the selected rows.

    One output for each row takes one number for each row.
    """
    t = arrays.as_floats(targets, y.dtype, "targets")
    if y.shape[-1] == 1 and t.shape == y.shape[:-1]:
        t = t[..., None]
    _check_shape(t, y.shape, y)
    return t, _mask(mask, y.shape[:-1])


def _error(y: ArrayLike, targets: ArrayLike, mask: ArrayLike | None) -> tuple[Array, NDArray[np.bool_]]:
    y = _outputs(y)
    t, counted = _targets(y, targets, mask)
    return y - t, counted


def _mask(mask: ArrayLike | None, rows: Shape) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(rows, np.bool_)
    array = arrays.as_array(mask, "mask")
    if array.dtype != np.bool_:
        raise DtypeError(f"mask has dtype {array.dtype}, but must hold booleans")
    if array.shape != rows:
        raise ShapeError(f"mask has shape {array.shape}; expected {rows}, one entry for each row of y")
    return array


def _mean(losses: Array, dy: Array, counted: NDArray[np.bool_]) -> tuple[float, Array]:
    """Return the mean of losses (..., O) over the selected rows, and dy scaled in place to its gradient."""
    ignored = ~counted[..., None]
    count = max(1, int(counted.sum()) * losses.shape[-1])
    np.copyto(losses, 0, where=ignored)
    np.copyto(dy, 0, where=ignored)
    dy /= dy.dtype.type(count)
    return _core.sum(arrays.contiguous(losses).reshape(-1)) / count, dy
