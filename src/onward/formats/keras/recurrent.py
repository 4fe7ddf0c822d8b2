"""Keras' recurrent layers and their wrappers: cells run over time by Onward's own layers."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, KerasWarning
from ...layers import rnn
from ...layers.base import NO_WEIGHTS
from ...layers.recurrent import Recurrent
from .activations import activation_name
from .core_layers import DROPOUTS
from .layer import CELLS_ONLY, Layer, layer
from .stored_weights import GATES, cell_weights, joined
from .writer import BOOL, Value

ARGUMENTS = ("initial_state", "mask")
KINDS = ("SimpleRNN", "LSTM", "GRU", "CuDNNLSTM", "CuDNNGRU")
# Layers that act on each place or on the features alone: TimeDistributed need not reshape for them.
POINTWISE = {
    "Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Rescaling", "Identity", *DROPOUTS,
}  # fmt: skip


class Settings(NamedTuple):
    """A recurrent layer of Keras: its cells, one on top of the other, and its options."""

    cells: Sequence[Recurrent[Any]]
    return_sequences: bool
    return_state: bool
    go_backwards: bool
    zero_output_for_mask: bool
    time_major: bool
    unroll: bool


def cell(k: Layer, *, units: int, use_bias: bool = True) -> Recurrent[Any]:
    """Return the layer of one cell: of a SimpleRNN, LSTM or GRU, of its cell, or of cuDNN's."""
    kind = k.kind_name.removeprefix("CuDNN").removesuffix("Cell")
    cudnn = k.kind_name.startswith("CuDNN")
    name = "rnn" if kind == "SimpleRNN" else kind.lower()
    separate_gates = k.context.version == 1 and k.option("consume_less", "cpu") != "gpu"
    part = "" if cudnn or k.kind_name.endswith("Cell") else "cell"
    count = (2 + use_bias) * (GATES[name] if separate_gates else 1)
    weights = joined(name, k.arrays(*[True] * count, part=part))
    options: dict[str, Any] = {"bias": use_bias, "dtype": k.dtype(), "rng": NO_WEIGHTS}
    activation = _function(k, "activation", "tanh")
    state = cell_weights(name, *weights)
    I = weights[0].shape[0]  # noqa: E741 (the axis letter)
    if kind == "SimpleRNN":
        return _filled(k, rnn.RNN(I, units, nonlinearity=activation, **options), state)
    gate = _function(k, "recurrent_activation", "sigmoid" if cudnn else k.context.recurrent_activation)
    if (gate, activation) != ("sigmoid", "tanh"):
        options["activations"] = (gate, activation, activation)[: 3 - (kind == "GRU")]
    if kind == "LSTM":
        return _filled(k, rnn.LSTM(I, units, **options), state)
    after = k.option("reset_after", cudnn or k.context.version == 3)
    if use_bias and (weights[2].shape == (3 * units,)) == after:
        raise k.error(f"has reset_after={after}, but a bias of shape {weights[2].shape}")
    return _filled(k, rnn.GRU(I, units, reset_after=after, **options), state)


def _filled(k: Layer, layer: Recurrent[Any], weights: Mapping[str, Any], key: str = "cell") -> Recurrent[Any]:
    """Return the layer with its weights, the same one for all calls."""
    if key not in k.memory:
        layer.load_state_dict(weights)
    return k.once(key, lambda: layer)


def _function(k: Layer, key: str, default: str) -> Any:
    """Return an activation as the core's cells take it: by name, with Keras' slope where that differs."""
    name = activation_name(k, k.option(key, default), key)
    return ("leaky_relu", 0.2) if name == "leaky_relu" else name


def _cells(k: Layer, entry: Any) -> list[Recurrent[Any]]:
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
    return Settings(cells, *(k.option(key, False) for key in Settings._fields[1:]))


def _steps(k: Layer, s: Settings, x: Value, use_mask: bool) -> tuple[Value, Value | None]:
    """Return x and its mask with time first."""
    mask, dtype = x.mask if use_mask else None, s.cells[0].dtype
    k.rank(x, 3)
    steps = k.cast(x._replace(rank=3), dtype)
    if s.time_major:
        return steps, mask
    return k.transposed(steps, 1, 0, 2), mask and k.transposed(mask, 1, 0)


