"""Compile a graph for all sizes of its inputs: remove everything that is known before the first step.

The compiler infers the shape and dtype of each value, computes the values that are the same in every call,
resolves each If whose condition is known, and unrolls short loops. All other nodes become steps of the core,
or run in NumPy between the steps. Sizes that differ from call to call are symbolic; the guards of the program
tell for which of them it holds.
"""

import weakref
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...core import budget
from ...errors import ArgumentError
from ..graph import Graph, bodies, used_names
from ..inference import UNKNOWN
from ..node import AnyArray, Naming, Node, Operand, Signature, size_of
from ..operations import OPERATIONS
from ..operations.control import IN_CORE
from ..operations.evaluation import check_shapes, evaluate
from ..operations.registry import Expand, Operation, Write
from ..operations.value import Value, contents
from ..size import Size, hint, is_symbolic
from ..sized import as_numbers, has_sizes
from .builder import Builder, Weights
from .deciding import MOST_ELEMENTS, ElementsDecide, deciding_inputs, elements_of, sources
from .inputs import Inputs
from .program import Location, NumPyNode, Program, Recordings, Rest, Source, source_of, views_at
from .quotients import divided_sizes
from .runs import run_count
from .view import DTYPES, View, name_of

MAX_UNROLLED = 4000  # nodes of one loop
NODE = 20 * budget.STEP  # the work of compiling a node


class _NeedsPython(Exception):
    """A node of a body runs in NumPy, so that the loop does."""


