"""Transposed convolutions match PyTorch and give the same bits for every batch and instruction set."""

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from support.onnx_nodes import model_of, open_model

from onward import _core

RNG = np.random.default_rng(0)
CASES = [
    ((3, 5, 9), (5, 33, 4), {"strides": [3], "pads": [1, 2], "output_padding": [1]}),
    ((3, 7, 9), (7, 1, 16), {"strides": [4]}),
    ((2, 6, 9), (6, 17, 3), {"group": 3, "dilations": [2]}),
    ((2, 4, 5, 7), (4, 20, 3, 2), {"strides": [2, 3], "pads": [1, 0, 0, 1]}),
    ((2, 4, 5, 7), (4, 3, 3, 2), {"strides": [2, 1], "group": 2}),
]


@pytest.mark.parametrize(("x", "W", "attributes"), CASES)
def test_transposed_convolutions_match_torch_with_the_same_bits(x: Any, W: Any, attributes: Any) -> None:
    n, groups = len(x) - 2, attributes.get("group", 1)
    inputs = RNG.standard_normal(x).astype(np.float32)
    weights = RNG.standard_normal(W).astype(np.float32)
    bias = RNG.standard_normal(W[1] * groups).astype(np.float32)
    node = helper.make_node("ConvTranspose", ["x", "W", "b"], ["y"], **attributes)
    model = model_of([node], {"x": inputs}, ["y"], {"W": weights, "b": bias})
    pads = attributes.get("pads", [0] * 2 * n)
    whole = (torch.nn.functional.conv_transpose1d, torch.nn.functional.conv_transpose2d)[n - 1](
        *map(torch.from_numpy, (inputs, weights)),
        stride=attributes.get("strides", 1),
        dilation=attributes.get("dilations", 1),
        groups=groups,
    ).numpy()
    extra = attributes.get("output_padding", [0] * n)
    whole = np.pad(whole, [(0, 0), (0, 0), *((0, more) for more in extra)]) + bias.reshape(-1, *[1] * n)
    ends = [size - pad for size, pad in zip(whole.shape[2:], pads[n:], strict=True)]
    expected = whole[(..., *(slice(pad, end) for pad, end in zip(pads, ends, strict=False)))]
    before, results = _core.isa(), []
    for isa in _core.available_isas():
        _core.set_isa(isa)
        graph = open_model(model)
        results.append(graph(inputs)[0])
        np.testing.assert_array_equal(graph(inputs[1:2])[0][0], results[-1][1])
    _core.set_isa(before)
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    np.testing.assert_allclose(results[0], expected, rtol=0, atol=1e-5)
