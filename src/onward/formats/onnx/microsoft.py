"""ONNX Runtime's own operators, written with those of ONNX.

Each function takes the call, its inputs ("" if omitted) and its attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .opsets import Call

Rewrite = Callable[..., None]
OPERATORS: dict[str, Rewrite] = {}
FLOAT32 = np.dtype(np.float32)
PARAMETERS = {"Elu": ["alpha"], "HardSigmoid": ["alpha", "beta"], "LeakyRelu": ["alpha"]}  # of activations
# the number of arrays of the operations that ONNX Runtime also has for quantized arrays
QLINEAR = {"Add": 2, "AveragePool": 1, "LeakyRelu": 1, "Mul": 2, "Sigmoid": 1, "Softmax": 1}


def operator(name: str) -> Callable[[Rewrite], Rewrite]:
    """Register a function that rewrites the calls of an operator."""
    return lambda function: OPERATORS.setdefault(name, function)


def _sum(call: Call, total: str, *terms: str) -> str:
    """Add the terms that are not omitted."""
    return reduce(lambda total, term: call.add("Add", total, term), filter(None, terms), total)


def _padded(inputs: Sequence[str], least: int, most: int) -> Sequence[str]:
    """The inputs, with "" for those omitted at the end."""
    if not least <= len(inputs) <= most:
        raise ValueError(f"got {len(inputs)} inputs; expected {least} to {most}")
    return *inputs, *[""] * (most - len(inputs))


@operator("BiasGelu")
def bias_gelu(call: Call, x: str, bias: str) -> None:
    call.become("Gelu", call.add("Add", x, bias))


@operator("FastGelu")
def fast_gelu(call: Call, x: str, bias: str = "") -> None:
    call.become("Gelu", _sum(call, x, bias), approximate="tanh")


@operator("QuickGelu")
def quick_gelu(call: Call, x: str, *, alpha: float = 1.702) -> None:
    call.become("Swish", x, alpha=alpha)


@operator("SimplifiedLayerNormalization")
def simplified_layer_normalization(call: Call, x: str, scale: str, **attributes: Any) -> None:
    call.become("RMSNormalization", x, scale, **attributes)


@operator("SkipLayerNormalization")
def skip_layer_normalization(
    call: Call, x: str, skip: str, gamma: str, beta: str = "", bias: str = "", *, epsilon: float = 1e-12
) -> None:
    """Layer normalization of the sum of the input, the skip connection and the bias: the fourth output."""
    call.defined[3] = _sum(call, x, skip, bias)
    call.become("LayerNormalization", call.defined[3], gamma, beta, axis=-1, epsilon=epsilon)


@operator("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(
    call: Call, x: str, skip: str, gamma: str, bias: str = "", *, epsilon: float = 1e-12
) -> None:
    """RMS normalization of such a sum; the third output is the reciprocal of the root."""
    call.defined[3] = total = _sum(call, x, skip, bias)
    if len(call.node.output) > 2 and call.node.output[2]:
        floats = call.add("Cast", total, to=FLOAT32)
        mean = call.add("ReduceMean", call.add("Mul", floats, floats), call.constant([-1]))
        root = call.add("Sqrt", call.add("Add", mean, call.constant(epsilon, FLOAT32)))
        call.defined[2] = call.add("Reciprocal", root)
    call.become("RMSNormalization", total, gamma, axis=-1, epsilon=epsilon)


@operator("FusedConv")
def fused_conv(
    call: Call, *inputs: str, activation: str = "", activation_params: Any = (), **attributes: Any
) -> None:
    """A convolution, then an activation function of its result and an optional fourth input."""
    x, W, bias, added = _padded(inputs, 2, 4)
    y = _sum(call, call.add("Conv", x, W, *([bias] if bias else []), **attributes), added)
    if activation == "Clip":
        call.become("Clip", y, *(call.constant(number, FLOAT32) for number in activation_params))
    else:
        parameters = dict(zip(PARAMETERS.get(activation, ()), activation_params, strict=False))
        call.become(activation or "Identity", y, **parameters)


@operator("FusedGemm")
def fused_gemm(call: Call, *inputs: str, activation: str = "", **attributes: Any) -> None:
    """A general matrix product, then an activation function."""
    keys = [key for key in ("alpha", "beta", "gamma") if f"activation_{key}" in attributes]
    parameters = {key: attributes.pop(f"activation_{key}") for key in keys}
    call.become(activation or "Identity", call.add("Gemm", *inputs, **attributes), **parameters)


# Quantized arrays


def _scaled(call: Call, sums: str, a_scale: str, b_scale: str, bias: str) -> str:
    """Convert the sums of an integer product to float32, scale them and add a bias."""
    scale = call.add("Mul", a_scale, b_scale)
    return _sum(call, call.add("Mul", call.add("Cast", sums, to=FLOAT32), scale), bias)


@operator("MatMulIntegerToFloat")
def matmul_integer_to_float(call: Call, *inputs: str) -> None:
    """a_scale b_scale (A - a_zero) (B - b_zero) + bias"""
    A, B, a_scale, b_scale, a_zero, b_zero, bias = _padded(inputs, 4, 7)
    sums = call.add("MatMulInteger", A, B, a_zero, b_zero)
    call.become("Identity", _scaled(call, sums, a_scale, b_scale, bias))


@operator("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(
    call: Call, A: str, B: str, b_scale: str, b_zero: str = "", bias: str = ""
) -> None:
    """b_scale A (B - b_zero) + bias, with A quantized to uint8 as a whole"""
    quantized, a_scale, a_zero = call.add_all("DynamicQuantizeLinear", [A], 3)
    matmul_integer_to_float(call, quantized, B, a_scale, b_scale, a_zero, b_zero, bias)


@operator("QGemm")
def qgemm(call: Call, *inputs: str, alpha: float = 1.0, transA: int = 0, transB: int = 0) -> None:
    """alpha a_scale b_scale ((A - a_zero) (B - b_zero) + C), in float32 or quantized"""
    A, a_scale, a_zero, B, b_scale, b_zero, C, y_scale, y_zero = _padded(inputs, 6, 9)
    A = call.add("Transpose", A, perm=[1, 0]) if transA else A
    B = call.add("Transpose", B, perm=[1, 0]) if transB else B
    scale = call.add("Mul", call.constant(alpha, FLOAT32), a_scale)
    bias = C and call.add("Mul", call.add("Cast", C, to=FLOAT32), call.add("Mul", scale, b_scale))
    y = _scaled(call, call.add("MatMulInteger", A, B, a_zero, b_zero), scale, b_scale, bias)
    call.become(*(("QuantizeLinear", y, y_scale, y_zero) if y_scale else ("Identity", y)))


def _dequantized(call: Call, inputs: Sequence[str]) -> list[str]:
    """Arrays of float32; `inputs` are an array, its scale and its zero point in turn."""
    parts = zip(inputs[::3], inputs[1::3], inputs[2::3], strict=True)
    return [call.add("DequantizeLinear", *part) for part in parts]


def _qlinear(call: Call, *inputs: str, channels_last: int = 0, opset: int = 13, **attributes: Any) -> None:
    """An operation of dequantized arrays, whose result is quantized to their dtype."""
    operation = call.operation.removeprefix("QLinear")
    count = 3 * QLINEAR[operation]
    *arrays, y_scale, y_zero = _padded(inputs, count + 1, count + 2)
    floats = _dequantized(call, arrays)
    if operation == "Softmax" and opset < 13:
        y = call.softmax_of_rows("Softmax", floats[0], attributes.get("axis", -1))
    elif channels_last:
        rank = 2 + len(attributes["kernel_shape"])
        first = call.add("Transpose", floats[0], perm=[0, rank - 1, *range(1, rank - 1)])
        y = call.add("Transpose", call.add(operation, first, **attributes), perm=[0, *range(2, rank), 1])
    else:
        y = call.add(operation, *floats, **attributes)
    call.become("QuantizeLinear", y, y_scale, y_zero or call.add("CastLike", call.constant(0), arrays[0]))


OPERATORS |= dict.fromkeys((f"QLinear{operation}" for operation in QLINEAR), _qlinear)


@operator("QLinearConcat")
def qlinear_concat(call: Call, y_scale: str, y_zero: str, *inputs: str, axis: int) -> None:
    """Join quantized arrays."""
    call.become("QuantizeLinear", call.add("Concat", *_dequantized(call, inputs), axis=axis), y_scale, y_zero)
