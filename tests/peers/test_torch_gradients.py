"""Gradients against PyTorch's autograd, on the table of cases."""

import numpy as np
import pytest
from support import cases
from support.cases import CASES, GRADIENT_TOLERANCE, Case
from support.frameworks import torch_gradients


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.cell != "gru_reset_before"], ids=lambda case: case.id
)
def test_gradients_are_those_of_autograd(case: Case) -> None:
    inputs = cases.inputs_of(case)
    mine, right = cases.gradients(case, inputs), torch_gradients(case, inputs)
    assert list(mine) == list(right)
    for name, gradient in mine.items():
        bound = GRADIENT_TOLERANCE[case.dtype] * np.abs(right[name]).max()
        np.testing.assert_allclose(gradient, right[name], rtol=0, atol=bound)
