"""Compare a model with expected outputs or another model, and measure what batches and precisions change."""

from __future__ import annotations

import inspect
import pickle
import statistics
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import onward._core as _core

from ..core.threads import num_threads
from ..errors import ArgumentError, OnwardError, ShapeError
from ..graph import Graph
from ..graph.inference import flattened
from ..graph.node import Node, Signature
from ..graph.over_time.named_carries import from_zeros
from ..graph.plan.planner import Planner
from ..graph.simplification.simplify import simplify
from ..layers.base import Layer
from ..layers.graphs import graph_of
from ..model import Model

Arrays = dict[str, NDArray[Any]]
Step = tuple[Node, NDArray[Any]]  # a node, and its first output
TOLERANCE = 1e-4
CALLS = 20  # the time of a call is the median of these
MAX_NODES = 4000  # the largest graph that is compared node by node


@dataclass
class Difference:
    """The difference between an output and the expected one; `scale` is the largest expected magnitude."""

    name: str
    shape: tuple[int, ...]
    largest: float
    mean: float
    position: tuple[int, ...]
    scale: float

    @property
    def relative(self) -> float:
        return self.largest / max(self.scale, 1e-30)


@dataclass
class Divergence:
    """The first nodes of two models that correspond and whose outputs differ, relative to the scale."""

    node: str
    other: str
    shape: tuple[int, ...]
    difference: float

    def __str__(self) -> str:
        return (
            f"the first outputs that differ are those of {self.node} and, in the other model, {self.other}: "
            f"by {self.difference:.3g} of the scale, of shape {self.shape}"
        )


@dataclass
class Verification:
    """The result of `verify`. It is true if no output differs by more than the tolerance.

    `same_bits` tells for rows, blocks of time, threads and instruction sets whether the outputs are
    identical: True, False, or the reason why that was not checked. `cost` is the largest difference, relative
    to the scale, after quantization to each precision. `divergence` names the first nodes whose outputs
    differ, if another model was expected and differs.
    """

    outputs: list[Difference]
    tolerance: float
    same_bits: dict[str, bool | str] = field(default_factory=dict)
    cost: dict[str, float | str] = field(default_factory=dict)
    microseconds: float = 0.0
    divergence: Divergence | str | None = None

    def __bool__(self) -> bool:
        return all(output.relative <= self.tolerance for output in self.outputs)

    def report(self) -> dict[str, Any]:
        """Return the result as plain Python values."""
        return {"passed": bool(self), **asdict(self)}


def verify(
    model: Callable[..., Any],
    inputs: Mapping[str, ArrayLike] | Sequence[ArrayLike],
    expected: Mapping[str, ArrayLike] | Sequence[ArrayLike] | Callable[..., Any],
    *,
    tolerance: float = TOLERANCE,
) -> Verification:
    """Run a model and compare its outputs with expected ones, by name or in order.

    `expected` may also be another model, which runs on the same inputs in order. The outputs that both have
    are compared; if none has the same name, in order, as many as both return. If any differs, the result
    names the first nodes that do, matched by name or order. An output passes if it differs by at most
    `tolerance` times the largest expected magnitude. Meanwhile, the threads and the instruction set change.

    Raises ArgumentError if no output or an unknown one is expected, and ShapeError for other shapes.

    Examples
    --------
    >>> import numpy as np, onward
    >>> lstm = onward.LSTM(3, 4)
    >>> x = np.ones((5, 2, 3), np.float32)
    >>> result = onward.verify(lstm, [x], lstm(x)[:1])
    >>> bool(result), result.outputs[0].largest, result.same_bits["threads"]
    (True, 0.0, True)
    """
    if isinstance(inputs, np.ndarray) or isinstance(expected, np.ndarray):
        raise ArgumentError("inputs and expected must be lists or dicts of arrays: pass [x], [y]")
    run = _Run(model, inputs)
    actual = run()
    wanted = _wanted(run, actual, expected)
    outputs = [_difference(name, actual[name], np.asarray(array)) for name, array in wanted.items()]
    result = Verification(
        outputs,
        tolerance,
        {
            "rows": _same_rows(run, actual),
            "blocks of time": _same_blocks(run, actual),
            "threads": all(_same_in(num_threads(count), run, actual) for count in (1, 2, 4)),
            "instruction sets": _same_on_every_isa(run, actual),
        },
        {precision: _cost(run, actual, precision) for precision in ("float16", "int8")},
        _microseconds(run),
    )
    if not result and callable(expected):
        result.divergence = first_divergence(model, expected, list(run.inputs.values()), tolerance)
    return result


