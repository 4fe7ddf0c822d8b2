"""Scaled dot-product attention and rotary position embeddings."""

import math
from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from ..node import AnyArray, Signature
from .normalization import softmax_rows
from .products import multiply
from .registry import Known, like_first, operation


def _split_heads(x: AnyArray, heads: int) -> AnyArray:
    """Turn x (N, L, heads * size) into (N, heads, L, size)."""
    if x.ndim == 4:
        return x
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2)


def _head_shapes(
    Q: Known, K: Known, V: Known, q_heads: int | None, kv_heads: int | None
) -> list[tuple[int, ...]]:
    """Return the shapes (N, heads, L, size) of the inputs of attention."""
    shapes: list[tuple[int, ...]] = []
    for name, x, heads in (("Q", Q, q_heads), ("K", K, kv_heads), ("V", V, kv_heads)):
        if len(x.shape) == 3 and heads and x.shape[2] % heads == 0:
            shapes.append((x.shape[0], heads, x.shape[1], x.shape[2] // heads))
        elif len(x.shape) == 4:
            shapes.append(x.shape)
        else:
            raise ShapeError(
                f"{name} has shape {x.shape}; expected (N, heads, L, size), or (N, L, {heads} heads * size)"
            )
    return shapes


def _attention_signature(
    Q: Known,
    K: Known,
    V: Known,
    mask: Known | None = None,
    past_key: Known | None = None,
    past_value: Known | None = None,
    lengths: Known | None = None,
    *,
    q_num_heads: int | None = None,
    kv_num_heads: int | None = None,
    **attributes: Any,
) -> list[Signature]:
    q, k, v = _head_shapes(Q, K, V, q_num_heads, kv_num_heads)
    past = 0 if past_key is None else past_key.shape[2]
    keys, values = (*k[:2], past + k[2], k[3]), (*v[:2], past + v[2], v[3])
    y = (*q[:3], v[3]) if len(Q.shape) == 4 else (q[0], q[2], q[1] * v[3])
    shapes = (y, keys, values, (*q[:3], keys[2]))
    return [Signature(shape, x.dtype) for shape, x in zip(shapes, (Q, K, V, Q), strict=True)]


def _bias(
    mask: AnyArray | None, queries: int, keys: int, offset: AnyArray | int, left: int, right: int, dtype: Any
) -> AnyArray:
    """Return what is added to the scores: 0 or -inf, and the mask if it is of floats.

    Query i sees the keys from i + offset - left to i + offset + right; a bound of -1 means all keys.
    """
    bias: AnyArray = np.zeros((queries, keys), dtype)
    if mask is not None:
        if mask.dtype == bool:
            mask = np.where(mask, dtype.type(0), dtype.type(-np.inf))
        missing = keys - mask.shape[-1]
        if missing > 0:
            mask = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, missing)], constant_values=-np.inf)
        bias = bias + mask
    ahead = np.arange(keys) - np.arange(queries)[:, None] - np.asarray(offset)[..., None, None]
    visible = ((ahead >= -left) | (left < 0)) & ((ahead <= right) | (right < 0))
    if visible.ndim > 2:
        visible = visible[:, None]  # offsets differ between the rows of the batch
    return np.asarray(bias + np.where(visible, dtype.type(0), dtype.type(-np.inf)))


def _masked_softmax(scores: AnyArray, bias: AnyArray) -> AnyArray:
    """Return the softmax of scores, or zeros in rows where everything is masked."""
    masked = np.isneginf(bias).all(-1, keepdims=True)
    if scores.size == 0:
        return scores
    y = softmax_rows(np.where(masked, scores.dtype.type(0), scores), False)
    return np.where(masked, scores.dtype.type(0), y)


