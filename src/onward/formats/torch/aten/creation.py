"""ATen's operators that create tensors from sizes and numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .promotion import dtype_of
from .registry import FLOAT32, INT64, Operand, Symbol, Tensor, Translator, aten, bounded

Sizes = Sequence[int | Symbol]


def filled(t: Translator, size: Sizes, value: Operand, dtype: Any) -> str:
    """Return a tensor of one number."""
    if isinstance(value, Tensor | Symbol):
        return t.add("Expand", t.cast(value, dtype), t.vector(size))
    return t.add("ConstantOfShape", t.vector(size), value=np.array([value]).astype(dtype))


@aten("zeros", "empty.memory_format", "empty_permuted", "empty_strided", "new_zeros", "new_empty")
def zeros(
    t: Translator,
    self: Tensor | None = None,
    size: Sizes = (),
    dtype: Any = None,
    physical_layout: Any = None,
    stride: Any = None,
) -> str:
    """Tensors without initial values hold zeros."""
    return filled(t, size, 0, _dtype(self, dtype))


def _dtype(like: Tensor | None, dtype: Any) -> Any:
    return dtype if dtype is not None else FLOAT32 if like is None else like.dtype


@aten("ones", "new_ones")
def ones(t: Translator, self: Tensor | None = None, size: Sizes = (), dtype: Any = None) -> str:
    return filled(t, size, 1, _dtype(self, dtype))


@aten("full")
def full(t: Translator, size: Sizes, fill_value: Operand, dtype: Any = None) -> str:
    return filled(t, size, fill_value, dtype_of(fill_value) if dtype is None else dtype)


@aten("new_full")
def new_full(t: Translator, self: Tensor, size: Sizes, fill_value: Operand, dtype: Any = None) -> str:
    return filled(t, size, fill_value, _dtype(self, dtype))


@aten("full_like")
def full_like(t: Translator, self: Tensor, fill_value: Operand, dtype: Any = None) -> str:
    return filled(t, t.sizes(self), fill_value, _dtype(self, dtype))


@aten("zeros_like", "empty_like")
def zeros_like(t: Translator, self: Tensor, dtype: Any = None) -> str:
    return full_like(t, self, 0, dtype)


@aten("ones_like")
def ones_like(t: Translator, self: Tensor, dtype: Any = None) -> str:
    return full_like(t, self, 1, dtype)


@aten("scalar_tensor")
def scalar_tensor(t: Translator, s: Operand, dtype: Any = None) -> str:
    return t.cast(s, dtype_of(s) if dtype is None else dtype)


@aten("arange", "arange.start", "arange.start_step")
def arange(t: Translator, start: Any = 0, end: Any = None, step: Any = 1, dtype: Any = None) -> str:
    if end is None:
        start, end = 0, start
    is_float = any(dtype_of(value).kind == "f" for value in (start, end, step))
    dtype = dtype if dtype is not None else FLOAT32 if is_float else INT64
    if not any(isinstance(value, Symbol) for value in (start, end, step)):
        bounded(abs((end - start) / step) if step else -1)
        return t.constant(np.arange(start, end, step).astype(dtype))
    counted = t.add(
        "Range", *(t.cast(value, np.float64 if is_float else INT64) for value in (start, end, step))
    )
    return t.add("Cast", counted, to=np.dtype(dtype))


@aten("linspace")
def linspace(t: Translator, start: Any, end: Any, steps: Any, dtype: Any = None) -> str:
    bounded(steps)
    return t.constant(np.linspace(start, end, steps).astype(FLOAT32 if dtype is None else dtype))


@aten("eye", "eye.m")
def eye(t: Translator, n: int, m: int | None = None, dtype: Any = None) -> str:
    bounded(n * (n if m is None else m))
    return t.constant(np.eye(n, m).astype(FLOAT32 if dtype is None else dtype))


def _define_window(name: str, window: Any) -> None:
    @aten(name, f"{name}.periodic")
    def function(t: Translator, window_length: int, periodic: bool = True, dtype: Any = None) -> str:
        bounded(window_length)
        values = window(window_length + 1)[:-1] if periodic else window(window_length)
        return t.constant(values.astype(FLOAT32 if dtype is None else dtype))


for _name, _window in {
    "hann_window": np.hanning, "hamming_window": np.hamming, "blackman_window": np.blackman,
    "bartlett_window": np.bartlett,
}.items():  # fmt: skip
    _define_window(_name, _window)
