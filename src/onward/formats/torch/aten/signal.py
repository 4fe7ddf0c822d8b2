"""ATen's Fourier transforms and complex numbers, which graphs hold as pairs of real numbers."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .elementwise import as_pairs, parts
from .expressions import expression, floating, is_nan, where
from .joins import rolled
from .registry import OPERATORS, Operand, Symbol, Tensor, Translator, aten, bounded

NONE, BY_ROOT, BY_SIZE = 0, 1, 2  # the normalizations of torch


def _scaled(t: Translator, y: str, normalization: int, length: Any, dtype: Any) -> str:
    """Divide by the length of a transform, its root, or 1."""
    if normalization == NONE:
        return y
    factor = t.add("Reciprocal", t.cast(length, dtype))
    return t.add("Mul", y, t.add("Sqrt", factor) if normalization == BY_ROOT else factor)


def _part(x: Tensor) -> Any:
    return np.dtype(np.float64 if x.dtype in (np.float64, np.complex128) else np.float32)


def _complex(t: Translator, x: Tensor) -> Tensor:
    dtype = np.dtype(np.complex64 if _part(x) == np.float32 else np.complex128)
    return Tensor(t.cast(x, dtype), dtype, x.shape)


def _with_size(x: Tensor, name: str, axis: int, size: int | None) -> Tensor:
    """Return a complex tensor whose axis has another size."""
    shape = tuple(size if place == axis else n for place, n in enumerate(x.shape))
    return Tensor(name, np.dtype(np.complex64 if _part(x) == np.float32 else np.complex128), shape)


@aten("_fft_r2c")
def real_to_complex(
    t: Translator, self: Tensor, dim: Sequence[int], normalization: int, onesided: bool
) -> str:
    *others, last = (self.axis(axis) for axis in dim)
    pairs = t.add("Unsqueeze", t.cast(self, _part(self)), t.constant([self.rank]))
    y = t.add("DFT", pairs, None, t.constant(last), onesided=int(onesided))
    y = _scaled(t, y, normalization, t.size(self, last), _part(self))
    size = self.shape[last]
    half = size if size is None or not onesided else size // 2 + 1
    return complex_to_complex(t, _with_size(self, y, last, half), others, normalization, True)


@aten("_fft_c2c")
def complex_to_complex(
    t: Translator, self: Tensor, dim: Sequence[int], normalization: int, forward: bool
) -> str:
    y, part = t.cast(self, self.dtype), _part(self)
    for axis in map(self.axis, dim):
        size = t.size(self, axis)
        y = t.add("DFT", y, None, t.constant(axis), inverse=int(not forward))
        if not forward:
            y = t.add("Mul", y, t.cast(size, part))  # ONNX's inverse divides by the size
        y = _scaled(t, y, normalization, size, part)
    return y


@aten("_fft_c2r")
def complex_to_real(
    t: Translator, self: Tensor, dim: Sequence[int], normalization: int, last_dim_size: int
) -> str:
    """The real transform of half a spectrum, as a product with cosines and sines."""
    *others, axis = (self.axis(each) for each in dim)
    n, part = last_dim_size, _part(self)
    if not isinstance(n, int):
        raise ArgumentError("the inverse transform of an axis of unknown size is not supported")
    x = _with_size(self, complex_to_complex(t, self, others, normalization, False), axis, self.shape[axis])
    bounded(n * n)
    count = n // 2 + 1
    frequencies, times = np.arange(count)[:, None], np.arange(n)
    angles = 2 * np.pi * (frequencies * times % n) / n
    weights = np.full((count, 1), 2.0)
    weights[0] = 1
    if n % 2 == 0:
        weights[-1] = 1
    order = [*(a for a in range(x.rank) if a != axis), axis]
    matrices = [t.constant((weights * m).astype(part)) for m in (np.cos(angles), -np.sin(angles))]
    products = [
        t.add("MatMul", t.add("Transpose", each, perm=order), matrix)
        for each, matrix in zip(parts(t, x), matrices, strict=True)
    ]
    y = t.add("Transpose", t.add("Add", *products), perm=[order.index(a) for a in range(x.rank)])
    return _scaled(t, y, normalization, n, part)


@aten("view_as_real", "view_as_complex", view=True)
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
    if self.dtype.kind != "c":  # 0, or pi below 0
        x = expression(t, self, floating(self))
        return where(is_nan(x), x, where(x < 0, math.pi, x.constant(0))).name
    x_, y = (Tensor(name, _part(self), self.shape) for name in parts(t, self))
    return str(OPERATORS["atan2.default"](t, y, x_))


# The transforms before decomposition.


def _resized(t: Translator, x: Tensor, axis: int, n: int | None) -> Tensor:
    """Cut an axis, or extend it with zeros."""
    size = t.size(x, axis)
    if n is None or n == size:
        return x
    if not isinstance(size, int):
        raise ArgumentError("a transform of another size than that of its axis is not supported")
    places = t.constant([axis])
    if n < size:
        name = t.add("Slice", x, t.constant([0]), t.constant([n]), places)
    else:
        name = t.add("Pad", x, t.constant([0, n - size]), t.constant(0, _part(x)), places)
    return Tensor(name, x.dtype, tuple(n if place == axis else other for place, other in enumerate(x.shape)))


def _axes(x: Tensor, sizes: Any, dim: Any) -> tuple[list[int], list[int | None]]:
    """Return the axes of a transform and their sizes: all axes, or the last ones."""
    given = None if sizes is None else list(sizes)
    if dim is None:
        dim = range(x.rank) if given is None else range(x.rank - len(given), x.rank)
    axes = [x.axis(axis) for axis in ([dim] if isinstance(dim, int) else dim)]
    return axes, [None if n == -1 else n for n in given] if given is not None else [None] * len(axes)


def _transform(t: Translator, kind: str, x: Tensor, sizes: Any, dim: Any, norm: str | None) -> str:
    """Return a transform that torch calls fft, ifft, rfft, irfft, hfft or ihfft, over one or several axes."""
    axes, lengths = _axes(x, sizes, dim)
    if kind in ("irfft", "hfft") and lengths[-1] is None:
        size = x.shape[axes[-1]]
        lengths[-1] = None if size is None else 2 * (size - 1)
    for axis, n in zip(axes, lengths, strict=True):
        is_half = kind in ("irfft", "hfft") and axis == axes[-1]
        x = _resized(t, x, axis, n // 2 + 1 if is_half and n is not None else n)
    forward = kind in ("fft", "rfft", "hfft")
    normalization = BY_ROOT if norm == "ortho" else BY_SIZE if (norm == "forward") == forward else NONE
    if kind == "rfft":
        return real_to_complex(t, x, axes, normalization, True)
    if kind == "ihfft":
        name = real_to_complex(t, x, axes, normalization, True)
        return conj(t, _with_size(x, name, axes[-1], None))
    if kind == "hfft":
        x = _with_size(x, conj(t, _complex(t, x)), axes[-1], x.shape[axes[-1]])
    if kind in ("irfft", "hfft"):
        return complex_to_real(t, _complex(t, x), axes, normalization, lengths[-1])  # type: ignore[arg-type]  # checked
    return complex_to_complex(t, _complex(t, x), axes, normalization, forward)


def _define_transforms(kind: str) -> None:
    @aten(f"fft_{kind}")
    def over_axis(
        t: Translator, self: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None
    ) -> str:
        return _transform(t, kind, self, None if n is None else [n], dim, norm)

    if kind in ("hfft", "ihfft"):
        return

    @aten(f"fft_{kind}2")
    def over_two(
        t: Translator, self: Tensor, s: Any = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
    ) -> str:
        return _transform(t, kind, self, s, dim, norm)

    @aten(f"fft_{kind}n")
    def over_all(t: Translator, self: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> str:
        return _transform(t, kind, self, s, dim, norm)


for _kind in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
    _define_transforms(_kind)


@aten("fft_fftshift", "fft_ifftshift")
def shifted(t: Translator, self: Tensor, dim: Any = None) -> str:
    """Move the zero frequency to the middle of each axis, or back."""
    x = t.cast(self, self.dtype)
    for axis in range(self.rank) if dim is None else [self.axis(d) for d in dim]:
        size = t.size(self, axis)
        if isinstance(size, int):
            shift: Any = (size + 1) // 2 if "ifft" in t.node.target else size // 2
        else:
            rest = t.constant(int("ifft" in t.node.target))
            shift = Symbol(t.add("Div", t.add("Add", size, rest), t.constant(2)))
        x = rolled(t, x, axis, shift, size)
    return x


@aten("fft_fftfreq", "fft_rfftfreq")
def frequencies(t: Translator, n: int, d: float = 1.0, dtype: Any = None) -> str:
    bounded(n)
    values = np.fft.rfftfreq(n, d) if "rfft" in t.node.target else np.fft.fftfreq(n, d)
    return t.constant(values.astype(np.float32 if dtype is None else dtype))


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
    part, hop = _part(self), hop_length or n_fft // 4
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
