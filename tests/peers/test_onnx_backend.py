"""ONNX's whole test suite of nodes and small graphs, except the tests in EXCLUDED."""

import re
import warnings
from typing import Any

import pytest
from support import onnx_backend

with warnings.catch_warnings():  # the suite overflows when it computes the expected outputs
    warnings.simplefilter("ignore")
    import onnx.backend.test

    SUITE = onnx.backend.test.BackendTest(onnx_backend, __name__).test_cases

EXCLUDED = {
    "test_bernoulli": "random numbers, of which the suite expects those of another generator",
    "test_(gradient_of_add|ada|momentum|nesterov|training_dropout)": "operators of training",
    "test_(flexattention|image_decoder|swiglu)": "operators that neither Onward nor onnxruntime has",
    "test_dft_inverse": "the expected values contain the rounding errors of float32",
    "test_(if_opt|loop16_seq_none)": "optional sequences, which the suite cannot compare",
    "test_resize_downsample_scales_(cubic|linear)_align_corners_cpu": "align_corners of a size that "
    "is no whole number, where the specification's text, PyTorch and onnxruntime take the whole one",
    "test_scan_sum": "Scan of opset 8, with which opset 9 broke",
    "test_scatter_with": "Scatter, deprecated since opset 11, which the onnx package does not run",
}
TESTS = [
    pytest.param(kind, name, id=name)
    for kind, tests in SUITE.items()
    for name in dir(tests)
    # these would download real models
    if kind != "OnnxBackendRealModelTest" and re.fullmatch(r"test_\w+_cpu", name)
    if not any(re.match(pattern, name) for pattern in EXCLUDED)
]


@pytest.mark.filterwarnings("ignore")  # tests of the onnx package's own operators
@pytest.mark.parametrize(("kind", "name"), TESTS)
def test_the_suite_passes(kind: str, name: str) -> None:
    test: Any = SUITE[kind](name)
    test.debug()  # re-raises an error of the test


def test_nearly_the_whole_suite_is_run() -> None:
    assert len(TESTS) > 1900
