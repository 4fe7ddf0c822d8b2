"""Keras' recurrent layers and their wrappers: cells run over time by Onward's own cells, or by a Scan."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from ...core.activations import FUNCTIONS
from ...core.arrays import FloatDtype
from ...core.cell import Cell
from ...errors import ArgumentError, KerasWarning
from .activations import NAMES, activation_function
from .core_layers import DROPOUTS
from .layer import CELLS_ONLY, Layer, layer
from .scanned import ScannedCell, conv_cell, dense_cell
from .stored_weights import GATES, cell_weights, joined
from .writer import BOOL, Value

ARGUMENTS = ("initial_state", "mask")
KINDS = ("SimpleRNN", "LSTM", "GRU", "CuDNNLSTM", "CuDNNGRU", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
MERGES = ("concat", "sum", "ave", "mul", None)  # what Bidirectional does with its two outputs
# Layers that act on each place or on the features alone: TimeDistributed need not reshape for them.
POINTWISE = {
    "Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Rescaling", "Identity", *DROPOUTS,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """A recurrent layer of Keras: its cells, one on top of the other, and its options."""

    cells: Sequence[Cell | ScannedCell]
    dtype: FloatDtype  # of the outputs
    rank: int  # of the input
    return_sequences: bool
    return_state: bool
    go_backwards: bool
    zero_output_for_mask: bool
    time_major: bool
    unroll: bool


OPTIONS = "return_sequences", "return_state", "go_backwards", "zero_output_for_mask", "time_major", "unroll"


def cell(k: Layer, *, units: int, use_bias: bool = True) -> Cell | ScannedCell:
    """Return one cell: of a SimpleRNN, LSTM or GRU, of its cell, or of cuDNN's."""
    kind = k.kind_name.removeprefix("CuDNN").removesuffix("Cell")
    cudnn = k.kind_name.startswith("CuDNN")
    name = "rnn" if kind == "SimpleRNN" else kind.lower()
    separate_gates = k.context.version == 1 and k.option("consume_less", "cpu") != "gpu"
    part = "" if cudnn or k.kind_name.endswith("Cell") else "cell"
    count = (2 + use_bias) * (GATES[name] if separate_gates else 1)
    weights = joined(name, k.arrays(*[True] * count, part=part))
    state = cell_weights(name, *weights)
    functions = [activation_function(k, "activation", "tanh")]
    if name != "rnn":
        default = "sigmoid" if cudnn else k.context.recurrent_activation
        functions.insert(0, activation_function(k, "recurrent_activation", default))
    after = name == "gru" and k.option("reset_after", cudnn or k.context.version == 3)
    if name == "gru" and use_bias and (weights[2].shape == (3 * units,)) == after:
        raise k.error(f"has reset_after={after}, but a bias of shape {weights[2].shape}")
    names = [NAMES.get(function) for function in functions]
    if any(each not in FUNCTIONS for each in names):
        return dense_cell(k, name, functions, after, *weights)
    # Keras' slope differs
    specs: list[Any] = [("leaky_relu", 0.2) if each == "leaky_relu" else each for each in names]
    options: dict[str, Any] = {"bias": use_bias, "dtype": k.dtype()}
    if name == "rnn":
        options["nonlinearity"] = specs[0]
    elif specs != ["sigmoid", "tanh"]:
        options["activations"] = (*specs, specs[1])[: 3 - (name == "gru")]
    if name == "gru":
        options["reset_after"] = after
    return _filled(k, Cell(name.upper(), weights[0].shape[0], units, **options), state)


def _filled(k: Layer, cell: Cell, weights: Mapping[str, Any], key: str = "cell") -> Cell:
    """Return the cell with its weights, the same one for all calls."""
    return k.once(key, lambda: cell.filled(weights))


def _cells(k: Layer, entry: Any) -> list[Cell | ScannedCell]:
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
    rank = 3
    cells: Sequence[Cell | ScannedCell]
    if k.kind_name == "RNN":
        entry = k.option("cell")
        cells = k.once("cells", lambda: _cells(k, entry))
    elif k.kind_name.startswith("Conv"):
        cells, rank = [k.call(conv_cell)], 3 + int(k.kind_name[-2])
    else:
        cells = [k.call(cell)]
    return Settings(cells, k.dtype(), rank, *(k.option(key, False) for key in OPTIONS))


