"""Operations that draw random numbers: distributions, dtypes, seeds, and bounded requests."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_nodes import open_model

from onward.errors import LimitError, OnwardError


def model_of(operator: str, inputs: dict[str, Any], opset: int = 15, **attributes: Any) -> Any:
    node = helper.make_node(operator, list(inputs), ["y"], **attributes)
    declared = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    outputs = [helper.make_value_info("y", helper.make_tensor_type_proto(TensorProto.UNDEFINED, None))]
    graph = helper.make_graph([node], "graph", declared, outputs)
    return open_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


X = np.full((300, 700), 0.25)
LOGITS = np.log(np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 1e-30]], np.float32))
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "RandomNormal": ({}, {"shape": [300, 700], "mean": 2.0, "scale": 3.0}),
    "RandomNormalLike": ({"x": X}, {"mean": 2.0, "scale": 3.0}),
    "RandomUniform": ({}, {"shape": [300, 700], "low": 2.0, "high": 5.0}),
    "RandomUniformLike": ({"x": X}, {"low": 2.0, "high": 5.0}),
    "Bernoulli": ({"x": X}, {}),
    "Multinomial": ({"x": LOGITS}, {"sample_size": 100_000}),
}
MOMENTS = {"RandomNormal": (2, 3), "RandomUniform": (3.5, 3 / 12**0.5), "Bernoulli": (0.25, 0.1875**0.5)}


@pytest.mark.parametrize("operator", [name for name in CASES if name != "Multinomial"])
def test_numbers_have_the_mean_and_the_deviation_of_their_distribution(operator: str) -> None:
    inputs, attributes = CASES[operator]
    (y,) = model_of(operator, inputs, seed=7.0, **attributes)(**inputs)
    assert y.shape == (300, 700)
    assert y.dtype == (np.float64 if inputs else np.float32)
    np.testing.assert_allclose([y.mean(), y.std()], MOMENTS[operator.removesuffix("Like")], atol=0.02)


def test_classes_are_drawn_with_their_probabilities() -> None:
    inputs, attributes = CASES["Multinomial"]
    (y,) = model_of("Multinomial", inputs, seed=7.0, **attributes)(**inputs)
    assert y.dtype == np.int32
    frequencies = [np.bincount(row, minlength=3) / y.shape[1] for row in y]
    np.testing.assert_allclose(frequencies, np.exp(LOGITS), atol=0.01)


@pytest.mark.parametrize("operator", CASES)
def test_calls_draw_new_numbers_unless_there_is_a_seed(operator: str) -> None:
    inputs, attributes = CASES[operator]
    model = model_of(operator, inputs, **attributes)
    assert not np.array_equal(model(**inputs)[0], model(**inputs)[0])
    seeded, other = (model_of(operator, inputs, seed=seed, **attributes) for seed in (0.5, 0.25))
    np.testing.assert_array_equal(seeded(**inputs)[0], seeded(**inputs)[0])
    assert not np.array_equal(seeded(**inputs)[0], other(**inputs)[0])


@pytest.mark.parametrize("operator", CASES)
def test_the_file_chooses_the_dtype(operator: str) -> None:
    inputs, attributes = CASES[operator]
    dtype = "INT64" if operator == "Multinomial" else "DOUBLE"
    model = model_of(operator, inputs, dtype=TensorProto.DataType.Value(dtype), **attributes)
    assert model(**inputs)[0].dtype == {"INT64": np.int64, "DOUBLE": np.float64}[dtype]


@pytest.mark.parametrize("shape", [[2**40, 2**40], [-1]])
def test_shapes_of_absurd_sizes_are_refused(shape: list[int]) -> None:
    with pytest.raises(LimitError if shape[0] > 0 else OnwardError, match="node y"):
        model_of("RandomNormal", {}, shape=shape)()
