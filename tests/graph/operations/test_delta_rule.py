"""Loops over the steps of a gated delta rule, against a plain loop, and against their iterations."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.programs import described_steps
from support.randomized import random_cases
from support.running import bound

import onward
from onward.graph import Graph, Model
from onward.graph.operations import looping

Array = NDArray[Any]
# Changes of a body that make it another one; "" is a gated delta rule.
CHANGES = [
    *[
        "",
        "",
        "",
        "",
        "",
        "beta is a vector",
        "decay of rows",
        "k of a later product",
        "reads the state before",
    ],
    *["decays what it recalls twice", "adds without a decay", "writes S twice", "is masked", "adds v to v"],
]


class DeltaLoop:
    """A random gated delta rule as a Scan, and what a plain loop over its steps computes."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.change = CHANGES[seed % len(CHANGES)]
        self.is_wide = bool(rng.integers(2))  # the state has an axis of one element in front
        self.T, self.B, self.heads = (int(n) for n in rng.integers(1, 6, 3))
        self.K, self.V = (int(n) for n in rng.choice([1, 3, 16, 33, 64], 2))
        rows = self.T, self.B, self.heads
        self.state = self.normal(*[1] * self.is_wide, self.B, self.heads, self.K, self.V)
        self.sequences = {
            "q": self.normal(*rows, self.K),
            "k": self.normal(*rows, self.K) / np.float32(self.K),
            "v": self.normal(*rows, self.V),
            "decay": rng.random(rows).astype(np.float32),
            "beta": rng.random(rows).astype(np.float32),
        }
        self.axes = [int(rng.integers(3)) for _ in self.sequences]  # of the steps
        self.backward = bool(rng.integers(8) == 0)
        self.inputs = [self.state] + [
            np.ascontiguousarray(np.moveaxis(x, 0, axis))
            for x, axis in zip(self.sequences.values(), self.axes, strict=True)
        ]
        self.graph = self._graph()

    def normal(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(np.float32)

    def _graph(self) -> Graph:
        graph, body, change = Graph(), Graph(), self.change
        S, *slices = [body.add_input(name, np.float32) for name in ("S", *self.sequences)]

        def at(x: str, *axes: int) -> str:
            return body.add("Unsqueeze", x, body.add_constant(np.array(axes)))

        q, k, v = (at(x, -2) for x in slices[:3])
        decay, beta = (at(x, -2, -1) for x in slices[3:])
        column = at(slices[1], -1)
        if change == "beta is a vector":
            beta = at(slices[2], -2)
        if change == "decay of rows":
            decay = at(slices[1], -1)
        if change == "k of a later product":
            column = at(slices[0], -1)
        recalled = body.add("Mul", body.add("MatMul", k, S), decay)
        if change == "decays what it recalls twice":
            recalled = body.add("Mul", recalled, decay)
        error = body.add("Add" if change == "adds v to v" else "Sub", v, recalled)
        written = body.add("Mul", column, body.add("Mul", error, beta))
        after = body.add("Add", S if change == "adds without a decay" else body.add("Mul", S, decay), written)
        y = body.add("MatMul", q, S if change == "reads the state before" else after)
        y = body.add("Squeeze", y, body.add_constant(np.array([-2])))
        if self.is_wide:
            y = body.add("Squeeze", y, body.add_constant(np.array([0])))
        if change == "is masked":
            mask = body.add("Greater", beta, body.add_constant(np.float32(0.5)))
            after = body.add("Where", mask, after, S)
        body.outputs = (after, y, *([after] if change == "writes S twice" else []))
        names = [graph.add_input(name, np.float32) for name in ("S", *self.sequences)]
        graph.outputs = graph.add_all(
            "Scan", names, len(body.outputs), body=body, num_scan_inputs=5, scan_input_axes=self.axes,
            scan_input_directions=[int(self.backward)] * 5,
        )  # fmt: skip
        return graph

    def answer(self) -> tuple[Array, Array]:
        """Return the last state and the outputs of a gated delta rule in float64."""
        S = self.state.astype(np.float64).reshape(self.B, self.heads, self.K, self.V)
        y = np.zeros((self.T, self.B, self.heads, self.V))
        q, k, v, decay, beta = (x.astype(np.float64) for x in self.sequences.values())
        for t in range(self.T)[:: -1 if self.backward else 1]:
            for b in range(self.B):
                for h in range(self.heads):
                    kept = decay[t, b, h] * S[b, h]
                    error = v[t, b, h] - k[t, b, h] @ kept
                    S[b, h] = kept + np.outer(k[t, b, h], beta[t, b, h] * error)
                    y[self.T - 1 - t if self.backward else t, b, h] = q[t, b, h] @ S[b, h]
        return S.reshape(self.state.shape), y


@pytest.mark.parametrize("seed", range(random_cases(60)))
def test_a_recognized_loop_has_the_bits_of_its_iterations(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = DeltaLoop(seed)
    model = Model(loop.graph)
    found = model(*loop.inputs)
    steps = " ".join(described_steps(model.planner.programs[0]))
    assert ("linear_attention" in steps) == (loop.change == "" and not loop.backward)
    monkeypatch.setattr(looping, "as_delta_rule", lambda *arguments: None)
    for y, expected in zip(found, Model(loop.graph)(*loop.inputs), strict=True):
        np.testing.assert_array_equal(y, expected)
    if loop.change == "":
        for y, wanted in zip(found, loop.answer(), strict=True):
            np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5)


def test_a_recognized_loop_counts_as_work(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, works = DeltaLoop(4), []
    for _ in range(2):
        model = Model(loop.graph)
        model(*loop.inputs)
        works.append(bound(model, *loop.inputs).work)
        monkeypatch.setattr(looping, "as_delta_rule", lambda *arguments: None)
    assert 0.2 < works[0] / works[1] <= 1


@pytest.mark.parametrize("B", [1, 5])
def test_every_form_of_a_layer_with_a_delta_rule_has_the_same_bits(B: int) -> None:
    rng = np.random.default_rng(B)
    layer = onward.GatedDeltaRule(4, 3, 7, 33, rng=1)
    x, S = (
        rng.standard_normal((9, B, 4)).astype(np.float32),
        rng.standard_normal((1, B, 3, 7, 33)).astype(np.float32),
    )
    y, last = layer(x, S)
    stepwise, after, _ = layer.forward(x, S)
    masked, kept = layer(x, S, lengths=[9] * B)
    for other, state in ((stepwise, after), (masked, kept)):
        np.testing.assert_array_equal(other, y)
        np.testing.assert_array_equal(state, last)
    stream = layer.stream(batch=B)
    stream.state = S
    np.testing.assert_array_equal(np.concatenate([stream(x[:1]), stream(x[1:3]), stream(x[3:])]), y)