@layer(*KINDS, "Bidirectional", masks="own", arguments=ARGUMENTS)
def recurrent(
    k: Layer, x: Value, *more: Value, initial_state: Sequence[Value] = (), use_mask: bool = True
) -> list[Value]:
    """x (B, T, ...) to y (B, T, ...), or (B, ...) without return_sequences, and the states of the cells.

    A masked step keeps the state; its output is that of the step before it, zeros where there is none, and
    zeros everywhere with zero_output_for_mask. A Bidirectional runs two layers over the same input, of which
    one starts at the end.
    """
    bidirectional = k.kind_name == "Bidirectional"
    sides = k.call(_both) if bidirectional else [settings(k)]
    mode, first = k.option("merge_mode", "concat") if bidirectional else None, sides[0]
    if mode not in MERGES:
        raise k.error(f"has merge_mode={mode!r}; expected concat, sum, ave, mul or None")
    rank = k.rank(x, first.rank)
    order = [1, 0, *range(2, rank)]
    steps, mask = k.floats(Value(x.name, rank, x.dtype)), x.mask if use_mask else None
    if not first.time_major:
        steps, mask = k.transposed(steps, *order), mask and k.transposed(mask, 1, 0)
    states = [*more, *initial_state]
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
        batch_first = outputs if first.time_major else [k.transposed(y, *order) for y in outputs]
        outputs = [y.with_mask(x.mask) for y in batch_first]
    final = [k.cast(state, s.dtype) for s, (_, own) in zip(sides, found, strict=True) for state in own]
    return [*outputs, *(final if first.return_state else [])]


def _in_time(
    k: Layer, s: Settings, x: Value, mask: Value | None, states: Iterator[Value]
) -> tuple[Value, list[Value]]:
    """Run the cells; return y in the order of time, and the final states."""
    turned = s.go_backwards and (mask is not None or any(isinstance(each, ScannedCell) for each in s.cells))
    if turned:
        x, mask = k.reversed(x, 0), mask and k.reversed(mask, 0)
    reverse = {"reverse": True} if s.go_backwards and not turned else {}
    y, final = x, []
    for each in s.cells:
        y = k.cast(y, each.dtype)
        initial = [k.cast(state, each.dtype) for state in islice(states, len(each.state_names))]
        if isinstance(each, ScannedCell):
            y, *own = each.run(y, mask, initial)
        else:
            y, *own = _run(k, each, y, mask, [k.unsqueezed(state, 0) for state in initial], **reverse)
            own = [k.squeezed(state, 0) for state in own]
        final += own
    y = k.cast(y, s.dtype)
    return k.reversed(y, 0) if turned else y, final


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
    if not s.return_sequences:
        last = final[-len(s.cells[-1].state_names) :]
        y = last[0] if mask is None else k.taken(y, 0 if s.go_backwards else -1, 0)
    return k.floats(y) if k.context.version == 3 else y  # else a Bidirectional leaves the dtype as it is


def _both(k: Layer, *, layer: Any, backward_layer: Any = None) -> list[Settings]:
    """Return the settings of the forward and the backward layer."""
    if backward_layer is None:
        config = layer["config"]
        reverse = {"go_backwards": not config.get("go_backwards", False)}
        backward_layer = layer | {"config": config | reverse}
    forward, backward = k.part("forward_layer", layer), k.part("backward_layer", backward_layer)
    if any(each.kind_name not in KINDS for each in (forward, backward)):
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
    (forward, *_), (backward, *others) = first.cells, second.cells
    if others or not (isinstance(forward, Cell) and isinstance(backward, Cell)):
        return None
    if forward.description() != backward.description():
        return None
    both = Cell(forward.kind, **forward.config() | {"bidirectional": True})
    reverse = {f"{name}_reverse": w for name, w in backward.weights.items()}
    return _filled(k, both, {**forward.weights, **reverse}, "pair")


def _two_directions(
    k: Layer, pair: Cell, x: Value, mask: Value | None, states: Sequence[Value]
) -> list[tuple[Value, list[Value]]]:
    """Run one cell of two directions; return what `_in_time` returns for each of them."""
    given = [k.unsqueezed(k.cast(state, pair.dtype), 0) for state in states]
    both = zip(given[: len(given) // 2], given[len(given) // 2 :], strict=True)
    initial = [k.add("Concat", *sides, axis=0) for sides in both]
    y, *final = _run(k, pair, k.cast(x, pair.dtype), mask, initial)
    k.memory["whole"] = y
    halves, parts = k.split(y, 2, 2), [k.split(state, 2, 0) for state in final]
    return [(half, [k.squeezed(part[side], 0) for part in parts]) for side, half in enumerate(halves)]


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
