"""What Onward writes as ONNX, run by onnxruntime."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import test_export

import onward


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(("batch_first", "bidirectional"), test_export.OPTIONS)
@pytest.mark.parametrize("cell", ["RNN", "GRU", "GRU, reset before", "LSTM"])
def test_onnxruntime_gives_the_same(
    tmp_path: Path, cell: str, batch_first: bool, bidirectional: bool, lengths: bool
) -> None:
    net = test_export.model_of(cell, batch_first, bidirectional)
    onward.export_onnx(net, tmp_path / "m.onnx", lengths=lengths)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for T, B in ((6, 4), (1, 1), (30, 2)):
        feeds = test_export.feeds_of(onnx.load(tmp_path / "m.onnx"), T, B)
        for theirs, mine in zip(session.run(None, feeds), test_export.answer_of(net, feeds), strict=True):
            np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-5)
