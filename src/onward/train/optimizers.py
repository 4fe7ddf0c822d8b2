"""Optimisers: new weights from old ones and their gradients; what one remembers is passed in and returned."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from ..core.arrays import Array
from ..core.checks import coerce_field, flag, non_negative, probability
from ..errors import ArgumentError
from .weights import Weights

OPTIMIZER = "an optimiser of onward.train, such as Adam(1e-3)"


class Memory(NamedTuple):
    """What an optimiser remembers: how many steps were taken and, by kind, an array for each weight."""

    step: int
    averages: dict[str, Weights]


@dataclass(frozen=True)
class Optimizer:
    """What all of them share: a learning rate, and weight decay, added to the gradients as an L2 penalty's.

    With decay_biases=False, weights whose name begins with `bias` are left alone by it. Raises ArgumentError.
    """

    lr: float
    weight_decay: float = 0.0
    decay_biases: bool = True
    REMEMBERS: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        coerce_field(self, "lr", non_negative)
        coerce_field(self, "weight_decay", non_negative)
        coerce_field(self, "decay_biases", flag)

    def start(self, weights: Mapping[str, Array]) -> Memory:
        """What is remembered before the first step: zeros."""
        return Memory(
            0,
            {kind: {name: np.zeros_like(w) for name, w in weights.items()} for kind in self.REMEMBERS},
        )

    def step(
        self,
        weights: Mapping[str, Array],
        gradients: Mapping[str, Array],
        memory: Memory,
        lr: float | None = None,
    ) -> tuple[Weights, Memory]:
        """New weights and what is remembered then, in new arrays; `lr` takes the place of the optimiser's.

        Raises ArgumentError.
        """
        rate = self.lr if lr is None else non_negative("lr", lr)
        step = memory.step + 1
        after: Weights = {}
        averages: dict[str, Weights] = {kind: {} for kind in self.REMEMBERS}
        for name, weight in weights.items():
            bias = name.rpartition(".")[2].startswith("bias")
            decay = 0.0 if bias and not self.decay_biases else self.weight_decay
            before, gradient = self._decayed(weight, gradients[name], decay, rate)
            remembered = [memory.averages[kind][name] for kind in self.REMEMBERS]
            after[name], *remembered = self._updated(before, gradient, remembered, step, rate)
            for kind, average in zip(self.REMEMBERS, remembered, strict=True):
                averages[kind][name] = average
        return after, Memory(step, averages)

    def _decayed(self, w: Array, g: Array, decay: float, lr: float) -> tuple[Array, Array]:
        """A weight and its gradient once weight decay has acted."""
        return (w, g + decay * w) if decay else (w, g)

    def _updated(self, w: Array, g: Array, averages: list[Array], step: int, lr: float) -> tuple[Array, ...]:
        """One new weight, and then what is remembered of it."""
        raise NotImplementedError


@dataclass(frozen=True)
class SGD(Optimizer):
    """torch.optim.SGD: v = momentum v + g; w = w - lr v, or with Nesterov w - lr (g + momentum v).

    Source: Polyak 1964; Sutskever et al. 2013.
    """

    momentum: float = 0.0
    nesterov: bool = False
    REMEMBERS = ("momentum",)

    def __post_init__(self) -> None:
        super().__post_init__()
        coerce_field(self, "momentum", _below_1)
        coerce_field(self, "nesterov", flag)
        if self.nesterov and not self.momentum:
            raise ArgumentError("nesterov=True needs a momentum above 0, such as 0.9")

    def _updated(self, w: Array, g: Array, averages: list[Array], step: int, lr: float) -> tuple[Array, ...]:
        v = self.momentum * averages[0] + g
        return w - lr * (g + self.momentum * v if self.nesterov else v), v


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """torch.optim.RMSprop: v = alpha v + (1 - alpha) g^2; w = w - lr g / (sqrt(v) + eps).

    Source: Tieleman and Hinton 2012.
    """

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    REMEMBERS = ("square",)

    def __post_init__(self) -> None:
        super().__post_init__()
        coerce_field(self, "alpha", _below_1)
        coerce_field(self, "eps", non_negative)

    def _updated(self, w: Array, g: Array, averages: list[Array], step: int, lr: float) -> tuple[Array, ...]:
        v = self.alpha * averages[0] + (1 - self.alpha) * (g * g)
        return w - lr * (g / (np.sqrt(v) + self.eps)), v


@dataclass(frozen=True)
class Adam(Optimizer):
    """torch.optim.Adam: w = w - lr m' / (sqrt(v') + eps), m' and v' the means of g and of g^2.

    m = b1 m + (1 - b1) g and v = b2 v + (1 - b2) g^2, which begin with 0, lack b1^t and b2^t after t steps:
    m' = m / (1 - b1^t), v' = v / (1 - b2^t). Source: Kingma and Ba 2015.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    REMEMBERS = ("mean", "square")

    def __post_init__(self) -> None:
        super().__post_init__()
        coerce_field(self, "betas", _two_below_1)
        coerce_field(self, "eps", non_negative)

    def _updated(self, w: Array, g: Array, averages: list[Array], step: int, lr: float) -> tuple[Array, ...]:
        b1, b2 = self.betas
        m = averages[0] + (1 - b1) * (g - averages[0])
        v = b2 * averages[1] + (1 - b2) * (g * g)
        spread = np.sqrt(v) / math.sqrt(1 - b2**step) + self.eps
        return w - lr / (1 - b1**step) * (m / spread), m, v


@dataclass(frozen=True)
class AdamW(Adam):
    """torch.optim.AdamW: Adam whose weight decay acts on the weights themselves: w = w - lr weight_decay w.

    Source: Loshchilov and Hutter 2019.
    """

    weight_decay: float = 1e-2

    def _decayed(self, w: Array, g: Array, decay: float, lr: float) -> tuple[Array, Array]:
        return (w * (1 - lr * decay) if decay else w), g


def global_norm(gradients: Mapping[str, Array]) -> float:
    """The length of all gradients taken as one vector."""
    return math.sqrt(sum(float(np.vdot(g, g)) for g in gradients.values()))


def clip_norm(gradients: Mapping[str, Array], max_norm: float) -> Weights:
    """Gradients scaled so that their global norm is at most max_norm, as torch.nn.utils.clip_grad_norm_.

    Source: Pascanu et al. 2013.
    """
    scale = min(1.0, non_negative("max_norm", max_norm) / (global_norm(gradients) + 1e-6))
    return {name: g * g.dtype.type(scale) for name, g in gradients.items()}


def clip_value(gradients: Mapping[str, Array], clip_value: float) -> Weights:
    """Gradients cut off at +-clip_value, element by element, as torch.nn.utils.clip_grad_value_."""
    bound = non_negative("clip_value", clip_value)
    return {name: g.clip(-bound, bound) for name, g in gradients.items()}


def _below_1(name: str, value: float) -> float:
    number = probability(name, value)
    if number == 1:
        raise ArgumentError(f"{name}={value!r}, but must be below 1")
    return number


def _two_below_1(name: str, values: Sequence[float]) -> tuple[float, float]:
    if not isinstance(values, tuple | list) or len(values) != 2:
        raise ArgumentError(f"{name}={values!r}, but must be two numbers, such as (0.9, 0.999)")
    return _below_1(name, values[0]), _below_1(name, values[1])
