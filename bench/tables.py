"""Show the measurements of docs/benchmarks/*.json in the README and the pages, and draw their pictures.

    python bench/tables.py [ROOT]

A page marks the place of a table or a figure, and nobody enters figures by hand:

    <!-- bench: latency.calls -->
    ... a table ...
    <!-- end -->

    A step takes <!-- bench: latency.step -->0.73<!-- end --> µs.

The name is one of TABLES or FIGURES, or that of a JSON file, which shows how it was measured.
"""

import hashlib
import itertools
import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"<!-- bench: (?P<name>[^>]+) -->(?P<line>\n?)(?P<text>.*?)<!-- end -->", re.DOTALL)
NAMES = {"onnxruntime": "onnxruntime", "openvino": "OpenVINO", "torch": "PyTorch", "jax": "JAX"}
PEERS = {f"{name}, µs": key for key, name in NAMES.items() if key != "jax"}
MODELS = {"model": "model", "Onward, µs": "onward", **PEERS, "fastest peer / Onward": "ratio"}
LSTM = {"float32": "float32", "float16": "float16", "int8": "int8"}
SHARES = {"share of the limit": "share", "of the steps that compute": "share_of_computing"}
LEAST = 0.97  # of a ratio that is no miss
CAUSES: dict[str, str] = {}  # why models of the zoo are slower than the fastest peer

Row = dict[str, Any]
Reports = dict[str, Row]

