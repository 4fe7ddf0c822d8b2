"""crema's chord recognizer: Keras 2.2, with GRUs that reset before the product and hard_sigmoid."""

from typing import Any

import numpy as np
import pytest

import onward
from onward.errors import FileError


def test_outputs_are_those_of_the_original(case: Any) -> None:
    file = case.folder / "model_stripped.h5"
    with pytest.raises(FileError, match="SqueezeLayer"):
        onward.load(file)
    model: Any = onward.load(file, custom_objects={"SqueezeLayer": lambda x: np.squeeze(x, 2)})
    outputs = model(case.inputs["cqt_mag"])
    for y, name in zip(outputs, ("tag", "pitch", "root", "bass"), strict=True):
        np.testing.assert_allclose(y, case.expected[f"chord_{name}"], atol=5e-6)
