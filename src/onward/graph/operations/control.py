"""Control flow: If, Loop and Scan, whose bodies are graphs, functions written in Python, and optional values.

The last `captured` inputs of a node are values from around it; they are the last inputs of its bodies.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from ...errors import ArgumentError, OnwardError
from ..node import AnyArray, Expansion, Node, Signature
from .registry import EVERY_INPUT, Known, operation

MAX_UNROLLED = 16  # iterations
MAX_ITERATIONS = 10**7
MAX_BATCH = 4096  # iterations that the core runs in one call
INTERRUPTIBLE = 0.01  # seconds; a call that takes longer is followed by a shorter one
MAX_SINGLE = 10**5  # iterations, one by one, of a loop that only its condition ends


class Body(Protocol):
    """The planner of a graph."""

    graph: Any
    limit: Any

    def __call__(self, *inputs: Any) -> tuple[Any, ...]: ...

    def repeat(self, count: int, inputs: tuple[Any, ...], carried: int) -> Any: ...


@operation("If", shape_inputs=EVERY_INPUT, is_pure=False)
def if_(condition: AnyArray, *captured: Any, then_branch: Body, else_branch: Body) -> tuple[Any, ...]:
    """Run one of two graphs."""
    return (then_branch if _is_true(condition) else else_branch)(*captured)


@if_.expanding
def _(node: Node, inputs: Sequence[Known | None]) -> Expansion | None:
    condition = inputs[0]
    if not isinstance(condition, np.ndarray):
        return None
    body = node.attributes["then_branch" if _is_true(condition) else "else_branch"]
    expansion: Expansion = body.renamed(f"{_identity(node)}/", node.inputs[1:], node.outputs)
    return expansion


@operation("Loop", shape_inputs=EVERY_INPUT, is_pure=False)
def loop(
    count: AnyArray | None, condition: AnyArray | None, *values: Any, body: Body, captured: int = 0
) -> tuple[Any, ...]:
    """Run a graph repeatedly: (i, condition, *carried) to (condition, *carried, *scanned).

    Returns the carried values of the last iteration, and the scanned values of all iterations, stacked.
    """
    carried, _, outer = loop_inputs(values, captured)
    limit = MAX_ITERATIONS + 1 if count is None else min(int(count), MAX_ITERATIONS + 1)
    is_open = limit > MAX_ITERATIONS
    goes_on, scanned, done, single, size = condition is None or _is_true(condition), list[Any](), 0, 0, 0
    if goes_on and keeps_condition(body.graph):
        _check_iterations(limit)
    true, batch = np.array(True), 1
    while goes_on and done < limit:
        start, inputs = time.perf_counter(), (np.array(done, np.int64), true, *carried, *outer)
        # as many as the memory of the scanned values allows, if they stay as large as so far
        rounds = min(batch, limit - done, max(1, (body.limit.bytes - size) * done // max(1, size)))
        found = body.repeat(rounds, inputs, len(carried)) if done else None
        if found is None:
            again, *results = body(*inputs)
            parts = [a[None] for a in results[len(carried) :]]
            found = 1, _is_true(again), tuple(results[: len(carried)]), parts
            single += 1
        rounds, goes_on, carried, parts = found
        scanned.append([part[:rounds] for part in parts])
        size += sum(part.nbytes for part in scanned[-1])
        body.limit.check(size)
        done += rounds
        batch = min(2 * batch, MAX_BATCH) if time.perf_counter() - start < INTERRUPTIBLE else 1
        _check_iterations(done)
        if is_open:
            _check_iterations(single, MAX_SINGLE)
    if not scanned:
        inner = (np.array(0, np.int64), np.array(True), *values)
        return *carried, *_without_rounds(body, inner, 1 + len(carried))
    return *carried, *_joined(scanned)


@loop.over_time
def _(time: Any, node: Node) -> None:
    """Carry the values, if the iterations are the steps and each one reads its own step alone."""
    body, (count, condition, *values) = node.attributes["body"], node.inputs
    states, _, outer = loop_inputs(values, node.attributes.get("captured", 0))
    inner = [declared.name for declared in body.inputs[len(body.inputs) - len(outer) :]]
    steps = {name: x for name, x in zip(inner, outer, strict=True) if time.timing(x) is not None}
    is_counted = not condition and keeps_condition(body) and steps
    if not is_counted or not all(time.is_length(count, x) for x in steps.values()):
        time.refuse(node, "the number of its iterations is not that of the steps")
    if len({time.timing(x).stages for x in steps.values()}) > 1:
        time.refuse(node, "its inputs have different look-ahead")
    if any(name not in steps and not time.is_independent(x) for name, x in zip(inner, outer, strict=True)):
        time.refuse(node, "its body uses a value that depends on the sequence")
    counter = body.inputs[0].name
    own = {(name, counter): time.axis(x) for name, x in steps.items()}
    for reader in body.nodes:
        axis = own.get(reader.inputs)
        reads_step = reader.operation == "Gather" and reader.attributes.get("axis", 0) == axis
        if not reads_step and {*steps, counter}.intersection(reader.inputs):
            time.refuse(node, f"an iteration reads more than its own step: {reader}")
    x = next(iter(steps.values()))
    number = time.add("Gather", time.add("Shape", x), time.constant(np.array(time.axis(x))))
    _run_over_time(time, node, (number, ""), states, outer, x)


def _run_over_time(
    time: Any, node: Node, first: Sequence[str], states: Sequence[str], rest: Sequence[str], x: str
) -> None:
    """Run a loop over the steps of a block of x, with the states, between its other inputs, as carries."""
    carried = []
    for state in states:
        initial = time.known(state)
        if initial is None or not time.is_independent(state):
            time.refuse(node, f"its initial state {state} depends on the sequence")
        carried.append(time.carry(node, initial, None, "state"))
    inputs = (*first, *carried, *rest)
    results = time.add_all(node.operation, inputs, len(node.outputs), **node.attributes)
    for before, after, output in zip(carried, results, node.outputs, strict=False):
        time.keep(before, after)
        time.define(output, after, None)
    scanned = list(zip(results, node.outputs, strict=True))[len(states) :]
    axes = node.attributes.get("scan_output_axes") or [0] * len(scanned)
    for (y, output), axis in zip(scanned, axes, strict=True):
        if output:
            place = axis if axis >= 0 else axis + len(time.shape(y))
            time.define(output, y, time.timing(x)._replace(axis=place))


def _check_iterations(count: int, most: int = MAX_ITERATIONS) -> None:
    if count > most:
        raise ArgumentError(f"the loop has more than {most} iterations: split the model around it")


def loop_inputs(
    inputs: Sequence[Any], captured: int, scans: int = 0
) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    """Return the states, scanned and captured values of a Scan, or of a Loop from its third input on."""
    outer = len(inputs) - captured
    return inputs[: outer - scans], inputs[outer - scans : outer], inputs[outer:]


def keeps_condition(body: Any) -> bool:
    """Whether the condition of a loop stays true until its last iteration."""
    return body.outputs[0] == body.inputs[1].name or bool(body.constants.get(body.outputs[0], False))


@loop.expanding
def _(node: Node, inputs: Sequence[Known | None]) -> Expansion | None:
    """Unroll a loop of a small known number of iterations whose body does not change the condition."""
    count, condition, body = *inputs[:2], node.attributes["body"]
    if not isinstance(count, np.ndarray) or not 0 < int(count) <= MAX_UNROLLED or not keeps_condition(body):
        return None
    if condition is not None and not (isinstance(condition, np.ndarray) and _is_true(condition)):
        return None
    carried, _, outer = loop_inputs(node.inputs[2:], node.attributes.get("captured", 0))

    def inputs_of(unrolled: _Unrolled, i: int, states: Sequence[str]) -> Sequence[str]:
        true = unrolled.constant("condition", np.array(True))
        return unrolled.constant(f"{i}/index", np.array(i, np.int64)), true, *states, *outer

    return _Unrolled(node).run(int(count), carried, inputs_of, first=1)


@operation("Scan", shape_inputs=EVERY_INPUT, is_pure=False)
def scan(
    *inputs: Any, body: Body, num_scan_inputs: int, captured: int = 0, scan_input_axes: Sequence[int] | None =
    None, scan_input_directions: Sequence[int] | None = None, scan_output_axes: Sequence[int] | None = None,
    scan_output_directions: Sequence[int] | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Run a graph for each slice of the scanned inputs: (*carried, *slices) to (*carried, *scanned)."""
    carried, scanned, outer = loop_inputs(inputs, captured, num_scan_inputs)
    steps = [
        np.moveaxis(x, axis, 0)[:: -1 if backwards else 1]
        for x, axis, backwards in _each(scanned, scan_input_axes, scan_input_directions)
    ]
    if len({len(step) for step in steps}) > 1:
        raise ArgumentError(f"the scanned inputs have {', '.join(str(len(step)) for step in steps)} slices")
    _check_iterations(max(map(len, steps), default=0))
    rounds, size = [], 0
    for slices in zip(*steps, strict=True):
        results = body(*carried, *slices, *outer)
        carried = results[: len(carried)]
        rounds.append([a[None] for a in results[len(carried) :]])
        size += sum(a.nbytes for a in rounds[-1])
        body.limit.check(size)
    if rounds:
        outputs = _joined(rounds)
    else:
        one = [Signature(step.shape[1:], step.dtype) for step in steps]
        outputs = _without_rounds(body, (*carried, *one, *outer), len(carried))
    return *carried, *(
        np.moveaxis(y[:: -1 if backwards else 1], 0, axis)
        for y, axis, backwards in _each(outputs, scan_output_axes, scan_output_directions)
    )


