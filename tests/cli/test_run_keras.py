"""`onward run` on Keras models, sequential and with several inputs."""

from pathlib import Path

import numpy as np
import support
from support.cli import invoke, message

DATA = support.DATA / "keras"
ANSWERS = np.load(DATA / "answers.npz")


def test_run_gives_the_outputs_of_keras(tmp_path: Path) -> None:
    x, y = ANSWERS["cudnn.h5/x0"], ANSWERS["cudnn.h5/y0"]
    np.save(tmp_path / "x.npy", x)
    invoke("run", DATA / "cudnn.h5", tmp_path / "x.npy", "--out", tmp_path / "y.npy", expect=0)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), y, atol=2e-6)


def test_run_of_a_model_with_several_inputs_names_them(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", ANSWERS["graph_3.keras/x0"])
    result = invoke("run", DATA / "graph_3.keras", tmp_path / "x.npy", expect=1)
    assert "first, second" in message(result)
