"""Random operators of TensorFlow Lite beside LiteRT's reference kernels: integers equal theirs."""

from pathlib import Path

import numpy as np
import pytest
from support.random_tflite import Reference
from support.randomized import random_cases
from support.tflite_files import RandomCases, file

import onward

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:tensorflow")


@pytest.mark.parametrize("seed", range(random_cases(300)))
def test_a_random_operator_gives_the_answers_of_the_reference_kernels(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    content = file(*RandomCases(rng).case())
    (tmp_path / "m.tflite").write_bytes(content)
    reference, model = Reference(content), onward.load(tmp_path / "m.tflite")
    given = [
        rng.normal(size=shape).astype(dtype) if dtype.kind == "f" else _bytes(rng, shape, dtype)
        for shape, dtype in reference.inputs
    ]
    (expected,), y = reference(*given), model(*given)
    assert y.dtype == expected.dtype and y.shape == expected.shape
    if y.dtype.kind == "f":
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(y, expected)


def _bytes(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)
