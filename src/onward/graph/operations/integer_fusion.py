"""Fuse the conversion, scale and bias of an integer product into its step."""

import math

from ..plan.builder import Builder
from ..plan.view import View

MAX_DISTANCE = 64  # steps between a product and the operations that may become a part of it


def converted(b: Builder, x: View) -> View | None:
    """Let the integer product that computes x return float32; None if x is something else.

    Here and below, the caller ensures that nothing else reads x.
    """
    if floats := _exact_floats(b, x):
        return floats
    place = _product_of(b, x)
    if place is None:
        return None
    *product, scale, bias, y = b.steps[place][1]
    if y.dtype != "int32":
        return None
    b.steps[place] = "integer_product", (*product, scale, bias, y.of_dtype("float32"))
    return x.of_dtype("float32")


def _exact_floats(b: Builder, x: View) -> View | None:
    """Drop the last step if it is a cast of whole float32 numbers to x, and return these numbers."""
    if len(b.steps) == b.segment_start or b.steps[-1][0] != "cast":
        return None
    floats, integers = b.steps[-1][1]
    is_x = integers[:2] == x[:2] and math.prod(integers.shape) == math.prod(x.shape)
    if not is_x or integers not in b.exact_casts or floats.strides != integers.strides:
        return None
    del b.steps[-1]
    return View(floats.space, floats.offset, x.shape, x.strides, "float32")


def fuse(b: Builder, operation: str, x: View, operand: View) -> View | None:
    """Multiply the integer product that computes x by a scale, or add a bias; None if that does not apply."""
    place = _product_of(b, x)
    if place is None:
        return None
    *product, scale, bias, y = b.steps[place][1]
    vector = _per_unit(operand, x, y)
    if y.dtype != "float32" or vector is None or (bias is not None and bias.dtype == "float32"):
        return None
    if operation == "multiply" and scale is None:
        scale = vector
    elif operation == "add" and bias is None and vector.shape == y.shape[1:]:
        bias = vector
    else:
        return None
    del b.steps[place]  # the step moves behind those that compute the operand
    b.add("integer_product", *product, scale, bias, y)
    return x


def _product_of(b: Builder, x: View) -> int | None:
    """Return the place of the step that computes x if it is an integer product that can still change."""
    if not b.has_integer_products:
        return None
    first = max(b.segment_start, len(b.steps) - MAX_DISTANCE)
    for place in range(len(b.steps) - 1, first - 1, -1):
        step, arguments = b.steps[place]
        if step == "integer_product" and arguments[-1][:2] == x[:2]:
            y: View = arguments[-1]
            return place if math.prod(y.shape) == math.prod(x.shape) and y.dtype == x.dtype else None
    return None


def _per_unit(operand: View, x: View, y: View) -> View | None:
    """Return an operand of x as a vector, of one element or of one for each column of the product y."""
    if operand.dtype != "float32" or len(operand.shape) > len(x.shape):
        return None
    axes = [axis for axis in range(-len(operand.shape), 0) if operand.shape[axis] != 1]
    if not axes:
        return operand.with_axes((1,), (1,))
    (axis, *others), units = axes, y.shape[1]
    is_aligned = not others and x.shape[axis] == operand.shape[axis] == units and x.strides[axis] == 1
    if not is_aligned or operand.strides[axis] != 1:
        return None
    return operand.with_axes((units,), (1,))
