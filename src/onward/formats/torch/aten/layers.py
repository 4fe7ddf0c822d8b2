"""ATen's operators of layers: products, attention and norms."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .registry import FLOAT32, Number, Symbol, Tensor, Translator, aten
from .shapes import reshaped

Sizes = Sequence[int]


@aten("linear")
def linear(t: Translator, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> str:
    order = [1, 0] if weight.rank == 2 else [0]
    product = t.add("MatMul", input, t.add("Transpose", weight, perm=order))
    return product if bias is None else t.add("Add", product, bias)


@aten("mm", "bmm", "matmul", "mv", "dot")
def matmul(t: Translator, self: Tensor, **others: Tensor) -> str:
    (other,) = others.values()
    return t.add("MatMul", self, other)


def _scaled(t: Translator, x: Any, factor: Number, dtype: Any) -> Any:
    return x if factor == 1 else t.add("Mul", x, t.cast(factor, dtype))


@aten("addmm", "addmv", "baddbmm")
def addmm(t: Translator, self: Tensor, beta: Number = 1, alpha: Number = 1, **factors: Tensor) -> str:
    """beta self + alpha A B"""
    product = _scaled(t, t.add("MatMul", *factors.values()), alpha, self.dtype)
    return product if beta == 0 else t.add("Add", product, _scaled(t, self, beta, self.dtype))


@aten("addbmm")
def addbmm(
    t: Translator, self: Tensor, batch1: Tensor, batch2: Tensor, beta: Number = 1, alpha: Number = 1
) -> str:
    product = t.add("ReduceSum", t.add("MatMul", batch1, batch2), t.constant([0]), keepdims=0)
    return t.add("Add", _scaled(t, self, beta, self.dtype), _scaled(t, product, alpha, self.dtype))


@aten("outer", "ger")
def outer(t: Translator, self: Tensor, vec2: Tensor) -> str:
    return t.add("Mul", t.add("Unsqueeze", self, t.constant([1])), vec2)


@aten("einsum")
def einsum(t: Translator, equation: str, tensors: list[Tensor], path: Any = None) -> str:
    return t.add("Einsum", *tensors, equation=equation.replace(" ", ""))


@aten("bilinear")
def bilinear(
    t: Translator, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None
) -> str:
    y = t.add("Einsum", input1, weight, input2, equation="...i,oij,...j->...o")
    return y if bias is None else t.add("Add", y, bias)


@aten("_trilinear")
def trilinear(
    t: Translator,
    i1: Tensor,
    i2: Tensor,
    i3: Tensor,
    expand1: Sizes,
    expand2: Sizes,
    expand3: Sizes,
    sumdim: Sizes,
    unroll_dim: int = 1,
) -> str:
    """The sum over axes of a product of three tensors with additional axes."""
    factors = [
        t.add("Unsqueeze", x, t.constant(list(axes), np.int64)) if axes else x
        for x, axes in ((i1, expand1), (i2, expand2), (i3, expand3))
    ]
    product = t.add("Mul", t.add("Mul", factors[0], factors[1]), factors[2])
    return t.add("ReduceSum", product, t.constant(list(sumdim)), keepdims=0)


@aten("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu")
def attention(
    t: Translator,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(scale Q K^T + mask) V; rows without any allowed key are 0."""
    depth = t.size(query, -1)
    heads = (query.shape[-3], key.shape[-3]) if enable_gqa else (1, 1)
    keys, values = (_grouped(t, x, heads) for x in (key, value))
    order = [*range(key.rank - 2), key.rank - 1, key.rank - 2]
    factor: Any = scale
    if scale is None and isinstance(depth, int):
        factor = 1 / math.sqrt(depth)
    elif scale is None:
        root = t.add("Sqrt", t.cast(depth, np.float64))
        factor = Symbol(t.add("Reciprocal", root), np.dtype(np.float64))
    scores = t.add("MatMul", query, t.add("Transpose", keys, perm=order))
    scores = t.add("Mul", scores, t.cast(factor, query.dtype))
    allowed: Any = None
    if is_causal:
        ends = [t.size(x, -2) for x in (query, key)]
        ones = t.add("ConstantOfShape", t.vector(ends), value=np.ones(1, np.int32))
        allowed = t.add("Cast", t.add("Trilu", ones, t.constant(0), upper=0), to=np.dtype(bool))
    elif attn_mask is not None and attn_mask.dtype == np.bool_:
        allowed = attn_mask
    elif attn_mask is not None:
        scores = t.add("Add", scores, attn_mask)
    if allowed is not None:
        scores = t.add("Where", allowed, scores, t.cast(-math.inf, query.dtype))
    weights = t.add("Softmax", scores, axis=-1)
    if allowed is not None and not is_causal:
        found = t.add("ReduceMax", scores, t.constant([-1]), keepdims=1)
        none = t.add("Equal", found, t.cast(-math.inf, query.dtype))
        weights = t.add("Where", none, t.cast(0, query.dtype), weights)
    result = t.add("MatMul", weights, values)
    if "flash" not in t.node.target:
        return result
    return result, t.add("ReduceLogSumExp", scores, t.constant([-1]), keepdims=0)


