"""Optimizers and gradient clipping, as in torch.optim, and the weights that they update.

An optimizer's state is passed in and returned. A layer that a model uses several times has several names; its
weights are listed once.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np

import onward._core as _core

from ..core import arrays
from ..core.arrays import Array
from ..core.checks import Checked, flag, instance, non_negative, probability
from ..core.identity import Identity
from ..errors import ArgumentError
from ..layers.base_model import BaseModel
from .schedules import power

Weights: TypeAlias = dict[str, Array]
ByName: TypeAlias = Mapping[str, Array]

OPTIMIZER = "an optimizer of onward.train, such as Adam(1e-3)"


def _below_1(name: str, value: float) -> float:
    if (number := probability(name, value)) == 1:
        raise ArgumentError(f"{name}={value!r}, but must be below 1")
    return number


def _two_below_1(name: str, values: Sequence[float]) -> tuple[float, ...]:
    if not isinstance(values, tuple | list) or len(values) != 2:
        raise ArgumentError(f"{name}={values!r}, but must be two numbers, such as (0.9, 0.999)")
    return tuple(_below_1(name, value) for value in values)


class Memory(NamedTuple):
    """The state of an optimizer: the number of steps taken, and for each kind, one array per weight."""

    step: int
    averages: dict[str, Weights]


@dataclass(frozen=True)
class Optimizer(Checked):
    """Base of all optimizers: a learning rate, and weight decay as an L2 penalty added to the gradients.

    With decay_biases=False, weights whose names begin with `bias` do not decay. All options are keywords:
    PyTorch orders them differently. Raises ArgumentError.
    """

    lr: float
    _: KW_ONLY
    weight_decay: float = 0.0
    decay_biases: bool = True
    DECOUPLED: ClassVar = False  # whether the weights themselves decay, instead of adding to the gradients
    REMEMBERS: ClassVar[tuple[str, ...]] = ()
    CHECKS: ClassVar = {"lr": non_negative, "weight_decay": non_negative, "decay_biases": flag}

    def start(self, weights: ByName) -> Memory:
        """Return the state before the first step: zeros."""
        zeros = {kind: {name: np.zeros_like(w) for name, w in weights.items()} for kind in self.REMEMBERS}
        return Memory(0, zeros)

    def step(
        self, weights: ByName, gradients: ByName, memory: Memory, lr: float | None = None
    ) -> tuple[Weights, Memory]:
        """Return the updated weights and state as new arrays; `lr`, if given, replaces the learning rate."""
        rate = self.lr if lr is None else non_negative("lr", lr)
        step = memory.step + 1
        updated: Weights = {}
        averages: dict[str, Weights] = {kind: {} for kind in self.REMEMBERS}
        for name, weight in weights.items():
            bias = name.rpartition(".")[2].startswith("bias")
            decay, gradient = self.weight_decay, gradients[name]
            if decay and (self.decay_biases or not bias):
                if self.DECOUPLED:
                    weight = weight * (1 - rate * decay)
                else:
                    gradient = gradient + decay * weight
            previous = [memory.averages[kind][name] for kind in self.REMEMBERS]
            updated[name], *current = self._updated(weight, gradient, previous, step, rate)
            for kind, average in zip(self.REMEMBERS, current, strict=True):
                averages[kind][name] = average
        return updated, Memory(step, averages)

    def with_momentum(self, momentum: float) -> Optimizer:
        """Return this optimizer with another momentum, or another beta1 for Adam and AdamW.

        Raises ArgumentError for an optimizer without momentum.
        """
        raise ArgumentError(
            f"{self!r} has no momentum for OneCycleLR to cycle: pass OneCycleLR(cycle_momentum=False)"
        )

    def _updated(self, w: Array, g: Array, averages: list[Array], step: int, lr: float) -> tuple[Array, ...]:
        """Return one updated weight, then its updated averages."""
        raise NotImplementedError


@dataclass(frozen=True)
class SGD(Optimizer):
    """torch.optim.SGD: v = momentum v + g; w = w - lr v, or w - lr (g + momentum v) with nesterov.

    Raises ArgumentError for values out of range. Source: Polyak 1964; Sutskever et al. 2013.

    >>> SGD(0.1, momentum=0.9)
    SGD(lr=0.1, weight_decay=0.0, decay_biases=True, momentum=0.9, nesterov=False)
    """

    _: KW_ONLY
    momentum: float = 0.0
    nesterov: bool = False
    REMEMBERS = ("momentum",)
    CHECKS: ClassVar = {"momentum": _below_1, "nesterov": flag}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ArgumentError("nesterov=True needs a momentum above 0, such as 0.9")

    def with_momentum(self, momentum: float) -> Optimizer:
        return replace(self, momentum=momentum)

    def _updated(self, w: Array, g: Array, averages: list[Array], step: int, lr: float) -> tuple[Array, ...]:
        v = self.momentum * averages[0] + g
        return w - lr * (g + self.momentum * v if self.nesterov else v), v


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """torch.optim.RMSprop: v = alpha v + (1 - alpha) g^2; w = w - lr g / (sqrt(v) + eps).

    Raises ArgumentError for values out of range. Source: Tieleman and Hinton 2012.

    >>> RMSprop(1e-2)
    RMSprop(lr=0.01, weight_decay=0.0, decay_biases=True, alpha=0.99, eps=1e-08)
    """

    lr: float = 1e-2
    _: KW_ONLY
    alpha: float = 0.99
    eps: float = 1e-8
    REMEMBERS = ("square",)
    CHECKS: ClassVar = {"alpha": _below_1, "eps": non_negative}

    def _updated(self, w: Array, g: Array, averages: list[Array], step: int, lr: float) -> tuple[Array, ...]:
        v = self.alpha * averages[0] + (1 - self.alpha) * (g * g)
        return w - lr * (g / (np.sqrt(v) + self.eps)), v


@dataclass(frozen=True)
class Adam(Optimizer):
    """torch.optim.Adam: w = w - lr m' / (sqrt(v') + eps), where m' and v' estimate the means of g and g^2.

    m = b1 m + (1 - b1) g and v = b2 v + (1 - b2) g^2 start at 0; after t steps, m' = m / (1 - b1^t) and
    v' = v / (1 - b2^t) correct the bias of that start. Raises ArgumentError for values out of range. Source:
    Kingma and Ba 2015.

    >>> Adam(1e-2)
    Adam(lr=0.01, weight_decay=0.0, decay_biases=True, betas=(0.9, 0.999), eps=1e-08)
    """

    lr: float = 1e-3
    _: KW_ONLY
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    REMEMBERS = ("mean", "square")
    CHECKS: ClassVar = {"betas": _two_below_1, "eps": non_negative}

    def with_momentum(self, momentum: float) -> Optimizer:
        return replace(self, betas=(momentum, self.betas[1]))

    def _updated(self, w: Array, g: Array, averages: list[Array], step: int, lr: float) -> tuple[Array, ...]:
        b1, b2 = self.betas
        m = averages[0] + (1 - b1) * (g - averages[0])
        v = b2 * averages[1] + (1 - b2) * (g * g)
        spread = np.sqrt(v) / math.sqrt(1 - power(b2, step)) + self.eps
        return w - lr / (1 - power(b1, step)) * (m / spread), m, v


@dataclass(frozen=True)
class AdamW(Adam):
    """torch.optim.AdamW: Adam with decoupled weight decay, w = w - lr weight_decay w before each update.

    Raises ArgumentError for values out of range. Source: Loshchilov and Hutter 2019.

    >>> AdamW(1e-2, weight_decay=0.1)
    AdamW(lr=0.01, weight_decay=0.1, decay_biases=True, betas=(0.9, 0.999), eps=1e-08)
    """

    _: KW_ONLY
    weight_decay: float = 1e-2
    DECOUPLED = True


def _floats(gradients: ByName) -> ByName:
    """Return gradients as arrays of floats. Raises ArgumentError, DtypeError."""
    instance("gradients", gradients, dict, "a dict of arrays by name, as `backward` returns it")
    found = {name: arrays.as_array(g, str(name)) for name, g in gradients.items()}
    return {name: arrays.as_floats(g, arrays.working_dtype(g), str(name)) for name, g in found.items()}


def global_norm(gradients: ByName) -> float:
    """Return the L2 norm of all gradients as one vector, without overflow and with the same bits everywhere.

    Raises ArgumentError, DtypeError.

    >>> global_norm({"a": np.array([3.0, -4.0], np.float32), "b": np.array([12.0])})
    13.0
    """
    vectors = [arrays.contiguous(g).reshape(-1) for g in _floats(gradients).values() if g.size]
    largest = float(np.max([[v.max(), -v.min()] for v in vectors], initial=0.0))
    if not 0 < largest < math.inf:
        return largest
    # a power of two, so that scaling is exact; bounded, so that it is a normal number
    scale = math.ldexp(1.0, min(1000, max(-1000, -math.frexp(largest)[1])))
    squares = [_core.sum_of_squares(v, scale) for v in vectors]
    return math.sqrt(_core.sum(np.array(squares))) / scale  # sum() rounds differently from Python 3.12 on


def clip_norm(gradients: ByName, max_norm: float) -> Weights:
    """Return gradients scaled to a global norm of at most max_norm, as torch.nn.utils.clip_grad_norm_.

    Raises ArgumentError. Source: Pascanu et al. 2013.

    >>> clip_norm({"weight": np.array([3.0, 4.0])}, 1.0)
    {'weight': array([0.59999988, 0.79999984])}
    """
    gradients = _floats(gradients)
    scale = min(1.0, non_negative("max_norm", max_norm) / (global_norm(gradients) + 1e-6))
    # in float64, because the scale may be too small for float32
    scaled = partial(np.multiply, scale, dtype=np.float64, casting="same_kind")
    return {name: scaled(g, out=np.empty_like(g)) if scale < 1 else g for name, g in gradients.items()}


def clip_value(gradients: ByName, clip_value: float) -> Weights:
    """Return gradients clipped to [-clip_value, clip_value], as torch.nn.utils.clip_grad_value_.

    Raises ArgumentError.

    >>> clip_value({"weight": np.array([3.0, -0.5])}, 1.0)
    {'weight': array([ 1. , -0.5])}
    """
    bound = non_negative("clip_value", clip_value)
    return {name: g.clip(-bound, bound) for name, g in _floats(gradients).items()}


def trained(model: BaseModel) -> Weights:
    """Return every weight of the model once, under its first name."""
    leaves = model.sublayers().items()
    weights = {prefix + name: w for prefix, leaf in leaves for name, w in leaf.trained_weights().items()}
    return {name: weights[name] for name, first in _first_names(model).items() if name == first}


def summed(model: BaseModel, gradients: ByName) -> Weights:
    """Return the gradient of each weight of `trained`, summed over all uses of its layer."""
    first_names = _first_names(model)
    sums: Weights = {}
    for name, gradient in gradients.items():
        first = first_names[name]
        sums[first] = sums[first] + gradient if first in sums else gradient
    return sums


def _first_names(model: BaseModel) -> dict[str, str]:
    """Map every name of a weight to its first name."""
    prefixes: dict[Identity, str] = {}
    names: dict[str, str] = {}
    for prefix, leaf in model.sublayers().items():
        first = prefixes.setdefault(Identity(leaf), prefix)
        names |= {prefix + name: first + name for name in leaf.trained_weights()}
    return names


def replaced(model: BaseModel, weights: Weights) -> BaseModel:
    """Return a copy of the model with the given weights replaced; the other weights are shared."""
    shared = {id(weight): weight for weight in model.weights_by_name().values()}
    other = copy.deepcopy(model, shared)
    other.take_weights(weights)
    return other
