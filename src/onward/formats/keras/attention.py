"""Keras' attention between sequences: Attention (Luong), AdditiveAttention (Bahdanau), MultiHeadAttention."""

from typing import Any

import numpy as np

from ...errors import ArgumentError
from .layer import Layer, layer
from .writer import BOOL, Value

ARGUMENTS = ("mask", "training", "return_attention_scores", "use_causal_mask")


@layer("Attention", "AdditiveAttention", masks="own", arguments=ARGUMENTS)
def attention(
    k: Layer, *inputs: Value, use_causal_mask: bool = False, return_attention_scores: bool = False
) -> list[Value]:
    """softmax(score(query, key)) value, of query (B, Tq, F), value (B, Tv, F) and, optionally, key.

    The score is q k, or the sum over the features of tanh(q + k), each times a scale. Masked steps of value
    are left out; where query is masked, the output is 0. Luong et al. 2015; Bahdanau et al. 2015.
    """
    if len(inputs) not in (2, 3):
        raise ArgumentError(f"attention takes query, value and key, not {len(inputs)} inputs")
    query, value = inputs[:2]
    q, v, key = (k.floats(x) for x in (query, value, inputs[-1] if len(inputs) == 3 else value))
    scores = _scores(k, q, key)
    counts = value.mask and k.unsqueezed(value.mask, 1)
    if use_causal_mask or k.option("causal", False):
        counts = _and(k, counts, _causal(k, q, v))
    if counts is not None:
        # Keras subtracts the same from all, so that a row of masked steps alone is even
        scores = k.add("Sub", scores, _penalty(k, counts, scores))
    weights = k.add("Softmax", scores, axis=-1)
    y = k.add("MatMul", weights, v)
    if query.mask is not None:
        y = k.zeros_where(query.mask, y)
    outputs = [y._replace(mask=query.mask)]
    return [*outputs, weights._replace(mask=None)] if return_attention_scores else outputs


def _penalty(k: Layer, counts: Value, scores: Value) -> Value:
    large = k.number(1e9, scores)
    return k.add("Where", counts, k.zero(scores), large, rank=counts.rank, dtype=scores.dtype)


def _scores(k: Layer, q: Value, key: Value) -> Value:
    """The scores (B, Tq, Tv) of q (B, Tq, F) and key (B, Tv, F)."""
    additive = k.kind_name == "AdditiveAttention"
    mode, scaled = k.option("score_mode", "dot"), k.option("use_scale", additive)
    concat = not additive and mode == "concat"
    arrays = k.arrays(scaled + concat)
    scale = k.weight("scale", lambda: arrays[0]) if scaled else None
    if not additive and mode == "dot":
        scores = k.add("MatMul", q, k.transposed(key, 0, 2, 1))
        return scores if scale is None else k.add("Mul", scores, scale)
    mixed = k.add("Add", k.unsqueezed(q, 2), k.unsqueezed(key, 1), rank=4)
    if concat:
        squashed = k.add("Tanh", mixed if scale is None else k.add("Mul", mixed, scale))
        total = k.reduced("ReduceSum", squashed, [-1])
        return k.add("Mul", total, k.weight("concat_score_weight", lambda: arrays[-1]))
    squashed = k.add("Tanh", mixed)
    return k.reduced("ReduceSum", squashed if scale is None else k.add("Mul", squashed, scale), [-1])


def _places(k: Layer, x: Value, axis: int) -> Value:
    """The numbers of the steps of x (B, T, ...) along an axis of (1, Tq, Tv)."""
    size = k.squeezed(k.shape_of(x, 1), 0)
    numbers = k.add("Range", k.number(0, size), size, k.number(1, size), rank=1)
    return k.unsqueezed(numbers, *(each for each in range(3) if each != axis))


def _causal(k: Layer, q: Value, v: Value) -> Value:
    return k.add("GreaterOrEqual", _places(k, q, 1), _places(k, v, 2), dtype=BOOL)


def _and(k: Layer, a: Value | None, b: Value | None) -> Value | None:
    return (a or b) if a is None or b is None else k.add("And", a, b)


