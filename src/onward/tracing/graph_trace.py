"""Trace a whole model: record the gates and states of its recurrent nodes, and any intermediate values."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..core import arrays
from ..core.arrays import Array
from ..errors import ArgumentError
from ..graph.graph import Graph, Input
from ..graph.inference import flattened
from ..graph.node import AnyArray, Node, Signature
from ..graph.operations import quantized_recurrent
from ..graph.operations.masked_recurrent import masked_steps
from ..graph.over_time.sequences import output_axes
from ..graph.over_time.streamed import Layout, TimeAndBatch
from ..graph.plan.planner import Planner
from ..graph.simplification.simplify import simplify
from .names import layer_name
from .trace import Recorded, Trace

LOOPS = {"Loop": 1, "Scan": 0}  # how many outputs of the body are not outputs of the node
RECURRENT = ("Recurrent", "MaskedRecurrent", "DynamicQuantizeLSTM")
MAX_SUGGESTIONS = 5


class Site(NamedTuple):
    """A recurrent node, and the names of its inputs, which have an axis in front for each loop around it."""

    node: Node
    inputs: tuple[str, ...]
    loops: int

    def runs(self, values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the inputs of each run of the node under the names that the node has for them."""
        args = {name: values[x] for name, x in zip(self.node.inputs, self.inputs, strict=True) if name}
        if not self.loops:
            yield args
            return
        flat = {name: a.reshape(-1, *a.shape[self.loops :]) for name, a in args.items()}
        for run in range(min(map(len, flat.values()))):
            yield {name: a[run] for name, a in flat.items()}


class Recording(NamedTuple):
    """A graph, the same one with the inputs of its recurrent nodes in loops as outputs, and these nodes."""

    graph: Graph
    whole: Graph
    sites: list[Site]

    @property
    def names(self) -> list[str]:
        """The outputs and the inputs of the recurrent nodes, each once."""
        names = [*self.whole.outputs, *(name for site in self.sites for name in site.inputs)]
        return [name for name in dict.fromkeys(names) if name]


def trace_graph(
    graph: Graph,
    inputs: Sequence[Any],
    values: Sequence[str],
    preactivations: bool,
    layout: Layout | None,
    run: Callable[..., Sequence[AnyArray]],
) -> Trace:
    """Run the graph of a model on its inputs, and record it; `Model.trace` documents the arguments.

    `layout` is that of its only input, if known. `run` returns the outputs for other inputs.
    """
    record = recording(graph, inputs)
    graph, sites = record.graph, record.sites
    found = _values(graph, values, inputs)
    if not sites and not values:
        names = ", ".join(list(dict.fromkeys(node.name for node in graph.nodes))[:MAX_SUGGESTIONS])
        raise ArgumentError(
            f"the model has no recurrent layer to trace: name intermediate values in values=, such as {names}"
        )
    results = _run(record.whole, record.names, inputs)
    layers: dict[str, Recorded] = {}
    for site in sites:
        for own in site.runs(results):
            layers |= _unique(_record(site.node, own, preactivations), layers)
    whole = record.whole
    x, y, has_steps, answer = _time_first(whole, inputs, results[whole.outputs[0]], layers, layout, run)
    return Trace(x, y, layers, has_steps, answer, found)


def recording(graph: Graph, inputs: Sequence[Any]) -> Recording:
    """Return the graph of a model for inputs like these, with the branches that they take, as a Recording."""
    names = [declared.name for declared in graph.inputs]
    known: dict[str, Any] = dict(zip(names, inputs, strict=True))
    for name, value in known.items():  # an integer scalar may decide about branches
        if isinstance(value, np.ndarray) and (value.ndim or value.dtype.kind not in "iub"):
            known[name] = Signature.of(value)
    graph = _with_taken_branches(flattened(graph, known), known, inputs)
    simple = flattened(simplify(graph), known)  # which makes recurrent nodes of cells that are written out
    return Recording(graph, *_returning_inputs(simple))


