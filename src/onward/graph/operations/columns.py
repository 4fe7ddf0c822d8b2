"""Col2Im: images as the sums of overlapping blocks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ShapeError
from ..node import AnyArray, Signature
from .arguments import as_integers
from .registry import Known, operation


def _signature(x: Known, image_shape: AnyArray, block_shape: AnyArray, **attributes: Any) -> Signature:
    channels = x.shape[1] // int(np.prod(as_integers(block_shape)))
    return Signature((x.shape[0], channels, *as_integers(image_shape)), x.dtype)


@operation("Col2Im", signature=_signature, shape_inputs=(1, 2), widens=True)
def col2im(
    x: AnyArray,
    image_shape: AnyArray,
    block_shape: AnyArray,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Any:
    """x (N, channels * block, blocks) to images (N, channels, *image_shape); blocks add up in block order."""
    image, block = as_integers(image_shape), as_integers(block_shape)
    rank = len(image)
    dilations, strides, pads = dilations or [1] * rank, strides or [1] * rank, pads or [0] * 2 * rank
    padded = [size + pads[i] + pads[i + rank] for i, size in enumerate(image)]
    counts = [
        (size - dilation * (width - 1) - 1) // stride + 1
        for size, width, dilation, stride in zip(padded, block, dilations, strides, strict=True)
    ]
    shape = _signature(x, image_shape, block_shape).shape
    try:
        columns = x.reshape(*shape[:2], *block, *counts)
    except ValueError as error:
        raise ShapeError(
            f"x has shape {x.shape}, which does not hold blocks of shape {block} at {counts} positions"
        ) from error
    canvas = np.zeros((*shape[:2], *padded), x.dtype)
    for place in np.ndindex(*block):
        covered = tuple(
            slice(i * dilation, i * dilation + stride * count, stride)
            for i, dilation, stride, count in zip(place, dilations, strides, counts, strict=True)
        )
        canvas[:, :, *covered] += columns[:, :, *place]
    return canvas[:, :, *(slice(pads[i], pads[i] + size) for i, size in enumerate(image))]
