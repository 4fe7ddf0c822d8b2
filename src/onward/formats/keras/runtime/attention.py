"""Keras' attention between two sequences: Attention (Luong) and AdditiveAttention (Bahdanau)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ....core.arrays import Array, Shape
from ....core.arrays import as_floats as as_dtype
from ....core.checks import Rng
from ....errors import ArgumentError
from ....layers.base import RunRecurrent, Weighted, uniform
from .activation_layers import softmax, tanh
from .layer import AnyArray, KerasLayer, Mask, Masked
from .products import product


class Attention(Weighted, KerasLayer):
    """keras.layers.Attention and AdditiveAttention: y = softmax(score(query, key)) value.

    score: "dot", q k; "concat", sum tanh(q + k); "additive", sum scale tanh(q + k), a scale for each feature.
    scale_size: how many numbers `scale` has, 0 without. Inputs: query (B, Tq, F), value (B, Tv, F) and,
    optionally, key (B, Tv, F). Masked steps of value are left out; where query is masked, y is 0.
    Source: Luong et al. 2015; Bahdanau et al. 2015.
    """

    arguments = ("mask", "training", "return_attention_scores", "use_causal_mask")

    def __init__(
        self,
        score: str = "dot",
        scale_size: int = 0,
        concat_weight: bool = False,
        *,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
    ) -> None:
        self.score = score
        self.scale_size = scale_size
        self.concat_weight = concat_weight
        self._draw(dtype, rng, uniform(1.0))

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        if self.scale_size:
            yield "scale", (self.scale_size,)
        if self.concat_weight:
            yield "concat_score_weight", (1,)

    def run(
        self,
        inputs: Sequence[Masked],
        run_recurrent: RunRecurrent,
        use_causal_mask: bool = False,
        return_attention_scores: bool = False,
        **options: Any,
    ) -> list[Masked]:
        if options or len(inputs) not in (2, 3):
            raise ArgumentError(
                f"attention takes query, value and key, not {len(inputs)} inputs{options or ''}"
            )
        query, value, key = [*inputs, inputs[1]][:3] if len(inputs) == 2 else inputs
        q, v, k = (as_dtype(x.array, self.dtype, "x") for x in (query, value, key))
        own = self._weights  # read once: another thread may replace them
        scores = np.stack([self._score(*rows, own) for rows in zip(q, k, strict=True)])
        counts = _counts(scores.shape, value.mask, use_causal_mask)
        if counts is not None:
            # as Keras: far below any other, and the same for all, so that a row of nothing but these is even
            scores = scores - np.where(counts, 0, scores.dtype.type(1e9))
        weights = softmax(scores)
        y = np.stack([product(w, rows.T) for w, rows in zip(weights, v, strict=True)])
        if query.mask is not None:
            y[~query.mask] = 0
        outputs = [Masked(y, query.mask)]
        return [*outputs, Masked(weights)] if return_attention_scores else outputs

    def _score(self, q: Array, k: Array, weights: dict[str, Array]) -> Array:
        """q (Tq, F) and k (Tv, F) to (Tq, Tv)."""
        scale = weights.get("scale")
        if self.score == "dot":
            scores = product(q, k)
            return scores if scale is None else scores * scale
        mixed = q[:, None] + k[None]
        if self.score == "concat":
            squashed = tanh(mixed if scale is None else scale * mixed)
            weighted: Array = squashed.sum(axis=-1) * weights["concat_score_weight"]
            return weighted
        squashed = tanh(mixed)
        summed: Array = (squashed if scale is None else scale * squashed).sum(axis=-1)
        return summed


def _counts(shape: Shape, mask: Mask | None, causal: bool) -> AnyArray | None:
    """Which scores (B, Tq, Tv) count; None for all."""
    counts = None if mask is None else np.broadcast_to(mask[:, None], shape)
    if causal:
        earlier = np.tri(*shape[1:], dtype=np.bool_)
        counts = earlier if counts is None else counts & earlier
    return counts
