"""Write graphs as ONNX models: each node as the operator of its name, or as a function of Onward."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ...graph import Graph, Input, Node
from ...graph.graph import bodies
from ...graph.node import AnyArray
from ...graph.plan.planner import constants_of
from ...graph.simplification.repetitions import unrolled
from ...graph.summary import shapes_of, signatures
from . import build, messages, own_functions, write_recurrent
from .graph_writer import File, GraphWriter
from .tensors import DATA_TYPES

OPSET = 14  # the first opset with the current recurrent operators
# the opsets of newer operators, and of those with new inputs or attributes
SINCE = {
    operator: opset
    for opset, operators in {
        15: "BatchNormalization CastLike Pow Shape",
        16: "LeakyRelu PRelu Where",
        17: "BlackmanWindow HammingWindow HannWindow LayerNormalization MelWeightMatrix STFT",
        18: "BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im LpPool Mish ReduceL1 ReduceL2 "
        "ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare "
        "ScatterElements ScatterND Split",
        19: "AveragePool Cast Equal Pad Resize",
        20: "AffineGrid DFT Gelu GridSample IsInf IsNaN",
        21: "DequantizeLinear GroupNormalization QuantizeLinear",
        23: "Attention RMSNormalization RotaryEmbedding",
        24: "Swish TensorScatter",
        26: "BitCast CumProd",
        27: "CausalConvWithState LinearAttention",
    }.items()
    for operator in operators.split()
}
# by the last opset; 8 is the first with functions
IR_VERSIONS = {18: 8, 20: 9, 22: 10, 23: 11, 24: 12, 27: 13}
LAST_IR_VERSION = 14
QUANTIZATION = {"QuantizeLinear", "DequantizeLinear"}
OLDER_TYPES = {np.dtype(name) for name in ("float32", "int8", "uint8", "int32")}  # quantized before opset 19
TRUE = np.array(True)
MICROSOFT = {"DynamicQuantizeLSTM", "FusedMatMul", "QLinearGlobalAveragePool"}
FUNCTIONS = {
    operation: name for name, operation in (own_functions.OPERATIONS | own_functions.ACTIVATIONS).items()
}


def model_of(graph: Graph, metadata: Mapping[str, str]) -> messages.Model:
    """Return the model of a graph. Raises ArgumentError, which names a node that ONNX cannot express."""
    untyped = [declared.name for declared in graph.inputs if declared.dtype is None]
    if untyped:
        raise ArgumentError(f"the input {untyped[0]} is no array, so the model cannot be exported as ONNX")
    file = _File(graph)
    written = Writer(file, graph).finish()
    definitions = own_functions.definitions(file.called, file.defined)
    operators = {operator for definition in definitions for operator in own_functions.operators(definition)}
    opset = max([OPSET, graph.opset, *file.opsets, *(SINCE.get(operator, OPSET) for operator in operators)])
    imports = [messages.OperatorSetId(domain="", version=opset)]
    imports += [messages.OperatorSetId(domain=domain, version=1) for domain in sorted(file.domains)]
    return messages.Model(
        ir_version=next((ir for last, ir in IR_VERSIONS.items() if opset <= last), LAST_IR_VERSION),
        opset_import=imports,
        producer_name="onward",
        graph=written,
        metadata_props=[
            messages.StringStringEntry(key=key, value=value)
            for key, value in {**({messages.OF_LAYERS: ""} if graph.of_layers else {}), **metadata}.items()
        ],
        functions=[own_functions.function(definition, opset) for definition in definitions],
    )


class _File(File):
    """The functions, versions and names that the graphs of an exported model share."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.called: set[str] = set()  # names of Onward's functions
        self.defined: dict[str, str] = {}  # the names of further functions, by their equations
        self.function_names: set[str] = set()
        self.opsets: list[int] = []
        self.domains: set[str] = set()
        arrays = [*(declared.dtype for declared in graph.inputs), *(a.dtype for a in constants_of(graph))]
        self.has_float64 = np.dtype(np.float64) in arrays
        self.node_names: set[str] = set()


