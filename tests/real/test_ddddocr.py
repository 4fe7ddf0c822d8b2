"""ddddocr's text reader: a large bidirectional LSTM in ONNX."""

from typing import Any

import numpy as np

import onward


def test_arrays_are_those_of_the_original(case: Any) -> None:
    graph: Any = onward.load(case.folder / "ddddocr_lstm.onnx")
    for k in range(3):
        x, h0, c0 = (case.inputs[f"{name}_{k}"] for name in ("x", "h0", "c0"))
        for mine, name in zip(graph(x, h0, c0), ("y", "hn", "cn"), strict=True):
            np.testing.assert_allclose(mine, case.expected[f"{name}_{k}"], atol=5e-6, rtol=1e-5)
        y, _ = graph.layers()(x, [(h0, c0)], return_state=True)
        np.testing.assert_array_equal(y.reshape(len(x), 1, 2, 512).swapaxes(1, 2), graph(x, h0, c0)[0])