def _with_taken_branches(graph: Graph, known: Mapping[str, Any], inputs: Sequence[Any]) -> Graph:
    """Return the graph with each If replaced by the branch that it takes for these inputs."""
    while conditions := {node.inputs[0] for node in graph.nodes if node.operation == "If"}:
        taken = {f"{name}/taken": array for name, array in _run(graph, [*conditions], inputs).items()}
        nodes = [
            node.with_inputs(f"{node.inputs[0]}/taken", *node.inputs[1:]) if node.operation == "If" else node
            for node in graph.nodes
        ]
        graph = flattened(graph.replaced(nodes=nodes, constants=graph.constants | taken), known)
    return graph


def _returning_inputs(graph: Graph) -> tuple[Graph, list[Site]]:
    """Return the recurrent nodes of a graph, and the graph with their inputs in loops as scanned outputs."""
    nodes, sites = [], []
    for node in graph.nodes:
        if node.operation in RECURRENT:
            sites.append(Site(node, node.inputs, 0))
        elif node.operation in LOOPS:
            body, inner = _returning_inputs(node.attributes["body"])
            names = list(dict.fromkeys(name for site in inner for name in site.inputs if name))
            prefix = next(filter(None, node.outputs))
            outer = {name: f"{prefix}/{name}" for name in names} | {"": ""}
            unused = [""] * (len(body.outputs) - LOOPS[node.operation] - len(node.outputs))
            declared = [
                Input(name, np.dtype(np.float32), ()) for name in names
            ]  # for loops without iterations
            body = body.replaced(
                outputs=(*body.outputs, *names), declared_outputs=(*body.declared_outputs, *declared)
            )
            attributes = {**node.attributes, "body": body}
            for key in ("scan_output_axes", "scan_output_directions"):
                if attributes.get(key):
                    attributes[key] = [*attributes[key], *[0] * len(names)]
            outputs = (*node.outputs, *unused, *(outer[name] for name in names))
            node = node.with_outputs(*outputs).with_attributes(attributes)
            sites += [Site(s.node, tuple(outer[name] for name in s.inputs), s.loops + 1) for s in inner]
        nodes.append(node)
    return graph.replaced(nodes=nodes), sites


def _run(graph: Graph, names: Sequence[str], inputs: Sequence[Any]) -> dict[str, Any]:
    """Return some values of a graph by name."""
    asked = graph.replaced(outputs=tuple(names), declared_outputs=())
    return dict(zip(names, Planner(asked)(*inputs), strict=True))


def _values(graph: Graph, values: Sequence[str], inputs: Sequence[Any]) -> dict[str, AnyArray]:
    """Return intermediate values by their names, or by the names of the nodes that compute them."""
    outputs = {node.name: next(filter(None, node.outputs), "") for node in graph.nodes}
    outputs |= {name: name for node in graph.nodes for name in node.outputs if name}
    outputs |= {name: name for name in (*graph.constants, *(d.name for d in graph.inputs))}
    for name in values:
        if name not in outputs:
            close = ", ".join(difflib.get_close_matches(name, outputs, MAX_SUGGESTIONS, 0))
            raise ArgumentError(f"the model has no value {name!r}; names like it are {close}")
    if not values:
        return {}
    wanted = tuple(outputs[name] for name in values)
    simpler = simplify(graph.replaced(outputs=wanted))
    found = _run(simpler, simpler.outputs, inputs)
    return {name: found[output] for name, output in zip(values, simpler.outputs, strict=True)}


def _record(node: Node, values: Mapping[str, Any], preactivations: bool) -> dict[str, Recorded]:
    """Return the record of each layer and direction of a recurrent node, by name."""
    if node.operation == "DynamicQuantizeLSTM":
        return _record_quantized(node, values, preactivations)
    cell, reverse = node.attributes["cell"], node.attributes.get("reverse", False)
    x, lengths, initial = _inputs(node, values)
    steps, sources = x, None
    if lengths is not None and node.operation == "MaskedRecurrent":  # with the mask in place of lengths
        order, lengths, sources = masked_steps.compute([lengths], {"directions": cell.sizes.D})
        steps = x.reshape(-1, x.shape[2])[order]
    if reverse:
        steps = arrays.reversed_steps(x, lengths)
    *_, records = cell.record(cell.arguments(steps, *initial, lengths=lengths), preactivations)
    recorded = {}
    for suffix, data in cell.by_suffix(records):
        if reverse:
            data = {name: arrays.reversed_steps(array, lengths) for name, array in data.items()}
        if sources is not None:
            rows = sources[:, :, int(suffix.endswith("_reverse"))] // cell.sizes.D
            data = {name: _at_steps(array, rows) for name, array in data.items()}
        name = layer_name(node.name, suffix + ("_reverse" if reverse else ""), cell.kind)
        recorded[name] = Recorded.of(cell.kind, data, x, None if sources is not None else lengths)
    return recorded


