"""Keras' recurrent layers and their wrappers: cells run over time by Onward's own cells, or by a Scan."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from ...core.cell import Cell
from ...errors import ArgumentError, KerasWarning
from ...graph import Graph
from ...graph.graph import Input
from .activations import ACTIVATIONS, OVER_LAST, Function, activation_name
from .convolutions import window_options
from .core_layers import DROPOUTS, numbers
from .layer import CELLS_ONLY, Layer, layer
from .stored_weights import GATES, Tensor, cell_weights, conv_weight, joined
from .writer import BOOL, Value

ARGUMENTS = ("initial_state", "mask")
KINDS = ("SimpleRNN", "LSTM", "GRU", "CuDNNLSTM", "CuDNNGRU")
MERGES = ("concat", "sum", "ave", "mul", None)  # what Bidirectional does with its two outputs
# Layers that act on each place or on the features alone: TimeDistributed need not reshape for them.
POINTWISE = {
    "Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Rescaling", "Identity", *DROPOUTS,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """A recurrent layer of Keras: its cells, one on top of the other, and its options."""

    cells: Sequence[Cell]
    return_sequences: bool
    return_state: bool
    go_backwards: bool
    zero_output_for_mask: bool
    time_major: bool
    unroll: bool


def cell(k: Layer, *, units: int, use_bias: bool = True) -> Cell:
    """Return one cell: of a SimpleRNN, LSTM or GRU, of its cell, or of cuDNN's."""
    kind = k.kind_name.removeprefix("CuDNN").removesuffix("Cell")
    cudnn = k.kind_name.startswith("CuDNN")
    name = "rnn" if kind == "SimpleRNN" else kind.lower()
    separate_gates = k.context.version == 1 and k.option("consume_less", "cpu") != "gpu"
    part = "" if cudnn or k.kind_name.endswith("Cell") else "cell"
    count = (2 + use_bias) * (GATES[name] if separate_gates else 1)
    weights = joined(name, k.arrays(*[True] * count, part=part))
    options: dict[str, Any] = {"bias": use_bias, "dtype": k.dtype()}
    activation = _function(k, "activation", "tanh")
    state = cell_weights(name, *weights)
    I = weights[0].shape[0]  # noqa: E741 (the axis letter)
    if kind == "SimpleRNN":
        return _filled(k, Cell("RNN", I, units, nonlinearity=activation, **options), state)
    gate = _function(k, "recurrent_activation", "sigmoid" if cudnn else k.context.recurrent_activation)
    if (gate, activation) != ("sigmoid", "tanh"):
        options["activations"] = (gate, activation, activation)[: 3 - (kind == "GRU")]
    if kind == "LSTM":
        return _filled(k, Cell("LSTM", I, units, **options), state)
    after = k.option("reset_after", cudnn or k.context.version == 3)
    if use_bias and (weights[2].shape == (3 * units,)) == after:
        raise k.error(f"has reset_after={after}, but a bias of shape {weights[2].shape}")
    return _filled(k, Cell("GRU", I, units, reset_after=after, **options), state)


def _filled(k: Layer, cell: Cell, weights: Mapping[str, Any], key: str = "cell") -> Cell:
    """Return the cell with its weights, the same one for all calls."""
    return k.once(key, lambda: cell.filled(weights))


def _function(k: Layer, key: str, default: str) -> Any:
    """Return an activation as the core's cells take it: by name, with Keras' slope where that differs."""
    name = activation_name(k, k.option(key, default), key)
    return ("leaky_relu", 0.2) if name == "leaky_relu" else name


def _cells(k: Layer, entry: Any) -> list[Cell]:
    """Return the cells of an RNN."""
    weights = k.weights.part("cell")
    members = [(entry, weights)]
    if entry.get("class_name") == "StackedRNNCells":
        if entry["config"].get("reverse_state_order", False):
            raise k.error("has reverse_state_order=True, which Onward does not support")
        members = [
            (each, weights.member("cells", str(each.get("class_name")), ""))
            for each in entry["config"]["cells"]
        ]
    for each, _ in members:
        if each.get("class_name") not in CELLS_ONLY:
            raise k.error(f"runs a {each.get('class_name')}, which Onward does not know")
    return [Layer(each, own, k.context, k.path).read(cell) for each, own in members]


def settings(k: Layer) -> Settings:
    """Read the configuration of a recurrent layer."""
    if k.kind_name == "RNN":
        entry = k.option("cell")
        cells = k.once("cells", lambda: _cells(k, entry))
    else:
        cells = [k.call(cell)]
    return Settings(cells, *(k.option(option.name, False) for option in fields(Settings)[1:]))


