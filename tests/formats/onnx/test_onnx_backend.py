"""ONNX's own tests of its recurrent operators; tests/peers runs the whole suite."""

import importlib

import numpy as np
import onnx
import pytest
from onnx.backend.test.case import node
from support import onnx_backend

for module in (
    "rnn",
    "gru",
    "lstm",
):  # importing these adds their cases; collecting all cases takes ten seconds
    importlib.import_module(f"{node.__name__}.{module}")
CASES = {case.name: case for case in node._NodeTestCases}


@pytest.mark.parametrize("name", CASES)
def test_the_official_node_tests_pass(name: str) -> None:
    case = CASES[name]
    model = onnx_backend.prepare(case.model, "CPU")
    for inputs, expected in case.data_sets:
        for mine, theirs in zip(model.run(inputs), expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=case.rtol, atol=case.atol)
            assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)


def test_all_cases_are_collected() -> None:
    assert len(CASES) == 18


def test_a_single_node_runs() -> None:
    x = np.array([-1.0, 2.0], np.float32)
    (y,) = onnx_backend.run_node(onnx.helper.make_node("Relu", ["x"], ["y"]), [x])
    np.testing.assert_array_equal(y, [0, 2])


def test_only_the_cpu_is_supported() -> None:
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA")
