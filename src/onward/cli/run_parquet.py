"""`onward run` on Parquet: add the outputs as a column, in one process or with Ray."""

import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ..core.extras import install_hint
from ..errors import ArgumentError
from .common import Report, check_suffix, counted, layer_of, progress
from .input_options import refuse_to_overwrite


def is_parquet(source: str) -> bool:
    """Whether INPUT is a Parquet file or a folder of them, local or at a URI."""
    return source.endswith(".parquet") or "://" in source or any(Path(source).glob("**/*.parquet"))


def run_parquet(
    model: str,
    path: Path,
    source: str,
    out: str | None,
    engine: str | None,
    address: str | None,
    *,
    inputs: tuple[str, ...],
    keys: tuple[str, ...],
    columns: tuple[str, ...] | None,
    workers: int | None,
    **options: Any,
) -> Report:
    """Read Parquet and write Parquet with an added column; `options` are arguments of tables.Scorer."""
    if out is None:
        raise click.UsageError("--out is missing: pass the file to write the outputs to")
    if engine is None:
        check_suffix(Path(out), "--out", (".parquet",))
    refuse_to_overwrite(source, out)
    try:
        from ..tables import parquet
        from ..tables.scorer import Scorer
    except ModuleNotFoundError as error:
        raise ArgumentError(f"Parquet needs {error.name}: {install_hint('parquet')}") from error
    net = layer_of(path, model)
    input_ = list(inputs) if len(inputs) > 1 else (*inputs, "x")[0]
    scorer = Scorer(net, input_, row=parquet.ROW_NUMBER, **options)
    rows = sum(group.rows for group in parquet.row_groups(source))
    start = time.perf_counter()
    if engine is None:
        with progress("Running", rows) as advance:
            bad = parquet.score(
                source, Path(out), scorer, advance, columns=columns, keys=keys, workers=workers or 1
            )
    else:
        from ..tables import ray  # does not start Ray yet

        bad = ray.run(source, out, scorer, address, columns=columns, keys=keys, actors=workers)
    seconds = time.perf_counter() - start
    return {
        "model": model, "input": source, "sequences": rows, "bad": bad, "seconds": seconds,
        "sequences_per_second": rows / seconds, "out": out,
    }  # fmt: skip


def show_parquet(report: Report) -> None:
    console = Console(highlight=False, markup=False)
    console.print(
        f"{counted(report['sequences'], 'sequence')} in {report['seconds']:,.2f} s: "
        f"{report['sequences_per_second']:,.0f} sequences per second"
    )
    if report["bad"]:
        console.print(f"{counted(report['bad'], 'row')} set aside, with the reason.", style="yellow")
    console.print(f"Written to {report['out']}")
