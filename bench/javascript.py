"""Compare whole models in JavaScript with the same models in Python, each on one thread.

    python bench/javascript.py --cases DIR    # DIR has the folders silero_v6 and dtln

Times are those of the shortest of many calls in Node, with relaxed SIMD and without.
"""

import json
import subprocess
import tempfile
import timeit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import report

import onward
from onward.tracing.explore import PAGE

RELAXED = "--experimental-wasm-relaxed-simd"  # of versions of Node that have not switched it on


def models(cases: Path) -> Iterator[tuple[str, Path, list[Any]]]:
    """Names, files and inputs."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    state = np.zeros((1, 1, 128), np.float32)
    yield "Silero 6, one frame", cases / "silero_v6/silero_vad_v6.onnx", [normal(1, 576), state, state]
    for number, size in ((1, 257), (2, 512)):
        inputs = [np.abs(normal(1, 1, size)), normal(1, 2, 128, 2)]
        yield f"DTLN, stage {number}", cases / f"dtln/model_{number}.onnx", inputs


def node(*arguments: str | Path) -> str:
    """What Node prints, with relaxed SIMD."""
    options = subprocess.run(["node", "--v8-options"], check=True, stdout=subprocess.PIPE, text=True).stdout
    command = ["node", *([RELAXED] if RELAXED in options else []), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def in_node(folder: Path, *core: Path) -> float:
    """The microseconds of a call in Node, with the core that the module chooses by default."""
    files = folder / "model.safetensors", folder / "inputs.json", *core
    return float(node(Path(__file__).with_suffix(".mjs"), (PAGE / "onward.js").as_uri(), *files))


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--cases", type=Path, required=True, help="a folder with silero_v6 and dtln")
    options = parser.parse_args()
    measured = report.Report(options)
    measured.content["versions"]["Node"] = node("--version").strip("v\n")
    onward.set_num_threads(1)
    for name, path, inputs in models(options.cases):
        model: Any = onward.load(path)
        with tempfile.TemporaryDirectory() as home:
            folder = Path(home)
            onward.export_web(model, folder / "model.safetensors", tuple(inputs))
            numbers = [(each.shape, each.reshape(-1).tolist()) for each in inputs]
            (folder / "inputs.json").write_text(json.dumps(numbers))
            call = timeit.Timer(lambda model=model, inputs=inputs: model(*inputs))
            python = min(call.repeat(500 if options.quick else 10_000, 1)) * 1e6
            times = {"python": python, "relaxed": in_node(folder)}
            times["plain"] = in_node(folder, PAGE / "onward-graph.wasm")
        ratios = {"ratio": times["relaxed"] / python, "plain_ratio": times["plain"] / python}
        measured.add("models", model=name, **times, **ratios)


if __name__ == "__main__":
    main()
