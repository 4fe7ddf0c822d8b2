"""ATen's attention, and the layers of transformers that consist of it."""

import dataclasses
import math
from typing import Any

import numpy as np

from .registry import Symbol, Tensor, Translator, aten
from .shapes import reshaped, transposed


@aten("scaled_dot_product_attention _scaled_dot_product_attention_math")
@aten("_scaled_dot_product_flash_attention_for_cpu")
def attention(
    t: Translator, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """softmax(scale Q K^T + mask) V; rows without any allowed key are 0."""
    depth = t.size(query, -1)
    heads = (query.shape[-3], key.shape[-3]) if enable_gqa else (1, 1)
    keys, values = (_grouped(t, x, heads) for x in (key, value))
    factor: Any = scale
    if scale is None and isinstance(depth, int):
        factor = 1 / math.sqrt(depth)
    elif scale is None:
        root = t.add("Sqrt", t.cast(depth, np.float64))
        factor = Symbol(t.add("Reciprocal", root), np.dtype(np.float64))
    scores = t.add("MatMul", query, transposed(t, key, keys))
    scores = t.add("Mul", scores, t.cast(factor, query.dtype))
    allowed: Any = None
    if is_causal:
        ones = t.add("ConstantOfShape", [t.size(x, -2) for x in (query, key)], value=np.ones(1, np.int32))
        allowed = t.add("Cast", t.add("Trilu", ones, 0, upper=0), to=np.dtype(bool))
    elif attn_mask is not None and attn_mask.dtype == np.bool_:
        allowed = attn_mask
    elif attn_mask is not None:
        scores = t.add("Add", scores, attn_mask)
    if allowed is not None:
        scores = t.add("Where", allowed, scores, t.cast(-math.inf, query.dtype))
    weights = t.add("Softmax", scores, axis=-1)
    if allowed is not None and not is_causal:
        found = t.add("ReduceMax", scores, [-1], keepdims=1)
        none = t.add("Equal", found, t.cast(-math.inf, query.dtype))
        weights = t.add("Where", none, t.cast(0, query.dtype), weights)
    result = t.add("MatMul", weights, values)
    if "math" in t.node.target:
        return result, weights
    if "flash" not in t.node.target:
        return result
    return result, t.add("ReduceLogSumExp", scores, [-1], keepdims=0)


def _grouped(t: Translator, x: Tensor, heads: Any) -> Any:
    """Repeat the heads of keys or values for groups of queries."""
    many, few = heads
    if many == few or not many or not few:
        return x
    axis, sizes = x.rank - 3, t.sizes(x)
    tiled = t.add("Tile", t.add("Unsqueeze", x, [axis + 1]), [*[1] * (axis + 1), many // few, 1, 1])
    return reshaped(t, tiled, [*sizes[:axis], many, *sizes[axis + 1 :]])


def _linear(t: Translator, x: Any, weight: Any, bias: Any) -> str:
    return t.add("Add", t.add("MatMul", x, t.add("Transpose", weight, perm=(1, 0))), bias)


@aten("_native_multi_head_attention")
def multi_head_attention(
    t: Translator, query: Tensor, key: Tensor, value: Tensor, embed_dim: int, num_head: int,
    qkv_weight: Tensor, qkv_bias: Tensor, proj_weight: Tensor, proj_bias: Tensor, mask: Tensor | None = None,
    need_weights: bool = True, average_attn_weights: bool = True, mask_type: int | None = None,
) -> tuple[str, str]:  # fmt: skip
    """Attention in several heads, batch first; returns the output and the weights."""
    E, d = embed_dim, embed_dim // num_head

    def heads(x: Tensor, place: int) -> str:
        weight, bias = (
            t.add("Slice", part, [place * E], [place * E + E], [0]) for part in (qkv_weight, qkv_bias)
        )
        split = t.add("Reshape", _linear(t, x, weight, bias), [0, 0, num_head, d])
        return t.add("Transpose", split, perm=(0, 2, 1, 3))

    q, k, v = (heads(x, place) for place, x in enumerate((query, key, value)))
    scale = t.cast(d**-0.5, query.dtype)
    scores = t.add("MatMul", t.add("Mul", q, scale), t.add("Transpose", k, perm=(0, 1, 3, 2)))
    if mask is not None:
        # a mask of keys (1) has one row for each sequence
        shaped = t.add("Unsqueeze", mask, [1, 2]) if mask_type == 1 else mask
        if mask.dtype == np.bool_:
            scores = t.add("Where", shaped, t.cast(-np.inf, query.dtype), scores)
        else:
            scores = t.add("Add", scores, shaped)
    weights = t.add("Softmax", scores, axis=-1)
    joined = t.add("Transpose", t.add("MatMul", weights, v), perm=(0, 2, 1, 3))
    y = _linear(t, t.add("Reshape", joined, [0, 0, E]), proj_weight, proj_bias)
    return y, t.add("ReduceMean", weights, [1], keepdims=0) if average_attn_weights else weights


@aten("_transformer_encoder_layer_fwd")
def transformer_encoder_layer(
    t: Translator, src: Tensor, embed_dim: int, num_heads: int, qkv_weight: Tensor, qkv_bias: Tensor,
    proj_weight: Tensor, proj_bias: Tensor, use_gelu: bool, norm_first: bool, eps: float,
    norm_weight_1: Tensor, norm_bias_1: Tensor, norm_weight_2: Tensor, norm_bias_2: Tensor,
    ffn_weight_1: Tensor, ffn_bias_1: Tensor, ffn_weight_2: Tensor, ffn_bias_2: Tensor,
    mask: Tensor | None = None, mask_type: int | None = None,
) -> str:  # fmt: skip
    """A layer of a transformer's encoder, batch first."""

    def norm(x: Any, weight: Tensor, bias: Tensor) -> str:
        return t.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)

    def attention(x: Any) -> str:
        tensor = dataclasses.replace(src, name=t.add("Identity", x), base=None)
        weights = (qkv_weight, qkv_bias, proj_weight, proj_bias)
        sizes = embed_dim, num_heads
        y, _ = multi_head_attention(t, tensor, tensor, tensor, *sizes, *weights, mask, mask_type=mask_type)
        return y

    def feed_forward(x: Any) -> str:
        inner = t.add("Gelu" if use_gelu else "Relu", _linear(t, x, ffn_weight_1, ffn_bias_1))
        return _linear(t, inner, ffn_weight_2, ffn_bias_2)

    first, second = (norm_weight_1, norm_bias_1), (norm_weight_2, norm_bias_2)
    if norm_first:
        x = t.add("Add", src, attention(norm(src, *first)))
        return t.add("Add", x, feed_forward(norm(x, *second)))
    x = norm(t.add("Add", src, attention(src)), *first)
    return norm(t.add("Add", x, feed_forward(x)), *second)
