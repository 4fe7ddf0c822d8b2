"""Batch norms are folded into the weights before them, unless that changes the meaning or bits of layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.evaluate import evaluate
from support.onnx_nodes import model_of, open_model
from support.running import simplified

import onward

RNG = np.random.default_rng(0)


def norm(channels: int) -> dict[str, Any]:
    names = ("scale", "shift", "mean", "variance")
    arrays = [RNG.normal(size=channels).astype(np.float32) for _ in names]
    arrays[3] = np.abs(arrays[3]) + 0.1
    return dict(zip(names, arrays, strict=True))


def normal(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


NODES: dict[str, tuple[dict[str, Any], dict[str, Any], Any]] = {
    "Conv": ({"W": normal(6, 2, 3), "b": normal(6)}, {"group": 2}, normal(2, 4, 9)),
    "Conv without bias": ({"W": normal(5, 4, 3, 2)}, {"strides": [1, 2]}, normal(1, 4, 6, 7)),
    "ConvTranspose": ({"W": normal(4, 3, 3), "b": normal(6)}, {"group": 2, "strides": [2]}, normal(2, 4, 5)),
    "Gemm": ({"W": normal(4, 7), "b": normal(7)}, {}, normal(3, 4)),
    "Gemm with a transposed matrix": ({"W": normal(7, 4), "b": normal(1)}, {"transB": 1}, normal(3, 4)),
}


def graph(name: str, second_output: bool = False, **attributes: Any) -> Any:
    weights, own, x = NODES[name]
    operator = name.split()[0]
    channels = (
        weights["b"].size if operator == "ConvTranspose" else 7 if "Gemm" in name else weights["W"].shape[0]
    )
    constants = weights | norm(channels)
    nodes = [
        helper.make_node(operator, ["x", *weights], ["z"], **own, **attributes),
        helper.make_node("BatchNormalization", ["z", *norm(1)], ["y"], epsilon=0.01),
    ]
    return model_of(nodes, {"x": x}, ["y", "z"] if second_output else ["y"], constants), x, constants


def operations(model: Any) -> list[str]:
    return [node.operation for node in simplified(model).nodes]


@pytest.mark.parametrize("name", NODES)
def test_a_folded_batch_norm_gives_the_normalized_output(name: str) -> None:
    proto, x, constants = graph(name, second_output=True)
    apart = open_model(proto)
    assert "BatchNormalization" in operations(apart)  # another node may read z
    _, z = apart(x)
    folded = open_model(graph_without(proto, "z"))
    assert operations(folded) == [name.split()[0]]
    shape = (-1, *[1] * (z.ndim - 2))
    scale, shift, mean, variance = (
        constants[key].astype(np.float64).reshape(shape) for key in ("scale", "shift", "mean", "variance")
    )
    expected = scale * (z - mean) / np.sqrt(variance + 0.01) + shift
    np.testing.assert_allclose(folded(x)[0], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(evaluate(simplified(folded), x)[0], expected, rtol=1e-5, atol=1e-5)


def graph_without(proto: Any, output: str) -> Any:
    for place, declared in enumerate(proto.graph.output):
        if declared.name == output:
            del proto.graph.output[place]
    return proto


def test_a_scaled_product_is_not_folded() -> None:
    proto, x, _ = graph("Gemm", alpha=0.5)
    model = open_model(proto)
    assert operations(model) == ["Gemm", "BatchNormalization"]
    assert np.isfinite(model(x)[0]).all()


def test_exported_layers_keep_their_bits(tmp_path: Path) -> None:
    net = onward.Sequential(onward.Conv1d(3, 5, 3, rng=0), onward.BatchNorm1d(5))
    weights = net.state_dict()
    net.load_state_dict(weights | {"1.running_mean": normal(5), "1.weight": normal(5)})
    net.export_onnx(tmp_path / "net.onnx")
    opened = onward.load(tmp_path / "net.onnx")
    opened.save(tmp_path / "net.safetensors")
    opened.export_onnx(tmp_path / "again.onnx")
    x = normal(2, 3, 11)
    for name in ("net.onnx", "net.safetensors", "again.onnx"):
        np.testing.assert_array_equal(onward.load(tmp_path / name)(x), net(x))


def test_exported_and_saved_graphs_keep_the_bits_of_the_folded_model(tmp_path: Path) -> None:
    proto, x, _ = graph("Conv")
    model = open_model(proto)
    model.export_onnx(tmp_path / "again.onnx")
    model.save(tmp_path / "saved.safetensors")
    for name in ("again.onnx", "saved.safetensors"):
        opened = onward.load(tmp_path / name)
        assert operations(opened) == ["Conv"]
        np.testing.assert_array_equal(opened(x), model(x)[0])
