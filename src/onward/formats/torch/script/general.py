"""Record a method as one graph for all sizes of its inputs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import ArgumentError, OnwardError
from ....graph import Graph, Input
from ....graph.node import AnyArray, Signature
from ....graph.structure import names as names_of
from ..aten.registry import bounded
from .nesting import NUMBERS
from .recording import (
    Examples,
    LearnedSizeError,
    Recording,
    UnsuitableSizesError,
    declaration,
    example,
)

if TYPE_CHECKING:
    from .program import Program

# The smallest sizes of the two examples: the first that are long enough for the kernels are used.
EXAMPLES = ((40, 2), (212, 100), (211, 101), (2003, 1009), (30011, 20011))
# Between the examples of a size, in the recording that is kept. What grows or shrinks with a size and is the
# same so far apart is constant between them, and the remainders of primes differ.
DISTANCES = (30011, 2003, 211)
MAX_GUESSES = 2  # sizes that follow from others and are tried at once
MAX_TRIES = 81  # combinations of ranks and dtypes of the inputs
MAX_AXES = 6  # code that takes so many takes any number
RANKS = (3, 2, 4, 1)
FLOAT32, INT64, BOOL = (np.dtype(kind) for kind in (np.float32, np.int64, np.bool_))

Axes = tuple[int | str, ...]
# What is known about each input and carry: an array, the dtype and axes of a tensor, or the axis whose size a
# carried number is.
Layout = dict[str, AnyArray | tuple[np.dtype[Any], Axes] | str]


def general_graph(program: Program, declared: Mapping[str, Any]) -> Graph:
    """Return the graph of a program for all sizes that its inputs may have.

    `declared` gives the axes of tensors (numbers or names, perhaps after a dtype) and the values of numbers.
    Ranks and dtypes that it does not give are tried. Raises ArgumentError, which names the line of the code,
    if one graph cannot serve all sizes.
    """
    layout, unknown = _declared_layout(program, declared)
    problem: OnwardError | None = None
    furthest, guess = -1, ""
    floats = {array.dtype for array in program.weights.values() if array.dtype.kind == "f" and array.ndim}
    dtypes = next(iter(floats)) if len(floats) == 1 else FLOAT32, INT64, BOOL
    for kinds in islice(_kinds(len(unknown), dtypes), MAX_TRIES):
        tensors = {
            name: (dtype, tuple(f"{name}_{axis}" for axis in range(rank)))
            for name, (rank, dtype) in zip(unknown, kinds, strict=True)
        }
        try:
            graph = _graph(program, {**layout, **tensors})
        except OnwardError as error:
            if program.progress > furthest:
                problem, furthest, guess = error, program.progress, _as_guess(tensors)
            continue
        if kinds and all(rank == MAX_AXES for rank, _ in kinds):
            graph = _of_likely_ranks(program, layout, tensors) or graph
        converts = "floats" if floats else "no"
        graph.inputs = [
            _with_guess(graph, declared, converts) if declared.name in unknown else declared
            for declared in graph.inputs
        ]
        return graph
    name = next(iter(program.kinds), "x")
    raise ArgumentError(
        f"the code cannot be recorded as one graph for all sizes of its inputs: {problem}{guess}. "
        "Pass the axes of tensors and the values of numbers to load, such as "
        f'inputs={{"{name}": ("int64", ("batch", 100))}}'
    ) from problem


def _as_guess(tensors: Mapping[str, tuple[np.dtype[Any], Axes]]) -> str:
    """Return that an error belongs to guesses of the axes and dtypes of inputs, with the guesses."""
    guesses = ", ".join(f"{name} with {len(axes)} axes of {dtype}" for name, (dtype, axes) in tensors.items())
    return (
        f" (the sizes are examples: the file declares no axes, so Onward tried {guesses})" if guesses else ""
    )


def _with_guess(graph: Graph, declared: Input, converts: str) -> Input:
    """Return the declaration of an input whose dtype is a guess, or that to which the code converts it."""
    uses = [node for node in graph.nodes if declared.name in node.inputs]
    dtypes = {node.attributes["to"] if node.operation == "Cast" else None for node in uses}
    if len(dtypes) == 1 and declared.name not in graph.outputs and (dtype := dtypes.pop()) is not None:
        return declared._replace(dtype=np.dtype(dtype))
    return declared._replace(converts=converts)


def _of_likely_ranks(
    program: Program, layout: Layout, tensors: Mapping[str, tuple[np.dtype[Any], Axes]]
) -> Graph | None:
    """Return the graph for two or three axes of tensors that may have any number, or None."""
    for rank in (2, 3):
        axes = {name: (dtype, names[:rank]) for name, (dtype, names) in tensors.items()}
        with contextlib.suppress(OnwardError):
            return _graph(program, {**layout, **axes})
    return None


def _kinds(count: int, dtypes: Sequence[np.dtype[Any]]) -> Iterator[tuple[tuple[int, np.dtype[Any]], ...]]:
    """Yield possible ranks and dtypes of some inputs, the likeliest first; masks have the last dtype."""
    if count == 1:
        yield from (((rank, dtype),) for rank in range(MAX_AXES, -1, -1) for dtype in dtypes[:2])
        return
    yield tuple((MAX_AXES, dtypes[0]) for _ in range(count))
    # masks are rare, and most inputs share one dtype
    for chosen in sorted(product(dtypes, repeat=count), key=lambda d: (d.count(dtypes[-1]), len(set(d)))):
        yield from (tuple(zip(ranks, chosen, strict=True)) for ranks in product(RANKS, repeat=count))


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
            layout[name] = np.dtype(NUMBERS[kind]), ()
    return layout, [name for name in program.kinds if name not in layout]


def _tensor(name: str, value: Sequence[Any]) -> tuple[np.dtype[Any], Axes]:
    """Return the dtype and axes of a declaration: axes, or (dtype, axes)."""
    dtype = FLOAT32
    if len(value) == 2 and isinstance(value[1], tuple | list):
        dtype, value = np.dtype(value[0]), value[1]
    if not all(isinstance(size, str) or (isinstance(size, int) and size >= 0) for size in value):
        raise ArgumentError(f"the axes of {name} are {value}; expected sizes and names")
    return dtype, tuple(value)


def _graph(program: Program, layout: Layout) -> Graph:
    """Return the graph for inputs of these ranks and dtypes."""
    if not any(array.dtype == object for array in program.initial.values()):
        kept = {name: (array.dtype, array.shape) for name, array in program.initial.items()}
        try:
            recording, found = _suitable(program, {**layout, **kept})
            states = [recording.known(name) for name in program.states(recording)]
            if [None if state is None else (state.dtype, state.shape) for state in states] == [
                *kept.values()
            ]:
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
    recording, found = _suitable(program, {**layout, **program.initial})
    later = {**found}
    for (name, before), output in zip(program.initial.items(), program.states(recording), strict=True):
        known = recording.known(output)
        is_number = name in program.number_carries
        if known is None or (isinstance(known, Examples) and is_number and not known.is_known):
            raise ArgumentError(f"the shape of {name} after a call depends on values")
        if isinstance(known, np.ndarray) and is_number:
            later[name] = known
        elif is_number and isinstance(known, Examples):
            later[name] = _axis_of(recording, *(int(a) for a in known[:2]))  # type: ignore[arg-type]  # arrays
        else:
            if before.dtype != object and before.size:
                raise ArgumentError(f"a call changes the shape of {name}")
            a, b = example(known, 0).shape, example(known, 1).shape
            axes = tuple(n if n == m else _axis_of(recording, n, m) for n, m in zip(a, b, strict=True))
            later[name] = known.dtype, axes
    recording, later = _suitable(program, later)
    _check_zeros(program, later)
    return _finished(program, later, recording)


def _axis_of(recording: Recording, a: int, b: int) -> str:
    """Return the open axis that has these sizes in the examples."""
    if axis := recording.axis_of(a, b):
        return axis
    raise ArgumentError("the shape of a state is not that of an input")


def _check_zeros(program: Program, layout: Layout) -> None:
    """Check that the first call computes what a later call computes from states of zeros."""
    for place, (size, other) in enumerate(EXAMPLES[1:3]):
        sizes = {axis: size + 2 * i + place * other for i, axis in enumerate(_open_axes(layout))}
        first, zeros = _at({**layout, **program.initial}, sizes), _at(layout, sizes)
        for name in program.carries:
            if isinstance(value := zeros[name], Signature):
                bounded(math.prod(value.shape))
                zeros[name] = np.zeros(*value)
            elif isinstance(value, str):
                zeros[name] = np.array(sizes[value])
        a, b = map(program.record, (first, zeros))
        if not _same(a.without_unused(), b.without_unused()):
            raise ArgumentError("the first call of the code does not compute what later calls compute")


def _same(a: Graph, b: Graph) -> bool:
    """Whether two graphs compute the same."""
    names = {"": ""}

    def same(first: str, second: str) -> bool:
        if first in a.constants or second in b.constants:
            x, y = a.constants.get(first), b.constants.get(second)
            return x is y or (x is not None and y is not None and np.array_equal(x, y))
        return names.setdefault(first, second) == second

    if len(a.nodes) != len(b.nodes):
        return False
    for x, y in zip(a.nodes, b.nodes, strict=True):
        is_same = (
            x.operation == y.operation
            and len(x.inputs) == len(y.inputs)
            and x.attributes.keys() == y.attributes.keys()
            and all(map(same, x.inputs, y.inputs))
            and all(_same_attribute(x.attributes[key], y.attributes[key]) for key in x.attributes)
        )
        if not is_same:
            return False
        names |= zip(x.outputs, y.outputs, strict=True)
    return all(map(same, a.outputs, b.outputs))


def _same_attribute(a: Any, b: Any) -> bool:
    if isinstance(a, Graph):
        return isinstance(b, Graph) and _same(a, b)
    if hasattr(a, "state_dict"):
        weights, others = a.state_dict(), b.state_dict()
        return repr(a) == repr(b) and all(np.array_equal(weights[key], others[key]) for key in weights)
    return bool(np.array_equal(a, b))


def _open_axes(layout: Layout) -> list[str]:
    """Return the names of the axes that are open, each once."""
    shapes = [value[1] for value in layout.values() if isinstance(value, tuple)]
    return list(dict.fromkeys(axis for shape in shapes for axis in shape if isinstance(axis, str)))


def _suitable(program: Program, layout: Layout, guesses: int = MAX_GUESSES) -> tuple[Recording, Layout]:
    """Record the program with the first examples of the open sizes that it accepts.

    Returns the recording, and the layout with the sizes that the code needs.
    """
    problem: OnwardError | None = None
    for smallest in EXAMPLES:
        while True:
            a, b = smallest
            try:
                recording = _recorded(program, layout, a, b)
                return _recorded_far_apart(program, layout, b) or recording, layout
            except LearnedSizeError as found:
                if len(found.guesses) > 1:
                    if not guesses:
                        raise
                    return _guessed(program, layout, found, guesses - 1)
                layout = _with(layout, *found.guesses[0])
            except UnsuitableSizesError as error:
                problem = error
                break
    assert problem is not None
    raise problem


def _recorded(program: Program, layout: Layout, a: int, b: int) -> Recording:
    """Record the program with these examples of the first open size; those of all others differ from them."""
    sizes = {
        axis: (a + 2 * place, b + 2 * place if b > 1 else 1) for place, axis in enumerate(_open_axes(layout))
    }
    return program.record(_examples(layout, sizes), sizes)


def _recorded_far_apart(program: Program, layout: Layout, smallest: int) -> Recording | None:
    """Record the program with examples that are as far apart as the code permits."""
    for distance, size in product(DISTANCES, (1, smallest)) if _open_axes(layout) else ():
        try:
            return _recorded(program, layout, size + distance, size)
        except OnwardError:  # the code does not accept one of the sizes
            continue
    return None


def _guessed(
    program: Program, layout: Layout, found: LearnedSizeError, guesses: int
) -> tuple[Recording, Layout]:
    """Record the program with the first of several guesses that it accepts."""
    problem: OnwardError = found
    for deeper in range(guesses + 1):  # fewer guesses are likelier
        for axis, size in found.guesses:
            try:
                return _suitable(program, _with(layout, axis, size), deeper)
            except OnwardError as error:
                problem = error
    raise problem


def _with(layout: Layout, axis: str, size: int | str) -> Layout:
    """Return a layout in which a size, or another open axis, replaces an axis."""

    def replaced(value: Any) -> Any:
        if isinstance(value, tuple):
            return value[0], tuple(size if each == axis else each for each in value[1])
        if isinstance(value, str) and value == axis:
            return size if isinstance(size, str) else np.array(size)
        return value

    return {name: replaced(value) for name, value in layout.items()}


def _at(layout: Layout, sizes: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what is known about each input if the open axes have these sizes."""
    return {
        name: Signature(tuple(sizes.get(axis, axis) for axis in value[1]), value[0])
        if isinstance(value, tuple)
        else value
        for name, value in layout.items()
    }


