"""Write recurrent layers as nodes of ONNX, or as functions where no operator expresses them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core import activations
from ...core.cell import Cell
from ...core.gates import reorder
from ...graph.activation_names import RECURRENT, by_function
from . import build, messages, recurrent_functions

if TYPE_CHECKING:
    from .writer import Writer

NAME_OF = by_function(RECURRENT)


def write(
    writer: Writer,
    cell: Cell,
    reverse: bool,
    inputs: Sequence[str],
    outputs: Sequence[str],
    name: str = "",
) -> None:
    """Write a cell over x (T, B, I): one node, or several calls of a function, for each level.

    `inputs` are x, lengths and the initial states, of which all but x may be omitted; `outputs` are y and the
    final states. Nodes are named after `name` and the level, as in PyTorch's exports.
    """
    x, lengths, *initial = (*inputs, "", "", "")[: 2 + len(cell.state_names)]
    y, *final = (*outputs, "", "")[: 1 + len(cell.state_names)]
    L, D, P = cell.num_layers, 1 + cell.bidirectional, cell.proj_size or cell.hidden_size
    levels = [f"_l{level}" for level in range(L)]
    before = [_split(writer, state, levels, D) for state in initial]
    after = [_parts(writer, state, levels) for state in final]
    own = _LayerWriter(writer, cell, lengths, reverse, name)
    write_level = own.level if _is_operator(cell) else own.called
    for level, suffix in enumerate(levels):
        states = [parts[level] for parts in before], [parts[level] for parts in after]
        suffixes = [suffix, f"{suffix}_reverse"][:D]
        Y = write_level(x, suffixes, *states)  # (T, D, B, P)
        output = [y] if level == L - 1 and y else []
        if D == 1:
            x = writer.node("Squeeze", [Y, [1]], *output)
        else:
            joined = writer.node("Transpose", [Y], perm=[0, 2, 1, 3])
            x = writer.node("Reshape", [joined, [0, 0, D * P]], *output)
    _join(writer, after, final)


def write_masked(writer: Writer, cell: Cell, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Write a cell over the steps of x (T, B, I) at which a mask counts.

    The steps move to the front, the cell runs over as many as each row has, and its outputs move back.
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
    write(writer, cell, False, [packed, lengths, *initial], [y, *outputs[1:]])
    if not outputs[0]:
        return
    before = writer.node("Sub", [position, one])
    zero = writer.constant(np.array(0, cell.dtype))
    if not cell.bidirectional:
        absent = writer.node("Less", [before, 0])
        _unpack(writer, y, before, absent, last or zero, outputs[0])
        return
    halves = writer.new_name("forward"), writer.new_name("backward")
    writer.node("Split", [y, [cell.sizes.P] * 2], *halves, axis=2)
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


class _LayerWriter:
    """Writes one layer of a stack at a time, from x (T, B, I) to Y (T, D, B, H)."""

    def __init__(self, writer: Writer, cell: Cell, lengths: str, reverse: bool, name: str) -> None:
        self.writer, self.cell, self.lengths, self.reverse, self.name = writer, cell, lengths, reverse, name
        self.weights = cell.weights

    def level(self, x: str, suffixes: list[str], initial: list[str], final: list[str]) -> str:
        """Write all directions as one node.

        For rows without steps, runtimes return zeros as final states; final_state restores the initial ones.
        """
        writer, cell, kind = self.writer, self.cell, self.cell.kind
        inputs = [x, *(self.stacked(kind, suffixes, name) for name in ("weight_ih", "weight_hh"))]
        inputs.append(self.stacked(kind, suffixes, "bias_ih", "bias_hh") if cell.bias else "")
        inputs += [self.lengths, *initial]
        if cell.peephole:
            inputs += [""] * (7 - len(inputs)) + [self.stacked("peephole", suffixes, "weight_peephole")]
        masked = {
            after: before
            for before, after in zip(initial, final, strict=True)
            if self.lengths and before and after
        }
        states = [writer.new_name(f"{name}_node") if name in masked else name for name in final]
        while states and not states[-1]:
            states.pop()
        direction = "bidirectional" if cell.bidirectional else "reverse" if self.reverse else "forward"
        attributes = {"hidden_size": cell.hidden_size, "direction": direction, **_attributes(cell)}
        name = self.name
        if name and cell.num_layers > 1:
            name = f"/{name}/{kind}" + suffixes[0].replace("_l", "_").removesuffix("_0")
        Y = writer.node(kind, inputs, writer.new_name(f"{x}_Y"), *states, name=name, **attributes)
        for state, after in zip(states, final, strict=False):
            if after in masked:
                writer.call("final_state", [state, masked[after], self.lengths], after)
        return Y

    def called(self, x: str, suffixes: list[str], initial: list[str], final: list[str]) -> str:
        """Write each direction as a call of a function."""
        writer, cell, D = self.writer, self.cell, len(suffixes)
        zeros = [
            name or _zeros(writer, x, D, shape[-1], cell.dtype)
            for name, shape in zip(initial, cell.state_shapes(1), strict=True)
        ]
        before = [_split(writer, state, suffixes, 1) for state in zeros]
        new = [[writer.new_name(state + suffix) for suffix in suffixes] for state in cell.state_names]
        if D == 1:
            new = [[state or own[0]] for state, own in zip(final, new, strict=True)]
        steps, ys = self.lengths or writer.call("steps", [x]), []
        for place, suffix in enumerate(suffixes):
            part = self.part(suffix, place)
            reverse = self.reverse or place == 1
            function = writer.define(recurrent_functions.equations(part, reverse), part.kind.lower())
            ys.append(
                writer.call(
                    function,
                    [x, steps, *(parts[place] for parts in before), *part.weights.values()],
                    writer.new_name(f"{x}{suffix}"),
                    *(parts[place] for parts in new),
                    layer=json.dumps(part.description()),
                    weights=list(part.weights),
                    reverse=int(reverse),
                )
            )
        _join(writer, new, final)
        return ys[0] if D == 1 else writer.node("Concat", ys, axis=1)

    def part(self, suffix: str, direction: int) -> Cell:
        """Return the cell of one direction of one level."""
        cell, functions = self.cell, self.cell.functions()[direction]
        own: dict[str, Any] = {"num_layers": 1, "bidirectional": False}
        own["input_size"] = cell.input_size if "_l0" in suffix else cell.sizes.DP
        own |= {"nonlinearity": functions[0]} if cell.kind == "RNN" else {"activations": functions}
        part = Cell(cell.kind, **cell.config() | own)
        names = [name + end for name, _ in part.float_shapes() for end in ("", "_scale")]
        stored = {name: name.replace("_l0", suffix) for name in names}
        weights = {name: cell.weights[key] for name, key in stored.items() if key in cell.weights}
        return part.with_weights(weights, cell.precision)

    def stacked(self, kind: str, suffixes: list[str], *names: str) -> str:
        """Weights of all directions, joined along their gates in ONNX's order; halves are widened."""
        found = [[self.weights[name + suffix] for name in names] for suffix in suffixes]
        if kind != "RNN":
            found = [[reorder(weight, kind.lower(), "torch", "onnx") for weight in own] for own in found]
        joined = np.stack([np.concatenate(own) for own in found])
        if joined.dtype == self.cell.dtype:
            return self.writer.constant(joined)
        return self.writer.node("Cast", [joined], to=int(messages.DataType.FLOAT))


