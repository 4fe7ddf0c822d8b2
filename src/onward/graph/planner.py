"""Plan a graph for each signature of its inputs, and run the plans.

The planner runs the graph once in NumPy, on the inputs of the first call. This determines every shape,
the values that are the same in every call with this signature, and the branch of each If. All other
nodes become steps of the core. Nodes that the core does not support run in NumPy, between the steps.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..errors import ArgumentError
from .builder import Builder, Bytes, Weights, aligned_zeros
from .node import AnyArray, Node
from .operations import LOWERINGS, Value
from .view import DTYPES, View

MAX_PLANS = 8  # the most recent signatures
MAX_ARENA_SIZE = 1 << 30  # bytes

# Operations whose output shapes depend only on the shapes and the known values of the inputs.
FIXED_SHAPE = frozenset(
    """
    Abs Acos Acosh Activation Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool
    BatchNormalization Cast Ceil Clip Concat Conv ConvInteger ConvTranspose Cos Cosh CumSum
    DequantizeLinear Div Dropout DynamicQuantizeLSTM DynamicQuantizeLinear Einsum Equal Erf Exp
    Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool GlobalMaxPool Greater
    GreaterOrEqual GroupNormalization Hardmax Identity InstanceNormalization IsInf IsNaN LSTM
    LayerNormalization Less LessOrEqual Log LogSoftmax LpNormalization MatMul MatMulInteger Max
    MaxPool Mean Min Mod Mul Neg Not Or PRelu Pow QLinearConv QLinearMatMul QuantizeLinear RNN
    Reciprocal ReverseSequence Round ScatterElements ScatterND Sign Sin Sinh Softmax Sqrt Sub Sum
    Tan Transpose Trilu Where Xor
    """.split()
)
# Operations for which this holds if all inputs except the first are known.
FIXED_SHAPE_IF_KNOWN = frozenset(
    """
    DepthToSpace Expand OneHot Pad ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Reshape Resize Slice SpaceToDepth
    Split Squeeze Tile TopK Unsqueeze Upsample
    """.split()
)
SHAPE_QUERIES = {"Shape", "Size"}  # read only the shape of their input


class CannotPlan(Exception):
    """Raised for a graph that cannot be planned and therefore runs node by node."""


class Location(NamedTuple):
    """Where a call finds a value: in a space of the plan (view) or in a named NumPy array (name)."""

    view: View | None
    name: str


@dataclass(frozen=True)
class NumPyNode:
    """A node that runs in NumPy. Each input is a constant array or a location, or None if omitted."""

    node: Node
    inputs: list[Any]
    outputs: list[Location]


class Plan:
    """A graph planned for one signature of its inputs."""

    def __init__(
        self,
        nodes: Sequence[Node],
        known: Mapping[str, Any],
        feed: Mapping[str, Any],
        outputs: Sequence[str],
        weights: Weights,
    ) -> None:
        self._values: dict[str, Value | None] = {
            name: Value(array, True, None) for name, array in known.items()
        }
        self._values[""] = None
        self._builder = Builder(weights)
        self._inputs = tuple(feed)
        self._arguments: list[str] = []  # the inputs that the core reads
        for name, array in feed.items():
            view = None
            if array.dtype.name in DTYPES and not _is_parameter(array):
                view = self._builder.new_argument(*array.shape, dtype=array.dtype.name)
                self._arguments.append(name)
            self._values[name] = Value(array, _is_parameter(array), view, name)
        self._uses = Counter([*outputs, *_names(nodes)])
        self._segments: list[tuple[int, int] | NumPyNode] = []
        self._trace(nodes)
        self._finish(outputs)

    def _trace(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            inputs = [self._values[name] for name in node.inputs]
            if node.branches and all(value is None or value.known for value in inputs):
                self._trace_branch(node, inputs)
            elif node.operation in SHAPE_QUERIES or (
                node.is_pure and not node.branches and all(value is None or value.known for value in inputs)
            ):
                results = _run(node, inputs)
                self._define(node, [Value(array, True, None) for array in results])
            else:
                self._add_node(node, inputs)

    def _trace_branch(self, node: Node, inputs: list[Value | None]) -> None:
        assert inputs[0] is not None
        nodes, outputs = node.branches[0 if bool(np.all(inputs[0].array)) else 1]
        self._trace(nodes)
        for name, result in zip(node.outputs, outputs, strict=True):
            self._values[name] = self._values[result]

    def _add_node(self, node: Node, inputs: list[Value | None]) -> None:
        fixed = node.operation in FIXED_SHAPE or (
            node.operation in FIXED_SHAPE_IF_KNOWN
            and all(value is None or value.known for value in inputs[1:])
        )
        if not fixed or node.branches or not node.is_pure:
            raise CannotPlan(f"the output shapes of {node.name} ({node.operation}) vary between calls")
        results = _run(node, inputs)
        if any(array.size == 0 for array in results):
            raise CannotPlan(f"{node.name} ({node.operation}) has an empty output")
        views, before = None, len(self._builder.steps)
        if all(array.dtype.name in DTYPES for array in results) and node.operation in LOWERINGS:
            views = LOWERINGS[node.operation](self._builder, node, inputs, [a.shape for a in results])
            if views is None or any(v.dtype != a.dtype for v, a in zip(views, results, strict=False)):
                views = None
                del self._builder.steps[before:]
        if views is None:
            self._run_in_numpy(node, inputs, results)
        else:
            # A view of an input's memory counts as used once only if the input is also used once.
            is_new = len(self._builder.steps) > before
            alone = is_new or all(value is None or value.known or value.used_once for value in inputs)
            values = [Value(array, False, view) for array, view in zip(results, views, strict=False)]
            self._define(node, values, alone)

    def _run_in_numpy(self, node: Node, inputs: list[Value | None], results: list[AnyArray]) -> None:
        """Run a node in NumPy and copy its outputs into the arena if the core has their dtype."""
        self._end_segment()
        sources = [
            None if value is None else value.array if value.known else Location(value.view, value.name)
            for value in inputs
        ]
        views = [
            self._builder.new(*a.shape, dtype=a.dtype.name) if a.dtype.name in DTYPES else None
            for a in results
        ]
        targets = [Location(view, name) for view, name in zip(views, node.outputs, strict=False)]
        self._segments.append(NumPyNode(node, sources, targets))
        self._define(node, [Value(a, False, view) for a, view in zip(results, views, strict=True)])

    def _define(self, node: Node, values: list[Value], alone: bool = True) -> None:
        for name, value in zip(node.outputs, values, strict=False):
            if name:
                self._values[name] = value._replace(name=name, used_once=alone and self._uses[name] == 1)

    def _end_segment(self) -> None:
        steps = len(self._builder.steps)
        if steps > self._builder.segment_start:
            self._segments.append((self._builder.segment_start, steps))
        self._builder.segment_start = steps

    def _finish(self, outputs: Sequence[str]) -> None:
        """Copy each output to an array of its own, and build the core's plan."""
        self._outputs: list[Any] = []  # an array, a name, or None if the core fills it
        self._filled: list[tuple[tuple[int, ...], Any]] = []  # shapes and dtypes of the outputs it fills
        for name in outputs:
            value = self._values[name]
            assert value is not None
            if value.known:
                self._outputs.append(value.array)
            elif value.view is None:
                self._outputs.append(value.name)
            else:
                shape, dtype = value.array.shape, value.array.dtype
                self._builder.add("copy", value.view, self._builder.new_argument(*shape, dtype=dtype.name))
                self._filled.append((shape, dtype))
                self._outputs.append(None)
        self._end_segment()
        only_steps = not any(isinstance(segment, NumPyNode) for segment in self._segments)
        self._core, self._constants = self._builder.build(optimize=only_steps)
        if only_steps:
            self._segments = [(0, len(self._core))]
        self._arena_size = self._builder.arena_size
        if self._arena_size > MAX_ARENA_SIZE:
            raise CannotPlan(f"its values need more than {MAX_ARENA_SIZE} bytes")
        self._arenas: list[Bytes] = []
        self.entry = self._entry()
        del self._builder, self._values, self._uses  # they hold the arrays of the first call

    def _entry(self) -> Any:
        """Return what the core's Plans needs to run the plan, or None if the plan needs Python."""
        if self._segments != [(0, len(self._core))] or len(self._filled) < len(self._outputs):
            return None
        inputs = []
        for name in self._inputs:
            value = self._values[name]
            assert value is not None
            if value.array.dtype.name not in DTYPES:
                return None
            data = value.array.tobytes() if value.known else None
            inputs.append((value.array.dtype.name, value.array.shape, data))
        return self._core, self._constants, inputs, self._filled

    def __call__(self, feed: Mapping[str, Any]) -> list[Any]:
        """Run the plan on inputs with its signature and return the outputs."""
        try:
            arena = self._arenas.pop()  # concurrent calls need separate arenas
        except IndexError:
            arena = aligned_zeros(self._arena_size)
        arrays = [arena, self._constants]
        for name in self._arguments:
            array = feed[name]
            arrays.append(array if array.flags.c_contiguous else np.ascontiguousarray(array))
        results = [np.empty(shape, dtype) for shape, dtype in self._filled]
        arrays += results
        computed: dict[str, Any] = {}
        try:
            for segment in self._segments:
                if isinstance(segment, NumPyNode):
                    _run_numpy_node(segment, arrays, computed, feed)
                else:
                    self._core.run(arrays, *segment)
        except IndexError as error:  # a step met an index out of range
            raise ArgumentError(str(error)) from None
        self._arenas.append(arena)
        if len(results) == len(self._outputs):
            return results
        filled = iter(results)
        return [
            next(filled) if o is None else computed.get(o, feed.get(o)) if isinstance(o, str) else o.copy()
            for o in self._outputs
        ]


