"""The registry of operations: what each one means in NumPy, its output shapes and its steps in the core.

A module of this package defines an operation in one place:

    @operation("Softmax", signature=like_first)
    def softmax(x, *, axis=-1):          # its meaning in NumPy: positional arrays, keyword-only attributes
        ...

    @softmax.steps()                     # its steps in the core: the builder and views, and the attributes
    def _(b, x, *, axis=-1):
        ...

An operation that is a composition of others needs nothing but its meaning (`compositions.composed`).
Operations have the names, inputs and attributes of ONNX's operators of opset 22; omitted inputs are None.
"""

import functools
import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

import onward._core as _core

from ...core import budget
from ...errors import ArgumentError
from ..node import Expansion, Node, Operand, Signature, in_first_call, size_of, with_integers
from ..plan.builder import Builder
from ..plan.strided import Strided
from ..plan.view import View, name_of
from ..size import Size, hint, is_symbolic
from ..sized import INT64, SIZES, as_numbers, dtype_of, has_sizes, integers
from .arguments import as_axis
from .modules import MODULES
from .signatures import broadcast_booleans, like_first, like_first_boolean
from .value import Value, known, typed_view

Inputs = Sequence[Value | None]
Compute = Any  # a Python function of arrays and attributes
SignatureRule = Callable[..., Signature | Sequence[Signature]]
# Replaces a node by those of its bodies, or returns None if that is not possible.
Expand = Callable[[Node, Sequence[Operand | None]], Expansion | None]
# Adds steps whose views tell the signatures of the outputs; returns the outputs and the work, or None.
Write = Callable[[Builder, Node, Inputs], tuple[list[Value], Any] | None]
# Returns what is known about the outputs of a node with bodies, or None.
Infer = Callable[[Node, Sequence[Operand | None]], Sequence[Operand] | None]
# Adds the steps of a node to a plan: from the builder, the node, its inputs and the shapes of its outputs, to
# the views of the outputs, or None if the core does not support the node, which then runs in NumPy.
Lowering = Callable[[Builder, Node, Inputs, list[tuple[int, ...]]], list[View] | None]
# Returns the axes along which a node combines elements, for each input (an operand, or None if omitted); the
# last entry holds for further inputs. Along all other axes, each slice of the outputs depends on the same
# slice of the inputs alone.
Combines = Callable[[Node, Sequence[Any]], Sequence[Collection[int]]]
# Returns how many elements each element of the outputs is computed from: an integer or a size.
Reads = Callable[[Sequence[Any], Mapping[str, Any]], Any]
# Returns the output signatures of an operation on unknown values, which decide the sizes that are None.
Ranked = Callable[[Sequence[Any], Mapping[str, Any]], Sequence[Signature]]
# Returns how many bytes of temporary arrays `compute` allocates.
Temporaries = Callable[[Sequence[Any], Mapping[str, Any]], int]
# Adds a node, some of whose inputs vary over time, to a graph over one block: it takes a `BlockBuilder`.
StreamRule = Callable[[Any, Node], None]
# Adds a node that computes or uses places of steps likewise, or returns False.
PlaceRule = Callable[[Any, Node], bool]
Rule = TypeVar("Rule", Lowering, Combines, StreamRule, PlaceRule, Expand, Infer, Reads, Ranked, Temporaries)
# Adds the steps of a node: from the builder, the views of its inputs and its attributes, to the view of its
# output or those of several, or None as a lowering does.
Steps = TypeVar("Steps", bound=Callable[..., View | list[View] | None])

WIDENED = {"float16", "bfloat16"}  # dtypes that are computed in float32
OPERATIONS_OF_ELEMENT = 4  # elementary operations for an element that is read or written
BOOL = np.dtype(np.bool_)
EVERY_INPUT = None  # as `shape_inputs`: the output shapes depend on the values of all inputs


