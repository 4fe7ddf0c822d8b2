"""Check a wheel: its size, its dependencies, its import time, and the tests that need nothing else.

    python tools/check_wheel.py dist/onward-*.whl                  # with the newest NumPy for this Python
    python tools/check_wheel.py dist/onward-*.whl --numpy 1.26.4   # with another version

The tests run in an environment that contains only NumPy and safetensors; pytest is installed in a separate
folder.
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAX_WHEEL = 3.5e6  # bytes
PAGES = "README.md", "docs/index.md", "docs/explanation/stability.md"  # which state the size
MAX_IMPORT = 1.6  # times NumPy's own import time
DEPENDENCIES = {"numpy", "safetensors"}
LICENSES = {"LICENSE", "nanobind.txt", "robin-map.txt"}
TESTS = [
    "core", "layers", "streaming", "formats/test_native.py",
    "formats/test_safetensors.py", "formats/test_zip.py",
    "test_bundled.py", "test_releases.py", "test_textbook.py", "test_textbook_shapes.py",
]  # fmt: skip
# These need mpmath, cloudpickle, onnx and click.
NEED_MORE = [
    "core/test_fingerprint.py", "core/test_math.py", "core/test_processes.py", "core/test_storage.py",
]  # fmt: skip


def check_contents(wheel: Path) -> None:
    """Check the size of the wheel and the dependencies that it declares."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.compress_size for info in archive.infolist()}
        name = next(name for name in sizes if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    size, bundled = wheel.stat().st_size, sum(size for name, size in sizes.items() if "/bundled/" in name)
    print(f"{wheel.name}: {size / 1e6:.2f} MB, of which {bundled / 1e6:.2f} MB are models and recordings")
    assert size <= MAX_WHEEL, f"expected at most {MAX_WHEEL / 1e6} MB"
    for page in PAGES:
        (stated,) = re.findall(r"(\d+\.\d) MB (?:package|wheel)", (ROOT / page).read_text(encoding="utf-8"))
        assert 0.8 * float(stated) <= size / 1e6 <= float(stated), f"{page} states a size of {stated} MB"
    declared = {
        line.split(">")[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line
    }
    assert declared == DEPENDENCIES, f"the wheel requires {declared}; expected {DEPENDENCIES}"
    licenses = {name.rpartition("/")[2] for name in sizes if ".dist-info/licenses/" in name}
    assert licenses == LICENSES, f"the wheel has the licenses {licenses}; expected {LICENSES}"


def run(*command: str | Path) -> str:
    """Run a command outside the source tree and return its output. Raises CalledProcessError."""
    environment = os.environ | {"PYTHONPATH": ""}
    outside = tempfile.gettempdir()
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=outside
    ).stdout


def install(wheel: Path, numpy: str | None, home: Path) -> Path:
    """Install the wheel in a new environment and return the path of its Python."""
    venv.create(home, with_pip=True)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(python, "-m", "pip", "install", "--quiet", wheel, f"numpy=={numpy}" if numpy else "numpy")
    lines = run(python, "-m", "pip", "freeze").splitlines()
    names = {line.split("==")[0].split(" @")[0] for line in lines}
    assert names == DEPENDENCIES | {"onward"}, f"pip installed {names}"
    return python


def check_import(python: Path) -> None:
    """Check that importing Onward takes little longer than importing NumPy, which it imports."""
    code = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
    times: dict[str, list[float]] = {"numpy": [], "onward": []}
    for _ in range(11):
        for name, measured in times.items():
            measured.append(float(run(python, "-c", code.format(name))))
    numpy, onward = (statistics.median(measured) for measured in times.values())
    print(f"import: {onward * 1e3:.0f} ms, NumPy alone {numpy * 1e3:.0f} ms, ratio {onward / numpy:.2f}")
    assert onward <= MAX_IMPORT * numpy, f"the ratio is above {MAX_IMPORT}"


def check_tests(python: Path, home: Path) -> None:
    """Run the tests that need only NumPy and safetensors."""
    run(python, "-m", "pip", "install", "--quiet", "--target", home / "pytest", "pytest")
    tests = [ROOT / "tests" / name for name in TESTS]
    ignored = [f"--ignore={ROOT / 'tests' / name}" for name in NEED_MORE]
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ignored, *tests]
    subprocess.run(command, check=True, cwd=home, env=os.environ | {"PYTHONPATH": str(home / "pytest")})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--numpy", help="the version of NumPy to install (default: the newest)")
    arguments = parser.parse_args()
    wheel = arguments.wheel.resolve()
    check_contents(wheel)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        python = install(wheel, arguments.numpy, home / "environment")
        versions = "import sys, numpy; print('Python', sys.version.split()[0], 'NumPy', numpy.__version__)"
        print(run(python, "-c", versions).strip())
        check_import(python)
        check_tests(python, home)


if __name__ == "__main__":
    main()