# For each table, the headers of its columns and the keys of their values in the rows.
TABLES: dict[str, dict[str, str]] = {
    "models.models": MODELS,
    "models.limits": {
        "model": "model", "Onward, µs": "onward", "limit, µs": "limit", "share of the limit": "share",
    },
    "models.int8": MODELS,
    "keras_models.models": MODELS,
    "lengths.lengths": MODELS,
    "lengths.batches": MODELS,
    "lengths.rebinding": {
        "steps": "steps",
        "same length, µs": "same",
        "new length, µs": "new",
        "difference, µs": "difference",
    },
    "peers.cells": {
        "cell": "cell",
        "threads": "threads",
        "T": "T",
        "B": "B",
        "H": "H",
        "Onward, µs": "onward",
        **PEERS,
        "fastest peer / Onward": "ratio",
        "GFLOP/s": "gigaflops",
        "share of the limit": "share",
    },
    "peers.bandwidth": {"array, KiB": "KiB", "read rate, GB/s": "gigabytes"},
    "c.steps": {
        "model": "model",
        "library, µs": "library_us",
        "exported C, µs": "code_us",
        "emx-onnx-cgen, µs": "emx_us",
        "library is faster, times": "library_ratio",
        "exported C is faster, times": "code_ratio",
        "Python, µs": "python_us",
        "onnxruntime, µs": "onnxruntime_us",
    },
    "c.open": {"model": "model", "file, kB": "file_kB", "C, ms": "open_to_first_ms", "Python, ms": "load_ms"},
    "c.sizes": {
        "model": "model",
        "weights, kB": "weights_kB",
        "exported C with its weights, kB": "code_kB",
        "emx-onnx-cgen, kB": "emx_kB",
        "RAM of exported C, kB": "ram_kB",
    },
    "microcontroller.instructions": {
        "model": "model",
        "code": "tool",
        "numbers": "precision",
        "instructions": "instructions",
        "per multiply-add": "per_multiply_add",
        "flash, kB": "flash_kB",
        "RAM, kB": "ram_kB",
    },
    "startup.imports": {
        "import": "package",
        "install size with dependencies, MB": "disk_MB",
        "import time, s": "seconds",
        "resident memory, MB": "resident_MB",
    },
    "latency.calls": {
        "H": "H",
        "call": "call",
        "p50, µs": "p50",
        "p99": "p99",
        "p99.9": "p99.9",
        "max": "max",
        "bytes": "bytes",
    },
    "latency.stacks": {
        "layers": "layers",
        "H": "H",
        "float32, µs": "float32",
        "int8, µs": "int8",
        "reading the int8 weights, µs": "reading",
        "Vollo, µs": "vollo",
    },
    "latency.blocks": {
        "model": "model",
        "call": "call",
        "p50, µs": "p50",
        "p99": "p99",
        "p99.9": "p99.9",
        "max": "max",
        "p50 / onnxruntime": "ratio",
    },
    "pool.detectors": {
        "model": "model",
        "streams per step": "streams",
        "Onward, µs per stream": "onward",
        "onnxruntime, µs per stream": "onnxruntime",
        "onnxruntime / Onward": "ratio",
        "live streams per core": "live",
    },
    "pool.lstm": {
        "streams per step": "streams",
        "pool, µs": "pool",
        "batched call, µs": "batched",
        "batched call / pool": "batched_ratio",
        "onnxruntime / pool": "onnxruntime_ratio",
    },
    "load.files": {
        "file": "file",
        "model": "model",
        "MB": "size_MB",
        "Onward, s": "onward",
        "framework, s": "framework",
        "framework / Onward": "ratio",
        "Onward, peak MB": "onward_MB",
        "framework, peak MB": "framework_MB",
    },
    "zoo.milliseconds": {
        "model": "model", "file": "file", "Onward, ms": "onward", "onnxruntime, ms": "onnxruntime",
        "PyTorch, ms": "torch", "fastest peer / Onward": "ratio", "Onward's first answer, ms": "onward_first",
        "of onnxruntime, ms": "onnxruntime_first", "of PyTorch, ms": "torch_first",
    },
    "zoo.misses": {"model": "model", "file": "file", "fastest peer / Onward": "ratio", "cause": "cause"},
    "convolutions.kinds": {"kind": "kind", **SHARES},
    "convolutions.calls": {
        "kind": "kind", "convolution": "convolution", "Onward, µs": "onward", "limit, µs": "limit",
        "what bounds it": "bound", **SHARES,
    },
    "quantized.lstm": {
        "T": "T",
        "B": "B",
        "H": "H",
        **LSTM,
        **{f"{NAMES[peer]} {kind}": f"{peer} {kind}" for kind, peer in [
            ("float32", "onnxruntime"), ("float32", "openvino"), ("float32", "torch"),
            ("int8", "onnxruntime"), ("bfloat16", "openvino"), ("bfloat16", "torch"),
        ]},
        "fastest peer / int8": "int8 ratio",
        "fastest float32 peer / float16": "float16 ratio",
    },
    "quantized.steps": {
        "layers": "layers",
        "H": "H",
        "one thread, µs": "one",
        "two threads, µs": "two",
        "reading the weights, µs": "reading",
        "as many layers with H = 16, µs": "small",
    },
    "quantized.models": {
        "model": "model",
        **{f"{precision}, µs": precision for precision in LSTM},
        **{f"{precision}, kB": f"{precision} kB" for precision in LSTM},
        "float32 / int8": "ratio",
    },
    "quantized.accuracy": {
        "model": "model",
        "float16, largest": "float16 largest",
        "mean": "float16 mean",
        "int8, largest": "int8 largest",
        "mean ": "int8 mean",
        "decisions": "decisions",
        "changed by float16": "float16 changed",
        "by int8": "int8 changed",
    },
    "scale.rates": {
        "way": "way",
        "sequences per second": "per_second",
        "relative to the loop": "relative",
        "once, s": "once",
    },
    "serve.streams": {
        "model": "model",
        "server": "server",
        "streams": "streams",
        "p50, ms": "p50",
        "p99, ms": "p99",
        "processor time per message, µs": "cpu",
        "streams per core": "per_core",
    },
    "serve.live": {"model": "model", "Onward": "Onward", "onnxruntime": "onnxruntime"},
    "train.gradients": {
        "T": "T",
        "B": "B",
        "H": "H",
        "Onward, µs": "onward",
        "PyTorch, µs": "torch",
        "JAX, µs": "jax",
        "fastest peer / Onward": "ratio",
        "two threads / one": "two_threads",
    },
    "train.epoch": {
        "Onward, s": "onward",
        "Onward with two threads, s": "onward, two threads",
        "PyTorch, s": "torch",
        "PyTorch / Onward": "ratio",
    },
    "scan_gradients.layers": {
        "layer": "layer", "Onward, µs": "onward", "JAX, µs": "jax", "JAX / Onward": "ratio",
    },
    "tflite.models": {
        "model": "model", "Onward, µs": "onward", "LiteRT, µs": "litert", "LiteRT / Onward": "ratio",
    },
    "javascript.models": {
        "call": "model", "Python, µs": "python", "JavaScript, relaxed SIMD, µs": "relaxed",
        "relaxed SIMD / Python": "ratio", "JavaScript, SIMD, µs": "plain", "SIMD / Python": "plain_ratio",
    },
    "denormals.calls": {
        "cell": "cell",
        "B": "B",
        "ordinary, µs": "ordinary",
        "denormal, µs": "denormal",
        "denormal / ordinary": "ratio",
    },
}  # fmt: skip


