"""Record a method as one graph for all sizes of its inputs, which need not be declared."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ArgumentError, OnwardError
from ....graph import Graph, Input
from ....graph.graph import with_bodies
from ....graph.inference import flattened, infer, open_signatures
from ....graph.node import AnyArray, Signature
from ....graph.operations import OPERATIONS
from ....graph.operations.registry import elementwise
from ....graph.plan.planner import Planner
from ....graph.polynomial import evaluated
from ....graph.size import Axes, Size, is_symbolic
from ....graph.structure import names as names_of
from .nesting import NUMBERS
from .recording import Recording, declaration

if TYPE_CHECKING:
    from .program import Program

HINTS = (211, 2003, 30011)  # of the first axis; the others follow. The first that is long enough is used.
MAX_LEARNED = 16  # sizes that the code needs
MAX_SIZE = 1 << 20  # of such an axis
MAX_JOINED = 64  # steps that become one
MAX_AXES = 6  # code that takes so many takes any number
EXAMPLE = 3  # so many axes have the tensor in the error if the code accepts no number
FLOAT32, INT64 = np.dtype(np.float32), np.dtype(np.int64)

# What is known about each input and carry: an array, a signature in which open axes have names, or the axis
# whose size a carried number is.
Layout = dict[str, AnyArray | Signature | str]


def general_graph(program: Program, declared: Mapping[str, Any]) -> Graph:
    """Return the graph of a program for all sizes that its inputs may have.

    `declared` gives the axes of tensors (numbers or names, perhaps after a dtype) and the values of numbers;
    the tensors that it does not give have the ranks and dtypes of those of the last call. Those of a single
    tensor may also follow from the code. Raises ArgumentError, which names the line of the code, if one graph
    cannot serve all sizes.
    """
    layout, unknown = _declared_layout(program, declared)
    open_names = [name for name in unknown if name not in program.seen]
    if len(open_names) > 1:
        raise ArgumentError(f"the file declares no axes of its inputs; {_advice(program, open_names)}")
    for name in unknown:
        if name in program.seen:
            layout[name] = _open(name, len(program.seen[name].shape), program.seen[name].dtype)
    try:
        graph = _of_any_rank(program, layout, open_names[0]) if open_names else _graph(program, layout)
    except OnwardError as error:
        problem = f"the code cannot be recorded as one graph for all sizes of its inputs: {error}"
        raise ArgumentError(f"{problem}. {_advice(program, open_names or unknown).capitalize()}") from error
    graph.inputs = [_with_guess(program, graph, x) if x.name in unknown else x for x in graph.inputs]
    return graph


def _advice(program: Program, names: Sequence[str]) -> str:
    """Return how to declare inputs."""
    tensors = [f'"{name}": ("float32", ("batch", "time", 40))' for name in names]
    given = {name for name, kind in program.kinds.items() if kind in NUMBERS} - program.defaults.keys()
    numbers = [f'"{name}": 1' for name in sorted(given)]
    examples = ", ".join([*tensors, *numbers]) or '"x": ("int64", ("batch", 100))'
    option = f'--inputs "{(*names, "x")[0]}=float32(batch,time,40)"'
    return (
        "pass the dtypes and axes of tensors and the values of numbers, such as "
        f"inputs={{{examples}}} to load, or {option} to a command, or call the model first"
    )


def _with_guess(program: Program, graph: Graph, declared: Input) -> Input:
    """Return the declaration of an input whose dtype is a guess, or that to which the code converts it."""
    uses = [node for node in graph.nodes if declared.name in node.inputs]
    dtypes = {node.attributes["to"] if node.operation == "Cast" else None for node in uses}
    if len(dtypes) == 1 and declared.name not in graph.outputs and (dtype := dtypes.pop()) is not None:
        return declared._replace(dtype=np.dtype(dtype))
    return declared._replace(converts="floats" if program.floats else "no")


def _of_any_rank(program: Program, layout: Layout, name: str) -> Graph:
    """Return the graph for the rank and dtype of a tensor that the code takes: the highest rank.

    Code that takes any rank gets two or three axes: three if it would pair each element along an axis with
    each other one of two.
    """
    dtype = next(iter(program.floats)) if len(program.floats) == 1 else FLOAT32
    problems: dict[int, str] = {}

    def first(ranks: Iterable[int]) -> tuple[int, Graph] | None:
        for rank, kind in product(ranks, (dtype, INT64)):
            try:
                return rank, _graph(program, {**layout, name: _open(name, rank, kind)})
            except OnwardError as error:
                problems.setdefault(rank, str(error))
        return None

    found = first(range(MAX_AXES, -1, -1))
    if found is None:
        reason = f"for {name} with {EXAMPLE} axes of {dtype}, {problems[EXAMPLE]}"
        raise ArgumentError(f"the file declares no axes; {reason}")
    if found[0] < MAX_AXES:
        return found[1]
    lower = [pair[1] for rank in (2, 3) if (pair := first([rank]))]
    return next((graph for graph in lower if not _pairs_elements(graph)), (lower or found[1:])[0])


def _pairs_elements(graph: Graph) -> bool:
    """Whether a graph broadcasts an open axis along itself, as x (T, F) + table (T, 1, F) does."""
    signatures = open_signatures(graph.inputs)
    try:
        graph = flattened(graph, signatures)
        values = infer(graph, signatures)
    except OnwardError:  # it takes sequences of some lengths only
        return False

    def repeated(name: str) -> int:
        sizes = [size for size in values[name].shape if type(size) is Size]
        return max(map(sizes.count, sizes), default=0)

    return any(
        OPERATIONS[node.operation].combines is elementwise
        and node.outputs[0] in values
        and repeated(node.outputs[0]) > max((repeated(name) for name in node.inputs if name), default=0)
        for node in graph.nodes
    )


def _open(name: str, rank: int, dtype: np.dtype[Any]) -> Signature:
    """Return the signature of an input with open axes."""
    return Signature(tuple(f"{name}_{axis}" for axis in range(rank)), dtype)


def _declared_layout(program: Program, declared: Mapping[str, Any]) -> tuple[Layout, list[str]]:
    """Return what the declarations say, and the tensors that they leave open."""
    layout: Layout = {}
    if unknown := declared.keys() - program.kinds.keys():
        raise ArgumentError(
            f"unknown inputs: {', '.join(sorted(unknown))}; the code has ({', '.join(program.kinds)})"
        )
    for name, kind in program.kinds.items():
        value = declared.get(name)
        if kind == "Tensor" and isinstance(value, tuple | list):
            layout[name] = _tensor(name, value)
        elif value is not None:
            layout[name] = np.asarray(value, NUMBERS.get(kind))
        elif name in program.defaults:
            layout[name] = program.defaults[name]
        elif kind != "Tensor":
            layout[name] = Signature((), np.dtype(NUMBERS[kind]))
    return layout, [name for name in program.kinds if name not in layout]


def _tensor(name: str, value: Sequence[Any]) -> Signature:
    """Return the signature of a declaration: axes, or (dtype, axes)."""
    dtype = FLOAT32
    if len(value) == 2 and isinstance(value[1], tuple | list):
        dtype, value = np.dtype(value[0]), value[1]
    if not all(isinstance(size, str) or (isinstance(size, int) and size >= 0) for size in value):
        raise ArgumentError(f"the axes of {name} are {value}; expected sizes and names")
    return Signature(tuple(value), dtype)


def _graph(program: Program, layout: Layout) -> Graph:
    """Return the graph for inputs of these ranks and dtypes."""
    if not any(array.dtype == object for array in program.state.initial.values()):
        kept = {name: Signature.of(array) for name, array in program.state.initial.items()}
        try:
            recording, found = _recorded(program, {**layout, **kept})
            signatures = map(recording.signature, program.states(recording))
            if all(
                state is not None and not is_symbolic(state.shape) and state == before
                for state, before in zip(signatures, kept.values(), strict=True)
            ):
                return _finished(program, found, recording)
        except OnwardError:
            if not kept:
                raise
    return _later_calls(program, layout)


def _later_calls(program: Program, layout: Layout) -> Graph:
    """Return the graph of the calls after the first one, if it is also that of the first.

    The state of such a program gets its shape in the first call, from the sizes of the inputs. That call must
    compute what a later one computes from zeros.
    """
    first, found = _recorded(program, {**layout, **program.state.initial})
    later = {**found}
    for (name, before), output in zip(program.state.initial.items(), program.states(first), strict=True):
        known, is_number = first.known(output), name in program.state.numbers
        if known is None or (is_number and not isinstance(known, np.ndarray)):
            raise ArgumentError(f"the shape of {name} after a call depends on values")
        if is_number:
            assert isinstance(known, np.ndarray)
            later[name] = _axis(known.item()) if type(known.item()) is Size else known  # type: ignore[assignment]
        else:
            if before.dtype != object and before.size:
                raise ArgumentError(f"a call changes the shape of {name}")
            shape, dtype = Signature.of(known)
            later[name] = Signature(tuple(map(_axis, shape)), dtype)
    recording, later = _recorded(program, later)
    graph = _finished(program, later, recording)
    _check_zeros(program, _finished(program, found, first), graph)
    return graph


def _axis(size: Any) -> int | str:
    """Return a size of a state, or the axis of an input that has it."""
    axis = size.name if type(size) is Size else int(size)
    if axis == "":
        raise ArgumentError("the shape of a state is not that of an input")
    return axis


def _check_zeros(program: Program, first: Graph, later: Graph) -> None:
    """Check that the first call computes what a later call computes from states of zeros."""
    random = np.random.default_rng(0)
    axes = dict.fromkeys(axis for declared in later.inputs for axis in declared.axes or ())
    sizes = {axis: axis if isinstance(axis, int) else 5 + place for place, axis in enumerate(axes)}
    arrays: dict[str, Any] = {}
    for declared in later.inputs:
        shape = [sizes[axis] for axis in declared.axes or ()]
        is_state = declared.name in program.state.paths
        values = np.zeros(shape) if is_state else random.standard_normal(shape)
        arrays[declared.name] = values.astype(declared.dtype)
    outputs = [Planner(g)(*(arrays[x.name] for x in g.inputs)) for g in (first, later)]
    if not all(np.array_equal(a, b) for a, b in zip(*outputs, strict=False)):
        raise ArgumentError("the first call of the code does not compute what later calls compute")


def _open_axes(layout: Layout) -> list[str]:
    """Return the names of the axes that are open, each once."""
    shapes = [value.shape for value in layout.values() if isinstance(value, Signature)]
    return list(dict.fromkeys(axis for shape in shapes for axis in shape if isinstance(axis, str)))


def _recorded(program: Program, layout: Layout) -> tuple[Recording, Layout]:
    """Record the program for the open axes; return the recording, and the layout with the sizes it needs."""
    problem: OnwardError | None = None
    seen = {f"{name}_{i}": n for name, (shape, _) in program.seen.items() for i, n in enumerate(shape)}
    for smallest in HINTS:
        hints: dict[str, int] = {}
        for _ in range(MAX_LEARNED):
            hints = {axis: hints.get(axis, smallest + 12 * i) for i, axis in enumerate(_open_axes(layout))}
            axes = Axes(is_general=True)
            sizes = {name: axes.add(name, size) for name, size in hints.items()}
            try:
                recording = program.record(_replaced(layout, sizes), axes)
            except OnwardError as error:
                found = _learned(axes, hints, seen)
                if found is None:
                    problem = problem or error
                    break
                axis, size, hint = found
                layout, hints = _replaced(layout, {axis: size}), hints | hint
                continue
            if fixed := axes.fixed.keys() & hints.keys():
                raise ArgumentError(f"the code needs the size of the axis {min(fixed)}")
            return recording, layout
    raise problem or ArgumentError(f"the code needs more than {MAX_LEARNED} sizes")


def _learned(
    axes: Axes, hints: Mapping[str, int], seen: Mapping[str, int]
) -> tuple[str, int | str, dict[str, int]] | None:
    """Return the axis that must have another size, or be another axis, where two sizes had to be the same.

    The last comparison that failed tells it, if it holds for the sizes of a call. The code may accept further
    sizes, such as multiples, or all that are not longer than a table: then the axis stays open, and gets
    another hint.
    """
    solutions = []
    for guard in reversed(axes.guards.values()):
        size, is_seen = guard.size, guard.size.names <= seen.keys()
        if guard.condition != "!= 0" or not size.is_known:
            continue
        if found := _shorter(axes, size, hints):
            return found
        if is_seen and evaluated(size, seen) != 0:
            continue
        is_one = abs(dict(size.terms).get((), 0)) == 1  # it had to be 1, which is the least likely
        for axis in sorted(size.names, reverse=True):
            n = seen[axis] if is_seen and len(size.names) == 1 else _solution(size, axis, hints)
            solutions += [] if n is None else [(n < 2 or is_one, size, axis, n)]
    if not solutions:
        return None
    _, size, axis, n = min(solutions, key=lambda each: each[0])
    others = [other for other in hints if hints[other] == n and other in size.names]
    if others:
        return axis, others[0], {}
    is_only = evaluated(size, {**hints, axis: 2 * n}) != 0
    return (axis, n, {}) if is_only else (axis, axis, {axis: n})


def _shorter(axes: Axes, size: Size, hints: Mapping[str, int]) -> tuple[str, str, dict[str, int]] | None:
    """Return the axis to whose length the code cuts a table, if it does, and its hint within the table."""
    (axis, *others), keys = sorted(size.names), product((size.terms, (-size).terms), ("> 0", "<= 0"))
    if others or axis not in hints or axes.guards.keys().isdisjoint(keys):
        return None
    length = _solution(size, axis, hints)
    return (axis, axis, {axis: 2 * length // 3}) if length and 2 < length < hints[axis] else None


def _solution(size: Size, axis: str, hints: Mapping[str, int]) -> int | None:
    """Return the smallest size of an axis for which another size, which grows or falls with it, is 0.

    If there is none, multiples may be: those of the steps that are joined.
    """

    def value(n: int) -> int:
        return evaluated(size, {**hints, axis: n})

    sign = 1 if value(MAX_SIZE) > 0 else -1
    n = 1 + bisect_left(range(1, MAX_SIZE), 0, key=lambda n: sign * value(n))
    multiples = range(hints[axis], hints[axis] + MAX_JOINED)
    return n if value(n) == 0 else next((n for n in multiples if value(n) == value(2 * n) == 0), None)


def _replaced(layout: Mapping[str, Any], sizes: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a layout with sizes, or the names of other axes, instead of the names of some axes."""

    def replaced(value: Any) -> Any:
        if isinstance(value, Signature):
            return Signature(tuple(sizes.get(axis, axis) for axis in value.shape), value.dtype)
        number = sizes.get(value, value) if isinstance(value, str) else value
        return np.array(number) if isinstance(number, int) else number

    return {name: replaced(value) for name, value in layout.items()}


