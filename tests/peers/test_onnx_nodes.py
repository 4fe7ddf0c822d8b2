"""Random recurrent nodes of ONNX, with every option that onnxruntime has, against onnxruntime.

ONWARD_ONNX_NODES=100000 makes a longer run.
"""

import os

import numpy as np
import onnx_nodes
import onnxruntime
import pytest

from onward.load.onnx import Graph

NODES, BATCH = int(os.environ.get("ONWARD_ONNX_NODES", "2000")), 100


@pytest.mark.parametrize("seed", range(-(-NODES // BATCH)))
def test_random_nodes_answer_as_in_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for number in range(BATCH):
        case = onnx_nodes.draw(rng)
        session = onnxruntime.InferenceSession(case.model.SerializeToString(), options)
        expected = session.run(None, case.feeds)
        for mine, theirs in zip(Graph(case.model)(**case.feeds), expected, strict=True):
            np.testing.assert_allclose(
                mine, theirs, rtol=1e-5, atol=1e-5, err_msg=f"node {number} of seed {seed}: {case.attributes}"
            )