def number(value: Any) -> str:
    """A value as it is shown: three significant digits of a float.

    >>> number(0.7345), number(42310.7), number(1.0), number(2.5e-5), number(12), number(None)
    ('0.734', '42,311', '1.00', '2.5e-05', '12', '')
    """
    if value is None:
        return ""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if value and abs(value) < 1e-2:
        return f"{value:.2g}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value)))) if value else 2}f}"


def rows(reports: Reports, name: str) -> list[Row]:
    """The rows of a table; a few are computed from other tables."""
    if name == "models.int8":
        return [row for row in rows(reports, "models.models") if "int8" in row["model"]]
    if name == "models.limits":
        return [row for row in rows(reports, "models.models") if "limit" in row]
    if name == "serve.live":
        return list(live(rows(reports, "serve.streams")))
    if name == "zoo.misses":
        found = [row for row in rows(reports, "zoo.milliseconds") if row["ratio"] < LEAST]
        return [{**row, "cause": CAUSES.get(row["model"], "")} for row in found]
    report, _, table = name.partition(".")
    return reports[report]["tables"].get(table, [])


def live(measured: list[Row]) -> Iterator[Row]:
    """For each model and server, the largest number of streams that it serves live."""
    for model in dict.fromkeys(row["model"] for row in measured):
        best = {"Onward": 0, "onnxruntime": 0}
        for row in measured:
            if row["model"] == model and row["p99"] <= 32:
                best[row["server"]] = max(best[row["server"]], row["streams"])
        yield {"model": model, **best}


def one(reports: Reports, table: str, key: str, **where: Any) -> Any:
    """The value of a key in the only row with these values."""
    (found,) = (row for row in rows(reports, table) if all(row[k] == v for k, v in where.items()))
    return found[key]


def mean(reports: Reports, table: str, key: str = "ratio") -> float:
    return statistics.geometric_mean(row[key] for row in rows(reports, table))


def first_answers(reports: Reports, file: str, peer: str) -> float:
    """The geometric mean of the times of a peer to the first answer, relative to those of Onward."""
    found = (row for row in rows(reports, "zoo.milliseconds") if row["file"] == file and peer in row)
    return statistics.geometric_mean(row[peer] / row["onward_first"] for row in found)


def cluster(reports: Reports) -> float:
    """Sequences per second of a hundred machines with two workers each, if they do not wait for data."""
    way = "Parquet to Parquet, 2 workers"
    return 100 * float(one(reports, "scale.rates", "per_second", way=way))


# Figures in sentences.
FIGURES: dict[str, Callable[[Reports], Any]] = {
    "models.mean": lambda r: mean(r, "models.models"),
    "lengths.mean": lambda r: mean(r, "lengths.lengths"),
    "lengths.mean_of_batches": lambda r: mean(r, "lengths.batches"),
    "latency.step": lambda r: one(r, "latency.calls", "p50", H=32, call="stream(x)"),
    "latency.silero": lambda r: one(r, "latency.blocks", "p50", model="Silero 6", call="stream(x)"),
    "pool.live": lambda r: round(one(r, "pool.detectors", "live", model="Silero 6", streams=256), -1),
    "pool.bytes": lambda r: one(r, "pool.detectors", "bytes_per_stream", model="Silero 6", streams=1),
    "peers.gigaflops": lambda r: rows(r, "peers.arithmetic")[0]["gigaflops"],
    "c.library": lambda r: rows(r, "c.library")[0]["shared_kB"],
    "quantized.speedup": lambda r: mean(r, "quantized.models"),
    "zoo.mean": lambda r: mean(r, "zoo.milliseconds"),
    "zoo.onnx": lambda r: first_answers(r, "onnx", "onnxruntime_first"),
    "zoo.pt2": lambda r: first_answers(r, "pt2", "torch_first"),
    "zoo.script": lambda r: first_answers(r, "TorchScript", "torch_first"),
    "zoo.files": lambda r: len(rows(r, "zoo.milliseconds")),
    "tflite.mean": lambda r: mean(r, "tflite.models"),
    "tflite.pool": lambda r: 1e3 * rows(r, "tflite.listeners")[0]["pool"],
    "tflite.front_ends": lambda r: 1e3 * rows(r, "tflite.listeners")[0]["front_ends"],
    "tflite.share": lambda r: 100 * rows(r, "tflite.listeners")[0]["load"],
    "scale.cluster": lambda r: round(cluster(r), -3),
    "scale.cluster_seconds": lambda r: 1e8 / cluster(r),
    "scale.cluster_megabytes": lambda r: 0.048 * cluster(r) / 100,  # 48 kB a sequence
}


