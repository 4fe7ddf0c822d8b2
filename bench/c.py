"""Measure the C library: from opening a file to the first answer in a new process, and one step of a stream.

python bench/c.py [--cases DIR]

Builds libonward in build/c. A step of onnxruntime, if it is installed, is measured in Python.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import report

import onward

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "c"


class Case(NamedTuple):
    """A file of ONNX, the shape of a block of its stream, and the states that it takes and returns."""

    name: str
    path: Path
    block: tuple[int, ...]
    states: dict[str, tuple[int, ...]]
    carry: Mapping[str, str] = MappingProxyType({})  # of states that the file does not name as such


def built() -> Path:
    """Build the library and the program that measures it."""
    cmake = [sys.executable, "-m", "cmake"]
    for command in ([*cmake, "-S", ROOT / "cpp" / "c", "-B", BUILD], [*cmake, "--build", BUILD]):
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    program, library = BUILD / "bench", BUILD / "libonward.so"
    source = ["cc", "-std=c99", "-O2", f"-I{ROOT}/include", str(ROOT / "bench" / "c.c"), "-o", str(program)]
    subprocess.run([*source, str(library), f"-Wl,-rpath,{BUILD}"], check=True)
    return program


def in_c(program: Path, path: Path, block: tuple[int, ...], rounds: int) -> tuple[float, float]:
    """The median seconds to the first answer and of one step, each in new processes."""
    command = list(map(str, [program, path, *block]))
    found = []
    for _ in range(rounds):
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append([float(number) for number in output.split()])
    first, step = (statistics.median(times) for times in zip(*found, strict=True))
    return first, step


def seconds_of(call: Any, count: int) -> float:
    """The median seconds of a call."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def in_onnxruntime(case: Case, count: int) -> float | None:
    """The median seconds of one step, or None if onnxruntime is not installed."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(case.path), options, ["CPUExecutionProvider"])
    x = session.get_inputs()[0].name
    feeds = {name: np.zeros(shape, np.float32) for name, shape in case.states.items()}
    feeds[x] = np.zeros(case.block, np.float32)
    return seconds_of(lambda: session.run(None, feeds), count)


def cases(folder: Path | None, files: Path) -> list[Case]:
    """Layers with 32 inputs and 64 units, Silero 6, both models of DTLN, and GTCRN."""
    found = []
    for kind, states in ((onward.LSTM, ("h0", "c0")), (onward.GRU, ("h0",))):
        path = files / f"{kind.__name__}.onnx"
        kind(32, 64, rng=0).export_onnx(path)
        shapes = {name: (1, 1, 64) for name in states}
        found.append(Case(f"{kind.__name__} 32 -> 64", path, (1, 1, 32), shapes))
    if folder is not None:
        path = folder / "silero_v6" / "silero_vad_v6.onnx"
        found.append(Case("Silero 6", path, (1, 576), {name: (1, 1, 128) for name in "hc"}))
        for number, size, state, after in ((1, 257, "input_3", "2"), (2, 512, "input_5", "5")):
            path, carry = folder / "dtln" / f"model_{number}.onnx", {state: f"tf_op_layer_stack_{after}"}
            shapes = {state: (1, 2, 128, 2)}
            found.append(Case(f"DTLN, part {number}", path, (1, 1, size), shapes, carry))
        caches = {"conv": (2, 1, 16, 16, 33), "tra": (2, 3, 1, 1, 16), "inter": (2, 1, 33, 16)}
        shapes = {f"{name}_cache": shape for name, shape in caches.items()}
        found.append(Case("GTCRN", folder / "gtcrn" / "gtcrn_simple.onnx", (1, 257, 1, 2), shapes))
    return found


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--cases", type=Path, metavar="DIR", help="the folder of trained models")
    options = parser.parse_args()
    program, rounds = built(), 3 if options.quick else 15
    measured = report.Report(options, ["onnxruntime"])
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(options.cases, Path(folder)):
            path = Path(folder) / "model.onward"
            model: Any = onward.load(case.path)
            summary = model.compile(path, **({"carry": case.carry} if case.carry else {}))
            first, step = in_c(program, path, case.block, rounds)
            stream: Any = onward.load(path).stream()
            block = np.zeros(case.block, np.float32)
            python = seconds_of(lambda stream=stream, block=block: stream(block), 200 * rounds)
            measured.add(
                "steps",
                model=case.name,
                file_kB=summary.bytes / 1e3,
                open_to_first_ms=first * 1e3,
                c_us=step * 1e6,
                python_us=python * 1e6,
                onnxruntime_us=(in_onnxruntime(case, 200 * rounds) or np.nan) * 1e6,
            )


if __name__ == "__main__":
    main()
