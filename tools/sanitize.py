"""Run the core's tests under GCC's sanitizers. Linux only.

    python tools/sanitize.py            # memory errors and undefined behavior, then data races
    python tools/sanitize.py thread     # one of them

Each sanitizer has its own environment under build/. Leak detection is off, because Python keeps memory until
its process ends; tests/core/test_threads.py measures whether calls leak.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMPILER = os.environ.get("CXX", "g++")
THREADED = [
    "core/test_threads.py", "streaming", "graph/plan", "graph/operations/test_integers.py",
    "graph/operations/test_quantized_products.py", "graph/operations/test_quantized_recurrent.py",
]  # fmt: skip
MEMORY = ["core", "formats/onnx/test_protobuf.py", "graph", "layers", "streaming"]
TESTS = {"address,undefined": MEMORY, "thread": THREADED}
# The sanitizer ends a process that asks for more memory than there is. A loop of as many steps as the core
# allows takes 10 s with it; the test allows 2 s. That of threads keeps two bytes for each byte in use.
BEYOND_LIMITS = [
    "graph/test_hostile_graphs.py::test_a_loop_that_only_its_condition_ends_is_refused_after_many_iterations",
    "streaming/test_pool.py::test_rows_for_which_there_is_no_memory_are_named",
    "graph/plan/test_rebinding.py::test_calls_with_nodes_in_numpy_share_one_arena",
    "graph/plan/test_words.py::test_matrices_without_memory_are_not_packed",
    "graph/plan/test_words.py::test_rows_without_memory_are_not_gathered",
]
RUNTIME = {"address,undefined": "libasan.so", "thread": "libtsan.so"}
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=2",  # tests measure memory, and freed blocks count
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


def library(name: str) -> str:
    """The path of one of the compiler's libraries."""
    return subprocess.check_output([COMPILER, f"-print-file-name={name}"], text=True).strip()


def build(sanitizer: str) -> Path:
    """Install Onward, compiled with the sanitizer, in an environment and return the path of its Python."""
    home = ROOT / "build" / sanitizer.replace(",", "-")
    if not home.exists():
        venv.create(home, with_pip=True)
    define = {
        "SKBUILD_CMAKE_DEFINE": f"ONWARD_SANITIZE={sanitizer}",
        "SKBUILD_BUILD_DIR": str(home / "build"),
    }
    python = home / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", ".[test]"], cwd=ROOT, env=os.environ | define, check=True
    )
    return python


def run(sanitizer: str) -> None:
    """Build and test. Raises CalledProcessError if the sanitizer finds an error or a test fails."""
    python = build(sanitizer)
    # Python itself is not instrumented, so the runtime must be loaded first, with the library that throws
    # C++ exceptions.
    preload = {"LD_PRELOAD": f"{library(RUNTIME[sanitizer])} {library('libstdc++.so.6')}"}
    tests = [f"tests/{name}" for name in TESTS[sanitizer]]
    tests += [f"--deselect=tests/{name}" for name in BEYOND_LIMITS]
    # Pytest would capture the report of the sanitizer, which then ends the process.
    pytest = [python, "-m", "pytest", "-q", "-x", "--capture=sys", "-p", "no:cacheprovider"]
    pytest += ["--stress-megabytes", "1000"]
    fixed_addresses = ["setarch", "-R"]  # GCC's thread sanitizer relies on them
    command = [*fixed_addresses, *pytest, *tests]
    subprocess.run(command, cwd=ROOT, env=os.environ | OPTIONS | preload, check=True)
    print(f"{sanitizer}: no errors", flush=True)


if __name__ == "__main__":
    for sanitizer in sys.argv[1:] or TESTS:
        run(sanitizer)
