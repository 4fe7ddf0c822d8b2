"""The part that RNN, LSTM and GRU share: one cell unrolled over time, and backpropagation through time.

Axis letters: T time, B batch, I input, H hidden units, P projected units (P = H without a projection), G
gates, L layers, D directions. The state is (h, c). W and R are weight_ih and weight_hh, b_W and b_R their
biases.
"""

from __future__ import annotations  # importing np.random is slow

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, Never, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

import onward._core as _core

from ..core import arrays
from ..core.activations import Call, Specs, by_direction, call
from ..core.arrays import Array, Shape
from ..core.checks import Rng, flag, generator, integer, positive, probability, unknown_arguments
from ..errors import ArgumentError
from .activation import dropout_mask
from .quantize import Quantizable, packed, uniform
from .stateful import Stateful
from .textbook_parameters import TextbookParameters

State = TypeVar("State")
MOST_LAYERS = 4096  # more would be a mistake, such as sizes in the wrong order


class Sizes(NamedTuple):
    """A layer's sizes: hidden units, projected units, directions, layers times directions, and D*P."""

    H: int
    P: int
    D: int
    LD: int
    DP: int


class Inputs(NamedTuple):
    """The checked arguments of a call: x (T, B, I), h0 (L*D, B, P), c0 (L*D, B, H), lengths (B,)."""

    x: Array
    h0: Array | None
    c0: Array | None
    lengths: NDArray[np.int64] | None
    batched: bool

    @property
    def initial(self) -> tuple[Array | None, Array | None]:
        """h and c of the initial state."""
        return self.h0, self.c0


class LayerRecord(NamedTuple):
    """The record of one layer; past a row's length, all arrays except x are 0.

    x (T, B, I) and y (T, B, D*P) are its input and output. gates (D, T, B, n, H) holds, for each direction,
    the gates in the layer's order, then c for an LSTM, or R_n h + b_n for a GRU that resets after the
    product. sums (D, T, B, G, H) holds the arguments of the gates' activations, or is None. mask (T, B, D*P)
    is the factor that dropout applied to y before the next layer, or None.
    """

    x: Array
    y: Array
    gates: Array
    sums: Array | None
    mask: Array | None = None


class Cache(NamedTuple):
    """The part of a forward pass that backward needs."""

    inputs: Inputs
    records: list[LayerRecord]


# The weights of a direction, in the order that the core expects of their gradients.
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


