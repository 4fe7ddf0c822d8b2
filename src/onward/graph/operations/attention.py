"""Scaled dot-product attention and rotary position embeddings."""

import math
from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from ...errors import ArgumentError, ShapeError
from .compositions import composed
from .creation import counted
from .expressions import where


def _heads(name: str, x: Any, heads: int | None) -> Any:
    """Turn x (N, L, heads * size) into (N, heads, L, size)."""
    if x.rank == 3 and heads and x.shape[2] % heads == 0:
        return x.apply("Reshape", [0, 0, heads, x.shape[2] // heads]).apply("Transpose", perm=[0, 2, 1, 3])
    if x.rank == 4:
        return x
    raise ShapeError(
        f"{name} has shape {x.shape}; expected (N, heads, L, size), or (N, L, {heads} heads * size)"
    )


def _joined(x: Any, is_flat: bool) -> Any:
    """Turn x (N, heads, L, size) into (N, L, heads * size) if `is_flat`."""
    joined = [0, 0, x.shape[1] * x.shape[3]]
    return x.apply("Transpose", perm=[0, 2, 1, 3]).apply("Reshape", joined) if is_flat else x


def _size(x: Any, axis: int) -> Any:
    return x.apply("Shape").apply("Gather", axis)


def _bias(Q: Any, K: Any, mask: Any, past: Any, lengths: Any, left: int, right: int) -> Any:
    """Return what is added to the scores: 0 or -inf, and the mask if it is of floats; None if all are 0.

    Query i sees the keys from i + offset - left to i + offset + right; a bound of -1 means all keys.
    """
    terms, zero, keys = [], Q.constant(0), counted(Q.t, _size(K, 2))
    if mask is not None:
        floats = where(mask, zero, -np.inf) if mask.dtype == bool else mask
        missing = K.shape[2] - mask.shape[-1]
        padded = ([0, missing], floats.constant(-np.inf).name, [-1])
        terms.append(floats.apply("Pad", *padded) if missing > 0 else floats)
    ahead = keys - counted(Q.t, _size(Q, 2), 1)
    if lengths is not None:
        counts = lengths.apply("Reshape", [-1, 1, 1, 1])
        ahead = ahead - (counts - _size(Q, 2))  # offsets differ between the rows of the batch
        terms.append(where(keys >= counts, -np.inf, zero))
    elif past is not None:
        ahead = ahead - _size(past, 2)
    if left >= 0:
        terms.append(where(ahead < -left, -np.inf, zero))
    if right >= 0:
        terms.append(where(ahead > right, -np.inf, zero))
    return reduce(add, terms) if terms else None


@composed("Attention")
def attention(
    Q: Any, K: Any, V: Any, mask: Any = None, past_key: Any = None, past_value: Any = None, lengths: Any =
    None, *, is_causal: int = 0, kv_num_heads: int | None = None, left_window_size: int = -1, q_num_heads: int
    | None = None, qk_matmul_output_mode: int = 0, right_window_size: int = -1, scale: float | None = None,
    softcap: float = 0.0, softmax_precision: Any = None,
) -> Iterator[Any]:  # fmt: skip
    """softmax(scale Q K^T + bias) V for each head; also the keys, the values and the scores.

    Q (N, heads, L, size), or (N, L, heads * size). K and V may have fewer heads, each of which several heads
    of Q share. `lengths` is the number of keys of each row. Source: Vaswani et al. 2017; Ainslie et al. 2023.
    """
    if (past_key is None) != (past_value is None) or (past_key is not None and lengths is not None):
        raise ArgumentError("expected past_key together with past_value, and lengths without them")
    is_flat = Q.rank == 3
    Q = _heads("Q", Q, q_num_heads)
    keys, values = _heads("K", K, kv_num_heads), _heads("V", V, kv_num_heads)
    if past_key is not None:
        keys, values = past_key.apply("Concat", keys, axis=2), past_value.apply("Concat", values, axis=2)
    many, few = Q.shape[1], keys.shape[1]
    if many % few:
        raise ShapeError(f"Q has {many} heads, which {few} heads of K cannot share evenly")
    shared = np.arange(few).repeat(many // few)
    K, V = (x if few == many else x.apply("Gather", shared, axis=1) for x in (keys, values))
    right = 0 if is_causal else right_window_size
    bias = _bias(Q, K, mask, past_key, lengths, left_window_size, right)

    factor = math.sqrt(1 / math.sqrt(Q.shape[3]) if scale is None else scale)
    scores = products = (Q * factor).apply("MatMul", (K * factor).apply("Transpose", perm=[0, 1, 3, 2]))
    if softcap > 0:
        scores = (scores / softcap).apply("Tanh") * softcap
    biased = scores if bias is None else scores + bias
    precise = biased if softmax_precision is None else biased.cast(softmax_precision)
    if bias is None:
        shares = precise.apply("Softmax").cast(Q.dtype)
    else:  # zeros in rows where everything is masked
        masked = bias.reduce("ReduceMax", [-1], True).equals(-np.inf)
        shares = where(masked, 0, where(masked, 0, precise).apply("Softmax")).cast(Q.dtype)
    y = shares.apply("MatMul", V)
    yield _joined(y, is_flat)
    yield keys
    yield values
    yield (products, scores, biased, shares)[qk_matmul_output_mode]


@composed("RotaryEmbedding", widens=True)
def rotary_embedding(
    x: Any, cos_cache: Any, sin_cache: Any, position_ids: Any = None, *, interleaved: int = 0, num_heads: int
    = 0, rotary_embedding_dim: int = 0,
) -> Any:  # fmt: skip
    """Pairs of features of x (N, heads, L, size), or (N, L, heads * size), rotated by their position.

    The caches hold the cosines and sines (positions, pairs), or without position_ids (N, L, pairs). Source:
    Su et al. 2021.
    """
    heads, caches = _heads("x", x, num_heads), (cos_cache, sin_cache)
    size = rotary_embedding_dim or heads.shape[3]
    if cos_cache.shape[-1] != size // 2:
        raise ShapeError(f"cos_cache has {cos_cache.shape[-1]} angles; expected {size // 2}")
    if position_ids is not None:
        caches = cos_cache.apply("Gather", position_ids), sin_cache.apply("Gather", position_ids)
    cos, sin = (cache.apply("Unsqueeze", [1]) for cache in caches)
    first, step = (1, 2) if interleaved else (size // 2, 1)  # of the second feature of each pair
    a = heads.apply("Slice", [0], [size if interleaved else first], [3], [step])
    b = heads.apply("Slice", [first], [size], [3], [step])
    parts = [cos * a - sin * b, sin * a + cos * b]
    if interleaved:
        a, b = (part.apply("Unsqueeze", [4]) for part in parts)
        parts = [a.apply("Concat", b, axis=4).apply("Reshape", [0, 0, 0, size])]
    if size < heads.shape[3]:
        parts.append(heads.apply("Slice", [size], [heads.shape[3]], [3]))
    return _joined(parts[0].apply("Concat", *parts[1:], axis=3), x.rank == 3)
