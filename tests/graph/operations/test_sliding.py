"""The geometry of sliding windows."""

import numpy as np
import pytest

import onward
from onward.core.windows import geometry
from onward.errors import ShapeError
from onward.graph import Graph, Model
from onward.graph.operations import OPERATIONS
from onward.layers.graphs import graph_of


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (2, 3), (3, 5), (4, 2**62)])
def test_a_single_window_stays_single_whatever_its_stride(size: int, stride: int) -> None:
    attributes = {"strides": [stride], "pads": [1, 1]}
    g = geometry([size], [3], attributes)
    expected = (size + 2 - 3) // stride + 1
    assert g.out == (expected,)
    assert g.strides[0] <= stride
    x, W = np.ones((1, 2, size)), np.ones((3, 2, 3))  # float64 runs in NumPy
    (y,) = OPERATIONS["Conv"].compute([x, W], attributes)
    assert y.shape == (1, 3, expected)


@pytest.mark.parametrize("operation", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("padding", [0, 1])
def test_a_pool_with_ceil_mode_accepts_the_lengths_that_its_layer_accepts(
    operation: str, padding: int
) -> None:
    """An axis shorter than the window was refused, although a last window may exceed it."""
    kind = {"MaxPool": onward.MaxPool1d, "AveragePool": onward.AvgPool1d}[operation]
    counts = {True: 0, False: 0}
    for size, kernel, stride in np.ndindex(5, 4, 4):
        if padding > (kernel + 1) // 2:
            continue
        layer = kind(kernel + 1, stride + 1, padding, ceil_mode=True)
        x = np.random.default_rng(size).normal(size=(2, 3, size + 1)).astype(np.float32)
        graph = Model(graph_of(layer))
        accepted = True
        try:
            expected = layer(x)
        except ShapeError:
            accepted = False
            with pytest.raises(ShapeError, match="the window spans"):
                graph(x)
        else:
            np.testing.assert_array_equal(graph(x), expected)
        counts[accepted] += 1
    assert counts[True] > counts[False], counts


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(("operation", "axes"), [("Conv", (4, 0)), ("ConvTranspose", (0, 4))])
def test_a_convolution_of_no_input_channels_is_its_bias(
    operation: str, axes: tuple[int, int], constant: bool
) -> None:
    graph = Graph()
    x, W, bias = np.zeros((2, 0, 6)), np.zeros((*axes, 3)), np.arange(4.0)
    arrays = [a.astype(np.float32) for a in (x, W, bias)]
    names = [
        graph.add_constant(array) if constant and place else graph.add_input(f"x{place}", np.float32)
        for place, array in enumerate(arrays)
    ]
    graph.outputs = (graph.add(operation, *names),)
    y = Model(graph)(*arrays[: 1 if constant else 3])
    steps = 4 if operation == "Conv" else 8
    np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None], (2, 4, steps)))
