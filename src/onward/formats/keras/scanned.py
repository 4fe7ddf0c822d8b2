"""Cells whose step is a graph that a Scan repeats: with activations that the core lacks, or convolutions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...core.arrays import FloatDtype
from ...graph import Graph
from ...graph.graph import Input
from .activations import NAMES, OVER_LAST, Function, activation_function
from .convolutions import window_options
from .core_layers import numbers
from .layer import Layer
from .stored_weights import Tensor, conv_weight
from .writer import BOOL, Value


@dataclass(frozen=True)
class ScannedCell:
    """A cell of some units, whose channels are on axis 1 of a state (B, units, ...) inside the Scan."""

    layer: Layer
    kind: str  # rnn, lstm or gru
    units: int
    functions: Sequence[Function]  # of the gates, if there are any, and of the candidate
    gates: Callable[[Value], Value]  # x (T, B, ...) to what the state does not change (T, B, G*units, ...)
    products: Sequence[Function]  # of h; a second one is that of r h
    channels_last: bool = True  # in x, y and the states

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the states."""
        return ("h", "c") if self.kind == "lstm" else ("h",)

    @property
    def dtype(self) -> FloatDtype:
        """The dtype of the computation."""
        return self.layer.dtype()

    def run(self, x: Value, mask: Value | None, states: Sequence[Value]) -> list[Value]:
        """Return y (T, B, ...) and the final states (B, ...), which the steps masked (T, B) do not change."""
        k, count, masks = self.layer, len(self.state_names), [] if mask is None else [mask]
        gates = self.gates(self._first(x, 2))
        rank, shape = k.rank(gates) - 1, k.shape_of(gates)
        sizes = [k.sliced(shape, 0, 1, 2), np.array([self.units]), k.sliced(shape, 0, 3)]
        zeros = k.filled(0, gates, k.add("Concat", *sizes, axis=0), rank=rank)
        initial = [self._first(state, 1) for state in states] or [zeros] * count
        inputs = [*initial, *[zeros] * len(masks), gates, *masks]
        *final, y = k.add_all(
            "Scan",
            inputs,
            [rank] * (count + len(masks)) + [rank + 1],
            body=self._body(rank, bool(masks)),
            num_scan_inputs=1 + len(masks),
            dtype=gates.dtype,
        )
        return [self._last(y, 2), *(self._last(state, 1) for state in final[:count])]

    def _first(self, x: Value, channels: int) -> Value:
        """Return x with its channels on an axis."""
        order = [*range(channels), -1, *range(channels, self.layer.rank(x) - 1)]
        return self._moved(x, order)

    def _last(self, x: Value, channels: int) -> Value:
        """Return x with its channels, which are on an axis, on the last one."""
        order = [*range(channels), *range(channels + 1, self.layer.rank(x)), channels]
        return self._moved(x, order)

    def _moved(self, x: Value, order: Sequence[int]) -> Value:
        rank = self.layer.rank(x)
        return self.layer.transposed(x, *(axis % rank for axis in order)) if self.channels_last else x

    def _body(self, rank: int, masked: bool) -> Graph:
        """Return one step: from the states, the last output if masked, and the gates to the same and y."""
        k = self.layer
        with k.body() as graph:
            names = [*self.state_names, *(["last"] if masked else []), "gates"]
            *before, x = (Value(graph.add_input(name, self.dtype), rank, self.dtype) for name in names)
            states = before[: len(self.state_names)]
            outputs = STEPS[self.kind](k, self.functions, self.products, x, *states)
            if masked:
                mask = k.unsqueezed(Value(graph.add_input("mask", bool), 1, BOOL), *range(1, rank))
                outputs = [
                    k.add("Where", mask, new, old)
                    for new, old in zip([*outputs, outputs[0]], before, strict=True)
                ]
            outputs.append(outputs[-1] if masked else outputs[0])
            graph.outputs = tuple(k.add("Identity", y).name for y in outputs)
            graph.declared_outputs = tuple(Input(name, self.dtype) for name in graph.outputs)
        return graph


def _rnn(
    k: Layer, functions: Sequence[Function], products: Sequence[Function], x: Value, h: Value
) -> list[Value]:
    return [functions[0](k, k.add("Add", x, products[0](k, h)))]


