"""Random commands on random files: a mistake is one message, --json changes no exit code, files are whole."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from support.cli import invoke
from support.randomized import random_cases

import onward

WITHOUT = {
    "classes": [onward.GRU(3, 4, rng=0), onward.Last(), onward.Linear(4, 3, rng=1), onward.Softmax()],
    "number": [onward.RNN(3, 4, rng=0), onward.Last(), onward.Linear(4, 1, rng=1)],
    "steps": [onward.LSTM(3, 4, rng=0), onward.Linear(4, 2, rng=1)],
    "tokens": [onward.Embedding(9, 3, rng=0), onward.GRU(3, 4, rng=1), onward.Last(), onward.Linear(4, 2)],
}
OPTIONS: dict[str, list[Any]] = {
    "--missing": ["error", "skip", "fill", "mask"],
    "--task": ["classify", "regress", "label-steps"],
    "--target": ["y", "a", "a,b"],
    "--group": ["g"],
    "--input": ["a,b,c", "a", "x"],
    "--time": ["t", "a"],
    "--window": [1, 3],
    "--horizon": [2],
    "--weight": ["a"],
}
OWN: dict[str, dict[str, list[Any]]] = {
    "run": {
        "--out": ["y.csv", "y.npz", "y.npy", "y.parquet", "-"],
        "--on-error": ["keep"],
        "--columns": ["*", "g"],
    },
    "score": {"--loss": ["mse", "cross_entropy"], "--from-logits": [None]},
    "trace": {"--out": ["y.npz"], "--sequence": [0, 1]},
    "train table": {"--hold-out": [0.3], "--class-weight": ["balanced"], "--bidirectional": [None]},
    "quantize": {"--tolerance": [0, 1]},
    "verify": {"--tolerance": [0]},
}


def write_data(rng: np.random.Generator) -> None:
    """Write the same sequences as arrays and as tables, some empty, some with NaN or infinity."""
    N, T = int(rng.integers(1, 8)), int(rng.integers(1, 5))
    x = rng.normal(size=(N, T, 3)).round(2)
    x[rng.random(x.shape) < rng.choice([0, 0, 0.1])] = rng.choice([np.nan, np.inf])
    lengths = rng.integers(0, T + 1, N)
    lengths[rng.integers(N)] = T
    y: Any = [
        rng.integers(0, 3, N), rng.normal(size=N), rng.normal(size=(N, T, 2)), rng.random(N) < 0.5,
        np.array(["u", "v", "é"])[rng.integers(0, 3, N)], np.where(rng.random(N) < 0.3, np.nan, 0.5),
    ][int(rng.integers(6))]  # fmt: skip
    np.savez("x.npz", x=x, lengths=lengths, y=y)
    np.save("x.npy", x[0] if rng.random() < 0.5 else x)
    np.save("ids.npy", rng.integers(0, 11, (N, T)))
    names = [n for n, length in enumerate(lengths.tolist()) for _ in range(length)]
    steps = np.concatenate([row[:length] for row, length in zip(x, lengths, strict=True)])
    cells = {"g": names, "t": list(range(len(names)))} | dict(zip("abc", steps.T.tolist(), strict=True))
    cells["y"] = [None if rng.random() < 0.1 or np.ndim(y) > 1 else y[n].item() for n in names]
    rows = zip(*cells.values(), strict=True)
    text = [",".join(cells), *(",".join("" if c is None else str(c) for c in row) for row in rows)]
    Path("x.csv").write_text("\n".join(text), encoding="utf-8")
    parquet.write_table(pa.table(cells), "steps.parquet")
    lists = [None if rng.random() < 0.1 else row[:n].tolist() for row, n in zip(x, lengths, strict=True)]
    kind = pa.list_(pa.list_(pa.float64()))
    parquet.write_table(pa.table({"x": pa.array(lists, kind), "g": range(N)}), "rows.parquet")


def command(rng: np.random.Generator) -> list[str]:
    name = str(rng.choice([*OWN, "run", "score", "train table"]))
    file = str(rng.choice(["x.npz", "x.npy", "ids.npy", "x.csv", "steps.parquet", "rows.parquet"]))
    fits = ["tokens"] if file == "ids.npy" else ["classes", "number", "steps"]
    model = f"{rng.choice(list(WITHOUT) if rng.random() < 0.1 else fits)}.safetensors"
    options = OWN[name] | (OPTIONS if name in ("run", "score", "train table") else {})
    chosen = [
        *name.split(),
        *(
            [file, "--epochs", "1", "--hidden", "3", "-o", "net.safetensors"]
            if name == "train table"
            else [model]
        ),
        *([file] if name in ("run", "score", "trace") else []),
        *(
            ["--to", str(rng.choice(["int8", "float16"])), "-o", "q.safetensors", "--check", file]
            if name == "quantize"
            else []
        ),
        *(["--against", f"{rng.choice(list(WITHOUT))}.safetensors"] if name == "verify" else []),
    ]
    if file in ("x.csv", "steps.parquet") and "--input" in options:  # the options of the table, or others
        chosen += ["--group", "g", "--input", "a,b,c", "--target", "y"] if rng.random() < 0.9 else []
    if name == "run":
        chosen += ["--out", str(rng.choice(OWN["run"]["--out"]))] + ["--on-error", "keep"] * (
            rng.random() < 0.5
        )
    for option in rng.permutation(list(options))[: int(rng.choice([0, 1, 1, 2, 3]))].tolist():
        value = options[option][int(rng.integers(len(options[option])))]
        chosen += [option, *([] if value is None else [str(value)])]
    return chosen


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path().iterdir()}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(random_cases(80)))
def test_a_command_succeeds_or_writes_nothing_but_one_message(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among others, a first sequence without a step and a target that is missing ended in tracebacks."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(seed)
    for name, layers in WITHOUT.items():
        onward.Sequential(*layers).save(f"{name}.safetensors")
    write_data(rng)
    arguments, before = command(rng), contents()
    codes = []
    for more in ([], ["--json"]):
        result = invoke(*arguments, *more)
        codes.append(result.exit_code)
        assert result.exit_code in (0, 1, 2), result.output
        after = contents()
        assert {name: after.get(name) for name in before} == before
        written = {name for name in after if name not in before}
        if result.exit_code == 0 and more:
            json.loads(result.stdout, parse_constant=pytest.fail)
        elif result.exit_code and arguments[0] != "verify":
            assert result.stderr.count("Error") == 1 and not written - {"net.run"}, result.stderr
        for name in written:
            os.remove(name)
    assert codes[0] == codes[1] or "-" in arguments, arguments
