"""Keras' layers that merge several values, such as Add, Concatenate and Dot, and their masks."""

from functools import reduce
from string import ascii_lowercase
from typing import Any

import numpy as np

from ...errors import ShapeError
from .layer import Layer, layer
from .normalization import unit
from .writer import BOOL, Value

OPERATIONS = {
    "Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Average": "Add", "Maximum": "Max", "Minimum": "Min",
}  # fmt: skip


@layer(*OPERATIONS, masks="own")
def merge(k: Layer, *inputs: Value) -> Value:
    """The inputs, place by place.

    If all inputs have a mask, Keras 3 keeps the steps that count in any of them; products, maxima and minima
    omit the masked ones. Keras 2 keeps the steps that count in every input that has a mask.
    """
    operation, every = OPERATIONS[k.kind_name], k.context.version < 3
    values = _of_one_rank(k, inputs)
    given = [x.mask for x in inputs if x.mask is not None]
    if given and not every and operation in ("Max", "Min"):
        return _extreme(k, operation, values)
    if given and not every and operation == "Mul":  # a step that does not count is a factor 1
        values = [x if x.mask is None else k.where(x.mask, x, 1) for x in values]
    y = reduce(lambda a, b: k.add(operation, a, b), values)
    if k.kind_name == "Average":
        y = k.add("Div", y, float(len(values)))
    if not given or not (every or len(given) == len(values)):
        return y._replace(mask=None)
    mask = _joined(k, "And" if every else "Or", given)
    return (k.where(mask, y) if not every and operation == "Mul" else y)._replace(mask=mask)


def _joined(k: Layer, operation: str, masks: list[Value]) -> Value:
    return reduce(lambda a, b: a if a.name == b.name else k.add(operation, a, b), masks)


def _extreme(k: Layer, operation: str, values: list[Value]) -> Value:
    """Where only one of two steps counts, that one is taken."""
    y, counts = values[0], values[0].mask
    for x in values[1:]:
        given = x if x.mask is None else k.where(x.mask, x, y)
        kept = y if counts is None else k.where(counts, y, given)
        y = k.add(operation, kept, given)
        counts = None if counts is None or x.mask is None else _joined(k, "Or", [counts, x.mask])
    return y._replace(mask=counts)


def _of_one_rank(k: Layer, values: tuple[Value, ...]) -> list[Value]:
    """Add axes of size 1 after the batch to values of fewer axes, as Keras does, and use one dtype."""
    rank = max(k.rank(x) for x in values)
    dtype = next((x.dtype for x in values if x.dtype.kind == "f"), None)
    typed = [k.cast(x, dtype or x.dtype) for x in values]
    return [
        x if x.rank == rank else k.unsqueezed(x, *range(1, 1 + rank - k.rank(x)))._replace(mask=x.mask)
        for x in typed
    ]


@layer("Concatenate", masks="own")
def concatenate(k: Layer, *inputs: Value, axis: int = -1) -> Value:
    """The inputs along an axis; for its mask, Keras looks at each feature of a step."""
    rank = k.rank(inputs[0])
    if any(x.rank not in (None, rank) for x in inputs):
        raise ShapeError(f"Concatenate takes values of {[x.rank for x in inputs]} axes; expected one number")
    axis, every = axis % rank, k.context.version < 3
    y = k.add("Concat", *inputs, axis=axis, rank=rank)
    given = [x.mask for x in inputs if x.mask is not None]
    if not given:
        return y._replace(mask=None)
    if axis == rank - 1 == given[0].rank and (every or len(given) == len(inputs)):
        return y._replace(mask=_joined(k, "And" if every else "Or", given))
    true = k.constant(np.array(True))
    elements = [
        k.add("Expand", true if x.mask is None else k.over(x.mask, x), k.shape_of(x), rank=rank)
        for x in inputs
    ]
    joined = k.cast(k.add("Concat", *elements, axis=axis), k.dtype())
    counts = k.reduced("ReduceMin" if every else "ReduceMax", joined, [-1])
    return y._replace(mask=k.cast(counts, BOOL))


@layer("Dot")
def dot(k: Layer, a: Value, b: Value, *, axes: Any, normalize: bool = False) -> Value:
    """Products along an axis of each of two inputs; with normalize, of unit vectors."""
    letters = iter(ascii_lowercase[2:-1])
    inputs, labels = [], []
    for x, axis in zip((a, b), [axes, axes] if isinstance(axes, int) else axes, strict=True):
        x, axis = k.floats(x), axis % k.rank(x)
        inputs.append(unit(k, x, [axis]) if normalize else x)
        own = ["a", *(next(letters) for _ in range(k.rank(x) - 1))]
        own[axis] = "z"
        labels.append("".join(own))
    output = "a" + "".join(labels).replace("a", "").replace("z", "")
    y = k.add("Einsum", *inputs, equation=f"{','.join(labels)}->{output}", rank=len(output))
    return y if len(output) > 1 else k.unsqueezed(y, 1)