class Recurrent(Stateful, Quantizable, TextbookParameters, Generic[State]):
    """One cell unrolled over time, in one or two directions and one or more layers."""

    gates: ClassVar[str]  # one letter each, in the order of the weight rows
    PLAIN: ClassVar[tuple[Specs, ...]]  # the activations that the core's cells support without options
    STATE_AXES = "num_layers * directions", "batch", "units"
    proj_size: int
    peephole: bool
    coupled: bool
    cell_clip: float | None
    activations: Any

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
        self.num_layers = integer("num_layers", num_layers, 1, MOST_LAYERS)
        self.bias = flag("bias", bias)
        self.batch_first = flag("batch_first", batch_first)
        self.dropout = probability("dropout", dropout)  # acts in training only
        self.clip = None if clip is None else positive("clip", clip)
        self.bidirectional = flag("bidirectional", bidirectional)
        self.causal = not self.bidirectional
        H, P, D = self.hidden_size, self.proj_size or self.hidden_size, 1 + self.bidirectional
        self.step_shape = (self.input_size,)
        self.sizes = Sizes(H, P, D, self.num_layers * D, D * P)
        self._draw(dtype, rng, uniform(self.hidden_size**-0.5))

    @property
    def cell(self) -> str:
        """The core's name for the cell."""
        raise NotImplementedError

    def suffixes(self) -> Iterator[str]:
        """The endings of the weight names, one for each direction of each layer."""
        ways = ("", "_reverse")[: self.sizes.D]
        return (f"_l{layer}{way}" for layer in range(self.num_layers) for way in ways)

    def _float_shapes(self) -> Iterator[tuple[str, Shape]]:
        H, P, _, _, DP = self.sizes
        rows = len(self.gates) * H
        for suffix in self.suffixes():
            first = suffix in ("_l0", "_l0_reverse")
            yield f"weight_ih{suffix}", (rows, self.input_size if first else DP)
            yield f"weight_hh{suffix}", (rows, P)
            if self.bias:
                yield f"bias_ih{suffix}", (rows,)
                yield f"bias_hh{suffix}", (rows,)
            if self.proj_size:
                yield f"weight_hr{suffix}", (P, H)
            if self.peephole:
                yield f"weight_peephole{suffix}", (3 * H,)

    def functions(self) -> tuple[Specs, Specs]:
        """The activations of the forward and of the reverse direction, in the cell's order."""
        return by_direction(self.activations)

    def is_plain(self) -> bool:
        """Whether the cell has no options beyond those of torch.nn."""
        forward, reverse = self.functions()
        usual = forward == reverse and forward in self.PLAIN
        return usual and not (self.clip or self.cell_clip or self.peephole or self.coupled)

    def core_options(self) -> list[tuple[Call, Call, Call, float, float, bool]]:
        """The core's options for each direction; empty for a plain cell."""
        if self.is_plain():
            return []
        # a cell reads only the activations that it has
        chosen = [(*functions, *functions[-1:] * 2)[:3] for functions in self.functions()[: self.sizes.D]]
        rest = self.clip or math.inf, self.cell_clip or math.inf, self.coupled
        return [(call(gate), call(cell), call(output), *rest) for gate, cell, output in chosen]

    @packed
    def step_kernel(self, weights: dict[str, Array]) -> _core.Stack:
        return self._stack(self._matrices(weights))

    @packed
    def _layer_kernels(self, weights: dict[str, Array]) -> list[_core.Stack]:
        """One kernel per layer, for recording; a single layer reuses its own kernel."""
        return [self.step_kernel] if self.num_layers == 1 else [*map(self._stack, self._by_layer(weights))]

    @packed
    def _backward_kernels(self, weights: dict[str, Array]) -> list[_core.Backward]:
        return [_core.Backward(self.cell, matrices) for matrices in self._by_layer(weights)]

    def _stack(self, matrices: list[Any], core: Any = _core) -> _core.Stack:
        stack: _core.Stack = core.Stack(self.cell, matrices, self.sizes.D, self.core_options())
        return stack

    def packed_in(self, core: Any) -> Any:
        """The packed weights in another build of the core."""
        return self._stack(self._matrices(self._weights), core)

    def _by_layer(self, weights: Mapping[str, Array]) -> list[list[Any]]:
        matrices, D = self._matrices(weights), self.sizes.D
        return [matrices[first : first + D] for first in range(0, len(matrices), D)]

    def _matrices(self, weights: Mapping[str, Array]) -> list[Any]:
        """The weights of each direction of each layer, in the layout that the core expects."""

        def matrix(name: str) -> tuple[Any, Any]:
            return weights[name], weights.get(name + "_scale")

        return [
            (
                matrix("weight_ih" + s),
                matrix("weight_hh" + s),
                weights.get("bias_ih" + s),
                weights.get("bias_hh" + s),
                matrix("weight_hr" + s) if self.proj_size else None,
                weights.get("weight_peephole" + s),
            )
            for s in self.suffixes()
        ]

    def __call__(
        self, x: ArrayLike, state: State | None = None, *, lengths: ArrayLike | None = None, **unknown: Never
    ) -> tuple[Array, State]:
        """Run a sequence from its first step to its last.

        x is (T, B, I), (B, T, I) with batch_first, or (T, I) unbatched. state has the form of the returned
        state, or is None for zeros; each of its arrays is (L*D, B, H), or (L*D, H) unbatched, where h has P
        units with a projection. lengths (B,), or one integer unbatched, gives the number of valid steps in
        each row. All arrays are converted to the layer's dtype.

        Returns y, laid out as x with D*P features, and the final state, both as new arrays. Past a row's
        length, y is 0; the final state is that of the last valid step, and the reverse direction starts
        there; a row of length 0 keeps its initial state.

        Raises ShapeError, DtypeError, SignatureError for unknown arguments, and ArgumentError for a length
        out of range or a state of the wrong kind.
        """
        if unknown:
            raise unknown_arguments(self, unknown, "x, state=None, *, lengths=None")
        inputs = self.inputs(x, state, lengths)
        T, B, _ = inputs.x.shape
        batch_major = inputs.batched and self.batch_first
        y = np.empty((B, T, self.sizes.DP) if batch_major else (T, B, self.sizes.DP), self.dtype)
        h, c = self.empty_state(B)
        steps = y.swapaxes(0, 1) if batch_major else y
        self.step_kernel.forward(inputs.x, inputs.h0, inputs.c0, inputs.lengths, steps, h, c)
        return self.outputs(inputs, steps, h, c)

    def inputs(self, x: ArrayLike, state: State | None, lengths: ArrayLike | None) -> Inputs:
        """The arguments of a call, checked and laid out for the core."""
        x = self.as_sequence(x)
        batched = x.ndim == 3
        batch_major = batched and self.batch_first
        # the core takes (T, B, ...) with any strides of T and B
        steps = arrays.with_contiguous_rows(x.swapaxes(0, 1) if batch_major else x if batched else x[:, None])
        T, B, _ = steps.shape
        H, P, _, LD, _ = self.sizes
        h0, c0 = self.split_state(state)
        h0 = self.initial_state("h0", h0, (LD, B, P), batched)
        c0 = self.initial_state("c0", c0, (LD, B, H), batched)
        if lengths is not None:
            lengths = arrays.as_lengths(lengths, (B,) if batched else (), T)
        return Inputs(steps, h0, c0, lengths, batched)

    def outputs(self, inputs: Inputs, y: Array, h: Array, c: Array | None) -> tuple[Array, State]:
        """The results of a call, from y (T, B, D*P), h (L*D, B, P) and c (L*D, B, H)."""
        if not inputs.batched:
            return y[:, 0], self.join_state(h[:, 0], None if c is None else c[:, 0])
        return y.swapaxes(0, 1) if self.batch_first else y, self.join_state(h, c)

    def state_shapes(self, batch: int) -> tuple[Shape, ...]:
        H, P, _, LD, _ = self.sizes
        return ((LD, batch, P), (LD, batch, H))[: len(self.state_names)]

    def empty_state(self, batch: int) -> tuple[Array, Array | None]:
        """Uninitialized h and c."""
        H, P, _, LD, _ = self.sizes
        c = np.empty((LD, batch, H), self.dtype) if "c" in self.state_names else None
        return np.empty((LD, batch, P), self.dtype), c

    def forward(
        self, x: ArrayLike, state: Any = None, *, lengths: ArrayLike | None = None, rng: Rng = None
    ) -> tuple[Array, State, Cache]:
        """Call the layer and also return a cache for backward; with `rng`, dropout acts between the layers.

        Besides x, the cache holds for each step, row, unit, layer and direction 1 float for an RNN (h; 2 if
        bidirectional), 6 for an LSTM (gates, c, h), 5 for a GRU (gates, R_n h + b_n, h), 4 for a GRU that
        resets before the product, and one more below a dropout. PyTorch 2.13 stores 1, 16 and 6. Raises the
        errors of a call, and ArgumentError for a layer with options that have no gradients.
        """
        if self.precision or not self.is_plain():
            raise ArgumentError(
                f"{self!r} has no gradients: peephole, coupled, clip, other activations and quantized "
                "weights are supported at inference only"
            )
        y, state, inputs, records = self.record(x, state, lengths, rng=rng)
        if len(self.gates) == 1 and not self.bidirectional:  # the gate of an RNN is its h: keep one of them
            records = [LayerRecord(r.x, r.gates[0, :, :, 0], r.gates, r.sums, r.mask) for r in records]
        return y, state, Cache(inputs, records)

    def record(
        self, x: ArrayLike, state: Any, lengths: ArrayLike | None, *, sums: bool = False, rng: Rng = None
    ) -> tuple[Array, State, Inputs, list[LayerRecord]]:
        """y and the final state, with the same bits as a call, the checked arguments, and a record per layer.

        With `rng`, dropout acts between the layers.
        """
        inputs = self.inputs(x, state, lengths)
        drawing = None if rng is None else generator(rng)
        H, _, D, _, DP = self.sizes
        T, B, _ = inputs.x.shape
        empty = (
            np.empty if inputs.lengths is None else np.zeros
        )  # the core skips the steps past a row's length
        h, c = self.empty_state(B)
        records = []
        y = inputs.x
        for number, kernel in enumerate(self._layer_kernels):
            own = slice(number * D, (number + 1) * D)
            h0, c0, c_n = (part if part is None else part[own] for part in (inputs.h0, inputs.c0, c))
            record = LayerRecord(
                x=y,
                y=np.empty((T, B, DP), self.dtype),
                gates=empty((D, T, B, kernel.recorded, H), self.dtype),
                sums=empty((D, T, B, len(self.gates), H), self.dtype) if sums else None,
            )
            kernel.record(y, h0, c0, inputs.lengths, record.y, h[own], c_n, record.gates, record.sums)
            y = record.y
            if drawing is not None and self.dropout and number < self.num_layers - 1:
                mask = dropout_mask(drawing, self.dropout, y.shape, self.dtype)
                record, y = LayerRecord(record.x, y, record.gates, record.sums, mask), y * mask
            records.append(record)
        return *self.outputs(inputs, y.copy(), h, c), inputs, records

    def backward(
        self, dy: ArrayLike, dstate: State | None, cache: Cache
    ) -> tuple[Array, State, dict[str, Array]]:
        """Return dx (laid out as x), the gradient of the initial state, and those of the weights by name.

        dy is laid out as y, and dstate as the final state (None for zeros); values past a row's length are
        ignored. The bits do not depend on the number of threads. Raises ShapeError, DtypeError,
        ArgumentError.
        """
        self._check_cache(self._fits(cache))
        inputs, records = cache
        H, P, D, LD, DP = self.sizes
        T, B, _ = inputs.x.shape
        batch_major = inputs.batched and self.batch_first
        shape = (B, T, DP) if batch_major else (T, B, DP) if inputs.batched else (T, DP)
        dx = arrays.as_gradient(dy, shape, self.dtype)
        dx = arrays.with_contiguous_rows(dx.swapaxes(0, 1) if batch_major else dx.reshape(T, B, DP))
        dh, dc = self.split_state(dstate)
        dh_n = self.initial_state("dh", dh, (LD, B, P), inputs.batched)
        dc_n = self.initial_state("dc", dc, (LD, B, H), inputs.batched)
        dh0, dc0 = self.empty_state(B)
        gradients = {name: np.zeros_like(weight) for name, weight in self._weights.items()}
        of_weights: list[Any] = [tuple(gradients.get(name + s) for name in NAMES) for s in self.suffixes()]
        empty = (
            np.empty if inputs.lengths is None else np.zeros
        )  # the core skips the steps past a row's length
        kernels = self._backward_kernels
        for number in reversed(range(self.num_layers)):
            own, record = slice(number * D, (number + 1) * D), records[number]
            dy = dx if record.mask is None else dx * record.mask
            dx = empty(record.x.shape, self.dtype)
            h0, c0, dh_end, dc_end, dc_start = (
                part if part is None else part[own] for part in (inputs.h0, inputs.c0, dh_n, dc_n, dc0)
            )
            kernels[number].run(
                dy, record.x, record.y, h0, c0, dh_end, dc_end, inputs.lengths, record.gates, dx,
                dh0[own], dc_start, of_weights[own],
            )  # fmt: skip
        return *self.outputs(inputs, dx, dh0, dc0), gradients

    def _fits(self, cache: Any) -> bool:
        """Whether a cache belongs to a layer of these sizes."""
        if not isinstance(cache, Cache) or len(cache.records) != self.num_layers:
            return False
        first, last = cache.records[0], cache.records[-1]
        sizes = (first.x.shape[-1], last.y.shape[-1], first.gates.shape[0], *first.gates.shape[3:])
        H, _, D, _, DP = self.sizes
        expected = (self.input_size, DP, D, self._layer_kernels[0].recorded, H)
        return sizes == expected and first.x.dtype == self.dtype
