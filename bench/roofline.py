"""What one thread of this machine can do at most: its fma rate, and its read rate by size of what it reads.

    python bench/roofline.py

`limit` gives the least time that a layer can take: the larger of its arithmetic at the fma rate and of the
reading of its weights, which every time step reads once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onward import _core

SIZES = [2**power for power in range(14, 27)]  # bytes


def best_rate(work: Callable[[], float], seconds: float = 0.05, rounds: int = 7) -> float:
    """The most of what `work` counts that was done in a second."""
    work()
    rates = []
    for _ in range(rounds):
        start, done = time.perf_counter(), 0.0
        while time.perf_counter() < start + seconds:
            done += work()
        rates.append(done / (time.perf_counter() - start))
    return max(rates)


def fma_rate() -> float:
    """float32 operations a second, two for an fma."""
    return best_rate(lambda: _core.arithmetic(100_000))


def read_rate(size: int) -> float:
    """Bytes a second read from an array of `size` bytes, again and again."""
    memory = np.ones(size // 4 + 16, np.float32)
    offset = -memory.ctypes.data % 64 // 4
    array = memory[offset : offset + size // 4]
    times = max(1, 2**22 // size)

    def work() -> float:
        _core.read(array, times)
        return float(size * times)

    return best_rate(work)


@dataclass
class Roofline:
    """Rates of one thread: operations a second, and bytes a second by size."""

    operations: float
    bytes: dict[int, float]

    @classmethod
    def measure(cls) -> "Roofline":
        return cls(fma_rate(), {size: read_rate(size) for size in SIZES})

    def most(self, other: "Roofline") -> "Roofline":
        """Of each rate the larger: what a machine did once, it can do."""
        bytes = {size: max(rate, other.bytes[size]) for size, rate in self.bytes.items()}
        return Roofline(max(self.operations, other.operations), bytes)

    def bandwidth(self, size: float) -> float:
        """Bytes a second at any size, between those measured."""
        return float(np.interp(np.log2(size), np.log2(SIZES), list(self.bytes.values())))

    def limit(self, gates: int, T: int, B: int, H: int) -> float:
        """Least microseconds for T steps of B rows with I = H."""
        matrix = gates * H * H  # numbers in W, and in R
        arithmetic = 2 * 2 * matrix * T * B / self.operations
        # R is read once a step; W once for each chunk of about 96 rows
        traffic = (T + max(1, T * B / 96)) * 4 * matrix / self.bandwidth(4 * matrix * (2 if T == 1 else 1))
        return max(arithmetic, traffic) * 1e6


def main() -> None:
    roofline = Roofline.measure()
    print(f"{_core.isa()}: {roofline.operations / 1e9:.0f} GF/s float32")
    for size, rate in roofline.bytes.items():
        print(f"{size // 1024:>8} KiB  {rate / 1e9:6.0f} GB/s")


if __name__ == "__main__":
    main()
