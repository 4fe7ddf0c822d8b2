"""Layers of whole models are traced under the names of their modules, not of the nodes of a file."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import onward
from onward.tracing.names import layer_name
from onward.tracing.trace import LayerSummary


@pytest.mark.parametrize(
    ("node", "suffix", "cell", "layer"),
    [
        ("/decoder/rnn/LSTM", "l0", "LSTM", "decoder.rnn.l0"),
        ("/encoder/GRU_2", "l0_reverse", "GRU", "encoder.l2_reverse"),
        ("/decoder/decoder.1/GRU", "l0", "GRU", "decoder.1.l0"),
        ("/LSTM_1", "l0", "LSTM", "LSTM.l1"),
        ("/cell_3/Mul_2", "l0", "LSTM", "cell_3.l0"),
        ("/Tanh", "l0", "RNN", "RNN.l0"),
        ("/encoder/LSTM", "l1", "LSTM", "encoder.LSTM.l1"),
        ("node_LSTM_112", "l0", "LSTM", "LSTM.l0"),
        ("node_gru__1", "l0", "GRU", "GRU.l0"),
        ("node_mul_17", "l0", "LSTM", "LSTM.l0"),
        ("MatMul_0_Y_LSTM", "l0", "LSTM", "LSTM.l0"),
        ("LSTM__354", "l0_reverse", "LSTM", "LSTM.l0_reverse"),
        ("GRU_153", "l0", "GRU", "GRU.l0"),
        ("GRU_2", "l0", "GRU", "GRU_2.l0"),
        ("encoder_LSTM", "l0", "LSTM", "encoder_LSTM.l0"),
        ("lstm_4", "l0", "LSTM", "lstm_4.l0"),
        ("encoder/lstm_2", "l0", "LSTM", "encoder/lstm_2.l0"),
        ("model/lstm_2", "l0", "LSTM", "model/lstm_2.l0"),
        ("model_2/lstm_6/mul_2", "l0", "LSTM", "lstm_6.l0"),
        ("functional_7_1/unrolled_1/gru_cell_5/add_4", "l0", "GRU", "unrolled_1.l0"),
        ("mul_2;functional_3/lstm_4/lstm_cell_4/StatefulPartitionedCall/mul_2", "l0", "LSTM", "lstm_4.l0"),
        ("lstm_cell_1", "l0", "LSTM", "lstm_cell_1.l0"),
        ("while", "l0", "GRU", "GRU.l0"),
        ("sequential_1/gru_1/while_loop", "l0", "GRU", "gru_1.l0"),
        ("tfl.unidirectional_sequence_lstm1", "l0", "LSTM", "LSTM.l0"),
        ("", "l0", "GRU", "GRU.l0"),
    ],
)
def test_name_of_a_node_instead_of_that_of_a_module(node: str, suffix: str, cell: str, layer: str) -> None:
    assert layer_name(node, suffix, cell) == layer


def onnx_lstms(path: Path, *modules: str) -> None:
    """Write an ONNX file of LSTMs whose nodes are named as by the exporter of PyTorch, with their modules."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for number, module in enumerate(modules):
        for name, columns in (("W", 4), ("R", 4)):
            array = rng.normal(size=(1, 16, columns)).astype(np.float32)
            weights.append(onnx.numpy_helper.from_array(array, f"{name}{number}"))
        names = [f"x{number}", f"W{number}", f"R{number}"]
        node = helper.make_node(
            "LSTM", names, [f"y{number}"], f"node_LSTM_{number + 7}" if module else "", hidden_size=4
        )
        if module:
            scopes = ["", *module.split("/"), "lstm"]
            node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(scopes))
        squeeze = helper.make_node("Squeeze", [f"y{number}", "axis"], [f"x{number + 1}"])
        nodes += [node, squeeze]
    weights.append(onnx.numpy_helper.from_array(np.array([1]), "axis"))
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["time", "batch", 4])
        for name in ("x0", f"x{len(modules)}")
    ]
    graph = helper.make_graph(nodes, "lstms", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)


def test_file_with_modules_beside_its_nodes_or_nodes_without_names(tmp_path: Path) -> None:
    onnx_lstms(tmp_path / "net.onnx", "encoder", "encoder", "decoder/decoder.rnn", "", "")
    trace = onward.load(tmp_path / "net.onnx").trace(np.ones((5, 2, 4), np.float32))
    assert list(trace.layers) == ["encoder.l0", "encoder.l1", "decoder.rnn.l0", "LSTM.l0", "LSTM_2.l0"]
    np.testing.assert_array_equal(trace["LSTM_2.l0.h"], trace.y)


def test_summary_that_calls_an_open_gate_a_memory() -> None:
    assert "memory" not in "".join((*LayerSummary._fields, LayerSummary.__doc__ or ""))
