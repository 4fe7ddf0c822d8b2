"""Parquet files, here or in an object store, a row group at a time; and a model over all their rows.

Needs pyarrow: pip install 'onward[parquet]'.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs, parquet

from ..core import storage
from ..errors import FileError
from .scorer import Scorer

ROWS = 1024  # in a table: enough that many are of like length, and little memory
NUMBER = "onward_row"  # a column that numbers the rows, from 0, until they are scored


@dataclass(frozen=True)
class RowGroup:
    """Rows of a Parquet file that can be read by themselves. `first`: the number of the first of them."""

    filesystem: fs.FileSystem
    path: str
    index: int
    first: int
    rows: int

    def tables(self) -> Iterator[pa.Table]:
        """The rows, ROWS at a time, numbered. Raises FileError."""
        first = self.first
        with _opened(self.filesystem, self.path) as file:
            for batch in file.iter_batches(ROWS, row_groups=[self.index]):
                numbers = pa.array(range(first, first + len(batch)), pa.int64())
                yield pa.Table.from_batches([batch]).append_column(NUMBER, numbers)
                first += len(batch)


def located(source: str) -> tuple[fs.FileSystem, str]:
    """Where a path or URI, as s3://bucket/key, leads. Raises FileError."""
    try:
        filesystem, path = fs.FileSystem.from_uri(source if "://" in source else os.path.abspath(source))
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"{source} cannot be reached: {error}") from error
    return filesystem, path


def row_groups(source: str) -> list[RowGroup]:
    """Those of a Parquet file, or of all in a folder in the order of their names. Raises FileError."""
    filesystem, path = located(source)
    groups: list[RowGroup] = []
    first = 0
    for file in _files(filesystem, path):
        with _opened(filesystem, file) as opened:
            for index in range(opened.metadata.num_row_groups):
                rows = opened.metadata.row_group(index).num_rows
                groups.append(RowGroup(filesystem, file, index, first, rows))
                first += rows
    if first == 0:
        raise FileError(f"{source} has no rows: expected a Parquet file, or a folder of them")
    return groups


def _files(filesystem: fs.FileSystem, path: str) -> list[str]:
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise FileError(f"{path} does not exist")
    if info.type == fs.FileType.File:
        return [path]
    inside = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    return sorted(info.path for info in inside if info.is_file and info.extension == "parquet")


@contextmanager
def _opened(filesystem: fs.FileSystem, path: str) -> Iterator[parquet.ParquetFile]:
    try:
        with parquet.ParquetFile(path, filesystem=filesystem) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise FileError(f"{path} cannot be read as Parquet: {error}") from error


def score(source: str, out: Path, scorer: Scorer, advance: Callable[[int], None]) -> int:
    """Scores all rows into one new file, in a process and a memory that holds ROWS of them.

    `advance` is told how many rows are done. Returns how many were bad. Whatever goes wrong, a file that was
    at `out` stays whole. Raises FileError, and ArgumentError as the scorer, whose `row` must be NUMBER.
    """
    bad = 0
    groups = row_groups(source)
    with storage.replacing(out) as temporary:
        writer = None
        try:
            for group in groups:
                for table in group.tables():
                    scored = scorer(table).drop_columns([NUMBER])
                    writer = writer or parquet.ParquetWriter(temporary, scored.schema)
                    writer.write_table(scored)
                    bad += scored[scorer.output].null_count
                    advance(len(table))
        finally:
            if writer is not None:
                writer.close()
    return bad


@contextmanager
def appearing(out: str) -> Iterator[tuple[fs.FileSystem, str]]:
    """A new folder to write into, which stands at `out` once all of it is there.

    In an object store, which has no folders, its files move there at the end, one after the other. Raises
    FileError, also where there is something at `out`.
    """
    filesystem, target = located(out)
    if filesystem.get_file_info(target).type != fs.FileType.NotFound:
        raise FileError(f"{out} is there already: name another folder, or remove it")
    parent, _, name = target.rpartition("/")
    temporary = f"{parent}/.{name}.{os.urandom(4).hex()}"
    filesystem.create_dir(temporary)
    try:
        yield filesystem, temporary
        if isinstance(filesystem, fs.LocalFileSystem):
            filesystem.move(temporary, target)
        else:
            filesystem.create_dir(target)
            for file in _files(filesystem, temporary):
                filesystem.move(file, f"{target}/{file.rpartition('/')[2]}")
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{out} cannot be written: {error}") from error
    finally:
        if filesystem.get_file_info(temporary).type != fs.FileType.NotFound:
            filesystem.delete_dir(temporary)