@operation("Attention", signature=_attention_signature)
def attention(
    Q: AnyArray,
    K: AnyArray,
    V: AnyArray,
    mask: AnyArray | None = None,
    past_key: AnyArray | None = None,
    past_value: AnyArray | None = None,
    lengths: AnyArray | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: Any = None,
) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray]:
    """softmax(scale Q K^T + bias) V for each head; also the keys, the values and the scores.

    Q (N, heads, L, size), or (N, L, heads * size). K and V may have fewer heads, each of which several heads
    of Q share. `lengths` is the number of keys of each row. Source: Vaswani et al. 2017; Ainslie et al. 2023.
    """
    if (past_key is None) != (past_value is None) or (past_key is not None and lengths is not None):
        raise ArgumentError("expected past_key together with past_value, and lengths without them")
    is_flat = Q.ndim == 3
    if is_flat:
        shapes = _head_shapes(Q, K, V, q_num_heads, kv_num_heads)
        Q, K, V = (_split_heads(x, shape[1]) for x, shape in zip((Q, K, V), shapes, strict=True))
    if past_key is not None and past_value is not None:
        K, V = np.concatenate([past_key, K], 2), np.concatenate([past_value, V], 2)
    keys, values = K, V
    if Q.shape[1] % K.shape[1]:
        raise ShapeError(f"Q has {Q.shape[1]} heads, which {K.shape[1]} heads of K cannot share evenly")
    K, V = (np.repeat(x, Q.shape[1] // x.shape[1], 1) for x in (K, V))

    offset: AnyArray | int = 0 if past_key is None else past_key.shape[2]
    if lengths is not None:
        offset = lengths.reshape(-1) - Q.shape[2]
    right = 0 if is_causal else right_window_size
    bias = _bias(mask, Q.shape[2], K.shape[2], offset, left_window_size, right, Q.dtype)
    if lengths is not None:
        beyond = np.arange(K.shape[2]) >= lengths.reshape(-1, 1, 1, 1)
        bias = bias + np.where(beyond, Q.dtype.type(-np.inf), Q.dtype.type(0))

    factor = Q.dtype.type(math.sqrt(1 / math.sqrt(Q.shape[3]) if scale is None else scale))
    scores = products = _product(Q * factor, K.swapaxes(2, 3) * factor)
    if softcap > 0:
        scores = np.tanh(scores / Q.dtype.type(softcap)) * Q.dtype.type(softcap)
    biased = scores + bias
    precise = biased if softmax_precision is None else biased.astype(softmax_precision)
    shares = _masked_softmax(precise, np.broadcast_to(bias, biased.shape)).astype(Q.dtype, copy=False)
    y = _product(shares, V)
    if is_flat:
        y = y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)
    return y, keys, values, (products, scores, biased, shares)[qk_matmul_output_mode]


def _product(A: AnyArray, B: AnyArray) -> AnyArray:
    """Return A B, with sums of halves in float32."""
    if A.dtype.itemsize < 4:
        return multiply(A.astype(np.float32), B.astype(np.float32)).astype(A.dtype)
    return multiply(A, B)


@operation("RotaryEmbedding", signature=like_first, widens=True)
def rotary_embedding(
    x: AnyArray,
    cos_cache: AnyArray,
    sin_cache: AnyArray,
    position_ids: AnyArray | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> AnyArray:
    """Pairs of features of x (N, heads, L, size), or (N, L, heads * size), rotated by their position.

    The caches hold the cosines and sines (positions, pairs), or without position_ids (N, L, pairs). Source:
    Su et al. 2021.
    """
    heads = _split_heads(x, num_heads).swapaxes(1, 2)
    size = rotary_embedding_dim or heads.shape[-1]
    if position_ids is not None:
        cos_cache, sin_cache = cos_cache[position_ids], sin_cache[position_ids]
    cos, sin = cos_cache[:, :, None], sin_cache[:, :, None]
    if cos.shape[-1] != size // 2:
        raise ShapeError(f"cos_cache has {cos.shape[-1]} angles; expected {size // 2}")
    y = heads.copy()
    if interleaved:
        first, second = slice(0, size, 2), slice(1, size, 2)
    else:
        first, second = slice(size // 2), slice(size // 2, size)
    a, b = heads[..., first], heads[..., second]
    y[..., first], y[..., second] = cos * a - sin * b, sin * a + cos * b
    return y.swapaxes(1, 2) if x.ndim == 4 else y.reshape(x.shape)
