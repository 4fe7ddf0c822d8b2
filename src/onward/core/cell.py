"""A recurrent cell unrolled over time: sizes, options and packed weights, which layers and graph nodes share.

Axis letters: T time, B batch, I input, H hidden units, P projected units (P = H without a projection), G
gates, L layers, D directions. The state is (h, c). W and R are weight_ih and weight_hh, b_W and b_R their
biases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

import onward._core as _core

from . import arrays
from .activations import Call, Specs, by_direction, call, choose, choose_one, is_spec
from .arrays import Array, Shape
from .checks import flag, integer, positive
from .quantize import quantized_weights

MOST_LAYERS = 4096  # more would be a mistake, such as sizes in the wrong order
Value = TypeVar("Value")
Arguments: TypeAlias = "tuple[Array, Array | None, Array | None, NDArray[Any] | None]"  # x, h0, c0, lengths


class Kind(NamedTuple):
    """What cells of one kind have in common. Functions are the activations of a direction."""

    gates: str  # one letter each, in the order of the weight rows
    state_names: tuple[str, ...]
    plain: tuple[Specs, ...]  # the functions that the core's cells support without options; first the default
    functions: tuple[str, ...]  # what errors call those of `activations`
    options: tuple[str, ...]


LSTM_OPTIONS = "proj_size", "peephole", "coupled", "activations", "clip", "cell_clip"
GRU_OPTIONS = "reset_after", "activations", "clip"
KINDS = {
    "RNN": Kind("h", ("h",), (("tanh",), ("relu",)), (), ("nonlinearity", "clip")),
    "LSTM": Kind(
        "ifgo", ("h", "c"), (("sigmoid", "tanh", "tanh"),), ("gate", "cell", "output"), LSTM_OPTIONS
    ),
    "GRU": Kind("rzn", ("h",), (("sigmoid", "tanh"),), ("gate", "candidate"), GRU_OPTIONS),
}


class Sizes(NamedTuple):
    """A cell's sizes: hidden units, projected units, directions, layers times directions, and D*P."""

    H: int
    P: int
    D: int
    LD: int
    DP: int


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


# The weights of a direction, in the order that the core expects of their gradients.
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


class packed(Generic[Value]):
    """An attribute that is made when first needed, without a lock that a forked child would inherit."""

    def __init__(self, make: Callable[[Cell], Value]) -> None:
        self._make = make

    def __get__(self, cell: Cell, owner: type) -> Value:
        value = vars(cell)[self._make.__name__] = self._make(cell)
        return value


