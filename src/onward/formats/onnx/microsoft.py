"""ONNX Runtime's own operators, written with those of ONNX.

Each function takes the call, its inputs ("" if omitted) and its attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .opsets import Call

OPERATORS: dict[str, Callable[..., None]] = {}
FLOAT32 = np.dtype(np.float32)


def operator(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function that rewrites the calls of an operator."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        OPERATORS[name] = function
        return function

    return register


@operator("BiasGelu")
def bias_gelu(call: Call, x: str, bias: str) -> None:
    call.become("Gelu", call.add("Add", x, bias))


@operator("FastGelu")
def fast_gelu(call: Call, x: str, bias: str = "") -> None:
    call.become("Gelu", call.add("Add", x, bias) if bias else x, approximate="tanh")


@operator("QuickGelu")
def quick_gelu(call: Call, x: str, *, alpha: float = 1.702) -> None:
    call.become("Swish", x, alpha=alpha)


@operator("SimplifiedLayerNormalization")
def simplified_layer_normalization(call: Call, x: str, scale: str, **attributes: Any) -> None:
    call.become("RMSNormalization", x, scale, **attributes)


def _skip_sum(call: Call, x: str, skip: str, bias: str) -> str:
    """Add the input, the skip connection and the bias; the sum is the fourth output."""
    total = call.add("Add", x, skip)
    total = call.add("Add", total, bias) if bias else total
    call.define(3, total)
    return total


@operator("SkipLayerNormalization")
def skip_layer_normalization(
    call: Call, x: str, skip: str, gamma: str, beta: str = "", bias: str = "", *, epsilon: float = 1e-12
) -> None:
    total = _skip_sum(call, x, skip, bias)
    call.become("LayerNormalization", total, gamma, beta, axis=-1, epsilon=epsilon)


@operator("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(
    call: Call, x: str, skip: str, gamma: str, bias: str = "", *, epsilon: float = 1e-12
) -> None:
    """RMS normalization; the third output is the reciprocal of the root."""
    total = _skip_sum(call, x, skip, bias)
    if len(call.node.output) > 2 and call.node.output[2]:
        floats = call.add("Cast", total, to=FLOAT32)
        mean = call.add("ReduceMean", call.add("Mul", floats, floats), call.constant([-1]))
        root = call.add("Sqrt", call.add("Add", mean, call.constant(epsilon, FLOAT32)))
        call.define(2, call.add("Reciprocal", root))
    call.become("RMSNormalization", total, gamma, axis=-1, epsilon=epsilon)


@operator("FusedConv")
def fused_conv(
    call: Call,
    x: str,
    W: str,
    bias: str = "",
    added: str = "",
    *,
    activation: str = "",
    activation_params: Any = (),
    **attributes: Any,
) -> None:
    """A convolution, then an activation function of its result and an optional fourth input."""
    y = call.add("Conv", x, W, *([bias] if bias else []), **attributes)
    y = call.add("Add", y, added) if added else y
    if activation == "Clip":
        call.become("Clip", y, *(call.constant(number, FLOAT32) for number in activation_params))
        return
    keys = {"LeakyRelu": ["alpha"], "HardSigmoid": ["alpha", "beta"], "Elu": ["alpha"]}.get(activation, [])
    call.become(activation or "Identity", y, **dict(zip(keys, activation_params, strict=False)))


@operator("FusedGemm")
def fused_gemm(call: Call, *inputs: str, activation: str = "", **attributes: Any) -> None:
    """A general matrix product, then an activation function."""
    parameters = {
        key: attributes.pop(f"activation_{key}")
        for key in ("alpha", "beta", "gamma")
        if f"activation_{key}" in attributes
    }
    call.become(activation or "Identity", call.add("Gemm", *inputs, **attributes), **parameters)


# Quantized arrays


def _scaled(call: Call, sums: str, a_scale: str, b_scale: str, bias: str) -> str:
    """Convert the sums of an integer product to float32, scale them and add a bias."""
    scale = call.add("Mul", a_scale, b_scale)
    y = call.add("Mul", call.add("Cast", sums, to=FLOAT32), scale)
    return call.add("Add", y, bias) if bias else y


@operator("MatMulIntegerToFloat")
def matmul_integer_to_float(
    call: Call,
    A: str,
    B: str,
    a_scale: str,
    b_scale: str,
    a_zero: str = "",
    b_zero: str = "",
    bias: str = "",
) -> None:
    """a_scale b_scale (A - a_zero) (B - b_zero) + bias"""
    sums = call.add("MatMulInteger", A, B, a_zero, b_zero)
    call.become("Identity", _scaled(call, sums, a_scale, b_scale, bias))


@operator("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(
    call: Call, A: str, B: str, b_scale: str, b_zero: str = "", bias: str = ""
) -> None:
    """b_scale A (B - b_zero) + bias, with A quantized to uint8 as a whole"""
    quantized, a_scale, a_zero = call.add_all("DynamicQuantizeLinear", A, outputs=3)
    matmul_integer_to_float(call, quantized, B, a_scale, b_scale, a_zero, b_zero, bias)


@operator("QGemm")
def qgemm(
    call: Call,
    A: str,
    a_scale: str,
    a_zero: str,
    B: str,
    b_scale: str,
    b_zero: str,
    C: str = "",
    y_scale: str = "",
    y_zero: str = "",
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> None:
    """alpha a_scale b_scale ((A - a_zero) (B - b_zero) + C), in float32 or quantized"""
    A = call.add("Transpose", A, perm=[1, 0]) if transA else A
    B = call.add("Transpose", B, perm=[1, 0]) if transB else B
    scale = call.add("Mul", call.constant(alpha, FLOAT32), a_scale)
    bias = C and call.add("Mul", call.add("Cast", C, to=FLOAT32), call.add("Mul", scale, b_scale))
    y = _scaled(call, call.add("MatMulInteger", A, B, a_zero, b_zero), scale, b_scale, bias)
    call.become(*(("QuantizeLinear", y, y_scale, y_zero) if y_scale else ("Identity", y)))


def _become_quantized(call: Call, y: str, like: str, scale: str, zero_point: str) -> None:
    """Quantize y to the dtype of an array."""
    call.become("QuantizeLinear", y, scale, zero_point or call.add("CastLike", call.constant(0), like))


def _define_binary(operation: str) -> None:
    @operator(f"QLinear{operation}")
    def binary(
        call: Call,
        A: str,
        a_scale: str,
        a_zero: str,
        B: str,
        b_scale: str,
        b_zero: str,
        y_scale: str,
        y_zero: str = "",
    ) -> None:
        a = call.add("DequantizeLinear", A, a_scale, a_zero)
        b = call.add("DequantizeLinear", B, b_scale, b_zero)
        _become_quantized(call, call.add(operation, a, b), A, y_scale, y_zero)


for _operation in ("Add", "Mul"):
    _define_binary(_operation)


def _define_unary(operation: str) -> None:
    @operator(f"QLinear{operation}")
    def unary(
        call: Call,
        x: str,
        x_scale: str,
        x_zero: str,
        y_scale: str,
        y_zero: str = "",
        *,
        channels_last: int = 0,
        opset: int = 13,
        **attributes: Any,
    ) -> None:
        floats = call.add("DequantizeLinear", x, x_scale, x_zero)
        if operation == "Softmax" and opset < 13:
            y = call.softmax_of_rows("Softmax", floats, attributes.get("axis", -1))
        elif channels_last:
            rank = 2 + len(attributes["kernel_shape"])
            first = call.add("Transpose", floats, perm=[0, rank - 1, *range(1, rank - 1)])
            y = call.add(operation, first, **attributes)
            y = call.add("Transpose", y, perm=[0, *range(2, rank), 1])
        else:
            y = call.add(operation, floats, **attributes)
        _become_quantized(call, y, x, y_scale, y_zero)


for _operation in ("AveragePool", "LeakyRelu", "Sigmoid", "Softmax"):
    _define_unary(_operation)


@operator("QLinearConcat")
def qlinear_concat(call: Call, y_scale: str, y_zero: str, *inputs: str, axis: int) -> None:
    """Join quantized arrays; `inputs` are an array, its scale and its zero point in turn."""
    parts = zip(inputs[::3], inputs[1::3], inputs[2::3], strict=True)
    floats = [call.add("DequantizeLinear", *part) for part in parts]
    call.become("QuantizeLinear", call.add("Concat", *floats, axis=axis), y_scale, y_zero)
