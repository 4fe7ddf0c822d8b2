"""The GRU that resets before the product, against onnxruntime, which supports it in float32."""

import numpy as np
import pytest
from support import cases
from support.cases import CASES, TOLERANCE, Case
from support.frameworks import onnx_gru_answer

ONNX_CASES = [case for case in CASES if case.cell == "gru_reset_before" and case.dtype == "float32"]


@pytest.mark.parametrize("case", ONNX_CASES, ids=lambda case: case.id)
def test_outputs_are_those_of_onnxruntime(case: Case) -> None:
    inputs = cases.inputs_of(case)
    for mine, theirs in zip(cases.run(case, inputs)[:2], onnx_gru_answer(case, inputs)[:2], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE[case.dtype])
