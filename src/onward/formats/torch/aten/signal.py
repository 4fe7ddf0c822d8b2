"""ATen's Fourier transforms and complex numbers, which graphs hold as pairs of real numbers."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....errors import ArgumentError
from ....graph.operations.expressions import is_nan, where
from .elementwise import as_pairs, parts
from .expressions import expression, floating
from .joins import rolled
from .registry import OPERATORS, Symbol, Tensor, aten, bounded, define
from .shapes import WHOLE, permuted
from .translator import Translator

NONE, BY_ROOT, BY_SIZE = 0, 1, 2  # the normalizations of torch


def _scaled(t: Translator, y: str, normalization: int, length: Any, dtype: Any) -> str:
    """Divide by the length of a transform, its root, or 1."""
    if normalization == NONE:
        return y
    factor = t.add("Reciprocal", t.cast(length, dtype))
    return t.add("Mul", y, t.add("Sqrt", factor) if normalization == BY_ROOT else factor)


def _part(x: Tensor) -> Any:
    return np.dtype(np.float64 if x.dtype in (np.float64, np.complex128) else np.float32)


def _complex_dtype(x: Tensor) -> Any:
    return np.dtype(np.complex64 if _part(x) == np.float32 else np.complex128)


def _complex(t: Translator, x: Tensor) -> Tensor:
    return Tensor(t.cast(x, _complex_dtype(x)), _complex_dtype(x), x.shape)


def _with_size(x: Tensor, name: str, axis: int, size: int | None, dtype: Any = None) -> Tensor:
    """Return a tensor, by default a complex one, whose axis has another size."""
    return Tensor(name, dtype or _complex_dtype(x), (*x.shape[:axis], size, *x.shape[axis + 1 :]))


@aten("_fft_r2c", result="c")
def real_to_complex(
    t: Translator, self: Tensor, dim: Sequence[int], normalization: int, onesided: bool
) -> str:
    *others, last = (self.axis(axis) for axis in dim)
    pairs = t.add("Unsqueeze", t.cast(self, _part(self)), [self.rank])
    y = t.add("DFT", pairs, None, last, onesided=int(onesided))
    y = _scaled(t, y, normalization, t.size(self, last), _part(self))
    size = self.shape[last]
    half = size if size is None or not onesided else size // 2 + 1
    return complex_to_complex(t, _with_size(self, y, last, half), others, normalization, True)


@aten("_fft_c2c", takes_complex=True)
def complex_to_complex(
    t: Translator, self: Tensor, dim: Sequence[int], normalization: int, forward: bool
) -> str:
    y, part = t.cast(self, self.dtype), _part(self)
    for axis in map(self.axis, dim):
        size = t.size(self, axis)
        y = t.add("DFT", y, None, axis, inverse=int(not forward))
        if not forward:
            y = t.add("Mul", y, t.cast(size, part))  # ONNX's inverse divides by the size
        y = _scaled(t, y, normalization, size, part)
    return y


@aten("_fft_c2r", takes_complex=True, result="f")
def complex_to_real(
    t: Translator, self: Tensor, dim: Sequence[int], normalization: int, last_dim_size: int
) -> str:
    """The real transform of half a spectrum."""
    *others, axis = (self.axis(each) for each in dim)
    n, part = last_dim_size, _part(self)
    if not isinstance(n, int):
        raise ArgumentError("the inverse transform of an axis of unknown size is not supported")
    x = _with_size(self, complex_to_complex(t, self, others, normalization, False), axis, self.shape[axis])
    y = t.add("DFT", t.add("Identity", x), n, axis, inverse=1, onesided=1)
    y = t.add("Squeeze", y, [-1])
    if normalization == BY_SIZE:  # as ONNX's inverse
        return y
    return _scaled(t, t.add("Mul", y, t.cast(n, part)), normalization, n, part)


def _product(t: Translator, a: Any, b: Any, function: str) -> str:
    return t.add("Mul", a, t.add(function, b))


def conj(t: Translator, x: Tensor) -> str:
    """The complex conjugate."""
    is_complex = x.dtype.kind == "c"
    return t.add("Mul", x, t.constant([1, -1], _part(x))) if is_complex else t.add("Identity", x)


@aten("adjoint mH matrix_H", view=True, takes_complex=True)
def adjoint(t: Translator, self: Tensor) -> str:
    """The conjugates of transposed matrices."""
    order = [*range(self.rank - 2), *range(self.rank)[-2:][::-1]]
    return permuted(t, dataclasses.replace(self, name=conj(t, self)), order)


for _name, _result in (("view_as_real", "f"), ("view_as_complex", "c")):
    define({_name: lambda t, self: t.add("Identity", self)}, view=True, takes_complex=True, result=_result)
define({
    "real": lambda t, self: parts(t, self)[0] if self.dtype.kind == "c" else t.add("Identity", self),
    "imag": lambda t, self: parts(t, self)[1],
}, takes_complex=True, result="f")  # fmt: skip
define({
    "complex": lambda t, real, imag: as_pairs(t, t.add("Identity", real), t.add("Identity", imag)),
    "polar": lambda t, abs, angle: (
        as_pairs(t, _product(t, abs, angle, "Cos"), _product(t, abs, angle, "Sin"))),
}, result="c")  # fmt: skip
define({
    "conj _conj conj_physical _conj_physical": lambda t, self: conj(t, self),
    "fft_fftshift": lambda t, self, dim=None: _shifted(t, self, dim, 0),
    "fft_ifftshift": lambda t, self, dim=None: _shifted(t, self, dim, 1),
}, takes_complex=True)  # fmt: skip


@aten("angle", takes_complex=True, result="f")
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
    if n < size:
        name = t.add("Slice", x, [0], [n], [axis])
    else:
        name = t.add("Pad", x, [0, n - size], t.constant(0, _part(x)), [axis])
    return _with_size(x, name, axis, n, x.dtype)


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
    options: dict[str, Any] = {"takes_complex": True, "result": "f" if kind in ("irfft", "hfft") else "c"}
    define({
        f"fft_{kind}": lambda t, self, n=None, dim=-1, norm=None: (
            _transform(t, kind, self, None if n is None else [n], dim, norm)),
    }, **options)  # fmt: skip
    if "h" not in kind:
        define({
            f"fft_{kind}2": lambda t, self, s=None, dim=(-2, -1), norm=None: (
                _transform(t, kind, self, s, dim, norm)),
            f"fft_{kind}n": lambda t, self, s=None, dim=None, norm=None: (
                _transform(t, kind, self, s, dim, norm)),
        }, **options)  # fmt: skip


for _kind in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"):
    _define_transforms(_kind)


def _shifted(t: Translator, x: Tensor, dim: Any, rest: int) -> str:
    """Move the zero frequency to the middle of each axis, or back if the rest is 1."""
    y = t.cast(x, x.dtype)
    for axis in range(x.rank) if dim is None else [x.axis(d) for d in dim]:
        size = t.size(x, axis)
        if isinstance(size, int):
            shift: Any = (size + rest) // 2
        else:
            shift = Symbol(t.add("Div", t.add("Add", size, rest), 2))
        y = rolled(t, y, axis, shift, size)
    return y


def _window(t: Translator, window: Tensor | None, win_length: int, n_fft: int, dtype: Any) -> str:
    """Return the window in the middle of a frame."""
    bounded(n_fft)
    values: Any = window if window is not None else t.constant(np.ones(win_length), dtype)
    before = (n_fft - win_length) // 2
    if win_length == n_fft:
        return t.add("Identity", values)
    return t.add("Pad", values, [before, n_fft - win_length - before], t.constant(0, dtype))


@aten("stft stft.center", result="return_complex")
def stft(
    t: Translator, self: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
    window: Tensor | None = None, center: bool = False, pad_mode: str = "reflect", normalized: bool = False,
    onesided: bool | None = None, return_complex: bool | None = None, align_to_window: bool | None = None,
) -> str:  # fmt: skip
    """The spectra (B, F, frames) of windows of a signal (B, T)."""
    signal: Any = t.add("Unsqueeze", self, [0]) if self.rank == 1 else self
    if center:
        signal = t.add("Pad", signal, [n_fft // 2] * 2, None, [1], mode=pad_mode)
    frames = _window(t, window, win_length or n_fft, n_fft, self.dtype)
    y = t.add("STFT", signal, hop_length or n_fft // 4, frames, n_fft, onesided=int(onesided is not False))
    y = t.add("Transpose", y, perm=[0, 2, 1, 3])
    y = t.add("Mul", y, t.cast(n_fft**-0.5, self.dtype)) if normalized else y
    return t.add("Squeeze", y, [0]) if self.rank == 1 else y


@aten("istft", takes_complex=True, result="f")
def istft(
    t: Translator, self: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
    window: Tensor | None = None, center: bool = True, normalized: bool = False,
    onesided: bool | None = None, length: Any = None, return_complex: bool = False,
) -> str:  # fmt: skip
    """The signal (B, T) whose windows, added together, have spectra (B, F, frames)."""
    part, hop = _part(self), hop_length or n_fft // 4
    if onesided is False or return_complex:
        raise ArgumentError("istft of two-sided spectra is not supported")
    if self.rank == 2:
        batched = Tensor(t.add("Unsqueeze", self, [0]), self.dtype, (1, *self.shape))
        y = istft(t, batched, n_fft, hop_length, win_length, window, center, normalized, onesided, length)
        return t.add("Squeeze", y, [0])
    frames = complex_to_real(t, self, [1], BY_ROOT if normalized else BY_SIZE, n_fft)
    weights = t.add("Unsqueeze", _window(t, window, win_length or n_fft, n_fft, part), [1])
    count = t.cast(t.size(self, 2), np.int64)
    total = Symbol(t.add("Add", t.add("Mul", t.add("Sub", count, 1), hop), n_fft))
    sizes = t.vector([1, total])
    squares = t.add("Expand", t.add("Mul", weights, weights), [n_fft, Symbol(count)])
    windows = t.add("Mul", frames, weights), t.add("Unsqueeze", squares, [0])
    added = [t.add("Col2Im", each, sizes, [1, n_fft], strides=[1, hop]) for each in windows]
    start = n_fft // 2 if center else 0
    end = start + length if length is not None else -start if center else WHOLE
    y = t.add("Div", *(t.add("Slice", each, [start], [end], [3]) for each in added))
    return t.add("Squeeze", y, [1, 2])
