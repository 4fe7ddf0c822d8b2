"""ATen's losses, as forward computations."""

import math
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .expressions import (
    Expression,
    define,
    exp,
    expression,
    log,
    maximum,
    softplus,
    sqrt,
    square,
    where,
    x_times,
)
from .registry import Tensor, Translator, aten

REDUCTIONS = {0: "none", 1: "mean", 2: "sum"}  # torch's numbers


def reduced(losses: Expression, reduction: int) -> Expression:
    """Return the losses, their mean or their sum."""
    return losses if reduction == 0 else losses.reduce("ReduceMean" if reduction == 1 else "ReduceSum")


def _huber(self: Any, target: Any, reduction: int = 1, delta: float = 1.0) -> Expression:
    size = abs(self - target)
    return reduced(where(size < delta, square(size) * 0.5, (size - 0.5 * delta) * delta), reduction)


def _smooth_l1(self: Any, target: Any, reduction: int = 1, beta: float = 1.0) -> Expression:
    size = abs(self - target)
    y = size if beta == 0 else where(size < beta, square(size) * 0.5 / beta, size - 0.5 * beta)
    return reduced(y, reduction)


def _kl_divergence(self: Any, target: Any, reduction: int = 1, log_target: bool = False) -> Expression:
    if log_target:
        return reduced(exp(target) * (target - self), reduction)
    return reduced(x_times(target, log(target)) - target * self, reduction)


def _weighted(losses: Expression, weight: Any, reduction: int) -> Expression:
    return reduced(losses if weight is None else losses * weight, reduction)


def _binary_cross_entropy(self: Any, target: Any, weight: Any = None, reduction: int = 1) -> Expression:
    """-y log(p) - (1 - y) log(1 - p), with logarithms of at least -100"""
    yes, no = maximum(log(self), -100), maximum(log(1 - self), -100)
    return _weighted((target - 1) * no - target * yes, weight, reduction)


def _binary_cross_entropy_with_logits(
    self: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: int = 1
) -> Expression:
    cost = softplus(-self)
    cost = cost if pos_weight is None else cost * ((pos_weight - 1) * target + 1)
    return _weighted((1 - target) * self + cost, weight, reduction)


def _poisson(
    input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: int = 1
) -> Expression:
    y = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:  # Stirling's approximation of log(target!)
        more = x_times(target, log(target)) - target + 0.5 * log(2 * math.pi * target)
        y = y + where(target > 1, more, 0)
    return reduced(y, reduction)


def _hinge_embedding(self: Any, target: Any, margin: float = 1.0, reduction: int = 1) -> Expression:
    far = where(target.equals(1), 0, maximum(margin - self, 0))
    return reduced(far + where(target.equals(-1), 0, self), reduction)


def _margin_ranking(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: int = 1
) -> Expression:
    return reduced(maximum(margin - target * (input1 - input2), 0), reduction)


def _cosine_embedding(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: int = 1
) -> Expression:
    def dot(a: Any, b: Any) -> Any:
        return (a * b).reduce("ReduceSum", [-1])

    norms = [dot(x, x) + 1e-12 for x in (input1, input2)]
    cosine = dot(input1, input2) / sqrt(norms[0] * norms[1])
    apart = where(target.equals(-1), maximum(cosine - margin, 0), 0)
    return reduced(where(target.equals(1), 1 - cosine, apart), reduction)


def _distance(a: Any, b: Any, p: float, eps: float) -> Any:
    difference = abs(a - b + eps)
    if p == 2:
        return difference.reduce("ReduceL2", [-1])
    return (difference**p).reduce("ReduceSum", [-1]) ** (1 / p)


def _triplet(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = 1,
) -> Expression:
    near, far = _distance(anchor, positive, p, eps), _distance(anchor, negative, p, eps)
    far = far.apply("Min", _distance(positive, negative, p, eps)) if swap else far
    return reduced(maximum(near - far + margin, 0), reduction)


define({
    "mse_loss": lambda self, target, reduction=1: reduced(square(self - target), reduction),
    "l1_loss": lambda self, target, reduction=1: reduced(abs(self - target), reduction),
    "huber_loss": _huber,
    "smooth_l1_loss": _smooth_l1,
    "soft_margin_loss": lambda self, target, reduction=1: reduced(softplus(-target * self), reduction),
    "kl_div": _kl_divergence,
    "binary_cross_entropy": _binary_cross_entropy,
    "binary_cross_entropy_with_logits": _binary_cross_entropy_with_logits,
    "poisson_nll_loss": _poisson,
    "hinge_embedding_loss": _hinge_embedding,
    "margin_ranking_loss": _margin_ranking,
    "cosine_embedding_loss": _cosine_embedding,
    "triplet_margin_loss": _triplet,
})  # fmt: skip


def _batched(t: Translator, x: Tensor, target: Tensor) -> tuple[str, str]:
    """Return logarithms with a batch axis, and the classes."""
    if x.rank > 1:
        return t.cast(x, x.dtype), t.cast(target, np.int64)
    first = t.constant([0])
    return t.add("Unsqueeze", x, first), t.add("Reshape", t.cast(target, np.int64), t.constant([1]))


def _of_classes(
    t: Translator, operation: str, x: Tensor, target: Tensor, weight: Any, reduction: int, ignored: int
) -> str:
    logarithms, classes = _batched(t, x, target)
    options = {"reduction": REDUCTIONS[reduction], "ignore_index": ignored}
    y, *_ = t.add_all(operation, (logarithms, classes, weight), 2 if "Softmax" in operation else 1, **options)
    return t.add("Reshape", y, t.constant([], np.int64)) if x.rank == 1 else y


@aten("nll_loss", "nll_loss2d", "nll_loss_nd", "nll_loss_forward", "nll_loss2d_forward")
def nll_loss(
    t: Translator,
    self: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = 1,
    ignore_index: int = -100,
) -> Any:
    return _of_classes(t, "NegativeLogLikelihoodLoss", self, target, weight, reduction, ignore_index)


@aten("cross_entropy_loss")
def cross_entropy_loss(
    t: Translator,
    self: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = 1,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Any:
    """The loss of classes, or of probabilities of classes."""
    if target.dtype.kind in "iu" and not label_smoothing:
        return _of_classes(t, "SoftmaxCrossEntropyLoss", self, target, weight, reduction, ignore_index)
    if target.dtype.kind in "iu":
        raise ArgumentError("label_smoothing is supported only for targets that are probabilities")
    axis = min(1, self.rank - 1)
    logarithms = expression(t, self, self.dtype).apply("LogSoftmax", axis=axis)
    y = expression(t, target, self.dtype)
    if label_smoothing:
        classes = self.shape[axis]
        if classes is None:
            raise ArgumentError("label_smoothing over an unknown number of classes is not supported")
        y = y * (1 - label_smoothing) + label_smoothing / classes
    if weight is not None:
        sizes = t.constant([-1] + [1] * (self.rank - 1 - axis))
        logarithms = logarithms * Expression(t, t.add("Reshape", weight, sizes), self.dtype)
    losses = -(y * logarithms).reduce("ReduceSum", [axis])
    if reduction == 1 and self.rank > 1:  # over the batch and the positions
        return losses.reduce("ReduceMean").name
    return losses.name if reduction == 0 else losses.reduce("ReduceSum").name
