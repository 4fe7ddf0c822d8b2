"""Losses of classification."""

from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..node import AnyArray, Signature
from .normalization import softmax_rows
from .registry import Known, operation


def _likelihood_signature(
    x: Known, targets: Known, weight: Known | None = None, *, reduction: str = "mean", **attributes: Any
) -> Signature:
    return Signature(targets.shape if reduction == "none" else (), x.dtype)


@operation("NegativeLogLikelihoodLoss", signature=_likelihood_signature, widens=True)
def negative_log_likelihood_loss(
    x: AnyArray,
    targets: AnyArray,
    weight: AnyArray | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> AnyArray:
    """The losses of targets (N, ...) under log probabilities x (N, C, ...), or their mean or sum."""
    C = x.shape[1]
    ignored = np.zeros(targets.shape, bool) if ignore_index is None else targets == ignore_index
    classes = np.where(ignored, 0, targets)
    if classes.size and not (classes.min() >= -C and classes.max() < C):
        raise ArgumentError(
            f"the targets reach from {targets.min()} to {targets.max()}; expected {C} classes"
        )
    own = np.take_along_axis(x, np.expand_dims(classes, 1), 1).squeeze(1)
    weights = np.where(ignored, 0, 1 if weight is None else weight[classes]).astype(x.dtype)
    losses = -own * weights
    if reduction == "none":
        return np.asarray(losses)
    if reduction not in ("sum", "mean"):
        raise ArgumentError(f"reduction={reduction!r}; expected none, sum or mean")
    divisor = weights.sum(dtype=np.float64) if reduction == "mean" else 1
    return np.asarray((losses.sum(dtype=np.float64) / divisor).astype(x.dtype))


def _cross_entropy_signature(x: Known, *others: Any, **attributes: Any) -> list[Signature]:
    return [_likelihood_signature(x, *others, **attributes), Signature.of(x)]


@operation("SoftmaxCrossEntropyLoss", signature=_cross_entropy_signature, widens=True)
def softmax_cross_entropy_loss(
    x: AnyArray,
    targets: AnyArray,
    weight: AnyArray | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> tuple[AnyArray, AnyArray]:
    """The losses of targets under the softmax of x (N, C, ...), or their mean or sum; also its logarithm."""
    logarithms = np.moveaxis(softmax_rows(np.moveaxis(x, 1, -1), True), -1, 1) if x.size else x
    options = {"ignore_index": ignore_index, "reduction": reduction}
    return negative_log_likelihood_loss.compute([logarithms, targets, weight], options)[0], logarithms
