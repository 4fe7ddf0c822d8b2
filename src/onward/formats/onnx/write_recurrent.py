"""Write recurrent layers as nodes of ONNX, and projections as functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core import activations
from ...core.gates import reorder
from ...errors import ArgumentError
from ...graph.activation_names import RECURRENT, by_function
from ...layers.rnn import GRU
from . import messages

if TYPE_CHECKING:
    from .writer import Writer

NAME_OF = by_function(RECURRENT)


def write(writer: Writer, layer: Any, reverse: bool, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Write a layer over x (T, B, I): one node, or several calls of a function, for each level.

    `inputs` are x, lengths and the initial states, of which all but x may be omitted; `outputs` are y and the
    final states.
    """
    if layer.precision == "int8":
        raise ArgumentError(f"{layer!r} is quantized: export the layer that it was quantized from")
    x, lengths, *initial = (*inputs, "", "", "")[: 2 + len(layer.state_names)]
    y, *final = (*outputs, "", "")[: 1 + len(layer.state_names)]
    L, D, P = layer.num_layers, 1 + layer.bidirectional, layer.proj_size or layer.hidden_size
    levels = [f"_l{level}" for level in range(L)]
    before = [_split(writer, state, levels, D) for state in initial]
    after = [_parts(writer, state, levels) for state in final]
    for level, suffix in enumerate(levels):
        states = [parts[level] for parts in before], [parts[level] for parts in after]
        suffixes = [suffix, f"{suffix}_reverse"][:D]
        write_level = _projected if layer.proj_size else _level
        Y = write_level(writer, layer, x, lengths, suffixes, reverse, *states)  # (T, D, B, P)
        own = [y] if level == L - 1 and y else []
        if D == 1:
            x = writer.node("Squeeze", [Y, [1]], *own)
        else:
            joined = writer.node("Transpose", [Y], perm=[0, 2, 1, 3])
            x = writer.node("Reshape", [joined, [0, 0, D * P]], *own)
    _join(writer, after, final)


