"""What RNN, LSTM and GRU share: one cell over time, arrays checked here and computed in `_core`.

Axis letters: T time, B batch, I input, H hidden units, P projected hidden (P = H without a projection), G
gates, L layers, D directions. State is in the order (h, c). W and R are weight_ih and weight_hh, b_W and b_R
their biases.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import _core
from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import Rng, flag, integer, positive, probability
from ..errors import ArgumentError, ShapeError
from . import quantize
from .activations import Call, Specs, call
from .base import Recur, Weighted, packed, uniform

State = TypeVar("State")


class Given(NamedTuple):
    """What the core takes: x (T, B, I), h0 and c0 (L*D, B, units), lengths (B,)."""

    x: Array
    h0: Array | None
    c0: Array | None
    lengths: NDArray[np.int64] | None
    batched: bool


class Recurrent(Weighted, Generic[State]):
    """One cell, unrolled over time in one or two directions, in one or more layers."""

    G: ClassVar[int]
    PLAIN: ClassVar[tuple[Specs, ...]]  # the activations of the cells that the core has without options
    gates: ClassVar[str]  # a letter for each, in the order of the weights' rows
    precision = ""  # "float16" or "int8" once quantised: what matrices are stored as
    has_c: ClassVar[bool] = False  # whether the state is the pair (h, c)
    proj_size = 0
    peephole = coupled = False

    def _configure(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        clip: float | None,
        dtype: DTypeLike,
        rng: Rng,
    ) -> None:
        self.input_size = integer("input_size", input_size, 1)
        self.hidden_size = integer("hidden_size", hidden_size, 1)
        self.num_layers = integer("num_layers", num_layers, 1)
        self.bias = flag("bias", bias)
        self.batch_first = flag("batch_first", batch_first)
        self.dropout = probability("dropout", dropout)  # acts in training only
        self.clip = None if clip is None else positive("clip", clip)
        self.bidirectional = flag("bidirectional", bidirectional)
        self._draw(dtype, rng, uniform(self.hidden_size**-0.5))

    def _cell(self) -> str:
        """The core's name for the cell."""
        raise NotImplementedError

    def _split(self, state: State | None) -> tuple[ArrayLike | None, ArrayLike | None]:
        """h and c of a state that a user passes."""
        if isinstance(state, tuple):
            raise ArgumentError(
                f"state is {len(state)} arrays, but the state of this {type(self).__name__} is h alone"
            )
        return state, None  # type: ignore[return-value]

    def _join(self, h: Array, c: Array | None) -> State:
        """The state that a user gets."""
        return h  # type: ignore[return-value]

    def _suffixes(self) -> Iterator[str]:
        """How the weights' names end: once for each direction of each layer."""
        for layer in range(self.num_layers):
            yield f"_l{layer}"
            if self.bidirectional:
                yield f"_l{layer}_reverse"

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        return quantize.stored(self._float_shapes(), self.precision)

    def _float_shapes(self) -> Iterator[tuple[str, Shape]]:
        H, P, D = self.hidden_size, self.proj_size or self.hidden_size, 1 + self.bidirectional
        for suffix in self._suffixes():
            first = suffix in ("_l0", "_l0_reverse")
            yield f"weight_ih{suffix}", (self.G * H, self.input_size if first else D * P)
            yield f"weight_hh{suffix}", (self.G * H, P)
            if self.bias:
                yield f"bias_ih{suffix}", (self.G * H,)
                yield f"bias_hh{suffix}", (self.G * H,)
            if self.proj_size:
                yield f"weight_hr{suffix}", (P, H)
            if self.peephole:
                yield f"weight_peephole{suffix}", (3 * H,)

    def _functions(self) -> tuple[Specs, Specs]:
        """The forward and the reverse direction's activations, in the places that the cell has for them."""
        raise NotImplementedError

    def _is_plain(self) -> bool:
        forward, reverse = self._functions()
        usual = forward == reverse and forward in self.PLAIN
        return usual and not (self.clip or self.peephole or self.coupled)

    def _options(self) -> list[tuple[Call, Call, Call, float, bool]]:
        """What the core takes for each direction, and nothing if all is as usual."""
        if self._is_plain():
            return []
        options = []
        for functions in self._functions()[: 1 + self.bidirectional]:
            # of gate, candidate and output, a cell looks at those that it has
            gate, candidate, output = (call(functions[min(n, len(functions) - 1)]) for n in range(3))
            options.append((gate, candidate, output, self.clip or math.inf, self.coupled))
        return options

    def _dtype_of(self, name: str, shape: Shape) -> np.dtype[Any]:
        matrix = len(shape) == 2
        return quantize.PRECISIONS[self.precision] if matrix and self.precision else self.dtype

    def _compressed(self, to: str) -> "Recurrent[State]":
        if self.precision:
            raise ArgumentError(f"{self!r} is quantised already: quantise the layer that it was made from")
        widest = max(self.input_size, self.hidden_size * (1 + self.bidirectional))
        if to == "int8" and widest > quantize.WIDEST:
            raise ArgumentError(
                f"{self!r} has matrices of {widest} columns, but int8 takes up to {quantize.WIDEST}"
            )
        small = copy.copy(self)
        small.precision = to
        small._weights = quantize.compressed(self._weights, to)
        return small

    def description(self) -> dict[str, Any]:
        return super().description() | ({"precision": self.precision} if self.precision else {})

    def __repr__(self) -> str:
        return super().__repr__() + (f".quantize({self.precision!r})" if self.precision else "")

    @packed
    def _kernel(self) -> _core.Stack:
        return self._stack(self._suffixes())

    @packed
    def _layer_kernels(self) -> list[_core.Stack]:
        """Each layer on its own, as recording needs it; where there is but one, that is the whole."""
        if self.num_layers == 1:
            return [self._kernel]
        suffixes, D = list(self._suffixes()), 1 + self.bidirectional
        return [self._stack(suffixes[at : at + D]) for at in range(0, len(suffixes), D)]

    @packed
    def _backward_kernels(self) -> list[_core.Backward]:
        """Each layer's way back."""
        suffixes, D = list(self._suffixes()), 1 + self.bidirectional
        return [
            _core.Backward(self._cell(), self._tuples(suffixes[at : at + D]))
            for at in range(0, len(suffixes), D)
        ]

    def _stack(self, suffixes: Iterable[str]) -> _core.Stack:
        return _core.Stack(self._cell(), self._tuples(suffixes), 1 + self.bidirectional, self._options())

    def _tuples(self, suffixes: Iterable[str]) -> list[Any]:
        """The weights as the core takes them."""
        w = self._weights

        def matrix(name: str) -> tuple[Any, Any]:
            return w[name], w.get(name + "_scale")

        return [
            (
                matrix("weight_ih" + s),
                matrix("weight_hh" + s),
                w.get("bias_ih" + s),
                w.get("bias_hh" + s),
                matrix("weight_hr" + s) if self.proj_size else None,
                w.get("weight_peephole" + s),
            )
            for s in suffixes
        ]

    def __call__(
        self, x: ArrayLike, state: State | None = None, *, lengths: ArrayLike | None = None
    ) -> tuple[Array, State]:
        """Runs a sequence from its first to its last step.

        x (T, B, I), (B, T, I) with batch_first, or (T, I) unbatched. state: as returned, or None for zeros;
        each part is (L*D, B, H), or (L*D, H) unbatched, where under a projection h has P units. lengths (B,),
        or one integer unbatched: the valid steps of each row. All is converted to the layer's float32 or
        float64.

        Returns y, laid out as x with D*P features, and the final state, all of them new arrays. Past a row's
        length y is 0; its final state is that of its last valid step, and the reverse direction starts there;
        a row of length 0 keeps its initial state.

        Raises ShapeError, DtypeError, and ArgumentError for a length out of range or a state of the wrong
        kind.
        """
        given = self._given(x, state, lengths)
        T, B, _ = given.x.shape
        D = 1 + self.bidirectional
        H, P, LD = self.hidden_size, self.proj_size or self.hidden_size, self.num_layers * D
        batch_major = given.batched and self.batch_first
        y = np.empty((B, T, D * P) if batch_major else (T, B, D * P), self.dtype)
        h = np.empty((LD, B, P), self.dtype)
        c = np.empty((LD, B, H), self.dtype) if self.has_c else None
        steps = y.swapaxes(0, 1) if batch_major else y
        self._kernel.forward(given.x, given.h0, given.c0, given.lengths, steps, h, c)
        return self._answer(given, steps, h, c)

    def _given(self, x: ArrayLike, state: State | None, lengths: ArrayLike | None) -> "Given":
        """What a user passes, checked and laid out."""
        x = arrays.as_floats(x, self.dtype, "x")
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise self._misshapen(x.shape)
        batched = x.ndim == 3
        batch_major = batched and self.batch_first
        # the core takes (T, B, ...), whatever the strides of T and B
        steps = arrays.with_contiguous_rows(x.swapaxes(0, 1) if batch_major else x if batched else x[:, None])
        T, B, _ = steps.shape
        H, P, LD = (
            self.hidden_size,
            self.proj_size or self.hidden_size,
            self.num_layers * (1 + self.bidirectional),
        )

        h0, c0 = self._split(state)
        h0 = self._initial("h0", h0, (LD, B, P), batched)
        c0 = self._initial("c0", c0, (LD, B, H), batched)
        if lengths is not None:
            lengths = arrays.as_lengths(lengths, (B,) if batched else (), T)
        return Given(steps, h0, c0, lengths, batched)

    def _answer(self, given: "Given", y: Array, h: Array, c: Array | None) -> tuple[Array, State]:
        """What a user gets, of y (T, B, D*P), h and c (L*D, B, units)."""
        if not given.batched:
            return y[:, 0], self._join(h[:, 0], None if c is None else c[:, 0])
        return y.swapaxes(0, 1) if self.batch_first else y, self._join(h, c)

    @property
    def per_step(self) -> bool:
        return not self.bidirectional

    @property
    def _step_shape(self) -> Shape:
        return (self.input_size,)

    def _run(self, x: Any, state: Any, lengths: Any, recur: Recur) -> tuple[Any, Any]:
        return recur("", self, x, state, lengths)

    def _misshapen(self, shape: Shape) -> ShapeError:
        takes, size = f"this {type(self).__name__} takes", self.input_size
        if len(shape) in (2, 3):
            features = f"{shape[-1]} features in its last axis (shape {shape})"
            return ShapeError(f"x has {features}, but {takes} input_size={size}")
        layout = f"(B, T, {size})" if self.batch_first else f"(T, B, {size})"
        return ShapeError(f"x has shape {shape}, but {takes} {layout}, or (T, {size}) unbatched")

    def _initial(self, name: str, part: ArrayLike | None, shape: Shape, batched: bool) -> Array | None:
        """One part of the initial state as (L*D, B, units)."""
        if part is None:
            return None
        given = arrays.as_floats(part, self.dtype, name)
        expected = shape if batched else (shape[0], shape[2])
        if given.shape != expected:
            axes = (
                "(num_layers * directions, batch, units)" if batched else "(num_layers * directions, units)"
            )
            raise ShapeError(
                f"{name} has shape {given.shape}, but for this {self!r} and x it must be {expected}: {axes}"
            )
        return arrays.contiguous(given).reshape(shape)
