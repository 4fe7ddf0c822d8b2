"""Control flow: If, Loop and Scan, whose bodies are graphs, and functions written in Python.

The last `captured` inputs of a node are values from around it; they are the last inputs of its bodies.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from ...core import budget
from ...errors import ArgumentError, OnwardError
from ..declared import Input
from ..graph import Graph
from ..inference import infer
from ..node import AnyArray, Expansion, Node, Operand, Signature, held_by
from ..sized import dtype_of, has_sizes, integers
from .registry import EVERY_INPUT, operation

MAX_UNROLLED = 16  # iterations
SCAN_OUTPUTS = ("scan_output_axes", "scan_output_directions")  # attributes that Loop and Scan share
MAX_BATCH = 4096  # iterations that the core runs in one call
INTERRUPTIBLE = 0.01  # seconds; a call that takes longer is followed by a shorter one
# The work of an iteration, beside that of its nodes: in the core, and in Python.
IN_CORE, IN_PYTHON = budget.STEP, 50 * budget.STEP


class BodyPlanner(Protocol):
    """The planner of a graph."""

    graph: Any
    limit: Any
    work: int

    def __call__(self, *inputs: Any) -> tuple[Any, ...]: ...

    def repeat(self, count: int, inputs: tuple[Any, ...], carried: int) -> Any: ...


@operation("If", shape_inputs=EVERY_INPUT, is_pure=False)
def if_(
    condition: AnyArray, *captured: Any, then_branch: BodyPlanner, else_branch: BodyPlanner
) -> tuple[Any, ...]:
    """Run one of two graphs."""
    return (then_branch if _is_true(condition) else else_branch)(*captured)


@if_.expanding
def _(node: Node, inputs: Sequence[Operand | None]) -> Expansion | None:
    condition = inputs[0]
    if not isinstance(condition, np.ndarray):
        return None
    body = node.attributes["then_branch" if _is_true(condition) else "else_branch"]
    expansion: Expansion = body.renamed(f"{_identity(node)}/", node.inputs[1:], node.outputs)
    return expansion


def inferred_outputs(body: Graph, inputs: Sequence[Operand | None]) -> list[Signature] | None:
    """Infer the outputs of a body, or return None if they do not all follow from its inputs."""
    pairs = zip(body.inputs, inputs, strict=True)
    given = {d.name: x for d, x in pairs if x is not None and not dtype_of(x).hasobject}
    if len(given) < len(inputs):
        return None
    found: dict[str, Operand] = {}
    with suppress(ArgumentError):  # the body may never run, because it refuses its inputs
        found = infer(body, given)
    if any(name not in found or dtype_of(found[name]).hasobject for name in body.outputs):
        return None
    return [Signature.of(found[name]) for name in body.outputs]


@operation("Loop", shape_inputs=EVERY_INPUT, is_pure=False)
def loop(
    count: AnyArray | None, condition: AnyArray | None, *values: Any, body: BodyPlanner, captured: int = 0,
    scan_output_axes: Sequence[int] | None = None, scan_output_directions: Sequence[int] | None = None,
    is_rolled_up: int = 0,
) -> tuple[Any, ...]:  # fmt: skip
    """Run a graph repeatedly: (i, condition, *carried) to (condition, *carried, *scanned).

    Returns the carried values of the last iteration, and the scanned values of all iterations, stacked along
    their axes, the last one first where the direction is 1.
    """
    carried, _, outer = loop_inputs(values, captured)
    left, limit = budget.current(), (1 << 63) - 1 if count is None else int(count)
    goes_on, scanned, done, size = condition is None or _is_true(condition), list[Any](), 0, 0
    if goes_on and keeps_condition(body.graph):
        left.check(work=IN_CORE * limit)
    true, batch = np.array(True), 1
    while goes_on and done < limit:
        start, inputs = time.perf_counter(), (np.array(done, np.int64), true, *carried, *outer)
        # as many as the memory of the scanned values allows, if they stay as large as so far
        rounds = min(batch, limit - done, max(1, (left.memory - size) * done // max(1, size)))
        left.check(rounds * (IN_CORE + body.work))
        found = body.repeat(rounds, inputs, len(carried)) if done else None
        if found is None:
            left.spend(IN_PYTHON)
            batch = 0  # the next iteration alone may have new sizes, and with them another work
            with budget.temporary():
                left.take(size + held_by(carried))
                again, *results = body(*inputs)
            parts = [a[None] for a in results[len(carried) :]]
            found = 1, _is_true(again), tuple(results[: len(carried)]), parts
        else:
            left.spend(found[0] * (IN_CORE + body.work))
        rounds, goes_on, carried, parts = found
        scanned.append([part[:rounds] for part in parts])
        size += sum(part.nbytes for part in scanned[-1])
        left.check(memory=size)
        done += rounds
        batch = next_batch(batch, rounds, time.perf_counter() - start) if batch else 1
    if scanned:
        stacked = [np.concatenate(parts) for parts in zip(*scanned, strict=True)]
    else:
        inner = (np.array(0, np.int64), np.array(True), *values)
        stacked = _without_rounds(body, inner, 1 + len(carried))
    none = [0] * len(stacked)
    each = zip(stacked, scan_output_axes or none, scan_output_directions or none, strict=True)
    return *carried, *(np.moveaxis(y[:: -1 if back else 1], 0, axis) for y, axis, back in each)


def next_batch(batch: int, rounds: int, seconds: float) -> int:
    """Return how many iterations to run after so many: at least twice as many, unless they took too long."""
    if seconds >= INTERRUPTIBLE:
        return 1
    return min(max(2 * batch, int(rounds * INTERRUPTIBLE / 4 / max(seconds, 1e-9))), MAX_BATCH)


@loop.over_time
def _(time: Any, node: Node) -> None:
    """Carry the values, if the iterations are the steps and each one reads its own step alone."""
    (_, _, *values), x = node.inputs, _sequence(time, node)
    states, _, outer = loop_inputs(values, node.captured)
    count = time.add("Gather", time.add("Shape", x), time.constant(np.array(time.axis(x))))
    carried = []
    for state in states:
        initial = time.initial(state)
        if initial is None or not time.is_independent(state):
            time.refuse(node, f"its initial state {state} depends on the sequence")
        carried.append(time.carry(node, initial, None, "state"))
    results = time.add_all("Loop", (count, "", *carried, *outer), len(node.outputs), **node.attributes)
    for before, after, output in zip(carried, results, node.outputs, strict=False):
        time.keep(before, after)
        time.define(output, after, None)
    scanned = list(zip(results, node.outputs, strict=True))[len(states) :]
    axes = node.attributes.get("scan_output_axes") or [0] * len(scanned)
    for (y, output), axis in zip(scanned, axes, strict=True):
        if output:
            time.define(output, y, time.timing(x).at(axis % len(time.shape(y))))


def _sequence(time: Any, node: Node) -> str:
    """Return a value whose steps are the iterations of a loop, which read no others; refuse other loops."""
    body, (count, condition, *values) = node.attributes["body"], node.inputs
    _, _, outer = loop_inputs(values, node.captured)
    inner = [declared.name for declared in body.inputs[len(body.inputs) - len(outer) :]]
    sequences = {name: x for name, x in zip(inner, outer, strict=True) if time.timing(x) is not None}
    is_counted = not condition and keeps_condition(body) and sequences
    if not is_counted or not all(time.is_length(count, x) for x in sequences.values()):
        time.refuse(node, "the number of its iterations is not that of the steps")
    others = (x for name, x in zip(inner, outer, strict=True) if name not in sequences)
    if not all(map(time.is_independent, others)):
        time.refuse(node, "its body uses a value that depends on the sequence")
    i, backward = body.inputs[0].name, "its slices are not the steps in their order"
    axis_of = {(name, i): time.axis(x) for name, x in sequences.items()}
    for reader in body.nodes:
        axis = axis_of.get(reader.inputs)
        reads_step = reader.operation == "Gather" and reader.attributes.get("axis", 0) == axis
        if not reads_step and {*sequences, i}.intersection(reader.inputs):
            is_scan = body.inputs[1].name == "scan:true"
            time.refuse(node, backward if is_scan else f"an iteration reads more than its own step: {reader}")
    if any(node.attributes.get("scan_output_directions") or ()):
        time.refuse(node, backward)
    x: str = next(iter(sequences.values()))
    return x


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
def _(node: Node, inputs: Sequence[Operand | None]) -> Expansion | None:
    """Unroll a loop of a small known number of iterations whose body does not change the condition."""
    count, condition, body = *inputs[:2], node.attributes["body"]
    if not isinstance(count, np.ndarray) or has_sizes(count) or not keeps_condition(body):
        return None
    if int(count) == 0:
        return _without_iterations(node, inputs)
    if not 0 < int(count) <= MAX_UNROLLED and not node.attributes.get("is_rolled_up"):
        return None
    if condition is not None and not (isinstance(condition, np.ndarray) and _is_true(condition)):
        return None
    return _unrolled(node, int(count))


def _unrolled(node: Node, count: int) -> Expansion:
    """Return the nodes of all iterations of a loop, and those that join the scanned values."""
    prefix, attributes, body = f"{_identity(node)}/", node.attributes, node.attributes["body"]
    states, _, outer = loop_inputs(node.inputs[2:], node.captured)
    last = 1 + len(states)
    none = [0] * (len(body.outputs) - last)
    axes, backwards = (attributes.get(f"scan_output_{key}") or none for key in ("axes", "directions"))
    true, nodes, scanned = f"{prefix}condition", list[Node](), list[list[str]]()

    def add(operation: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        if output:
            nodes.append(Node(operation, tuple(inputs), (output,), attributes, node.name))

    constants = {true: np.array(True)} | {f"{prefix}axis {axis}": np.array([axis]) for axis in axes}
    shared = {f"{prefix}{name}": array for name, array in body.constants.items()}
    constants |= shared
    body = body.replaced(inputs=[*body.inputs, *map(Input, body.constants)], constants={})
    for i in range(count):
        index = f"{prefix}{i}/index"
        outputs = tuple(f"{prefix}{i}:{place}" for place in range(len(body.outputs)))
        inner = body.renamed(f"{prefix}{i}/", (index, true, *states, *outer, *shared), outputs)
        constants[index] = np.array(i, np.int64)
        nodes += inner.nodes
        states, parts = outputs[1:last], outputs[last:]
        scanned.append([f"{part}/unsqueezed" for part in parts])
        for part, unsqueezed, axis in zip(parts, scanned[-1], axes, strict=True):
            add("Unsqueeze", (part, f"{prefix}axis {axis}"), unsqueezed)
    for value, output in zip(states, node.outputs, strict=False):
        add("Identity", (value,), output)
    stacked = zip(zip(*scanned, strict=True), node.outputs[len(states) :], axes, backwards, strict=False)
    for names, output, axis, reverse in stacked:
        add("Concat", names[::-1] if reverse else names, output, axis=axis)
    return Expansion(nodes, constants)


def _without_iterations(node: Node, inputs: Sequence[Operand | None]) -> Expansion | None:
    """Return the states as they are and empty arrays, or None if the shapes of these are not known."""
    found, states = _inferred(node, inputs), loop_inputs(node.inputs[2:], node.captured)[0]
    if found is None:
        return None
    pairs = zip(states, node.outputs, strict=False)
    nodes = [Node("Identity", (value,), (output,), {}, node.name) for value, output in pairs if output]
    constants = dict[str, AnyArray]()
    for y, output in zip(found[len(states) :], node.outputs[len(states) :], strict=False):
        nodes += _zeros(output, y.shape, y.dtype, constants) if output else []
    return Expansion(nodes, constants)


def _zeros(name: str, shape: Sequence[Any], dtype: Any, constants: dict[str, AnyArray]) -> list[Node]:
    """Return what makes an array of zeros, and add its sizes, which may be symbolic, to the constants."""
    constants[sizes := f"{name}/sizes"] = integers(shape)
    return [Node("ConstantOfShape", (sizes,), (name,), {"value": np.zeros(1, dtype)}, name)]


@loop.inferring
def _inferred(node: Node, inputs: Sequence[Operand | None]) -> Sequence[Operand] | None:
    """Infer the outputs of a loop of a known length whose iterations do not change any shape."""
    body, (count, condition, *values) = node.attributes["body"], inputs
    states, _, outer = loop_inputs(values, node.captured)
    if not isinstance(count, np.ndarray) or condition is not None or not keeps_condition(body):
        return None
    before = [state if state is None else Signature.of(state) for state in states]
    inner = [Signature((), np.dtype(np.int64)), Signature((), np.dtype(np.bool_)), *before, *outer]
    results = inferred_outputs(body, inner)
    if results is None:
        return None
    after, scanned = results[1 : 1 + len(before)], results[1 + len(before) :]
    if after != before:
        return None
    for place, axis in enumerate(node.attributes.get("scan_output_axes") or [0] * len(scanned)):
        shape, dtype = list(scanned[place].shape), scanned[place].dtype
        shape.insert(axis % (len(shape) + 1), max(0, count.item()))
        scanned[place] = Signature(tuple(shape), dtype)
    return [*after, *scanned]


@operation("Scan", shape_inputs=EVERY_INPUT, is_pure=False)
def scan(
    *inputs: Any, body: BodyPlanner, num_scan_inputs: int, captured: int = 0,
    scan_input_axes: Sequence[int] | None = None, scan_input_directions: Sequence[int] | None = None,
    scan_output_axes: Sequence[int] | None = None, scan_output_directions: Sequence[int] | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """Run a graph for each slice of the scanned inputs: (*carried, *slices) to (*carried, *scanned)."""
    raise ArgumentError("the shapes of the scanned inputs must be known")  # it expands to a Loop


@scan.expanding
def _(node: Node, inputs: Sequence[Operand | None]) -> Expansion | None:
    """A scan is a loop over the steps, each of which gathers the slices."""
    attributes, scans = node.attributes, node.attributes["num_scan_inputs"]
    states, scanned, _ = loop_inputs(node.inputs, node.captured, scans)
    axes, backwards = (attributes.get(f"scan_input_{key}") or [0] * scans for key in ("axes", "directions"))
    shapes = [x.shape if x is not None else () for x in inputs[len(states) : len(states) + scans]]
    if not all(shapes):
        return None
    counts = [shape[axis] for shape, axis in zip(shapes, axes, strict=True)]
    if any(other != counts[0] for other in counts[1:]):
        raise ArgumentError(f"the scanned inputs have {', '.join(map(str, counts))} slices")
    sizes, axis, count = (f"{_identity(node)}/{name}" for name in ("sizes", "axis", "count"))
    constants, values, nodes = {axis: np.array(axes[0])}, list(node.inputs), list[Node]()
    if not counts[0]:  # a slice of zeros, which tells the shapes of the outputs
        for place, (shape, x_axis) in enumerate(zip(shapes, axes, strict=True), start=len(states)):
            values[place] = f"{_identity(node)}/slice {place}"
            one = [1 if other == x_axis % len(shape) else size for other, size in enumerate(shape)]
            dtype = inputs[place].dtype  # type: ignore[union-attr]  # it has a shape
            nodes += _zeros(values[place], one, dtype, constants)
    options = {key: attributes[key] for key in SCAN_OUTPUTS if key in attributes}
    options["body"] = _loop_body(attributes["body"], len(states), tuple(axes), tuple(backwards))
    options["captured"] = scans + node.captured
    nodes += [
        Node("Shape", (scanned[0],), (sizes,), {}, node.name),
        Node("Gather", (sizes, axis), (count,), {}, node.name),
        Node("Loop", (count, "", *values), node.outputs, options, node.name, node.source or "Scan"),
    ]
    return Expansion(nodes, constants)


@scan.inferring
def _(node: Node, inputs: Sequence[Operand | None]) -> Sequence[Operand] | None:
    """Infer the outputs of the loop that a scan is."""
    named = node.with_outputs(*(name or f"{_identity(node)}/{n}" for n, name in enumerate(node.outputs)))
    expansion = scan.expand and scan.expand(named, inputs)
    if not expansion:
        return None
    given = {name: x for name, x in zip(node.inputs, inputs, strict=True) if x is not None}
    found = infer(Graph(nodes=expansion.nodes, constants=expansion.constants), given)
    return [found[name] for name in named.outputs] if found.keys() >= set(named.outputs) else None


_loop_bodies: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()  # of the bodies of scans


def _loop_body(body: Any, states: int, axes: tuple[int, ...], backwards: tuple[int, ...]) -> Any:
    """Return the body of a loop whose iterations gather the slices of a scan, the same one for each plan."""
    bodies, key = _loop_bodies.setdefault(body, {}), (states, axes, backwards)
    if key in bodies:
        return bodies[key]
    slices, places = body.inputs[states : states + len(axes)], ("scan:step", "scan:step_from_last")
    nodes = [Node("Sub", ("scan:last", places[0]), (places[1],), {}, "step")]
    for declared, axis, reverse in zip(slices, axes, backwards, strict=True):
        gathered = f"scan:{declared.name}", places[reverse]
        nodes.append(Node("Gather", gathered, (declared.name,), {"axis": axis}, declared.name))
    names = [*places[:1], "scan:true", *(f"scan:{declared.name}" for declared in slices)]
    step, true, *scanned = map(Input, names)
    bodies[key] = body.replaced(
        inputs=[step, true, *body.inputs[:states], *scanned, *body.inputs[states + len(axes) :]],
        outputs=("scan:true", *body.outputs),
        declared_outputs=(true, *body.declared_outputs) if body.declared_outputs else (),
        nodes=[*nodes[not any(backwards) :], *body.nodes],
        constants={**body.constants, "scan:last": np.array(-1)},
    )
    return bodies[key]


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
def _(node: Node, inputs: Sequence[Operand | None]) -> Expansion | None:
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
def _(node: Node, inputs: Sequence[Operand | None]) -> Expansion:
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


def _without_rounds(body: BodyPlanner, inputs: Sequence[Any], first: int) -> list[AnyArray]:
    """Return the scanned outputs of no iterations, with the other axes that an iteration gives them.

    Their shapes follow from those of the inputs, or else from an iteration. If none runs on these inputs,
    they are those that the body declares, with open axes of size 0.
    """
    graph, scanned = body.graph, body.graph.outputs[first:]
    pairs = zip(graph.inputs, inputs, strict=True)
    values: dict[str, Operand] = {d.name: Signature.of(x) for d, x in pairs if isinstance(x, np.ndarray)}
    with suppress(OnwardError):
        values = infer(graph, values)
    if any(name not in values for name in scanned):
        with suppress(OnwardError):
            values |= dict(zip(scanned, body(*inputs)[first:], strict=True))
    empty = []
    for name, declared in zip(scanned, graph.declared_outputs[first:] or map(Input, scanned), strict=True):
        if name not in values and declared.dtype is None:
            raise ArgumentError(f"the shape of {name} without iterations is not known")
        sizes = tuple(n if isinstance(n, int) else 0 for n in declared.axes or ())
        shape, dtype = Signature.of(values[name]) if name in values else (sizes, declared.dtype)
        empty.append(np.zeros((0, *shape), dtype))
    return empty
