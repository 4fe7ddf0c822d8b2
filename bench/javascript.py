"""Compare whole models in JavaScript with the same models in Python, each on one thread.

    python bench/javascript.py --cases DIR    # DIR has the folders silero_v6 and dtln

Times are the shortest of ten calls in Node, with relaxed SIMD and without.
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
CALLS = 10


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


def in_node(folder: Path, *options: str) -> float:
    """The microseconds of a call in Node."""
    script = Path(__file__).with_suffix(".mjs")
    files = folder / "model.safetensors", folder / "inputs.json"
    command = ["node", *options, script, (PAGE / "onward.js").as_uri(), *files]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--cases", type=Path, required=True, help="a folder with silero_v6 and dtln")
    options = parser.parse_args()
    measured = report.Report(options)
    onward.set_num_threads(1)
    for name, path, inputs in models(options.cases):
        model: Any = onward.load(path)
        with tempfile.TemporaryDirectory() as home:
            folder = Path(home)
            onward.export_web(model, folder / "model.safetensors", tuple(inputs))
            numbers = [(each.shape, each.reshape(-1).tolist()) for each in inputs]
            (folder / "inputs.json").write_text(json.dumps(numbers))
            call = timeit.Timer(lambda model=model, inputs=inputs: model(*inputs))
            python = min(call.repeat(50 if options.quick else 1000, CALLS)) / CALLS * 1e6
            relaxed, plain = in_node(folder, RELAXED), in_node(folder)
        measured.add(
            "models", model=name, python=python, relaxed=relaxed, plain=plain, ratio=relaxed / python
        )


if __name__ == "__main__":
    main()