class Cell:
    """An RNN, LSTM or GRU in one or two directions and one or more layers: an immutable value.

    The options are those of the layers of the same names. Sequences are (T, B, I), states (L*D, B, units).
    A new cell has no weights. Raises ArgumentError, DtypeError.

    >>> import onward
    >>> onward.GRU(3, 4, bidirectional=True, batch_first=True).cell
    GRU(3, 4, bidirectional=True)
    """

    def __init__(
        self,
        kind: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        bidirectional: bool = False,
        dtype: DTypeLike = "float32",
        *,
        nonlinearity: Any = "tanh",
        proj_size: int = 0,
        peephole: bool = False,
        coupled: bool = False,
        reset_after: bool = True,
        activations: Any = None,
        clip: float | None = None,
        cell_clip: float | None = None,
    ) -> None:
        self.kind, own = kind, KINDS[kind]
        self.gates, self.state_names = own.gates, own.state_names
        self.input_size = integer("input_size", input_size, 1)
        self.hidden_size = integer("hidden_size", hidden_size, 1)
        self.num_layers = integer("num_layers", num_layers, 1, MOST_LAYERS)
        self.bias = flag("bias", bias)
        self.bidirectional = flag("bidirectional", bidirectional)
        self.dtype = arrays.float_dtype(dtype)
        self.proj_size = integer("proj_size", proj_size, 0, self.hidden_size - 1)
        self.peephole, self.coupled = flag("peephole", peephole), flag("coupled", coupled)
        self.reset_after = flag("reset_after", reset_after)
        self.clip = None if clip is None else positive("clip", clip)
        self.cell_clip = None if cell_clip is None else positive("cell_clip", cell_clip)
        if own.functions:
            self.activations: Specs | tuple[Specs, Specs] = own.plain[0]
            if activations is not None:
                self.activations = choose("activations", activations, own.functions, bidirectional)
        else:
            self.nonlinearity = choose_one("nonlinearity", nonlinearity, bidirectional)
        H, P, D = self.hidden_size, self.proj_size or self.hidden_size, 1 + self.bidirectional
        self.sizes = Sizes(H, P, D, self.num_layers * D, D * P)
        self.precision = ""  # the stored dtype of the matrices once quantized: "float16" or "int8"
        self.weights: Mapping[str, Array] = {}  # under PyTorch's names

    def with_weights(self, weights: Mapping[str, Array], precision: str = "") -> Cell:
        """A cell of the same sizes and options with weights that fit and do not change."""
        filled = object.__new__(Cell)
        vars(filled).update(vars(self), weights=weights, precision=precision)
        for name in PACKED:
            vars(filled).pop(name, None)
        return filled

    def filled(self, weights: Mapping[str, Any]) -> Cell:
        """The cell with weights, copied if they have another dtype or layout. Raises ArgumentError."""
        stored = {name: (shape, self.dtype) for name, shape in self.float_shapes()}
        return self.with_weights(arrays.as_weights(self, weights, stored))

    def compressed(self, precision: str) -> Cell:
        """The cell with quantized matrices. Raises ArgumentError."""
        matrices = {name: shape for name, shape in self.float_shapes() if len(shape) > 1}
        return self.with_weights(quantized_weights(self, self.weights, matrices, precision), precision)

    def __getstate__(self) -> dict[str, Any]:
        # copied in one step: another thread may be packing the weights
        return {name: value for name, value in vars(self).copy().items() if name not in PACKED}

    def config(self) -> dict[str, Any]:
        """The constructor's arguments besides the kind."""
        names = "input_size", "hidden_size", "num_layers", "bias", "bidirectional", *KINDS[self.kind].options
        return {name: getattr(self, name) for name in names} | {"dtype": str(self.dtype)}

    def description(self) -> dict[str, Any]:
        """The description of the layer of this cell, as JSON values."""
        return {"type": self.kind} | self.config() | ({"precision": self.precision} if self.precision else {})

    def __repr__(self) -> str:
        usual = Cell(self.kind, self.input_size, self.hidden_size).config()
        options = [f", {name}={value!r}" for name, value in self.config().items() if value != usual[name]]
        quantized = f".quantize({self.precision!r})" if self.precision else ""
        return f"{self.kind}({self.input_size}, {self.hidden_size}{''.join(options)}){quantized}"

    def suffixes(self) -> Iterator[str]:
        """The endings of the weight names, one for each direction of each layer."""
        ways = ("", "_reverse")[: self.sizes.D]
        return (f"_l{layer}{way}" for layer in range(self.num_layers) for way in ways)

    def float_shapes(self) -> Iterator[tuple[str, Shape]]:
        """The name and shape of each weight before quantization, in PyTorch's order."""
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

    def state_shapes(self, batch: int) -> tuple[Shape, ...]:
        """The shapes of the states, h and perhaps c."""
        H, P, _, LD, _ = self.sizes
        return ((LD, batch, P), (LD, batch, H))[: len(self.state_names)]

    def empty_state(self, batch: int) -> tuple[Array, Array | None]:
        """Uninitialized h and c."""
        H, P, _, LD, _ = self.sizes
        c = np.empty((LD, batch, H), self.dtype) if "c" in self.state_names else None
        return np.empty((LD, batch, P), self.dtype), c

    def functions(self) -> tuple[Specs, Specs]:
        """The activations of the forward and of the reverse direction, in the cell's order."""
        if self.kind != "RNN":
            return by_direction(self.activations)
        f: Any = self.nonlinearity
        forward, reverse = (f, f) if is_spec(f) else f
        return (forward,), (reverse,)

    def is_plain(self) -> bool:
        """Whether the cell has no options beyond those of torch.nn."""
        forward, reverse = self.functions()
        usual = forward == reverse and forward in KINDS[self.kind].plain
        return usual and not (self.clip or self.cell_clip or self.peephole or self.coupled)

    @property
    def equation(self) -> str:
        """The core's name for the equation."""
        if self.kind == "RNN":
            return "rnn_relu" if self.is_plain() and self.nonlinearity == "relu" else "rnn"
        return self.kind.lower() if self.reset_after else "gru_reset_before"

    def core_options(self) -> list[tuple[Call, Call, Call, float, float, bool]]:
        """The core's options for each direction; empty for a plain cell."""
        if self.is_plain():
            return []
        # a cell reads only the activations that it has
        chosen = [(*functions, *functions[-1:] * 2)[:3] for functions in self.functions()[: self.sizes.D]]
        rest = self.clip or math.inf, self.cell_clip or math.inf, self.coupled
        return [(call(gate), call(cell), call(output), *rest) for gate, cell, output in chosen]

    @packed
    def stack(self) -> _core.Stack:
        """The packed weights of all layers."""
        return self._stack(self._matrices())

    @packed
    def stacks(self) -> list[_core.Stack]:
        """The packed weights of each layer, for recording; those of a single layer are its `stack`."""
        return [self.stack] if self.num_layers == 1 else [*map(self._stack, self._by_layer())]

    @packed
    def backward_kernels(self) -> list[_core.Backward]:
        """The packed weights of each layer, for the way back."""
        return [_core.Backward(self.equation, matrices) for matrices in self._by_layer()]

    def packed_in(self, core: Any) -> Any:
        """The packed weights in another build of the core."""
        return self._stack(self._matrices(), core)

    def _stack(self, matrices: list[Any], core: Any = _core) -> _core.Stack:
        stack: _core.Stack = core.Stack(self.equation, matrices, self.sizes.D, self.core_options())
        return stack

    def _by_layer(self) -> list[list[Any]]:
        matrices, D = self._matrices(), self.sizes.D
        return [matrices[first : first + D] for first in range(0, len(matrices), D)]

    def _matrices(self) -> list[Any]:
        """The weights of each direction of each layer, in the layout that the core expects."""
        weights = self.weights

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
        self, x: ArrayLike, *states: ArrayLike | None, lengths: ArrayLike | None = None
    ) -> tuple[Array, ...]:
        """Return y (T, B, D*P) and the final states of x (T, B, I), from states that may be None for zeros.

        `lengths` (B,) are the valid steps of each row. Raises ArgumentError for one out of range, DtypeError.
        """
        arguments = self.arguments(x, *states, lengths=lengths)
        T, B, _ = arguments[0].shape
        y, (h, c) = np.empty((T, B, self.sizes.DP), self.dtype), self.empty_state(B)
        self.stack.forward(*arguments, y, h, c)
        return (y, h) if c is None else (y, h, c)

    def arguments(
        self, x: ArrayLike, h0: Any = None, c0: Any = None, *, lengths: ArrayLike | None = None
    ) -> Arguments:
        """The arguments of a call as the core takes them."""
        steps = arrays.with_contiguous_rows(arrays.as_floats(x, self.dtype, "x"))
        T, B, _ = steps.shape
        h, c = (
            None if state is None else arrays.contiguous(arrays.as_floats(state, self.dtype, name))
            for name, state in (("h0", h0), ("c0", c0))
        )
        return steps, h, c, None if lengths is None else arrays.as_lengths(lengths, (B,), T)

    def record(
        self, arguments: Arguments, sums: bool = False, mask: Callable[[Shape], Array] | None = None
    ) -> tuple[Array, Array, Array | None, list[LayerRecord]]:
        """Return y, h and c with the bits of a call, and the record of each layer.

        `mask` makes the factor of a dropout that acts between the layers.
        """
        H, _, D, _, DP = self.sizes
        y, h0, c0, lengths = arguments
        T, B, _ = y.shape
        empty = np.empty if lengths is None else np.zeros  # the core skips the steps past a row's length
        h, c = self.empty_state(B)
        records = []
        for number, kernel in enumerate(self.stacks):
            own = slice(number * D, (number + 1) * D)
            h_0, c_0, c_n = (part if part is None else part[own] for part in (h0, c0, c))
            record = LayerRecord(
                x=y,
                y=np.empty((T, B, DP), self.dtype),
                gates=empty((D, T, B, kernel.recorded, H), self.dtype),
                sums=empty((D, T, B, len(self.gates), H), self.dtype) if sums else None,
            )
            kernel.record(y, h_0, c_0, lengths, record.y, h[own], c_n, record.gates, record.sums)
            y = record.y
            if mask is not None and number < self.num_layers - 1:
                factor = mask(y.shape)
                record, y = LayerRecord(record.x, y, record.gates, record.sums, factor), y * factor
            records.append(record)
        return y.copy(), h, c, records

    def by_suffix(self, records: Sequence[LayerRecord]) -> Iterator[tuple[str, dict[str, Array]]]:
        """The gates and states (T, B, H) of each layer and direction, by suffix: l0_reverse."""
        _, P, D, _, _ = self.sizes
        for place, suffix in enumerate(self.suffixes()):
            record, d = records[place // D], place % D
            arrays = {gate: record.gates[d, :, :, k] for k, gate in enumerate(self.gates)}
            if "c" in self.state_names:
                arrays["c"] = record.gates[d, :, :, len(self.gates)]
            arrays["h"] = record.y[:, :, d * P : (d + 1) * P]
            if record.sums is not None:
                sums = record.sums[d]
                arrays |= {f"{gate}_preactivation": sums[:, :, k] for k, gate in enumerate(self.gates)}
            yield suffix.removeprefix("_"), arrays

    def backward(
        self,
        dy: Array,
        dh: Array | None,
        dc: Array | None,
        arguments: Arguments,
        records: Sequence[LayerRecord],
    ) -> tuple[Array, Array, Array | None, dict[str, Array]]:
        """Return dx, dh0, dc0 and the gradients of the weights, from those of y and the final states.

        The arguments and the records must be those of `record`.
        """
        D, dx, (_, h0, c0, lengths) = self.sizes.D, dy, arguments
        dh0, dc0 = self.empty_state(dy.shape[1])
        gradients = {name: np.zeros_like(weight) for name, weight in self.weights.items()}
        of_weights: list[Any] = [tuple(gradients.get(name + s) for name in NAMES) for s in self.suffixes()]
        empty = np.empty if lengths is None else np.zeros  # the core skips the steps past a row's length
        for number in reversed(range(self.num_layers)):
            own, record = slice(number * D, (number + 1) * D), records[number]
            dy = dx if record.mask is None else dx * record.mask
            dx = empty(record.x.shape, self.dtype)
            h_0, c_0, dh_end, dc_end, dc_start = (
                part if part is None else part[own] for part in (h0, c0, dh, dc, dc0)
            )
            self.backward_kernels[number].run(
                dy, record.x, record.y, h_0, c_0, dh_end, dc_end, lengths, record.gates, dx,
                dh0[own], dc_start, of_weights[own],
            )  # fmt: skip
        return dx, dh0, dc0, gradients


PACKED = "stack", "stacks", "backward_kernels"
