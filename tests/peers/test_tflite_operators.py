"""Random operators of TensorFlow Lite beside LiteRT's reference kernels: integers equal theirs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_tflite import Reference
from support.randomized import random_cases
from support.tflite_files import Case, RandomCases, Tensor, file
from support.tflite_recurrent import RecurrentCases

import onward

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:tensorflow")


@pytest.mark.parametrize("seed", range(random_cases(300)))
def test_a_random_operator_gives_the_answers_of_the_reference_kernels(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    check(RandomCases(rng).case(), rng, tmp_path)


@pytest.mark.parametrize("seed", range(random_cases(200)))
def test_a_random_recurrent_operator_keeps_its_state_as_the_reference_kernels(
    seed: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    check(RecurrentCases(rng).case(), rng, tmp_path)


@pytest.mark.parametrize("scale", [2.0**-12, 2.0**-10, 0.00019818, 0.0005, 0.003])
@pytest.mark.parametrize("name", ["LOGISTIC", "TANH"])
def test_functions_of_int16_have_the_table_of_the_reference_kernels(
    name: str, scale: float, tmp_path: Path
) -> None:
    x, y = (Tensor([1 << 16], "INT16", None, np.float32(each)) for each in (scale, 2.0**-15))
    content = file(name, [x], y, None, 3)
    (tmp_path / "m.tflite").write_bytes(content)
    numbers = np.arange(-(1 << 15), 1 << 15).astype(np.int16)
    (expected,) = Reference(content)(numbers)
    np.testing.assert_array_equal(onward.load(tmp_path / "m.tflite")(numbers), expected)


def check(case: Case, rng: np.random.Generator, folder: Path) -> None:
    """Compare three calls of a file, whose state a stream keeps."""
    content = file(*case)
    (folder / "m.tflite").write_bytes(content)
    reference, model = Reference(content), onward.load(folder / "m.tflite")
    run: Any = model.stream() if model.carries else model
    for _ in range(3):
        given = [_drawn(rng, *each) for each in reference.inputs]
        found = run(*given)
        for expected, y in zip(
            reference(*given), found if isinstance(found, tuple) else [found], strict=True
        ):
            assert y.dtype == expected.dtype and y.shape == expected.shape
            if y.dtype.kind == "f":
                np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
            else:
                np.testing.assert_array_equal(y, expected)


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)
