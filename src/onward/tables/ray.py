"""Ray Data: a model over the sequences of a Dataset, in actors that hold it, on any number of machines."""

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
from ..layers.base import Layer
from . import parquet
from .scorer import Scorer

IO_CPUS = 0.25  # of a processor, for a task that reads or writes: it mostly waits


class Actor:
    """Scores tables, on one thread."""

    def __init__(self, scorer: Scorer) -> None:
        threads.set_num_threads(1)
        self.scorer = scorer

    def __call__(self, table: pa.Table) -> pa.Table:
        return self.scorer(table)


def score(
    dataset: ray.data.Dataset,
    model: Layer | str | os.PathLike[str],
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
    """The dataset with one more column, `output`: what the model gives for the sequence in each row.

    model: one, or a file that `onward.load` opens. input, lengths, output, on_error and row are those of
    `onward.tables.Scorer`. ordered: rows stay in their order. actors: how many there are, each of which takes
    one processor and holds the model; without it, as many as Ray finds room for. batch_size: rows that an
    actor takes at once, and puts into batches of like length. The outputs are bitwise those of one process,
    whatever actors and batches there are; what a lost actor was at is done again.

    Leave room for the tasks that read and write: processors that actors hold all of do nothing else. Raises
    ArgumentError and FileError; Ray raises the errors of rows, as text, when the dataset is consumed.
    """
    if not isinstance(model, Layer):
        model = _loaded(model)
    return _mapped(dataset, Scorer(model, input, lengths, output, on_error, row), ordered, actors, batch_size)


def _mapped(
    dataset: ray.data.Dataset, scorer: Scorer, ordered: bool, actors: int | None, batch_size: int
) -> ray.data.Dataset:
    scored = dataset.map_batches(
        Actor,
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


def _loaded(path: str | os.PathLike[str]) -> Layer:
    model = load(path)
    if not isinstance(model, Layer):
        raise ArgumentError(f"{path} is no model of connected layers: put them into an onward.Sequential")
    return model


def run(source: str, out: str, scorer: Scorer, address: str | None = None) -> int:
    """Scores the Parquet of `source` into a new folder `out` of files, in the order of the rows.

    It runs on the cluster at `address`, or on one started here for it. Returns how many rows were bad. The
    folder appears when all of it is there. Raises FileError, and ArgumentError as the scorer, whose `row`
    must be parquet.NUMBER.
    """
    groups = parquet.row_groups(source)

    def read(pieces: dict[str, Any]) -> Iterator[pa.Table]:
        for number in pieces["group"]:
            yield from groups[number].tables()

    with parquet.appearing(out) as (filesystem, folder), _session(address):
        pieces = ray.data.from_items([{"group": number} for number in range(len(groups))])
        tables = pieces.map_batches(read, batch_size=1, num_cpus=IO_CPUS)
        scored = _mapped(tables, scorer, ordered=True, actors=None, batch_size=parquet.ROWS)
        scored.drop_columns([parquet.NUMBER], num_cpus=IO_CPUS).write_parquet(
            folder, filesystem=filesystem, ray_remote_args={"num_cpus": IO_CPUS}
        )
        written = pyarrow.dataset.dataset(folder, filesystem=filesystem)
        return int(written.count_rows(filter=~pyarrow.dataset.field(scorer.output).is_valid()))


@contextmanager
def _session(address: str | None) -> Iterator[None]:
    """Ray, if it does not run yet; the errors of its tasks as they were."""
    started = not ray.is_initialized()
    if started:
        # a processor more than there are: actors may hold all of those, while others read and write
        cpus = {} if address else {"num_cpus": (os.cpu_count() or 1) + 1}
        ray.init(address or "local", include_dashboard=False, log_to_driver=False, **cpus)
    try:
        yield
    except ray.exceptions.RayError as error:
        if (own := _own(error)) is None:
            raise
        raise own from error
    finally:
        if started:
            ray.shutdown()


def _own(error: ray.exceptions.RayError) -> OnwardError | None:
    """The error of Onward that a task ended in, if one did: Ray passes on its text alone."""
    for line in str(error).splitlines():
        name, _, message = line.strip().partition(": ")
        if name.startswith("onward.errors."):
            return OnwardError(message)
    return None
