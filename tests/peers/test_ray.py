"""Ray Data: the outputs have the bits of one process for any number of actors, even if one dies."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import ray.data
from click.testing import CliRunner
from pyarrow import parquet as pq

import onward
from onward.cli import main
from onward.errors import ArgumentError
from onward.tables import ray as onward_ray
from onward.tables.scorer import Scorer

NET = onward.Sequential(onward.LSTM(3, 7, rng=0), onward.Last(), onward.Linear(7, 2, rng=1))
STEPS = pa.list_(pa.list_(pa.float32()))
RNG = np.random.default_rng(0)

pytestmark = pytest.mark.filterwarnings("default")  # raised by Ray itself


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Ray on this machine, with processors for two actors and for reading and writing."""
    ray.init(num_cpus=3, object_store_memory=80_000_000, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def table(rows: int) -> pa.Table:
    x = [RNG.standard_normal((T, 3)).astype(np.float32).tolist() for T in RNG.integers(1, 12, rows)]
    return pa.table({"id": range(rows), "x": pa.array(x, STEPS)})


def dataset(rows: pa.Table, blocks: int = 6) -> Any:
    size = -(-len(rows) // blocks)
    return ray.data.from_arrow([rows.slice(first, size) for first in range(0, len(rows), size)])


def collected(scored: Any) -> pa.Table:
    return pa.concat_tables(ray.get(scored.to_arrow_refs()))


@pytest.mark.parametrize(("actors", "batch_size"), [(1, 1024), (2, 7)])
def test_outputs_have_the_bits_of_one_process(actors: int, batch_size: int) -> None:
    rows = table(300)
    scored = onward_ray.score(dataset(rows), NET, actors=actors, batch_size=batch_size, ordered=True)
    result, expected = collected(scored), Scorer(NET)(rows)
    assert result.cast(expected.schema) == expected


def test_tensors_of_one_or_several_shapes_and_csv_columns_are_scored(tmp_path: Path) -> None:
    fixed = RNG.standard_normal((40, 5, 3)).astype(np.float32)
    ragged = [RNG.standard_normal((T, 3)).astype(np.float32) for T in RNG.integers(1, 9, 40)]
    for data, xs, name in (
        (ray.data.from_numpy(fixed), fixed, "data"),
        (ray.data.from_items([{"x": x} for x in ragged]), ragged, "x"),
    ):
        scored = onward_ray.score(data, NET, name, ordered=True, actors=1).take_all()
        for row, x in zip(scored, xs, strict=True):
            np.testing.assert_array_equal(row["y"], NET(x))
    net = onward.Sequential(onward.GRU(1, 5, rng=0), onward.Last())
    values = RNG.standard_normal((40, 6))
    path = tmp_path / "wide.csv"
    np.savetxt(path, values, delimiter=",", header="a,b,c,d,e,f", comments="")
    scored = onward_ray.score(ray.data.read_csv(str(path)), net, list("abcdef"), ordered=True, actors=1)
    for row, x in zip(scored.take_all(), values, strict=True):
        np.testing.assert_array_equal(row["y"], net(x[:, None]))


def test_a_killed_actor_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, killed = table(400), tmp_path / "killed"

    class Mortal(onward_ray.TableActor):
        def __call__(self, table: pa.Table) -> pa.Table:
            scored = super().__call__(table)
            if 200 in table["id"].to_pylist() and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return scored

    monkeypatch.setattr(onward_ray, "TableActor", Mortal)
    scored = onward_ray.score(dataset(rows), NET, actors=2, batch_size=16, ordered=True)
    result, expected = collected(scored), Scorer(NET)(rows)
    assert killed.exists()
    assert result.cast(expected.schema) == expected


def run_command(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    NET.save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_the_command_writes_all_rows_in_order_into_a_folder(model: Path, tmp_path: Path) -> None:
    source, out, rows = tmp_path / "in", tmp_path / "out", table(900)
    source.mkdir()
    pq.write_table(rows[:500], source / "a.parquet", row_group_size=200)
    pq.write_table(rows[500:], source / "b.parquet", row_group_size=200)
    result = run_command("run", model, source, "--engine", "ray", "--out", out, "--json", "--columns", "*")
    assert result.exit_code == 0, result.output
    reported = json.loads(result.stdout)
    assert (reported["sequences"], reported["bad"]) == (900, 0)
    expected = Scorer(NET)(rows)
    assert pq.read_table(out).cast(expected.schema) == expected
    again = run_command("run", model, source, "--engine", "ray", "--out", out)
    assert again.exit_code == 1 and "already exists" in again.output


def test_a_bad_row_is_named_by_its_number_and_nothing_is_written(model: Path, tmp_path: Path) -> None:
    source, out, rows = tmp_path / "in.parquet", tmp_path / "out", table(900)
    x = rows["x"].to_pylist()
    x[777] = [[1.0, 2.0]]
    pq.write_table(rows.set_column(1, "x", pa.array(x, STEPS)), source, row_group_size=200)
    before = set(tmp_path.iterdir())
    result = run_command("run", model, source, "--engine", "ray", "--out", out)
    assert result.exit_code == 1
    assert "row 777, column 'x': a step that is not a list of 3 numbers" in result.output
    assert "Traceback" not in result.output
    assert set(tmp_path.iterdir()) == before
    kept = run_command("run", model, source, "--engine", "ray", "--out", out, "--on-error", "keep", "--json")
    assert json.loads(kept.stdout)["bad"] == 1
    why = pq.read_table(out)["y_error"].to_pylist()
    assert [row for row, reason in enumerate(why) if reason] == [777]


def test_the_command_runs_on_the_cluster_at_an_address(model: Path, tmp_path: Path) -> None:
    source, out, rows = tmp_path / "in.parquet", tmp_path / "out", table(300)
    pq.write_table(rows, source)
    cluster = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", "from onward.cli import main; main()", "run", model, source, "--json"]
    options = ["--engine", "ray", "--address", cluster, "--out", out, "--columns", "*"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True, timeout=100)
    assert json.loads(done.stdout)["sequences"] == 300
    expected = Scorer(NET)(rows)
    assert pq.read_table(out).cast(expected.schema) == expected


def test_score_accepts_a_model_file_and_rejects_a_state_dict(model: Path, tmp_path: Path) -> None:
    rows = table(20)
    scored = onward_ray.score(dataset(rows, 2), model, actors=1, on_error="keep", output="z")
    assert set(collected(scored).column_names) == {"id", "x", "z", "z_error"}
    np.savez(tmp_path / "parts.npz", **onward.LSTM(3, 7).state_dict())
    with pytest.raises(ArgumentError, match="not a connected model"):
        onward_ray.score(dataset(rows, 2), tmp_path / "parts.npz")