@layer(*KINDS, "RNN", "Bidirectional", masks="own", arguments=ARGUMENTS)
def recurrent(
    k: Layer, x: Value, *more: Value, initial_state: Sequence[Value] = (), use_mask: bool = True
) -> list[Value]:
    """x (B, T, I) to y (B, T, H), or (B, H) without return_sequences, and the states of the cells.

    A masked step keeps the state; its output is that of the step before it, zeros where there is none, and
    zeros everywhere with zero_output_for_mask. A Bidirectional runs two layers over the same input, of which
    one starts at the end.
    """
    bidirectional = k.kind_name == "Bidirectional"
    sides = k.call(_both) if bidirectional else [settings(k)]
    mode, first = k.option("merge_mode", "concat") if bidirectional else None, sides[0]
    if mode not in MERGES:
        raise k.error(f"has merge_mode={mode!r}; expected concat, sum, ave, mul or None")
    k.rank(x, 3)
    steps, mask = (
        k.cast(Value(x.name, 3, x.dtype, x.mask), first.cells[0].dtype),
        x.mask if use_mask else None,
    )
    if not first.time_major:
        steps, mask = k.transposed(steps, 1, 0, 2), mask and k.transposed(mask, 1, 0)
    states = [k.cast(state, first.cells[0].dtype) for state in (*more, *initial_state)]
    count = sum(len(each.state_names) for s in sides for each in s.cells)
    if states and len(states) != count:
        raise ArgumentError(f"initial_state is {len(states)} arrays, but this RNN has {count}")
    if pair := _pair(k, *sides) if bidirectional else None:
        found = _two_directions(k, pair, steps, mask, states)
    else:
        left = iter(states)
        found = [_in_time(k, s, steps, mask, left) for s in sides]
    if pair and mode == "concat" and first.return_sequences and not (mask and first.unroll):
        outputs = [_output(k, first, k.memory["whole"], (), mask)]
    else:
        outputs = []
        for s, (y, final) in zip(sides, found, strict=True):
            y = _output(k, s, y, final, mask)
            # the output of the second layer is turned around, whatever its direction
            backwards = s.go_backwards != (s is not first)
            outputs.append(k.reversed(y, 0) if s.return_sequences and backwards else y)
        if mode == "concat":
            outputs = [k.add("Concat", *outputs, axis=-1)]
        elif mode:
            outputs = [k.add("Mul" if mode == "mul" else "Add", *outputs)]
            outputs = [k.add("Mul", outputs[0], 0.5)] if mode == "ave" else outputs
    if first.return_sequences:
        batch_first = outputs if first.time_major else [k.transposed(y, 1, 0, 2) for y in outputs]
        outputs = [y.with_mask(x.mask) for y in batch_first]
    final = [state for _, own in found for state in own] if first.return_state else []
    return [*outputs, *(k.squeezed(state, 0) for state in final)]


def _in_time(
    k: Layer, s: Settings, x: Value, mask: Value | None, states: Iterator[Value]
) -> tuple[Value, list[Value]]:
    """Run the cells; return y in the order of time, and the final states (1, B, H)."""
    if mask is not None and s.go_backwards:
        x, mask = k.reversed(x, 0), k.reversed(mask, 0)
    reverse = {"reverse": True} if s.go_backwards and mask is None else {}
    y, final = x, []
    for each in s.cells:
        initial = [k.unsqueezed(state, 0) for state in islice(states, len(each.state_names))]
        y, *own = _run(k, each, y, mask, initial, **reverse)
        final += own
    if mask is not None and s.go_backwards:
        y = k.reversed(y, 0)
    return y, final


def _run(
    k: Layer, cell: Cell, x: Value, mask: Value | None, initial: Sequence[Value], **options: Any
) -> list[Value]:
    """Run a cell over the steps of x (T, B, I), or those at which the mask is True: y and the states."""
    operation, masks = ("Recurrent", []) if mask is None else ("MaskedRecurrent", [mask])
    ranks = [3] * (1 + len(cell.state_names))
    return k.add_all(operation, [x, *masks, None, *initial], ranks, cell=cell, **options)


def _output(k: Layer, s: Settings, y: Value, final: Sequence[Value], mask: Value | None) -> Value:
    """Return the steps of y (T, B, H) in the order of time, or the last one computed."""
    if mask is not None and s.zero_output_for_mask:
        # Keras forgets to reverse the mask of an unrolled layer that goes backwards
        forgets = s.unroll and s.go_backwards and s.return_sequences
        y = k.where(k.reversed(mask, 0) if forgets else mask, y)
    if s.return_sequences:
        return y
    last = final[-len(s.cells[-1].state_names)]
    return k.squeezed(last, 0) if mask is None else k.taken(y, 0 if s.go_backwards else -1, 0)


def _both(k: Layer, *, layer: Any, backward_layer: Any = None) -> list[Settings]:
    """Return the settings of the forward and the backward layer."""
    if backward_layer is None:
        config = layer["config"]
        reverse = {"go_backwards": not config.get("go_backwards", False)}
        backward_layer = layer | {"config": config | reverse}
    forward, backward = k.part("forward_layer", layer), k.part("backward_layer", backward_layer)
    if any(each.kind_name not in (*KINDS, "RNN") for each in (forward, backward)):
        raise k.error("does not contain an RNN")
    sides = [forward.read(settings), backward.read(settings)]
    if _zeros_in_both(k, forward.config, sides[0].return_sequences):
        return [replace(s, zero_output_for_mask=s.return_sequences) for s in sides]
    return sides


