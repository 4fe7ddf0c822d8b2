"""The gate orders of file formats, and conversions between them."""

import numpy as np
import pytest

from onward.core.gates import GATE_ORDER, reorder


@pytest.mark.parametrize(
    ("cell", "source", "target", "expected"),
    [
        ("lstm", "onnx", "torch", [0, 2, 3, 1]),
        ("lstm", "torch", "onnx", [0, 3, 1, 2]),
        ("lstm", "keras", "torch", [0, 1, 2, 3]),
        ("gru", "onnx", "torch", [1, 0, 2]),
        ("gru", "keras", "torch", [1, 0, 2]),
    ],
)
def test_reorder_moves_whole_gates(cell: str, source: str, target: str, expected: list[int]) -> None:
    weight = np.arange(len(expected) * 6).reshape(len(expected) * 2, 3)
    moved = reorder(weight, cell, source, target)
    np.testing.assert_array_equal(moved, weight.reshape(-1, 2, 3)[expected].reshape(-1, 3))
    assert not np.shares_memory(moved, weight)


@pytest.mark.parametrize(("source", "cell"), GATE_ORDER)
def test_reordering_back_restores_the_array(source: str, cell: str) -> None:
    bias = np.random.default_rng(0).random(24)
    np.testing.assert_array_equal(reorder(reorder(bias, cell, source, "torch"), cell, "torch", source), bias)
