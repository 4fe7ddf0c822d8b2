"""Steps on integers, booleans and float64 give the same bits as NumPy, for all layouts."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_nodes import model_of, open_model
from support.running import runs_in_core

from onward.errors import ArgumentError, DtypeError

RNG = np.random.default_rng(0)
DTYPES = ["float32", "float64", "int32", "int64", "int8", "uint8", "bool"]
CODES = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in DTYPES}


def random(dtype: str, *shape: int) -> Any:
    return np.asarray(RNG.standard_normal(shape) * 40).astype(np.int64).astype(dtype)


def check(nodes: list[Any], inputs: dict[str, Any], expected: Any, weights: Any = None) -> None:
    """Check that the whole model runs in the core, twice, and returns exactly the expected array."""
    graph = open_model(model_of(nodes, inputs, ["y"], weights or {}))
    for _ in range(2):
        (y,) = graph(**inputs)
        assert y.dtype == expected.dtype
        np.testing.assert_array_equal(y, expected)
    assert runs_in_core(graph, *inputs.values())


# Layouts of an operand (4, 3, 5): as it is, transposed, and with one axis reversed.
LAYOUTS: list[tuple[list[Any], Callable[[Any], Any]]] = [
    ([], lambda x: x),
    ([helper.make_node("Transpose", ["x"], ["t"], perm=[2, 0, 1])], lambda x: x.transpose(2, 0, 1)),
    ([helper.make_node("Slice", ["x", "end", "start", "last", "back"], ["t"])], lambda x: x[..., ::-1]),
]
REVERSAL = {
    **{"end": np.array([-1]), "start": np.array([-99]), "last": np.array([2]), "back": np.array([-1])},
}


@pytest.mark.parametrize(("source", "target"), list(itertools.product(DTYPES, DTYPES)))
def test_casts_match_numpy(source: str, target: str) -> None:
    x = random(source, 4, 3, 5)
    for nodes, layout in LAYOUTS:
        nodes = [*nodes, helper.make_node("Cast", ["t" if nodes else "x"], ["y"], to=CODES[target])]
        check(nodes, {"x": x}, layout(x).astype(target), REVERSAL)


def test_a_cast_of_numbers_out_of_range_is_defined() -> None:
    x = np.array(
        [np.nan, np.inf, -np.inf, 3e9, -3e9, 1e30, -2147483648.0, 2147483520.0, 300.7, -1.5], np.float32
    )
    low = np.iinfo(np.int32).min
    expected = [low, low, low, low, low, low, low, 2147483520, 300, -1]
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT32)]
    check(nodes, {"x": x}, np.array(expected, np.int32))


ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Min": np.minimum, "Max": np.maximum}
COMPARISONS = {
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
}
OPERANDS: list[Callable[[Any], Any]] = [
    *(lambda shape: shape, lambda shape: (shape[1], 1), lambda shape: shape[2:], lambda shape: ()),
    lambda shape: (2, 1, *shape[1:]),
]


@pytest.mark.parametrize("operation", [*ARITHMETIC, *COMPARISONS])
@pytest.mark.parametrize("dtype", DTYPES[1:-1])
def test_binary_operations_match_numpy_with_broadcasting(operation: str, dtype: str) -> None:
    function = (ARITHMETIC | COMPARISONS)[operation]
    x = random(dtype, 4, 3, 5)
    for shape_of, (nodes, layout) in itertools.product(OPERANDS, LAYOUTS):
        a = layout(x)
        b = random(dtype, *shape_of(a.shape))
        name = "t" if nodes else "x"
        for operands, expected in ((name, "b"), function(a, b)), (("b", name), function(b, a)):
            check(
                [*nodes, helper.make_node(operation, operands, ["y"])], {"x": x, "b": b}, expected, REVERSAL
            )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_comparisons_with_nan_are_false(dtype: str) -> None:
    x = np.array([np.nan, 1, np.nan, -np.inf], dtype)
    y = np.array([1, np.nan, np.nan, np.inf], dtype)
    for operation, function in COMPARISONS.items():
        check([helper.make_node(operation, ["x", "z"], ["y"])], {"x": x, "z": y}, function(x, y))


def test_integer_arithmetic_wraps() -> None:
    for dtype in ("int32", "int64", "int8", "uint8"):
        limits = np.iinfo(dtype)
        x, z = np.array([limits.max, limits.min], dtype), np.array([7, 9], dtype)
        for operation in ("Add", "Sub", "Mul"):
            with np.errstate(over="ignore"):
                expected = ARITHMETIC[operation](x, z)
            check([helper.make_node(operation, ["x", "z"], ["y"])], {"x": x, "z": z}, expected)


LOGICAL = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}


@pytest.mark.parametrize("operation", LOGICAL)
def test_logical_operations_match_numpy(operation: str) -> None:
    x, z = RNG.random((4, 3, 5)) < 0.5, RNG.random((4, 1, 5)) < 0.5
    nodes = [helper.make_node(operation, ["x", "z"], ["w"]), helper.make_node("Not", ["w"], ["y"])]
    check(nodes, {"x": x, "z": z}, ~LOGICAL[operation](x, z))


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_matches_numpy(dtype: str) -> None:
    condition = RNG.random((3, 1)) < 0.5
    for shape, other in itertools.product([(4, 3, 5), (5,), ()], [(4, 1, 5), (1,)]):
        a, b = random(dtype, *shape), random(dtype, *other)
        nodes = [helper.make_node("Where", ["c", "a", "b"], ["y"])]
        check(nodes, {"c": condition, "a": a, "b": b}, np.where(condition, a, b))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_gathering_with_computed_indices_matches_numpy(dtype: str, axis: int, index: str) -> None:
    x = random(dtype, 7, 3, 5)
    n = x.shape[axis]
    for shape in [(1,), (4,), (2, 3), (1, 1, 2)]:
        indices = RNG.integers(-n, n, shape).astype(index)
        nodes = [
            helper.make_node("Sub", ["i", "one"], ["j"]),
            helper.make_node("Gather", ["x", "j"], ["y"], axis=axis),
        ]
        check(nodes, {"x": x, "i": indices + 1}, np.take(x, indices, axis), {"one": np.array(1, index)})


def test_an_embedding_reads_its_rows_in_the_core() -> None:
    table = RNG.standard_normal((11, 7)).astype(np.float32)
    tokens = RNG.integers(-11, 11, (5, 3))
    check([helper.make_node("Gather", ["E", "x"], ["y"])], {"x": tokens}, table[tokens], {"E": table})


@pytest.mark.parametrize("index", [11, -12, 2**40, -(2**62)])
def test_an_index_out_of_range_raises_an_error_that_names_the_node(index: int) -> None:
    nodes = [helper.make_node("Gather", ["E", "x"], ["y"])]
    graph = open_model(model_of(nodes, {"x": np.zeros(3, int)}, ["y"], {"E": np.ones((11, 2), np.float32)}))
    graph(np.zeros(3, int))
    with pytest.raises(ArgumentError, match=rf"Gather.*index {index} is out of range for an axis of size 11"):
        graph(np.array([0, index, 1]))
    assert graph(np.zeros(3, int))[0].shape == (3, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_movements_keep_every_dtype(dtype: str) -> None:
    x = random(dtype, 4, 3, 5)
    nodes = [
        helper.make_node("Pad", ["x", "pads", "value"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["b", "shape"], ["c"]),
        helper.make_node("Concat", ["c", "c"], ["y"], axis=0),
    ]
    value = np.array(1, dtype)
    padded = np.pad(x, [(1, 0), (0, 0), (0, 2)], constant_values=value)
    expected = np.tile(padded.transpose(1, 0, 2).reshape(15, 7), (2, 1))
    weights = {"pads": np.array([1, 0, 0, 0, 0, 2]), "value": value, "shape": np.array([15, 7])}
    check(nodes, {"x": x}, expected, weights)


@pytest.mark.parametrize(
    "operator", ["Add", "Mul", "Max", "Sum", "Less", "And", "MatMul", "Gemm", "Concat", "Where", "Einsum"]
)
def test_mixed_dtypes_are_an_error_that_names_the_node(operator: str) -> None:
    options = {"Concat": {"axis": 0}, "Einsum": {"equation": "ij,jk->ik"}}.get(operator, {})
    inputs = {"a": random("float32", 4, 4), "b": random("float64", 4, 4)}
    condition = {"c": random("bool", 4, 4)} if operator == "Where" else {}
    node = helper.make_node(operator, [*condition, *inputs], ["y"], name="mixed", **options)
    graph = open_model(model_of([node], condition | inputs, ["y"], {}))
    with pytest.raises(DtypeError, match=r"node mixed .*float32, float64; expected one dtype"):
        graph(**condition, **inputs)


def test_powers_take_exponents_of_any_dtype() -> None:
    x, exponent = random("float64", 4, 5), random("int32", 5) % 3
    node = helper.make_node("Pow", ["x", "exponent"], ["y"])
    (y,) = open_model(model_of([node], {"x": x, "exponent": exponent}, ["y"], {}))(x=x, exponent=exponent)
    np.testing.assert_array_equal(y, x**exponent)
