"""ONNX models of recurrences that are operators or scans, and of layers of Onward, for zoo.py."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import onward

STEPS = 200


def described(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def save(graph: onnx.GraphProto, opset: int, path: Path) -> None:
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=13 if opset == 27 else 10), path)


def selective_scan(path: Path, channels: int = 256, states: int = 16) -> list[np.ndarray[Any, Any]]:
    """Write h = exp(delta A) h + delta x B, y = h C + D x as a Scan; return its inputs."""
    rng, node = np.random.default_rng(0), helper.make_node
    constants = {
        "A": -np.exp(rng.standard_normal((channels, states))).astype(np.float32),
        "D": rng.standard_normal(channels).astype(np.float32),
        "first": np.array([0]),
        "second": np.array([1]),
    }
    nodes = [
        node("Unsqueeze", ["delta", "second"], ["delta_column"]),
        node("Mul", ["delta_column", "A"], ["rates"]),
        node("Exp", ["rates"], ["factors"]),
        node("Mul", ["factors", "h"], ["kept"]),
        node("Mul", ["delta", "x"], ["entering"]),
        node("Unsqueeze", ["entering", "second"], ["entering_column"]),
        node("Unsqueeze", ["B", "first"], ["B_row"]),
        node("Mul", ["entering_column", "B_row"], ["added"]),
        node("Add", ["kept", "added"], ["h_next"]),
        node("Mul", ["h_next", "C"], ["read"]),
        node("ReduceSum", ["read", "second"], ["state_part"], keepdims=0),
        node("Mul", ["x", "D"], ["skipped"]),
        node("Add", ["state_part", "skipped"], ["y"]),
    ]
    sizes = {"delta": channels, "x": channels, "B": states, "C": states}
    h = described("h", [channels, states])
    inner = [h, *(described(name, [size]) for name, size in sizes.items())]
    results = [described("h_next", [channels, states]), described("y", [channels])]
    body = helper.make_graph(nodes, "body", inner, results)
    names = [f"{name}s" for name in sizes]
    scan = node("Scan", ["h_0", *names], ["h_n", "ys"], body=body, num_scan_inputs=4)
    declared = [described("h_0", [channels, states])]
    declared += [described(name, ["T", size]) for name, size in zip(names, sizes.values(), strict=True)]
    outputs = [described("h_n", [channels, states]), described("ys", ["T", channels])]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    save(helper.make_graph([scan], "selective scan", declared, outputs, stored), 21, path)
    delta = np.exp(0.3 * rng.standard_normal((STEPS, channels)) - 3)
    others = [rng.standard_normal((STEPS, size)) for size in (channels, states, states)]
    return [x.astype(np.float32) for x in (np.zeros((channels, states)), delta, *others)]


def linear_attention(path: Path, heads: int = 4, size: int = 64) -> list[np.ndarray[Any, Any]]:
    """Write a gated delta rule as a LinearAttention; return its inputs."""
    rng = np.random.default_rng(0)
    sizes = {name: heads * size for name in ("query", "key", "value")} | {"decay": heads, "beta": heads}
    inputs = [*[*sizes][:3], "", "decay", "beta"]
    options = {"q_num_heads": heads, "kv_num_heads": heads, "update_rule": "gated_delta"}
    node = helper.make_node("LinearAttention", inputs, ["y", "state"], **options)
    declared = [described(name, [1, "T", width]) for name, width in sizes.items()]
    outputs = [described("y", [1, "T", heads * size]), described("state", [1, heads, size, size])]
    save(helper.make_graph([node], "linear attention", declared, outputs), 27, path)
    q, k, v = rng.standard_normal((3, 1, STEPS, heads * size))
    k /= np.sqrt((k.reshape(1, STEPS, heads, size) ** 2).sum(-1)).repeat(size, -1)
    gates = -rng.random((1, STEPS, heads)), rng.random((1, STEPS, heads))
    return [x.astype(np.float32) for x in (q, k, v, *gates)]


def calm(layer: onward.LayerNormLSTM) -> onward.LayerNormLSTM:
    """Weaken the recurrence, which otherwise multiplies rounding errors from step to step."""
    small = np.full(4 * layer.hidden_size, 0.1)
    layer.load_state_dict({"norm_hh.weight": small}, strict=False)
    return layer


def layers() -> Iterator[onward.layers.recurrence.Recurrence]:
    """Yield the layers beyond torch.nn, of 256 units or features."""
    yield onward.MinGRU(64, 256, rng=0)
    yield onward.LRU(64, 256, rng=0)
    yield onward.RGLRU(256, rng=0)
    yield calm(onward.LayerNormLSTM(64, 256, rng=0))
    yield onward.sLSTM(64, 256, rng=0)
    yield onward.SelectiveScan(256, 16, rng=0)
    yield onward.GatedDeltaRule(256, 4, 64, rng=0)


def models(folder: Path) -> Iterator[tuple[str, Path, list[np.ndarray[Any, Any]]]]:
    """Write the models, and yield the name, the file and the inputs of each one."""
    for write in (selective_scan, linear_attention):
        path = folder / f"{write.__name__}.onnx"
        yield f"{write.__name__.replace('_', ' ')}, {STEPS} steps", path, write(path)
    rng = np.random.default_rng(0)
    for layer in layers():
        path = folder / f"{type(layer).__name__}.onnx"
        layer.export_onnx(path)
        x = rng.standard_normal((STEPS, 1, layer.input_size)).astype(np.float32)
        states = [np.zeros(shape, np.float32) for shape in layer.state_shapes(1)]
        yield f"{layer}, {STEPS} steps", path, [x, *states]
