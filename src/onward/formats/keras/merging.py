"""Keras' layers that merge several values, such as Add, Concatenate and Dot, and their masks."""

from functools import reduce

import numpy as np

from ...errors import ShapeError
from .layer import Layer, layer
from .normalization import unit
from .writer import BOOL, Value

TRUE = np.array(True)
OPERATIONS = {
    "Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Average": "Add", "Maximum": "Max", "Minimum": "Min",
}  # fmt: skip


@layer(*OPERATIONS, masks="own")
def merge(k: Layer, *inputs: Value) -> Value:
    """The inputs, place by place.

    If all inputs have a mask, Keras 3 keeps the steps that count in any of them; products, maxima and minima
    omit the masked ones. Keras 2 keeps the steps that count in every input that has a mask.
    """
    operation = OPERATIONS[k.kind_name]
    values = _of_one_rank(k, list(inputs))
    given = [x.mask for x in inputs if x.mask is not None]
    if k.context.version == 3 and given and k.kind_name == "Multiply":
        return _product(k, values)
    if k.context.version == 3 and given and k.kind_name in ("Maximum", "Minimum"):
        return _extreme(k, operation, values)
    y = reduce(lambda a, b: _binary(k, operation, a, b), values)
    if k.kind_name == "Average":
        y = k.add("Div", y, float(len(values)))
    every, known = k.context.version < 3, len(given) == len(values)
    return y._replace(
        mask=_joined(k, "And" if every else "Or", given) if given and (every or known) else None
    )


def _binary(k: Layer, operation: str, a: Value, b: Value) -> Value:
    return k.add(operation, a, b, rank=max(k.rank(a), k.rank(b)))


def _joined(k: Layer, operation: str, masks: list[Value]) -> Value:
    return reduce(lambda a, b: a if a.name == b.name else _binary(k, operation, a, b), masks)


def _chosen(k: Layer, mask: Value, x: Value, y: Value) -> Value:
    """x where a mask (B, T) is True, otherwise y."""
    return k.add("Where", k.over(mask, x), x, y, rank=x.rank, dtype=x.dtype)


def _extreme(k: Layer, operation: str, values: list[Value]) -> Value:
    """Where only one of two steps counts, that one is taken."""
    y, counts = values[0], values[0].mask
    for x in values[1:]:
        given = x if x.mask is None else _chosen(k, x.mask, x, y)
        kept = y if counts is None else _chosen(k, counts, y, given)
        y = _binary(k, operation, kept, given)
        counts = None if counts is None or x.mask is None else _joined(k, "Or", [counts, x.mask])
    return y._replace(mask=counts)


def _product(k: Layer, values: list[Value]) -> Value:
    """A step that does not count is a factor 1; if none counts, the product is 0."""
    factors = [x if x.mask is None else _chosen(k, x.mask, x, k.number(1, x)) for x in values]
    y = reduce(lambda a, b: _binary(k, "Mul", a, b), factors)
    given = [x.mask for x in values if x.mask is not None]
    if len(given) < len(values):
        return y
    counts = _joined(k, "Or", given)
    return _chosen(k, counts, y, k.zero(y))._replace(mask=counts)


def _of_one_rank(k: Layer, values: list[Value]) -> list[Value]:
    """Add axes of size 1 after the batch to values of fewer axes, as Keras does, and use one dtype."""
    rank = max(k.rank(x) for x in values)
    floats = [x for x in values if x.dtype.kind == "f"]
    typed = [k.cast(x, floats[0].dtype) for x in values] if floats else values
    return [
        x if x.rank == rank else k.unsqueezed(x, *range(1, 1 + rank - k.rank(x)))._replace(mask=x.mask)
        for x in typed
    ]


@layer("Concatenate", masks="own")
def concatenate(k: Layer, *inputs: Value) -> Value:
    """The inputs along an axis; for its mask, Keras looks at each feature of a step."""
    axis = k.option("axis", -1)
    rank = k.rank(inputs[0])
    if any(x.rank not in (None, rank) for x in inputs):
        raise ShapeError(f"Concatenate takes values of {[x.rank for x in inputs]} axes; expected one number")
    axis %= rank
    y = k.add("Concat", *inputs, axis=axis)
    given = [x.mask for x in inputs if x.mask is not None]
    if not given:
        return y._replace(mask=None)
    every = k.context.version < 3
    if axis == rank - 1 and rank - 1 == given[0].rank:
        if every:
            return y._replace(mask=_joined(k, "And", given))
        if len(given) == len(inputs):
            return y._replace(mask=_joined(k, "Or", given))
    masks = [_over_features(k, x) for x in inputs]
    joined = k.cast(k.add("Concat", *masks, axis=axis, dtype=BOOL), k.dtype())
    counts = k.reduced("ReduceMin" if every else "ReduceMax", joined, [-1])
    return y._replace(mask=k.cast(counts, BOOL))


def _over_features(k: Layer, x: Value) -> Value:
    """The mask for every element, ones if there is none."""
    shape = k.shape_of(x)
    if x.mask is None:
        return k.add("Expand", k.constant(TRUE), shape, rank=x.rank)
    return k.add("Expand", k.over(x.mask, x), shape, rank=x.rank)


@layer("Dot")
def dot(k: Layer, a: Value, b: Value) -> Value:
    """Products along an axis of each of two inputs; with normalize, of unit vectors."""
    axes = k.option("axes")
    places = [axes, axes] if isinstance(axes, int) else axes
    normalize = k.option("normalize", False)
    moved = []
    for x, axis in zip((a, b), places, strict=True):
        place = axis % k.rank(x)
        moved.append(k.floats(unit(k, k.floats(x), [place]) if normalize else x))
    letters = iter("cdefghijklmn")
    shared, labels = "z", []
    for x, axis in zip(moved, places, strict=True):
        own = ["a", *(next(letters) for _ in range(k.rank(x) - 1))]
        own[axis % k.rank(x)] = shared
        labels.append("".join(own))
    output = "a" + "".join(c for label in labels for c in label[1:] if c != shared)
    y = k.add("Einsum", *moved, equation=f"{','.join(labels)}->{output}", rank=len(output))
    return y if len(output) > 1 else k.unsqueezed(y, 1)