def write_masked(writer: Writer, layer: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Write a layer over the steps of x (T, B, I) at which a mask counts.

    The steps move to the front, the layer runs over as many as each row has, and its outputs move back.
    """
    x, mask, last, *initial = (*inputs, "")[: max(3, len(inputs))]
    one = writer.constant(1)
    counts = writer.node("Cast", [mask], to=int(messages.DataType.INT64))
    position = writer.node("CumSum", [counts, 0])  # among the steps that count
    total = writer.node("ReduceSum", [counts, [0]], keepdims=0)
    others = writer.node("Sub", [one, counts])
    behind = writer.node("Add", [writer.node("CumSum", [others, 0]), total])
    place = writer.node("Sub", [writer.node("Where", [mask, position, behind]), one])
    packed = writer.node("ScatterElements", [x, _over_features(writer, place, x), x], axis=0)
    lengths = writer.node("Cast", [total], to=int(messages.DataType.INT32))
    y = writer.new_name("packed")
    write(writer, layer, False, [packed, lengths, *initial], [y, *outputs[1:]])
    before = writer.node("Sub", [position, one])
    zero = writer.constant(np.array(0, layer.dtype))
    if not layer.bidirectional:
        absent = writer.node("Less", [before, 0])
        _unpack(writer, y, before, absent, last or zero, outputs[0])
        return
    halves = writer.new_name("forward"), writer.new_name("backward")
    writer.node("Split", [y, [layer.sizes.P] * 2], *halves, axis=2)
    after = writer.node("Sub", [position, counts])  # in reverse, a masked step repeats the next one
    parts = [
        _unpack(writer, halves[0], before, writer.node("Less", [before, 0]), zero),
        _unpack(writer, halves[1], after, writer.node("GreaterOrEqual", [after, total]), zero),
    ]
    writer.node("Concat", parts, outputs[0], axis=2)


def _over_features(writer: Writer, places: str, x: str) -> str:
    """Return places (T, B) for each feature of x (T, B, I)."""
    column = writer.node("Unsqueeze", [places, [2]])
    return writer.node("Expand", [column, writer.node("Shape", [x])])


def _unpack(writer: Writer, y: str, places: str, absent: str, value: str, *output: str) -> str:
    """Return the steps of y at their places, and a value for absent ones."""
    steps = writer.node("Shape", [places])
    last = writer.node("Sub", [writer.node("Gather", [steps, 0]), 1])
    inside = writer.node("Min", [writer.node("Max", [places, 0]), last])
    found = writer.node("GatherElements", [y, _over_features(writer, inside, y)], axis=0)
    column = writer.node("Unsqueeze", [absent, [2]])
    return writer.node("Where", [column, value, found], *output)


def _split(writer: Writer, state: str, suffixes: Sequence[str], size: int) -> list[str]:
    """Split a state along its first axis into parts of one size."""
    parts = _parts(writer, state, suffixes)
    if len(parts) > 1 and state:
        writer.node("Split", [state, [size] * len(parts)], *parts, axis=0)
    return parts


def _parts(writer: Writer, state: str, suffixes: Sequence[str]) -> list[str]:
    """Return the names of the parts of a state; "" if nothing uses the state."""
    if len(suffixes) == 1 or not state:
        return [state] * len(suffixes)
    return [writer.new_name(state + suffix) for suffix in suffixes]


def _join(writer: Writer, parts: Sequence[Sequence[str]], states: Sequence[str]) -> None:
    for state, own in zip(states, parts, strict=True):
        if state and len(own) > 1:
            writer.node("Concat", own, state, axis=0)


def _level(
    writer: Writer,
    layer: Any,
    x: str,
    lengths: str,
    suffixes: list[str],
    reverse: bool,
    initial: list[str],
    final: list[str],
) -> str:
    """Write one level in all its directions, from x (T, B, I) to Y (T, D, B, H).

    For rows without steps, runtimes return zeros as the final state; final_state restores the initial one.
    """
    inputs = [x, *_weights(writer, layer, suffixes), lengths, *initial]
    if layer.peephole:
        inputs += [""] * (7 - len(inputs)) + [_peephole(writer, layer, suffixes)]
    masked = [bool(lengths and before and after) for before, after in zip(initial, final, strict=True)]
    states = [
        writer.new_name(f"{name}_node") if is_masked else name
        for name, is_masked in zip(final, masked, strict=True)
    ]
    while states and not states[-1]:
        states.pop()
    Y = writer.node(
        type(layer).__name__,
        inputs,
        writer.new_name(f"{x}_Y"),
        *states,
        hidden_size=layer.hidden_size,
        direction="bidirectional" if layer.bidirectional else "reverse" if reverse else "forward",
        **_attributes(layer),
    )
    for state, before, after, is_masked in zip(states, initial, final, masked, strict=False):
        if is_masked:
            writer.call("final_state", [state, before, lengths], after)
    return Y


def _projected(
    writer: Writer,
    layer: Any,
    x: str,
    lengths: str,
    suffixes: list[str],
    reverse: bool,
    initial: list[str],
    final: list[str],
) -> str:
    """Like _level, for an LSTM with a projection, which is one function call for each direction."""
    if not layer.is_plain():
        raise ArgumentError(f"{layer!r} has proj_size and further options")
    ways = ["lstm_reverse"] if reverse else ["lstm", "lstm_reverse"][: len(suffixes)]
    D, H, P = len(ways), layer.hidden_size, layer.proj_size
    zeros = [name or _zeros(writer, x, D, n, layer.dtype) for name, n in zip(initial, (P, H), strict=True)]
    before = [_split(writer, state, ["_forward", "_reverse"][:D], 1) for state in zeros]
    after = [
        [writer.new_name(f"{x}_{way}_state") for way in ways] if D > 1 or not state else [state]
        for state in final
    ]
    weights, steps = layer._weights_by_name(), lengths or writer.call("steps", [x])
    ys = []
    for place, (way, suffix) in enumerate(zip(ways, suffixes, strict=True)):
        names = [name + suffix for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        gates = [weights.get(name, np.zeros(4 * H)).reshape(4, H, -1) for name in names]
        matrices = [gate.swapaxes(1, 2) for gate in gates]  # (I, H) per gate; (1, H) for biases
        inputs = [_constant(writer, layer, array) for array in (*matrices, weights["weight_hr" + suffix].T)]
        inputs += [steps, *(parts[place] for parts in before)]
        y = writer.new_name(f"{x}_{way}")
        ys.append(writer.call(way, [x, *inputs], y, *(parts[place] for parts in after), dtype=layer.dtype))
    _join(writer, after, final)
    return ys[0] if D == 1 else writer.node("Concat", ys, axis=1)


def _zeros(writer: Writer, x: str, D: int, units: int, dtype: Any) -> str:
    """A state (D, B, units) of zeros for x (T, B, I)."""
    shape = writer.node("Shape", [x])
    sizes = [[D], writer.node("Gather", [shape, [1]]), [units]]
    return writer.node("ConstantOfShape", [writer.node("Concat", sizes, axis=0)], value=np.zeros(1, dtype))


def _constant(writer: Writer, layer: Any, value: Any) -> str:
    """A constant of the layer's dtype, in which layers with float16 weights compute."""
    return writer.constant(np.ascontiguousarray(value, layer.dtype))


def _weights(writer: Writer, layer: Any, suffixes: list[str]) -> list[str]:
    """W, R and B of one level, for all directions."""
    weights, cell = layer._weights_by_name(), type(layer).__name__.lower()

    def stacked(*names: str) -> str:
        own = [[weights[name + suffix] for name in names] for suffix in suffixes]
        if cell != "rnn":
            own = [[reorder(weight, cell, "torch", "onnx") for weight in parts] for parts in own]
        return _constant(writer, layer, [np.concatenate(parts) for parts in own])

    bias = stacked("bias_ih", "bias_hh") if layer.bias else ""
    return [stacked("weight_ih"), stacked("weight_hh"), bias]


def _peephole(writer: Writer, layer: Any, suffixes: list[str]) -> str:
    """P of one level, for all directions."""
    weights = layer._weights_by_name()
    own = [reorder(weights["weight_peephole" + suffix], "peephole", "torch", "onnx") for suffix in suffixes]
    return _constant(writer, layer, own)


def _attributes(layer: Any) -> dict[str, Any]:
    """The attributes of a node other than its sizes and direction."""
    attributes: dict[str, Any] = {"activations": [], "activation_alpha": [], "activation_beta": []}
    for functions in layer.functions()[: 1 + layer.bidirectional]:
        for name, *numbers in map(activations.call, functions):
            own = NAME_OF.get(name)
            if own is None or (name == "elu" and numbers[1] != 1):  # SELU, which ONNX does not have here
                raise ArgumentError(f"{layer!r} uses {name}, which the recurrent operators do not have")
            attributes["activations"].append(own)
            for parameter, number in zip(RECURRENT[own].parameters, numbers, strict=False):
                attributes[f"activation_{parameter}"].append(number)
    if layer.clip is not None:
        attributes["clip"] = layer.clip
    if layer.coupled:
        attributes["input_forget"] = 1
    if isinstance(layer, GRU):
        attributes["linear_before_reset"] = int(layer.reset_after)
    return {name: value for name, value in attributes.items() if value != []}