@scan.over_time
def _(time: Any, node: Node) -> None:
    """Carry the states."""
    attributes = node.attributes
    scans = attributes["num_scan_inputs"]
    states, xs, outer = loop_inputs(node.inputs, attributes.get("captured", 0), scans)
    axes = attributes.get("scan_input_axes") or [0] * scans
    backwards = (attributes.get(f"scan_{side}_directions") or () for side in ("input", "output"))
    moves = any(time.axis(x) != axis % len(time.shape(x)) for x, axis in zip(xs, axes, strict=True))
    if moves or any(map(any, backwards)):
        time.refuse(node, "its slices are not the steps in their order")
    if len({time.timing(x).stages for x in xs}) > 1:
        time.refuse(node, "its inputs have different look-ahead")
    if not all(map(time.is_independent, outer)):
        time.refuse(node, "its body uses a value that depends on the sequence")
    _run_over_time(time, node, (), states, (*xs, *outer), xs[0])


@scan.expanding
def _(node: Node, inputs: Sequence[Known | None]) -> Expansion | None:
    """Unroll a scan over few slices."""
    attributes, scans = node.attributes, node.attributes["num_scan_inputs"]
    carried, scanned, outer = loop_inputs(node.inputs, attributes.get("captured", 0), scans)
    axes, backwards = (attributes.get(f"scan_input_{key}") or [0] * scans for key in ("axes", "directions"))
    first = inputs[len(carried)]
    if first is None or not first.shape or not 0 < first.shape[axes[0]] <= MAX_UNROLLED:
        return None
    T = first.shape[axes[0]]

    def inputs_of(unrolled: _Unrolled, t: int, states: Sequence[str]) -> Sequence[str]:
        slices = []
        for x, axis, reverse in zip(scanned, axes, backwards, strict=True):
            place = unrolled.constant(f"{t}/{axis}/{reverse}", np.array(T - 1 - t if reverse else t))
            slices.append(unrolled.add("Gather", (x, place), axis=axis))
        return *states, *slices, *outer

    return _Unrolled(node).run(T, carried, inputs_of)


