"""Time one call of whole models in Onward, onnxruntime and PyTorch.

    python bench/models.py                          # the generated models
    python bench/models.py --cases DIR              # and the trained models in a folder of cases
    python bench/models.py --out docs/models        # also writes docs/models.json and docs/models.md

Every model runs from the same ONNX file in Onward and onnxruntime, and in PyTorch's inference mode where
there is a module. Outputs are compared before any timing. The calls are interleaved, in one process, and the
medians are reported. Needs onward[bench].
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support import modules  # the tests are no package

import onward
from onward import _core

SECONDS = 0.6  # for each model and framework


class Model(NamedTuple):
    name: str
    file: bytes | Path
    inputs: dict[str, Any]
    module: torch.nn.Module | None


def generated() -> Iterator[Model]:
    """Models with random weights, of the kinds that people ship."""
    for name, whole in modules.WHOLE.items():
        torch.manual_seed(0)
        module, inputs = whole.module(), modules.inputs_of(whole.inputs, 0)
        yield Model(name, modules.exported(module, inputs), inputs, module)


def trained(folder: Path) -> Iterator[Model]:
    """The trained models in a folder of cases."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    zeros = np.zeros((1, 1, 128), np.float32)
    frames = np.load(folder / "silero_v6" / "inputs.npz")["input"]
    silero_6 = folder / "silero_v6" / "silero_vad_v6.onnx"
    yield Model("Silero 6, a frame", silero_6, {"input": frames[:1], "h": zeros, "c": zeros}, None)
    yield Model("Silero 6, 120 frames", silero_6, {"input": frames, "h": zeros, "c": zeros}, None)
    silero_5 = {"input": frames[:1], "state": normal(2, 1, 128), "sr": np.array(16000)}
    yield Model("Silero 5, a frame", folder / "silero_vad" / "silero_vad_16k_op15.onnx", silero_5, None)
    for stage, inputs in enumerate(
        (
            {"input_2": np.abs(normal(1, 1, 257)), "input_3": normal(1, 2, 128, 2)},
            {"input_4": normal(1, 1, 512), "input_5": normal(1, 2, 128, 2)},
        ),
        1,
    ):
        yield Model(f"DTLN, stage {stage}", folder / "dtln" / f"model_{stage}.onnx", inputs, None)
    states = {"initial_h": normal(2, 1, 512), "initial_c": normal(2, 1, 512)}
    yield Model(
        "ddddocr's LSTM", folder / "ddddocr" / "ddddocr_lstm.onnx", {"X": normal(30, 1, 512)} | states, None
    )


def loaded(model: Model, scratch: Path) -> Path:
    if isinstance(model.file, Path):
        return model.file
    path = scratch / f"{model.name}.onnx"
    path.write_bytes(model.file)
    return path


def contestants(model: Model, path: Path, threads: int) -> dict[str, Callable[[], Any]]:
    """A call of the model in each framework, their outputs compared."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ours: Any = onward.load(path)
    expected = session.run(None, model.inputs)
    for _ in range(2):  # the call that plans, and one that runs the plan
        for mine, theirs in zip(ours(**model.inputs), expected, strict=True):
            scale = max(1.0, float(np.abs(theirs).max()))
            np.testing.assert_allclose(mine, theirs, atol=2e-5 * scale, rtol=0, err_msg=model.name)
    calls: dict[str, Callable[[], Any]] = {
        "onward": lambda: ours(**model.inputs),
        "onnxruntime": lambda: session.run(None, model.inputs),
    }
    if model.module is not None:
        module, tensors = model.module.eval(), [torch.from_numpy(x) for x in model.inputs.values()]

        def run() -> Any:
            with torch.inference_mode():
                return module(*tensors)

        calls["torch"] = run
    return calls


def medians(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The median time of each call in microseconds, the calls interleaved."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    start = time.perf_counter()
    while time.perf_counter() - start < SECONDS * len(calls) or len(times["onward"]) < 5:
        for name, call in calls.items():
            before = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - before)
    return {name: statistics.median(values) * 1e6 for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=Path, help="a folder of trained models")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.md")
    arguments = parser.parse_args()
    onward.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    rows = []
    print(f"{platform.processor() or platform.machine()}, {_core.isa()}, {arguments.threads} thread(s)")
    with tempfile.TemporaryDirectory() as scratch:
        models = [*(trained(arguments.cases) if arguments.cases else ()), *generated()]
        for model in models:
            if arguments.only not in model.name:
                continue
            took = medians(contestants(model, loaded(model, Path(scratch)), arguments.threads))
            best = min(value for name, value in took.items() if name != "onward")
            rows.append({"model": model.name, **took, "ratio": best / took["onward"]})
            line = ", ".join(f"{name} {value:,.1f}" for name, value in took.items())
            print(f"{model.name:24} {line}: {rows[-1]['ratio']:.2f} times as fast as the best", flush=True)
    mean = statistics.geometric_mean(row["ratio"] for row in rows)
    print(f"geometric mean {mean:.2f}, least {min(row['ratio'] for row in rows):.2f}")
    if arguments.out:
        head = {"isa": _core.isa(), "threads": arguments.threads, "onnxruntime": onnxruntime.__version__}
        data = {**head, "torch": torch.__version__, "geometric_mean": mean, "rows": rows}
        arguments.out.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
        arguments.out.with_suffix(".md").write_text(table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = ["| model | Onward, µs | onnxruntime | PyTorch | best peer / Onward |", "|---|---|---|---|---|"]
    for row in rows:
        torch_time = f"{row['torch']:,.0f}" if "torch" in row else ""
        lines.append(
            f"| {row['model']} | {row['onward']:,.0f} | {row['onnxruntime']:,.0f} | {torch_time} "
            f"| {row['ratio']:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
