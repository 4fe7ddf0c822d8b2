"""ATen's operators that create tensors from sizes and numbers."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .expressions import dtype_of
from .registry import FLOAT32, INT64, Operand, Symbol, Tensor, aten, bounded, define
from .translator import Translator

Sizes = Sequence[int | Symbol]


def filled(t: Translator, size: Sizes, value: Operand, dtype: Any) -> str:
    """Return a tensor of one number."""
    if isinstance(value, Tensor | Symbol):
        return t.add("Expand", t.cast(value, dtype), size)
    return t.add("ConstantOfShape", size, value=np.array([value]).astype(dtype))


def _like(t: Translator, x: Tensor, value: Operand, dtype: Any) -> str:
    return filled(t, t.sizes(x), value, dtype or x.dtype)


def _dtype(like: Tensor | None, dtype: Any) -> Any:
    return dtype or (FLOAT32 if like is None else like.dtype)


def _array(t: Translator, count: Any, array: Any, dtype: Any = None, default: Any = FLOAT32) -> str:
    """Return a constant that a function creates, after a check of the number of its elements."""
    bounded(count)
    return t.constant(array().astype(dtype or default))


def _window(window: Any) -> Any:
    """Return a window as an operator; a window of one element is 1."""

    def function(t: Translator, window_length: int, periodic: bool = True, dtype: Any = None) -> str:
        count = window_length + (periodic and window_length > 1)
        return _array(t, window_length, lambda: window(count)[:window_length], dtype)

    return function


@aten("arange arange.start arange.start_step")
def arange(t: Translator, start: Any = 0, end: Any = None, step: Any = 1, dtype: Any = None) -> str:
    if end is None:
        start, end = 0, start
    is_float = any(dtype_of(value).kind == "f" for value in (start, end, step))
    _require_order(t, start, end, step, np.dtype(np.float64) if is_float else INT64)
    dtype = dtype or (FLOAT32 if is_float else INT64)
    if not any(isinstance(value, Symbol) for value in (start, end, step)):
        return _array(
            t, abs((end - start) / step) if step else -1, lambda: np.arange(start, end, step), dtype
        )
    limits = (t.cast(value, np.float64 if is_float else INT64) for value in (start, end, step))
    return t.add("Cast", t.add("Range", *limits), to=np.dtype(dtype))


def _require_order(t: Translator, start: Any, end: Any, step: Any, dtype: np.dtype[Any]) -> None:
    """Raise ArgumentError, now or in a call, unless a range ends in the direction of its step."""
    if isinstance(step, Symbol):
        return
    low, high = (start, end) if step > 0 else (end, start)
    message = f"a range in steps of {step} ends before it starts"
    if isinstance(low, Symbol) or isinstance(high, Symbol):
        low, high = (Symbol(t.cast(value, dtype), dtype) for value in (low, high))
        t.require("LessOrEqual", low, high, message)
    elif low > high:
        raise ArgumentError(message)


@aten("linspace linspace.Tensor_Tensor linspace.Tensor_Scalar linspace.Scalar_Tensor")
def linspace(t: Translator, start: Any, end: Any, steps: Any, dtype: Any = None) -> str:
    if not any(isinstance(value, Tensor | Symbol) for value in (start, end)):
        return _array(t, steps, lambda: np.linspace(start, end, steps), dtype)
    wanted = np.dtype(dtype or FLOAT32)
    if wanted.kind != "f":
        raise ArgumentError(f"linspace of {wanted} between tensors is not supported; expected floats")
    a, b = (t.cast(value, wanted) for value in (start, end))
    places = _array(t, steps, lambda: np.linspace(0, 1, steps), wanted)
    return t.add("Add", a, t.add("Mul", places, t.add("Sub", b, a)))


# Tensors without initial values hold zeros.
define({
    "zeros empty.memory_format empty_permuted empty_strided new_zeros new_empty": (
        lambda t, self=None, size=(), dtype=None, physical_layout=None, stride=None: (
            filled(t, size, 0, _dtype(self, dtype)))),
    "ones new_ones": lambda t, self=None, size=(), dtype=None: filled(t, size, 1, _dtype(self, dtype)),
    "full": lambda t, size, fill_value, dtype=None: (
        filled(t, size, fill_value, dtype or dtype_of(fill_value))),
    "new_full": lambda t, self, size, fill_value, dtype=None: (
        filled(t, size, fill_value, dtype or self.dtype)),
    "full_like": lambda t, self, fill_value, dtype=None: _like(t, self, fill_value, dtype),
    "zeros_like empty_like": lambda t, self, dtype=None: _like(t, self, 0, dtype),
    "ones_like": lambda t, self, dtype=None: _like(t, self, 1, dtype),
    "scalar_tensor": lambda t, s, dtype=None: t.cast(s, dtype or FLOAT32),
    "range range.step": lambda t, start, end, step=1, dtype=None: (
        arange(t, start, start + step * (int((end - start) / step) + 0.5), step, dtype or FLOAT32)),
    "logspace": lambda t, start, end, steps, base=10.0, dtype=None: (
        _array(t, steps, lambda: np.logspace(start, end, steps, base=base), dtype)),
    "eye eye.m": lambda t, n, m=None, dtype=None: (
        _array(t, n * (n if m is None else m), lambda: np.eye(n, m), dtype)),
    "tril_indices": lambda t, row, col, offset=0, dtype=None: (
        _array(t, row * col, lambda: np.stack(np.tril_indices(row, offset, col)), dtype, INT64)),
    "triu_indices": lambda t, row, col, offset=0, dtype=None: (
        _array(t, row * col, lambda: np.stack(np.triu_indices(row, offset, col)), dtype, INT64)),
    "fft_fftfreq": lambda t, n, d=1.0, dtype=None: _array(t, n, lambda: np.fft.fftfreq(n, d), dtype),
    "fft_rfftfreq": lambda t, n, d=1.0, dtype=None: _array(t, n, lambda: np.fft.rfftfreq(n, d), dtype),
    "kaiser_window.beta": lambda t, window_length, periodic=True, beta=12.0, dtype=None: (
        _window(lambda n: np.kaiser(n, beta))(t, window_length, periodic, dtype)),
    **{f"{name} {name}.periodic": _window(window) for name, window in {
        "hann_window": np.hanning, "hamming_window": np.hamming, "blackman_window": np.blackman,
        "bartlett_window": np.bartlett, "kaiser_window": lambda n: np.kaiser(n, 12.0)}.items()},
})  # fmt: skip


# Random numbers, which differ in every call.


def _random(t: Translator, like: Any, dtype: Any, is_normal: bool = False) -> str:
    """Return uniform numbers between 0 and 1, or normal ones."""
    operation = "RandomNormalLike" if is_normal else "RandomUniformLike"
    return t.add(operation, like, dtype=np.dtype(dtype))


def _affine(t: Translator, y: str, scale: Operand, shift: Operand, dtype: Any) -> str:
    return t.add("Add", t.add("Mul", y, t.cast(scale, dtype)), t.cast(shift, dtype))


def random(
    t: Translator, self: Tensor | None = None, size: Sizes = (), dtype: Any = None, *, is_normal: bool
) -> str:
    wanted = _dtype(self, dtype)
    like = filled(t, size, 0, wanted) if self is None else self
    return _random(t, like, wanted, is_normal)


@aten("normal.Tensor_Tensor normal.Tensor_float normal.float_Tensor")
def normal_around(t: Translator, mean: Any, std: Any = 1.0) -> str:
    like = mean if isinstance(mean, Tensor) else std
    return _affine(t, _random(t, like, like.dtype, True), std, mean, like.dtype)


@aten("randint randint.low")
def randint(t: Translator, high: int, size: Sizes, low: int = 0, dtype: Any = None) -> str:
    drawn = _random(t, filled(t, size, 0, np.float64), np.float64)
    number = t.add("Floor", _affine(t, drawn, high - low, low, np.float64))
    return t.add("Cast", number, to=np.dtype(dtype or INT64))


@aten("uniform")
def uniform(t: Translator, self: Tensor, **bounds: float) -> str:
    low, high = bounds.get("from", 0.0), bounds.get("to", 1.0)
    return _affine(t, _random(t, self, self.dtype), high - low, low, self.dtype)


@aten("randperm")
def randperm(t: Translator, n: int | Symbol, dtype: Any = None) -> str:
    drawn = _random(t, filled(t, [n], 0, FLOAT32), FLOAT32)
    return t.add("Cast", t.add_all("TopK", (drawn, [n]), 2, axis=0)[1], to=np.dtype(dtype or INT64))


define({
    "rand rand_like": partial(random, is_normal=False),
    "randn randn_like": partial(random, is_normal=True),
    "normal_functional normal": lambda t, self, mean=0.0, std=1.0: (
        _affine(t, _random(t, self, self.dtype, True), std, mean, self.dtype)),
    "bernoulli bernoulli.p bernoulli.float": lambda t, self, p=None: (
        t.add("Cast", t.add("Less", _random(t, self, FLOAT32), t.cast(self if p is None else p, FLOAT32)),
              to=self.dtype)),
})  # fmt: skip
