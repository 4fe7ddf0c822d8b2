"""Random operators of TensorFlow Lite beside LiteRT's reference kernels: integers equal theirs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_tflite import Reference
from support.randomized import random_cases
from support.tflite_files import Case, RandomCases, Tensor, file, options
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


@pytest.mark.parametrize("seed", range(random_cases(20)))
def test_integers_before_a_projection_saturate_as_in_the_reference_kernels(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    cases = RecurrentCases(rng)
    cases.form, cases.chance = "integer", lambda probability=0.5: True  # with all options
    check(cases.lstm(), rng, tmp_path)


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


@pytest.mark.parametrize("name", ["ABS", "LEAKY_RELU", "RELU", "RELU6", "QUANTIZE"])
def test_functions_of_int16_without_tables_equal_those_of_the_reference_kernels(
    name: str, tmp_path: Path
) -> None:
    x, y = (Tensor([1 << 16], "INT16", None, np.float32(each)) for each in (0.0005, 0.0007))
    content = file(name, [x], y, options("LeakyRelu", alpha=0.3) if name == "LEAKY_RELU" else None)
    (tmp_path / "m.tflite").write_bytes(content)
    numbers = np.arange(-(1 << 15), 1 << 15).astype(np.int16)
    (expected,) = Reference(content)(numbers)
    np.testing.assert_array_equal(onward.load(tmp_path / "m.tflite")(numbers), expected)


@pytest.mark.parametrize("depth", [1, 2, 7, 60])
@pytest.mark.parametrize("scale", [0.0001, 0.002, 0.01])
def test_softmax_of_int16_has_the_tables_of_the_reference_kernels(
    scale: float, depth: int, tmp_path: Path
) -> None:
    x, y = (Tensor([40, depth], "INT16", None, np.float32(each)) for each in (scale, 2.0**-15))
    rng = np.random.default_rng(depth)
    check(Case("SOFTMAX", [x], y, options("Softmax", beta=1.0), 3), rng, tmp_path)


@pytest.mark.parametrize("scale", [0.0001, 0.0007])
def test_exp_of_int16_has_the_table_of_the_reference_kernels(scale: float, tmp_path: Path) -> None:
    x, y = (Tensor([3000], "INT16", None, np.float32(each)) for each in (scale, 0.002))
    check(Case("EXP", [x], y, None, 2), np.random.default_rng(0), tmp_path)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["INT8", "INT16"])
def test_products_of_integers_round_ties_away_from_zero(kind: str, count: int, tmp_path: Path) -> None:
    x, y = (Tensor([81, n], kind, None, np.float32(2.0**-8)) for n in (1, 3))
    W = Tensor([3, 1], "INT8", np.ones((3, 1), np.int8), np.full(count, 2.0**-3))  # eighths
    content = file("FULLY_CONNECTED", [x, W, None], y, options("FullyConnected"), 5 if kind == "INT8" else 11)
    (tmp_path / "m.tflite").write_bytes(content)
    numbers = np.arange(-40, 41).astype(kind.lower())[:, None]
    (expected,) = Reference(content)(numbers)
    np.testing.assert_array_equal(onward.load(tmp_path / "m.tflite")(numbers), expected)


TRANSFORMS: dict[str, tuple[tuple[int, ...], Any]] = {
    "spectrogram": ((2, 1000), lambda tf, x: tf.abs(tf.signal.stft(x, 200, 80, 256))),
    "real part": ((1, 1024), lambda tf, x: tf.math.real(tf.signal.stft(x, 256, 128))),
    "imaginary part": ((1, 1024), lambda tf, x: tf.math.imag(tf.signal.stft(x, 256, 128))),
    "padded row": ((3, 400), lambda tf, x: tf.square(tf.abs(tf.signal.rfft(x, [512])))),
    "image": ((2, 8, 16), lambda tf, x: tf.abs(tf.signal.rfft2d(x))),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_fourier_transforms_are_close_to_the_reference_kernels(name: str, tmp_path: Path) -> None:
    import tensorflow as tf

    shape, function = TRANSFORMS[name]
    signature = [tf.TensorSpec(shape, tf.float32)]
    concrete = tf.function(lambda x: function(tf, x), input_signature=signature).get_concrete_function()
    content = tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()
    (tmp_path / "m.tflite").write_bytes(content)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    (expected,), y = Reference(content)(x), onward.load(tmp_path / "m.tflite")(x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def check(case: Case, rng: np.random.Generator, folder: Path) -> None:
    """Compare three calls of a file, whose state a stream keeps; the last of segments has NaN as well."""
    content = file(*case)
    (folder / "m.tflite").write_bytes(content)
    reference, model = Reference(content), onward.load(folder / "m.tflite")
    run: Any = model.stream() if model.carries else model
    has_rare = case.operator.startswith("UNSORTED_SEGMENT")  # others propagate NaN, as all of Onward does
    for rarity in (0, 0, 0.4 * has_rare):
        given = [_drawn(rng, *each, rarity) for each in reference.inputs]
        found = run(*given)
        for expected, y in zip(
            reference(*given), found if isinstance(found, tuple) else [found], strict=True
        ):
            assert y.dtype == expected.dtype and y.shape == expected.shape
            if y.dtype.kind == "f":
                np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
            else:
                np.testing.assert_array_equal(y, expected)


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype, rarity: float) -> np.ndarray:
    if dtype.kind == "f":
        rare = rng.random(shape) < rarity
        return np.where(rare, rng.choice([np.nan, np.inf, -np.inf], shape), rng.normal(size=shape)).astype(
            dtype
        )
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)
