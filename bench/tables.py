"""Write the figures of docs/benchmarks/models.json into README.md, between its markers.

    python bench/tables.py

Benchmarks write JSON; pages show it. Nobody copies figures by hand.
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "benchmarks" / "models.json"
README = ROOT / "README.md"
PEERS = {"onnxruntime": "onnxruntime", "openvino": "OpenVINO", "torch": "PyTorch"}


def whole_models(report: dict[str, Any]) -> str:
    """Format the results of bench/models.py as a Markdown table."""
    lines = [
        f"| model | Onward, µs | {' | '.join(PEERS.values())} | fastest peer / Onward |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["rows"]:
        peers = [f"{row[name]:,.0f}" if name in row else "" for name in PEERS]
        lines.append(f"| {row['model']} | {row['onward']:,.0f} | {' | '.join(peers)} | {row['ratio']:.2f} |")
    return "\n".join(lines)


def provenance(report: dict[str, Any]) -> str:
    """One paragraph: the command, the machine, the versions and the mean."""
    versions = {name: report["versions"][peer].split("+")[0] for peer, name in PEERS.items()}
    beside = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        "Measured with `python bench/models.py --cases DIR --out docs/benchmarks` on a "
        f"{report['machine']}, one thread, beside {beside}. The geometric mean of the last column is "
        f"{report['geometric_mean']:.2f}."
    )


def filled(readme: str, report: dict[str, Any]) -> str:
    """The README with the figures of a report."""
    block = f"<!-- models: begin -->\n{provenance(report)}\n\n{whole_models(report)}\n<!-- models: end -->"
    return re.sub(r"<!-- models: begin -->.*<!-- models: end -->", lambda _: block, readme, flags=re.DOTALL)


def main() -> None:
    report = json.loads(FIGURES.read_text(encoding="utf-8"))
    README.write_text(filled(README.read_text(encoding="utf-8"), report), encoding="utf-8")


if __name__ == "__main__":
    main()
