"""ONNX's Resize and Upsample, in float32's coordinates as onnxruntime and PyTorch.

The onnx package's take float64's, which at a tie is another neighbor, and divide the corners that
align_corners aligns by a size that is not whole.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError
from .corrected import Corrected
from .operators import AnyArray, floats

LEFT = {"antialias", "exclude_outside"}  # to the onnx package, as are regions of interest and fixed ratios
COORDINATES = {"half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "tf_half_pixel_for_nn"}


class Resize(Corrected):
    """X by scales or to sizes; of opset 10, and as Upsample, without options."""

    linked = False  # by its attributes it is known whether it is left to the onnx package

    def __init__(self, node: Any, run_params: dict[str, Any]) -> None:
        super().__init__(node, run_params)
        self._plain = run_params["opsets"][""] < 11

    @classmethod
    def takes(cls, attributes: dict[str, Any], outputs: int, opset: int) -> bool:
        coordinates = attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
        stretched = attributes.get("keep_aspect_ratio_policy", b"stretch") == b"stretch"
        return coordinates in COORDINATES and stretched and not any(map(attributes.get, LEFT))

    def _run(
        self,
        X: AnyArray,
        *inputs: AnyArray | None,
        axes: Sequence[int] | None = None,
        mode: str = "nearest",
        nearest_mode: str = "round_prefer_floor",
        coordinate_transformation_mode: str = "half_pixel",
        cubic_coeff_a: float = -0.75,
        scales: Sequence[float] | None = None,
        antialias: int = 0,
        exclude_outside: int = 0,
        extrapolation_value: float = 0.0,
        keep_aspect_ratio_policy: str = "stretch",
    ) -> tuple[AnyArray]:
        """`inputs`: roi, scales, sizes; scales alone of opset 10, which were an attribute at first.

        extrapolation_value is for coordinates that the onnx package computes.
        """
        if self._plain:
            coordinate_transformation_mode, nearest_mode = "asymmetric", "floor"
            inputs = (None, *inputs) if inputs else (None, np.array(scales, np.float32))
        _, by, sizes = (*inputs, None, None)[:3]
        y = X if mode == "nearest" else floats("X", X)
        for place, axis in enumerate(range(X.ndim) if axes is None else axes):
            before = X.shape[axis]
            if sizes is not None and sizes.size:
                after, scale = int(sizes[place]), np.float32(sizes[place]) / np.float32(before)
            elif by is not None:
                after, scale = int(by[place] * np.float32(before)), np.float32(by[place])
            else:
                raise ArgumentError("Resize has neither scales nor sizes")
            if after != before or scale != 1:
                at = _coordinates(coordinate_transformation_mode, before, after, scale)
                places, weights = _neighbors(mode, nearest_mode, at, np.float32(cubic_coeff_a))
                y = _joined(y, axis % X.ndim, places.clip(0, before - 1), weights)
        return (y.astype(X.dtype, copy=False),)


def _coordinates(mode: str, before: int, after: int, scale: np.float32) -> Any:
    """Where each element of an axis lies in what it is made of."""
    i, half = np.arange(after, dtype=np.float32), np.float32(0.5)
    if mode == "asymmetric":
        return i / scale
    if mode == "tf_half_pixel_for_nn":
        return (i + half) / scale
    if mode == "align_corners":
        return i * np.float32(before - 1) / np.float32(max(after - 1, 1))
    alone = mode == "pytorch_half_pixel" and after == 1
    return i * 0 if alone else (i + half) / scale - half


def _neighbors(mode: str, nearest_mode: str, at: Any, a: np.float32) -> tuple[AnyArray, AnyArray | None]:
    """The elements that make each (n, K), and by which weights, if there is more than one."""
    first = np.floor(at)
    if mode == "nearest":
        nearest = {
            "floor": first,
            "ceil": np.ceil(at),
            "round_prefer_floor": np.ceil(at - np.float32(0.5)),
            "round_prefer_ceil": np.floor(at + np.float32(0.5)),
        }
        if nearest_mode not in nearest:
            raise ArgumentError(f"nearest_mode={nearest_mode!r} is not known")
        return nearest[nearest_mode].astype(np.int64)[:, None], None
    part, first = (at - first)[:, None], first.astype(np.int64)[:, None]
    if mode == "linear":
        return first + np.arange(2), np.concatenate([1 - part, part], 1)
    if mode != "cubic":
        raise ArgumentError(f"mode={mode!r} is not known")
    d = np.abs(np.arange(-1, 3, dtype=np.float32) - part)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return first + np.arange(-1, 3), np.where(d <= 1, near, far)


def _joined(x: AnyArray, axis: int, places: AnyArray, weights: AnyArray | None) -> AnyArray:
    """x with the sums of its elements at `places` (n, K) along an axis."""
    taken = np.take(x, places, axis)
    if weights is None:
        return taken.squeeze(axis + 1)
    y: AnyArray = (taken * weights.reshape(*weights.shape, *[1] * (x.ndim - axis - 1))).sum(axis + 1)
    return y.astype(x.dtype, copy=False)


RESIZED = {"Resize": Resize, "Upsample": Resize}
