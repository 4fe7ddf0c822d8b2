"""Which operations run in NumPy, with the reason for each; the steps of the others beside naive NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.in_numpy import LEFT, WITHOUT_STEPS, in_numpy
from support.lowering import run_lowered
from support.randomized import random_cases

from onward.graph import Graph, Model
from onward.graph.operations import OPERATIONS
from onward.graph.operations.modules import MODULES

INTEGERS = ("int8", "uint8", "int32", "int64")
Array = NDArray[Any]


def has_no_steps(name: str) -> bool:
    operation = OPERATIONS[name]
    return operation.lower is None and operation.expand is None and not operation.moves


def test_the_operations_without_steps_are_listed_with_a_reason() -> None:
    assert {name for name in MODULES if has_no_steps(name)} == WITHOUT_STEPS.keys()
    assert all(WITHOUT_STEPS.values())


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_to_numpy_is_left_there(name: str) -> None:
    reason, case = LEFT[name]
    assert reason
    if case is not None:
        inputs, attributes, known = case
        assert run_lowered(name, inputs, attributes, known) is None


def drawn(rng: Any, dtype: str, *shape: int) -> Array:
    """Numbers of a dtype, many of them equal, with its limits."""
    if dtype.startswith("float"):
        return rng.integers(-4, 5, shape).astype(dtype) / 2
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    x = rng.integers(0 if dtype == "uint8" else -3, 6, shape).astype(dtype)
    x[rng.random(shape) < 0.1] = np.iinfo(dtype).min
    x[rng.random(shape) < 0.1] = np.iinfo(dtype).max
    return x


def truncated(a: Array, b: Array) -> Array:
    """The quotients rounded toward zero, from Python's integers."""
    return np.array(
        [int(abs(x) // abs(y)) * (1 if (x < 0) == (y < 0) else -1) if y else 0 for x, y in pairs(a, b)],
        object,
    ).reshape(a.shape)


def pairs(a: Array, b: Array) -> list[tuple[int, int]]:
    return list(zip(a.astype(object).ravel(), b.astype(object).ravel(), strict=True))


def wrapped(numbers: Array, dtype: str) -> Array:
    """Python's integers modulo the size of a dtype."""
    unsigned = np.array([int(x) % (1 << 8 * np.dtype(dtype).itemsize) for x in numbers.ravel()], np.uint64)
    return unsigned.astype(f"uint{8 * np.dtype(dtype).itemsize}").view(dtype).reshape(numbers.shape)


def ranked(x: Array, k: int, axis: int, largest: int) -> list[Array]:
    """The first k elements of each row in order, and their places: lower places first among equals."""
    rows = np.moveaxis(x, axis, -1)
    places = np.empty((*rows.shape[:-1], k), np.int64)
    for row in np.ndindex(rows.shape[:-1]):
        values = rows[row].tolist()
        order = sorted(
            range(len(values)), key=lambda i: ((-int(values[i]) if largest else int(values[i])), i)
        )
        places[row] = order[:k]
    values = np.take_along_axis(rows, places, -1)
    return [np.moveaxis(values, -1, axis), np.moveaxis(places, -1, axis)]


def check(name: str, inputs: list[Any], attributes: Any, expected: list[Any], known: Any = ()) -> None:
    found = run_lowered(name, inputs, attributes, known)
    assert found is not None, "it runs in NumPy"
    for mine, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, wanted, strict=True)
    for mine, meaning in zip(found, OPERATIONS[name].compute(inputs, attributes), strict=True):
        np.testing.assert_array_equal(mine, meaning, strict=True)


def top_k(rng: Any, x: Array, axis: int) -> None:
    k, largest = int(rng.integers(1, x.shape[axis] + 1)), int(rng.integers(2))
    x = x if x.dtype.kind in "iub" else (x * 2).astype(np.int32)
    check("TopK", [x, np.array([k])], {"axis": axis, "largest": largest}, ranked(x, k, axis, largest), [1])


def arg_max(rng: Any, x: Array, axis: int) -> None:
    last, keep = int(rng.integers(2)), int(rng.integers(2))
    name, best = [("ArgMax", np.max), ("ArgMin", np.min)][rng.integers(2)]
    is_best = x == best(x, axis, keepdims=True)
    n = x.shape[axis]
    y = n - 1 - np.flip(is_best, axis).argmax(axis) if last else is_best.argmax(axis)
    y = np.expand_dims(y, axis) if keep else y
    check(name, [x], {"axis": axis, "select_last_index": last, "keepdims": keep}, [y])


def sums(rng: Any, x: Array, axis: int) -> None:
    if x.dtype == bool:
        return
    total = np.cumsum(x.astype(object if x.dtype.kind in "iu" else x.dtype), axis)
    y = wrapped(total, x.dtype.name) if x.dtype.kind in "iu" else total
    check("CumSum", [x, np.array(axis)], {}, [y], [1])


def extrema(rng: Any, x: Array, axis: int) -> None:
    if x.dtype == np.float64:
        return
    x = x + 0 if x.dtype.kind == "f" else x
    keep = int(rng.integers(2))
    for name, function in (("ReduceMax", np.max), ("ReduceMin", np.min)):
        check(name, [x, np.array([axis])], {"keepdims": keep}, [function(x, axis, keepdims=bool(keep))], [1])


def quotients(rng: Any, x: Array, axis: int) -> None:
    if x.dtype.kind not in "iu":
        return
    dtype = x.dtype.name
    b = drawn(rng, dtype, *x.shape)
    whole = truncated(x, b)
    rest = x.astype(object) - whole * b.astype(object)
    modulo = rest + b.astype(object) * ((rest != 0) & ((rest < 0) != (b < 0)) & (b != 0))
    check("Div", [x, b], {}, [wrapped(whole, dtype)])
    check("Mod", [x, b], {"fmod": 1}, [wrapped(rest, dtype)])
    b[b == 0] = 3
    whole = truncated(x, b)
    rest = x.astype(object) - whole * b.astype(object)
    modulo = rest + b.astype(object) * ((rest != 0) & ((rest < 0) != (b < 0)))
    check("Mod", [x, b], {}, [wrapped(modulo, dtype)])


def unary(rng: Any, x: Array, axis: int) -> None:
    if x.dtype == np.float64:
        check("Sqrt", [abs(x)], {}, [np.sqrt(abs(x))])
        check("Reciprocal", [x + 5], {}, [1 / (x + 5)])
    if x.dtype.kind in "iu":
        numbers = x.astype(object)
        check("Abs", [x], {}, [wrapped(abs(numbers), x.dtype.name)])
        check("Neg", [x], {}, [wrapped(-numbers, x.dtype.name)])
        check("Sign", [x], {}, [np.sign(x)])
        check("BitwiseNot", [x], {}, [wrapped(-1 - numbers, x.dtype.name)])
        check("Pow", [x, np.array(3)], {}, [wrapped(numbers**3, x.dtype.name)], [1])
    if x.dtype == bool:
        check("BitwiseNot", [x], {}, [~x])
        check("BitwiseXor", [x, x[::-1]], {}, [x != x[::-1]])


def masks(rng: Any, x: Array, axis: int) -> None:
    k = int(rng.integers(-3, 4))
    m, n = x.shape[-2:]
    upper = np.array([[j - i >= k for j in range(n)] for i in range(m)])
    check(
        "Trilu", [x, np.array(k)], {"upper": 1}, [np.where(upper, x, np.zeros_like(x))], rng.choice([0, 1], 1)
    )
    lower = np.array([[j - i <= k for j in range(n)] for i in range(m)])
    check("Trilu", [x, np.array(k)], {"upper": 0}, [np.where(lower, x, np.zeros_like(x))])
    depth, values = int(rng.integers(1, 6)), drawn(rng, x.dtype.name, 2)
    indices = rng.integers(-depth - 1, depth + 2, (2, 3))
    y = np.full((2, 3, depth), values[0])
    for place in np.ndindex(2, 3):
        if -depth <= indices[place] < depth:
            y[place][indices[place]] = values[1]
    place = int(rng.integers(3))
    check("OneHot", [indices, np.array(depth), values], {"axis": place}, [np.moveaxis(y, 2, place)], [1])


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool", "float32", "float64"])
@pytest.mark.parametrize("function", [top_k, arg_max, sums, extrema, quotients, unary, masks])
def test_numbers_of_every_dtype_are_those_of_naive_loops(function: Callable[..., None], dtype: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(random_cases(3)):
        shape = rng.integers(1, 7, int(rng.integers(2, 4)))
        function(rng, drawn(rng, dtype, *shape), int(rng.integers(len(shape))))


def test_floats_out_of_the_ordinary() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0], np.float32)
    for negative, positive in ((1, 1), (1, 0), (0, 1)):
        y = (x == np.inf) & bool(positive) | (x == -np.inf) & bool(negative)
        check("IsInf", [x], {"detect_negative": negative, "detect_positive": positive}, [y])
    hard = np.array([[0, 1, 0, 0, 0]], np.float32)
    check("Hardmax", [np.array([[1, 3, 3, -np.inf, 2]], np.float32)], {}, [hard])
    rows = np.array([[1000, 1000], [-np.inf, -np.inf], [np.inf, 1]], np.float32)
    found = run_lowered("ReduceLogSumExp", [rows, np.array([1])], {"keepdims": 0}, [1])
    assert found is not None
    np.testing.assert_allclose(found[0], [1000 + np.log(2), -np.inf, np.inf], rtol=1e-6)


