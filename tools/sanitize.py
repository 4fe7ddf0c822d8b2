"""Runs the core's tests with a core that is watched as it runs, by the sanitisers of GCC. Linux only.

    python tools/sanitize.py            # memory and undefined behaviour, then races between threads
    python tools/sanitize.py thread     # one of them

Each has an environment of its own under build/. Leaks are not looked for here, as Python leaves memory to
the end of its process; that calls keep none is what tests/test_threads.py measures.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMPILER = os.environ.get("CXX", "g++")
THREADED = ["threads", "stream", "pool"]
CORE = [
    *THREADED, "activations", "bad_input", "bitwise", "dense", "gradients", "layers", "math", "model",
    "precision", "processes", "recording",
]  # fmt: skip
TESTS = {"address,undefined": CORE, "thread": THREADED}
RUNTIME = {"address,undefined": "libasan.so", "thread": "libtsan.so"}
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


def library(name: str) -> str:
    """The path of one of the compiler's libraries."""
    return subprocess.check_output([COMPILER, f"-print-file-name={name}"], text=True).strip()


def built(watched: str) -> Path:
    """The Python of an environment that has Onward with a core watched for this."""
    home = ROOT / "build" / watched.replace(",", "-")
    if not home.exists():
        venv.create(home, with_pip=True)
    define = {"SKBUILD_CMAKE_DEFINE": f"ONWARD_SANITIZE={watched}", "SKBUILD_BUILD_DIR": str(home / "build")}
    python = home / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", ".[test]"], cwd=ROOT, env=os.environ | define, check=True
    )
    return python


def run(watched: str) -> None:
    """Builds, and tests. Raises CalledProcessError where something is found."""
    python = built(watched)
    # Python itself is not: the runtime comes before all else, with what it needs to see exceptions thrown.
    preload = {"LD_PRELOAD": f"{library(RUNTIME[watched])} {library('libstdc++.so.6')}"}
    tests = [f"tests/test_{name}.py" for name in TESTS[watched]]
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "--stress-megabytes",
        "1000",
        *tests,
    ]
    fixed_addresses = ["setarch", "-R"]  # which GCC's thread sanitiser relies on
    subprocess.run([*fixed_addresses, *command], cwd=ROOT, env=os.environ | OPTIONS | preload, check=True)
    print(f"{watched}: nothing found", flush=True)


if __name__ == "__main__":
    for each in sys.argv[1:] or TESTS:
        run(each)
