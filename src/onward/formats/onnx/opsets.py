"""Translate calls of ONNX operators, of any opset, to the operations of graphs.

The operations have the inputs and attributes of opset 22. A rule rewrites a call whose operator was different
before some opset; most rules turn an attribute into an input.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ArgumentError, OnwardError
from ...graph.node import AnyArray
from ...graph.operations import OPERATIONS
from ...graph.operations.modules import MODULES
from ...graph.operations.recurrent import check_options
from ...graph.writer import Recorder
from . import messages, microsoft

if TYPE_CHECKING:
    from .translate import Scope

# operators of ONNX Runtime's domain that are operations of graphs
MICROSOFT = {
    *("DynamicQuantizeLSTM", "FusedMatMul", "Gelu", "LayerNormalization", "QLinearGlobalAveragePool"),
    *microsoft.OPERATORS,
}
# The operations of graphs that are no operators of files; simplification and streams create them.
INTERNAL = frozenset(
    "Activate Align BroadcastRest Check Continue FinalState Gradient LastStep MaskedRecurrent MaskedSteps "
    "OverWindows PadEnd PadStart Python QuantizedConv QuantizedMatMul Recorded Recurrent RecurrentGradient "
    "RunningSum Skip Standardize Step Steps SumPool WeightedRecurrent".split()
)
# inputs that were attributes before an opset, from the second input on
ONCE_ATTRIBUTES: list[tuple[Any, ...]] = [
    (5, ["shape"], "Reshape"),
    (9, ["scales"], "Upsample"),
    (10, ["starts", "ends", "axes"], "Slice"),
    (10, ["k"], "TopK"),
    (11, ["pads", "value"], "Pad"),
    (13, ["split"], "Split"),
    (13, ["axes"], "ReduceSum", "Squeeze", "Unsqueeze"),
    (18, ["axes"], "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax"),
    (18, ["axes"], "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare"),
]
FLOATS = {"max", "min", "scales", "value"}  # attributes of numbers that are not integers
UNUSED = {"consumed_inputs", "is_test", "momentum", "output_sequence", "stash_type"}


class Call(Recorder):
    """A call of an operator while rules rewrite it; they may add nodes in front of it."""

    def __init__(
        self, scope: Scope, node: messages.Node, version: int, inputs: list[str], attributes: dict[str, Any]
    ) -> None:
        super().__init__(scope.graph, label=(node.name or next(iter(node.output), ""), node.op_type))
        self.scope, self.node, self.version = scope, node, version
        self.operation, self.inputs, self.attributes = node.op_type, inputs, attributes
        self.defined: dict[int, str] = {}  # the last outputs, by place, of other nodes

    def become(self, operation: str, *inputs: str, **attributes: Any) -> None:
        """Call another operation, whose outputs are the first ones of the node."""
        self.operation, self.inputs, self.attributes = operation, list(inputs), attributes

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """Add a constant to the graph."""
        return self.graph.add_constant(np.asarray(value, dtype))

    def softmax_of_rows(self, operation: str, x: str, axis: int) -> str:
        """Apply a softmax over the axes from `axis` on, joined as one."""
        shape = self.add("Shape", x)
        y = self.add(operation, self.add("Flatten", x, axis=axis), axis=-1)
        return self.add("Reshape", y, shape)

    def attributes_to_inputs(self, *names: str) -> None:
        """Turn attributes into the inputs after the first."""
        for place, name in enumerate(names, start=1):
            if (value := self.attributes.pop(name, None)) is not None:
                self.inputs += [""] * (place + 1 - len(self.inputs))
                self.inputs[place] = self.constant(value, self._dtype(name))

    def _dtype(self, name: str) -> Any:
        """Return the dtype of an attribute as an input: bounds and padding have that of x."""
        if name not in FLOATS:
            return np.int64
        declared = None if name == "scales" else self.scope.declared(self.node.input[0])
        return np.float32 if declared is None or declared.dtype is None else declared.dtype


Rule = Callable[[Call], None]
RULES: dict[str, list[tuple[int, Rule]]] = {}
EVER = 1 << 30


def rule(*operators: str, before: int = EVER) -> Callable[[Rule], Rule]:
    """Register a rule for calls of operators before an opset."""

    def register(function: Rule) -> Rule:
        for operator in operators:
            RULES.setdefault(operator, []).append((before, function))
        return function

    return register


@cache
def is_current(operator: str, version: int) -> bool:
    """Whether calls of an operator of ONNX in an opset are calls of an operation of graphs as they are."""
    rules = RULES.get(operator, ())
    return operator in MODULES and operator not in INTERNAL and all(version >= rule[0] for rule in rules)


def normalize(call: Call, domain: str) -> Call | None:
    """Rewrite a call as one of an operation of graphs, or return None if none matches the operator.

    Raises ArgumentError for inputs and attributes that the operator does not have.
    """
    operator = call.operation
    is_microsoft = domain == "com.microsoft" and operator in MICROSOFT
    if not is_microsoft and (domain or operator in INTERNAL):
        return None
    call.attributes = {**call.attributes}
    for name in UNUSED.intersection(call.attributes):
        del call.attributes[name]
    if domain:  # opsets are those of ONNX
        call.version = EVER - 1
    for before, rewrite in RULES.get(operator, ()):
        if call.version < before:
            try:
                rewrite(call)
            except OnwardError:
                raise
            except (LookupError, TypeError, ValueError) as error:
                raise ArgumentError(f"the inputs or attributes do not fit {operator}: {error}") from error
    if call.operation not in OPERATIONS and call.operation != "Constant":
        return None
    return call


@rule(*microsoft.OPERATORS)
def _microsoft(call: Call) -> None:
    microsoft.OPERATORS[call.operation](call, *call.inputs, **call.attributes)


@rule("Constant")
def _constant(call: Call) -> None:
    """The attribute tells the dtype."""
    (name, value), *others = call.attributes.items()
    if others:
        raise ArgumentError(f"has the values {', '.join(call.attributes)}, but takes one")
    dtype: Any = {"value_i": np.int64, "value_f": np.float32}.get(name[:7], object)
    call.attributes = {"value": value if name in ("value", "sparse_value") else np.asarray(value, dtype)}


@rule("If", "Loop", "Scan", "SequenceMap")
def _control(call: Call) -> None:
    if call.operation == "Scan" and call.version < 9:
        raise ArgumentError("Scan of opset 8 is not supported: convert the file to a newer opset")


@rule("RNN", "GRU", "LSTM")
def _recurrent(call: Call) -> None:
    OPERATIONS[call.operation].check_attributes(call.attributes)
    check_options(call.operation, call.attributes)


@rule("Softmax", "LogSoftmax", "Hardmax", before=13)
def _softmax(call: Call) -> None:
    """These joined the axis and all axes after it."""
    axis, rank = call.attributes.get("axis", 1), call.scope.rank(call.node.input[0])
    if rank is not None and axis in (rank - 1, -1):
        call.attributes["axis"] = -1
        return
    call.become("Identity", call.softmax_of_rows(call.operation, call.inputs[0], axis))


@rule("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", "PRelu", before=7)
def _aligned(call: Call) -> None:
    """B could say at which axis of A it begins."""
    axis, broadcast = call.attributes.pop("axis", None), call.attributes.pop("broadcast", 0)
    if call.operation == "PRelu" or (axis is not None and broadcast):
        function = (
            _prelu_of_channels if call.operation == "PRelu" else partial(_at_axis, call.operation, axis)
        )
        call.operation, call.attributes = "Python", {"function": function}


def _at_axis(operation: str, axis: int, A: AnyArray, B: AnyArray) -> Any:
    meets = A.shape[axis : axis + B.ndim] if axis >= 0 else ()
    if len(meets) != B.ndim or any(n not in (1, m) for n, m in zip(B.shape, meets, strict=True)):
        raise ArgumentError(f"B has shape {B.shape}, which does not fit A {A.shape} at axis={axis}")
    B = B.reshape(*B.shape, *[1] * (A.ndim - axis - B.ndim))
    return OPERATIONS[operation].compute([A, B], {})


def _prelu_of_channels(X: AnyArray, slope: AnyArray) -> Any:
    slopes = slope.reshape(() if slope.size == 1 else (-1, *[1] * (X.ndim - 2)))
    return np.where(X < 0, slopes * X, X)


@rule("MatMul", "FusedMatMul")
def _product(call: Call) -> None:
    """The operations of graphs also take a bias."""
    if len(call.inputs) != 2:
        raise ArgumentError(f"has {len(call.inputs)} inputs; expected 2")


@rule("Gemm", before=7)
def _gemm(call: Call) -> None:
    call.attributes.pop("broadcast", None)  # later versions broadcast whatever C is


@rule("Dropout")
def _dropout(call: Call) -> None:
    """Keep only the input; a mask remains possible."""
    call.attributes.pop("ratio", None)
    call.attributes.pop("seed", None)
    if len(call.inputs) < 3:  # else the third input may ask for training
        call.inputs = call.inputs[:1]


@rule("Pad", before=11)
def _pad(call: Call) -> None:
    if "paddings" in call.attributes:
        call.attributes["pads"] = call.attributes.pop("paddings")
    if not call.attributes.get("value", 0.0):
        call.attributes.pop("value", None)


@rule("Clip", before=11)
def _clip(call: Call) -> None:
    """Absent bounds are the least and the largest float32, so that infinities become finite."""
    limit = float(np.finfo(np.float32).max)
    call.attributes = {"min": -limit, "max": limit, **call.attributes}
    with np.errstate(over="ignore"):  # infinite in float16
        call.attributes_to_inputs("min", "max")


@rule("TopK", before=10)
def _top_k(call: Call) -> None:
    call.attributes["k"] = [call.attributes["k"]]


for _before, _names, *_operators in ONCE_ATTRIBUTES:
    rule(*_operators, before=_before)(methodcaller("attributes_to_inputs", *_names))


@rule("Split")
def _split_evenly(call: Call) -> None:
    if len(call.inputs) < 2 or not call.inputs[1]:
        count = len(call.node.output)
        if call.attributes.setdefault("num_outputs", count) != count:
            raise ArgumentError(
                f"num_outputs={call.attributes['num_outputs']}, but the node has {count} outputs"
            )


@rule("DFT", before=20)
def _dft(call: Call) -> None:
    call.attributes.setdefault("axis", 1)
    call.attributes_to_inputs("", "axis")


@rule("Cast", "BitCast")
def _cast(call: Call) -> None:
    """The type is a number, or before opset 6 its name."""
    to = call.attributes["to"]
    number = messages.DataType[to] if isinstance(to, str) else to
    call.attributes["to"] = call.scope.dtype(number)


@rule(
    *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
    *("EyeLike", "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix"),
    *("QuantizeLinear", "DequantizeLinear", "Attention", "SequenceEmpty"),
)
def _dtype_attribute(call: Call) -> None:
    for name in ("dtype", "output_datatype", "output_dtype", "precision", "softmax_precision"):
        if call.attributes.get(name):
            call.attributes[name] = call.scope.dtype(call.attributes[name])
        else:
            call.attributes.pop(name, None)


@rule("GridSample", before=20)
def _grid_sample(call: Call) -> None:
    mode = call.attributes.get("mode", "bilinear")
    call.attributes["mode"] = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)


@rule("Upsample")
@rule("Resize", before=11)
def _resize(call: Call) -> None:
    """Opset 10 takes the next element along axes that shrink, and the previous one along others."""
    (x, scales), is_nearest = call.inputs, call.attributes.get("mode", "nearest") == "nearest"
    call.attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if is_nearest and call.operation == "Resize":
        known, one = call.scope.constant(call.node.input[1]), call.constant(1, np.float32)
        if known is None or (known < 1).any():
            shrinking = call.attributes | {"nearest_mode": "ceil"}
            x = call.add("Resize", x, "", call.add("Min", scales, one), **shrinking)
            scales = call.add("Max", scales, one)
    call.operation, call.inputs = "Resize", [x, "", scales]


@rule("Scatter")
def _scatter(call: Call) -> None:
    call.operation = "ScatterElements"


@rule("BatchNormalization", before=9)
def _batch_norm(call: Call) -> None:
    if not call.attributes.pop("spatial", 1):
        raise ArgumentError("statistics of every position (spatial=0) are not supported: convert the file")


@rule("GroupNormalization", before=21)
def _group_norm(call: Call) -> None:
    """Scale and bias were of groups."""
    attributes = {"num_groups": call.attributes.pop("num_groups"), "epsilon": 1e-5} | call.attributes
    OPERATIONS[call.operation].check_attributes(attributes)
    call.operation, call.attributes = "Python", {"function": partial(_scale_groups, attributes)}


def _scale_groups(attributes: dict[str, Any], X: AnyArray, scale: AnyArray, bias: AnyArray) -> Any:
    repeats = X.shape[1] // attributes["num_groups"]
    inputs = [X, scale.repeat(repeats), bias.repeat(repeats)]
    return OPERATIONS["GroupNormalization"].compute(inputs, attributes)


@rule("RoiAlign", before=16)
def _roi_align(call: Call) -> None:
    raise ArgumentError("is of an opset before 16, whose samples lie elsewhere: convert the file")


@rule("Optional")
def _optional(call: Call) -> None:
    call.attributes.pop("type", None)
