"""The command line on models of Keras, in a row and in a graph."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support

from onward.cli import main

DATA = support.DATA / "keras"
ANSWERS = np.load(DATA / "answers.npz")


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The exit status of a command, and what it printed."""
    with pytest.raises(SystemExit) as ending:
        main([str(each) for each in arguments])
    output = capsys.readouterr()
    return int(ending.value.code or 0), output.out + output.err


def test_run_gives_what_keras_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = ANSWERS["cudnn.h5/x0"], ANSWERS["cudnn.h5/y0"]
    np.save(tmp_path / "x.npy", x.swapaxes(0, 1))  # of a file, time comes first
    status, _ = said(capsys, "run", DATA / "cudnn.h5", tmp_path / "x.npy", "--out", tmp_path / "y.npy")
    assert status == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), y, atol=2e-6)


def test_run_says_that_a_model_takes_more_than_one_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", ANSWERS["graph_3.keras/x0"].swapaxes(0, 1))
    status, output = said(capsys, "run", DATA / "graph_3.keras", tmp_path / "x.npy")
    assert status == 1
    assert "first, second" in " ".join(output.split())


@pytest.mark.parametrize("name", ["cudnn.h5", "old_1.h5", "graph_2.h5", "graph_3.keras", "front_end_3.keras"])
@pytest.mark.filterwarnings("ignore:Keras 1 does not say")
def test_info_shows_every_weight(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, output = said(capsys, "info", "--json", DATA / name)
    assert status == 0
    report: dict[str, Any] = json.loads(output)
    assert report["parameters"] > 0
    status, output = said(capsys, "info", DATA / name)
    assert status == 0
    assert "Model(" in output
