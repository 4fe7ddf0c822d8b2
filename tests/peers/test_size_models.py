"""Random ONNX models in which sizes determine values match onnxruntime for many sizes, also 0, 1 and 2."""

import numpy as np
import pytest
from support.frameworks import onnxruntime_session
from support.onnx_nodes import open_model
from support.randomized import random_cases
from support.size_models import SizeModel, feeds, sizes
from support.skips import Cases

BATCHES, MODELS = 4, random_cases(20)  # models in a batch


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_random_model_gives_the_outputs_of_onnxruntime(batch: int) -> None:
    cases = Cases()
    for seed in range(1000 + batch * MODELS, 1000 + (batch + 1) * MODELS):
        proto = SizeModel(seed).build()
        session, model = onnxruntime_session(proto), open_model(proto)
        for pair in sizes(seed, 12):
            given = feeds(seed, *pair)
            with cases.new(seed) as each:
                with each.skipping(Exception):  # onnxruntime has an error for some empty inputs
                    expected = session.run(None, given)
                for y, wanted in zip(model(**given), expected, strict=True):
                    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
                    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5 * scale, strict=True)
    cases.check(most=1 / 10)
