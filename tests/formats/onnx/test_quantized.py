"""LSTM nodes with byte weights are close to those with float weights; tests/peers compares exactly."""

from typing import Any

import numpy as np
import pytest
from onnx import helper
from support import onnx_nodes
from support.onnx_nodes import open_model

from onward import errors
from onward.graph.operations import OPERATIONS


@pytest.mark.parametrize("seed", range(20))
def test_outputs_are_close_to_those_with_float_weights(seed: int) -> None:
    case, constants = onnx_nodes.draw_quantized(np.random.default_rng(seed))
    given = {name: constants[name] for name in ("B", "P") if name in constants}
    for name in "WR":
        scale, zero_point = (constants[f"{name}_{part}"] for part in ("scale", "zero_point"))
        D = len(scale)
        whole = constants[name].astype(np.float32) - zero_point.astype(np.float32).reshape(D, 1, -1)
        given[name] = (whole * scale.reshape(D, 1, -1)).swapaxes(1, 2)
    quantized_node = case.model.graph.node[0]
    # the node also clips C, which stays below the limit here
    attributes = {a.name: helper.get_attribute_value(a) for a in quantized_node.attribute if a.name != "clip"}
    del quantized_node.attribute[:]
    for name, value in attributes.items():
        quantized_node.attribute.append(helper.make_attribute(name, value))
    node = helper.make_node("LSTM", quantized_node.input[:8], quantized_node.output, **attributes)
    floats = open_model(onnx_nodes.model_of([node], case.feeds, ["Y", "Y_h", "Y_c"], given))
    for mine, near in zip(open_model(case.model)(**case.feeds), floats(**case.feeds), strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, near, rtol=0, atol=0.1)
        assert np.abs(mine - near).mean() < 0.01


def test_dynamic_quantization_represents_zero_exactly() -> None:
    x: Any = np.array([-1.0, 0.0, 3.0, 0.02, 0.031], np.float32)
    quantize = OPERATIONS["DynamicQuantizeLinear"]
    q, scale, zero_point = quantize.compute([x], {})
    np.testing.assert_array_equal(q.astype(int) - zero_point, [-64, 0, 191, 1, 2])
    assert scale == np.float32(4) / np.float32(255)
    q, _, zero_point = quantize.compute([np.zeros(3, np.float32)], {})
    np.testing.assert_array_equal(q, zero_point)


def test_a_quantized_node_is_not_converted_to_a_layer() -> None:
    case, _ = onnx_nodes.draw_quantized(np.random.default_rng(0))
    with pytest.raises(errors.ArgumentError, match="DynamicQuantizeLSTM"):
        open_model(case.model).layers()