def _wanted(run: _Run, actual: Arrays, expected: Any) -> Mapping[str, ArrayLike]:
    """Return the expected outputs by name. Raises ArgumentError."""
    if callable(expected):
        expected = _Run(expected, list(run.inputs.values()))()
        if expected.keys().isdisjoint(actual):  # in order: layers may return no states, which files return
            expected = dict(zip(actual, expected.values(), strict=False))
        expected = {name: array for name, array in expected.items() if name in actual}
    elif not isinstance(expected, Mapping):
        if len(expected) > len(actual):
            raise ArgumentError(f"{len(expected)} outputs are expected, but the model returns {len(actual)}")
        expected = dict(zip(actual, expected, strict=False))
    if (unknown := expected.keys() - actual.keys()) or not expected:
        names = ", ".join(sorted(unknown)) or "none"
        raise ArgumentError(f"expected outputs {names}; the model returns {', '.join(actual)}")
    return expected  # type: ignore[no-any-return]  # a mapping


class _Run:
    """A model with its inputs: by name if the model names them, otherwise in order."""

    def __init__(self, model: Any, inputs: Mapping[str, ArrayLike] | Sequence[ArrayLike]) -> None:
        self.model, names = model, _names(model, "inputs")
        if not isinstance(inputs, Mapping):
            keys = names if len(names) >= len(inputs) else [f"input {i}" for i in range(len(inputs))]
            inputs = dict(zip(keys, inputs, strict=False))
        self.inputs = {name: np.asarray(array) for name, array in inputs.items()}
        self.by_name = bool(names) and set(self.inputs) <= set(names)
        if isinstance(model, Layer):
            try:
                inspect.signature(model).bind(*self.inputs.values())
            except TypeError as error:
                takes = f"{type(model).__name__} does not take ({', '.join(self.inputs)})"
                raise ArgumentError(f"{takes}: {error}") from error

    def __call__(self, inputs: Arrays | None = None, model: Any = None) -> Arrays:
        """The outputs by name, also for other inputs or for another form of the model."""
        given = self.inputs if inputs is None else inputs
        model = self.model if model is None else model
        flat = list(_arrays(model(**given) if self.by_name else model(*given.values())))
        names = _names(model, "outputs")
        if len(names) != len(flat):
            names = [f"output {i}" for i in range(len(flat))]
        return dict(zip(names, flat, strict=True))


def _names(model: Any, attribute: str) -> list[str]:
    """Return the names of a whole model's inputs or outputs; single layers have none."""
    names = getattr(model, attribute, ())
    return list(names) if isinstance(names, tuple) else []


def _arrays(results: Any) -> Iterator[NDArray[Any]]:
    """Yield the arrays of nested results in order."""
    if isinstance(results, Mapping | list | tuple):
        for result in results.values() if isinstance(results, Mapping) else results:
            yield from _arrays(result)
    else:
        yield np.asarray(results)


def _difference(name: str, actual: NDArray[Any], expected: NDArray[Any]) -> Difference:
    if actual.shape != expected.shape:
        raise ShapeError(f"{name} has shape {actual.shape}; the expected output has shape {expected.shape}")
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        apart = np.where(equal, 0.0, np.abs(a - b))
    apart = np.where(np.isnan(apart), np.inf, apart)
    scale = float(np.abs(b).max(initial=0.0, where=np.isfinite(b)))
    if not apart.size:
        return Difference(name, actual.shape, 0.0, 0.0, (), scale)
    position = tuple(int(i) for i in np.unravel_index(int(apart.argmax()), apart.shape))
    return Difference(name, actual.shape, float(apart.max()), float(apart.mean()), position, scale)


