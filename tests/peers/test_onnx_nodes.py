"""Random recurrent nodes of ONNX, with every option that onnxruntime has, against onnxruntime.

ONWARD_ONNX_NODES=100000 makes a longer run.
"""

import os
from typing import Any

import numpy as np
import pytest
from support import onnx_nodes
from support.frameworks import onnxruntime_session
from support.onnx_nodes import open_model

NODES, BATCH = int(os.environ.get("ONWARD_ONNX_NODES", "2000")), 100


@pytest.mark.parametrize("seed", range(-(-NODES // BATCH)))
def test_random_nodes_give_the_outputs_of_onnxruntime(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for number in range(BATCH):
        case = onnx_nodes.draw(rng)
        known = case.time_first()  # onnxruntime has no layout 1
        session = onnxruntime_session(known.model)
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


@pytest.mark.parametrize("axis", [0, 1], ids=["no_steps", "no_rows"])
def test_random_nodes_take_inputs_without_elements(axis: int) -> None:
    rng = np.random.default_rng(axis)
    rows = {"X": axis, "sequence_lens": 0, "initial_h": 1, "initial_c": 1}  # the axis to cut
    for _ in range(100):
        case = onnx_nodes.draw(rng, layout=0)
        if rows.keys() & {stored.name for stored in case.model.graph.initializer}:
            continue  # they are for the number of rows in the file
        feeds = dict(case.feeds)
        for name in feeds.keys() & (rows if axis else {"X"}):
            feeds[name] = np.take(feeds[name], range(0), rows[name])
        if axis == 0 and "sequence_lens" in feeds:
            feeds["sequence_lens"] = 0 * feeds["sequence_lens"]
        names = [name for name in case.attributes["outputs"] if name]
        for name, y in zip(names, open_model(case.model)(**feeds), strict=True):
            if axis == 1 or name == "Y":
                assert y.size == 0
            elif "sequence_lens" in feeds:  # onnxruntime's state of a row without steps
                assert not y.any()
            else:
                np.testing.assert_array_equal(y, feeds.get(f"initial{name[1:]}", np.zeros_like(y)))
