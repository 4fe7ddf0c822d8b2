"""Every operator that the onnx package runs, and those of optional values, match onnxruntime."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.backend.test.case.node import collect_testcases
from support.frameworks import onnxruntime_session
from support.onnx_nodes import normal, open_model

from onward.formats.onnx.reference import OPERATORS as REFERENCE

OPERATORS = REFERENCE | {
    *("Optional", "OptionalGetElement", "OptionalHasElement", "SequenceEmpty", "SequenceConstruct"),
    *("SequenceLength", "SequenceAt", "SequenceErase", "SequenceInsert", "ConcatFromSequence"),
    *("SplitToSequence", "SequenceMap", "StringConcat", "StringSplit"),
}  # the last ones are Onward's own


class Case(NamedTuple):
    """A model and its inputs, by name."""

    name: str
    model: onnx.ModelProto
    inputs: dict[str, Any]


def operators_of(model: onnx.ModelProto) -> set[str]:
    """The operators in a model that are tested here, with their domains."""
    return {f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in model.graph.node} & OPERATORS


def suite() -> Iterator[Case]:
    """The cases of the onnx package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite overflows when it computes expected outputs
        cases = collect_testcases(None)
    for case in cases:
        if operators_of(case.model) and "_expanded" not in case.name:
            names = [value.name for value in case.model.graph.input]
            for inputs, _ in case.data_sets:
                yield Case(case.name, case.model, dict(zip(names, inputs, strict=True)))


def composed(
    name: str, nodes: list[onnx.NodeProto], inputs: dict[str, Any], output: Any, opset: int = 18
) -> Case:
    """A case whose output has a type, or is a tensor of a data type."""
    if isinstance(output, int):
        output = helper.make_tensor_type_proto(output, None)
    declared = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    graph = helper.make_graph(nodes, name, declared, [helper.make_value_info("y", output)])
    opsets = [helper.make_opsetid("", opset)]
    return Case(name, helper.make_model(graph, opset_imports=opsets, ir_version=9), inputs)


def sequences() -> Iterator[Case]:
    """Sequences and optional values, which exist only inside of models."""
    node = helper.make_node
    a, b = normal(2, 3), normal(4, 3)
    inputs = {"a": a, "b": b, "place": np.array(1)}
    pair = node("SequenceConstruct", ["a", "b"], ["pair"])
    floats, several = (
        TensorProto.FLOAT,
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None)),
    )
    yield composed("construct", [node("SequenceConstruct", ["a", "b"], ["y"])], inputs, several)
    yield composed("at", [pair, node("SequenceAt", ["pair", "place"], ["y"])], inputs, floats)
    for axis, new in ((0, 0), (-2, 0)):
        concat = node("ConcatFromSequence", ["pair"], ["y"], axis=axis, new_axis=new)
        yield composed("concat", [pair, concat], inputs, floats)
    stacked = node("ConcatFromSequence", ["pair"], ["y"], axis=1, new_axis=1)
    same = {"a": a, "b": 2 * a}
    yield composed("stack", [pair, stacked], same, floats)
    yield composed("erase", [pair, node("SequenceErase", ["pair", "place"], ["y"])], inputs, several)
    yield composed("erase the last", [pair, node("SequenceErase", ["pair"], ["y"])], inputs, several)
    insert = node("SequenceInsert", ["pair", "a", "place"], ["y"])
    yield composed("insert", [pair, insert], inputs, several)
    empty = node("SequenceEmpty", [], ["empty"], dtype=TensorProto.FLOAT)
    insert = node("SequenceInsert", ["empty", "a"], ["y"])
    yield composed("insert into an empty one", [empty, insert], inputs, several)
    yield composed("length", [pair, node("SequenceLength", ["pair"], ["y"])], inputs, TensorProto.INT64)
    yield composed("no length", [empty, node("SequenceLength", ["empty"], ["y"])], inputs, TensorProto.INT64)
    optional = node("Optional", ["a"], ["optional"])
    element = node("OptionalGetElement", ["optional"], ["y"])
    yield composed("optional", [optional, element], inputs, floats)
    has = node("OptionalHasElement", ["optional"], ["y"])
    yield composed("has an element", [optional, has], inputs, TensorProto.BOOL)
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    nothing = node("Optional", [], ["optional"], type=kind)
    yield composed("has no element", [nothing, has], inputs, TensorProto.BOOL)