def _examples(layout: Layout, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Return what is known about each input for both examples of the open sizes."""
    first, second = (_at(layout, {axis: pair[place] for axis, pair in sizes.items()}) for place in (0, 1))
    is_open = {name: isinstance(value, Signature) and value != second[name] for name, value in first.items()}
    return {name: Examples(each, second[name]) if is_open[name] else each for name, each in first.items()}


def _finished(program: Program, layout: Layout, recording: Recording) -> Graph:
    """Return the recording as the graph of a model, whose states are carries."""
    graph = plain(recording.without_unused())
    names = list(program.kinds)
    outputs = list(zip(names_of(program.outputs), recording.outputs, strict=False))
    for name, value in zip(program.carries, program.states(recording), strict=True):
        if isinstance(state := layout[name], tuple):
            names.append(name)
            if all(isinstance(axis, int) for axis in state[1]):
                initial = program.initial[name]
                is_kept = initial.shape == state[1]
                graph.constants[name] = initial if is_kept else np.zeros(state[1], state[0])  # type: ignore[arg-type]  # ints
                graph.defaults |= {name}
            graph.carries[name] = f"{name}_out"
            outputs.append((f"{name}_out", value))
    graph.inputs = [Input(name, *each) for name in names if isinstance(each := layout[name], tuple)]
    graph._input_names = {declared.name for declared in graph.inputs}
    graph.outputs = tuple(value for _, value in outputs)
    graph.declared_outputs = tuple(declaration(name, recording.known(value)) for name, value in outputs)
    graph.structure = program.templates(graph.carries.values())
    return graph


def plain(recording: Graph) -> Graph:
    """Return the graph of a recording, without what was known about its values."""
    graph = Graph()
    names = vars(graph).keys()
    vars(graph).update((name, value) for name, value in vars(recording).items() if name in names)
    graph.nodes = [
        node._replace(
            attributes={
                key: plain(value) if isinstance(value, Graph) else value
                for key, value in node.attributes.items()
            }
        )
        for node in recording.nodes
    ]
    return graph
