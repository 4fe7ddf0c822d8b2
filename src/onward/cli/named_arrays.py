"""Arrays by name in .npz files, and models that take them in one call instead of sequences."""

import io
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..core import atomic
from ..errors import ArgumentError
from ..graph import Model
from ..layers.base import Layer
from ..tables import inference
from ..tables.data import AnyArray
from .common import Report, check_suffix, console, named_file, new_table

Arrays = dict[str, AnyArray]


def read_arrays(path: Path | str, argument: str = "INPUTS") -> Arrays | list[AnyArray]:
    """The arrays of an .npz file: by name, or in order if the names are NumPy's arr_0, arr_1, .."""
    file = named_file(str(path), {}, "file", argument)
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError) as error:
        raise ArgumentError(f"{path} is not a complete .npz file: {error}") from error
    return list(arrays.values()) if all(name.startswith("arr_") for name in arrays) else arrays


def takes_arrays(net: Layer, source: str) -> bool:
    """Whether INPUT has the inputs of one call by name, because the model does not run over sequences."""
    if not isinstance(net, Model) or Path(source).suffix.lower() != ".npz":
        return False
    try:
        inference.runnable(net)
    except ArgumentError:
        arrays = read_arrays(source, "INPUT")
        return len(net.inputs) > 1 or (isinstance(arrays, dict) and set(arrays) <= set(net.inputs))
    return False


def outputs_of(net: Any, arrays: Arrays | list[AnyArray]) -> Arrays:
    """The outputs of a whole model by name, for inputs in order or by name."""
    by_name = isinstance(arrays, dict)
    outputs = net._results(() if by_name else tuple(arrays), arrays if by_name else {})
    return dict(zip(net.outputs, outputs, strict=True))


def run_arrays(model: str, net: Layer, source: str, out: str | None, keeps_nan: bool) -> Report:
    """Run one call on the arrays of a file, write the outputs and summarize them."""
    if out is not None:
        check_suffix(Path(out), "--out", (".npz",))
    arrays = read_arrays(source, "INPUT")
    start = time.perf_counter()
    outputs = outputs_of(net, arrays)
    seconds = time.perf_counter() - start
    bad = [name for name, y in outputs.items() if y.dtype.kind == "f" and np.isnan(y).any()]
    if bad and not keeps_nan:
        raise ArgumentError(
            f"there are NaN in the outputs {', '.join(bad)}. Check the input for NaN, or write them anyway "
            "with --on-error keep"
        )
    if out is not None:
        content = io.BytesIO()
        np.savez_compressed(content, **outputs)  # type: ignore[arg-type]  # NumPy's stub takes the names for options
        atomic.replace(Path(out), content.getvalue())
    return {
        "model": model,
        "input": source,
        "inputs": {name: list(a.shape) for name, a in arrays.items()} if isinstance(arrays, dict) else None,
        "seconds": seconds,
        "outputs": [
            {"name": name, "shape": list(y.shape), "dtype": str(y.dtype), **_statistics(y)}
            for name, y in outputs.items()
        ],
        "out": out,
    }


def _statistics(y: AnyArray) -> Report:
    """The mean, minimum and maximum of the finite numbers of an output, None if there are none."""
    y = y[np.isfinite(y)] if y.dtype.kind in "fiub" else y[:0]
    if not y.size:
        return dict.fromkeys(("mean", "min", "max"))
    return {"mean": float(y.mean(dtype=np.float64)), "min": float(y.min()), "max": float(y.max())}


def show_arrays(report: Report) -> None:
    """Print the outputs of one call."""
    table = new_table(f"{report['model']} on {report['input']}", "output", "shape", "mean", "min", "max")
    for row in report["outputs"]:
        numbers = ["" if row[key] is None else f"{row[key]:.4g}" for key in ("mean", "min", "max")]
        table.add_row(row["name"], str(tuple(row["shape"])), *numbers)
    terminal = console()
    terminal.print(table)
    terminal.print(f"One call in {report['seconds'] * 1e3:,.1f} ms")
    if report["out"] is not None:
        terminal.print(f"Outputs written to {report['out']}")
