"""Cells with options, against onnxruntime, which supports them in float32."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from support import cases
from support.cases import OPTION_CASES, Case, Inputs, options_of

from onward.core.gates import reorder

# onnxruntime approximates sigmoid, tanh and exp
TOLERANCE = 1e-5
ONNX_CASES = [case for case in OPTION_CASES if case.dtype == "float32"]
OPERATORS = {"r": "RNN", "l": "LSTM", "g": "GRU"}


def onnx_function(spec: Any) -> tuple[str, list[float]]:
    """The name of a function in ONNX, and all its parameters."""
    name, *parameters = (spec,) if isinstance(spec, str) else spec
    if name.startswith("hard_sigmoid") and not parameters:
        name, parameters = "hard_sigmoid", [0.2, 0.5] if name == "hard_sigmoid_keras2" else [1 / 6, 0.5]
    if name == "elu" and not parameters:
        parameters = [1.0]  # an omitted parameter would be taken from the next function
    return "".join(word.title() for word in name.split("_")), parameters


def onnx_layer(case: Case, inputs: Inputs, x: NDArray[Any], layer: int) -> list[NDArray[Any]]:
    """Y (T, B, D*H) and the final states of one layer."""
    suffixes = [f"_l{layer}", f"_l{layer}_reverse"][: 1 + case.bidirectional]
    D, operator = len(suffixes), OPERATORS[case.cell[0]]

    def stacked(name: str) -> NDArray[Any]:
        parts = [inputs.weights[name + suffix] for suffix in suffixes]
        if operator != "RNN":
            parts = [reorder(part, operator.lower(), "torch", "onnx") for part in parts]
        return np.stack(parts)

    options = options_of(case)
    weights = {"W": stacked("weight_ih"), "R": stacked("weight_hh")}
    weights["B"] = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    if options.get("peephole"):
        H = case.H  # from the order i f o to i o f
        order = np.r_[0:H, 2 * H : 3 * H, H : 2 * H]
        weights["P"] = np.stack([inputs.weights["weight_peephole" + s][order] for s in suffixes])
    assert inputs.h0 is not None and inputs.lengths is not None
    feeds = {"X": x, "lengths": inputs.lengths.astype(np.int32), "h0": inputs.h0[layer * D : (layer + 1) * D]}
    if inputs.c0 is not None:
        feeds["c0"] = inputs.c0[layer * D : (layer + 1) * D]

    attributes: dict[str, Any] = {
        "hidden_size": case.H,
        "direction": "bidirectional" if D == 2 else "forward",
    }
    if "clip" in options:
        attributes["clip"] = options["clip"]
    if options.get("coupled"):
        attributes["input_forget"] = 1
    if operator == "GRU":
        attributes["linear_before_reset"] = int(not case.cell.startswith("gru_reset_before"))
    functions = [onnx_function(spec) for own in cases.layer_of(case).cell.functions()[:D] for spec in own]
    attributes["activations"] = [name for name, _ in functions]
    attributes["activation_alpha"] = [parameters[0] for _, parameters in functions if parameters]
    attributes["activation_beta"] = [parameters[1] for _, parameters in functions if len(parameters) > 1]

    names = [
        name if name in weights | feeds else "" for name in ("X", "W", "R", "B", "lengths", "h0", "c0", "P")
    ]
    outputs = ["Y", "Y_h", "Y_c"] if operator == "LSTM" else ["Y", "Y_h"]
    count = 8 if operator == "LSTM" else 6
    node = helper.make_node(
        operator, names[:count], outputs, **{k: v for k, v in attributes.items() if v != []}
    )
    graph = helper.make_graph(
        [node],
        "layer",
        [
            helper.make_tensor_value_info(
                name, TensorProto.INT32 if name == "lengths" else TensorProto.FLOAT, None
            )
            for name in feeds
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    y, *states = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    return [y.transpose(0, 2, 1, 3).reshape(case.T, case.B, D * case.H), *states]


@pytest.mark.parametrize("case", ONNX_CASES, ids=lambda case: case.id)
def test_outputs_are_those_of_onnxruntime(case: Case) -> None:
    inputs = cases.inputs_of(case)
    y, finals = inputs.x, []
    for layer in range(case.layers):
        y, *states = onnx_layer(case, inputs, y, layer)
        finals.append(states)
    theirs = [y, *map(np.concatenate, zip(*finals, strict=True))]
    for mine, right in zip(cases.run(case, inputs), theirs, strict=False):
        np.testing.assert_allclose(mine, right, rtol=0, atol=TOLERANCE)