def _record_quantized(node: Node, values: Mapping[str, Any], preactivations: bool) -> dict[str, Recorded]:
    """Return the record of each direction of a DynamicQuantizeLSTM, with the roundings of NumPy."""
    inputs: list[Any] = [values[name] if name else None for name in node.inputs]
    recorded = {}
    for d, record in enumerate(quantized_recurrent.record(inputs, node.attributes)):
        kept = {name: a for name, a in record.items() if preactivations or "_" not in name}
        is_reverse = d == 1 or node.attributes.get("direction") == "reverse"
        name = layer_name(node.name, "l0_reverse" if is_reverse else "l0", "LSTM")
        recorded[name] = Recorded.of("LSTM", kept, inputs[0], inputs[4])
    return recorded


def _at_steps(array: AnyArray, rows: AnyArray) -> AnyArray:
    """Return the rows (T, B) of an array (T, B, ...) with a step of zeros behind the others."""
    ended = np.concatenate([array, np.zeros((1, *array.shape[1:]), array.dtype)])
    return ended.reshape(-1, *array.shape[2:])[rows]


def _inputs(node: Node, values: Mapping[str, Any]) -> tuple[AnyArray, AnyArray | None, Any]:
    """Return x (T, B, I), the lengths or the mask, and h and c at the start of a node, or None for zeros."""
    found: list[Any] = [values[name] if name else None for name in node.inputs]
    if node.operation == "MaskedRecurrent":
        del found[2:3]  # the output before the first step
    x, lengths, h0, c0 = (*found, None, None, None)[:4]
    return x, lengths, (h0, c0)


def _unique(records: dict[str, Recorded], names: Mapping[str, Any]) -> dict[str, Recorded]:
    """Return the records of a node with a number in their names if another node has one of them."""
    number, unique = 1, records
    while not unique.keys().isdisjoint(names):
        number += 1
        parts = {name: name.rpartition(".") for name in records}
        unique = {f"{parts[name][0]}_{number}.{parts[name][2]}": record for name, record in records.items()}
    return unique


def _time_first(
    graph: Graph,
    inputs: Sequence[Any],
    y: AnyArray,
    layers: Mapping[str, Recorded],
    layout: Layout | None,
    run: Callable[..., Sequence[AnyArray]],
) -> tuple[Any, Any, bool, Any]:
    """Return x and y as (T, B, ...), if known, whether y has steps, and else what computes its answers."""
    axes = time_axes(graph, layout)
    if layout is None or axes is None:
        return (next(iter(layers.values())).x if layers else inputs[0]), y, False, None
    x = _moved(inputs[0], layout.axes)
    if axes.time is not None:
        return x, _moved(y, axes), True, None
    return x, y, False, partial(_answer, run, x, layout, axes)


def time_axes(graph: Graph, layout: Layout | None) -> TimeAndBatch | None:
    """Return the axes of the first output of a graph whose only input has a known layout; otherwise None."""
    if layout is None or len(graph.inputs) != 1:
        return None
    return output_axes(graph, graph.inputs, [layout])[0]


def _moved(array: AnyArray, axes: TimeAndBatch) -> AnyArray:
    """Return an array with time first, then the batch."""
    if axes.batch is None:
        return np.moveaxis(array, axes.time or 0, 0)[:, None]
    return np.moveaxis(array, (axes.time or 0, axes.batch), (0, 1))


def _answer(
    run: Callable[..., Sequence[AnyArray]],
    x: AnyArray,
    layout: Layout,
    axes: TimeAndBatch,
    row: int,
    steps: int,
) -> Array:
    """Return the first output of a model without its batch axis for the first steps of a row of x."""
    part, (time, rows) = x[:steps, row : row + 1], layout.axes
    assert time is not None
    prefix = np.moveaxis(part[:, 0], 0, time) if rows is None else np.moveaxis(part, (0, 1), (time, rows))
    y: Array = run(prefix)[0]
    return y if axes.batch is None else np.take(y, 0, axes.batch)