class _Unrolled:
    """The nodes of an unrolled loop."""

    def __init__(self, node: Node) -> None:
        self.node, self.prefix = node, f"{_identity(node)}/"
        self.nodes: list[Node] = []
        self.constants: dict[str, AnyArray] = {}

    def constant(self, name: str, array: AnyArray) -> str:
        self.constants[self.prefix + name] = array
        return self.prefix + name

    def add(self, operation: str, inputs: tuple[str, ...], output: str = "", **attributes: Any) -> str:
        output = output or f"{self.prefix}{operation}_{len(self.nodes)}"
        self.nodes.append(Node(operation, inputs, (output,), attributes, self.node.name))
        return output

    def run(self, count: int, states: Sequence[str], inputs_of: Any, first: int = 0) -> Expansion:
        """Add iterations with the inputs that `inputs_of` returns; the outputs from `first` are states."""
        node, attributes, body = self.node, self.node.attributes, self.node.attributes["body"]
        last = first + len(states)
        none = [0] * (len(body.outputs) - last)
        axes, backwards = (attributes.get(f"scan_output_{key}") or none for key in ("axes", "directions"))
        scanned = []
        for i in range(count):
            outputs = tuple(f"{self.prefix}{i}:{place}" for place in range(len(body.outputs)))
            nodes, constants = body.renamed(f"{self.prefix}{i}/", inputs_of(self, i, states), outputs)
            self.nodes += nodes
            self.constants |= constants
            states, parts = outputs[first:last], []
            for output, axis in zip(outputs[last:], axes, strict=True):
                place = self.constant(f"{i}/stack/{axis}", np.array([axis]))
                parts.append(self.add("Unsqueeze", (output, place)))
            scanned.append(parts)
        for value, output in zip(states, node.outputs, strict=False):
            if output:
                self.add("Identity", (value,), output)
        stacked = zip(zip(*scanned, strict=True), node.outputs[len(states) :], axes, backwards, strict=False)
        for names, output, axis, reverse in stacked:
            if output:
                self.add("Concat", names[::-1] if reverse else names, output, axis=axis)
        return Expansion(self.nodes, self.constants)


