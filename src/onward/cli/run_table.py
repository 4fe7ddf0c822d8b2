"""`onward run` over Parquet: one process or Ray, the outputs a column more."""

import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from .. import bundled
from ..core.extras import install_hint
from ..errors import ArgumentError
from .common import Report, check_suffix, counted, model_of, named_file, progress


def is_parquet(source: str) -> bool:
    """Whether INPUT is a Parquet file or a folder of them, here or at a URI."""
    return source.endswith(".parquet") or "://" in source or any(Path(source).glob("**/*.parquet"))


def run_table(
    model: str, source: str, out: str | None, engine: str | None, address: str | None, **columns: Any
) -> Report:
    """Scores Parquet into Parquet; `columns` are the arguments of tables.Scorer."""
    if out is None:
        raise click.UsageError("--out is missing: where the rows are to be written, with the outputs")
    if engine is None:
        check_suffix(Path(out), "--out", (".parquet",))
    try:
        from ..tables import parquet
        from ..tables.scorer import Scorer
    except ModuleNotFoundError as error:
        raise ArgumentError(f"Parquet needs {error.name}: {install_hint('parquet')}") from error
    net = model_of(named_file(model, bundled.models(), "model", "MODEL"), model)
    scorer = Scorer(net, row=parquet.NUMBER, **columns)
    rows = sum(group.rows for group in parquet.row_groups(source))
    start = time.perf_counter()
    if engine is None:
        with progress("Running", rows) as advance:
            bad = parquet.score(source, Path(out), scorer, advance)
    else:
        from ..tables import ray  # starts no Ray yet

        bad = ray.run(source, out, scorer, address)
    seconds = time.perf_counter() - start
    return {
        "model": model, "input": source, "sequences": rows, "bad": bad, "seconds": seconds,
        "sequences_per_second": rows / seconds, "out": out,
    }  # fmt: skip


def show_table_run(report: Report) -> None:
    console = Console(highlight=False, markup=False)
    console.print(
        f"{counted(report['sequences'], 'sequence')} in {report['seconds']:,.2f} s: "
        f"{report['sequences_per_second']:,.0f} sequences per second"
    )
    if report["bad"]:
        console.print(f"{counted(report['bad'], 'row')} set aside, with an error each.", style="yellow")
    console.print(f"Written to {report['out']}")
