"""Operations on special numbers give what onnxruntime gives: NaN, infinities, ties, and ends of ranges."""

from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.extremes import extremes, integer_extremes
from support.frameworks import onnxruntime_session
from support.onnx_nodes import model_of, open_model
from support.randomized import random_cases
from support.skips import Cases

DTYPES = ("int8", "uint8", "int32", "int64", "float32", "float64")
INTEGERS, FLOATS, SINGLE = DTYPES[:4], DTYPES[4:], DTYPES[4:5]
WIDTHS = (*INTEGERS, "int16", "uint16", "uint32", "uint64")
LAST = {"axis": -1, "select_last_index": 1}
# operations with the number of their inputs, their attributes and the dtypes for which both define the result
ROWS: list[tuple[str, int, dict[str, Any], tuple[str, ...]]] = [
    (name, count, attributes, dtypes)
    for names, count, attributes, dtypes in (
        ("Add Sub Mul Max Min Equal Less LessOrEqual", 2, {}, DTYPES),
        ("Abs Sign", 1, {}, DTYPES),
        ("Neg", 1, {}, ("int8", "int32", "int64", *FLOATS)),
        ("Div Pow", 2, {}, FLOATS),
        ("Mod", 2, {"fmod": 1}, FLOATS),
        ("Mod", 2, {"fmod": 1}, WIDTHS),
        ("Mod Div BitwiseAnd BitwiseOr BitwiseXor", 2, {}, WIDTHS),
        ("BitwiseNot", 1, {}, WIDTHS),
        *(("BitShift", 2, {"direction": way}, ("uint8", *WIDTHS[5:])) for way in ("LEFT", "RIGHT")),
        ("Relu Round Floor Ceil Sqrt Reciprocal Log Exp", 1, {}, FLOATS),
        ("Sin Cos Tan Atan Sinh Cosh Asinh Erf Sigmoid Tanh Elu Selu HardSigmoid Softplus", 1, {}, SINGLE),
        ("ArgMax ArgMin", 1, {"axis": 0}, INTEGERS),
        ("ArgMax ArgMin", 1, LAST, INTEGERS),
        ("Softmax LogSoftmax", 1, {"axis": 0}, SINGLE),
    )
    for name in names.split()
]


def drawn(dtype: str, seed: int, is_divisor: bool) -> Any:
    """Special numbers without denormals, which Onward takes for zeros.

    Divisors are neither 0 nor -1: the processor stops onnxruntime at x / 0 and at the lowest number / -1.
    """
    if dtype in WIDTHS:
        x = integer_extremes(dtype, 6, 7, seed=seed)
        return np.where((x == 0) | (x + np.ones_like(x) == 0), 5, x).astype(dtype) if is_divisor else x
    x = extremes(dtype, 6, 7, seed=seed)
    halves = np.random.default_rng(seed).integers(-9, 10, x.shape) / 2
    x = np.where(np.random.default_rng(~seed & 255).random(x.shape) < 0.3, halves, x).astype(dtype)
    # a quotient or product of the ends of the range may be a denormal number
    return np.where(np.abs(x) < 1e-30, 0, x).astype(dtype)


def outputs(node: Any, feeds: dict[str, Any]) -> tuple[Any, Any]:
    """Return the outputs of onnxruntime and of Onward."""
    model = model_of([node], feeds, ["y"], opset=21)
    model.graph.output[0].ClearField("type")
    model.ir_version = 10
    return onnxruntime_session(model).run(None, feeds)[0], open_model(model)(**feeds)[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[2]}")
def test_special_numbers_give_the_results_of_onnxruntime(row: Any) -> None:
    operation, count, attributes, dtypes = row
    cases = Cases()
    for seed in range(random_cases(3)):
        for dtype in dtypes:
            divides = operation in ("Div", "Mod") and dtype in WIDTHS
            feeds = {f"x{i}": drawn(dtype, 9 * seed + i, divides and i == 1) for i in range(count)}
            node = helper.make_node(operation, [*feeds], ["y"], **attributes)
            with cases.new(seed) as case:
                with case.skipping(Exception, match="Could not find an implementation"):
                    expected, y = outputs(node, feeds)
                assert y.dtype == expected.dtype
                if y.dtype.kind != "f":
                    np.testing.assert_array_equal(y, expected)
                    continue
                with np.errstate(all="ignore"):
                    near = np.isclose(y, expected, rtol=1e-5, atol=1e-6, equal_nan=True)
                assert near.all(), (feeds, y[~near], expected[~near])
    cases.check()
