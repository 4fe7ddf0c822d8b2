"""Sums of floats give the same bits whatever the batch and the memory layout; signatures cost nothing."""

from typing import Any

import numpy as np
import pytest
from support.bits import each_isa
from support.lowering import run_lowered

from onward.errors import OnwardError
from onward.graph.node import Signature
from onward.graph.operations import OPERATIONS

RNG = np.random.default_rng(0)
DTYPES = [np.float32, np.float64]


def floats(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.standard_normal(shape).astype(dtype)


def computed(name: str, *inputs: Any, **attributes: Any) -> Any:
    return OPERATIONS[name].compute(inputs, attributes)[0]


REDUCTIONS = [
    f"Reduce{name}"
    for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name: str, dtype: Any) -> None:
    x, axes = np.abs(floats(17, 3, 333, dtype=dtype)), np.array([-1, 1])
    y = computed(name, x, axes, keepdims=0)
    np.testing.assert_array_equal(computed(name, np.asfortranarray(x), axes, keepdims=0), y)
    np.testing.assert_array_equal(computed(name, x[5:6], axes, keepdims=0), y[5:6])
    np.testing.assert_array_equal(computed(name, x[::-2].copy(), axes, keepdims=0), y[::-2])
    moved = np.moveaxis(x, 0, 2)
    np.testing.assert_array_equal(computed(name, moved, np.array([0, 1]), keepdims=0), y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products(dtype: Any) -> None:
    A, B = floats(17, 33, dtype=dtype), floats(33, 7, dtype=dtype)
    y = computed("MatMul", A, B)
    np.testing.assert_allclose(y, A @ B, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(computed("MatMul", A[3:4], B), y[3:4])
    np.testing.assert_array_equal(computed("MatMul", np.asfortranarray(A), np.asfortranarray(B)), y)
    np.testing.assert_array_equal(computed("MatMul", A[4], B), y[4])
    stacked = np.broadcast_to(B, (5, 2, 33, 7))
    np.testing.assert_array_equal(computed("MatMul", A, stacked), np.broadcast_to(y, (5, 2, 17, 7)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name", ["Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "LpNormalization"]
)
def test_normalizations(name: str, dtype: Any) -> None:
    x = floats(17, 333, dtype=dtype)
    others = [floats(333, dtype=dtype)] if name in ("LayerNormalization", "RMSNormalization") else []
    y = computed(name, x, *others)
    np.testing.assert_array_equal(computed(name, x[6:7], *others), y[6:7])
    np.testing.assert_array_equal(computed(name, np.asfortranarray(x), *others), y)


def test_convolutions() -> None:
    x, W = floats(5, 4, 9, 8), floats(6, 2, 3, 2)
    for name, weights in (("Conv", W), ("ConvTranspose", floats(4, 3, 3, 2))):
        y = computed(name, x, weights, group=2, strides=[2, 1])
        np.testing.assert_array_equal(computed(name, x[3:4], weights, group=2, strides=[2, 1]), y[3:4])
        np.testing.assert_array_equal(
            computed(name, np.asfortranarray(x), weights, group=2, strides=[2, 1]), y
        )


@pytest.mark.parametrize(
    "equation", ["ij,jk->ik", "bhqd,bhkd->bqhk", "i,j->ji", "ij->", "...i,ij->...j", "iij->j"]
)
def test_einsum_gives_the_sums_of_numpy(equation: str) -> None:
    sizes = dict(zip("bhqdkij", (2, 3, 4, 5, 6, 5, 7), strict=True))
    terms = equation.partition("->")[0].split(",")
    inputs = [floats(*(sizes[axis] for axis in term.replace("...", "bh"))) for term in terms]
    expected = np.einsum(equation, *inputs)
    np.testing.assert_allclose(computed("Einsum", *inputs, equation=equation), expected, rtol=1e-4, atol=1e-5)


def test_global_norms_of_channels() -> None:
    x = floats(2, 3, 5, 4)
    expected = (np.abs(x) ** 3).sum((2, 3), keepdims=True) ** (1 / 3)
    np.testing.assert_allclose(computed("GlobalLpPool", x, p=3), expected, rtol=1e-5)


def test_unknown_axes_have_no_signature() -> None:
    x, axes = Signature((2, 3), np.dtype(np.float32)), Signature((1,), np.dtype(np.int64))
    assert OPERATIONS["ReduceSum"].signatures([x, axes], {}) is None


HUGE = Signature((1, 1, 2**31, 2**31), np.dtype(np.float32))
LONG = Signature((2**40, 2**40), np.dtype(np.float32))
GROWING: list[Any] = [
    ("MatMul", [LONG, LONG], {}, (2**40, 2**40)),
    ("Einsum", [LONG, LONG], {"equation": "ij,kl->ijkl"}, (2**40,) * 4),
    ("Resize", [HUGE, None, np.array([1, 1, 8, 8], np.float32)], {}, (1, 1, 2**34, 2**34)),
    (
        "ConvTranspose",
        [HUGE, Signature((1, 1, 1, 1), HUGE.dtype)],
        {"strides": [4, 4]},
        (1, 1, 2**33 - 3, 2**33 - 3),
    ),
    ("MaxUnpool", [HUGE, HUGE], {"kernel_shape": [2, 2], "strides": [2, 2]}, (1, 1, 2**32, 2**32)),
    ("DFT", [Signature((2, 1), HUGE.dtype), np.array(2**62)], {}, (2**62, 2)),
    ("HannWindow", [np.array(2**62)], {}, (2**62,)),
    (
        "AffineGrid",
        [Signature((1, 2, 3), HUGE.dtype), np.array([1, 1, 2**40, 2**40])],
        {},
        (1, 2**40, 2**40, 2),
    ),
    (
        "Conv",
        [HUGE, Signature((1, 1, 1, 1), HUGE.dtype)],
        {"pads": [2**40] * 4},
        (1, 1, *[2**41 + 2**31] * 2),
    ),
]


@pytest.mark.parametrize("case", GROWING, ids=lambda case: case[0])
def test_signatures_of_absurd_sizes_are_exact_and_free(case: Any) -> None:
    name, inputs, attributes, shape = case
    found = OPERATIONS[name].signatures(inputs, attributes)
    assert found is not None
    assert found[0].shape == shape


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("MatMul", [floats(2, 3), floats(4, 5)], {}),
        ("Gemm", [floats(2, 3, 4), floats(4, 5)], {}),
        ("Einsum", [floats(2, 3), floats(4, 5)], {"equation": "ij,jk->ik"}),
        ("Conv", [floats(1, 3, 8), floats(2, 2, 3)], {}),
        ("Conv", [floats(1, 3, 2), floats(2, 3, 3)], {}),
        ("Conv", [floats(1, 3, 8), floats(2, 3, 3)], {"strides": [0]}),
        ("ConvTranspose", [floats(1, 3, 8), floats(2, 2, 3)], {}),
        ("MaxPool", [floats(1, 3, 8)], {"kernel_shape": [3, 3]}),
        ("AveragePool", [floats(1, 3, 8)], {"kernel_shape": [3], "auto_pad": "SAME"}),
        ("ReduceSum", [floats(2, 3), np.array([2])], {}),
        ("Resize", [floats(2, 3), None, np.array([1, -1], np.float32)], {}),
        ("Resize", [floats(2, 3)], {}),
        ("GridSample", [floats(1, 1, 4, 4), floats(1, 4, 4, 3)], {}),
        ("DFT", [floats(2, 3, 4)], {}),
        ("STFT", [floats(2, 30, 1), np.array(0)], {}),
        (
            "Attention",
            [floats(1, 2, 6), floats(1, 2, 6), floats(1, 2, 6)],
            {"q_num_heads": 4, "kv_num_heads": 2},
        ),
        ("Det", [floats(2, 3)], {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_signatures_of_inputs_that_do_not_match_raise(name: str, inputs: Any, attributes: Any) -> None:
    with pytest.raises(OnwardError):
        OPERATIONS[name].signatures(inputs, attributes)


def test_an_empty_batch_has_an_empty_result() -> None:
    x, grid = floats(0, 3, 8, 7), floats(0, 4, 5, 2)
    sizes = np.array([0, 3, 4, 9])
    for name, inputs, attributes, shape in (
        ("Conv", [x, floats(2, 3, 3, 2)], {}, (0, 2, 6, 6)),
        ("MaxPool", [x], {"kernel_shape": [2, 2]}, (0, 3, 7, 6)),
        ("AveragePool", [x], {"kernel_shape": [2, 2]}, (0, 3, 7, 6)),
        ("Resize", [x, None, None, sizes], {"mode": "linear"}, (0, 3, 4, 9)),
        ("GridSample", [x, grid], {}, (0, 3, 4, 5)),
        ("Softmax", [x], {}, x.shape),
        ("LayerNormalization", [x, floats(7)], {}, x.shape),
        ("ReduceSum", [x, np.array([1])], {}, (0, 1, 8, 7)),
    ):
        assert computed(name, *inputs, **attributes).shape == shape, name
        found = OPERATIONS[name].signatures(inputs, attributes)
        assert found is not None
        assert found[0].shape == shape, name


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("LayerNormalization", [floats(5, 3), floats(7, 5, 3)], {}),
        ("RMSNormalization", [floats(5, 1), floats(3)], {}),
        ("InstanceNormalization", [floats(5, 3, 2), floats(1), floats(3)], {}),
        ("BatchNormalization", [floats(5, 3), *[floats(4)] * 4], {}),
        ("Gemm", [floats(1, 3), floats(3, 4), floats(7, 4)], {}),
        ("Conv", [floats(1, 3, 8), floats(2, 3, 3), floats(1)], {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parameters_do_not_enlarge_the_result(name: str, inputs: Any, attributes: Any) -> None:
    with pytest.raises(OnwardError):
        OPERATIONS[name].signatures(inputs, attributes)


def test_sums_of_short_and_of_strided_rows_have_the_bits_of_long_ones() -> None:
    for n in (*range(1, 20), 63, 64, 65, 100):
        x = floats(37, n)
        found = set()
        for _ in each_isa():
            rows = run_lowered("ReduceSum", [x, np.array([1])], {}, known=[1])
            columns = run_lowered("ReduceSum", [np.ascontiguousarray(x.T), np.array([0])], {}, known=[1])
            assert rows is not None
            assert columns is not None
            single = [run_lowered("ReduceSum", [row[None], np.array([1])], {}, known=[1]) for row in x[:3]]
            assert [y[0][0, 0] for y in single if y] == rows[0][:3, 0].tolist()
            found |= {rows[0].tobytes(), columns[0].tobytes()}
        assert len(found) == 1, n
        np.testing.assert_allclose(rows[0][:, 0], x.sum(1, dtype=np.float64), rtol=1e-5, atol=1e-5)