def _grouped(t: Translator, x: Tensor, heads: Any) -> Any:
    """Repeat the heads of keys or values for groups of queries."""
    many, few = heads
    if many == few or not many or not few:
        return x
    axis = x.rank - 3
    tiled = t.add(
        "Tile",
        t.add("Unsqueeze", x, t.constant([axis + 1])),
        t.constant([1] * (axis + 1) + [many // few] + [1, 1]),
    )
    sizes = t.sizes(x)
    return reshaped(t, tiled, [*sizes[:axis], many, *sizes[axis + 1 :]])


# Norms.


@aten("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm", "cudnn_batch_norm")
def batch_norm(
    t: Translator,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> Any:
    if training or running_mean is None or running_var is None:
        return _batch_statistics(t, input, weight, bias, eps)
    size = running_mean.shape[0]
    scale = weight if weight is not None else t.constant(np.ones(size or 0), input.dtype)
    shift = bias if bias is not None else t.constant(np.zeros(size or 0), input.dtype)
    y = t.add("BatchNormalization", input, scale, shift, running_mean, running_var, epsilon=eps)
    return (y, None, None) if len(t.node.outputs) > 1 else y


def _batch_statistics(t: Translator, x: Tensor, weight: Any, bias: Any, eps: float) -> Any:
    """Normalize with the statistics of the batch."""
    axes = [axis for axis in range(x.rank) if axis != 1]
    y = _normalized(t, x, axes, eps)
    y = _affine(t, y, weight, bias, [1, -1] + [1] * (x.rank - 2))
    return (y, None, None) if len(t.node.outputs) > 1 else y


def _normalized(t: Translator, x: Any, axes: Sequence[int], eps: float, dtype: Any = FLOAT32) -> str:
    places = t.constant(list(axes))
    difference = t.add("Sub", x, t.add("ReduceMean", x, places, keepdims=1))
    variance = t.add("ReduceMean", t.add("Mul", difference, difference), places, keepdims=1)
    return t.add("Div", difference, t.add("Sqrt", t.add("Add", variance, t.cast(eps, dtype))))


def _affine(t: Translator, y: str, weight: Any, bias: Any, sizes: Sequence[int]) -> str:
    for operation, value in (("Mul", weight), ("Add", bias)):
        if value is not None:
            y = t.add(operation, y, t.add("Reshape", value, t.constant(list(sizes))))
    return y


@aten("_native_batch_norm_legit.no_stats")
def batch_norm_without_statistics(
    t: Translator,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    return _batch_statistics(t, input, weight, bias, eps)


@aten("layer_norm", "native_layer_norm")
def layer_norm(
    t: Translator,
    input: Tensor,
    normalized_shape: Sequence[Any],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = False,
) -> Any:
    axis = input.rank - len(normalized_shape)
    scale: Any = weight
    if weight is None:
        scale = t.add("ConstantOfShape", t.vector(normalized_shape), value=np.ones(1, input.dtype))
    y, *statistics = t.add_all("LayerNormalization", (input, scale, bias), 3, axis=axis, epsilon=eps)
    return (y, *statistics) if "native" in t.node.target else y


@aten("rms_norm", "_fused_rms_norm")
def rms_norm(
    t: Translator,
    input: Tensor,
    normalized_shape: Sequence[Any],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Any:
    axes = t.constant(list(range(input.rank - len(normalized_shape), input.rank)))
    mean = t.add("ReduceMean", t.add("Mul", input, input), axes, keepdims=1)
    added = float(np.finfo(input.dtype).eps) if eps is None else eps
    scale = t.add("Reciprocal", t.add("Sqrt", t.add("Add", mean, t.cast(added, input.dtype))))
    y = t.add("Mul", input, scale)
    y = y if weight is None else t.add("Mul", y, weight)
    return (y, scale) if "_fused" in t.node.target else y


@aten("group_norm")
def group_norm(
    t: Translator,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> str:
    if weight is not None:
        t.expect_size(input, 1, weight.shape[0] or 0)
    sizes = t.sizes(input)
    grouped = t.add("Reshape", input, t.vector([sizes[0], num_groups, -1]))
    y = reshaped(t, _normalized(t, grouped, [2], eps, input.dtype), sizes)
    return _affine(t, y, weight, bias, [1, -1] + [1] * (input.rank - 2))


@aten("native_group_norm")
def native_group_norm(
    t: Translator,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    N: Any,
    C: Any,
    HxW: Any,
    group: int,
    eps: float,
) -> Any:
    y = group_norm(t, input, group, weight, bias, eps)
    return y, None, None


@aten("instance_norm")
def instance_norm(
    t: Translator,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Any:
    if weight is not None:
        t.expect_size(input, 1, weight.shape[0] or 0)
    if input.rank < 3:
        raise ArgumentError(f"instance_norm takes 3 axes or more, got {input.rank}")
    if not use_input_stats:
        return batch_norm(t, input, weight, bias, running_mean, running_var, False, momentum, eps)
    y = _normalized(t, input, range(2, input.rank), eps, input.dtype)
    return _affine(t, y, weight, bias, [1, -1] + [1] * (input.rank - 2))
