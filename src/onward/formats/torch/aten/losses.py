"""ATen's losses, as forward computations."""

import math
from typing import Any

import numpy as np

from ....errors import ArgumentError
from ....graph.operations.arguments import NEGATIVE
from ....graph.operations.expressions import (
    Expression,
    exp,
    log,
    log1p,
    maximum,
    softplus,
    sqrt,
    square,
    where,
    x_times,
)
from .expressions import define_formulas, expression, p_norm, promoted
from .registry import Operand, Tensor, aten
from .translator import Translator

REDUCTIONS = {0: "none", 1: "mean", 2: "sum"}  # torch's numbers


def reduced(losses: Expression, reduction: int) -> Expression:
    """Return the losses, their mean or their sum."""
    return losses if reduction == 0 else losses.reduce("ReduceMean" if reduction == 1 else "ReduceSum")


def _weighted(losses: Expression, weight: Any, reduction: int) -> Expression:
    return reduced(losses if weight is None else losses * weight, reduction)


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


def _binary_cross_entropy(self: Any, target: Any, weight: Any = None, reduction: int = 1) -> Expression:
    """-y log(p) - (1 - y) log(1 - p), with logarithms of at least -100"""
    yes, no = maximum(log(self), -100), maximum(log1p(-self), -100)
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


def _cosine_embedding(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: int = 1
) -> Expression:
    pairs = (input1, input1), (input2, input2), (input1, input2)
    first, second, dot = ((a * b).reduce("ReduceSum", [-1]) for a, b in pairs)
    cosine = dot / sqrt((first + 1e-12) * (second + 1e-12))
    apart = where(target.equals(-1), maximum(cosine - margin, 0), 0)
    return reduced(where(target.equals(1), 1 - cosine, apart), reduction)


def _triplet(
    anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6,
    swap: bool = False, reduction: int = 1,
) -> Expression:  # fmt: skip
    pairs = (anchor, positive), (anchor, negative), (positive, negative)
    near, far, other = (p_norm(a - b + eps, p, [-1]) for a, b in pairs)
    far = far.apply("Min", other) if swap else far
    return reduced(maximum(near - far + margin, 0), reduction)


def _of_floats(*values: Operand) -> np.dtype[Any]:
    """Return the dtype of a loss. Raises ArgumentError for integers, whose differences torch may wrap."""
    dtype = promoted(*values)
    if dtype.kind != "f":
        raise ArgumentError(f"the loss of {dtype} is not supported; expected floats")
    return dtype


define_formulas({
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
    "margin_ranking_loss": lambda input1, input2, target, margin=0.0, reduction=1: (
        reduced(maximum(margin - target * (input1 - input2), 0), reduction)),
    "cosine_embedding_loss": _cosine_embedding,
    "triplet_margin_loss": _triplet,
}, _of_floats)  # fmt: skip


def _classes(t: Translator, target: Tensor, ignored: int) -> str:
    """Return the classes, of which negative ones are out of range unless they are ignored."""
    classes = t.cast(target, np.int64)
    is_wrong = t.add("Less", classes, 0)
    if ignored < 0:
        is_wrong = t.add("And", is_wrong, t.add("Not", t.add("Equal", classes, ignored)))
    return t.add("Where", is_wrong, NEGATIVE, classes)


def _of_classes(
    t: Translator, operation: str, x: Tensor, target: Tensor, weight: Any, reduction: int, ignored: int
) -> str:
    inputs = t.cast(x, x.dtype), _classes(t, target, ignored)
    if x.rank > 1:
        t.require("Equal", t.size(x, 0), t.size(target, 0), "the input and the target have different batches")
    if x.rank == 1:  # without a batch axis
        inputs = t.add("Unsqueeze", x, [0]), t.add("Reshape", inputs[1], [1])
    options = {"reduction": REDUCTIONS[reduction], "ignore_index": ignored}
    y, *_ = t.add_all(operation, (*inputs, weight), 2 if "Softmax" in operation else 1, **options)
    return t.add("Reshape", y, []) if x.rank == 1 else y


@aten("nll_loss nll_loss2d nll_loss_nd nll_loss_forward nll_loss2d_forward")
def nll_loss(
    t: Translator, self: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = 1,
    ignore_index: int = -100,
) -> str:  # fmt: skip
    return _of_classes(t, "NegativeLogLikelihoodLoss", self, target, weight, reduction, ignore_index)


@aten("cross_entropy_loss")
def cross_entropy_loss(
    t: Translator, self: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = 1,
    ignore_index: int = -100, label_smoothing: float = 0.0,
) -> str:  # fmt: skip
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
        factors = t.add("Reshape", weight, [-1] + [1] * (self.rank - 1 - axis))
        logarithms = logarithms * Expression(t, factors, self.dtype)
    losses = -(y * logarithms).reduce("ReduceSum", [axis])
    # The mean is over the batch and the positions.
    return reduced(losses, 2 if reduction == 1 and self.rank == 1 else reduction).name
