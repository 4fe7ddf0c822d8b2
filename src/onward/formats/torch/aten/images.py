"""ATen's operators of images: resizing, windows, grids and shuffles."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .convolutions import batched, spread, unbatched
from .registry import Tensor, Translator, aten, bounded
from .shapes import permuted, reshaped

Sizes = Sequence[int]
NAMES = [f"{kind}{n}d" for kind in ("upsample_nearest", "_upsample_nearest_exact") for n in (1, 2, 3)]
NAMES += ["upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"]
NAMES += ["_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"]


@aten(*(f"{name}.vec" for name in NAMES))
def upsample_vec(
    t: Translator, input: Tensor, output_size: Any, scale_factors: Any = None, align_corners: bool = False
) -> str:
    n, target = input.rank - 2, t.node.target
    nearest, exact = "nearest" in target, "exact" in target
    if output_size is not None:
        scales, sizes = None, t.vector([*t.sizes(input)[:2], *output_size])
    else:
        scales, sizes = t.constant([1.0, 1.0, *spread(scale_factors, n)], np.float32), None
    positions = "align_corners" if align_corners else "half_pixel"
    return t.add(
        "Resize",
        input,
        None,
        scales,
        sizes,
        mode="nearest" if nearest else "cubic" if "cubic" in target else "linear",
        nearest_mode="round_prefer_ceil" if exact else "floor",
        coordinate_transformation_mode="asymmetric" if nearest and not exact else positions,
        **({"antialias": 1, "exclude_outside": 1, "cubic_coeff_a": -0.5} if "_aa" in target else {}),
    )


@aten(*NAMES)
def upsample(
    t: Translator, self: Tensor, output_size: Any, align_corners: bool = False, **scales: float | None
) -> str:
    factors = [scale for scale in scales.values() if scale is not None]
    return upsample_vec(t, self, None if factors else output_size, factors, align_corners)


@aten("pixel_shuffle")
def pixel_shuffle(t: Translator, self: Tensor, upscale_factor: int) -> str:
    return t.add("DepthToSpace", self, blocksize=upscale_factor, mode="CRD")


@aten("col2im")
def col2im(
    t: Translator,
    self: Tensor,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes,
    padding: Sizes,
    stride: Sizes,
) -> str:
    value, missing = batched(t, self, 1)
    y = t.add(
        "Col2Im",
        value,
        t.vector(output_size),
        t.vector(kernel_size),
        dilations=list(dilation),
        pads=list(padding) * 2,
        strides=list(stride),
    )
    return unbatched(t, y, missing)


@aten("im2col")
def im2col(
    t: Translator, self: Tensor, kernel_size: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes
) -> str:
    """The windows of an image (B, C, H, W) as columns (B, C * kernel, windows)."""
    channels, taps = self.shape[-3], math.prod(kernel_size)
    if channels is None or self.rank != 4:
        raise ArgumentError("im2col of an image without a batch or of unknown channels is not supported")
    bounded(channels * taps * taps)
    W = np.tile(np.eye(taps).reshape(taps, 1, *kernel_size), (channels, 1, 1, 1))
    y = t.add(
        "Conv",
        self,
        t.constant(W, self.dtype),
        None,
        strides=list(stride),
        pads=list(padding) * 2,
        dilations=list(dilation),
        group=channels,
    )
    return reshaped(t, y, [t.size(self, 0), channels * taps, -1])


@aten("pixel_unshuffle")
def pixel_unshuffle(t: Translator, self: Tensor, downscale_factor: int) -> str:
    return t.add("SpaceToDepth", self, blocksize=downscale_factor, mode="CRD")


@aten("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def grid_sampler(
    t: Translator,
    input: Tensor,
    grid: Tensor,
    interpolation_mode: int,
    padding_mode: int,
    align_corners: bool,
) -> str:
    return t.add(
        "GridSample",
        input,
        grid,
        mode=("linear", "nearest", "cubic")[interpolation_mode],
        padding_mode=("zeros", "border", "reflection")[padding_mode],
        align_corners=int(align_corners),
    )


@aten("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(t: Translator, self: Tensor, groups: int) -> str:
    sizes = t.sizes(self)
    grouped = reshaped(t, self, [sizes[0], groups, -1, *sizes[2:]])
    order = [0, 2, 1, *range(3, self.rank + 1)]
    return reshaped(t, permuted(t, Tensor(grouped, self.dtype, (None,) * (self.rank + 1)), order), sizes)


@aten("affine_grid_generator")
def affine_grid(t: Translator, theta: Tensor, size: Sequence[Any], align_corners: bool) -> str:
    return t.add("AffineGrid", theta, t.vector(size), align_corners=int(align_corners))
