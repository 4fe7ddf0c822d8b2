"""Fails where a product keeps a vector on the stack: compiles the kernels and reads the machine code.

    python tools/check_inner_loops.py           # with the compiler $CXX, g++ if not set; x86-64 only

Sums that do not stay in registers cost a product 10 to 15 % of its speed, and nothing else would show it.
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
    """The instructions of each micro-kernel by its mangled name."""
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
            functions = micro_kernels(target.read_text())
        spills = {
            name: found
            for name, lines in functions.items()
            if (found := list(filter(ON_STACK.search, lines)))
        }
        for name, lines in spills.items():
            print(f"{isa}: {name} keeps vectors on the stack, as in: {lines[0]}")
        print(f"{isa}: {len(functions)} micro-kernels, {len(spills)} with vectors on the stack")
        failed |= bool(spills) or not functions
    sys.exit(failed)


if __name__ == "__main__":
    main()