class Writer(GraphWriter):
    """Writes one graph or body with the operators of ONNX and functions of Onward."""

    _file: _File
    _outer: Writer | None

    def __init__(self, file: _File, graph: Graph, *around: Any) -> None:
        super().__init__(file, unrolled(graph), *around)
        self._signatures = signatures(self._graph)

    def declared_outputs(self) -> Sequence[Input]:
        """Return the declarations of the outputs, completed with what follows from those of the inputs."""
        names, declared = self._graph.outputs, self._graph.declared_outputs
        if not self.is_outermost:
            return super().declared_outputs()
        shapes = shapes_of(self._graph)
        found = []
        for name, output in zip(names, declared or map(Input, names), strict=True):
            inferred = tuple("" if axis == "?" else axis for axis in shapes.get(name) or ())
            axes = inferred if name in shapes and not output.axes else output.axes
            found.append(Input(output.name, output.dtype or self.dtype(name), axes))
        return found

    def write_copy(self, value: str, copy: str) -> None:
        self.node("Identity", [value], copy)

    def array(self, name: str) -> AnyArray:
        """Return a constant of the graph or of one around it. Raises ArgumentError."""
        if self._outer is not None and name in self._captured:
            return self._outer.array(self._captured[name])
        if name not in self._graph.constants:
            raise ArgumentError(f"{name} is not constant")
        return self._graph.constants[name]

    def dtype(self, name: str) -> np.dtype[Any] | None:
        """Return the dtype of a value of the graph if it is known."""
        return self._signatures[name].dtype if name in self._signatures else None

    def node(
        self,
        op_type: str,
        inputs: Sequence[Any],
        *outputs: str,
        name: str = "",
        domain: str = "",
        opset: int | None = None,
        **attributes: Any,
    ) -> str:
        """Add a node between values of the model, or arrays, and return its first output."""
        outputs = outputs or (self.new_name(op_type),)
        if domain:
            self._file.domains.add(domain)
        else:
            self._file.opsets.append(opset or SINCE.get(op_type, OPSET))
        kept = {key: value for key, value in attributes.items() if value is not None}
        name = self._file.new_name(name or f"{next(filter(None, outputs))}_{op_type}", self._file.node_names)
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        if op_type == "Loop" and not any(names[1:]):  # onnxruntime leaves out an omitted condition at the end
            names[1:] = [self.constant(TRUE)]
        while names and not names[-1]:
            names.pop()
        self.add(op_type, names, outputs, name, domain, **kept)
        return outputs[0]

    def call(
        self, function: str, inputs: Sequence[Any], *outputs: str, name: str = "", **attributes: Any
    ) -> str:
        """Add a call of one of Onward's functions."""
        self._file.called.add(function)
        return self.node(function, inputs, *outputs, name=name, domain=own_functions.DOMAIN, **attributes)

    def define(self, equations: str, name: str) -> str:
        """Define a function, unless it is defined, and return its name, or a similar one if that is taken."""
        file = self._file
        if equations not in file.defined:
            file.defined[equations] = file.new_name(name, file.function_names)
        return file.defined[equations]

    def write(self, node: Node) -> None:
        try:
            self._write(node)
        except ArgumentError as error:
            raise ArgumentError(f"{node} cannot be exported as ONNX: {error}") from error

    def _write(self, node: Node) -> None:
        inputs = [self.names[name] for name in node.inputs]
        outputs = [name and self.output(name) for name in node.outputs]
        special = SPECIAL.get(node.operation)
        if special is not None and special(self, node, inputs, outputs):
            return
        attributes = {key: self._attribute(value) for key, value in node.attributes.items()}
        if bodies(node):
            attributes.pop("captured", None)
            attributes |= self.written_bodies(node, inputs, next(filter(None, outputs)))
            inputs = inputs[: len(inputs) - node.captured]
        if bodies(node) or node.operation == "Split":  # onnxruntime crashes without names
            outputs = [name or self.new_name("unused") for name in outputs]
        if self._loses_digits(node) and all(inputs):
            self._call_exactly(node, attributes, inputs, outputs)
            return
        domain = "com.microsoft" if node.operation in MICROSOFT else ""
        opset = OPSET if self._is_plain_quantization(node) else None
        self.node(node.operation, inputs, *outputs, name=node.name, domain=domain, opset=opset, **attributes)

    def _is_plain_quantization(self, node: Node) -> bool:
        """Whether a node quantizes as it could before opset 19: onnxruntime fails to optimize later ones."""
        is_plain = node.operation in QUANTIZATION and node.attributes.keys() <= {"axis"}
        typed = node.inputs[1:] if len(node.inputs) > 2 else node.inputs  # the zero point has the dtype, too
        return is_plain and {self.dtype(name) for name in typed} <= OLDER_TYPES

    def _loses_digits(self, node: Node) -> bool:
        """Whether a node computes in float64, with numbers that attributes round to float32."""
        if node.operation not in own_functions.EXACT or all(map(build.is_float32, node.attributes.values())):
            return False
        dtype = self.dtype(node.inputs[0])
        return self._file.has_float64 if dtype is None else dtype == np.float64

    def _call_exactly(
        self, node: Node, attributes: dict[str, Any], inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        """Write a node as a function: other runtimes run its operator, and Onward reads all digits."""
        x, y = (", ".join(f"{a}{i}" for i in range(len(each))) for a, each in (("x", inputs), ("y", outputs)))
        options = ", ".join(f"{key}={value!r}" for key, value in attributes.items())
        called = f"{y} = {node.operation}({x}, {options})"
        equations = f"def function({x}):\n    {called}\n    return {y}"
        function = self.define(equations, f"exact_{node.operation}")
        exact = {"operation": node.operation, "attributes": json.dumps(attributes)}
        self.call(function, inputs, *outputs, name=node.name, **exact)

    def _attribute(self, value: Any) -> Any:
        if isinstance(value, np.dtype):
            return int(DATA_TYPES[value.name])
        return value.item() if isinstance(value, np.generic) else value


# Writes a node with these inputs and outputs of the model, and returns whether it did.
Special = Callable[[Writer, Node, list[str], list[str]], bool]


def _function(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    """Write a call of one of Onward's functions; the numbers of activation functions are inputs."""
    numbers = [node.attributes[key] for key in ("alpha", "beta") if key in node.attributes]
    if node.operation == "Swish":
        if numbers not in ([], [1]):
            return False
        numbers = []
    dtype = writer.dtype(node.inputs[0]) if numbers else None
    constants = [writer.constant(np.array(number, dtype or np.float32)) for number in numbers]
    writer.call(FUNCTIONS[node.operation], [*inputs, *constants], *outputs, name=node.name)
    return True


def _mod(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    """Write the remainder of floats with the sign of the divisor as a function."""
    dtype = writer.dtype(node.inputs[0])
    if node.attributes.get("fmod") or dtype is None or dtype.kind != "f":
        return False
    return _function(writer, node, inputs, outputs)


def _product(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    """A matrix product; its bias is added by a second node."""
    if len(inputs) < 3:
        return False
    product = writer.node("MatMul", inputs[:2], name=node.name)
    writer.node("Add", [product, inputs[2]], *outputs)
    return True


def _recurrent(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    lengths = (*node.inputs, "")[1]
    if lengths and writer.dtype(lengths) != np.int32:
        inputs[1] = writer.node("Cast", [inputs[1]], to=int(messages.DataType.INT32))
    reverse = bool(node.attributes.get("reverse"))
    write_recurrent.write(writer, node.attributes["cell"], reverse, inputs, outputs, node.name)
    return True


def _masked_recurrent(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    write_recurrent.write_masked(writer, node.attributes["cell"], inputs, outputs)
    return True


def _step(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    """Write a step of a cell as a sequence of one step of all rows."""
    cell = node.attributes["cell"]
    leading = writer.node("Shape", inputs[:1], end=-1)
    x = writer.node("Reshape", [inputs[0], [1, -1, cell.input_size]])
    shape = writer.node("Concat", [leading, [cell.hidden_size]], axis=0)
    expanded = [writer.node("Expand", [state, shape]) for state in inputs[1:]]
    states = [writer.node("Reshape", [state, [1, -1, cell.hidden_size]]) for state in expanded]
    final = [output and writer.new_name(f"{output}_rows") for output in outputs]
    write_recurrent.write(writer, cell, False, [x, "", *states], ["", *final], node.name)
    for row, output in zip(final, outputs, strict=True):
        if output:
            writer.node("Reshape", [row, shape], output, allowzero=1)
    return True


def _last_step(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    """The last step of all rows, or of each row by its length, as a function of y (B, T, ...)."""
    axis = node.attributes.get("axis", 1)
    if not any(inputs[1:]):
        writer.node("Gather", [inputs[0], -1], *outputs, name=node.name, axis=axis)
        return True
    rows = inputs[0] if axis else writer.node("Transpose", inputs[:1], perm=[1, 0, 2])
    writer.call(FUNCTIONS[node.operation], [rows, inputs[1]], *outputs, name=node.name)
    return True


def _top(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    """Name both outputs of TopK, which ONNX does not let a node omit; the writer adds the node."""
    outputs[:] = [output or writer.new_name("unused") for output in outputs]
    return False


def _quantized(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    """A product with a matrix in float16, which is widened, or in int8, as a function."""
    x, W, scale, bias = (*inputs, "", "")[:4]
    if scale:
        no_bias = np.zeros_like(writer.array(node.inputs[2]))
        values = [x, W, scale, bias or no_bias]
        writer.call(FUNCTIONS[node.operation], values, *outputs, name=node.name, **node.attributes)
        return True
    W = writer.node("Cast", [W], to=int(messages.DataType.FLOAT))
    if node.operation == "QuantizedConv":
        inputs = [x, W, bias] if bias else [x, W]
        writer.node("Conv", inputs, *outputs, name=node.name, **node.attributes)
        return True
    product = [x, writer.node("Transpose", [W], perm=[1, 0])]
    if bias:
        return _product(writer, node, [*product, bias], outputs)
    writer.node("MatMul", product, *outputs, name=node.name)
    return True


def _conv_integer(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    """Write the bias of a convolution of integers, which ONNX's operator does not have, as a sum."""
    if len(inputs) < 5 or not inputs[4]:
        return False
    sums = writer.node("ConvInteger", inputs[:4], name=node.name, **node.attributes)
    axes = len(node.attributes.get("strides") or node.attributes["kernel_shape"])
    shape = writer.constant(np.array([-1, *[1] * axes]))
    writer.node("Add", [sums, writer.node("Reshape", [inputs[4], shape])], *outputs)
    return True


def _resize(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    """Write the steps of PyTorch's coordinates as ONNX's scales: a few nearest elements may differ."""
    attributes = {name: value for name, value in node.attributes.items() if name != "steps"}
    writer.node("Resize", inputs, *outputs, name=node.name, **attributes)
    return True


def _python(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    raise ArgumentError("it runs a Python function")


def _check(writer: Writer, node: Node, inputs: list[str], outputs: list[str]) -> bool:
    """Write nothing: ONNX has no operator that raises an error."""
    return True


SPECIAL: dict[str, Special] = {
    "Check": _check,
    **dict.fromkeys(FUNCTIONS, _function),
    "LastStep": _last_step,
    "MatMul": _product,
    "ConvInteger": _conv_integer,
    "Mod": _mod,
    "QuantizedConv": _quantized,
    "QuantizedMatMul": _quantized,
    "Recurrent": _recurrent,
    "MaskedRecurrent": _masked_recurrent,
    "Step": _step,
    "TopK": _top,
    "Resize": _resize,
    "Python": _python,
}