def _equal(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def _batch_axis(run: _Run) -> int | None:
    """Return the batch axis of the inputs: one of the same size in all of them."""
    batch_first = isinstance(run.model, Model) or getattr(run.model, "batch_first", True)
    order: tuple[int | None, ...] = (0, 1) if batch_first else (1, 0)
    if isinstance(run.model, Model) and run.model.layout is not None:
        order = (run.model.layout.axes.batch,)
    for axis in order:
        if axis is not None and all(a.ndim > axis for a in run.inputs.values()):
            sizes = {a.shape[axis] for a in run.inputs.values()}
            if len(sizes) == 1 and sizes.pop() > 1:
                return axis
    return None


def _same_rows(run: _Run, actual: Arrays) -> bool | str:
    batch = _batch_axis(run)
    if batch is None:
        return "the inputs have no batch axis of more than one row"
    B = next(iter(run.inputs.values())).shape[batch]
    row = B // 2
    try:
        single = run({name: np.take(a, [row], batch) for name, a in run.inputs.items()})
    except OnwardError as error:
        return f"the model does not accept one row: {error}"
    for name, whole in actual.items():
        sizes = zip(whole.shape, single[name].shape, strict=True)
        axis = next((i for i, pair in enumerate(sizes) if pair == (B, 1)), None)
        if axis is not None and not _equal(np.take(whole, [row], axis), single[name]):
            return False
    return True


def _same_blocks(run: _Run, actual: Arrays) -> bool | str:
    """Compare a stream, which gets the sequence in blocks, with the whole call."""
    sequences = [a for a in run.inputs.values() if a.ndim > 1]
    if not hasattr(run.model, "stream") or len(sequences) != 1:
        return "a stream takes one sequence"
    x, fixed = sequences[0], {name: a for name, a in run.inputs.items() if a.ndim < 2}
    try:
        if isinstance(run.model, Model):
            layout = run.model.layout
            if layout is None:
                return "no recurrent layer shows which axis is time"
            time, rows = layout.axes.time or 0, layout.axes.batch
        else:
            time = 1 if x.ndim > 2 and run.model.batch_first else 0
            rows = None if x.ndim == 2 else 1 - time
        stream = run.model.stream(None if rows is None else x.shape[rows], **fixed)
        T = x.shape[time]
        blocks = [block for block in np.split(x, [1, 1 + T // 3, T], time) if block.shape[time]]
        parts = [list(_arrays(stream(block))) for block in blocks]
        parts.append(list(_arrays(stream.finish())))
    except OnwardError as error:
        return f"the model does not stream: {error}"
    return all(
        _is_joined(whole, list(pieces))
        for whole, pieces in zip(actual.values(), zip(*parts, strict=True), strict=False)
    )


def _is_joined(whole: NDArray[Any], parts: list[NDArray[Any]]) -> bool:
    """Whether an output is its parts along one axis, the last step of these, or the last part."""
    for axis in range(parts[0].ndim):
        with suppress(ValueError):  # the parts differ in other axes
            joined = np.concatenate(parts, axis)
            if _equal(joined, whole) or (joined.size and _equal(joined.take(-1, axis), whole)):
                return True
    last = [part.reshape(whole.shape) for part in parts if part.size == whole.size][-1:]
    return any(_equal(part, whole) for part in last)


def _same_in(context: AbstractContextManager[None], run: Callable[[], Arrays], actual: Arrays) -> bool:
    """Whether the outputs are identical in a context."""
    with context:
        return all(_equal(actual[name], y) for name, y in run().items())


def _same_on_every_isa(run: _Run, actual: Arrays) -> bool | str:
    try:
        content = pickle.dumps(run.model)
    except (pickle.PicklingError, AttributeError, TypeError) as error:  # models with Python functions
        return f"the model cannot be copied: {error}"
    isas = map(_instruction_set, _core.available_isas())
    return all(_same_in(isa, lambda: run(model=pickle.loads(content)), actual) for isa in isas)


@contextmanager
def _instruction_set(isa: str) -> Iterator[None]:
    before = _core.isa()
    _core.set_isa(isa)
    try:
        yield
    finally:
        _core.set_isa(before)


def _cost(run: _Run, actual: Arrays, precision: str) -> float | str:
    if not hasattr(run.model, "quantize"):
        return "the model cannot be quantized"
    try:
        quantized = run(model=run.model.quantize(precision))
    except OnwardError as error:
        return str(error)
    # the layers of a chain return only its first output
    pairs = zip(actual.items(), quantized.values(), strict=False)
    return max((_difference(name, q, a).relative for (name, a), q in pairs), default=0.0)


def _microseconds(run: _Run) -> float:
    """Return the median time of a call."""
    return 1e6 * statistics.median(timeit.repeat(run, number=1, repeat=CALLS))


def first_divergence(
    model: Any, other: Any, inputs: Sequence[NDArray[Any]], tolerance: float
) -> Divergence | str:
    """Return the first divergence between two models on the same inputs, or the reason why none is known."""
    try:
        steps, others = (list(_steps(each, inputs)) for each in (model, other))
    except OnwardError as error:
        return f"the models cannot be compared node by node: {error}"
    for (node, y), (twin, other_y) in _corresponding(steps, others):
        found = _difference(str(node), y, other_y)
        if found.relative > tolerance:
            return Divergence(found.name, str(twin), found.shape, found.relative)
    return "no two nodes of the models that correspond differ"


def _corresponding(steps: Sequence[Step], others: Sequence[Step]) -> list[tuple[Step, Step]]:
    """Return the nodes that correspond: by their names if most nodes share them, otherwise by their order."""
    keys, other_keys = ([(node.operation, y.shape) for node, y in each] for each in (steps, others))
    named = {node.name: place for place, (node, _) in enumerate(others)}
    places = [(i, named[node.name]) for i, (node, _) in enumerate(steps) if node.name in named]
    places = [(i, j) for i, j in places if keys[i] == other_keys[j]]
    if 2 * len(places) <= min(len(steps), len(others)):
        blocks = SequenceMatcher(None, keys, other_keys, autojunk=False).get_matching_blocks()
        places = [(block.a + k, block.b + k) for block in blocks for k in range(block.size)]
    return [(steps[i], others[j]) for i, j in places]


def _steps(model: Any, inputs: Sequence[NDArray[Any]]) -> Iterator[Step]:
    """Yield the nodes of a model whose first outputs are floats, in the order of their computation."""
    graph, arrays = _graph(model, inputs)
    known = {
        declared.name: array if array.ndim == 0 and array.dtype.kind in "iub" else Signature.of(array)
        for declared, array in zip(graph.inputs, arrays, strict=True)
    }
    graph = simplify(flattened(graph, known))
    if len(graph.nodes) > MAX_NODES:
        raise ArgumentError(f"one has {len(graph.nodes)} nodes; expected at most {MAX_NODES}")
    nodes = [node for node in graph.nodes if node.outputs and node.outputs[0]]
    wanted = graph.replaced(outputs=tuple(node.outputs[0] for node in nodes), declared_outputs=())
    for node, output in zip(nodes, Planner(wanted)(*arrays), strict=True):
        if isinstance(output, np.ndarray) and output.dtype.kind == "f":
            yield node, output


def _graph(model: Any, inputs: Sequence[NDArray[Any]]) -> tuple[Graph, list[NDArray[Any]]]:
    """Return the graph of a model, and its inputs in order."""
    if not isinstance(model, Model):
        graph = from_zeros(graph_of(model))
        if len(inputs) != len(graph.inputs):
            raise ArgumentError("the states of layers are compared from zeros only")
        return graph, list(inputs)
    if model.general is not model:
        return _graph(model.general, inputs)
    structure = model.graph.structure
    args, named = (tuple(inputs), {}) if structure is None else structure.flatten(tuple(inputs), {})
    _, planner, arrays = model.checked(args, named)
    return planner.graph, arrays
