"""Parquet in one process: all rows in order, written whole or not at all, in little memory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyarrow import fs
from pyarrow import parquet as pq

import onward
from onward.cli import main
from onward.errors import ArgumentError, FileError
from onward.tables import parquet
from onward.tables.scorer import Scorer

NET = onward.Sequential(onward.LSTM(3, 7, rng=0), onward.Last(), onward.Linear(7, 2, rng=1))
STEPS = pa.list_(pa.list_(pa.float32()))


def table(rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    x = [rng.standard_normal((T, 3)).astype(np.float32).tolist() for T in rng.integers(1, 12, rows)]
    return pa.table({"id": [f"{seed}-{row}" for row in range(rows)], "x": pa.array(x, STEPS)})


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, pa.Table]:
    """A folder of two files with several row groups each, and all of their rows."""
    folder = tmp_path / "in"
    folder.mkdir()
    tables = [table(2500, seed=1), table(1100, seed=2)]
    for name, part in zip("ab", tables, strict=True):
        pq.write_table(part, folder / f"{name}.parquet", row_group_size=700)
    return folder, pa.concat_tables(tables)


def run_command(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    NET.save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ([], ["y"]),
        (["--columns", "*"], ["id", "x", "y"]),
        (["--columns", "x"], ["x", "y"]),
        (["--group", "id", "--workers", "3"], ["id", "y"]),
    ],
)
def test_all_rows_are_scored_in_order_and_keep_the_selected_columns(
    files: tuple[Path, pa.Table], model: Path, tmp_path: Path, options: list[str], columns: list[str]
) -> None:
    folder, rows = files
    result = run_command("run", model, folder, "--out", tmp_path / "out.parquet", "--json", *options)
    assert result.exit_code == 0, result.output
    reported = json.loads(result.stdout)
    assert (reported["sequences"], reported["bad"]) == (3600, 0)
    scored = pq.read_table(tmp_path / "out.parquet")
    assert scored == Scorer(NET)(rows).select(columns).cast(scored.schema)
    printed = run_command("run", model, folder, "--out", tmp_path / "out.parquet").output
    assert "3,600 sequences in " in printed and "Written to" in printed


def test_the_pandas_index_is_kept(model: Path, tmp_path: Path) -> None:
    rows = table(30)
    metadata = {"pandas": json.dumps({"index_columns": ["id"]})}
    pq.write_table(rows.replace_schema_metadata(metadata), tmp_path / "in.parquet")
    result = run_command("run", model, tmp_path / "in.parquet", "--out", tmp_path / "out.parquet")
    assert result.exit_code == 0, result.output
    assert pq.read_table(tmp_path / "out.parquet").column_names == ["id", "y"]


def test_the_file_is_the_same_for_any_number_of_workers(
    files: tuple[Path, pa.Table], model: Path, tmp_path: Path
) -> None:
    for workers in ("1", "2", "5"):
        run_command("run", model, files[0], "--workers", workers, "--out", tmp_path / f"{workers}.parquet")
    one, two, five = ((tmp_path / f"{workers}.parquet").read_bytes() for workers in (1, 2, 5))
    assert one == two == five


def test_an_interrupt_leaves_the_existing_file_unchanged(
    files: tuple[Path, pa.Table], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parquet, "score_table", interrupt)
    out = tmp_path / "out.parquet"
    out.write_bytes(b"old")
    for workers in ("1", "2"):
        result = run_command("run", model, files[0], "--workers", workers, "--out", out)
        assert result.exit_code == 130 and "Interrupted: nothing was written." in result.stderr
    assert out.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "net.safetensors", "out.parquet"}


def test_row_numbers_continue_through_all_files(files: tuple[Path, pa.Table]) -> None:
    groups = parquet.row_groups(str(files[0]))
    assert [group.rows for group in groups] == [700, 700, 700, 400, 700, 400]
    numbers = [n for group in groups for part in group.tables() for n in part[parquet.ROW_NUMBER].to_pylist()]
    assert numbers == list(range(3600))


def test_a_bad_row_stops_the_run_or_is_set_aside(model: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    rows = table(1500)
    x = rows["x"].to_pylist()
    x[1234] = [[1.0, 2.0]]
    pq.write_table(rows.set_column(1, "x", pa.array(x, STEPS)), source, row_group_size=500)
    out.write_bytes(b"old")
    failed = run_command("run", model, source, "--out", out)
    assert failed.exit_code == 1 and "--on-error keep" in failed.output
    assert "row 1234, column 'x': a step that is not a list of 3 numbers" in failed.output
    assert out.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"in.parquet", "out.parquet", "net.safetensors"}
    kept = run_command("run", model, source, "--out", out, "--on-error", "keep", "--output", "score")
    assert kept.exit_code == 0 and "1 row set aside" in kept.output
    why = pq.read_table(out)["score_error"].to_pylist()
    assert [row for row, reason in enumerate(why) if reason] == [1234]


def test_a_file_larger_than_memory_is_scored_in_pieces(tmp_path: Path) -> None:
    source, out, rows, steps = tmp_path / "in.parquet", tmp_path / "out.parquet", 10_240, 100
    x = np.random.default_rng(0).standard_normal(rows * steps * 3).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(x, 3), steps)
    pq.write_table(pa.table({"x": column}), source, row_group_size=1024, compression="none")
    before, held, done = pa.total_allocated_bytes(), [], []

    def advance(n: int) -> None:
        done.append(n)
        held.append(pa.total_allocated_bytes() - before)

    parquet.score(str(source), out, Scorer(NET, row=parquet.ROW_NUMBER), advance)
    assert sum(done) == rows == pq.read_metadata(out).num_rows
    assert max(held) < 1.1 * min(held) < source.stat().st_size / 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"PAR1 but nothing else PAR1", "cannot be read as Parquet"),
        (pa.table({"x": pa.array([], STEPS)}), "has no rows"),
        (pa.table([pa.array([], STEPS)] * 2, names=["x", "x"]), "has no rows"),
        (pa.table([pa.array([[[0.0] * 3]], STEPS)] * 2, names=["x", "x"]), "has several columns 'x'"),
    ],
)
def test_sources_that_are_not_parquet_are_errors(
    content: Any, words: str, model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.parquet"
    if isinstance(content, pa.Table):
        pq.write_table(content, source)
    elif content is not None:
        source.write_bytes(content)
    result = run_command("run", model, source, "--out", tmp_path / "out.parquet")
    assert result.exit_code == 1 and words in result.output and source.name in result.output


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (table(2).drop_columns("id"), "b.parquet has no column 'id', but"),
        (table(2).drop_columns("x"), "b.parquet has no column 'x', but"),
        (table(2).set_column(0, "id", pa.array([1, 2])), "column 'id' has type int64 in"),
    ],
)
def test_files_of_a_folder_with_other_columns_are_named(
    other: pa.Table, words: str, model: Path, tmp_path: Path
) -> None:
    """They ended in a traceback, after other files had been scored."""
    (tmp_path / "in").mkdir()
    for name, part in (("a", table(3)), ("b", other)):
        pq.write_table(part, tmp_path / "in" / f"{name}.parquet")
    arguments = "run", model, tmp_path / "in", "--out", tmp_path / "out.parquet"
    result = run_command(*arguments, "--columns", "id")
    assert result.exit_code == 1 and words in result.output, result.output
    assert run_command(*arguments).exit_code == ("'x'" in words)  # without the column, the folder is scored


def test_a_column_named_twice_is_kept_once(files: tuple[Path, pa.Table], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert run_command("run", model, files[0], "--out", out, "--columns", "id,id").exit_code == 0
    assert pq.read_table(out).column_names == ["id", "y"]


def test_wrong_usage_is_explained(files: tuple[Path, pa.Table], model: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ([], "--out is missing"),
        (["--out", tmp_path / "y.csv"], ".parquet"),
        (["--out", tmp_path / "y.parquet", "--columns", "z"], "no column 'z' to keep; the columns are id, x"),
        (["--out", files[0] / "y.parquet"], "would overwrite INPUT"),
        (["--out", tmp_path / "y.parquet", "--input", "z"], "there is no column 'z'; the columns are id, x"),
    ):
        result = run_command("run", model, files[0], *arguments)
        assert result.exit_code > 0 and words in result.output
    with pytest.raises(FileError, match="nowhere://x cannot be reached"):
        parquet.locate("nowhere://x")


@pytest.mark.parametrize("store", [False, True])
def test_a_folder_appears_complete_or_not_at_all(
    store: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = fs.LocalFileSystem()
    if store:  # a file system that cannot move folders
        monkeypatch.setattr(parquet, "locate", lambda path: (fs.SubTreeFileSystem("/", local), path[1:]))
    out = str(tmp_path / "out")
    with pytest.raises(ArgumentError), parquet.new_folder(out) as (filesystem, folder):
        pq.write_table(table(5), f"{folder}/a.parquet", filesystem=filesystem)
        raise ArgumentError("while writing")
    assert not list(tmp_path.iterdir())
    with parquet.new_folder(out) as (filesystem, folder):
        pq.write_table(table(5), f"{folder}/a.parquet", filesystem=filesystem)
        assert not Path(out).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert pq.read_table(out) == table(5)
    with pytest.raises(FileError, match="already exists"), parquet.new_folder(out):
        pass