def _in_time(
    k: Layer, s: Settings, x: Value, mask: Value | None, given: Sequence[Value]
) -> tuple[Value, list[Value]]:
    """Run the cells; return y in the order of time, and the final states (1, B, H)."""
    states = _states(k, s, given)
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
    k: Layer, layer: Recurrent[Any], x: Value, mask: Value | None, initial: Sequence[Value], **options: Any
) -> list[Value]:
    """Run a layer over the steps of x (T, B, I), or those at which the mask is True: y and the states."""
    operation, masks = ("Recurrent", []) if mask is None else ("MaskedRecurrent", [mask])
    ranks = [3] * (1 + len(layer.state_names))
    return k.add_all(operation, [x, *masks, None, *initial], ranks, layer=layer, **options)


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


def _states(k: Layer, s: Settings, given: Sequence[Value]) -> Iterator[Value]:
    """Return the initial states of the cells, if they are given."""
    count = sum(len(each.state_names) for each in s.cells)
    if given and len(given) != count:
        raise ArgumentError(f"initial_state is {len(given)} arrays, but this RNN has {count}")
    return iter([k.cast(state, s.cells[0].dtype) for state in given])


def _batch_first(k: Layer, s: Settings, y: Value, mask: Value | None) -> Value:
    if not s.return_sequences:
        return y
    return (y if s.time_major else k.transposed(y, 1, 0, 2))._replace(mask=mask)


@layer(*KINDS, "RNN", masks="own", arguments=ARGUMENTS)
def recurrent(
    k: Layer, x: Value, *more: Value, initial_state: Sequence[Value] = (), use_mask: bool = True
) -> list[Value]:
    """x (B, T, I) to y (B, T, H), or (B, H) without return_sequences, and the states of the cells.

    A masked step keeps the state; its output is that of the step before it, zeros where there is none, and
    zeros everywhere with zero_output_for_mask.
    """
    s = settings(k)
    steps, mask = _steps(k, s, x, use_mask)
    y, final = _in_time(k, s, steps, mask, [*more, *initial_state])
    y = _output(k, s, y, final, mask)
    if s.return_sequences and s.go_backwards:
        y = k.reversed(y, 0)
    states = [k.squeezed(state, 0) for state in final] if s.return_state else []
    return [_batch_first(k, s, y, x.mask), *states]


