"""Measure install size, import time and memory of Onward and its peers, each import in a new process.

python bench/startup.py
"""

import importlib.metadata
import json
import statistics
import subprocess
import sys
from pathlib import Path

import report

# The packages that each import needs.
PACKAGES = {
    "numpy": ["numpy"],
    "onward": ["onward", "numpy", "safetensors"],
    "onnxruntime": ["onnxruntime", "numpy", "flatbuffers", "packaging", "protobuf"],
    "openvino": ["openvino", "openvino-telemetry", "numpy", "packaging"],
    "torch": [
        "torch",
        "filelock",
        "fsspec",
        "jinja2",
        "MarkupSafe",
        "mpmath",
        "networkx",
        "sympy",
        "typing_extensions",
    ],
}
PROBE = """
import json, resource, sys, time
start = time.perf_counter()
import {name}
seconds = time.perf_counter() - start
pages = int(open("/proc/self/statm").read().split()[1]) if sys.platform == "linux" else 0
print(json.dumps([seconds, pages * resource.getpagesize()]))
"""


def size_on_disk(package: str) -> int:
    """The size of a package's files. An editable install of Onward is measured in its source tree."""
    if package == "onward":
        import onward
        from onward import _core

        files = {*Path(onward.__file__).parent.rglob("*"), Path(_core.__file__)}
        return sum(
            file.stat().st_size for file in files if file.is_file() and "__pycache__" not in file.parts
        )
    located = (Path(str(file.locate())) for file in importlib.metadata.files(package) or [])
    return sum(file.stat().st_size for file in located if file.is_file())


def probe(name: str) -> tuple[float, float]:
    """The import time in seconds, and the resident bytes after the import."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE.format(name=name)], capture_output=True, check=True, text=True
    )
    seconds, resident = json.loads(result.stdout)
    return seconds, resident


def main() -> None:
    options = report.parser(__doc__).parse_args()
    names = []
    for name, packages in PACKAGES.items():
        try:
            for package in packages:
                importlib.metadata.distribution(package)
            names.append(name)
        except importlib.metadata.PackageNotFoundError as error:
            print(f"skipping {name}, which needs {error}", file=sys.stderr)
    # Interleaved; the first round only fills the disk cache.
    rounds = [{name: probe(name) for name in names} for _ in range(3 if options.quick else 12)][1:]
    measured = report.Report(options, [name for name in names if name not in ("onward", "numpy")])
    for name in names:
        disk = sum(map(size_on_disk, PACKAGES[name])) / 1e6
        seconds = statistics.median(measured[name][0] for measured in rounds)
        resident = statistics.median(measured[name][1] for measured in rounds) / 1e6
        measured.add("imports", package=name, disk_MB=disk, seconds=seconds, resident_MB=resident)


if __name__ == "__main__":
    main()