@layer(
    "MultiHeadAttention", masks="own",
    arguments=(
        "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask", "return_attention_scores",
        "training", "use_causal_mask",
    ),
)  # fmt: skip
def multi_head_attention(
    k: Layer,
    query: Value,
    *,
    value: list[Value],
    key: list[Value] | None = None,
    attention_mask: list[Value] | None = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
    **masks: Any,
) -> list[Value]:
    """Attention of several heads: softmax(q k / sqrt(key_dim)) v of projections of query, key and value.

    Vaswani et al. 2017.
    """
    heads, size = k.option("num_heads"), k.option("key_dim")
    value_size = k.option("value_dim", None) or size
    bias = k.option("use_bias", True)
    k.option("output_shape", None)
    if k.option("attention_axes", None) not in (None, [1]) or k.option("sliding_window", None):
        raise k.error("has attention_axes or sliding_window, which Onward does not support")
    for name in ("use_gate", "softmax_robust_masking"):
        if k.option(name, False):
            raise k.error(f"has {name}=True, which Onward does not support")
    for name in ("query_shape", "key_shape", "value_shape"):
        k.option(name, None)
    (v,), (source,) = value, key or value
    k.rank(query, 3)
    projected = {
        "query": _heads(k, "query", query, heads, size, bias),
        "key": _heads(k, "key", source, heads, size, bias),
        "value": _heads(k, "value", v, heads, value_size, bias),
    }
    q = k.add("Mul", projected["query"], 1 / float(np.sqrt(float(size))))
    scores = k.add("MatMul", q, k.transposed(projected["key"], 0, 1, 3, 2))
    counts = _mask_of_heads(k, query, v, source if key else None, attention_mask, use_causal_mask, masks)
    if counts is not None:
        lowest = k.number(-0.7 * float(np.finfo(scores.dtype).max), scores)
        scores = k.add("Where", counts, scores, lowest, rank=4, dtype=scores.dtype)
    weights = k.add("Softmax", scores, axis=-1)
    if counts is not None and return_attention_scores and k.context.version == 3:  # computed in another way
        weights = k.add("Where", counts, weights, k.zero(weights), rank=4, dtype=weights.dtype)
    y = k.transposed(k.add("MatMul", weights, projected["value"]), 0, 2, 1, 3)
    joined = k.reshaped(y, k.shape_of(y, 0, 1), -1, rank=3)
    output = _projection(k, "attention_output", 1 + bias)
    kernel = k.weight("attention_output/kernel", lambda: output[0].reshape(heads * value_size, -1))
    rest = [k.weight("attention_output/bias", lambda: output[1])] if bias else []
    y = k.add("MatMul", joined, kernel, *rest)._replace(mask=query.mask)
    return [y, weights] if return_attention_scores else [y]


def _projection(k: Layer, name: str, count: int) -> list[Any]:
    """The weights of one of the dense layers inside."""
    attribute = f"{name}_dense" if name != "attention_output" else "output_dense"
    return k.once(name, lambda: k.weights.part(attribute).take(count))


def _heads(k: Layer, name: str, x: Value, heads: int, size: int, bias: bool) -> Value:
    """The projection of x (B, T, F) to (B, heads, T, size)."""
    arrays = _projection(k, name, 1 + bias)
    kernel = k.weight(f"{name}/kernel", lambda: arrays[0].reshape(-1, heads * size))
    rest = [k.weight(f"{name}/bias", lambda: arrays[1].reshape(-1))] if bias else []
    y = k.add("MatMul", k.floats(x), kernel, *rest)
    return k.transposed(k.reshaped(y, k.shape_of(y, 0, 1), heads, size, rank=4), 0, 2, 1, 3)


def _mask_of_heads(
    k: Layer,
    query: Value,
    value: Value,
    key: Value | None,
    given: list[Value] | None,
    causal: bool,
    masks: dict[str, Any],
) -> Value | None:
    """Which scores (B, 1, Tq, Tv) count, by the masks of all inputs; None if all do."""
    counts: Value | None = None if query.mask is None else k.unsqueezed(query.mask, 2)
    for name, x in (("value_mask", value), ("key_mask", key)):
        mask = masks[name][0] if masks.get(name) else x and x.mask
        counts = _and(k, counts, None if mask is None else k.unsqueezed(mask, 1))
    if causal:
        counts = _and(k, counts, _causal(k, query, value))
    if given is not None:
        counts = _and(k, counts, k.cast(given[0], BOOL))
    return None if counts is None else k.unsqueezed(counts, 1)
