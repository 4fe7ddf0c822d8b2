"""Fails where a wheel is larger, needs more or is slower to import than promised, or fails its tests.

    python tools/check_wheel.py dist/onward-*.whl                  # beside the newest NumPy for this Python
    python tools/check_wheel.py dist/onward-*.whl --numpy 1.26.4   # or another

The tests run in an environment of NumPy and safetensors alone; pytest stands in a folder apart.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parent.parent
CODE, BUNDLED = 1.5e6, 2.6e6  # bytes in the wheel: of Onward itself, and of the models and recordings in it
IMPORT = 1.6  # times NumPy's own
DEPENDENCIES = {"numpy", "safetensors"}
TESTS = [
    "activations", "base", "bitwise", "bundled", "dense", "gradients", "layers", "load", "load_npz", "model",
    "pool", "precision", "recording", "releases", "spatial", "stream", "textbook", "threads",
]  # fmt: skip


def check_contents(wheel: Path) -> None:
    """Sizes, and what it says that it needs."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.compress_size for info in archive.infolist()}
        name = next(name for name in sizes if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    bundled = sum(size for name, size in sizes.items() if "/bundled/" in name)
    code = wheel.stat().st_size - bundled
    print(f"{wheel.name}: {code / 1e6:.2f} MB, and {bundled / 1e6:.2f} MB of models and recordings")
    assert code <= CODE and bundled <= BUNDLED, f"more than {CODE / 1e6} and {BUNDLED / 1e6} MB"
    needed = {line.split(">")[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert needed == DEPENDENCIES, f"it needs {needed}, not {DEPENDENCIES}"


def run(*command: str | Path) -> str:
    """What a command prints; it runs where no source of Onward is. Raises CalledProcessError."""
    environment = os.environ | {"PYTHONPATH": ""}
    elsewhere = tempfile.gettempdir()
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=elsewhere
    ).stdout


def installed(wheel: Path, numpy: str | None, home: Path) -> Path:
    """The Python of a new environment that holds the wheel and what it needs."""
    venv.create(home, with_pip=True)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(python, "-m", "pip", "install", "--quiet", wheel, f"numpy=={numpy}" if numpy else "numpy")
    listed = {line.split("==")[0] for line in run(python, "-m", "pip", "freeze").splitlines()}
    names = {line.split(" @")[0] for line in listed}
    assert names == DEPENDENCIES | {"onward"}, f"installed were {names}"
    return python


def check_import(python: Path) -> None:
    """That Onward takes little longer to import than NumPy, which it imports."""
    code = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
    times: dict[str, list[float]] = {"numpy": [], "onward": []}
    for _ in range(11):
        for name, taken in times.items():
            taken.append(float(run(python, "-c", code.format(name))))
    numpy, onward = (statistics.median(taken) for taken in times.values())
    print(f"import: {onward * 1e3:.0f} ms, numpy alone {numpy * 1e3:.0f} ms: {onward / numpy:.2f} times")
    assert onward <= IMPORT * numpy, f"more than {IMPORT} times"


def check_tests(python: Path, home: Path) -> None:
    """The tests that need nothing else."""
    run(python, "-m", "pip", "install", "--quiet", "--target", home / "pytest", "pytest")
    tests = [ROOT / "tests" / f"test_{name}.py" for name in TESTS]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    subprocess.run(command, check=True, cwd=home, env=os.environ | {"PYTHONPATH": str(home / "pytest")})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--numpy", help="its version")
    arguments = parser.parse_args()
    wheel = arguments.wheel.resolve()
    check_contents(wheel)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        python = installed(wheel, arguments.numpy, home / "environment")
        versions = "import sys, numpy; print('Python', sys.version.split()[0], 'NumPy', numpy.__version__)"
        print(run(python, "-c", versions).strip())
        check_import(python)
        check_tests(python, home)


if __name__ == "__main__":
    main()
