"""TensorFlow Lite files of one operator with random options, written with TensorFlow's schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

RANGES = {"INT8": (-128, 127), "UINT8": (0, 255)}


class Tensor(NamedTuple):
    """A tensor; without data, it is an input or output. Scales and zero points follow the last field."""

    shape: list[int]
    type: str = "FLOAT32"
    data: Any = None
    scale: Any = None
    zero: int = 0
    axis: int = 0
    is_variable: bool = False


def options(kind: str, **values: Any) -> Any:
    """The options of an operator, such as options("Add", fusedActivationFunction=1)."""
    found = getattr(schema, f"{kind}OptionsT")()
    for name, value in values.items():
        setattr(found, name, value)
    return found


def file(
    operator: str,
    inputs: list[Tensor | None],
    output: Tensor,
    chosen: Any = None,
    version: int = 1,
    intermediates: Sequence[Tensor] = (),
    others: Sequence[Tensor] = (),
) -> bytes:
    """A file with one operator, which may have other outputs."""
    model, graph, code, node = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    buffers, tensors = [schema.BufferT()], []
    for number, each in enumerate(x for x in (*inputs, *intermediates, output, *others) if x is not None):
        tensor, buffer = schema.TensorT(), schema.BufferT()
        tensor.shape, tensor.type, tensor.name = (
            each.shape,
            getattr(schema.TensorType, each.type),
            f"t{number}",
        )
        tensor.buffer, tensor.isVariable = len(buffers), each.is_variable
        if each.scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(np.float32(each.scale))
            tensor.quantization.zeroPoint = np.full(np.size(each.scale), each.zero, np.int64)
            tensor.quantization.quantizedDimension = each.axis
        if each.data is not None:
            buffer.data = np.frombuffer(np.ascontiguousarray(each.data).tobytes(), np.uint8)
        buffers.append(buffer)
        tensors.append(tensor)
    numbers = iter(range(len(tensors)))
    node.inputs = [-1 if x is None else next(numbers) for x in inputs]
    first = len(tensors) - 1 - len(others)
    node.outputs, node.opcodeIndex = list(range(first, len(tensors))), 0
    node.intermediates = list(range(first - len(intermediates), first))
    if chosen is not None:
        node.builtinOptions = chosen
        node.builtinOptionsType = getattr(schema.BuiltinOptions, type(chosen).__name__.removesuffix("T"))
    graph.tensors, graph.outputs, graph.operators, graph.name = tensors, node.outputs, [node], "main"
    graph.inputs = [
        number
        for number, x in zip(node.inputs, inputs, strict=True)
        if x is not None and x.data is None and not x.is_variable
    ]
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode, code.version = min(127, code.builtinCode), version
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class Case(NamedTuple):
    """The arguments of `file`."""

    operator: str
    inputs: list[Tensor | None]
    output: Tensor
    options: Any = None
    version: int = 1
    intermediates: Sequence[Tensor] = ()
    others: Sequence[Tensor] = ()


class RandomCases:
    """Draws an operator of integers or real numbers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.type = "INT8" if rng.random() < 0.75 else "UINT8"
        self.activation = int(rng.choice([0, 0, 1, 2, 3]))

    def case(self) -> Case:
        kinds = [self.function, self.arithmetic, self.product, self.convolution, self.pooling, self.reduction]
        kinds += [self.slicing, self.segments]
        return kinds[self.rng.integers(len(kinds))]()

    def size(self, low: int = 1, high: int = 9) -> int:
        return int(self.rng.integers(low, high))

    def integers(self, shape: list[int], data: bool = False, low: float = 0.002, high: float = 0.2) -> Tensor:
        """A tensor of 8 bits with a random scale and zero point."""
        least, most = RANGES[self.type]
        scale = np.float32(np.exp(self.rng.uniform(np.log(low), np.log(high))))
        numbers = self.rng.integers(least, most + 1, shape).astype(self.type.lower()) if data else None
        return Tensor(shape, self.type, numbers, scale, int(self.rng.integers(least, most + 1)))

    def weights(self, shape: list[int], axis: int = 0, count: int | None = None) -> Tensor:
        """Integer weights with one scale for each index of an axis, or `count` scales."""
        if self.type == "UINT8" and count is None:
            return self.integers(shape, True, high=0.01)
        scales = np.float32(self.rng.uniform(0.002, 0.02, count or shape[axis]))
        numbers = self.rng.integers(-127, 128, shape).astype(np.int8)
        return Tensor(shape, "INT8", numbers, scales, 0, axis)

    def count(self) -> int | None:
        """The number of scales of integer weights, if they are not one for each channel."""
        return 1 if self.type == "INT8" and self.rng.random() < 0.3 else None

    def floats(self, shape: list[int], data: bool = False) -> Tensor:
        return Tensor(shape, data=self.rng.normal(size=shape).astype(np.float32) if data else None)

    def bias(self, x: Tensor, W: Tensor, count: int) -> Tensor:
        numbers = self.rng.integers(-3000, 3000, count).astype(np.int32)
        return Tensor([count], "INT32", numbers, np.float32(x.scale) * np.float32(W.scale))

    def function(self) -> Case:
        """A function of one array."""
        shape, low = [2, self.size(), self.size(1, 30)], RANGES[self.type][0]
        name = str(
            self.rng.choice(
                [
                    "LOGISTIC",
                    "TANH",
                    "SOFTMAX",
                    "RELU",
                    "RELU6",
                    "LEAKY_RELU",
                    "QUANTIZE",
                    "DEQUANTIZE",
                    "HARD_SWISH",
                    "EXP",
                    "GELU",
                ]
            )
        )
        x, y, chosen, version = self.integers(shape), self.integers(shape), None, 1
        if name in ("LOGISTIC", "SOFTMAX"):
            y = y._replace(scale=1 / 256, zero=low)
            chosen = (
                options("Softmax", beta=float(self.rng.choice([0.5, 1, 2]))) if name == "SOFTMAX" else None
            )
        elif name == "TANH":
            y = y._replace(scale=1 / 128, zero=low + 128)
        elif name == "LEAKY_RELU":
            chosen, version = options("LeakyRelu", alpha=float(self.rng.uniform(0.01, 0.9))), 2
        elif name == "DEQUANTIZE":
            y, version = self.floats(shape), 2
        elif name == "QUANTIZE":
            x, version = (x, 2) if self.rng.random() < 0.5 else (self.floats(shape), 1)
        elif name == "HARD_SWISH":
            y, chosen = y._replace(scale=x.scale * np.float32(self.rng.uniform(0.6, 3))), options("HardSwish")
        elif name in ("EXP", "GELU"):
            signed = RandomCases(self.rng)
            signed.type = "INT8"
            x, y, version = signed.integers(shape), signed.integers(shape), 2
        return Case(name, [x], y, chosen, version)

    def arithmetic(self) -> Case:
        shape = [2, self.size(), self.size(1, 30)]
        kind = str(self.rng.choice(["Add", "Sub", "Mul"]))
        other = shape[-1:] if self.rng.random() < 0.5 else shape
        b = self.integers(other, self.rng.random() < 0.3)
        chosen = options(kind, fusedActivationFunction=self.activation)
        return Case(kind.upper(), [self.integers(shape), b], self.integers(shape, low=0.01), chosen)

    def product(self) -> Case:
        """A matrix product of integers, or of real numbers with integer weights."""
        K, units = self.size(1, 70), self.size(1, 20)
        chosen = options("FullyConnected", fusedActivationFunction=self.activation)
        if self.rng.random() < 0.4:
            W = self.weights([units, K], count=1 if self.rng.random() < 0.5 else units)
            chosen.asymmetricQuantizeInputs = bool(self.rng.random() < 0.3)
            return Case(
                "FULLY_CONNECTED",
                [self.floats([3, K]), W, self.floats([units], True)],
                self.floats([3, units]),
                chosen,
                12,
            )
        x, W = self.integers([3, K]), self.weights([units, K], count=self.count())
        y = self.integers([3, units], low=0.02, high=0.5)
        return Case("FULLY_CONNECTED", [x, W, self.bias(x, W, units)], y, chosen, 5)

    def window(self, x: list[int]) -> tuple[dict[str, int], list[int], list[int]]:
        """The options, the kernel and the output sizes of a convolution or pooling."""
        kernel, padding = [self.size(1, 4), self.size(1, 4)], self.size(0, 2)
        strides = [self.size(1, 3), self.size(1, 3)]
        out = [-(-(n - (k - 1) * padding) // s) for n, k, s in zip(x[1:3], kernel, strides, strict=True)]
        chosen = {"padding": padding, "strideH": strides[0], "strideW": strides[1]}
        return chosen | {"fusedActivationFunction": self.activation}, kernel, out

    def convolution(self) -> Case:
        """A convolution of integers, of real numbers, or of these with integer weights."""
        shape = [2 if self.rng.random() < 0.5 else 1, self.size(3), self.size(3), self.size(1, 6)]
        chosen, kernel, out = self.window(shape)
        depthwise, units = bool(self.rng.random() < 0.5), self.size(1, 7)
        if depthwise:
            multiplier = self.size(1, 3)
            units, chosen = shape[3] * multiplier, chosen | {"depthMultiplier": multiplier}
        form = str(self.rng.choice(["integer", "integer", "float", "hybrid"]))
        W_shape, axis = ([1, *kernel, units], 3) if depthwise else ([units, *kernel, shape[3]], 0)
        result = [shape[0], *out, units]
        if form == "integer":
            x, count = self.integers(shape), self.count()
            W = self.weights(W_shape, axis, count)
            inputs, y = [x, W, self.bias(x, W, units)], self.integers(result, low=0.02, high=0.5)
        else:
            W = self.floats(W_shape, True) if form == "float" else self.weights(W_shape, axis, units)
            inputs, y = [self.floats(shape), W, self.floats([units], True)], self.floats(result)
        name, kind = ("DEPTHWISE_CONV_2D", "DepthwiseConv2D") if depthwise else ("CONV_2D", "Conv2D")
        versions = {"integer": 3, "float": 1, "hybrid": 6 if depthwise else 5}
        return Case(name, inputs, y, options(kind, **chosen), versions[form])

    def pooling(self) -> Case:
        shape = [2, self.size(3), self.size(3), self.size(1, 6)]
        chosen, kernel, out = self.window(shape)
        x = self.integers(shape) if self.rng.random() < 0.7 else self.floats(shape)
        name = str(self.rng.choice(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
        chosen |= {"filterHeight": kernel[0], "filterWidth": kernel[1]}
        return Case(name, [x], x._replace(shape=[2, *out, shape[3]]), options("Pool2D", **chosen), 2)

    def reduction(self) -> Case:
        shape = [2, self.size(), self.size(1, 30)]
        axes = sorted({int(axis) for axis in self.rng.integers(0, 3, self.size(1, 3))})
        name, keeps = (
            str(self.rng.choice(["MEAN", "REDUCE_MAX", "REDUCE_MIN"])),
            bool(self.rng.random() < 0.5),
        )
        result = [1 if axis in axes else n for axis, n in enumerate(shape) if keeps or axis not in axes]
        x = self.integers(shape)
        y = self.integers(result, low=0.02, high=1) if name == "MEAN" else x._replace(shape=result)
        places = Tensor([len(axes)], "INT32", np.array(axes, np.int32))
        return Case(name, [x, places], y, options("Reducer", keepDims=keeps), 2)

    def segments(self) -> Case:
        """A reduction of the elements of each segment; some have none, and a negative one is cut off."""
        shape, depth, count = [self.size(1, 5) for _ in range(3)], self.size(1, 4), self.size(1, 6)
        numbers = self.rng.integers(-2, count, shape[:depth]).astype(np.int32)
        given = Tensor(shape[:depth], "INT32", numbers), Tensor([], "INT32", np.int32(count))
        x = Tensor(shape, str(self.rng.choice(["FLOAT32", "INT32"])))
        name = str(self.rng.choice(["PROD", "MAX", "SUM", "MIN"]))
        y = x._replace(shape=[count, *shape[depth:]])
        return Case(f"UNSORTED_SEGMENT_{name}", [x, *given], y, None, 1)

    def slicing(self) -> Case:
        """A slice of ranges, with masks, single places, new axes and an ellipsis, which is not empty."""
        shape = [self.size(2), self.size(2), self.size(2)]
        while True:
            count = self.size(1, 4)
            index = [self.place(n) for n in shape[:count]]
            if count < 3 and self.rng.random() < 0.5:
                index = [Ellipsis, *map(self.place, shape[-count:])]
            elif self.rng.random() < 0.4:
                index.insert(self.size(0, count + 1), None)
            result = np.zeros(shape)[tuple(index)].shape
            if 0 not in result:
                break
        bounds = np.array([self.bounds(each) for each in index], np.int32).T
        masks = {
            "beginMask": [isinstance(x, slice) and x.start is None for x in index],
            "endMask": [isinstance(x, slice) and x.stop is None for x in index],
            "shrinkAxisMask": [isinstance(x, int) for x in index],
            "newAxisMask": [x is None for x in index],
            "ellipsisMask": [x is Ellipsis for x in index],
        }
        numbers = {name: sum(bit << k for k, bit in enumerate(bits)) for name, bits in masks.items()}
        constants = [Tensor([len(index)], "INT32", row) for row in bounds]
        y = Tensor(list(result))
        return Case("STRIDED_SLICE", [Tensor(shape), *constants], y, options("StridedSlice", **numbers), 1)

    def place(self, n: int) -> Any:
        """A place on an axis of n elements, or a range that may begin and end beyond it."""
        if self.rng.random() < 0.25:
            return int(self.rng.integers(-n, n))
        start, stop = (
            None if self.rng.random() < 0.3 else int(self.rng.integers(-n - 3, n + 4)) for _ in range(2)
        )
        return slice(start, stop, int(self.rng.choice([1, 1, 1, 2, -1, -2])))

    def bounds(self, place: Any) -> tuple[int, int, int]:
        """The begin, the end and the stride of a place."""
        if isinstance(place, slice):
            return place.start or 0, place.stop or 0, place.step
        return (place, 0, 1) if isinstance(place, int) else (0, 0, 1)
