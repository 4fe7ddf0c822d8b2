"""Resize images and sequences to the nearest or by linear interpolation."""

import numpy as np

from ..builder import Builder
from ..node import Node
from ..view import View
from .movement import movement
from .registry import Inputs, known, lowering, view


@lowering("Resize", "Upsample")
def resize(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    mode, attributes = node.attributes.get("mode", "nearest"), node.attributes
    if mode == "nearest" and attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize":
        return movement(b, node, inputs, shapes)
    x, parameters = view(b, inputs[0]), [known(value) for value in inputs[1:]]
    is_unusual = any(
        map(attributes.get, ("antialias", "exclude_outside", "axes", "keep_aspect_ratio_policy"))
    )
    if x is None or mode != "linear" or is_unusual:
        return None
    old = len(inputs) < 3  # Upsample and opset 10 have only scales
    scales = parameters[0] if old and parameters else None if old else parameters[1]
    for axis, (before, after) in enumerate(zip(x.shape, shapes[0], strict=True)):
        scale = np.float32(after) / np.float32(before)
        if scales is not None and scales.size:
            scale = np.float32(scales[axis])
        elif old:
            return None
        if before != after or scale != 1:
            coordinates = (
                "asymmetric" if old else attributes.get("coordinate_transformation_mode", "half_pixel")
            )
            at = _coordinates(coordinates, before, after, scale)
            if at is None:
                return None
            x = _interpolated(b, x, axis, at)
    return [x]


def _coordinates(mode: str, before: int, after: int, scale: np.float32) -> np.ndarray | None:
    """Return where each element of the result lies along an axis of the input; None if not supported."""
    i, half = np.arange(after, dtype=np.float32), np.float32(0.5)
    match mode:
        case "asymmetric":
            return i / scale
        case "align_corners":
            return i * np.float32(before - 1) / np.float32(max(after - 1, 1))
        case "half_pixel":
            return (i + half) / scale - half
        case "pytorch_half_pixel":
            return i * 0 if after == 1 else (i + half) / scale - half
    return None


def _interpolated(b: Builder, x: View, axis: int, at: np.ndarray) -> View:
    """Interpolate linearly at positions along an axis; positions outside take the nearest element."""
    first, last = np.floor(at), x.shape[axis] - 1
    weight = (at - first).reshape(-1, *[1] * (len(x.shape) - axis - 1))
    terms = []
    for step, factor in ((0, 1 - weight), (1, weight)):
        offsets = np.take(x.offsets(), (first + step).clip(0, last).astype(np.int64), axis)
        neighbors = b.new(*offsets.shape)
        b.add("gather", x, (offsets - x.offset).ravel().tolist(), neighbors)
        terms.append(b.binary("multiply", neighbors, b.constant(factor.astype(np.float32))))
    return b.binary("add", *terms)