def _run_numpy_node(
    step: NumPyNode, arrays: list[Any], computed: dict[str, Any], feed: Mapping[str, Any]
) -> None:
    inputs = []
    for source in step.inputs:
        if not isinstance(source, Location):
            inputs.append(source)
        elif source.view is None:
            inputs.append(computed[source.name] if source.name in computed else feed[source.name])
        else:
            inputs.append(_array_at(source.view, arrays))
    results = step.node.run(*inputs)
    for target, array in zip(step.outputs, results, strict=False):
        if target.view is None:
            computed[target.name] = array
        else:
            _array_at(target.view, arrays)[...] = array


def _array_at(view: View, arrays: Sequence[AnyArray]) -> AnyArray:
    """Return the elements of a view as an array that shares their memory."""
    size = np.dtype(view.dtype).itemsize
    strides = [size * stride for stride in view.strides]
    return np.ndarray(view.shape, view.dtype, arrays[view.space], size * view.offset, strides)


def _names(nodes: Sequence[Node]) -> Iterator[str]:
    """Yield the name of each input of the nodes and their branches, once for each use."""
    for node in nodes:
        yield from node.inputs
        for branch, outputs in node.branches:
            yield from outputs
            yield from _names(branch)


def _run(node: Node, inputs: Sequence[Value | None]) -> list[AnyArray]:
    results = node.run(*(None if value is None else value.array for value in inputs))
    if not all(isinstance(array, np.ndarray | np.generic) for array in results):
        raise CannotPlan(f"{node.name} ({node.operation}) does not return arrays")
    return [np.asarray(array) for array in results]


