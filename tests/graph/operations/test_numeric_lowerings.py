"""Products, windows, reductions, normalizations and transforms: the steps in the core against NumPy."""

from typing import Any

import numpy as np
import pytest
from support.bits import each_isa
from support.extremes import bits, extremes
from support.lowering import run_lowered

from onward.graph.operations import OPERATIONS

RNG = np.random.default_rng(0)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def integers(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


def scalar(number: int) -> Any:
    return np.array(number, np.int64)


POOL = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
IMAGE = floats(2, 3, 8, 7)
# operation, inputs, attributes, the indices of constants
CASES: list[tuple[str, list[Any], dict[str, Any], tuple[int, ...]]] = [
    ("MatMul", [floats(5, 3, 7), floats(7, 33)], {}, (1,)),
    ("MatMul", [floats(5, 7), floats(7, 33), floats(33)], {}, (1, 2)),
    ("MatMul", [floats(7), floats(7, 33)], {}, (1,)),
    ("MatMul", [floats(2, 1, 5, 7), floats(3, 7, 4)], {}, ()),
    ("MatMul", [floats(5, 7), floats(7, 3), floats(5, 3)], {}, ()),
    ("Gemm", [floats(7, 5), floats(4, 7), floats(4)], {"transA": 1, "transB": 1}, (1, 2)),
    ("Gemm", [floats(5, 7), floats(7, 4), floats(5, 1)], {"alpha": 0.3, "beta": -2.0}, (1,)),
    ("Gemm", [floats(5, 7), floats(4, 7), floats(5, 4)], {"transB": 1}, ()),
    ("FusedMatMul", [floats(2, 5, 7), floats(2, 4, 7)], {"alpha": 0.3, "transB": 1}, ()),
    ("FusedMatMul", [floats(5, 2, 7), floats(2, 5, 4)], {"transA": 1, "transBatchA": 1}, ()),
    ("Einsum", [floats(2, 3, 4, 5), floats(2, 6, 4, 5)], {"equation": "bqhd,bkhd->bhqk"}, ()),
    ("Einsum", [floats(4, 3), floats(3, 2, 5)], {"equation": "ij,jkl->lik"}, ()),
    ("Conv", [floats(2, 4, 9), floats(6, 4, 3), floats(6)], {"pads": [2, 1], "strides": [2]}, (1, 2)),
    ("Conv", [floats(2, 4, 9, 8), floats(6, 2, 3, 2)], {"group": 2, "dilations": [2, 3]}, (1,)),
    ("Conv", [floats(2, 4, 9), floats(4, 1, 3), floats(4)], {"group": 4, "auto_pad": "SAME_LOWER"}, (1, 2)),
    ("MaxPool", [IMAGE], POOL, ()),
    ("MaxPool", [IMAGE], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, ()),
    ("MaxPool", [floats(2, 3, 11)], {"kernel_shape": [3], "dilations": [3], "auto_pad": "SAME_UPPER"}, ()),
    ("AveragePool", [IMAGE], POOL, ()),
    ("AveragePool", [IMAGE], POOL | {"count_include_pad": 1, "ceil_mode": 1}, ()),
    ("GlobalAveragePool", [IMAGE], {}, ()),
    ("GlobalMaxPool", [IMAGE], {}, ()),
    *(
        (f"Reduce{name}", [floats(4, 5, 33), integers(0, -1)], {}, (1,))
        for name in ("Sum", "Mean", "Max", "Min")
    ),
    *((f"Reduce{name}", [floats(4, 5), None], {"keepdims": 0}, ()) for name in ("SumSquare", "L2")),
    ("Softmax", [floats(4, 33, 3)], {"axis": 1}, ()),
    ("LogSoftmax", [floats(4, 33)], {}, ()),
    ("BatchNormalization", [IMAGE, floats(3), floats(3), floats(3), np.abs(floats(3))], {}, (1, 2, 3, 4)),
    ("LayerNormalization", [floats(5, 3, 33), floats(3, 33), floats(3, 33)], {"axis": 1}, (1, 2)),
    ("LayerNormalization", [floats(5, 33), floats(33)], {"epsilon": 0.1}, ()),
    ("InstanceNormalization", [IMAGE, floats(3), floats(3)], {}, (1, 2)),
    ("GroupNormalization", [floats(2, 6, 5), floats(6), floats(6)], {"num_groups": 2}, (1, 2)),
    ("RMSNormalization", [floats(5, 33), floats(33)], {}, (1,)),
]
# operations that the core sums in another precision or order than NumPy
TRANSFORMS: list[tuple[str, list[Any], dict[str, Any], tuple[int, ...]]] = [
    ("DFT", [floats(3, 50, 1)], {"onesided": 1}, ()),
    ("DFT", [floats(3, 50, 2, 2), scalar(64), scalar(1)], {}, (1, 2)),
    ("DFT", [floats(3, 50, 2), scalar(33), scalar(-2)], {"inverse": 1}, (1, 2)),
    ("STFT", [floats(3, 500, 1), scalar(160), np.hanning(400).astype(np.float32)], {}, (1, 2)),
    ("STFT", [floats(2, 100), scalar(7), None, scalar(33)], {"onesided": 0}, (1, 3)),
    ("STFT", [floats(2, 100, 2), scalar(7), None, scalar(33)], {"onesided": 0}, (1, 3)),
    (
        "ConvTranspose",
        [floats(2, 4, 5), floats(4, 3, 3), floats(3)],
        {"strides": [2], "pads": [1, 0]},
        (1, 2),
    ),
    ("ConvTranspose", [IMAGE[:, :2], floats(2, 3, 3, 2)], {"group": 2, "output_padding": [1, 0]}, (1,)),
    ("ConvTranspose", [floats(2, 4, 5), floats(4, 33, 3), floats(33)], {"strides": [2]}, (1,)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_the_steps_give_the_bits_of_numpy(case: Any) -> None:
    operation, inputs, attributes, constants = case
    found = run_lowered(operation, inputs, attributes, constants, outputs=1)
    assert found is not None
    expected = OPERATIONS[operation].compute(inputs, attributes)[0]
    np.testing.assert_array_equal(found[0], expected)
    extreme = [extremes(a.dtype, *a.shape) if a is not None and a.dtype == np.float32 else a for a in inputs]
    again = run_lowered(operation, extreme, attributes, constants, outputs=1)
    assert again is not None
    assert bits(again[0]) == bits(OPERATIONS[operation].compute(extreme, attributes)[0])


@pytest.mark.parametrize("case", TRANSFORMS, ids=lambda case: case[0])
def test_a_transform_is_as_exact_as_sums_in_float32(case: Any) -> None:
    operation, inputs, attributes, constants = case
    found = run_lowered(operation, inputs, attributes, constants)
    assert found is not None
    wide = [a.astype(np.float64) if a is not None and a.dtype == np.float32 else a for a in inputs]
    exact = OPERATIONS[operation].compute(wide, attributes)[0]
    spread = np.sqrt(np.square(exact).mean())
    assert np.abs(found[0] - exact).max() < 1e-6 * spread


@pytest.mark.parametrize("outputs", [2, 3])
def test_statistics_are_the_same(outputs: int) -> None:
    inputs = [floats(5, 33), floats(33)]
    found = run_lowered("LayerNormalization", inputs, {}, outputs=outputs)
    assert found is not None
    expected = OPERATIONS["LayerNormalization"].compute(inputs, {})
    for mine, theirs in zip(found, expected, strict=False):
        np.testing.assert_array_equal(mine, theirs)


def test_the_maximum_of_zeros_of_both_signs_is_the_same_on_every_instruction_set() -> None:
    """Which of equal numbers a vector finds last depends on its length."""
    rng = np.random.default_rng(3)
    x = rng.choice(np.array([0.0, -0.0, -1.0, 1e-40, -1e-40], np.float32), (200, 37))
    x[:, 0] = 0
    found = {bits(run_lowered("ReduceMax", [x, integers(-1)], {}, (1,))[0]) for _ in each_isa()}  # type: ignore[index]
    assert found == {bits(OPERATIONS["ReduceMax"].compute([x, integers(-1)], {})[0])}