class _Registration:
    """A decorator that registers a function as a rule of an operation, or of several ones."""

    def __init__(self, rule: str) -> None:
        self._rule = rule

    def __call__(self, *operations: "Operation | str") -> Callable[[Rule], Rule]:
        def register(function: Rule) -> Rule:
            for each in operations:
                found = (_defined.get(each) or OPERATIONS[each]) if isinstance(each, str) else each
                setattr(found, self._rule, function)
            return function

        return register

    def __get__(self, operation: "Operation", owner: type) -> Callable[[Rule], Rule]:
        return self(operation)


class Operation:
    """An operation of graphs.

    `function` is its meaning in NumPy, which `compute` calls. `shape_inputs` are the indices of the inputs
    whose values determine the output shapes. `signature` returns the output signatures from the inputs (each
    an `Operand`, or None if omitted) and the attributes; without it, `compute` only moves elements. If
    `widens`, inputs of half precision are computed in float32. If not `reads_values`, `compute` also accepts
    signatures, because the result depends on the signatures of the inputs alone. An operation that is not
    pure is never folded. If `takes_sizes`, `compute` accepts arrays of symbolic sizes. If it `moves`, it also
    does so, and the outputs may be views of the first input. `attributes` are the names of attributes that
    `compute` takes as keywords (**). `combines` may also be registered later, as the steps in the core
    (`lowering`, `steps`), the rule over time (`over_time`), the one for places of steps (`by_place`), the
    expansion in graphs over time alone (`expanding_over_time`), how many elements each output is computed
    from (`reading`, by default one) and the memory of temporary arrays (`allocating`) are. If it
    `is_elementwise`, the views of its steps tell the shape of its only output, which has the dtype of the
    first input unless it is a predicate.
    """

    def __init__(
        self,
        name: str,
        compute: Compute,
        *,
        signature: SignatureRule | None = None,
        shape_inputs: Sequence[int] | None = (),
        widens: bool = False,
        reads_values: bool = True,
        is_pure: bool = True,
        takes_sizes: bool = False,
        moves: bool = False,
        attributes: Sequence[str] = (),
        combines: Combines | None = None,
        is_elementwise: bool = False,
    ) -> None:
        self.name, self.function, self._signature = name, compute, signature
        self.shape_inputs = EVERY_INPUT if shape_inputs is None else frozenset(shape_inputs)
        self.widens, self.reads_values, self.is_pure = widens, reads_values, is_pure
        self.takes_sizes, self.moves = takes_sizes or moves, moves
        self.has_rule = signature is not None  # whether the output signatures follow without computing
        # whether the results are booleans, whatever the dtypes of the inputs
        self.is_predicate = signature in (broadcast_booleans, like_first_boolean)
        self.lower: Lowering | None = None
        # the kind and the function of a step of float32 that a fused step may include, for the attributes
        self.element: Callable[..., tuple[str, Any]] | None = None
        self.lowers_empty = False  # whether `lower` accepts arrays without elements
        self.checks_indices = False  # whether the second input is indices that may be out of range
        self.expand: Expand | None = None
        self.write: Write | None = self._write if is_elementwise else None
        self.expand_steps: Expand | None = None
        self.infer: Infer | None = None
        self.combines = combines  # None: the axes are not known
        self.stream: StreamRule | None = None
        self.stream_by_place: PlaceRule | None = None
        self.reads: Reads | None = None
        self.temporaries: Temporaries | None = None
        self.ranked: Ranked | None = None
        # adds other operations that compute it, and count their work, to a composition; returns the outputs
        self.formula: Callable[..., list[str]] | None = None
        # what the other operations tell about the outputs, arrays as far as they take little work
        self.composition: Callable[..., Sequence[Operand] | None] | None = None
        declared = inspect.unwrap(compute)
        code = declared.__code__  # quicker to read than inspect.signature, for hundreds of operations
        self._takes_any = bool(code.co_flags & inspect.CO_VARKEYWORDS) and not attributes
        first = code.co_argcount
        own = code.co_varnames[first : first + code.co_kwonlyargcount]
        self.attributes = (*own, *attributes)
        self._known = frozenset(self.attributes)
        self._required = set(own) - (declared.__kwdefaults__ or {}).keys()

    lowering, combining, over_time = map(_Registration, ("lower", "combines", "stream"))
    expanding, inferring = map(_Registration, ("expand", "infer"))
    expanding_over_time, by_place = map(_Registration, ("expand_steps", "stream_by_place"))
    reading, ranking, allocating = map(_Registration, ("reads", "ranked", "temporaries"))

    def steps(
        self, dtypes: Collection[str] = ("float32",), views: Collection[int] | None = None
    ) -> Callable[[Steps], Steps]:
        """Register a function of the builder, the views of the inputs and the attributes as `lowering`.

        It runs only if all inputs are in the core, in some of the dtypes, or omitted, which are None. With
        `views`, only the inputs at these places are views; the others must be known, and are arrays.
        """

        def register(function: Steps) -> Steps:
            @functools.wraps(function)
            def lower(
                b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]
            ) -> list[View] | None:
                operands: list[Any] = []
                for place, value in enumerate(inputs):
                    is_view = views is None or place in views
                    operands.append(typed_view(b, value, dtypes) if is_view else known(value))
                    if operands[-1] is None and value is not None:
                        return None
                found = function(b, *operands, **node.attributes)
                return [found] if isinstance(found, View) else found

            self.lower = lower
            return function

        return register

    def computes_sizes(self, attributes: Mapping[str, Any]) -> bool:
        """Whether `compute` accepts arrays of symbolic sizes; a cast does so to the dtypes of such arrays."""
        return self.takes_sizes and attributes.get("to", INT64) in SIZES

    @property
    def expand_over_time(self) -> Expand | None:
        """The expansion of a node in a graph over time; None if the node has rules over time itself."""
        has_rules = self.formula and (self.stream or self.combines)
        return self.expand_steps or (None if has_rules else self.expand)

    def folds(self, inputs: Sequence[Operand | None]) -> bool:
        """Whether the outputs are the same in every call: for arrays, if the operation is pure."""
        return self.is_pure and Signature not in map(type, inputs)

    def _write(self, b: Builder, node: Node, inputs: Inputs) -> tuple[list[Value], Any] | None:
        """Add the steps of an elementwise operation."""
        if self.lower is None or len(node.outputs) != 1:
            return None
        given: list[Any] = []
        for x in inputs:
            if x is None or 0 in x.shape:
                return None
            given.append(x.content)
        views = self.lower(b, node, inputs, [])
        if views is None:
            return None
        (view,), dtype = views, BOOL if self.is_predicate else dtype_of(given[0])
        if view.dtype != name_of(dtype):
            return None
        signature = Signature(view.shape, dtype)
        if any([is_symbolic(x.shape) for x in (view, *given)]):  # the view may have other sizes
            (signature,) = self.signatures(given, node.attributes) or [signature]
        return [Value(signature, view)], self.work(given, node.attributes, [signature])

    def check_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Raise ArgumentError for attributes that the operation does not have or lacks."""
        if not self._takes_any and not self._known.issuperset(attributes):
            unknown = attributes.keys() - self._known
            raise ArgumentError(
                f"{self.name} has no attribute {', '.join(sorted(unknown))}; it has "
                f"({', '.join(self.attributes)})"
            )
        if missing := self._required - attributes.keys():
            raise ArgumentError(f"{self.name} lacks the attribute {', '.join(sorted(missing))}")

    def compute(self, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> tuple[Any, ...]:
        """Compute the outputs in NumPy, which flushes denormals to zero as the core does."""
        # the core reads aligned arrays; those of a file may be anywhere
        inputs = [a.copy() if type(a) is np.ndarray and not a.flags.aligned else a for a in inputs]
        given = inputs if self.widens else ()
        narrow = [a.dtype for a in given if a is not None and name_of(a.dtype) in WIDENED]
        if narrow:
            inputs = [
                a if a is None or name_of(a.dtype) not in WIDENED else a.astype(np.float32) for a in inputs
            ]
        with np.errstate(all="ignore"), _core.Flushing():
            results = self.function(*inputs, **attributes)
            if not isinstance(results, tuple):
                results = (results,)
            results = tuple([np.asarray(a) if isinstance(a, np.generic) else a for a in results])
            if self.takes_sizes and (sized := [a for a in inputs if has_sizes(a)]):
                dtype = attributes.get("to", dtype_of(sized[0]))
                results = tuple([_as_integers(a, dtype) for a in results])
            if narrow:
                results = tuple(a.astype(narrow[0]) if a.dtype == np.float32 else a for a in results)
        return results

    def _cost(
        self,
        inputs: Sequence[Operand | None],
        attributes: Mapping[str, Any],
        signatures: Sequence[Signature] | None,
    ) -> tuple[int, int, int]:
        """Return the work, and the bytes of the outputs and of temporary arrays, in the first call."""
        if signatures is None and self.has_rule and self.formula is None:
            signatures = self.signatures(inputs, attributes)
        work = hint(self.work(inputs, attributes, signatures))
        return work, size_of(signatures or ()), self.temporary(inputs, attributes)

    def work(
        self,
        inputs: Sequence[Operand | None],
        attributes: Mapping[str, Any],
        signatures: Sequence[Signature] | None,
    ) -> Any:
        """Return the elementary operations, an integer or a size, for signatures of outputs, if known.

        Each element of the inputs and outputs counts, as often as an output reads one.
        """
        given: Any = 0
        each = OPERATIONS_OF_ELEMENT
        x: Any
        for x in inputs if self.reads_values else ():
            if type(x) is Signature:
                given += math.prod(x.shape)
            elif isinstance(x, np.ndarray):
                given += x.size
            else:  # omitted, or a sequence
                continue
            if x.dtype.hasobject and not has_sizes(x):
                each = budget.STEP
        made = given if signatures is None else sum([math.prod(shape) for shape, _ in signatures])
        if self.reads is None:
            return each * (given + made) + budget.STEP
        reads = self.reads(inputs, attributes)
        return each * (given + made * reads) + budget.STEP * reads

    def moved(self, b: Builder, inputs: Inputs, attributes: Mapping[str, Any]) -> list[View] | None:
        """Return the outputs of an operation that moves elements if they are views of its first input.

        Copies are reshaped if no strides describe the result. All other inputs must be known.
        """
        value, *others = inputs
        if value is None or value.view is None or 0 in value.shape:
            return None
        if not all([other is None or other.known for other in others]):
            return None
        before = len(b.steps)
        x = Strided(value.view, value.dtype, b.contiguous)
        views = x.moved(self.function, map(known, others), attributes)
        if views is None or any([0 in view.shape for view in views]):
            del b.steps[before:]
            return None
        return views

    def temporary(self, inputs: Sequence[Operand | None], attributes: Mapping[str, Any]) -> int:
        """Return the bytes of temporary arrays, in the first call if sizes are symbolic."""
        if self.temporaries is None:
            return 0
        return self.temporaries(list(map(in_first_call, inputs)), attributes)

    def run(
        self, inputs: Sequence[Any], attributes: Mapping[str, Any], keeps: bool = True
    ) -> tuple[Any, ...]:
        """Compute the outputs within the current budget; `keeps` says whether they count as taken.

        Raises WorkLimitError and MemoryLimitError before it computes anything.
        """
        return self._run(self._cost(inputs, attributes, None), inputs, attributes, keeps)

    def run_if_affordable(
        self, inputs: Sequence[Any], attributes: Mapping[str, Any], signatures: Sequence[Signature] | None
    ) -> tuple[Any, ...] | None:
        """Compute outputs that are not needed yet; return None if that takes much of the current budget."""
        cost = self._cost(inputs, attributes, signatures)
        if not budget.current().affords(cost[0], cost[1] + cost[2]):
            return None
        return self._run(cost, inputs, attributes, keeps=True)

    def _run(
        self, cost: tuple[int, int, int], inputs: Sequence[Any], attributes: Mapping[str, Any], keeps: bool
    ) -> tuple[Any, ...]:
        (work, outputs, temporary), left = cost, budget.current()
        left.spend(work)
        left.check(memory=outputs + temporary)
        left.take(outputs if keeps else 0)
        return self.compute(inputs, attributes)

    def signatures(
        self, inputs: Sequence[Operand | None], attributes: Mapping[str, Any]
    ) -> Sequence[Signature] | None:
        """Return the output signatures, or None if they depend on the values of unknown inputs."""
        if self.shape_inputs is EVERY_INPUT and not self.is_pure:  # it must run only once
            return None
        deciding = range(len(inputs)) if self.shape_inputs is None else self.shape_inputs
        if deciding and any([i < len(inputs) and type(inputs[i]) is Signature for i in deciding]):
            return None
        if self._signature is not None:
            found = self._signature(*inputs, **attributes)
            return with_integers([found] if isinstance(found, Signature) else found)
        moved = [_strided(a) if self.takes_sizes else _strided(as_numbers(a)) for a in inputs]
        if self.moves and type(moved[0]) is Strided:
            found = self.function(*moved, **attributes)
            return [Signature(a.shape, a.dtype) for a in (found if type(found) is tuple else [found])]
        return [Signature.of(a) for a in self.compute(moved, attributes)]


def _as_integers(result: Any, dtype: np.dtype[Any]) -> Any:
    """Return what an operation makes of arrays of sizes, which may be a plain number, as an array."""
    is_object = isinstance(result, np.ndarray) and result.dtype == object
    return integers(result, dtype) if is_object or isinstance(result, int | Size) else result


def _strided(x: Operand | None) -> Any:
    return Strided.of(x.shape, x.dtype) if isinstance(x, Signature) else x


class _Operations(dict[str, Operation]):
    """The operations by name; the modules that define one are imported when it is first used."""

    def __missing__(self, name: str) -> Operation:
        for module in MODULES[name]:
            import_module(f"{__package__}.{module}")
        return self.setdefault(name, _defined[name])

    def __contains__(self, name: object) -> bool:
        return name in MODULES


OPERATIONS = _Operations()
_defined: dict[str, Operation] = {}  # by the modules imported so far


def operation(name: str, **options: Any) -> Callable[[Compute], Operation]:
    """Register a function as the meaning of an operation; `options` are those of `Operation`."""

    def register(compute: Compute) -> Operation:
        _defined[name] = Operation(name, compute, **options)
        return _defined[name]

    return register


# decorators that register a function as a rule of the named operations
lowering, combining, over_time = map(_Registration, ("lower", "combines", "stream"))
reading, allocating = map(_Registration, ("reads", "temporaries"))


def along_time(rule: Callable[[Any, Node, int], None]) -> StreamRule:
    """Return the rule over time that runs `rule` with the time axis of the first input if it is combined."""

    @wraps(rule)
    def stream(time: Any, node: Node) -> None:
        axis = time.axis(node.inputs[0])
        if axis is None or axis not in time.combined(node)[0]:
            time.unchanged(node)
        else:
            rule(time, node, axis)

    return stream


def elementwise(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    """Return that no axis is combined."""
    return [()]


def along_axis(default: int = 0, of_all: bool = True) -> Combines:
    """Return the rule that an operation combines elements along its attribute `axis`, `of_all` its inputs."""

    def combines(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
        axes = [as_axis(node.attributes.get("axis", default), len(inputs[0].shape))]
        return [axes] if of_all else [axes, ()]

    return combines


# Define an operation on the elements of one array.
elementwise_operation = functools.partial(
    operation, signature=like_first, widens=True, combines=elementwise, is_elementwise=True
)
