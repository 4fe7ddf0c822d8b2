"""Measure models in C: opening a file, the first answer in a new process, one step of a stream, and sizes.

python bench/c.py [--cases DIR]

A step is that of the library, which is built in build/c, of exported C, of emx-onnx-cgen's C if this tool
(PyPI) is on the path, and, in Python, of a compiled model and of onnxruntime.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import c_code
import numpy as np
import report
from c_code import Case

import onward

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "c"


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


def add(measured: report.Report, case: Case, program: Path, folder: Path, rounds: int) -> None:
    """Measure a model: the library, exported C, emx-onnx-cgen, and Python."""
    path = folder / "model.onward"
    model: Any = onward.load(case.path)
    summary = model.compile(path, **({"carry": case.carry} if case.carry else {}))
    first, step = in_c(program, path, case.block, rounds)
    stream: Any = onward.load(path).stream()
    block = np.zeros(case.block, np.float32)
    count = 200 if "->" in case.name else 5
    code, size, figures = c_code.of_onward(folder, case, count)
    emx, emx_size = c_code.of_emx(folder, case, count)
    others = {"emx_us": emx * 1e6, "library_ratio": emx / step, "code_ratio": emx / code}
    measured.add(
        "steps",
        model=case.name,
        library_us=step * 1e6,
        code_us=code * 1e6,
        **(others if emx_size else {}),
        python_us=seconds_of(lambda: stream(block), 200 * rounds) * 1e6,
        onnxruntime_us=(in_onnxruntime(case, 200 * rounds) or np.nan) * 1e6,
    )
    measured.add(
        "open",
        model=case.name,
        file_kB=summary.bytes / 1e3,
        open_to_first_ms=first * 1e3,
        load_ms=seconds_of(lambda: onward.load(path), 20 * rounds) * 1e3,
    )
    measured.add(
        "sizes",
        model=case.name,
        weights_kB=figures.weights / 1e3,
        code_kB=size / 1e3,
        **({"emx_kB": emx_size / 1e3} if emx_size else {}),
        ram_kB=(figures.state + figures.arena) / 1e3,
    )


def library_size(folder: Path) -> float:
    """The kilobytes of the shared library without symbols."""
    stripped = folder / "stripped.so"
    subprocess.run(["strip", str(BUILD / "libonward.so"), "-o", str(stripped)], check=True)
    return stripped.stat().st_size / 1e3


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--cases", type=Path, metavar="DIR", help="the folder of trained models")
    options = parser.parse_args()
    program, rounds = built(), 3 if options.quick else 15
    measured = report.Report(options, ["onnxruntime"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured.add("library", shared_kB=library_size(folder))
        for case in c_code.cases(options.cases, folder):
            add(measured, case, program, folder, rounds)


if __name__ == "__main__":
    main()