def _lstm(
    k: Layer, functions: Sequence[Function], products: Sequence[Function], x: Value, h: Value, c: Value
) -> list[Value]:
    gate, activation = functions
    i, f, g, o = k.split(k.add("Add", x, products[0](k, h)), 4, 1)
    kept = k.add("Mul", gate(k, f), c)
    new_c = k.add("Add", kept, k.add("Mul", gate(k, i), activation(k, g)))
    return [k.add("Mul", gate(k, o), activation(k, new_c)), new_c]


def _gru(
    k: Layer, functions: Sequence[Function], products: Sequence[Function], x: Value, h: Value
) -> list[Value]:
    gate, activation = functions
    x_z, x_r, x_n = k.split(x, 3, 1)
    h_z, h_r, *h_n = k.split(products[0](k, h), 4 - len(products), 1)
    z, r = gate(k, k.add("Add", x_z, h_z)), gate(k, k.add("Add", x_r, h_r))
    reset = k.add("Mul", r, h_n[0]) if h_n else products[1](k, k.add("Mul", r, h))
    n = activation(k, k.add("Add", x_n, reset))
    return [k.add("Add", k.add("Mul", z, h), k.add("Mul", k.add("Sub", k.number(1, z), z), n))]


STEPS: dict[str, Callable[..., list[Value]]] = {"rnn": _rnn, "lstm": _lstm, "gru": _gru}


def dense_cell(
    k: Layer,
    kind: str,
    functions: Sequence[Function],
    reset_after: bool,
    kernel: Tensor,
    recurrent: Tensor,
    bias: Tensor | None = None,
) -> ScannedCell:
    """Return a cell of Keras' weights: kernel (I, G*H), recurrent (H, G*H), bias (G*H,) or (2, G*H)."""
    biases = [bias, None] if bias is None or bias.ndim == 1 else [*bias]
    parts = [recurrent]
    if kind == "gru" and not reset_after:
        parts = np.split(recurrent, [2 * len(recurrent)], axis=1)
    products = [
        lambda k, h, name=f"recurrent_{number}/", R=R, b=biases[1] if number == 0 else None: k.product(
            h, R, b, name
        )
        for number, R in enumerate(parts)
    ]
    return ScannedCell(
        k, kind, len(recurrent), functions, lambda x: k.product(x, kernel, biases[0]), products
    )


def conv_cell(k: Layer, *, filters: int, kernel_size: object, use_bias: bool = True) -> ScannedCell:
    """Return the cell of a ConvLSTM, whose products are convolutions of images. Shi et al. 2015."""
    n = int(k.kind_name[-2])
    size = numbers(kernel_size, n)
    kernel, recurrent, bias = k.arrays(True, True, use_bias, part="cell")
    weights = k.weight("kernel", conv_weight(kernel, k.context.theano)), k.weight("bias", bias)
    options, channels_last = window_options(k, size), k.option("data_format", None) != "channels_first"
    defaults = {"recurrent_activation": k.context.recurrent_activation, "activation": "tanh"}
    functions = [activation_function(k, key, default) for key, default in defaults.items()]
    if channels_last:
        functions = [_over_channels(function, n) for function in functions]

    def gates(x: Value) -> Value:
        rows = k.reshaped(x, -1, k.sliced(k.shape_of(x), 0, 2), rank=2 + n)
        y = k.add("Conv", rows, *weights, **options)
        return k.reshaped(y, k.shape_of(x, 0), -1, k.sliced(k.shape_of(y), 0, 1), rank=3 + n)

    pads = [*((each - 1) // 2 for each in size), *(each // 2 for each in size)]

    def product(k: Layer, h: Value) -> Value:
        R = k.weight("recurrent_kernel", conv_weight(recurrent, k.context.theano))
        return k.add("Conv", h, R, kernel_shape=size, pads=pads)

    return ScannedCell(k, "lstm", filters, functions, gates, [product], channels_last)


def _over_channels(function: Function, n: int) -> Function:
    """Return a function of (B, C, *sizes) that acts on (B, *sizes, C)."""
    if NAMES.get(function, OVER_LAST[0]) not in OVER_LAST:
        return function
    to_last, to_first = (0, *range(2, 2 + n), 1), (0, 1 + n, *range(1, 1 + n))
    return lambda k, x: k.transposed(function(k, k.transposed(x, *to_last)), *to_first)
