"""Linear attention and causal convolutions with states, against loops over steps and heads."""

from typing import Any

import numpy as np
import pytest
from support.linear_attention import NAMES, RULES, Attention, normal
from support.randomized import random_cases
from support.running import runs_in_core

from onward.errors import OnwardError
from onward.graph import Graph, Model


@pytest.mark.parametrize("seed", range(random_cases(40)))
def test_the_core_runs_every_rule_as_a_loop_does(seed: int) -> None:
    attention = Attention(seed)
    model = Model(attention.graph())
    inputs = [attention.inputs[name] for name in NAMES if name in attention.inputs]
    for y, expected in zip(model(*inputs), attention.answer(), strict=True):
        np.testing.assert_allclose(y, expected, rtol=2e-4, atol=2e-5)
    assert runs_in_core(model, *inputs)


@pytest.mark.parametrize("seed", range(8))
def test_blocks_and_rows_have_the_bits_of_the_whole(seed: int) -> None:
    attention = Attention(seed, T=9)
    given, shape = dict(attention.inputs), (attention.B, attention.heads, attention.keys, attention.values)
    state = given.pop("past_state", np.zeros(shape, np.float32))
    attention.inputs["past_state"] = state
    carried = Model(attention.graph())
    y, last = carried(**given, past_state=state)
    parts = []
    for part in (slice(0, 1), slice(1, 6), slice(6, 9)):
        of_part, state = carried(**{name: x[:, part] for name, x in given.items()}, past_state=state)
        parts.append(of_part)
    np.testing.assert_array_equal(np.concatenate(parts, 1), y)
    np.testing.assert_array_equal(state, last)
    row = carried(**{name: x[-1:] for name, x in attention.inputs.items()})
    np.testing.assert_array_equal(row[0], y[-1:])


def layer(rule: str) -> Model:
    """A causal convolution and linear attention over x (B, T, 6)."""
    rng, graph = np.random.default_rng(1), Graph()
    x = graph.add_input("x", np.float32, ("batch", "time", 6))

    def project(x: str, units: int, inputs: int = 8) -> str:
        return graph.add("MatMul", x, graph.add_constant(normal(rng, inputs, units) * np.float32(0.4)))

    mixed = graph.add("Transpose", project(x, 8, 6), perm=[0, 2, 1])
    W, b = graph.add_constant(normal(rng, 8, 1, 4)), graph.add_constant(normal(rng, 8))
    mixed = graph.add("CausalConvWithState", mixed, W, b, activation="silu")
    mixed = graph.add("Transpose", mixed, perm=[0, 2, 1])
    decay = graph.add("Neg", graph.add("Softplus", project(mixed, 2))) if "gated" in rule else ""
    beta = graph.add("Sigmoid", project(mixed, 2)) if "delta" in rule else ""
    inputs = project(mixed, 8), project(mixed, 8), project(mixed, 10), "", decay, beta
    options = {"kv_num_heads": 2, "q_num_heads": 2, "update_rule": rule}
    graph.outputs = (graph.add("LinearAttention", *inputs, **options),)
    return Model(graph)


@pytest.mark.parametrize("rule", RULES)
def test_streams_and_pools_have_the_bits_of_a_call(rule: str) -> None:
    model, x = layer(rule), normal(np.random.default_rng(2), 3, 25, 6)
    whole = model(x)
    stream = model.stream(3, time_axis=1)
    parts = [stream(x[:, start:stop]) for start, stop in ((0, 1), (1, 2), (2, 11), (11, 25))]
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)
    pool = model.pool(3, time_axis=1)
    ids = pool.open(3)
    for t in range(6):
        y = pool.step(ids, x[:, t : t + 1])
        np.testing.assert_array_equal(y, whole[:, t : t + 1])


@pytest.mark.parametrize("seed", range(8))
def test_a_causal_convolution_continues_from_its_state(seed: int) -> None:
    rng = np.random.default_rng(seed)
    B, C, k, T = (int(n) for n in (*rng.integers(1, 6, 3), rng.integers(1, 9)))
    x, W, b, past = normal(rng, B, C, T), normal(rng, C, 1, k), normal(rng, C), normal(rng, B, C, k - 1)
    graph = Graph()
    names = [graph.add_input(name, np.float32) for name in ("x", "W", "b", "past")]
    graph.outputs = graph.add_all("CausalConvWithState", names, 2)
    whole = np.concatenate([past, x], 2)
    expected = np.zeros((B, C, T))
    for n, c, t in np.ndindex(B, C, T):
        expected[n, c, t] = b[c] + whole[n, c, t : t + k].astype(np.float64) @ W[c, 0]
    y, state = Model(graph)(x, W, b, past)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(state, whole[:, :, T:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"update_rule": "linear"}, "does not take decay"),
        ({"kv_num_heads": 3}, "multiple of kv_num_heads=3"),
        ({"update_rule": "other"}, "expected one of linear"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    attention = Attention(3)
    attention.shared = 1
    graph = attention.graph()
    (node,) = graph.nodes
    if "kv_num_heads" in change:
        change = {**change, "q_num_heads": 2}
    graph.nodes = [node.with_attributes({**node.attributes, **change})]
    with pytest.raises(OnwardError, match=message):
        Model(graph)(*[attention.inputs[name] for name in NAMES if name in attention.inputs])
