"""Check that the inner loops of the kernels keep their vectors in registers, by reading the machine code.

    python tools/check_inner_loops.py           # compiles with $CXX or g++; x86-64 only

Vectors on the stack slow a product down by 10 to 15 %, which no test would notice.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KERNELS = Path(__file__).parent.parent / "cpp" / "kernels" / "kernels.cpp"
FLAGS = ["-std=c++20", "-O3", "-ffp-contract=off", "-fPIC", "-S", f"-I{KERNELS.parents[1]}", "-o"]
BUILDS = {
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "avx512vnni": ["-march=x86-64-v4", "-mavx512vnni", "-mprefer-vector-width=512"],
}
ON_STACK = re.compile(r"[yz]mm\d+.*\(%r[sb]p\)|\(%r[sb]p\).*[yz]mm\d+")


def micro_kernels(assembly: str) -> dict[str, list[str]]:
    """The instructions of each micro-kernel, by mangled name."""
    functions: dict[str, list[str]] = {}
    current: list[str] = []
    for line in assembly.splitlines():
        label = re.match(r"(_Z\w*(?:5micro|10outer_tile)\w*):", line)
        if label:
            current = functions.setdefault(label[1], [])
        elif re.match(r"\s*\.size\b|\s*\.cfi_endproc\b", line):
            current = []
        else:
            current.append(line.strip())
    return functions


def main() -> None:
    failed = False
    for isa, flags in BUILDS.items():
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "kernels.s"
            compiler = os.environ.get("CXX", "g++")
            command = [compiler, *FLAGS, str(target), *flags, f"-DONWARD_ISA={isa}", str(KERNELS)]
            subprocess.run(command, check=True)
            functions = micro_kernels(target.read_text(encoding="utf-8"))
        spills = {
            name: found
            for name, lines in functions.items()
            if (found := list(filter(ON_STACK.search, lines)))
        }
        for name, lines in spills.items():
            print(f"{isa}: {name} spills vectors to the stack: {lines[0]}")
        print(f"{isa}: {len(functions)} micro-kernels, {len(spills)} with spills")
        failed |= bool(spills) or not functions
    sys.exit(failed)


if __name__ == "__main__":
    main()
