"""Keras' ConvLSTM1D and ConvLSTM2D: an LSTM whose products are convolutions, as a Scan over time."""

from collections.abc import Sequence

import numpy as np

from ...graph import Graph
from ...graph.graph import Input
from .activations import ACTIVATIONS, activation_name
from .convolutions import window_options
from .core_layers import numbers
from .layer import Layer, layer
from .stored_weights import conv_weight
from .writer import Value

MAX = np.iinfo(np.int64).max


@layer("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", masks="own", arguments=("initial_state", "mask"))
def conv_lstm(
    k: Layer, x: Value, *more: Value, initial_state: Sequence[Value] = (), use_mask: bool = True
) -> list[Value]:
    """x (B, T, *sizes, C) to y (B, T, *sizes, F), or the last step without return_sequences.

    Gates i, f, g, o = x W + h R + b with convolutions; c = f c + i g; h = o activation(c). Shi et al. 2015.
    """
    n = int(k.kind_name[-2])
    k.rank(x, n + 3)
    filters, bias = k.option("filters"), k.option("use_bias", True)
    first = k.option("data_format", None) == "channels_first"
    mask, x = x.mask if use_mask else None, k.floats(x)
    backwards, zeros = k.option("go_backwards", False), k.option("zero_output_for_mask", False)
    sequences, returns_state = k.option("return_sequences", False), k.option("return_state", False)
    steps = k.transposed(x, 1, 0, *((2, *range(3, 3 + n)) if first else (2 + n, *range(2, 2 + n))))
    counts = mask and k.transposed(mask, 1, 0)
    if backwards:
        steps, counts = k.reversed(steps, 0), counts and k.reversed(counts, 0)
    gates, recurrent = _gates(k, steps, n, filters, bias)
    shape = k.add("Shape", gates, rank=1, dtype=np.int64)
    parts = [k.sliced(shape, 0, 1, 2), np.array([filters]), k.sliced(shape, 0, 3, MAX)]
    sizes = k.add("Concat", *parts, axis=0, rank=1, dtype=np.int64)
    nothing = k.add("Expand", k.zero(gates), sizes, rank=2 + n)
    given = [_channels_first(k, state, n, first) for state in (*more, *initial_state)]
    body = _body(k, n, filters, recurrent, counts is not None, zeros)
    initial = [*(given or [nothing] * 2), *([nothing] if counts is not None else [])]
    scanned = [gates, *([counts] if counts is not None else [])]
    ranks = [2 + n] * len(initial) + [3 + n]
    outputs = k.add_all(
        "Scan", [*initial, *scanned], ranks, body=body, num_scan_inputs=len(scanned), dtype=gates.dtype
    )
    h, c, y = outputs[0], outputs[1], outputs[-1]
    last = (0, *range(2, 2 + n), 1)
    if sequences:
        order = (1, 0, *range(2, 3 + n)) if first else (1, 0, *range(3, 3 + n), 2)
        result = k.transposed(y, *order)._replace(mask=x.mask)
    else:
        final = h if counts is None else k.taken(y, -1, 0)
        result = final if first else k.transposed(final, *last)
    states = [state if first else k.transposed(state, *last) for state in (h, c)] if returns_state else []
    return [result, *states]


def _channels_first(k: Layer, x: Value, n: int, first: bool) -> Value:
    return x if first else k.transposed(x, 0, 1 + n, *range(1, 1 + n))


def _gates(k: Layer, x: Value, n: int, filters: int, bias: bool) -> tuple[Value, Value]:
    """Return the products with the inputs (T, B, 4 F, *sizes), and the recurrent kernel."""
    size = numbers(k.option("kernel_size"), n)
    kernel, recurrent, *rest = k.once("parts", lambda: k.weights.part("cell").take(2 + bias))
    weights = [k.weight("kernel", lambda: conv_weight(kernel, k.context.theano))]
    weights += [k.weight("bias", lambda: rest[0])] if bias else []
    options = window_options(k, size, k.option("strides", 1), k.option("dilation_rate", 1))
    rows = k.reshaped(x, -1, k.sliced(k.shape_of(x), 0, 2, MAX), rank=2 + n)
    y = k.add("Conv", rows, *weights, **options)
    gates = k.reshaped(y, k.shape_of(x, 0), -1, k.sliced(k.shape_of(y), 0, 1, MAX), rank=3 + n)
    return gates, k.weight("recurrent_kernel", lambda: conv_weight(recurrent, k.context.theano))


def _body(k: Layer, n: int, filters: int, kernel: Value, masked: bool, zeros: bool) -> Graph:
    """Return one step: the states, the last output if masked, and the gates to the same and the output."""
    activation = ACTIVATIONS[activation_name(k, "activation", k.option("activation", "tanh"))]
    default = k.context.recurrent_activation
    gate = ACTIVATIONS[activation_name(k, "recurrent_activation", k.option("recurrent_activation", default))]
    weight = k.target.graph.constants[kernel.name]
    dtype = kernel.dtype
    sizes = list(weight.shape[2:])
    with k.body() as graph:
        names = ["h", "c", *(["last"] if masked else []), "gates"]
        h, c, *last, x = (Value(graph.add_input(name, dtype), 2 + n, dtype) for name in names)
        pads = [(size - 1) // 2 for size in sizes], [size // 2 for size in sizes]
        product = k.add(
            "Conv", h, k.constant(weight, "recurrent_kernel"), kernel_shape=sizes, pads=[*pads[0], *pads[1]]
        )
        parts = k.add_all("Split", [k.add("Add", x, product)], [2 + n] * 4, axis=1, num_outputs=4)
        i, f, g, o = parts
        kept = k.add("Mul", gate(k, f), c)
        new_c = k.add("Add", kept, k.add("Mul", gate(k, i), activation(k, g)))
        new_h = k.add("Mul", gate(k, o), activation(k, new_c))
        outputs = [new_h, new_c, new_h]
        if masked:
            mask = Value(graph.add_input("mask", bool), 1, np.dtype(bool))
            counts = k.unsqueezed(mask, *range(1, 2 + n))
            other = k.zero(new_h) if zeros else last[0]
            pairs = ((new_h, h), (new_c, c), (new_h, other))
            h_n, c_n, y = (k.add("Where", counts, a, b, rank=2 + n, dtype=dtype) for a, b in pairs)
            outputs = [h_n, c_n, y, y]
        graph.outputs = tuple(k.add("Identity", y).name for y in outputs)
        graph.declared_outputs = tuple(Input(name, dtype) for name in graph.outputs)
    return graph
