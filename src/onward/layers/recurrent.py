"""The part that RNN, LSTM and GRU share: the arguments of torch.nn around a cell, and training.

Axis letters: T time, B batch, I input, H hidden units, P projected units (P = H without a projection), L
layers, D directions. The state is (h, c).
"""

from __future__ import annotations  # importing np.random is slow

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

import onward._core as _core

from ..core.arrays import Array, Shape
from ..core.cell import Cell, LayerRecord
from ..core.checks import Rng, flag, generator, probability
from ..errors import ArgumentError
from .activation import dropout_mask
from .quantize import Quantizable, packed, uniform
from .stateful import Cache, Inputs, State, Stateful
from .textbook_parameters import TextbookParameters

if TYPE_CHECKING:
    from .graphs import GraphBuilder


class Recurrent(Stateful[State], Quantizable, TextbookParameters):
    """One cell unrolled over time, in one or two directions and one or more layers."""

    gates: ClassVar[str]  # one letter each, in the order of the weight rows
    STATE_AXES = "num_layers * directions", "batch", "units"
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    proj_size: int = 0
    clip: float | None

    def _configure(self, cell: Cell, batch_first: bool, dropout: float, rng: Rng) -> None:
        """Take the sizes and options of a cell without weights, and draw its weights."""
        self._form = cell
        vars(self).update({name: value for name, value in cell.config().items() if name != "dtype"})
        self.batch_first = flag("batch_first", batch_first)
        self.dropout = probability("dropout", dropout)  # acts in training only
        self.causal = not self.bidirectional
        self.step_shape, self.output_size = (self.input_size,), cell.sizes.DP
        self._draw(cell.dtype, rng, uniform(self.hidden_size**-0.5))

    @packed
    def cell(self, weights: dict[str, Array]) -> Cell:
        """The cell with the present weights."""
        return self._form.with_weights(weights, self.precision)

    def take_cell(self, cell: Cell) -> None:
        """Take the weights of a cell of the same sizes and options, and its packed copies."""
        vars(self)["precision"] = cell.precision
        self.take_weights(cell.weights)
        vars(self)["cell"] = cell

    @property
    def cell_kind(self) -> str:
        return self._form.kind

    @property
    def step_kernel(self) -> _core.Stack:
        """The packed weights of the cell."""
        return self.cell.stack

    def float_shapes(self) -> Iterator[tuple[str, Shape]]:
        return self._form.float_shapes()

    def state_shapes(self, batch: int) -> tuple[Shape, ...]:
        return self._form.state_shapes(batch)

    def add_steps(self, b: GraphBuilder, x: str, initial: Sequence[str]) -> Sequence[str]:
        outputs = "", *(f"{b.prefix}{part}_n" for part in self.state_names)
        inputs = x, b.lengths, *initial
        return b.graph.add_all("Recurrent", inputs, outputs, name=b.label[0], cell=self.cell)

    def _run(self, inputs: Inputs) -> tuple[Array, Array, Array | None]:
        T, B, _ = inputs.x.shape
        cell, batch_major = self.cell, inputs.batched and self.batch_first
        y = np.empty((B, T, cell.sizes.DP) if batch_major else (T, B, cell.sizes.DP), self.dtype)
        h, c = cell.empty_state(B)
        steps = y.swapaxes(0, 1) if batch_major else y
        cell.stack.forward(inputs.x, inputs.h0, inputs.c0, inputs.lengths, steps, h, c)
        return steps, h, c

    def forward(
        self, x: ArrayLike, state: Any = None, *, lengths: ArrayLike | None = None, rng: Rng = None
    ) -> tuple[Array, State, Cache]:
        """Call the layer and also return a cache for backward; with `rng`, dropout acts between the layers.

        Besides x, the cache holds for each step, row, unit, layer and direction 1 float for an RNN (h; 2 if
        bidirectional), 6 for an LSTM (gates, c, h), 5 for a GRU (gates, R_n h + b_n, h), 4 for a GRU that
        resets before the product, and one more below a dropout. PyTorch 2.13 stores 1, 16 and 6. Raises the
        errors of a call, and ArgumentError for a layer with options that have no gradients.
        """
        if self.precision or not self._form.is_plain():
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
        mask = None
        if drawing is not None and self.dropout:
            mask = partial(dropout_mask, drawing, self.dropout, dtype=self.dtype)
        y, h, c, records = self.cell.record(inputs[:4], sums, mask)
        return *self.outputs(inputs, y, h, c), inputs, records

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
        given = self._output_gradients(dy, dstate, inputs)
        dx, dh0, dc0, gradients = self.cell.backward(*given, inputs[:4], records)
        return *self.outputs(inputs, dx, dh0, dc0), gradients

    def traced(
        self, x: ArrayLike, state: Any, lengths: ArrayLike | None, preactivations: bool
    ) -> tuple[Array, State, Inputs, dict[str, dict[str, Array]]]:
        y, after, inputs, records = self.record(x, state, lengths, sums=preactivations)
        return y, after, inputs, dict(self.cell.by_suffix(records))

    def _fits(self, cache: Any) -> bool:
        """Whether a cache belongs to a layer of these sizes."""
        if not isinstance(cache, Cache) or len(cache.records) != self.num_layers:
            return False
        first, last = cache.records[0], cache.records[-1]
        sizes = (first.x.shape[-1], last.y.shape[-1], first.gates.shape[0], *first.gates.shape[3:])
        H, _, D, _, DP = self._form.sizes
        expected = (self.input_size, DP, D, self.cell.stacks[0].recorded, H)
        return sizes == expected and first.x.dtype == self.dtype