@layer("Bidirectional", masks="own", arguments=ARGUMENTS)
def bidirectional(
    k: Layer, x: Value, *more: Value, initial_state: Sequence[Value] = (), use_mask: bool = True
) -> list[Value]:
    """Two recurrent layers over the same input, of which one starts at the end, and their states."""
    first, second = k.call(_both)
    mode = k.option("merge_mode", "concat")
    if mode not in ("concat", "sum", "ave", "mul", None):
        raise k.error(f"has merge_mode={mode!r}; expected concat, sum, ave, mul or None")
    steps, mask = _steps(k, first, x, use_mask)
    given = [*more, *initial_state]
    halves = given[: len(given) // 2], given[len(given) // 2 :]
    pair, sides = _pair(k, first, second), list(zip((first, second), halves, strict=True))
    if pair is None:
        found = [_in_time(k, s, steps, mask, states) for s, states in sides]
    else:
        found = _two_directions(k, pair, steps, mask, [_states(k, s, states) for s, states in sides])
    together = pair and mode == "concat" and first.return_sequences and not (mask and first.unroll)
    if together:
        merged = [_output(k, first, k.memory["whole"], (), mask)]
    else:
        outputs = []
        for s, (y, final) in zip((first, second), found, strict=True):
            y = _output(k, s, y, final, mask)
            # the output of the second layer is turned around, whatever its direction
            backwards = s.go_backwards != (s is second)
            outputs.append(k.reversed(y, 0) if s.return_sequences and backwards else y)
        merged = [_merged(k, mode, *outputs)] if mode else outputs
    states = [state for _, final in found for state in final] if first.return_state else []
    laid_out = [_batch_first(k, first, y, x.mask) for y in merged]
    return [*laid_out, *(k.squeezed(state, 0) for state in states)]


def _both(k: Layer, *, layer: Any, backward_layer: Any = None) -> tuple[Settings, Settings]:
    """Return the settings of the forward and the backward layer."""
    if backward_layer is None:
        config = layer["config"]
        reverse = {"go_backwards": not config.get("go_backwards", False)}
        backward_layer = layer | {"config": config | reverse}
    forward, backward = k.part("forward_layer", layer), k.part("backward_layer", backward_layer)
    if any(each.kind_name not in (*KINDS, "RNN") for each in (forward, backward)):
        raise k.error("does not contain an RNN")
    first, second = forward.read(settings), backward.read(settings)
    if _zeros_in_both(k, forward.config, first.return_sequences):
        first, second = (s._replace(zero_output_for_mask=s.return_sequences) for s in (first, second))
    return first, second


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


def _pair(k: Layer, first: Settings, second: Settings) -> Recurrent[Any] | None:
    """Return two cells that differ in their direction alone as one layer of two directions, or None."""
    options = [s._replace(cells=(), go_backwards=False) for s in (first, second)]
    if options[0] != options[1] or first.go_backwards or not second.go_backwards or len(first.cells) > 1:
        return None
    forward, backward = first.cells[0], second.cells[0]
    if len(second.cells) > 1 or forward.description() != backward.description():
        return None
    both: Any = type(forward)(**forward.config() | {"bidirectional": True}, rng=NO_WEIGHTS)  # type: ignore[call-arg]  # the arguments of the class
    reverse = {f"{name}_reverse": w for name, w in backward.state_dict().items()}
    return _filled(k, both, forward.state_dict() | reverse, "pair")


def _two_directions(
    k: Layer, pair: Recurrent[Any], x: Value, mask: Value | None, states: Sequence[Iterator[Value]]
) -> list[tuple[Value, list[Value]]]:
    """Run one layer of two directions; return what `_in_time` returns for each of them."""
    both = zip(*states, strict=True)
    initial = [k.add("Concat", *(k.unsqueezed(each, 0) for each in sides), axis=0) for sides in both]
    y, *final = _run(k, pair, x, mask, initial)
    k.memory["whole"] = y
    halves, parts = k.split(y, 2, 2), [k.split(state, 2, 0) for state in final]
    return [(half, [part[side] for part in parts]) for side, half in enumerate(halves)]


def _merged(k: Layer, mode: str, *sides: Value) -> Value:
    if mode == "concat":
        return k.add("Concat", *sides, axis=-1)
    y = k.add("Mul" if mode == "mul" else "Add", *sides)
    return k.add("Mul", y, 0.5) if mode == "ave" else y


@layer("TimeDistributed", masks="own", arguments=("training", "mask"))
def time_distributed(k: Layer, x: Value, *, layer: Any) -> list[Value]:
    """A layer applied to every time step of x (B, T, ...).

    The mask of the output is that of x. In Keras 2, it is the mask that the layer returns; if there is none,
    a step counts if the mask of x is True anywhere in it.
    """
    inner, inside, mask = k.part("layer", layer), k.context.masks_inside, x.mask
    if inner.kind_name in POINTWISE and inner.custom is None:
        return [y._replace(mask=mask) for y in inner(x._replace(mask=None))]
    steps = k.shape_of(x, 0, 1)
    # in Keras 3, a mask over steps says nothing about what is inside one
    goes_in = mask is not None and (inside or k.rank(mask) > 2)
    rows = _flattened(k, x)
    if mask is not None and goes_in:
        rows = rows._replace(mask=_flattened(k, mask))
    outputs = []
    for y in inner(rows):
        own = mask
        if inside and y.mask is not None:
            own = _restored(k, y.mask, steps)
        elif inside and mask is not None and k.rank(mask) > 2:
            counts = k.reduced("ReduceMax", k.cast(mask, np.dtype(np.float32)), range(2, k.rank(mask)))
            own = k.cast(counts, BOOL)
        outputs.append(_restored(k, y, steps)._replace(mask=own))
    return outputs


def _flattened(k: Layer, x: Value) -> Value:
    """Return x (B, T, ...) as (B * T, ...)."""
    rest = k.sliced(k.shape_of(x), 0, 2)
    return k.reshaped(x, -1, rest, rank=None if x.rank is None else x.rank - 1)


def _restored(k: Layer, y: Value, steps: Value) -> Value:
    """Return y (B * T, ...) as (B, T, ...)."""
    rest = k.sliced(k.shape_of(y), 0, 1)
    return k.reshaped(y, steps, rest, rank=None if y.rank is None else y.rank + 1)
