"""Run a model on the sequences of a Ray Dataset, in actors on any number of machines."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

try:
    import pyarrow as pa
    import pyarrow.dataset
    import ray
    import ray.data
except ModuleNotFoundError as error:
    from ..core.extras import install_hint
    from ..errors import ArgumentError

    raise ArgumentError(f"onward.ray needs {error.name}: {install_hint('ray')}") from error

from ..core import threads
from ..errors import ArgumentError, OnwardError
from ..formats import load
from ..layers.base_model import BaseModel
from . import parquet
from .inference import runnable
from .scorer import Scorer

IO_CPUS = 0.25  # processors reserved for a task that reads or writes, which mostly waits


class TableActor:
    """Scores tables on a single thread."""

    def __init__(self, scorer: Scorer) -> None:
        threads.set_num_threads(1)
        self.scorer = scorer

    def __call__(self, table: pa.Table) -> pa.Table:
        return self.scorer(table)


class RowGroupActor(TableActor):
    """Reads and scores Parquet row groups, so that sequences do not pass through Ray's object store."""

    def __init__(
        self, scorer: Scorer, groups: list[parquet.RowGroup], kept: list[str], read: list[str]
    ) -> None:
        super().__init__(scorer)
        self.groups, self.kept, self.read = groups, kept, read

    def __call__(self, rows: Any) -> Iterator[pa.Table]:
        for number in rows["group"]:
            for table in self.groups[number].tables(self.read):
                yield parquet.score_table(self.scorer, table, self.kept)


def score(
    dataset: ray.data.Dataset,
    model: BaseModel | str | os.PathLike[str],
    input: str | Sequence[str] = "x",
    lengths: str | None = None,
    output: str = "y",
    *,
    on_error: Literal["fail", "keep"] = "fail",
    row: str | None = None,
    ordered: bool = False,
    actors: int | None = None,
    batch_size: int = parquet.ROWS,
) -> ray.data.Dataset:
    """Return the dataset with an added column: the model's output for the sequence in each row.

    model: a model, or a file that `onward.load` opens. input, lengths, output, on_error and row: as in
    `onward.tables.Scorer`. ordered: keep the order of the rows. actors: the number of actors, each of which
    uses one processor and holds the model; None for as many as fit. batch_size: the number of rows that an
    actor takes at once and sorts into batches of similar length. The outputs have the same bits for any
    number of actors and any batch size; if an actor is lost, its work is repeated.

    Leave processors free for the tasks that read and write. `score_parquet` is faster for Parquet files: its
    actors read the files themselves. Raises ArgumentError and FileError; Ray raises the errors of bad rows,
    as text, when the dataset is consumed.
    """
    loaded = model if isinstance(model, BaseModel) else load(model)
    if not isinstance(loaded, BaseModel):
        raise ArgumentError(
            f"{model} holds layers, not a connected model: put them into an onward.Sequential"
        )
    scorer = Scorer(runnable(loaded), input, lengths, output, on_error, row)
    scored = dataset.map_batches(
        TableActor,
        fn_constructor_args=(scorer,),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=1,
        udf_modifying_row_count=False,
    )
    if ordered:
        scored.context.execution_options.preserve_order = True
    return scored


def score_parquet(
    source: str,
    scorer: Scorer,
    *,
    columns: Sequence[str] | None = None,
    keys: Sequence[str] = (),
    actors: int | None = None,
) -> ray.data.Dataset:
    """Return the outputs for all Parquet rows, in order, beside the kept columns (`parquet.prepare`).

    Each actor reads row groups, scores them and returns only the outputs. The scorer's `row` must be
    parquet.ROW_NUMBER. Raises ArgumentError and FileError.
    """
    groups, kept, read = parquet.prepare(source, scorer, columns, keys)
    numbers = ray.data.from_items(
        [{"group": number} for number in range(len(groups))], override_num_blocks=len(groups)
    )
    scored = numbers.map_batches(
        RowGroupActor,
        fn_constructor_args=(scorer, groups, kept, read),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=1,
    )
    scored.context.execution_options.preserve_order = True
    return scored


def run(
    source: str,
    out: str,
    scorer: Scorer,
    address: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    keys: Sequence[str] = (),
    actors: int | None = None,
) -> int:
    """Score the Parquet files at `source` into a new folder `out`, in row order.

    Runs on the cluster at `address`, or on a new local one. The arguments are those of `score_parquet`.
    Returns the number of bad rows. The folder appears once it is complete. Raises FileError and
    ArgumentError.
    """
    with parquet.new_folder(out) as (filesystem, folder), _session(address):
        scored = score_parquet(source, scorer, columns=columns, keys=keys, actors=actors)
        scored.write_parquet(folder, filesystem=filesystem, ray_remote_args={"num_cpus": IO_CPUS})
        written = pyarrow.dataset.dataset(folder, filesystem=filesystem)
        return int(written.count_rows(filter=~pyarrow.dataset.field(scorer.output).is_valid()))


@contextmanager
def _session(address: str | None) -> Iterator[None]:
    """Start Ray unless it is running, and re-raise the original errors of its tasks."""
    started = not ray.is_initialized()
    if started:
        # one extra processor: actors may occupy all the others while tasks write
        cpus = {} if address else {"num_cpus": (os.cpu_count() or 1) + 1}
        ray.init(address or "local", include_dashboard=False, log_to_driver=False, **cpus)
    try:
        yield
    except ray.exceptions.RayError as error:
        if (original := _original_error(error)) is None:
            raise
        raise original from error
    finally:
        if started:
            ray.shutdown()


def _original_error(error: ray.exceptions.RayError) -> OnwardError | None:
    """The Onward error that ended a task, if any, rebuilt from its text, all that Ray passes on."""
    for line in str(error).splitlines():
        name, _, message = line.strip().partition(": ")
        if name.startswith("onward.errors."):
            return OnwardError(message)
    return None