def table(reports: Reports, name: str) -> str:
    """A table in Markdown, without columns that have no values."""
    found = rows(reports, name)
    if not found:
        return "None."
    columns = {head: key for head, key in TABLES[name].items() if any(key in row for row in found)}

    def cell(row: Row, key: str) -> str:
        value = row.get(key)
        return f"{value:.0%}" if key.startswith("share") and value is not None else number(value)

    def numeric(key: str) -> bool:
        return all(isinstance(row.get(key, 0), int | float) for row in found)

    rules = ["---:" if numeric(key) else "---" for key in columns.values()]
    lines = [[head.strip() for head in columns], rules]
    lines += [[cell(row, key) for key in columns.values()] for row in found]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(reports: Reports) -> str:
    """The LSTM on one thread: T and B down, H across; Onward's time, and the fastest peer's divided by it."""
    cells = [row for row in rows(reports, "peers.cells") if (row["cell"], row["threads"]) == ("lstm", 1)]
    sizes = sorted({row["H"] for row in cells})
    lines = [["T, B", *(f"H {H}" for H in sizes)], ["---"] * (len(sizes) + 1)]
    for (T, B), group in itertools.groupby(cells, lambda row: (row["T"], row["B"])):
        by_size = {row["H"]: f"{number(row['onward'])} µs, {number(row['ratio'])}" for row in group}
        lines.append([f"{T}, {B}", *(by_size.get(H, "") for H in sizes)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def provenance(report: Row) -> str:
    """The sentence that says when, how and where a report was measured."""
    versions = report["versions"]
    peers = [
        f"{NAMES.get(name, name)} {v}" for name, v in versions.items() if name not in ("onward", "numpy")
    ]
    machine = report["machine"]
    # a benchmark that ran before on a quiet machine leaves a load of at most 2
    busy = f" that was busy with other work (load {report['load']})" if report["load"] > 2.5 else ""
    kind = "A trial, not a measurement: run" if report["quick"] else "Measured"
    return (
        f"{kind} on {report['date']} with `{report['command']}` on a {machine['cores']}-core "
        f"{machine['processor']} ({machine['isa']}){busy}; {', '.join(peers).replace('python', 'Python')}."
    )


def rendered(reports: Reports, name: str) -> str:
    """The text of a block."""
    if name == "peers.summary":
        return summary(reports)
    if name in TABLES:
        return table(reports, name)
    return number(FIGURES[name](reports)) if name in FIGURES else provenance(reports[name])


def filled(page: str, reports: Reports) -> str:
    """A page with the tables and figures of the reports."""

    def fill(match: re.Match[str]) -> str:
        line, name = match["line"], match["name"]
        return f"<!-- bench: {name} -->{line}{rendered(reports, name)}{line}<!-- end -->"

    return BLOCK.sub(fill, page)


def read(root: Path) -> Reports:
    """The reports of a checkout by the names of their files."""
    paths = sorted((root / "docs" / "benchmarks").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def pages(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


# ---- Pictures ----------------------------------------------------------------------------------------------


PICTURES = {"models.png": "models.models", "speed.png": "peers.cells"}  # and the tables that they show


def digest(found: list[Row]) -> str:
    """A digest of rows, which the metadata of a picture names."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def draw(root: Path, reports: Reports) -> None:
    """Draw each picture whose measurements have changed."""
    import matplotlib
    from plots import PLOTS

    matplotlib.use("Agg")
    for name, source in PICTURES.items():
        path, found = root / "docs" / "benchmarks" / name, rows(reports, source)
        if not path.exists() or digest(found).encode() not in path.read_bytes():
            PLOTS[name](found).savefig(path, dpi=120, metadata={"Source": digest(found)})


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    reports = read(root)
    for path in pages(root):
        page = path.read_text(encoding="utf-8")
        path.write_text(filled(page, reports), encoding="utf-8")
    draw(root, reports)


if __name__ == "__main__":
    main()
