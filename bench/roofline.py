"""Measure the limits of one thread of this machine: its fma rates, and its read rate by array size.

    python bench/roofline.py

Compiles and runs bench/roofline.cpp for the instruction set of the core, with the compiler $CXX or g++.

`Roofline.limit` is the minimum time of a layer: the larger of the time for its arithmetic and the time
to read its weights, once per time step. bench/convolutions.py also needs the time to move arrays.
"""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import report

from onward import _core

SIZES = [2**power for power in range(14, 27)]  # bytes
SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ["-std=c++20", "-O3", "-ffp-contract=off", f"-I{SOURCE.parents[1] / 'cpp'}"]
ISA_FLAGS = {
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "avx512vnni": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}


@dataclass
class Roofline:
    """The rates of one thread: operations per second, and bytes per second by size.

    `operations_of_loads` is the rate of operations that each read a vector at any address, and `seconds`
    holds the times to read some bytes and to write others.
    """

    operations: float
    operations_of_loads: float
    bytes: dict[int, float]
    seconds: dict[tuple[int, int], float]

    @classmethod
    def measure(cls, moved: Sequence[tuple[int, int]] = ()) -> "Roofline":
        """Measure the rates, and the times to move pairs of read and written bytes."""
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "roofline"
            compiler = os.environ.get("CXX", "g++")
            flags = [*FLAGS, *ISA_FLAGS.get(_core.isa(), [])]
            subprocess.run([compiler, *flags, str(SOURCE), "-o", str(program)], check=True)
            sizes = [*map(str, SIZES), *(f"{read}+{written}" for read, written in moved)]
            lines = subprocess.check_output([program, *sizes], text=True).splitlines()
        operations, operations_of_loads, *rates = map(float, lines)
        bytes = dict(zip(SIZES, rates, strict=False))
        seconds = (1 / rate for rate in rates[len(SIZES) :])
        return cls(operations, operations_of_loads, bytes, dict(zip(moved, seconds, strict=True)))

    def bandwidth(self, size: float) -> float:
        """Bytes per second at any size, interpolated between the measured sizes."""
        return float(np.interp(np.log2(size), np.log2(SIZES), list(self.bytes.values())))

    def limit(self, gates: int, T: int, B: int, H: int) -> float:
        """The minimum time in microseconds for T steps of B rows with I = H."""
        matrix = gates * H * H  # elements of W, and of R
        arithmetic = 2 * 2 * matrix * T * B / self.operations
        # R is read once per step, W once per chunk of about 96 rows
        traffic = (T + max(1, T * B / 96)) * 4 * matrix / self.bandwidth(4 * matrix * (2 if T == 1 else 1))
        return max(arithmetic, traffic) * 1e6

    def add_to(self, measured: report.Report) -> None:
        """Add the rates to a report."""
        measured.add(
            "arithmetic",
            gigaflops=self.operations / 1e9,
            gigaflops_of_loads=self.operations_of_loads / 1e9,
        )
        for size, rate in self.bytes.items():
            measured.add("bandwidth", KiB=size // 1024, gigabytes=rate / 1e9)


def main() -> None:
    measured = report.Report(report.parser(__doc__).parse_args())
    Roofline.measure().add_to(measured)


if __name__ == "__main__":
    main()
