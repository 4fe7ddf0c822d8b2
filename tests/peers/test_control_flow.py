"""If, Loop and Scan match onnxruntime."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from support import control_flow
from support.onnx_nodes import open_model


def assert_matches(model: Any, feeds: list[control_flow.Feeds]) -> None:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    opened = open_model(model)
    for feed in feeds:
        for y, expected in zip(opened(**feed), session.run(None, feed), strict=True):
            assert y.shape == expected.shape and y.dtype == expected.dtype
            np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", control_flow.CASES)
def test_control_flow_matches_onnxruntime(name: str) -> None:
    assert_matches(*control_flow.CASES[name]())


@pytest.mark.parametrize("options", control_flow.SCANS)
def test_a_scan_matches_onnxruntime(options: tuple[int, ...]) -> None:
    assert_matches(*control_flow.scan(*options))
