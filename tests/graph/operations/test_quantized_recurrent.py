"""DynamicQuantizeLSTM in the core matches NumPy, with the same bits on every instruction set."""

from typing import Any

import numpy as np
import pytest
from onnx import helper
from support.evaluate import meaning
from support.onnx_nodes import draw_quantized, model_of, open_model
from support.running import runs_in_core, weights_of

import onward
from onward import _core
from onward.graph import Model

RNG = np.random.default_rng(0)


def model(T: int, B: int, H: int, direction: str) -> tuple[Any, dict[str, Any]]:
    """A layer with a scale and a zero point for each direction and initial states as inputs."""
    D, features = 1 + (direction == "bidirectional"), 5

    def normal(*shape: int) -> Any:
        return RNG.standard_normal(shape).astype(np.float32)

    constants = {
        "W": RNG.integers(0, 256, (D, features, 4 * H)).astype(np.uint8),
        "R": RNG.integers(0, 256, (D, H, 4 * H)).astype(np.uint8),
        "B": normal(D, 8 * H),
        "W_scale": np.full(D, 0.005, np.float32),
        "W_zero": np.full(D, 131, np.uint8),
        "R_scale": np.full(D, 0.1 / H, np.float32),
        "R_zero": np.full(D, 126, np.uint8),
    }
    feeds = {"X": normal(T, B, features), "h": normal(D, B, H), "c": normal(D, B, H)}
    names = ["X", "W", "R", "B", "", "h", "c", "", "W_scale", "W_zero", "R_scale", "R_zero"]
    outputs = ["Y", "Y_h", "Y_c"]
    node = helper.make_node(
        "DynamicQuantizeLSTM", names, outputs, domain="com.microsoft", direction=direction, hidden_size=H
    )
    proto = model_of([node], feeds, outputs, constants)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return proto, feeds


def planned(graph: Model, feeds: dict[str, Any]) -> Any:
    """Run a graph, and check that nothing ran in NumPy."""
    results = graph(**feeds)
    assert runs_in_core(graph, *feeds.values())
    return results


CASES = [
    (1, 1, 1, "forward"),
    (50, 1, 33, "reverse"),
    (7, 17, 7, "bidirectional"),
    (5, 130, 33, "bidirectional"),
]


@pytest.mark.parametrize(("T", "B", "H", "direction"), CASES)
def test_layers_match_numpy_with_the_same_bits_everywhere(T: int, B: int, H: int, direction: str) -> None:
    proto, feeds = model(T, B, H, direction)
    expected = meaning(open_model(proto), *feeds.values())
    before, results = _core.isa(), []
    for isa in _core.available_isas():
        _core.set_isa(isa)
        for threads in (1, 2):
            with onward.num_threads(threads):
                results.append(planned(open_model(proto), feeds))
    _core.set_isa(before)
    for mine in results:
        for a, first, b in zip(mine, results[0], expected, strict=True):
            np.testing.assert_array_equal(a, first)
            # a state halfway between two bytes may round either way
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-3)


def test_layers_with_options_match_numpy(isa: str) -> None:
    rng, in_core = np.random.default_rng(1), 0
    for _ in range(40):
        case, _ = draw_quantized(rng)
        if "sequence_lens" in case.feeds:
            continue
        graph = open_model(case.model)
        for mine, expected in zip(
            planned(graph, case.feeds), meaning(graph, *case.feeds.values()), strict=True
        ):
            np.testing.assert_allclose(mine, expected, rtol=0, atol=0.02)
        in_core += 1
    assert in_core > 10


def test_plans_of_several_shapes_share_their_packed_weights() -> None:
    proto, feeds = model(6, 3, 7, "forward")
    graph = open_model(proto)
    graph._inputs["X"] = graph._inputs["X"]._replace(axes=None)
    for T in (6, 4, 2):
        graph(**feeds | {"X": feeds["X"][:T]})
    assert len(weights_of(graph).packed) == 1


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_traces_record_the_gates_of_quantized_layers(direction: str) -> None:
    proto, feeds = model(5, 3, 7, direction)
    graph = open_model(proto)
    trace = graph.trace(*feeds.values(), preactivations=True)
    y, _, _ = graph(**feeds)
    suffixes = {"forward": [""], "reverse": ["_reverse"], "bidirectional": ["", "_reverse"]}[direction]
    for d, suffix in enumerate(suffixes):
        own = {
            name: trace[f"l0{suffix}.{name}"] for name in ("i", "f", "g", "o", "c", "h", "o_preactivation")
        }
        np.testing.assert_allclose(own["h"], y[:, d], atol=2e-6)
        before = np.concatenate([feeds["c"][d : d + 1], own["c"][:-1]])
        if suffix:
            before = np.concatenate([own["c"][1:], feeds["c"][d : d + 1]])
        np.testing.assert_allclose(own["f"] * before + own["i"] * own["g"], own["c"], atol=1e-6)
        np.testing.assert_allclose(own["o"] * np.tanh(own["c"]), own["h"], atol=1e-6)
        np.testing.assert_allclose(1 / (1 + np.exp(-own["o_preactivation"])), own["o"], atol=1e-6)