class Compiler:
    """Compiles one graph; `weights` is shared between all programs of a model.

    `inputs` are those of the first call. The sizes of their axes are symbolic unless the graph declares them,
    they are 1, or `fixed` names them; all are plain if that is None. Axes that the graph gives one name have
    one size. `recordings` are those of the call so far. `elements` names inputs whose elements are symbolic
    sizes; if it is None, there are none.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[Any],
        parameters: Sequence[bool],
        weights: Weights,
        fixed: Collection[str] | None = None,
        recordings: Recordings | None = None,
        elements: frozenset[str] | None = None,
    ) -> None:
        self._builder, self._weights, self._budget = Builder(weights), weights, budget.current()
        # weakly: with a cycle of references, the weights would stay in memory for longer than their model
        self._builder.add_nodes = partial(Compiler._add_nodes, weakref.proxy(self))
        self._builder.count = partial(Compiler._count, weakref.proxy(self))
        self._program, self._recordings = Program(), recordings or Recordings()
        self._values: dict[str, Value | None] = {"": None}
        self._uses: Counter[str] = Counter()
        self._pending: deque[Node] = deque()
        self._program.elements = elements or frozenset()
        self._finds_elements = elements is not None and fixed is not None
        self._makers: dict[str, Node] = {}  # the nodes by the names of their outputs
        self._deciding = frozenset[str]()  # the inputs of the rest whose elements are sizes
        self._inputs = {declared.name for declared in graph.inputs}
        self._work = 0  # of the nodes so far, in the first call
        self._works: dict[Any, Any] = {}  # numbers and sizes, with how often each counts in their sum
        self._times: Any = 1  # how often the present nodes run
        self._in_body = False  # whether the present nodes are those of a loop that the core runs
        made = Inputs(self._program, self._builder, fixed, elements or frozenset())
        for declared, array, is_parameter in zip(graph.inputs, inputs, parameters, strict=True):
            self._values[declared.name] = made.add(declared, array, is_parameter)
        shapes = {declared.name: self._values[declared.name] for declared in graph.inputs}
        # as guards: calls that a program accepts are not checked otherwise
        graph.sizes.check({name: value.shape for name, value in shapes.items() if value is not None})
        self._add_constants(graph.constants)
        self._outputs = graph.outputs
        self._uses.update([*graph.outputs, *used_names(graph.nodes)])
        self._pending.extend(graph.nodes)

    def compile(self) -> Program:
        """Return the program. Raises the errors of the nodes, which name them, and AxesFixed."""
        is_planned, axes = True, self._program.axes
        with Naming() as naming:
            while self._pending and is_planned:
                naming.node = axes.node = self._pending.popleft()
                is_planned = self._add_node(naming.node)
        if is_planned:
            self._program.outputs = [self._output(self._values[name]) for name in self._outputs]
        else:
            self._add_rest()
        self._program.axes.node, self._program.axes.is_structural = "optimization", True
        try:
            inputs, carries = self._program.arguments()
            self._builder.optimize(carries)
            self._program.joined = [inputs[space] for space in self._builder.joined.values()]
            self._builder.steps, outputs, locations = self._program.divide(self._builder.steps)
            work = self._program.axes.total([count * number for number, count in self._works.items()])
            found = self._builder.build(self._program.axes, outputs, locations, work)
        except OverflowError as error:
            raise ArgumentError("a size or stride of a node has more than 64 bits") from error
        except (TypeError, ValueError, IndexError) as error:  # an attribute of another type
            raise ArgumentError(f"the core refuses a step of a node: {error}") from error
        self._program.core, self._program.constants = found
        self._program.steps = self._builder.steps
        return self._program

    @property
    def builder(self) -> Builder:
        """What holds the steps, in the order in which they run once the program is compiled."""
        return self._builder

    def _add_constants(self, constants: Mapping[str, AnyArray]) -> None:
        for name, array in constants.items():
            self._values[name] = Value(array, name=name)

    def _splice(self, nodes: Sequence[Node]) -> None:
        """Put nodes in front of the pending ones."""
        self._pending.extendleft(reversed(nodes))
        names = used_names(nodes)
        self._uses.update(names)
        for name in names:  # a composition may read a value twice that was read once before
            value = self._values.get(name)
            if value is not None and value.used_once and self._uses[name] > 1:
                self._values[name] = value.read_again()

    def _add_node(self, node: Node) -> bool:
        """Add a node to the program; return False if its output shapes depend on unknown values."""
        self._budget.spend(NODE)
        operation = OPERATIONS[node.operation]
        inputs = [self._values[name] for name in node.inputs]
        arrays = contents(inputs)
        folds = operation.folds(arrays)
        if not folds or (operation.formula and any(map(has_sizes, arrays))):
            if not folds and operation.write is not None and self._write(node, operation.write, inputs):
                return True
            if operation.expand is not None:
                if bodies(node) and _has_empty(*inputs) and self._skip(node, arrays):
                    return True
                if operation.lower is not None and self._repeat(node, operation, inputs, arrays):
                    return True
                if self._inline(node, operation.expand, arrays):
                    return True
        return self._place(node, operation, inputs, arrays)

    def _place(
        self, node: Node, operation: Operation, inputs: list[Value | None], arrays: list[Operand | None]
    ) -> bool:
        """Fold a node, or add it as steps or in NumPy; return False as `_add_node` does."""
        if (quotients := divided_sizes(node, self._makers, self._values)) is not None:
            self._define(node, [Value(quotients)])
            return True
        if operation.moves and self._move(node, operation, inputs, arrays):
            return True
        found = evaluate(node, arrays)
        if found is None and (operation.takes_sizes or not any(map(has_sizes, arrays))):
            if self._ends_before(node, inputs):
                return False
            self._run_in_numpy(node, inputs, None)
            return False
        if found is None:  # for the sizes of the first call alone
            fixed = [value and value.in_numbers() for value in inputs]
            return self._place(node, operation, fixed, contents(fixed))
        if Signature not in map(type, found):
            self._define(node, list(map(Value, found)))
            return True
        signatures = [y if type(y) is Signature else Signature.of(y) for y in found]
        checks = operation.checks_indices and not _has_empty(inputs[1])
        if operation.is_pure and not checks and all([0 in s.shape for s in _used(node, signatures)]):
            self._define(node, [Value.at(signature, None) for signature in signatures])
            return True
        self._count(operation.work(arrays, node.attributes, signatures))
        views = None if bodies(node) else self._lower(node, operation, inputs, signatures)
        if views is None and any(map(has_sizes, arrays)):  # sizes are values like others
            inputs = list(map(self._with_numbers, inputs))
            views = self._lower(node, operation, inputs, signatures)
        if views is None:
            self._budget.check(memory=size_of(signatures) + operation.temporary(arrays, node.attributes))
            self._run_in_numpy(node, inputs, signatures)
        return True

    def _ends_before(self, node: Node, inputs: list[Value | None]) -> bool:
        """Whether the program ends before a node, because values of this program decide about its shapes.

        What follows has them as inputs. Raises ElementsDecide if they follow from elements of inputs.
        """
        names = None if self._in_body else deciding_inputs(node, inputs)
        if not names:
            return False
        if self._finds_elements and (found := sources(names, self._values, self._makers, self._inputs)):
            raise ElementsDecide(found)
        if self._inputs >= set(names):
            return False
        self._pending.appendleft(node)
        self._deciding = frozenset(names)
        return True

    def _write(self, node: Node, write: Write, inputs: Sequence[Value | None]) -> bool:
        """Add steps that tell the signatures of the outputs; return False if there are none."""
        before = self._builder.mark()
        found = write(self._builder, node, inputs)
        if found is None:
            self._builder.undo(before)
            return False
        self._count(found[1])
        self._define(node, found[0], self._is_alone(inputs, before[0]))
        return True

    def _is_alone(self, inputs: Sequence[Value | None], before: int) -> bool:
        """Whether nothing else reads the memory of outputs: that of an input may have other readers."""
        return len(self._builder.steps) > before or all([x is None or x.known or x.used_once for x in inputs])

    def _skip(self, node: Node, arrays: list[Operand | None]) -> bool:
        """Define the outputs of a node whose bodies have no effects if all are empty; else return False."""
        found = evaluate(node, arrays) if _without_effects(node) else None
        if found is None or any([0 not in y.shape for y in found]):
            return False
        self._define(node, [Value.at(y if type(y) is Signature else Signature.of(y), None) for y in found])
        return True

    def _count(self, work: Any) -> None:
        """Count the work of a node, an integer or a size, and check that so much is allowed."""
        times = self._times
        self._work += hint(work) * hint(times)
        if self._work > self._budget.work:
            self._budget.check(self._work)
        number, count = (times, work) if type(work) is int else (work, times)
        self._works[number] = self._works.get(number, 0) + count

    def _move(
        self, node: Node, operation: Operation, inputs: list[Value | None], arrays: list[Operand | None]
    ) -> bool:
        """Define the outputs of a node as views of its first input, if they are that."""
        before = len(self._builder.steps)
        views = operation.moved(self._builder, inputs, node.attributes)
        if views is None:
            return False
        value = inputs[0]
        assert value is not None  # it has a view
        signatures = [Signature(view.shape, value.dtype) for view in views]
        check_shapes(signatures)
        self._count(operation.work(arrays, node.attributes, signatures))
        self._define(node, list(map(Value, signatures, views)), self._is_alone(inputs[:1], before))
        return True

    def _repeat(
        self, node: Node, operation: Operation, inputs: list[Value | None], arrays: list[Operand | None]
    ) -> bool:
        """Add a loop as one step that repeats the steps of its body; return False if it needs Python."""
        axes = self._program.axes
        with axes.separate() as guards:
            found = evaluate(node, arrays)
            if found is None or Signature not in map(type, found):
                return False
            signatures = [y if isinstance(y, Signature) else Signature.of(y) for y in found]
            views = self._lower(node, operation, inputs, signatures)
        if views is None:
            return False
        for guard in guards.values():
            axes.require(guard.size, guard.condition)
        return True

    def _add_nodes(
        self, graph: Graph, values: Mapping[str, Value | None], times: Any
    ) -> list[Value | None] | None:
        """Add the nodes of a loop's body, given the values of its inputs; return those of its outputs.

        They run so many times as the loop. Returns None if one needs Python.
        """
        around = self._values, self._uses, self._pending, self._times, self._in_body
        self._values, self._uses, self._pending = {"": None, **values}, Counter(graph.outputs), deque()
        self._times, self._in_body = self._times * times, True
        try:
            self._add_constants(graph.constants)
            self._splice(graph.nodes)
            with Naming() as naming:
                while self._pending:
                    naming.node = self._pending.popleft()
                    self._add_node(naming.node)
            self._count(budget.STEP)
            return [self._with_numbers(self._values[name]) for name in graph.outputs]
        except _NeedsPython:
            return None
        finally:
            self._values, self._uses, self._pending, self._times, self._in_body = around

    def _lower(
        self, node: Node, operation: Operation, inputs: list[Value | None], signatures: Sequence[Signature]
    ) -> list[View] | None:
        """Add a node as steps of the core; return the views of its outputs, or None if it has no steps."""
        lower, before = operation.lower, self._builder.mark()
        if lower is None or (not operation.lowers_empty and _has_empty(*inputs[:1], *signatures)):
            return None
        if any([name_of(s.dtype) not in DTYPES for s in _used(node, signatures)]):
            return None
        views = lower(self._builder, node, inputs, [s.shape for s in signatures])
        if views is None or False in map(_fits, views, signatures):
            self._builder.undo(before)
            return None
        self._define(node, list(map(Value.at, signatures, views)), self._is_alone(inputs, before[0]))
        return views

    def _run_in_numpy(
        self, node: Node, inputs: list[Value | None], signatures: Sequence[Signature] | None
    ) -> None:
        """Run a node in NumPy and copy its outputs of known shape into the arena."""
        if self._in_body:
            raise _NeedsPython
        sources = [source_of(self._with_numbers(value)) for value in inputs]
        unknown = [Value(UNKNOWN) for _ in node.outputs]
        values = unknown if signatures is None else [Value.at(s, self._new(s)) for s in signatures]
        targets = [Location(v.view, name) for v, name in zip(values, node.outputs, strict=False)]
        self._builder.add_node(
            NumPyNode(node, sources, targets, signatures is None), views_at(sources + targets)
        )
        self._define(node, values)

    def _new(self, signature: Signature) -> View | None:
        """Allocate memory in the arena for a value that the core can use."""
        if name_of(signature.dtype) not in DTYPES or 0 in signature.shape:
            return None
        return self._builder.new(*signature.shape, dtype=name_of(signature.dtype))

    def _define(self, node: Node, values: Sequence[Value], alone: bool = True) -> None:
        if len(values) < len(node.outputs):
            self._check_outputs(node, node.outputs[: len(values)])
        for name, value in zip(node.outputs, values, strict=False):
            if name:
                value.name, value.used_once = name, alone and self._uses[name] == 1
                self._values[name], self._makers[name] = value, node

    def _check_outputs(self, node: Node, defined: Collection[str]) -> None:
        if missing := [name for name in node.outputs if self._uses[name] and name not in {"", *defined}]:
            raise ArgumentError(f"has no output for {', '.join(missing)}; expected fewer outputs")

    def _add_rest(self) -> None:
        """Make a graph of the pending nodes, which run when the shapes of their inputs are known."""
        self._budget.spend(budget.STEP * len(self._pending))
        used = {name for node in self._pending for name in node.inputs} | set(self._outputs)
        live = {name: value for name in used if (value := self._values.get(name)) is not None}
        rest = Graph(nodes=list(self._pending), outputs=self._outputs)
        # few sizes are sizes of what follows as well, and others its constants
        sizes = {
            n for n, value in live.items() if has_sizes(value.array) and value.array.size <= MOST_ELEMENTS
        }
        unknown = {name: value for name, value in live.items() if not value.known or name in sizes}
        rest.constants = {n: as_numbers(value.array) for n, value in live.items() if n not in unknown}
        for name, value in unknown.items():
            rest.add_input(name, axes=None if value.view is None else [_axis(size) for size in value.shape])
        located = list(map(self._with_numbers, unknown.values()))
        locations = [Location(value.view, value.name) for value in located if value is not None]
        self._builder.add_node(
            Rest(rest, locations, self._deciding | elements_of(unknown)), views_at(locations)
        )

    def _inline(self, node: Node, expand: Expand, inputs: Sequence[Operand | None]) -> bool:
        """Replace a composition, or a node with bodies if what decides about them is known, by its nodes."""
        size = run_count(node, inputs, self._weights.runs) if node.operation != "Scan" else 0
        self._budget.check(IN_CORE * size)
        if (node.operation == "Loop" and size > MAX_UNROLLED) or (
            size and not self._budget.affords(NODE * size)
        ):
            return False
        if node.operation == "Recorded":
            expand = partial(self._recordings.expansion, self._program.axes, expand)
        if (expansion := expand(node, inputs)) is None:
            return False
        self._check_outputs(node, {name for inner in expansion.nodes for name in inner.outputs})
        self._add_constants({**expansion.constants, **expansion.known})
        self._uses.subtract(node.inputs)
        self._splice(expansion.rest())
        return True

    def _with_numbers(self, value: Value | None) -> Value | None:
        """Return a value whose sizes, if it has any, are the numbers of the call, in the arena."""
        if value is None or not has_sizes(value.array):
            return value
        return value.with_view(self._builder.constant(value.array))

    def _output(self, value: Value | None) -> Source:
        """Return the source of an output; the core copies a view into an array of its own."""
        value = self._with_numbers(value)
        assert value is not None
        is_empty = 0 in value.shape
        if name_of(value.dtype) not in DTYPES or not (is_empty or value.known or value.view):
            return source_of(value)
        if value.known and not is_empty:
            value = value.with_view(self._builder.constant(np.asarray(value.array)))
        target = self._builder.new_argument(*value.shape, dtype=name_of(value.dtype))
        self._budget.check(memory=size_of([Signature(value.shape, value.dtype)]))
        if not is_empty:
            self._builder.add("copy", value.view, target)
        return Location(target, value.name)


def _axis(size: Any) -> int | str:
    """Return how a graph declares an axis of some size: symbolic sizes that are equal have the same name."""
    return str(size) if type(size) is Size else int(size)


def _used(node: Node, signatures: Sequence[Signature]) -> list[Signature]:
    """Return the signatures of the outputs that have a name."""
    return [signature for signature, output in zip(signatures, node.outputs, strict=False) if output]


def _without_effects(node: Node) -> bool:
    """Whether a node, or one in its bodies, raises no error for its values, and draws no random numbers."""
    operation, inner = OPERATIONS[node.operation], [each for body in bodies(node) for each in body.nodes]
    is_pure = operation.is_pure and not operation.checks_indices
    return (bool(inner) or is_pure) and all(map(_without_effects, inner))


def _has_empty(*values: Value | Signature | None) -> bool:
    """Whether a value has no elements."""
    return any([value is not None and 0 in value.shape for value in values])


def _fits(view: View, signature: Signature) -> bool:
    """Whether a view holds a value, as far as its shape is known; one without elements needs no view."""
    shape, dtype = signature
    if view.dtype != name_of(dtype):
        return False
    is_same = view.shape is shape or is_symbolic((*view.shape, *shape))
    return is_same or view.shape == shape or 0 in shape
