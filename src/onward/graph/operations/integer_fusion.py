"""Fuse the conversion, scale, factor and bias of an integer product into its step."""

import math
from collections.abc import Sequence
from typing import Any

from ..plan.builder import Builder
from ..plan.steps import INTEGER_PRODUCTS, OutputStage
from ..plan.view import View

MAX_DISTANCE = 64  # steps between a product and the operations that may become a part of it

# The place of the step of an integer product, its name, its inputs, its stage and its output.
Product = tuple[int, str, Sequence[Any], OutputStage, View]


def converted(b: Builder, x: View) -> View | None:
    """Let the integer product that computes x return float32; None if x is something else.

    Here and below, the caller ensures that nothing else reads x.
    """
    product = _product_of(b, x)
    if product is None:
        return None
    place, step, inputs, stage, y = product
    if y.dtype != "int32":
        return None
    b.steps[place] = step, (*inputs, *stage, y.of_dtype("float32"))
    return x.of_dtype("float32")


def fuse(b: Builder, operation: str, x: View, operand: View) -> View | None:
    """Multiply the integer product that computes x by a scale, or add a bias; None if that does not apply."""
    product = _product_of(b, x)
    if product is None:
        return None
    place, step, inputs, stage, y = product
    vector = per_unit(operand, x, y)
    if vector is None or vector.dtype != y.dtype or (stage.bias is not None and stage.bias.dtype == y.dtype):
        return None
    if operation == "multiply" and stage.scale is None and y.dtype == "float32":
        stage = stage.with_scale(vector)
    elif operation == "add" and stage.bias is None and vector.shape == y.shape[1:]:
        stage = stage.with_bias(vector)
    else:
        return None
    del b.steps[place]  # it moves behind those that compute the operand
    b.add(step, *inputs, *stage, y)
    return x


def rescaled(
    b: Builder, x: View, multiplier: View, shift: View, limits: list[int], dtype: str
) -> View | None:
    """Let the integer product that computes x rescale its sums; None if x is something else."""
    product = _product_of(b, x)
    if product is None:
        return None
    place, step, inputs, stage, y = product
    factor, power = (per_unit(operand, x, y) for operand in (multiplier, shift))
    if y.dtype != "int32" or factor is None or power is None or not y.is_contiguous():
        return None
    del b.steps[place]
    target = b.new(*y.shape, dtype=dtype)
    b.add(step, *inputs, *OutputStage(None, None, stage.bias, factor, power, *limits), target)
    return View(target.space, target.offset, x.shape, x.strides, dtype)


def _product_of(b: Builder, x: View) -> Product | None:
    """Return the step that computes x if it is an integer product that can still change."""
    if not b.has_integer_products:
        return None
    first = max(b.segment_start, len(b.steps) - MAX_DISTANCE)
    for place in range(len(b.steps) - 1, first - 1, -1):
        step, arguments = b.steps[place]
        if step in INTEGER_PRODUCTS and arguments[-1][:2] == x[:2]:
            inputs, stage, y = arguments[:4], OutputStage(*arguments[4:-1]), arguments[-1]
            is_whole = math.prod(y.shape) == math.prod(x.shape) and y.dtype == x.dtype
            return (place, step, inputs, stage, y) if is_whole and stage.multiplier is None else None
    return None


def per_unit(operand: View, x: View, y: View) -> View | None:
    """Return an operand of x as a vector, of one element or of one for each column of the product y."""
    if len(operand.shape) > len(x.shape):
        return None
    axes = [axis for axis in range(-len(operand.shape), 0) if operand.shape[axis] != 1]
    if not axes:
        return operand.with_axes((1,), (1,))
    (axis, *others), units = axes, y.shape[1]
    is_aligned = not others and x.shape[axis] == operand.shape[axis] == units and x.strides[axis] == 1
    if not is_aligned or operand.strides[axis] != 1:
        return None
    return operand.with_axes((units,), (1,))
