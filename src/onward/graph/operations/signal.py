"""Signal processing: Fourier transforms, windows and the matrix of the mel scale."""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core import budget
from ...errors import ShapeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import View
from .arguments import as_integers
from .registry import EVERY_INPUT, along_time, operation


def _as_complex(x: AnyArray) -> AnyArray:
    """Return numbers (..., 1), or with their imaginary part (..., 2), as float64 or complex128 (...)."""
    wide = x.astype(np.float64)
    return wide[..., 0] if x.shape[-1] == 1 else wide[..., 0] + 1j * wide[..., 1]


def _as_pairs(x: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    return np.stack([x.real, x.imag], -1).astype(dtype)


def _dft_sizes(
    x: Operand | View, length: Any, axis: Any, inverse: int, onesided: int
) -> tuple[int, int, int]:
    """Return the axis, the length of the transform and the size of the result on this axis."""
    rank = len(x.shape)
    place = -2 if axis is None else as_integers(axis)[0]
    if rank < 2 or not -rank <= place < rank or place % rank == rank - 1 or x.shape[-1] not in (1, 2):
        raise ShapeError(
            f"x has shape {x.shape}, axis {place}; expected an axis before the last, which has size 1 or 2"
        )
    place %= rank
    n = 2 * (x.shape[place] - 1) if inverse and onesided else x.shape[place]
    n = n if length is None else as_integers(length)[0]
    if n < 1:
        raise ShapeError(f"dft_length={n}; expected a positive integer")
    return place, n, n // 2 + 1 if onesided and not inverse else n


def _dft_signature(
    x: Operand, length: Any = None, axis: Any = None, *, inverse: int = 0, onesided: int = 0
) -> Signature:
    place, _, size = _dft_sizes(x, length, axis, inverse, onesided)
    shape = [*x.shape[:-1], 1 if inverse and onesided else 2]
    shape[place] = size
    return Signature(tuple(shape), x.dtype)


@operation("DFT", signature=_dft_signature, shape_inputs=(1, 2), widens=True)
def dft(
    x: AnyArray, length: Any = None, axis: Any = None, *, inverse: int = 0, onesided: int = 0
) -> AnyArray:
    """The discrete Fourier transform of x (..., 1 or 2) along an axis, or its inverse; in float64."""
    place, n, _ = _dft_sizes(x, length, axis, inverse, onesided)
    numbers = _as_complex(x)
    if inverse and onesided:
        return np.fft.irfft(numbers, n, place)[..., None].astype(x.dtype)
    if inverse:
        return _as_pairs(np.fft.ifft(numbers, n, place), x.dtype)
    if onesided and x.shape[-1] == 1:
        return _as_pairs(np.fft.rfft(numbers, n, place), x.dtype)
    y = np.fft.fft(numbers, n, place)
    return _as_pairs(y.take(range(n // 2 + 1), place) if onesided else y, x.dtype)


@dft.combining
def _(node: Node, inputs: Sequence[Any]) -> Sequence[Collection[int]]:
    x, length, axis = (*inputs, None, None)[:3]
    assert x is not None
    if isinstance(length, Signature) or isinstance(axis, Signature):
        return [range(len(x.shape)), ()]
    place, _, _ = _dft_sizes(x, length, axis, 0, 0)
    return [[place, len(x.shape) - 1], ()]


@dft.reading
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    return _numbers_read(*_transform_size(inputs, attributes))


@dft.allocating
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    return _bytes_taken(*_transform_size(inputs, attributes))


LARGEST_FACTOR = 127  # as in cpp/kernels/kernels.h


def _factors(n: int, parts: tuple[int, int]) -> list[int] | None:
    """Return the factors of the points of a transform from numbers of some parts to others.

    Returns None if one of them is large.
    """
    factors, rest = list[int](), n // 2 if n % 2 == 0 and parts != (2, 2) else n
    for factor in (4, 2, *range(3, LARGEST_FACTOR + 1, 2)):
        while rest % factor == 0:
            factors.append(factor)
            rest //= factor
    return factors if rest == 1 else None


def _convolved_points(n: int) -> int:
    """Return the points of the transforms by which n numbers are convolved with 2 n - 1 others."""
    return 1 << (2 * n - 2).bit_length()


def _numbers_read(n: int, parts: tuple[int, int]) -> int:
    """Return how many numbers each number of a transform is computed from."""
    factors, points = _factors(n, parts), _convolved_points(n)
    return 2 * _numbers_read(points, (2, 2)) * points // n if factors is None else 2 + 2 * sum(factors)


def _bytes_taken(n: int, parts: tuple[int, int]) -> int:
    """Return the bytes that making the constants of a transform takes."""
    return 128 * n if _factors(n, parts) is not None else 640 * _convolved_points(n)


def _transform_size(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> tuple[int, tuple[int, int]]:
    """Return how many numbers a transform takes, and the parts of those that it takes and gives."""
    x, length, axis = (*inputs, None, None)[:3]
    inverse, onesided = (bool(attributes.get(name)) for name in ("inverse", "onesided"))
    _, n, _ = _dft_sizes(x, length, axis, inverse, onesided)
    return int(n), (x.shape[-1], 1 if inverse and onesided else 2)


def _turns(numbers: NDArray[Any], n: int) -> NDArray[Any]:
    """Return the cosines and sines of multiples of the angle 2 pi / n."""
    angles = 2 * np.pi / n * (numbers % n)
    return np.stack([np.cos(angles), np.sin(angles)], -1).ravel()


def _table(n: int, points: int, factors: list[int]) -> NDArray[np.float32]:
    """Return the numbers of a fast transform, in the order of cpp/kernels/kernels.h."""
    parts, before = [], 1
    for radix in factors:
        after = points // before // radix
        parts.append(_turns(np.outer(np.arange(1, radix), np.arange(after)), radix * after))
        if radix > 4:
            half = np.arange(1, radix // 2 + 1)
            parts.append(_turns(np.outer(half, half), radix))
        before *= radix
    if points < n:
        parts.append(_turns(np.arange(points + 1), n))
    return np.concatenate([[], *parts]).astype(np.float32)


def _transform(
    b: Builder, rows: View, n: int, bins: int, parts: int, inverse: bool, window: NDArray[Any] | None
) -> View:
    """Transform rows (..., K, 1 or 2) to (..., bins, parts)."""
    n, bins = int(n), int(bins)
    factors = _factors(n, (rows.shape[-1], parts))
    budget.take(_bytes_taken(n, (rows.shape[-1], parts)))
    if factors is None:
        return _transform_as_convolution(b, rows, n, bins, parts, inverse, window)
    points = math.prod(factors)
    y = b.new(*rows.shape[:-2], bins, parts)
    table = b.shared((), ("fourier", n, points), partial(_table, n, points, factors))
    taper = None if window is None else b.constant(window.astype(np.float32))
    b.add("fourier", n, inverse, factors, b.constant(table), taper, rows, y)
    return y


def _chirps(
    n: int, parts: int, inverse: bool, window: NDArray[Any] | None
) -> tuple[NDArray[np.float32], ...]:
    """Return what multiplies the input, its spectrum and the result of the convolution, each (2, size, 2).

    Each array holds complex numbers and their products with i.
    """
    points, places = _convolved_points(n), np.arange(n)
    chirp = np.exp((1j if inverse else -1j) * np.pi / n * (places * places % (2 * n)))
    others = np.zeros(points, np.complex128)
    others[:n] = chirp.conj()
    others[points - n + 1 :] = others[n - 1 : 0 : -1]
    weights = np.ones(n) if window is None else window.astype(np.float64)
    if parts == 1:  # the second half of the spectrum mirrors the first
        weights[1 : (n + 1) // 2] = 2
    # Dividing by the points, a power of two, before the inverse transform is exact and prevents overflow.
    factors = (weights * chirp, np.fft.fft(others) / points, chirp * (points / n if inverse else points))
    return tuple(_as_pairs(np.stack([x, 1j * x]), np.dtype(np.float32)) for x in factors)


def _transform_as_convolution(
    b: Builder, rows: View, n: int, bins: int, parts: int, inverse: bool, window: NDArray[Any] | None
) -> View:
    """Transform rows of any size by transforms of powers of two.

    With 2 j k = j^2 + k^2 - (j - k)^2, the transform of x is c * sum_k (c_k x_k) / c_(j - k), where c is the
    chirp c_k = exp(-i pi k^2 / n). Bluestein, A linear filtering approach to the computation of the discrete
    Fourier transform, 1970.
    """
    axis, points = len(rows.shape) - 2, _convolved_points(n)
    most = n if parts == 2 else n // 2 + 1  # the rest of a spectrum of real numbers mirrors its first half
    source = () if window is None else (window,)
    key = ("chirps", n, parts, inverse)
    factors = [b.constant(each) for each in b.shared(source, key, lambda: _chirps(n, parts, inverse, window))]

    def turned(x: View, factor: View, size: int) -> View:
        """Multiply the first complex numbers by constant ones."""
        products = [
            b.binary(
                "multiply",
                x.sliced(axis, 0, size).sliced(axis + 1, part, part + 1),
                b.reshaped(factor.sliced(0, part, part + 1).sliced(1, 0, size), size, 2),
            )
            for part in range(x.shape[-1])
        ]
        return b.binary("add", *products) if len(products) == 2 else products[0]

    x = turned(rows, factors[0], min(rows.shape[axis], most))
    spectrum = turned(_transform(b, x, points, points, 2, False, None), factors[1], points)
    y = turned(_transform(b, spectrum, points, bins, 2, True, None), factors[2], bins)
    if rows.shape[-1] == 1:  # the spectrum of real numbers is real here; clear the rounding errors
        for place in (0, n // 2)[: 1 + (n % 2 == 0 and n // 2 < bins)]:
            b.add("copy", b.scalar(0.0), y.sliced(axis, place, place + 1).sliced(axis + 1, 1, 2))
    return y.sliced(axis + 1, 0, parts)


@dft.steps(views=(0,))
def _(
    b: Builder, x: View, length: Any = None, axis: Any = None, *, inverse: int = 0, onesided: int = 0
) -> View | None:
    place, n, bins = _dft_sizes(x, length, axis, inverse, onesided)
    rank, parts = len(x.shape), x.shape[-1]
    rest = [axis for axis in range(rank - 1) if axis != place]
    moved = x.permuted(*rest, place, rank - 1)
    if inverse and parts == 1:  # real numbers are complex ones without imaginary parts
        return None
    y = _transform(b, moved, n, bins, 1 if inverse and onesided else 2, bool(inverse), None)
    return y.permuted(*np.argsort([*rest, place]), rank - 1)


def _stft_sizes(
    signal: Operand | View, frame_step: Any, window: Operand | None, frame_length: Any, onesided: int
) -> tuple[int, int, int, int]:
    """Return the step, the frame length, the number of frames and the number of frequencies."""
    step = as_integers(frame_step)[0]
    if len(signal.shape) not in (2, 3) or signal.shape[2:] not in ((), (1,), (2,)):
        raise ShapeError(f"signal has shape {signal.shape}; expected (N, L, 1) or (N, L, 2)")
    n = signal.shape[1] if window is None else window.shape[0]
    n = n if frame_length is None else as_integers(frame_length)[0]
    if step < 1 or not 1 <= n <= signal.shape[1] or (window is not None and window.shape != (n,)):
        raise ShapeError(
            f"a signal of length {signal.shape[1]} has frame_step {step}, frame_length {n} and a window of "
            f"shape {None if window is None else window.shape}; expected frame_step >= 1, a frame_length up "
            f"to the length, and a window of the same length"
        )
    return step, n, 1 + (signal.shape[1] - n) // step, n // 2 + 1 if onesided else n


def _stft_signature(
    signal: Operand, step: Any, window: Operand | None = None, length: Any = None, *, onesided: int = 1
) -> Signature:
    _, _, frames, bins = _stft_sizes(signal, step, window, length, onesided)
    return Signature((signal.shape[0], frames, bins, 2), signal.dtype)


@operation(
    "STFT",
    signature=_stft_signature,
    shape_inputs=(1, 3),
    widens=True,
    combines=lambda node, inputs: [range(1, len(inputs[0].shape)), ()],
)
def stft(
    signal: AnyArray, frame_step: AnyArray, window: AnyArray | None = None, frame_length: AnyArray | None =
    None, *, onesided: int = 1,
) -> AnyArray:  # fmt: skip
    """The Fourier transform of each frame of a signal (N, L, 1 or 2), times a window; in float64."""
    step, n, _, bins = _stft_sizes(signal, frame_step, window, frame_length, onesided)
    numbers = _as_complex(signal if signal.ndim == 3 else signal[..., None])
    frames = np.lib.stride_tricks.sliding_window_view(numbers, n, 1)[:, ::step]
    if window is not None:
        frames = frames * window.astype(np.float64)
    y = np.fft.rfft(frames) if onesided and frames.dtype.kind == "f" else np.fft.fft(frames)[..., :bins]
    return _as_pairs(y, signal.dtype)


@stft.reading
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    n = _stft_of(inputs, attributes)[1]
    return _numbers_read(int(n), (1, 2))


@stft.allocating
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> int:
    """The frames in float64, and what the transform keeps in the core."""
    _, n, frames, _ = _stft_of(inputs, attributes)
    return 32 * int(inputs[0].shape[0]) * frames * n + _bytes_taken(int(n), (2, 2))


def _stft_of(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> tuple[int, int, int, int]:
    signal, step, window, length = (*inputs, None, None)[:4]
    return _stft_sizes(signal, step, window, length, attributes.get("onesided", 1))


@stft.steps(views=(0,))
def _(
    b: Builder, signal: View, frame_step: Any, window: Any = None, length: Any = None, *, onesided: int = 1
) -> View:
    step, n, frames, bins = _stft_sizes(signal, frame_step, window, length, onesided)
    parts = signal.shape[2] if len(signal.shape) == 3 else 1
    strides = (signal.shape[1] * parts, step * parts, parts, 1)
    rows = b.contiguous(signal).with_axes((signal.shape[0], frames, n, parts), strides)
    return _transform(b, rows, n, bins, 2, False, window)


@stft.over_time
@along_time
def _(time: Any, node: Node, axis: int) -> None:
    """Carry the samples that later frames need."""
    x, step, window, length = (*node.inputs, "", "")[:4]
    known_step, known_length = (time.known(name) if name else None for name in (step, length))
    is_known = known_step is not None and (known_length is not None or bool(window))
    if axis != 1 or not is_known or not (not length or known_length is not None):
        time.refuse(node, "its frames are not along the steps, or their sizes depend on the sequence")
    n = time.shape(window)[0] if known_length is None else as_integers(known_length)[0]
    windows = time.windows(node, x, n, as_integers(known_step)[0], 0, 0, 0)
    y = time.add("OverWindows", windows, *node.inputs[1:], node=node, axis=axis, span=n)
    time.define(node.outputs[0], time.define_new(y, time.timing(windows)), time.timing(windows))


def _register_window(name: str, *coefficients: float) -> None:
    """Register the window that sums coefficients[k] cos(2 pi k n / N)."""

    def signature(size: Any, *, output_datatype: Any = np.float32, **attributes: Any) -> Signature:
        return Signature((max(0, as_integers(size)[0]),), np.dtype(output_datatype))

    @operation(name, signature=signature, shape_inputs=EVERY_INPUT)
    def window(size: AnyArray, *, output_datatype: Any = np.float32, periodic: int = 1) -> AnyArray:
        n = int(size.item())
        angle = 2 * np.pi * np.arange(max(0, n)) / np.float64(n if periodic else n - 1)
        terms = (a * np.cos(k * angle) for k, a in enumerate(coefficients))
        return np.asarray(sum(terms)).astype(output_datatype)


_register_window("HannWindow", 0.5, -0.5)
_register_window("HammingWindow", 25 / 46, -21 / 46)
_register_window("BlackmanWindow", 0.42, -0.5, 0.08)


def _mel_signature(
    num_mel_bins: Any, dft_length: Any, *others: Any, output_datatype: Any = np.float32
) -> Signature:
    return Signature((int(dft_length.item()) // 2 + 1, int(num_mel_bins.item())), np.dtype(output_datatype))


@operation("MelWeightMatrix", signature=_mel_signature, shape_inputs=EVERY_INPUT)
def mel_weight_matrix(
    num_mel_bins: AnyArray, dft_length: AnyArray, sample_rate: AnyArray, lower_edge_hertz: AnyArray,
    upper_edge_hertz: AnyArray, *, output_datatype: Any = np.float32,
) -> AnyArray:  # fmt: skip
    """The matrix (frequencies, mel bins) of triangular filters that are evenly spaced on the mel scale."""
    bins, length = int(num_mel_bins.item()), int(dft_length.item())
    low, high = (2595 * math.log10(1 + edge.item() / 700) for edge in (lower_edge_hertz, upper_edge_hertz))
    mels = low + np.arange(bins + 2) * ((high - low) / (bins + 2))
    edges = ((length + 1) * (700 * (10 ** (mels / 2595) - 1)) // sample_rate.item()).astype(np.int64)
    y = np.zeros((length // 2 + 1, bins))
    for i, (left, center, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        if left == center:
            y[center, i] = 1
        else:
            y[left : center + 1, i] = np.arange(center - left + 1) / (center - left)
        y[center:right, i] = np.arange(right - center, 0, -1) / max(1, right - center)
    return y.astype(output_datatype)


mel_weight_matrix.reading(lambda inputs, attributes: budget.STEP)  # Python runs for each filter