def regions() -> Iterator[Case]:
    """RoiAlign of opset 16; onnxruntime lacks the version of opset 22, which adds only bfloat16."""
    boxes = np.array([[0, 0, 9, 9], [1.3, 2.7, 15.2, 11.9], [5, 5, 5.2, 5.1], [-3, -2, 20, 18]], np.float32)
    inputs = {"x": normal(2, 3, 13, 17), "boxes": boxes, "rows": np.array([0, 1, 1, 0])}
    for mode in ("avg", "max"):
        for transformation in ("half_pixel", "output_half_pixel"):
            for ratio in (0, 1, 3):
                node = helper.make_node(
                    "RoiAlign",
                    ["x", "boxes", "rows"],
                    ["y"],
                    mode=mode,
                    coordinate_transformation_mode=transformation,
                    sampling_ratio=ratio,
                    spatial_scale=0.5,
                    output_height=4,
                    output_width=3,
                )
                yield composed(f"{mode} {transformation} {ratio}", [node], inputs, TensorProto.FLOAT, 16)


def learned() -> Iterator[Case]:
    """Operators of classical machine learning, of which the onnx package has no cases."""
    x, categories = normal(5, 4), np.array([[1, 3], [2, 2]])
    incomplete = np.where(np.arange(20).reshape(5, 4) % 7 == 3, np.nan, x).astype(np.float32)
    numbers = [float(number) for number in normal(8)]
    for operator, inputs, attributes in (
        ("Scaler", {"x": x}, {"offset": numbers[:4], "scale": numbers[4:]}),
        ("Scaler", {"x": x}, {"offset": numbers[:1], "scale": numbers[1:2]}),
        ("Imputer", {"x": incomplete}, {"imputed_value_floats": numbers[:4], "replaced_value_float": np.nan}),
        ("Imputer", {"x": x}, {"imputed_value_floats": numbers[:1], "replaced_value_float": float(x[0, 0])}),
        ("OneHotEncoder", {"x": categories}, {"cats_int64s": [1, 2, 3]}),
        ("OneHotEncoder", {"x": categories.astype(np.float32)}, {"cats_int64s": [1, 2, 3]}),
        ("OneHotEncoder", {"x": categories}, {"cats_int64s": [1, 2], "zeros": 1}),
        ("FeatureVectorizer", {"x": x, "z": normal(5, 2)}, {"inputdimensions": [4, 2]}),
        ("LinearRegressor", {"x": x}, {"coefficients": numbers[:4], "intercepts": numbers[4:5]}),
        ("LinearRegressor", {"x": x}, {"coefficients": numbers, "intercepts": numbers[:2], "targets": 2}),
    ):
        node = helper.make_node(operator, list(inputs), ["y"], domain="ai.onnx.ml", **attributes)
        case = composed(operator, [node], inputs, TensorProto.FLOAT)
        case.model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
        yield case


def run(case: Case, model: Callable[..., Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the onnx package's operators warn
        return model(**case.inputs)


def expected(case: Case) -> list[Any] | None:
    """The outputs of onnxruntime, or None if it lacks this version of the operator or its locale."""
    try:
        session = onnxruntime_session(case.model)
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error) or "locale" in str(error):
            return None
        raise
    outputs: list[Any] = session.run(None, case.inputs)
    return outputs


def check(actual: Any, wanted: Any) -> None:
    if isinstance(wanted, list):
        assert len(actual) == len(wanted)
        for one, other in zip(actual, wanted, strict=True):
            check(one, other)
    elif np.asarray(wanted).dtype.kind in "OUS":
        np.testing.assert_array_equal(np.asarray(actual, object), np.asarray(wanted, object))
    else:
        assert np.asarray(actual).dtype == np.asarray(wanted).dtype
        assert np.shape(actual) == np.shape(wanted)
        tolerance = 2e-3 if np.asarray(wanted).dtype == np.float16 else 1e-4
        np.testing.assert_allclose(actual, wanted, tolerance, 1e-6)


CASES = [*suite(), *sequences(), *regions(), *learned()]


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_the_operator_gives_the_results_of_onnxruntime(operator: str) -> None:
    compared = 0
    for case in CASES:
        if operator in operators_of(case.model):
            wanted = expected(case)
            if wanted is not None:
                check(list(run(case, open_model(case.model))), wanted)
                compared += 1
    assert compared > 0
