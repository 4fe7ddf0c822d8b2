"""GroupedMatMul against the product of each row and the matrix of its group."""

from typing import Any

import numpy as np
import pytest
from support.extremes import bits, extremes
from support.in_one_test import in_one_test
from support.lowering import run_lowered

from onward.errors import ArgumentError, DtypeError, OnwardError, ShapeError
from onward.graph.operations import OPERATIONS


def compute(*inputs: Any) -> Any:
    return OPERATIONS["GroupedMatMul"].compute(inputs, {})[0]


@in_one_test("seed", range(100))
def test_row_is_multiplied_by_the_matrix_of_another_group(seed: int) -> None:
    rng = np.random.default_rng(seed)
    M, G, K, N = (int(rng.choice([0, 1, 2, 5, 17])), *map(int, rng.choice([1, 2, 3, 9], 3)))
    dtype = rng.choice([np.float32, np.float64, np.int32])
    A, B = ((10 * rng.standard_normal(shape)).astype(dtype) for shape in ((M, K), (G, K, N)))
    ends = np.sort(rng.integers(0, M + 1, G)).astype(rng.choice([np.int32, np.int64]))
    y = compute(A, B, ends)
    assert (y.shape, y.dtype) == ((M, N), A.dtype)
    for row in range(M):
        group = int((ends <= row).sum())
        matrix = B[group] if group < G else np.zeros((K, N), dtype)
        np.testing.assert_array_equal(y[row], OPERATIONS["MatMul"].compute([A[row], matrix], {})[0])


@in_one_test("seed", range(100))
def test_step_gives_other_bits_than_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    M, G, K, N = (int(rng.choice([1, 3, 17, 70])), *map(int, rng.choice([1, 2, 3, 9, 33], 3)))
    G = G if seed % 10 else 0
    A, B = rng.standard_normal((M, K), np.float32), rng.standard_normal((G, K, N), np.float32)
    if rng.integers(2):
        B = rng.standard_normal((G, N, K), np.float32).transpose(0, 2, 1)
    ends = np.sort(rng.integers(0, M + 1, G)).astype(rng.choice([np.int32, np.int64]))
    constants = [place for place in (1, 2) if rng.integers(2)]
    for inputs in ([A, B, ends], [extremes(A.dtype, *A.shape), extremes(B.dtype, *B.shape), ends]):
        found = run_lowered("GroupedMatMul", inputs, {}, constants)
        assert found is not None, "it runs in NumPy"
        assert bits(found[0]) == bits(compute(*inputs)), (M, G, K, N, constants)


@pytest.mark.parametrize("ends", [[2, 1], [-1, 2], [1, 4]])
def test_groups_outside_the_rows_are_computed(ends: list[int]) -> None:
    with pytest.raises(ArgumentError, match="expected them to ascend from 0 to 3"):
        compute(np.ones((3, 2), np.float32), np.ones((2, 2, 5), np.float32), np.array(ends))


@pytest.mark.parametrize("ends", [[2, 1], [-1, 2], [1, 4]])
def test_step_reads_and_writes_outside_the_rows(ends: list[int]) -> None:
    inputs = [np.ones((3, 2), np.float32), np.ones((2, 2, 5), np.float32), np.array(ends)]
    with pytest.raises(OnwardError, match="do not ascend, or exceed the number of rows"):
        run_lowered("GroupedMatMul", inputs, {}, [1])


@pytest.mark.parametrize(
    "shapes", [((3,), (2, 3, 4), (2,)), ((5, 3), (2, 4, 3), (2,)), ((5, 3), (2, 3, 4), (3,))]
)
def test_shapes_that_do_not_match_are_accepted(shapes: Any) -> None:
    A, B, ends = shapes
    with pytest.raises(ShapeError, match="takes arrays of shapes"):
        OPERATIONS["GroupedMatMul"].signatures([np.zeros(A, "f"), np.zeros(B, "f"), np.zeros(ends, "i4")], {})


def test_ends_that_are_floats_are_accepted() -> None:
    shapes: Any = [np.zeros((5, 3), "f"), np.zeros((2, 3, 4), "f"), np.zeros(2, "f")]
    with pytest.raises(DtypeError, match="ends of groups have dtype float32; expected integers"):
        OPERATIONS["GroupedMatMul"].signatures(shapes, {})
