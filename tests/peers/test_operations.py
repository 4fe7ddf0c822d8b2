"""The operations of graphs in NumPy, against the cases of ONNX's own test suite that consist of one node."""

import re
import warnings
from typing import Any

import numpy as np
import onnx
import pytest

from onward.graph.node import Signature
from onward.graph.operations import OPERATIONS

with warnings.catch_warnings():  # the suite overflows when it computes the expected outputs
    warnings.simplefilter("ignore")
    from onnx.backend.test.case import node

    ALL = node.collect_testcases(None)

EXCLUDED = {
    "test_bernoulli": "random numbers, of which the suite expects those of another generator",
    "test_dft_inverse": "the suite expects the rounding errors of a transform in float32",
    "test_resize_downsample_scales_(cubic|linear)_align_corners": "align_corners of a size that is no whole "
    "number, where the specification's text, PyTorch and onnxruntime use the whole one",
    "test_sequence_map_": "its body, a graph, runs in test_onnx_backend",
    "test_training_dropout(?!_zero_ratio)": "Dropout in training mode",
}
DTYPES = {  # attributes that are dtypes in graphs
    *("to", "dtype", "output_dtype", "output_datatype", "precision", "softmax_precision"),
}


def is_current(model: onnx.ModelProto) -> bool:
    """Whether a model is one node of the newest version of an operation of graphs."""
    (first, *others), domain = model.graph.node, model.graph.node[0].domain
    if others or domain not in ("", "com.microsoft") or first.op_type not in OPERATIONS:
        return False
    versions = {opset.domain: opset.version for opset in model.opset_import}
    return bool(onnx.defs.get_schema(first.op_type, domain).since_version <= versions[domain])


CASES = {
    case.name: case
    for case in ALL
    if is_current(case.model) and not any(re.match(pattern, case.name) for pattern in EXCLUDED)
}


def attributes_of(proto: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node as graphs hold them."""
    attributes = {}
    for attribute in proto.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, onnx.TensorProto):
            value = onnx.numpy_helper.to_array(value)
        elif attribute.name in DTYPES:
            value = onnx.helper.tensor_dtype_to_np_dtype(value)
        attributes[attribute.name] = value
    return attributes


def as_value(value: Any) -> Any:
    """A value of a case as graphs hold it: arrays of strings have the dtype object."""
    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    if isinstance(value, np.generic):
        value = np.asarray(value)
    return value.astype(object) if isinstance(value, np.ndarray) and value.dtype.kind in "SU" else value


def arguments(case: Any, inputs: Any) -> list[Any]:
    values = dict(zip((i.name for i in case.model.graph.input), map(as_value, inputs), strict=True))
    return [values[name] if name else None for name in case.model.graph.node[0].input]


def assert_same(mine: Any, theirs: Any, case: Any) -> None:
    assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
    if mine.dtype.kind in "OSU":
        assert mine.tolist() == theirs.tolist()
    else:
        mine, theirs = (a.astype(np.float64) if a.dtype.kind == "V" else a for a in (mine, theirs))
        np.testing.assert_allclose(mine, theirs, rtol=case.rtol, atol=case.atol)


@pytest.mark.parametrize("name", CASES)
def test_the_outputs_are_those_of_the_suite(name: str) -> None:
    case = CASES[name]
    proto = case.model.graph.node[0]
    for inputs, expected in case.data_sets:
        found = OPERATIONS[proto.op_type].compute(arguments(case, inputs), attributes_of(proto))
        assert len(found) >= len(expected)
        used = [mine for mine, output in zip(found, proto.output, strict=False) if output]
        for mine, theirs in zip(used, map(as_value, expected), strict=True):
            if isinstance(theirs, np.ndarray):
                assert_same(mine, theirs, case)
            else:
                np.testing.assert_equal(mine, theirs)


@pytest.mark.parametrize("name", CASES)
def test_the_signatures_are_those_of_the_outputs(name: str) -> None:
    case = CASES[name]
    proto = case.model.graph.node[0]
    operation = OPERATIONS[proto.op_type]
    if operation.shape_inputs is None and not operation.is_pure:
        pytest.skip("the node must run to show the shapes of its outputs")
    for inputs, expected in case.data_sets:
        values, expected = arguments(case, inputs), list(map(as_value, expected))
        if not all(value is None or isinstance(value, np.ndarray) for value in [*values, *expected]):
            pytest.skip("sequences have no signature")
        if operation.shape_inputs is None:
            known, unknown = values, [value is not None and Signature.of(value) for value in values]
            assert operation.signatures(unknown, attributes_of(proto)) is None
        else:
            known = [
                value if value is None or i in operation.shape_inputs else Signature.of(value)
                for i, value in enumerate(values)
            ]
        found = operation.signatures(known, attributes_of(proto))
        assert found is not None
        used = [mine for mine, output in zip(found, proto.output, strict=False) if output]
        assert used == [Signature.of(theirs) for theirs in expected]


def test_most_operations_have_a_case() -> None:
    tested = {case.model.graph.node[0].op_type for case in CASES.values()}
    assert len(tested) > 100