def test_a_constant_is_repeated_as_often_as_a_call_decides() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("n", 2))
    number = graph.add_constant(np.array(2.5, np.float32))
    graph.outputs = (graph.add("Expand", number, graph.add("Shape", x)),)
    model = Model(graph)
    for n in (3, 5):
        np.testing.assert_array_equal(model(np.zeros((n, 2))), np.full((n, 2), 2.5, np.float32))
    assert in_numpy(model, [np.zeros((3, 2), np.float32)]) == set()


def test_products_with_vectors_run_in_the_core() -> None:
    rng = np.random.default_rng(0)
    A, B, v = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 7, 5), (3, 5, 4), (5,)))
    for inputs in ([A, v], [v, B], [v, v], [A[0], v]):
        for known in ([], [1]):
            found = run_lowered("MatMul", inputs, {}, known)
            assert found is not None
            np.testing.assert_allclose(found[0], np.matmul(*inputs), rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(found[0], OPERATIONS["MatMul"].compute(inputs, {})[0], strict=True)


def test_a_product_has_the_same_bits_transposed_and_row_by_row() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        rows, terms, columns = (int(rng.integers(1, rng.choice((4, 20, 70)))) for _ in range(3))
        a, b = rng.standard_normal((2, rows, terms)), rng.standard_normal((terms, columns))
        a[rng.random(a.shape) < 0.2] *= 1e-38  # products become zeros with a sign
        a, b = a.astype(np.float32), b.astype(np.float32)
        y = bits_of_product(a, b)
        alone = [bits_of_product(a[:, row : row + 1], b) for row in range(rows)]
        np.testing.assert_array_equal(np.concatenate(alone, axis=1), y)
        np.testing.assert_array_equal(bits_of_product(b.T, a.swapaxes(1, 2)).swapaxes(1, 2), y)
        naive = np.zeros((2, rows, columns), np.float32)
        for k in range(terms):  # rounded once: float64 holds products of float32 exactly
            naive = (naive + a[:, :, k, None].astype(np.float64) * b[k]).astype(np.float32)
        np.testing.assert_allclose(y.view(np.float32), naive, rtol=1e-5, atol=1e-6)


def bits_of_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The bits of a product of inputs, in which a transposed array stays a view."""
    graph, arrays, names = Graph(), [], {}
    for name, array in (("a", a), ("b", b)):
        is_view = array.strides[-1] != array.itemsize
        arrays.append(array.swapaxes(-1, -2) if is_view else array)
        graph.add_input(name, np.float32, arrays[-1].shape)
        axes = [*range(array.ndim - 2), array.ndim - 1, array.ndim - 2]
        names[name] = graph.add("Transpose", name, perm=axes) if is_view else name
    graph.outputs = (graph.add("MatMul", *names.values()),)
    return np.asarray(Model(graph)(*arrays)).view(np.int32)
