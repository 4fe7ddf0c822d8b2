"""What the operators of the onnx package's reference cost: they run Python for each element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...core import budget

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]
Cost = tuple[int, int]  # steps of Python, and bytes

NUMBER = 32  # bytes of an element and of its copies


def charge(operator: str, inputs: Inputs, attributes: Attributes) -> None:
    """Count the work and the memory of a call before it runs. Raises WorkLimitError and MemoryLimitError."""
    steps, memory = RULES.get(operator, _elements)(inputs, attributes)
    left = budget.current()
    left.spend(budget.STEP * (100 + steps))
    left.check(memory=memory)


def charge_preparation(attributes: Attributes) -> None:
    """Count the work of what an operator prepares from its attributes."""
    lists = [len(value) for value in attributes.values() if isinstance(value, list | np.ndarray)]
    groups = len(attributes.get("ngram_counts", ()))  # each may read all items
    budget.spend(budget.STEP * (100 + sum(lists) + groups * max(lists, default=0)))


def _elements(inputs: Inputs, attributes: Attributes) -> Cost:
    """Some steps for each element of the inputs and of the attributes."""
    lists = sum(len(value) for value in attributes.values() if isinstance(value, list | np.ndarray))
    count = lists + sum(x.size for x in inputs if x is not None)
    return 10 * count, NUMBER * count


def _times(count: Callable[[Inputs, Attributes], Any]) -> Callable[[Inputs, Attributes], Cost]:
    """Return the rule of an operator that takes so many steps, of a number each, beside its elements."""

    def rule(inputs: Inputs, attributes: Attributes) -> Cost:
        steps, memory = _elements(inputs, attributes)
        more = count(inputs, attributes)
        return steps + more, memory + NUMBER * more

    return rule


def _text(inputs: Inputs, attributes: Attributes) -> Cost:
    """Each string takes as much memory as the longest one, which may grow when it is normalized."""
    texts = [str(text) for text in inputs[0].flat]
    growth = 1 if all(map(str.isascii, texts)) else 18
    longest = max(map(len, [*texts, *map(str, attributes.get("values_strings", ()))]), default=0)
    characters = growth * (sum(map(len, texts)) + sum(map(len, attributes.get("stopwords", ()))))
    return 10 * len(texts) + characters, 8 * growth * len(texts) * (longest + 1)


def _longest(attributes: Attributes, *names: str) -> int:
    return max(len(attributes.get(name, ())) for name in names)


def _regions(inputs: Inputs, attributes: Attributes) -> Any:
    """The samples in each part of each region, of each channel."""
    x, boxes, rows = inputs
    parts = [max(1, abs(attributes.get(name, 1))) for name in ("output_width", "output_height")]
    sides = np.nan_to_num(np.ptp(boxes.reshape(-1, 2, 2).astype(np.float64), axis=1)).max(0, initial=1)
    ratio, scale = attributes.get("sampling_ratio", 0), abs(attributes.get("spatial_scale", 1.0))
    largest = [int(min(1e18, scale * side)) // n + 1 for side, n in zip(sides, parts, strict=True)]
    samples = ratio * ratio if ratio > 0 else math.prod(largest)
    return 10 * len(rows) * (1 + x.shape[1]) * math.prod(parts) * samples


def _deformed(inputs: Inputs, attributes: Attributes) -> Any:
    """The samples of a kernel at each place, for each pair of channels."""
    x, W, offset = inputs[:3]
    return 20 * math.prod((x.shape[0], x.shape[1], W.shape[0], *W.shape[2:], *offset.shape[2:]))


def _grams(inputs: Inputs, attributes: Attributes) -> Any:
    """Each sequence of some elements with some gaps, and the counts of each row."""
    x = inputs[0]
    counts = (x.shape[0] if x.ndim > 1 else 1) * (1 + max(attributes.get("ngram_indexes", ()), default=0))
    lengths = (1 + attributes.get("max_skip_count", 0)) * max(1, attributes.get("max_gram_length", 1))
    return 10 * (x.size * lengths + counts)


def _trees(inputs: Inputs, attributes: Attributes) -> Any:
    """The nodes of all trees, counted again wherever nodes share them, for each row."""
    names = [f"nodes_{branch}{kind}" for branch in ("true", "false") for kind in ("nodeids", "leafs")]
    true, true_leafs, false, false_leafs = (attributes.get(name, ()) for name in names)
    waiting, count, left = list(attributes.get("tree_roots", ())), 0, budget.current()
    while waiting:
        node = waiting.pop()
        if not 0 <= node < min(map(len, (true, true_leafs, false, false_leafs))):
            break  # the reference refuses it
        left.spend(20 * budget.STEP)
        count += 1
        waiting += [
            branch[node]
            for branch, is_leaf in ((true, true_leafs), (false, false_leafs))
            if not is_leaf[node]
        ]
    return (10 + len(inputs[0])) * count


RULES: dict[str, Callable[[Inputs, Attributes], Cost]] = {
    "StringNormalizer": _text,
    "RoiAlign": _times(_regions),
    "DeformConv": _times(_deformed),
    "TfIdfVectorizer": _times(_grams),
    "ai.onnx.ml.ArrayFeatureExtractor": _times(lambda i, _: math.prod(i[0].shape[:-1]) * i[1].size),
    "ai.onnx.ml.FeatureVectorizer": _times(
        lambda inputs, a: sum(map(abs, a.get("inputdimensions", ()))) * max(len(x) for x in inputs)
    ),
    "ai.onnx.ml.LabelEncoder": _text,
    "ai.onnx.ml.LinearRegressor": _times(
        lambda inputs, attributes: inputs[0].size * max(1, attributes.get("targets", 1)) // 10
    ),
    "ai.onnx.ml.OneHotEncoder": _times(
        lambda inputs, attributes: inputs[0].size * _longest(attributes, "cats_int64s", "cats_strings")
    ),
    "ai.onnx.ml.Scaler": _times(lambda inputs, a: inputs[0].size * _longest(a, "offset", "scale") // 10),
    "ai.onnx.ml.TreeEnsemble": _times(_trees),
}
