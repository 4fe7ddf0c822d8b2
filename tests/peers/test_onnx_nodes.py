"""Random recurrent nodes of ONNX, with every option that onnxruntime has, against onnxruntime.

ONWARD_ONNX_NODES=100000 makes a longer run.
"""

import os
from typing import Any

import numpy as np
import onnxruntime
import pytest
from support import onnx_nodes
from support.onnx_nodes import open_model

NODES, BATCH = int(os.environ.get("ONWARD_ONNX_NODES", "2000")), 100


@pytest.mark.parametrize("seed", range(-(-NODES // BATCH)))
def test_random_nodes_give_the_outputs_of_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for number in range(BATCH):
        case = onnx_nodes.draw(rng)
        known = case.time_first()  # onnxruntime has no layout 1
        session = onnxruntime.InferenceSession(known.model.SerializeToString(), options)
        expected = case.as_declared(session.run(None, known.feeds))
        assert_agrees(case, expected, f"node {number} of seed {seed}: {case.attributes}")


def assert_agrees(case: onnx_nodes.Case, expected: list[Any], which: str) -> None:
    """Check to 1e-5, absolute and relative, plus ten times the effect of rounding the inputs."""
    answers = open_model(case.model)(**case.feeds)
    slack = [0.0] * len(answers)
    if not all(np.allclose(mine, y, rtol=1e-5, atol=1e-5) for mine, y in zip(answers, expected, strict=True)):
        slack = [10 * by for by in onnx_nodes.movement(case, np.random.default_rng(0))]
    for mine, theirs, more in zip(answers, expected, slack, strict=True):
        assert np.isfinite(theirs).all(), which
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 + more, err_msg=which)


def test_the_tolerance_is_small_for_well_conditioned_nodes() -> None:
    rng = np.random.default_rng(0)
    drawn = [onnx_nodes.draw(rng) for _ in range(60)]
    usual = [case for case in drawn if "activations" not in case.attributes]
    assert len(usual) > 10
    for case in usual:
        assert max(onnx_nodes.movement(case, rng)) < 1e-6, case.attributes
