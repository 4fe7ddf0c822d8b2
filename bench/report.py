"""What all benchmarks share: options, and the JSON file of measurements, machine and versions."""

import argparse
import datetime
import json
import os
import platform
import re
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from onward import _core


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options --json and --quick, which every benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements to FILE")
    parser.add_argument("--quick", action="store_true", help="measure less and less often, as a trial")
    return parser


def processor() -> str:
    """The name of the processor."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", info.read_text(), re.MULTILINE) if info.exists() else []
    return (names or [platform.processor()])[0].strip()


def command() -> str:
    """The command line without --json FILE, and with DIR in place of folders of this machine."""
    words = ["DIR" if Path(word).is_dir() else word for word in sys.argv[1:]]
    line = " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *words])
    return re.sub(r" --json[ =]\S+", "", line)


def round_float(value: Any) -> Any:
    """A float with six significant digits; other values unchanged."""
    return float(f"{value:.6g}") if isinstance(value, float | np.floating) else value


class Report:
    """Tables of measurements; each new row is printed and, if there is a file, written at once."""

    def __init__(self, options: argparse.Namespace, packages: Iterable[str] = ()) -> None:
        self.path: Path | None = options.json
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.content: dict[str, Any] = {
            "command": command(),
            "quick": options.quick,
            "date": datetime.date.today().isoformat(),
            "machine": {"processor": processor(), "cores": os.cpu_count(), "isa": _core.isa()},
            "load": round(os.getloadavg()[1], 1),  # averaged over the last five minutes
            "versions": {
                "python": platform.python_version(),
                **{name: version(name).split("+")[0] for name in ("onward", "numpy", *packages)},
            },
            "tables": self.tables,
        }
        print(f"{processor()}, {os.cpu_count()} cores, {_core.isa()}", flush=True)

    def add(self, table: str, **row: Any) -> None:
        """Add a row to a table."""
        row = {name: round_float(value) for name, value in row.items()}
        self.tables.setdefault(table, []).append(row)
        cells = (f"{name} {f'{v:.4g}' if isinstance(v, float) else v}" for name, v in row.items())
        print(f"{table}: {', '.join(cells)}", flush=True)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self.content, indent=1, ensure_ascii=False)
            self.path.write_text(text + "\n", encoding="utf-8")
