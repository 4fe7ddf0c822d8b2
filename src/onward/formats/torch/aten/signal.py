"""ATen's Fourier transforms and complex numbers, which graphs hold as pairs of real numbers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .elementwise import as_pairs, atan2, parts
from .registry import Operand, Tensor, Translator, aten, bounded

NONE, BY_ROOT, BY_SIZE = 0, 1, 2  # the normalizations of torch


def _scaled(t: Translator, y: str, normalization: int, length: Any, dtype: Any) -> str:
    if normalization == NONE:
        return y
    if not isinstance(length, int):
        raise ArgumentError("a normalized transform of an axis of unknown size is not supported")
    factor = 1 / (length if normalization == BY_SIZE else math.sqrt(length))
    return t.add("Mul", y, t.cast(factor, dtype))


def _part(x: Tensor) -> Any:
    return np.float64 if x.dtype in (np.float64, np.complex128) else np.float32


def _only(dim: Sequence[int]) -> int:
    if len(dim) != 1:
        raise ArgumentError("a transform over several axes is not supported")
    return dim[0]


@aten("_fft_r2c")
def real_to_complex(
    t: Translator, self: Tensor, dim: Sequence[int], normalization: int, onesided: bool
) -> str:
    axis = self.axis(_only(dim))
    pairs = t.add("Unsqueeze", self, t.constant([self.rank]))
    y = t.add("DFT", pairs, None, t.constant(axis), onesided=int(onesided))
    return _scaled(t, y, normalization, t.size(self, axis), self.dtype)


@aten("_fft_c2c")
def complex_to_complex(
    t: Translator, self: Tensor, dim: Sequence[int], normalization: int, forward: bool
) -> str:
    axis, size = self.axis(_only(dim)), t.size(self, _only(dim))
    y = t.add("DFT", self, None, t.constant(axis), inverse=int(not forward))
    if not forward:
        if not isinstance(size, int):
            raise ArgumentError("the inverse transform of an axis of unknown size is not supported")
        y = t.add("Mul", y, t.cast(size, _part(self)))  # ONNX's inverse divides by the size
    return _scaled(t, y, normalization, size, _part(self))


@aten("_fft_c2r")
def complex_to_real(
    t: Translator, self: Tensor, dim: Sequence[int], normalization: int, last_dim_size: int
) -> str:
    """The real transform of half a spectrum, as a product with cosines and sines."""
    axis, n, part = self.axis(_only(dim)), last_dim_size, _part(self)
    bounded(n * n)
    count = n // 2 + 1
    frequencies, times = np.arange(count)[:, None], np.arange(n)
    angles = 2 * np.pi * (frequencies * times % n) / n
    weights = np.full((count, 1), 2.0)
    weights[0] = 1
    if n % 2 == 0:
        weights[-1] = 1
    real, imaginary = parts(t, self)
    order = [*(a for a in range(self.rank) if a != axis), axis]
    matrices = [t.constant((weights * m).astype(part)) for m in (np.cos(angles), -np.sin(angles))]
    products = [
        t.add("MatMul", t.add("Transpose", x, perm=order), matrix)
        for x, matrix in zip((real, imaginary), matrices, strict=True)
    ]
    y = t.add("Transpose", t.add("Add", *products), perm=[order.index(a) for a in range(self.rank)])
    return _scaled(t, y, normalization, n, part)


@aten("view_as_real", "view_as_complex", "view_as_real_copy")
def same_numbers(t: Translator, self: Tensor) -> str:
    return t.add("Identity", self)


@aten("real")
def real(t: Translator, self: Tensor) -> str:
    return parts(t, self)[0] if self.dtype.kind == "c" else t.add("Identity", self)


@aten("imag")
def imag(t: Translator, self: Tensor) -> str:
    return parts(t, self)[1]


@aten("complex")
def complex_(t: Translator, real: Operand, imag: Operand) -> str:
    return as_pairs(t, t.add("Identity", real), t.add("Identity", imag))


@aten("polar")
def polar(t: Translator, abs: Operand, angle: Operand) -> str:
    real = t.add("Mul", abs, t.add("Cos", angle))
    return as_pairs(t, real, t.add("Mul", abs, t.add("Sin", angle)))


@aten("conj", "_conj", "_conj_physical")
def conj(t: Translator, self: Tensor) -> str:
    if self.dtype.kind != "c":
        return t.add("Identity", self)
    return t.add("Mul", self, t.constant([1, -1], _part(self)))


@aten("angle")
def angle(t: Translator, self: Tensor) -> str:
    if self.dtype.kind != "c":
        raise ArgumentError("the angle of real numbers is not supported")
    part = np.dtype(_part(self))
    x, y = (Tensor(name, part, self.shape) for name in parts(t, self))
    return atan2(t, y, x)


# The transforms before decomposition.


def _normalization(norm: str | None, forward: bool) -> int:
    """Return the normalization of a transform that torch calls "forward", "backward" or "ortho"."""
    if norm == "ortho":
        return BY_ROOT
    return BY_SIZE if (norm == "forward") == forward else NONE


def _resized(t: Translator, x: Tensor, axis: int, n: int | None) -> Tensor:
    size = t.size(x, axis)
    if n is None or n == size:
        return x
    if not isinstance(size, int):
        raise ArgumentError("a transform of another size than that of its axis is not supported")
    shape = tuple(n if place == axis else other for place, other in enumerate(x.shape))
    if n < size:
        cut = t.add("Slice", x, t.constant([0]), t.constant([n]), t.constant([axis]))
        return Tensor(cut, x.dtype, shape)
    zero = t.constant(0, _part(x))
    longer = t.add("Pad", x, t.constant([0, n - size]), zero, t.constant([axis]))
    return Tensor(longer, x.dtype, shape)


@aten("fft_rfft")
def rfft(t: Translator, self: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> str:
    x = _resized(t, self, self.axis(dim), n)
    return real_to_complex(t, x, [dim], _normalization(norm, True), True)


@aten("fft_irfft")
def irfft(t: Translator, self: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> str:
    size = self.shape[self.axis(dim)]
    if n is None and size is None:
        raise ArgumentError("the inverse transform of an axis of unknown size is not supported")
    length = 2 * ((size or 0) - 1) if n is None else n
    x = _resized(t, self, self.axis(dim), length // 2 + 1)
    return complex_to_real(t, x, [dim], _normalization(norm, False), length)


def _whole(t: Translator, self: Tensor, n: int | None, dim: int, norm: str | None, forward: bool) -> str:
    x = _resized(t, self, self.axis(dim), n)
    complexes = Tensor(t.cast(x, np.complex64), np.dtype(np.complex64), x.shape)
    return complex_to_complex(t, complexes, [dim], _normalization(norm, forward), forward)


@aten("fft_fft")
def fft(t: Translator, self: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> str:
    return _whole(t, self, n, dim, norm, True)


@aten("fft_ifft")
def ifft(t: Translator, self: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> str:
    return _whole(t, self, n, dim, norm, False)


def _window(t: Translator, window: Tensor | None, win_length: int, n_fft: int, dtype: Any) -> str:
    """Return the window in the middle of a frame."""
    bounded(n_fft)
    values: Any = window if window is not None else t.constant(np.ones(win_length), dtype)
    before = (n_fft - win_length) // 2
    if win_length == n_fft:
        return t.add("Identity", values)
    return t.add("Pad", values, t.constant([before, n_fft - win_length - before]), t.constant(0, dtype))


@aten("stft", "stft.center")
def stft(
    t: Translator,
    self: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = False,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> str:
    """The spectra (B, F, frames) of windows of a signal (B, T)."""
    first = t.constant([0])
    signal: Any = t.add("Unsqueeze", self, first) if self.rank == 1 else self
    if center:
        signal = t.add("Pad", signal, t.constant([n_fft // 2] * 2), None, t.constant([1]), mode=pad_mode)
    frames = _window(t, window, win_length or n_fft, n_fft, self.dtype)
    step = t.constant(hop_length or n_fft // 4)
    y = t.add("STFT", signal, step, frames, t.constant(n_fft), onesided=int(onesided is not False))
    y = t.add("Transpose", y, perm=[0, 2, 1, 3])
    if normalized:
        y = t.add("Mul", y, t.cast(n_fft**-0.5, self.dtype))
    return t.add("Squeeze", y, first) if self.rank == 1 else y


@aten("istft")
def istft(
    t: Translator,
    self: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: Any = None,
    return_complex: bool = False,
) -> str:
    """The signal (B, T) whose windows, added together, have spectra (B, F, frames)."""
    part, hop = np.dtype(_part(self)), hop_length or n_fft // 4
    if onesided is False or return_complex:
        raise ArgumentError("istft of two-sided spectra is not supported")
    if self.rank == 2:
        batched = Tensor(t.add("Unsqueeze", self, t.constant([0])), self.dtype, (1, *self.shape))
        y = istft(t, batched, n_fft, hop_length, win_length, window, center, normalized, onesided, length)
        return t.add("Squeeze", y, t.constant([0]))
    frames = complex_to_real(t, self, [1], BY_ROOT if normalized else BY_SIZE, n_fft)
    weights = t.add("Unsqueeze", _window(t, window, win_length or n_fft, n_fft, part), t.constant([1]))
    count = t.cast(t.size(self, 2), np.int64)
    total = t.add("Add", t.add("Mul", t.add("Sub", count, t.constant(1)), t.constant(hop)), t.constant(n_fft))
    sizes = t.add("Concat", t.constant([1]), t.add("Reshape", total, t.constant([1])), axis=0)
    options = {"strides": [1, hop]}
    added = t.add("Col2Im", t.add("Mul", frames, weights), sizes, t.constant([1, n_fft]), **options)
    squares = t.add("Expand", t.add("Mul", weights, weights), t.add("Concat", t.constant([n_fft]), t.add(
        "Reshape", count, t.constant([1])), axis=0))  # fmt: skip
    envelope = t.add("Unsqueeze", squares, t.constant([0]))
    envelope = t.add("Col2Im", envelope, sizes, t.constant([1, n_fft]), **options)
    start = n_fft // 2 if center else 0
    end = (
        np.iinfo(np.int64).max
        if length is None and not center
        else -start
        if length is None
        else start + length
    )
    cut = [t.constant([start]), t.constant([end]), t.constant([3])]
    y = t.add("Div", t.add("Slice", added, *cut), t.add("Slice", envelope, *cut))
    return t.add("Squeeze", y, t.constant([1, 2]))
