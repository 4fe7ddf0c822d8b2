"""Read Parquet files by row group, score them, and write the result completely or not at all.

The files may be local or in an object store.

Needs pyarrow: pip install 'onward[parquet]'.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pyarrow as pa
from pyarrow import fs, parquet

from ..core import atomic
from ..errors import ArgumentError, FileError
from .inference import in_order
from .scorer import Scorer

ROWS = 1024  # per table: many rows of similar length, yet little memory
ROW_NUMBER = "onward_row"  # a temporary column with the number of each row in the file


@dataclass(frozen=True)
class RowGroup:
    """A row group of a Parquet file; `first` is the number of its first row."""

    filesystem: fs.FileSystem
    path: str
    index: int
    first: int
    rows: int
    schema: pa.Schema

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the given columns, or all, with row numbers, in tables of ROWS rows. Raises FileError."""
        first = self.first
        with _open(self.filesystem, self.path) as file:
            for batch in file.iter_batches(ROWS, row_groups=[self.index], columns=columns):
                numbers = pa.array(range(first, first + len(batch)), pa.int64())
                yield pa.Table.from_batches([batch]).append_column(ROW_NUMBER, numbers)
                first += len(batch)


def locate(source: str) -> tuple[fs.FileSystem, str]:
    """The file system and path of a local path or a URI such as s3://bucket/key. Raises FileError."""
    try:
        filesystem, path = fs.FileSystem.from_uri(source if "://" in source else os.path.abspath(source))
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"{source} cannot be reached: {error}") from error
    return filesystem, path


def row_groups(source: str) -> list[RowGroup]:
    """The row groups of a Parquet file, or of all files in a folder, sorted by name. Raises FileError."""
    filesystem, path = locate(source)
    groups: list[RowGroup] = []
    first = 0
    for file in _files(filesystem, path):
        with _open(filesystem, file) as opened:
            for index in range(opened.metadata.num_row_groups):
                rows = opened.metadata.row_group(index).num_rows
                groups.append(RowGroup(filesystem, file, index, first, rows, opened.schema_arrow))
                first += rows
    if first == 0:
        raise FileError(f"{source} has no rows: expected a Parquet file, or a folder of them")
    return groups


def prepare(
    source: str, scorer: Scorer, columns: Sequence[str] | None, keys: Sequence[str]
) -> tuple[list[RowGroup], list[str], list[str]]:
    """The row groups of `source`, the input columns to keep beside the outputs, and those to read.

    columns: the names of those to keep, or ["*"] for all; None for `keys` and the index columns that pandas
    recorded. Raises FileError, also for files of a folder with other columns, and ArgumentError, which lists
    the columns, for a column that does not exist.
    """
    groups = row_groups(source)
    schema = groups[0].schema
    if columns is None:
        index = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
        columns = [*keys, *(name for name in index if isinstance(name, str) and name not in keys)]
    elif list(columns) == ["*"]:
        columns = schema.names
    for name in columns:
        if name not in schema.names:
            raise ArgumentError(
                f"there is no column {name!r} to keep; the columns are {', '.join(schema.names)}: choose "
                "with --columns"
            )
    scorer.check_columns([*schema.names, ROW_NUMBER])
    needed = {*columns, *scorer.columns}
    for name in schema.names:
        if name in needed and schema.names.count(name) > 1:
            raise FileError(f"{source} has several columns {name!r}: rename all but one")
    _check_schemas(groups, columns, needed)
    return groups, list(dict.fromkeys(columns)), [name for name in schema.names if name in needed]


def _check_schemas(groups: Sequence[RowGroup], kept: Sequence[str], needed: Set[str]) -> None:
    """Raise FileError for a file that lacks a column of the first file, or keeps one of another type."""
    first = groups[0]
    for group in groups:
        for name in needed & set(first.schema.names):
            if group.schema.names.count(name) != 1:
                raise FileError(f"{group.path} has no column {name!r}, but {first.path} has one")
            types = [each.schema.field(name).type for each in (group, first)]
            if name in kept and types[0] != types[1]:
                raise FileError(
                    f"column {name!r} has type {types[0]} in {group.path}, but {types[1]} in {first.path}: "
                    "convert it, or omit it from --columns"
                )


def _files(filesystem: fs.FileSystem, path: str) -> list[str]:
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise FileError(f"{path} does not exist")
    if info.type == fs.FileType.File:
        return [path]
    files = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    return sorted(info.path for info in files if info.is_file and info.extension == "parquet")


@contextmanager
def _open(filesystem: fs.FileSystem, path: str) -> Iterator[parquet.ParquetFile]:
    try:
        with parquet.ParquetFile(path, filesystem=filesystem) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"{path} cannot be read as Parquet: {error}") from error


def score(
    source: str,
    out: Path,
    scorer: Scorer,
    advance: Callable[[int], None],
    *,
    columns: Sequence[str] | None = None,
    keys: Sequence[str] = (),
    workers: int = 1,
) -> int:
    """Score all rows into one new file, on `workers` threads that each hold about ROWS rows in memory.

    columns, keys: as in `prepare`. advance: called with the number of rows finished since the last call.
    The file is the same for any number of workers. Returns the number of bad rows. After an error, an
    existing file at `out` is unchanged. Raises FileError, and ArgumentError like the scorer, whose `row` must
    be ROW_NUMBER.
    """
    groups, kept, read = prepare(source, scorer, columns, keys)
    bad, cancelled = 0, Event()
    tables = (table for group in groups for table in group.tables(read))
    scored_tables = in_order(
        lambda table: score_table(scorer, table, kept, cancelled), tables, workers, cancelled
    )
    with atomic.replacing(out) as temporary, closing(scored_tables), ExitStack() as stack:
        writer = None
        for scored in scored_tables:
            writer = writer or stack.enter_context(parquet.ParquetWriter(temporary, scored.schema))
            writer.write_table(scored)
            bad += scored[scorer.output].null_count
            advance(len(scored))
    return bad


def score_table(
    scorer: Scorer, table: pa.Table, kept: Sequence[str], cancelled: Event | None = None
) -> pa.Table:
    """The output table: the columns to keep and those that the scorer adds."""
    scored = scorer(table, cancelled)
    added = [name for name in scored.column_names if name not in table.column_names]
    return scored.select([*kept, *added])


@contextmanager
def new_folder(out: str) -> Iterator[tuple[fs.FileSystem, str]]:
    """Yield a temporary folder that moves to `out`, which must be new, after success. Raises FileError."""
    filesystem, target = locate(out)
    if filesystem.get_file_info(target).type != fs.FileType.NotFound:
        raise FileError(f"{out} already exists: choose another folder, or remove it")
    parent, _, name = target.rpartition("/")
    is_local = isinstance(filesystem, fs.LocalFileSystem)
    try:
        with ExitStack() as stack:
            if is_local:
                filesystem.create_dir(parent)
                temporary = stack.enter_context(atomic.temporary_path(Path(target))).as_posix()
            else:
                temporary = f"{parent}/.{name}.{os.urandom(4).hex()}"
                stack.callback(_remove_folder, filesystem, temporary)
            filesystem.create_dir(temporary)
            yield filesystem, temporary
            if is_local:
                filesystem.move(temporary, target)
            else:  # object stores have no folders
                filesystem.create_dir(target)
                for file in _files(filesystem, temporary):
                    filesystem.move(file, f"{target}/{file.rpartition('/')[2]}")
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{out} cannot be written: {error}") from error


def _remove_folder(filesystem: fs.FileSystem, path: str) -> None:
    if filesystem.get_file_info(path).type != fs.FileType.NotFound:
        filesystem.delete_dir(path)
