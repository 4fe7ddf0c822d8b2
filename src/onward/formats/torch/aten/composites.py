"""ATen's operators that torch.export replaces by others, but TorchScript keeps."""

import dataclasses
from typing import Any

import numpy as np

from .registry import OPERATORS, Tensor, Translator, aten
from .shapes import chunk, split, split_with_sizes

aten("unsafe_chunk")(chunk)
aten("unsafe_split.Tensor")(split)
aten("unsafe_split_with_sizes")(split_with_sizes)


@aten("_convolution_mode")
def convolution_mode(
    t: Translator,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: str = "valid",
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """A convolution whose padding is "valid" or "same"."""
    conv = OPERATORS[f"conv{weight.rank - 2}d.padding"]
    return conv(t, input, weight, bias, stride, padding, dilation, groups)


@aten("_weight_norm")
def weight_norm(t: Translator, v: Tensor, g: Tensor, dim: int = 0) -> str:
    """g v / |v|, with the norm over all axes but one, or over all if it is -1."""
    axes = [axis for axis in range(v.rank) if dim == -1 or axis != v.axis(dim)]
    norm = t.add("ReduceL2", v, t.constant(axes), keepdims=1)
    return t.add("Mul", v, t.add("Div", g, norm))


def _linear(t: Translator, x: Any, weight: Any, bias: Any) -> str:
    return t.add("Add", t.add("MatMul", x, t.add("Transpose", weight, perm=(1, 0))), bias)


def _slice(t: Translator, x: Any, start: int, end: int) -> str:
    return t.add("Slice", x, t.constant([start]), t.constant([end]), t.constant([0]))


@aten("_native_multi_head_attention")
def multi_head_attention(
    t: Translator,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_head: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[str, str]:
    """Attention in several heads, batch first; returns the output and the weights."""
    E, d = embed_dim, embed_dim // num_head

    def heads(x: Tensor, place: int) -> str:
        weight, bias = (_slice(t, part, place * E, place * E + E) for part in (qkv_weight, qkv_bias))
        split = t.add("Reshape", _linear(t, x, weight, bias), t.constant([0, 0, num_head, d]))
        return t.add("Transpose", split, perm=(0, 2, 1, 3))

    q, k, v = (heads(x, place) for place, x in enumerate((query, key, value)))
    scale = t.cast(d**-0.5, query.dtype)
    scores = t.add("MatMul", t.add("Mul", q, scale), t.add("Transpose", k, perm=(0, 1, 3, 2)))
    if mask is not None:
        # a mask of keys (1) has one row for each sequence
        shaped = t.add("Unsqueeze", mask, t.constant([1, 2])) if mask_type == 1 else mask
        if mask.dtype == np.bool_:
            scores = t.add("Where", shaped, t.cast(-np.inf, query.dtype), scores)
        else:
            scores = t.add("Add", scores, shaped)
    weights = t.add("Softmax", scores, axis=-1)
    joined = t.add("Transpose", t.add("MatMul", weights, v), perm=(0, 2, 1, 3))
    y = _linear(t, t.add("Reshape", joined, t.constant([0, 0, E])), proj_weight, proj_bias)
    return y, t.add("ReduceMean", weights, t.constant([1]), keepdims=0) if average_attn_weights else weights


@aten("_transformer_encoder_layer_fwd")
def transformer_encoder_layer(
    t: Translator,
    src: Tensor,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    ffn_weight_1: Tensor,
    ffn_bias_1: Tensor,
    ffn_weight_2: Tensor,
    ffn_bias_2: Tensor,
    mask: Tensor | None = None,
    mask_type: int | None = None,
) -> str:
    """A layer of a transformer's encoder, batch first."""

    def norm(x: Any, weight: Tensor, bias: Tensor) -> str:
        return t.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)

    def attention(x: Any) -> str:
        tensor = dataclasses.replace(src, name=t.add("Identity", x), base=None)
        projections = (qkv_weight, qkv_bias, proj_weight, proj_bias)
        y, _ = multi_head_attention(
            t, tensor, tensor, tensor, embed_dim, num_heads, *projections, mask, mask_type=mask_type
        )
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
