"""Keras' ConvLSTM1D and ConvLSTM2D: an LSTM whose products are convolutions, as a Scan over time."""

from collections.abc import Sequence

import numpy as np

from ...graph import Graph
from ...graph.graph import Input
from .activations import ACTIVATIONS, Function, activation_name
from .convolutions import window_options
from .core_layers import numbers
from .layer import Layer, layer
from .stored_weights import Tensor, conv_weight
from .writer import BOOL, Value


@layer("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", masks="own", arguments=("initial_state", "mask"))
def conv_lstm(
    k: Layer, x: Value, *more: Value, initial_state: Sequence[Value] = (), use_mask: bool = True
) -> list[Value]:
    """x (B, T, *sizes, C) to y (B, T, *sizes, F), or the last step without return_sequences.

    Gates i, f, g, o = x W + h R + b with convolutions; c = f c + i g; h = o activation(c). Shi et al. 2015.
    """
    n, filters = int(k.kind_name[-2]), k.option("filters")
    k.rank(x, n + 3)
    flags = "go_backwards", "zero_output_for_mask", "return_sequences", "return_state"
    go_backwards, zeros, return_sequences, return_state = (k.option(key, False) for key in flags)
    size = numbers(k.option("kernel_size"), n)
    kernel, recurrent, bias = k.arrays(True, True, k.option("use_bias", True), part="cell")
    weights = k.weight("kernel", conv_weight(kernel, k.context.theano)), k.weight("bias", bias)
    recurrent = np.asarray(conv_weight(recurrent, k.context.theano), k.dtype())
    defaults = {"activation": "tanh", "recurrent_activation": k.context.recurrent_activation}
    names = [activation_name(k, k.option(key, default), key) for key, default in defaults.items()]
    functions = [ACTIVATIONS[name] for name in names]

    first = k.option("data_format", None) == "channels_first"
    mask, x = x.mask if use_mask else None, k.floats(x)
    steps = k.transposed(x, 1, 0, *((2, *range(3, 3 + n)) if first else (2 + n, *range(2, 2 + n))))
    counts = mask and k.transposed(mask, 1, 0)
    if go_backwards:
        steps, counts = k.reversed(steps, 0), counts and k.reversed(counts, 0)
    rows = k.reshaped(steps, -1, k.sliced(k.shape_of(steps), 0, 2), rank=2 + n)
    y = k.add("Conv", rows, *weights, **window_options(k, size))
    gates = k.reshaped(y, k.shape_of(steps, 0), -1, k.sliced(k.shape_of(y), 0, 1), rank=3 + n)

    shape = k.shape_of(gates)
    parts = [k.sliced(shape, 0, 1, 2), np.array([filters]), k.sliced(shape, 0, 3)]
    nothing = k.filled(0, gates, k.add("Concat", *parts, axis=0), rank=2 + n)
    to_first, to_last = (0, 1 + n, *range(1, 1 + n)), (0, *range(2, 2 + n), 1)
    states = [state if first else k.transposed(state, *to_first) for state in (*more, *initial_state)]
    masked = [] if counts is None else [counts]
    initial = [*(states or [nothing] * 2), *([nothing] if masked else [])]
    body = _body(k, n, recurrent, functions, bool(masked), zeros)
    ranks = [2 + n] * len(initial) + [3 + n]
    inputs = [*initial, gates, *masked]
    outputs = k.add_all("Scan", inputs, ranks, body=body, num_scan_inputs=1 + len(masked), dtype=gates.dtype)
    h, c, y = outputs[0], outputs[1], outputs[-1]
    if return_sequences:
        order = (1, 0, *range(2, 3 + n)) if first else (1, 0, *range(3, 3 + n), 2)
        result = k.transposed(y, *order)._replace(mask=x.mask)
    else:
        final = k.taken(y, -1, 0) if masked else h
        result = final if first else k.transposed(final, *to_last)
    found = (h, c) if return_state else ()
    return [result, *(state if first else k.transposed(state, *to_last) for state in found)]


def _body(
    k: Layer, n: int, kernel: Tensor, functions: Sequence[Function], masked: bool, zeros: bool
) -> Graph:
    """Return one step: the states, the last output if masked, and the gates to the same and the output."""
    activation, gate = functions
    sizes = list(kernel.shape[2:])
    pads = [*((size - 1) // 2 for size in sizes), *(size // 2 for size in sizes)]
    with k.body() as graph:
        names = ["h", "c", *(["last"] if masked else []), "gates"]
        h, c, *last, x = (Value(graph.add_input(name, kernel.dtype), 2 + n, kernel.dtype) for name in names)
        product = k.add("Conv", h, k.constant(kernel, "recurrent_kernel"), kernel_shape=sizes, pads=pads)
        i, f, g, o = k.split(k.add("Add", x, product), 4, 1)
        kept = k.add("Mul", gate(k, f), c)
        new_c = k.add("Add", kept, k.add("Mul", gate(k, i), activation(k, g)))
        new_h = k.add("Mul", gate(k, o), activation(k, new_c))
        outputs = [new_h, new_c, new_h]
        if masked:
            mask = k.unsqueezed(Value(graph.add_input("mask", bool), 1, BOOL), *range(1, 2 + n))
            pairs = ((new_h, h), (new_c, c), (new_h, 0 if zeros else last[0]))
            outputs = [k.add("Where", mask, new, old) for new, old in pairs]
            outputs.append(outputs[-1])
        graph.outputs = tuple(k.add("Identity", y).name for y in outputs)
        graph.declared_outputs = tuple(Input(name, kernel.dtype) for name in graph.outputs)
    return graph
