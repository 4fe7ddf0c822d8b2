"""The steps of operations in the core give what the operations mean in NumPy."""

from typing import Any

import numpy as np
import pytest
from support.extremes import bits, extremes
from support.lowering import run_lowered

from onward.errors import ArgumentError
from onward.graph.operations import OPERATIONS

RNG = np.random.default_rng(0)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def integers(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


X = floats(3, 4, 5)
MOVES: list[Any] = [
    ("Reshape", [X, integers(4, -1)], {}),
    ("Squeeze", [X[:, :1], integers(1)], {}),
    ("Unsqueeze", [X, integers(0, -1)], {}),
    ("Flatten", [X], {"axis": 2}),
    ("Transpose", [X], {"perm": [2, 0, 1]}),
    ("Slice", [X, integers(1, -1), integers(3, -9), integers(0, 2), integers(1, -2)], {}),
    ("Split", [X, integers(1, 3)], {"axis": 1}),
    ("Split", [X], {"axis": -1, "num_outputs": 2}),
    ("Expand", [X[:1], integers(2, 1, 4, 5)], {}),
    ("Tile", [X, integers(1, 2, 1)], {}),
    ("DepthToSpace", [floats(2, 8, 3, 2)], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", [floats(2, 3, 4, 6)], {"blocksize": 2}),
    ("ReverseSequence", [X, integers(0, 3, 1, 2)], {}),
    ("Gather", [X, np.array([[0, -1], [3, 3]])], {"axis": 1}),
    ("GatherElements", [X, RNG.integers(-5, 5, (2, 4, 7))], {"axis": 2}),
    ("GatherND", [X, RNG.integers(-4, 4, (3, 6, 1))], {"batch_dims": 1}),
    ("Pad", [X, integers(1, 0, 2, 0, -1, 3), np.array(2.5, np.float32)], {}),
    ("Pad", [X, integers(1, 2), None, integers(1)], {}),
    ("Pad", [X, integers(1, 2), None, integers(1)], {"mode": "reflect"}),
    ("Pad", [X, integers(1, 2), None, integers(1)], {"mode": "edge"}),
    ("Concat", [X, floats(3, 1, 5), X], {"axis": -2}),
    ("Cast", [X], {"to": np.float32}),
]
ROUNDING: list[Any] = [
    *((name, [X, floats(4, 1)], {}) for name in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "PRelu")),
    *((name, [X, floats(5), floats(4, 1)], {}) for name in ("Mean", "Sum", "Max")),
    *((name, [np.abs(X)], {}) for name in ("Abs", "Neg", "Reciprocal", "Sqrt", "Log")),
    *((name, [X], {}) for name in ("Exp", "Gelu", "HardSwish", "Tanh", "Sigmoid", "Swish")),
    ("Swish", [X], {"alpha": 0.7}),
    ("Selu", [X], {"alpha": 1.5, "gamma": 1.1}),
    ("HardSigmoid", [X], {"alpha": 0.3}),
    ("LeakyRelu", [X], {"alpha": 0.3}),
    ("Clip", [X, np.array(-0.5, np.float32), np.array(0.25, np.float32)], {}),
    ("Clip", [X, None, np.array(0.25, np.float32)], {}),
    ("Pow", [X, np.array(2, np.float32)], {}),
    ("Pow", [np.abs(X), np.array([0.5], np.float32)], {}),
]


@pytest.mark.parametrize("case", MOVES, ids=lambda case: case[0])
def test_moved_elements_are_the_same(case: Any) -> None:
    operation, inputs, attributes = case
    found = run_lowered(operation, inputs, attributes, known=() if operation == "Concat" else range(1, 5))
    assert found is not None
    expected = OPERATIONS[operation].compute(inputs, attributes)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("case", ROUNDING, ids=lambda case: case[0])
def test_computed_elements_are_the_same(case: Any) -> None:
    operation, inputs, attributes = case
    found = run_lowered(operation, inputs, attributes, known=(1, 2) if operation in ("Clip", "Pow") else ())
    assert found is not None
    (expected,) = OPERATIONS[operation].compute(inputs, attributes)
    tolerance = {"Log": 1e-6, "Pow": 2e-7}.get(operation, 0)  # NumPy has its own log and power
    np.testing.assert_allclose(found[0], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", [*MOVES, *ROUNDING], ids=lambda case: case[0])
def test_denormals_and_the_signs_of_zeros_are_the_same(case: Any) -> None:
    operation, inputs, attributes = case
    drawn = [a is not None and a.dtype == np.float32 and a.size > 1 for a in inputs]
    arrays = [extremes(a.dtype, *a.shape) if own else a for a, own in zip(inputs, drawn, strict=True)]
    constants = [i for i, a in enumerate(arrays) if a is not None and not drawn[i]]
    found = run_lowered(operation, arrays, attributes, known=constants)
    assert found is not None
    expected = OPERATIONS[operation].compute(arrays, attributes)
    assert list(map(bits, found)) == list(map(bits, expected))


def test_gather_by_computed_indices() -> None:
    indices = np.array([[0, -1, 3], [2, 2, -4]])
    found = run_lowered("Gather", [X, indices], {"axis": 1})
    assert found is not None
    np.testing.assert_array_equal(found[0], X[:, indices])


@pytest.mark.parametrize("source", [np.float32, np.float64])
@pytest.mark.parametrize("target", [np.int8, np.uint8, np.int32, np.int64, np.float32, bool])
def test_casts_of_numbers_out_of_range_are_the_same(source: Any, target: Any) -> None:
    limits = [
        sign * 2.0**bits + more
        for sign in (-1, 1)
        for bits in (7, 8, 31, 32, 63, 64)
        for more in (-1.5, 0, 1)
    ]
    x = np.array([np.nan, np.inf, -np.inf, -0.5, 3e9, 1e30, *limits]).astype(source)
    found = run_lowered("Cast", [x], {"to": target})
    assert found is not None
    np.testing.assert_array_equal(found[0], OPERATIONS["Cast"].compute([x], {"to": target})[0])


def test_dropout_leaves_its_boolean_mask_to_numpy() -> None:
    assert run_lowered("Dropout", [X], {}) is None


@pytest.mark.parametrize(
    ("operation", "inputs"),
    [("Pow", [X.astype(np.float64), floats(1).astype(np.float64)])],
    ids=["Pow"],
)
def test_unknown_parameters_are_left_to_numpy(operation: str, inputs: list[Any]) -> None:
    assert run_lowered(operation, inputs, {}) is None


def test_clip_to_a_computed_bound() -> None:
    low = np.array(0.25, np.float32)
    found = run_lowered("Clip", [X, low, None], {})
    assert found is not None
    np.testing.assert_array_equal(found[0], np.maximum(X, low))


def test_numbers_of_an_attribute_may_be_integers() -> None:
    attributes = {"axes": [1], "epsilon": 1}  # whose bits were those of 1.4e-45
    found = run_lowered("Standardize", [X], attributes)
    assert found is not None
    np.testing.assert_allclose(found[0], OPERATIONS["Standardize"].compute([X], attributes)[0], rtol=1e-5)
    with pytest.raises(ArgumentError):
        run_lowered("Standardize", [X], attributes | {"epsilon": {}})
