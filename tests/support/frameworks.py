"""Outputs of PyTorch and onnxruntime for the cases, with the arguments of `oracle.run`."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onward.core.gates import reorder
from support.cases import SPATIAL, Case, Inputs, output_gradients, spatial

Answer = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]


def torch_module(case: Case, **changes: Any) -> torch.nn.RNNBase:
    """The torch.nn layer of a case."""
    options: dict[str, Any] = {
        "num_layers": case.layers,
        "bias": case.bias,
        "batch_first": case.batch_first,
        "bidirectional": case.bidirectional,
        "dtype": getattr(torch, case.dtype),
    }
    if case.cell.startswith("rnn"):
        options["nonlinearity"] = case.cell.removeprefix("rnn_")
    if case.projected:
        options["proj_size"] = case.P
    module_type = {"r": torch.nn.RNN, "l": torch.nn.LSTM, "g": torch.nn.GRU}[case.cell[0]]
    return module_type(case.I, case.H, **(options | changes))


@torch.no_grad()
def torch_answer(case: Case, inputs: Inputs) -> Answer:
    """The outputs of torch.nn, with packed sequences if there are lengths."""
    module = torch_module(case, batch_first=False)
    module.load_state_dict({name: torch.from_numpy(weight) for name, weight in inputs.weights.items()})
    x, h0, c0 = (None if a is None else torch.from_numpy(a) for a in (inputs.x, inputs.h0, inputs.c0))
    state = None if h0 is None else (h0, c0) if case.cell == "lstm" else h0
    if inputs.lengths is None:
        y, state = module(x, state)
    else:
        lengths = torch.from_numpy(inputs.lengths)
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        packed, state = module(packed, state)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, total_length=case.T)
    h, c = state if case.cell == "lstm" else (state, None)
    return y.numpy(), h.numpy(), None if c is None else c.numpy()


def torch_gradients(case: Case, inputs: Inputs) -> dict[str, NDArray[Any]]:
    """The gradients of autograd, in the order of `cases.gradients`."""
    module = torch_module(case, batch_first=False)
    module.load_state_dict({name: torch.from_numpy(weight) for name, weight in inputs.weights.items()})
    given = {"x": inputs.x, "h0": inputs.h0, "c0": inputs.c0}
    leaves = {name: torch.tensor(a).requires_grad_() for name, a in given.items() if a is not None}
    x, *state = leaves.values()
    if inputs.lengths is not None:
        x = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(inputs.lengths), enforce_sorted=False)
    y, final = module(x, tuple(state) if len(state) == 2 else state[0] if state else None)
    if inputs.lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=case.T)
    outputs = [y, *(final if case.cell == "lstm" else (final,))]
    torch.autograd.backward(outputs, [torch.tensor(d) for d in output_gradients(case)])
    return {name: leaf.grad.numpy() for name, leaf in (leaves | dict(module.named_parameters())).items()}


@torch.no_grad()
def spatial_answer(index: int, dtype: str) -> NDArray[Any]:
    """The output of torch.nn's layer in row `index` of the table SPATIAL."""
    name, arguments, options, _ = SPATIAL[index]
    _, weights, x = spatial(index, dtype)
    module = getattr(torch.nn, name)(*arguments, **options).to(getattr(torch, dtype)).eval()
    module.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    return module(torch.from_numpy(x)).numpy()


def onnx_gru_answer(case: Case, inputs: Inputs) -> Answer:
    """The outputs of onnxruntime's GRU, which resets before the product by default; one model per layer."""
    y, D, final = inputs.x, 1 + case.bidirectional, []
    for layer in range(case.layers):
        feeds = {"X": y}
        if inputs.lengths is not None:
            feeds["lengths"] = inputs.lengths.astype(np.int32)
        if inputs.h0 is not None:
            feeds["h0"] = inputs.h0[layer * D : (layer + 1) * D]
        session = onnxruntime.InferenceSession(_onnx_gru(case, inputs, layer).SerializeToString())
        y, h = session.run(None, feeds)
        y = y.transpose(0, 2, 1, 3).reshape(case.T, case.B, D * case.H)
        final.append(h)
    return y, np.concatenate(final), None


def _onnx_gru(case: Case, inputs: Inputs, layer: int) -> onnx.ModelProto:
    suffixes = [f"_l{layer}", f"_l{layer}_reverse"][: 1 + case.bidirectional]

    def stacked(name: str) -> NDArray[Any]:
        return np.stack(
            [reorder(inputs.weights[name + suffix], "gru", "torch", "onnx") for suffix in suffixes]
        )

    weights = {"W": stacked("weight_ih"), "R": stacked("weight_hh")}
    if case.bias:
        weights["B"] = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    given = {"X": TensorProto.FLOAT}
    if inputs.lengths is not None:
        given["lengths"] = TensorProto.INT32
    if inputs.h0 is not None:
        given["h0"] = TensorProto.FLOAT
    names = [
        name if name in weights or name in given else "" for name in ("X", "W", "R", "B", "lengths", "h0")
    ]
    direction = "bidirectional" if case.bidirectional else "forward"
    node = helper.make_node(
        "GRU", names, ["Y", "Y_h"], direction=direction, hidden_size=case.H, linear_before_reset=0
    )
    graph = helper.make_graph(
        [node],
        "gru",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in given.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("Y", "Y_h")],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def onnxruntime_session(model: Any, optimize: bool = True) -> onnxruntime.InferenceSession:
    """A silent session of a model or a file, on one thread.

    On processors with AVX2 but no VNNI, onnxruntime adds products of uint8 and int8 in saturating int16.
    An optimized session therefore converts constant int8 weights to uint8. onnxruntime cannot do this for
    models with int8 activations: they need a session that is not optimized.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    if optimize:
        options.add_session_config_entry("session.x64quantprecision", "1")
    else:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def onnxruntime_outputs(path: Any, inputs: Any) -> Any:
    """The outputs of an ONNX file for inputs in order."""
    session = onnxruntime_session(path)
    names = [each.name for each in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=False)))
