"""Keras' attention between sequences: Attention (Luong), AdditiveAttention (Bahdanau), MultiHeadAttention."""

import numpy as np

from ...errors import ArgumentError
from .layer import Layer, layer
from .writer import BOOL, Value

ARGUMENTS = ("mask", "training", "return_attention_scores", "use_causal_mask")
HEADS_ARGUMENTS = (
    "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask", "return_attention_scores",
    "training", "use_causal_mask",
)  # fmt: skip


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
    for x in inputs:
        k.rank(x, 3)
    query, value = inputs[:2]
    q, v, key = (k.floats(x) for x in (query, value, inputs[-1] if len(inputs) == 3 else value))
    scores = k.call(_scores, q, key)
    counts = value.mask and k.unsqueezed(value.mask, 1)
    if k.option("causal", False) or use_causal_mask:
        counts = _and(k, counts, _causal(k, q, v))
    if counts is not None:
        # Keras subtracts the same from all, so that a row of masked steps alone is even
        scores = k.add("Sub", scores, k.add("Where", counts, k.number(0, scores), 1e9))
    weights = k.add("Softmax", scores, axis=-1)
    y = k.add("MatMul", weights, v)
    if query.mask is not None:
        y = k.where(query.mask, y)
    return [y.with_mask(query.mask), *([weights] if return_attention_scores else [])]


def _scores(
    k: Layer, q: Value, key: Value, *, score_mode: str = "dot", use_scale: bool | None = None
) -> Value:
    """The scores (B, Tq, Tv) of q (B, Tq, F) and key (B, Tv, F)."""
    additive = k.kind_name == "AdditiveAttention"
    concat = not additive and score_mode == "concat"
    scale, total = k.arrays(additive if use_scale is None else use_scale, concat)
    scale = k.weight("scale", scale)
    if not additive and score_mode == "dot":
        scores = k.add("MatMul", q, k.transposed(key, 0, 2, 1))
        return scores if scale is None else k.add("Mul", scores, scale)
    mixed = k.add("Add", k.unsqueezed(q, 2), k.unsqueezed(key, 1))
    if concat:
        squashed = k.add("Tanh", mixed if scale is None else k.add("Mul", mixed, scale))
        sums = k.reduced("ReduceSum", squashed, [-1])
        return k.add("Mul", sums, k.weight("concat_score_weight", total))
    squashed = k.add("Tanh", mixed)
    return k.reduced("ReduceSum", squashed if scale is None else k.add("Mul", squashed, scale), [-1])


def _causal(k: Layer, q: Value, v: Value) -> Value:
    """Return which scores (1, Tq, Tv) count if each step of q sees only the steps of v up to its own."""

    def places(x: Value, *others: int) -> Value:
        size = k.squeezed(k.shape_of(x, 1), 0)
        return k.unsqueezed(k.add("Range", k.number(0, size), size, k.number(1, size), rank=1), *others)

    return k.add("GreaterOrEqual", places(q, 0, 2), places(v, 0, 1))


def _and(k: Layer, a: Value | None, b: Value | None) -> Value | None:
    return (a or b) if a is None or b is None else k.add("And", a, b)


@layer("MultiHeadAttention", masks="own", arguments=HEADS_ARGUMENTS)
def multi_head_attention(
    k: Layer,
    query: Value,
    *,
    value: list[Value],
    key: list[Value] | None = None,
    attention_mask: list[Value] | None = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
    **masks: list[Value],
) -> list[Value]:
    """Attention of several heads: softmax(q k / sqrt(key_dim)) v of projections of query, key and value.

    Vaswani et al. 2017.
    """
    heads, size = k.option("num_heads"), k.option("key_dim")
    value_size, bias = k.option("value_dim", None) or size, k.option("use_bias", True)
    if (axes := k.option("attention_axes", None)) not in (None, [1]):
        raise k.error(f"has attention_axes={axes}, which Onward does not support")
    (v,), (source,) = value, key or value
    k.rank(query, 3)

    def projected(name: str, x: Value, size: int) -> Value:
        """The projection of x (B, T, F) to (B, heads, T, size)."""
        kernel, offset = k.arrays(True, bias, part=f"{name}_dense")
        offset = None if offset is None else offset.reshape(-1)
        y = k.product(k.floats(x), kernel.reshape(-1, heads * size), offset, f"{name}/")
        return k.transposed(k.reshaped(y, k.shape_of(y, 0, 1), heads, size, rank=4), 0, 2, 1, 3)

    q, keys = projected("query", query, size), projected("key", source, size)
    values = projected("value", v, value_size)
    scores = k.add("MatMul", k.add("Mul", q, 1 / float(np.sqrt(float(size)))), k.transposed(keys, 0, 1, 3, 2))

    counts: Value | None = None if query.mask is None else k.unsqueezed(query.mask, 2)
    for name, each in (("value_mask", v), ("key_mask", source if key else None)):
        mask = masks[name][0] if masks.get(name) else each and each.mask
        counts = _and(k, counts, None if mask is None else k.unsqueezed(mask, 1))
    if use_causal_mask:
        counts = _and(k, counts, _causal(k, query, v))
    if attention_mask is not None:
        counts = _and(k, counts, k.cast(attention_mask[0], BOOL))
    if k.context.attention_removes_masks:
        k.context.unmasked.update(each.name for each in (query, v, source))
    if counts is not None:
        counts = k.unsqueezed(counts, 1)
        scores = k.add("Where", counts, scores, -0.7 * float(np.finfo(scores.dtype).max))
    weights = k.add("Softmax", scores, axis=-1)
    if counts is not None and return_attention_scores and k.context.version == 3:  # computed in another way
        weights = k.add("Where", counts, weights, 0)
    y = k.transposed(k.add("MatMul", weights, values), 0, 2, 1, 3)
    joined = k.reshaped(y, k.shape_of(y, 0, 1), -1, rank=3)
    kernel, offset = k.arrays(True, bias, part="output_dense")
    offset = None if offset is None else offset.reshape(-1)
    y = k.product(joined, kernel.reshape(heads * value_size, -1), offset, "attention_output/")
    if kernel.ndim > 3:  # output_shape has several sizes
        y = k.reshaped(y, k.shape_of(y, 0, 1), *kernel.shape[2:], rank=kernel.ndim)
    return [y.with_mask(query.mask), *([weights] if return_attention_scores else [])]