def _is_parameter(array: AnyArray) -> bool:
    """Whether an input is a scalar that a plan may depend on, such as a sampling rate."""
    return array.ndim == 0 and array.dtype.kind in "iub"


class Planner:
    """Plans a graph for each signature of its inputs and keeps the most recent plans.

    `known` holds the values that never change, by name.
    """

    def __init__(
        self, nodes: Sequence[Node], known: Mapping[str, Any], inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        self._nodes, self._known, self._inputs, self._outputs = nodes, known, inputs, outputs
        self._weights = Weights(frozenset(map(id, known.values())))
        self._plans: OrderedDict[Any, Plan | None] = OrderedDict()
        self._lock = threading.Lock()
        self._ready = _core.Plans(self._inputs, [])

    def run(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[Any, ...] | None:
        """Run the plan for these inputs and return its outputs.

        Returns None if there is no such plan yet, or if it has steps in NumPy.
        """
        try:
            return self._ready(args, inputs)
        except IndexError as error:  # a step met an index out of range
            raise ArgumentError(str(error)) from None

    def find(self, feed: Mapping[str, Any]) -> Plan | None:
        """Return the existing plan for the signature of these inputs, or None."""
        return self._plans.get(self._signature(feed))

    def plan(self, feed: Mapping[str, Any]) -> Plan | None:
        """Return the plan for the signature of these inputs, or None if the graph cannot be planned."""
        signature = self._signature(feed)
        if signature is None:
            return None
        with self._lock:
            if signature not in self._plans:
                try:
                    self._plans[signature] = Plan(
                        self._nodes, self._known, feed, self._outputs, self._weights
                    )
                except CannotPlan:
                    self._plans[signature] = None
                if len(self._plans) > MAX_PLANS:
                    self._plans.popitem(last=False)
                entries = [plan.entry for plan in self._plans.values() if plan is not None and plan.entry]
                self._ready = _core.Plans(self._inputs, entries)
            return self._plans.get(signature)

    def _signature(self, feed: Mapping[str, Any]) -> Any:
        """Return shapes, dtypes and the values of integer and boolean scalars, or None for other inputs."""
        if len(feed) != len(self._inputs):
            return None
        signature = []
        for name in self._inputs:
            array = feed.get(name)
            if type(array) is not np.ndarray or not array.dtype.isnative:
                return None
            shape, dtype = array.shape, array.dtype
            signature.append((shape, dtype.num, array.item() if not shape and dtype.kind in "iub" else None))
        return tuple(signature)