def _zeros_in_both(k: Layer, config: Mapping[str, Any], sequences: bool) -> bool:
    """Whether both directions give zeros where masked, whatever the file says: those of tf.keras do."""
    known = k.context.zeros_in_both
    if known is not None or "time_major" in config:  # a key that only tf.keras writes
        return known is not False
    if sequences and "warned" not in k.memory:
        k.memory["warned"] = True
        warnings.warn(
            f"the file does not record whether {k.name} outputs zeros at masked steps, as tf.keras does: "
            "assuming Keras without TensorFlow; for tf.keras, pass keras_version='2.2.4-tf'",
            KerasWarning,
            stacklevel=2,
        )
    return False


def _pair(k: Layer, first: Settings, second: Settings) -> Cell | None:
    """Return two cells that differ in their direction alone as one cell of two directions, or None."""
    options = [replace(s, cells=(), go_backwards=False) for s in (first, second)]
    if options[0] != options[1] or first.go_backwards or not second.go_backwards or len(first.cells) > 1:
        return None
    forward, backward = first.cells[0], second.cells[0]
    if len(second.cells) > 1 or forward.description() != backward.description():
        return None
    both = Cell(forward.kind, **forward.config() | {"bidirectional": True})
    reverse = {f"{name}_reverse": w for name, w in backward.weights.items()}
    return _filled(k, both, {**forward.weights, **reverse}, "pair")


def _two_directions(
    k: Layer, pair: Cell, x: Value, mask: Value | None, states: Sequence[Value]
) -> list[tuple[Value, list[Value]]]:
    """Run one cell of two directions; return what `_in_time` returns for each of them."""
    both = zip(states[: len(states) // 2], states[len(states) // 2 :], strict=True)
    initial = [k.add("Concat", *(k.unsqueezed(each, 0) for each in sides), axis=0) for sides in both]
    y, *final = _run(k, pair, x, mask, initial)
    k.memory["whole"] = y
    halves, parts = k.split(y, 2, 2), [k.split(state, 2, 0) for state in final]
    return [(half, [part[side] for part in parts]) for side, half in enumerate(halves)]


@layer("TimeDistributed", masks="own", arguments=("training", "mask"))
def time_distributed(k: Layer, x: Value, *, layer: Any) -> list[Value]:
    """A layer applied to every time step of x (B, T, ...).

    The mask of the output is that of x. In Keras 2, it is the mask that the layer returns; if there is none,
    a step counts if the mask of x is True anywhere in it.
    """
    inner, inside, mask = k.part("layer", layer), k.context.masks_inside, x.mask
    if inner.kind_name in POINTWISE and inner.custom is None:
        return [y.with_mask(mask) for y in inner(x.with_mask(None))]
    steps = k.shape_of(x, 0, 1)
    # in Keras 3, a mask over steps says nothing about what is inside one
    goes_in = mask is not None and (inside or k.rank(mask) > 2)
    rows = _flattened(k, x)
    if mask is not None and goes_in:
        rows = rows.with_mask(_flattened(k, mask))
    outputs = []
    for y in inner(rows):
        own = mask
        if inside and y.mask is not None:
            own = _restored(k, y.mask, steps)
        elif inside and mask is not None and k.rank(mask) > 2:
            counts = k.reduced("ReduceMax", k.cast(mask, np.dtype(np.float32)), range(2, k.rank(mask)))
            own = k.cast(counts, BOOL)
        outputs.append(_restored(k, y, steps).with_mask(own))
    return outputs


def _flattened(k: Layer, x: Value) -> Value:
    """Return x (B, T, ...) as (B * T, ...)."""
    rest = k.sliced(k.shape_of(x), 0, 2)
    return k.reshaped(x, -1, rest, rank=None if x.rank is None else x.rank - 1)


def _restored(k: Layer, y: Value, steps: Value) -> Value:
    """Return y (B * T, ...) as (B, T, ...)."""
    rest = k.sliced(k.shape_of(y), 0, 1)
    return k.reshaped(y, steps, rest, rank=None if y.rank is None else y.rank + 1)


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
    first = k.option("data_format", None) == "channels_first"
    over = {"axis": -1 if first else 1}  # the last axis in Keras; the steps here have their channels first
    functions = [partial(ACTIVATIONS[name], **over if name in OVER_LAST else {}) for name in names]

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
        result = k.transposed(y, *order).with_mask(x.mask)
    else:
        final = k.taken(y, -1, 0) if masked else h
        result = final if first else k.transposed(final, *to_last)
    found = (h, c) if return_state else ()
    return [result, *(state if first else k.transposed(state, *to_last) for state in found)]


def _body(
    k: Layer, n: int, kernel: Tensor, functions: Sequence[Function], masked: bool, zeros: bool
) -> Graph:
    """Return one step, from the states, the last output (if masked) and the gates to states and outputs."""
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
