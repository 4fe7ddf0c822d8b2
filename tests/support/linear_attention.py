"""Random linear attentions, and what a loop over steps and heads makes of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.graph import Graph

Array = NDArray[Any]
RULES = ["linear", "gated", "delta", "gated_delta"]
NAMES = ["query", "key", "value", "past_state", "decay", "beta"]


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


class Attention:
    """A random linear attention."""

    def __init__(self, seed: int, T: int | None = None) -> None:
        rng = np.random.default_rng(seed)
        self.rule = RULES[seed % 4]
        self.B, self.T = int(rng.integers(1, 4)), T or int(rng.integers(1, 12))
        self.heads, self.shared = (int(n) for n in rng.integers(1, 4, 2))
        self.keys, self.values = (int(n) for n in rng.integers(1, 150, 2))
        self.scale = 0.0 if rng.integers(2) else 0.7
        B, T, heads, keys = self.B, self.T, self.heads, self.keys
        k = normal(rng, B, T, heads, keys)
        k = (k / np.linalg.norm(k, axis=3, keepdims=True)).reshape(B, T, heads * keys)
        self.inputs = {
            "query": normal(rng, B, T, heads * self.shared * keys),
            "key": k,
            "value": normal(rng, B, T, heads * self.values),
        }
        if rng.integers(2):
            self.inputs["past_state"] = normal(rng, B, heads, keys, self.values)
        if "gated" in self.rule:
            count = heads if rng.integers(2) else heads * keys
            self.inputs["decay"] = -np.abs(normal(rng, B, T, count))
        if "delta" in self.rule:
            count = heads if rng.integers(2) else 1
            self.inputs["beta"] = rng.random((B, T, count)).astype(np.float32)

    def graph(self) -> Graph:
        graph = Graph()
        names = [graph.add_input(name, np.float32) if name in self.inputs else "" for name in NAMES]
        graph.outputs = graph.add_all(
            "LinearAttention", names, 2, kv_num_heads=self.heads, q_num_heads=self.heads * self.shared,
            update_rule=self.rule, scale=self.scale,
        )  # fmt: skip
        return graph

    def answer(self) -> tuple[Array, Array]:
        """Run the recurrence for each row and head in float64."""
        given = {name: x.astype(np.float64) for name, x in self.inputs.items()}
        keys, values, heads = self.keys, self.values, self.heads
        S = given.get("past_state", np.zeros((self.B, heads, keys, values))).copy()
        y = np.zeros((self.B, self.T, heads * self.shared, values))
        scale = self.scale or keys**-0.5
        for b, t, h in np.ndindex(self.B, self.T, heads):
            k = given["key"][b, t, h * keys : (h + 1) * keys]
            u = given["value"][b, t, h * values : (h + 1) * values]
            if "decay" in given:
                g = given["decay"][b, t].reshape(heads, -1)[h]
                S[b, h] *= np.exp(g)[:, None]
            if "beta" in given:
                u = given["beta"][b, t, h % given["beta"].shape[2]] * (u - S[b, h].T @ k)
            S[b, h] += np.outer(k, u)
            for query in range(h * self.shared, (h + 1) * self.shared):
                y[b, t, query] = scale * S[b, h].T @ given["query"][b, t, query * keys : (query + 1) * keys]
        return y.reshape(self.B, self.T, -1), S
