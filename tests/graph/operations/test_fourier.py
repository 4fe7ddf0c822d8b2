"""Fast Fourier transforms against NumPy's in float64."""

from typing import Any

import numpy as np
import pytest
from support.bits import each_isa
from support.lowering import run_lowered
from support.randomized import random_cases

from onward.graph import Model
from onward.graph.graph import Graph

# tiny sizes, powers of two, every small radix, primes that are a radix, odd sizes, those of speech front ends
SIZES = [1, 2, 3, 4, 7, 13, 16, 18, 20, 25, 27, 31, 45, 64, 66, 121, 127, 134, 200, 254, 256, 400, 402, 441]
SIZES += [512, 882, 1000]
SIZES += [131, 257, 262, 393, 509, 524, 1021, 2042]  # that have a large prime factor


def spectrum(x: Any, n: int, inverse: int, onesided: int) -> Any:
    numbers = x[..., 0].astype(np.float64) + (1j * x[..., 1] if x.shape[-1] == 2 else 0)
    if inverse and onesided:
        return np.fft.irfft(numbers, n)[..., None]
    y = (np.fft.ifft if inverse else np.fft.fft)(numbers, n)
    y = y[..., : n // 2 + 1] if onesided else y
    return np.stack([y.real, y.imag], -1)


def close(y: Any, expected: Any) -> None:
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() < 2e-6 * np.sqrt((expected**2).mean())


@pytest.mark.parametrize(
    ("parts", "inverse", "onesided"), [(1, 0, 0), (1, 0, 1), (2, 0, 0), (2, 0, 1), (2, 1, 0), (2, 1, 1)]
)
def test_sizes_and_kinds(parts: int, inverse: int, onesided: int) -> None:
    rng = np.random.default_rng(parts)
    for n in SIZES:
        x = rng.standard_normal((3, n // 2 + 1 if inverse and onesided else n, parts)).astype(np.float32)
        inputs = [x, np.array(n), np.array(1)]
        found = run_lowered("DFT", inputs, {"inverse": inverse, "onesided": onesided}, known=[1, 2])
        assert found is not None
        close(found[0], spectrum(x, n, inverse, onesided))


@pytest.mark.parametrize("n", [64, 121, 131, 262, 1021])
def test_real_numbers_have_no_phase_at_0_and_large_ones_do_not_overflow(n: int) -> None:
    x = np.random.default_rng(n).standard_normal((3, n, 1)).astype(np.float32)
    for scale in (1, 1e-25, 1e35):
        found = run_lowered("DFT", [x * np.float32(scale)], {})
        assert found is not None
        assert not found[0][:, 0, 1].any()
        assert n % 2 or np.abs(found[0][:, n // 2, 1]).max() < 1e-14 * scale
        close(found[0] / scale, spectrum(x, n, 0, 0))


def test_random_transforms() -> None:
    rng = np.random.default_rng(0)
    for _ in range(random_cases(60)):
        large = rng.choice([1, 1, 131, 509])
        n = int(
            large
            * np.prod(rng.choice([2, 2, 3, 4, 5, 7, 11, 13, 67], rng.integers(1, 4 if large == 1 else 2)))
        )
        parts, inverse, onesided = (int(number) for number in rng.integers(0, 2, 3))
        parts = 2 if inverse else parts + 1
        length = max(1, (n // 2 + 1 if inverse and onesided else n) + int(rng.integers(-3, 4)))
        shape = [int(size) for size in rng.integers(1, 5, rng.integers(1, 4))]
        axis = int(rng.integers(len(shape)))
        shape[axis] = length
        x = rng.standard_normal((*shape, parts)).astype(np.float32)
        inputs = [x, np.array(n), np.array(axis)]
        found = run_lowered("DFT", inputs, {"inverse": inverse, "onesided": onesided}, known=[1, 2])
        assert found is not None
        moved = spectrum(np.moveaxis(x, axis, -2), n, inverse, onesided)
        close(found[0], np.moveaxis(moved, -2, axis))


@pytest.mark.parametrize("n", [402, 512, 25, 131, 557])
def test_frames_of_a_signal(n: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.standard_normal((2, 1600, 1)).astype(np.float32)
    window = np.hanning(n).astype(np.float32)
    found = run_lowered("STFT", [x, np.array(160), window, np.array(n)], {}, known=[1, 2, 3])
    assert found is not None
    starts = range(0, 1600 - n + 1, 160)
    frames = np.stack([x[:, start : start + n] * window[:, None] for start in starts], 1)
    close(found[0], spectrum(frames, n, 0, 1))


@pytest.mark.parametrize("n", [402, 512, 121, 263])
def test_the_bits_depend_neither_on_the_instruction_set_nor_on_other_rows(n: int) -> None:
    x = np.random.default_rng(n).standard_normal((21, n, 2)).astype(np.float32)
    found = set()
    for _ in each_isa():
        for parts in (1, 2):
            rows = [run_lowered("DFT", [x[a:b, :, :parts]], {})[0] for a, b in ((0, 21), (0, 4), (4, 21))]  # type: ignore[index]
            np.testing.assert_array_equal(rows[0], np.concatenate(rows[1:]))
            found.add((parts, rows[0].tobytes()))
    assert len(found) == 2


def test_transforms_of_single_steps_stream() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "time", 20))
    numbers = graph.add("Unsqueeze", x, graph.add_constant(np.array([3])))
    axis = graph.add_constant(np.array(2))
    graph.outputs = (graph.add("DFT", numbers, "", axis, onesided=1),)
    model, signal = Model(graph), np.random.default_rng(0).standard_normal((1, 9, 20)).astype(np.float32)
    stream = model.stream(time_axis=1)
    parts = [stream(signal[:, first : first + 4]) for first in (0, 4, 8)]
    np.testing.assert_array_equal(np.concatenate([*parts, stream.finish()], 1), model(signal))