def _finished(program: Program, layout: Layout, recording: Recording) -> Graph:
    """Return the recording as the graph of a model, whose states are carries."""
    graph = plain(recording.without_unused())
    names = list(program.kinds)
    outputs = list(zip(names_of(program.outputs), recording.outputs, strict=False))
    for name, value in zip(program.state.paths, program.states(recording), strict=True):
        if isinstance(state := layout[name], Signature):
            names.append(name)
            if all(isinstance(axis, int) for axis in state.shape):
                initial = program.state.initial[name]
                graph.constants[name] = initial if initial.shape == state.shape else np.zeros(*state)
                graph.defaults |= {name}
            graph.carries[name] = f"{name}_out"
            outputs.append((f"{name}_out", value))
    signatures = [(name, each) for name in names if isinstance(each := layout[name], Signature)]
    graph.inputs = [Input(name, dtype, shape) for name, (shape, dtype) in signatures]
    graph._input_names = {declared.name for declared in graph.inputs}
    graph.outputs = tuple(value for _, value in outputs)
    graph.declared_outputs = tuple(declaration(name, recording.known(value)) for name, value in outputs)
    graph.structure = program.templates(graph.carries.values())
    return graph


def plain(recording: Graph) -> Graph:
    """Return the graph of a recording, without what was known about its values."""
    graph = Graph()
    vars(graph).update((name, getattr(recording, name)) for name in vars(graph))
    graph.nodes = [with_bodies(node, plain) for node in recording.nodes]
    return graph
