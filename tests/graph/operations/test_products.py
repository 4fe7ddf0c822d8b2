"""Random products of matrices: the steps in the core give the bits of NumPy."""

from typing import Any

import numpy as np
import pytest
from support.extremes import bits, extremes
from support.in_one_test import in_one_test
from support.lowering import run_lowered

import onward
from onward.graph.operations import OPERATIONS


def drawn(rng: np.random.Generator, dtype: Any) -> tuple[str, list[Any], dict[str, Any]]:
    """An operation, its inputs and attributes."""
    operation = str(rng.choice(["MatMul", "Gemm", "FusedMatMul"]))
    M, K, N = (int(size) for size in rng.choice([1, 2, 3, 5, 9, 17, 33], 3))
    A: list[int] = [M, K] if operation == "Gemm" else [[K], [M, K], [3, M, K]][rng.integers(3)]
    B: list[int] = [K, N] if operation == "Gemm" or len(A) == 1 else [[K], [K, N], [3, K, N]][rng.integers(3)]
    attributes: dict[str, Any] = {}
    if operation != "MatMul":
        attributes = {"transA": int(rng.integers(2)), "transB": int(rng.integers(2))}
        attributes |= {"alpha": float(rng.choice([1, 1, 1, 0.3]))}
        A, B = (
            [*shape[:-2], shape[-1], shape[-2]] if attributes[f"trans{name}"] and len(shape) > 1 else shape
            for name, shape in (("A", A), ("B", B))
        )
    if operation == "Gemm":
        attributes["beta"] = float(rng.choice([1, 1, 1, -2]))
    shapes = [A, B]
    if len(B) > 1 and len(A) > 1 and rng.integers(5):
        shapes.append([[N], [1, N], [M, 1], [M, N], [1]][rng.choice(5, p=[0.6, 0.1, 0.1, 0.1, 0.1])])
    return operation, [rng.standard_normal(shape).astype(dtype) for shape in shapes], attributes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@in_one_test("seed", range(300))
def test_sums_begin_with_a_bias_if_both_it_and_the_matrix_are_constant_or_the_matrix_is_not(
    seed: int, dtype: Any
) -> None:
    rng = np.random.default_rng(seed)
    operation, inputs, attributes = drawn(rng, dtype)
    constants = [place for place in range(1, len(inputs)) if rng.integers(3)]
    for given in (inputs, [extremes(a.dtype, *a.shape) for a in inputs]):
        found = run_lowered(operation, given, attributes, constants)
        if dtype == np.float64 and (1 not in constants or inputs[1].ndim != 2):
            assert found is None, "only constant matrices are packed in float64"
            continue
        assert found is not None, "it runs in NumPy"
        outputs = found[0].shape[-1:]
        begins = 1 not in constants and inputs[1].ndim == 2 and [a.shape for a in inputs[2:]] == [outputs]
        begins = begins and attributes.get("alpha", 1) == attributes.get("beta", 1) == 1
        if len(constants) == len(inputs) - 1 or begins:
            expected = OPERATIONS[operation].compute(given, attributes)
        else:  # a bias is added to the product
            expected = OPERATIONS[operation].compute(given[:2], attributes)
            for bias in given[2:]:
                beta = dtype(attributes.get("beta", 1))
                scaled = OPERATIONS["Mul"].compute([beta, bias], {})
                expected = OPERATIONS["Add"].compute([*expected, *scaled], {})
        if begins:  # a sum of zeros that are all negative may be 0
            found, expected = [found[0] + 0], [expected[0] + 0]
        assert bits(found[0]) == bits(expected[0]), (operation, attributes, constants)


@pytest.mark.parametrize("matrices", [1, 3, 40])
@in_one_test("seed", range(8))
def test_threads_that_share_a_product_confuse_neither_its_rows_nor_its_matrices(
    seed: int, matrices: int
) -> None:
    rng = np.random.default_rng(seed)
    trans = {"transA": seed % 2, "transB": seed // 2 % 2}
    M, N = (int(size) for size in rng.integers([1, 65, 50][seed % 3], [5, 150, 300][seed % 3], 2))
    K = 400_000 // (matrices * M * N) + 30  # enough work to share
    shapes = [(matrices, M, K), (1 if seed // 4 else matrices, K, N)]
    inputs = [
        rng.standard_normal((*shape[:-2], *shape[-2:][:: -1 if is_transposed else 1])).astype(np.float32)
        for shape, is_transposed in zip(shapes, trans.values(), strict=True)
    ]
    expected = OPERATIONS["FusedMatMul"].compute(inputs, trans)[0]
    for threads in (1, 2, 3):
        with onward.num_threads(threads):
            found = run_lowered("FusedMatMul", inputs, trans)
        assert found is not None
        assert bits(found[0]) == bits(expected), (trans, shapes, threads)