@operation("Python", shape_inputs=EVERY_INPUT, is_pure=False)
def python(*inputs: Any, function: Callable[..., Any]) -> Any:
    """Call a Python function of arrays, which returns an array or a tuple of arrays."""
    return function(*inputs)


@operation("Check", shape_inputs=EVERY_INPUT, is_pure=False)
def check(condition: AnyArray, *, message: str, expected: bool) -> AnyArray:
    """Raise ArgumentError with the message unless the condition is as expected."""
    if _is_true(condition) != expected:
        raise ArgumentError(message)
    return condition


@check.expanding
def _(node: Node, inputs: Sequence[Known | None]) -> Expansion | None:
    condition = inputs[0]
    if not isinstance(condition, np.ndarray):
        return None
    check.compute([condition], node.attributes)
    return Expansion([], {})


@operation("Recorded", shape_inputs=EVERY_INPUT, is_pure=False)
def recorded(*inputs: Any, record: Callable[[Sequence[Any]], Any]) -> tuple[Any, ...]:
    """Run a part of a model whose nodes follow from the shapes, dtypes and known values of its inputs.

    `record` takes the signature or the array of each input, and returns the graph that computes the outputs.
    """
    raise ArgumentError("the inputs must be arrays")


@recorded.expanding
def _(node: Node, inputs: Sequence[Known | None]) -> Expansion:
    graph = node.attributes["record"]([value for value in inputs if value is not None])
    expansion: Expansion = graph.renamed(f"{_identity(node)}/", node.inputs, node.outputs)
    return expansion


def _identity(node: Node) -> str:
    """A name that only this node has."""
    return next(filter(None, node.outputs), node.name)


def _is_true(condition: Any) -> bool:
    if condition.size != 1:
        raise ArgumentError(f"the condition has shape {condition.shape}, but must be one boolean")
    return bool(condition.item())


def _each(
    arrays: Sequence[AnyArray], axes: Sequence[int] | None, directions: Sequence[int] | None
) -> Iterator[tuple[AnyArray, int, int]]:
    none = [0] * len(arrays)
    return zip(arrays, axes or none, directions or none, strict=True)


def _joined(rounds: list[Any]) -> list[AnyArray]:
    """Join the scanned outputs of all iterations."""
    return [np.concatenate(parts) for parts in zip(*rounds, strict=True)]


def _without_rounds(body: Body, inputs: Sequence[Any], first: int) -> list[AnyArray]:
    """Return the scanned outputs of no iterations, with the other axes that an iteration would give them."""
    from ..inference import infer  # it imports the operations

    graph, values = body.graph, {}
    with suppress(OnwardError):
        values = infer(graph, {d.name: Signature.of(x) for d, x in zip(graph.inputs, inputs, strict=True)})
    empty = []
    for place, name in enumerate(graph.outputs[first:], start=first):
        if name in values:
            found = Signature.of(values[name])
        else:
            declared = graph.declared_outputs[place]
            sizes = tuple(n if isinstance(n, int) else 0 for n in declared.axes or ())
            found = Signature(sizes, np.dtype(declared.dtype))
        empty.append(np.zeros((0, *found.shape), found.dtype))
    return empty


# Optional values: an array, a sequence of arrays, or nothing, which is None.


@operation("Optional", shape_inputs=EVERY_INPUT, is_pure=False)
def optional(x: Any = None) -> Any:
    """The input, or nothing if it is omitted."""
    return (x,)


@operation("OptionalGetElement", shape_inputs=EVERY_INPUT, is_pure=False)
def optional_get_element(x: Any) -> Any:
    """The array or the sequence of an optional value that has one."""
    if x is None:
        raise ArgumentError("the optional value is empty")
    return (x,)


@operation("OptionalHasElement", shape_inputs=EVERY_INPUT, is_pure=False)
def optional_has_element(x: Any = None) -> Any:
    """Whether an optional value has an element; an array or a sequence is one."""
    return np.array(x is not None)
