"""ConvTranspose against onnxruntime: groups, dilations, strides and every kind of padding."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from support.onnx_nodes import model_of, open_model
from support.running import runs_in_core

CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 7), (3, 5, 4), {}),
    ((2, 4, 7), (4, 3, 3), {"group": 2, "strides": [2], "pads": [1, 0]}),
    ((1, 6, 9), (6, 1, 4), {"group": 6, "strides": [3], "dilations": [2], "output_padding": [1]}),
    ((2, 4, 5, 6), (4, 2, 3, 2), {"group": 4, "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    ((1, 3, 5, 6), (3, 2, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 3, 5, 6), (3, 2, 3, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    ((1, 3, 5), (3, 2, 3), {"output_shape": [11], "strides": [2]}),
    ((2, 3, 5), (3, 17, 2), {"strides": [5]}),
    ((1, 4, 6), (4, 7, 3), {"strides": [4], "dilations": [6], "pads": [3, 2]}),
    ((1, 2, 1, 9), (2, 1, 4, 5), {"strides": [3, 1], "dilations": [1, 3], "output_padding": [2, 0]}),
]


@pytest.mark.parametrize(("x", "W", "attributes"), CASES)
def test_grouped_and_padded_transposed_convolutions_agree(x: Any, W: Any, attributes: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    inputs = {"x": rng.standard_normal(x).astype(np.float32)}
    bias = rng.standard_normal(W[1] * attributes.get("group", 1)).astype(np.float32)
    weights = {"W": rng.standard_normal(W).astype(np.float32), "b": bias}
    model = model_of(
        [helper.make_node("ConvTranspose", ["x", "W", "b"], ["y"], **attributes)], inputs, ["y"], weights
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, inputs)
    graph = open_model(model)
    (y,) = graph(**inputs)
    assert runs_in_core(graph, *inputs.values())
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, atol=1e-5)
