"""GTCRN, a speech enhancer with a GRU over frequency, whose batch the file fixes."""

import os
from pathlib import Path

import numpy as np

import onward

FOLDER = Path(os.environ["ONWARD_CASES"]) / "gtcrn"


def test_streams_of_a_file_that_ties_rows_together_share_a_pool() -> None:
    model, cases = onward.load(FOLDER / "gtcrn_simple.onnx"), np.load(FOLDER / "cases.npz")
    frames, expected = cases["in.mix"], cases["out.enh"]
    pool, streams = model.pool(3), [model.stream() for _ in range(3)]
    ids = pool.open(3)
    for t in range(8):
        places = [0, 2] if t % 2 else [1, 0, 2]
        x = np.concatenate([frames[t + 5 * place] for place in places])
        y = pool.step(ids[places], x)
        for row, place, frame in zip(y, places, x, strict=True):
            np.testing.assert_array_equal(row, streams[place](frame[None])[0])
        np.testing.assert_allclose(y[places.index(0)], expected[t][0], atol=1e-5)