def _zeros(writer: Writer, x: str, D: int, units: int, dtype: Any) -> str:
    """A state (D, B, units) of zeros for x (T, B, I)."""
    shape = writer.node("Shape", [x])
    sizes = [[D], writer.node("Gather", [shape, [1]]), [units]]
    return writer.node("ConstantOfShape", [writer.node("Concat", sizes, axis=0)], value=np.zeros(1, dtype))


def _is_operator(cell: Cell) -> bool:
    """Return whether an operator of ONNX can express a cell."""
    calls = [activations.call(function) for functions in cell.functions() for function in functions]
    known = all(name in NAME_OF and (name != "elu" or scale == 1) for name, _, scale in calls)
    numbers = [cell.clip or 0.0, *(number for _, *own in calls for number in own)]
    exact = cell.dtype != np.float64 or all(map(build.is_float32, numbers))
    return known and exact and not (cell.proj_size or cell.cell_clip) and cell.precision != "int8"


def _attributes(cell: Cell) -> dict[str, Any]:
    """The attributes of a node other than its sizes and direction."""
    attributes: dict[str, Any] = {"activations": [], "activation_alpha": [], "activation_beta": []}
    for functions in cell.functions()[: 1 + cell.bidirectional]:
        for name, *numbers in map(activations.call, functions):
            own = NAME_OF[name]
            attributes["activations"].append(own)
            for parameter, number in zip(RECURRENT[own].parameters, numbers, strict=False):
                attributes[f"activation_{parameter}"].append(number)
    if cell.clip is not None:
        attributes["clip"] = cell.clip
    if cell.coupled:
        attributes["input_forget"] = 1
    if cell.kind == "GRU":
        attributes["linear_before_reset"] = int(cell.reset_after)
    return {name: value for name, value in attributes.items() if value != []}
