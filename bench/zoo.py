"""Time models with the recurrences and front ends of our time in Onward, onnxruntime and PyTorch.

    python bench/zoo.py                         # those of zoo_models.py
    python bench/zoo.py --cases DIR             # also GTCRN, from a folder of published models

The models have random weights. Each one runs from its .pt2 file, its traced TorchScript file and its ONNX
file. The outputs are compared with those of PyTorch before timing, the calls are interleaved in one process
on one thread, and the medians of processor time are reported. So are those from opening the file to the first
answer, also in onnxruntime for ONNX files and in PyTorch for its own. What onnxruntime refuses to open,
modules that PyTorch does not trace, and models of packages that are not installed, are skipped by name. Needs
onward[bench], and for all models torchaudio, transformers, speechbrain, demucs, encodec, ncps and
minGRU_pytorch.
"""

import gc
import math
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import recurrences
import report
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph
from zoo_models import Model, of_packages, written_here

import onward

TOLERANCE = 2e-4  # relative to the largest output
OPENINGS = 5  # of each file, of which the first answers are measured
CLOCK = time.process_time  # one thread works, and time that other programs take does not count


def gtcrn(cases: Path) -> Iterator[Model]:
    path, arrays = cases / "gtcrn" / "gtcrn_simple.onnx", np.load(cases / "gtcrn" / "cases.npz")
    names = [declared.name for declared in onnxruntime.InferenceSession(path).get_inputs()]
    yield Model(
        "GTCRN, one frame", None, tuple(torch.from_numpy(arrays[f"in.{name}"][3]) for name in names), path
    )


def forms(model: Model, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the kind and the path of each file of a model."""
    if model.module is None:
        assert model.path is not None
        yield "onnx", model.path
        return
    program = torch.export.export(model.module, model.inputs)
    torch.export.save(program, folder / "model.pt2")
    yield "pt2", folder / "model.pt2"
    try:
        torch.jit.save(torch.jit.trace(model.module, model.inputs, check_trace=False), folder / "model.pt")
    except RuntimeError as error:
        print(f"skipped: PyTorch does not trace {model.name}: {str(error).strip().splitlines()[0]}")
    else:
        yield "TorchScript", folder / "model.pt"
    torch.onnx.export(program, (), folder / "model.onnx", external_data=False, verbose=False)
    yield "onnx", folder / "model.onnx"


def as_list(outputs: Any) -> list[Any]:
    return [np.asarray(y) for y in (outputs if isinstance(outputs, tuple | list) else [outputs])]


def check(name: str, outputs: Any, expected: Any) -> None:
    outputs, expected = as_list(outputs), as_list(expected)
    for y, right in zip(outputs[: len(expected)], expected, strict=True):  # states that a call changes follow
        error = np.abs(y - right).max() / max(1e-9, np.abs(right).max())
        if not error < TOLERANCE:
            raise SystemExit(f"{name}: the outputs differ by {error:.1e}")


def medians(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Return the median of each call in milliseconds; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(), call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < 5:
        for name, call in calls.items():
            start = CLOCK()
            call()
            times[name].append(CLOCK() - start)
    return {name: 1e3 * statistics.median(found) for name, found in times.items()}


def openers(kind: str, path: Path, arrays: list[Any]) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Return what opens a file in each framework that reads it; this returns a call of the model."""

    def in_onward() -> Callable[[], Any]:
        model = onward.load(path)
        return lambda: model(*arrays)

    def in_onnxruntime() -> Callable[[], Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options)
        feed = dict(zip((each.name for each in session.get_inputs()), arrays, strict=True))
        return lambda: session.run(None, feed)

    def in_torch() -> Callable[[], Any]:
        module = torch.jit.load(path) if kind == "TorchScript" else torch.export.load(path).module()
        inputs = list(map(torch.from_numpy, arrays))
        return lambda: module(*inputs)

    return {
        "onward": in_onward,
        **({"onnxruntime": in_onnxruntime} if kind == "onnx" else {"torch": in_torch}),
    }


def first_answers(
    opening: dict[str, Callable[[], Callable[[], Any]]], count: int
) -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
    """Return the calls, and the median milliseconds from opening a file to the first answer."""
    calls, times = dict[str, Callable[[], Any]](), defaultdict[str, list[float]](list)
    for _ in range(count):
        for name, opens in opening.items():
            calls.pop(name, None)  # the time of deleting it does not count
            gc.collect()
            gc.freeze()  # collections during the first answer do not walk through what others have allocated
            start = CLOCK()
            calls[name] = opens()
            calls[name]()
            times[name].append(1e3 * (CLOCK() - start))
            gc.unfreeze()
    return calls, {name: statistics.median(found) for name, found in times.items()}


def measured(model: Model, folder: Path, quick: bool) -> Iterator[dict[str, Any]]:
    arrays = [x.numpy() for x in model.inputs]
    for kind, path in forms(model, folder):
        opening = openers(kind, path, arrays)
        try:
            calls, first = first_answers(opening, 1 if quick else OPENINGS)
        except InvalidGraph as error:
            print(f"skipped: onnxruntime does not open {model.name}: {error}")
            calls, first = first_answers({"onward": opening["onward"]}, 1 if quick else OPENINGS)
        if model.module is not None:
            calls["torch"] = lambda: model.module(*model.inputs)
        outputs = calls["onward"]()
        for name in calls.keys() - {"onward"}:
            check(f"{model.name} ({kind}), {name}", outputs, calls[name]())
        found = medians(calls, 0.05 if quick else 0.5)
        fastest = min(number for name, number in found.items() if name != "onward")
        firsts = {f"{name}_first": number for name, number in first.items()}
        yield {"model": model.name, "file": kind, **found, **firsts, "ratio": fastest / found["onward"]}


def models(cases: Path | None, folder: Path) -> Iterator[Model]:
    """Yield all models that can run here, and print the names of packages that are missing."""
    yield from written_here()
    for name, path, arrays in recurrences.models(folder):
        yield Model(name, None, tuple(map(torch.from_numpy, arrays)), path)
    if cases:
        yield from gtcrn(cases)
    yield from of_packages()


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--cases", type=Path, metavar="DIR", help="a folder of published models")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    onward.set_num_threads(1)
    warnings.filterwarnings("ignore")
    measurements, ratios = report.Report(options, ["onnxruntime", "torch"]), []
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for model in models(options.cases, Path(folder)):
            module = model.module.eval() if model.module is not None else None
            for row in measured(model._replace(module=module), Path(folder), options.quick):
                measurements.add("milliseconds", **row)
                ratios.append(row["ratio"])
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    measurements.add("ratios", files=len(ratios), geometric_mean=mean, least=min(ratios))


if __name__ == "__main__":
    main()
