"""Streams and pools of layers beyond those that the core chains: they run as programs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError

MODELS: dict[str, Callable[[], onward.Sequential]] = {
    "softmax": lambda: onward.Sequential(
        onward.LSTM(5, 7, rng=0), onward.Linear(7, 3, rng=1), onward.Softmax()
    ),
    "embedding": lambda: onward.Sequential(onward.Embedding(11, 5, rng=0), onward.GRU(5, 7, rng=1)),
}


def inputs(name: str, steps: int) -> Any:
    rng = np.random.default_rng(2)
    return rng.integers(0, 11, steps) if name == "embedding" else rng.random((steps, 5), np.float32)


@pytest.mark.parametrize("name", MODELS)
def test_steps_of_layers_beyond_the_chain_are_calls_of_the_core(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = MODELS[name](), inputs(name, 3)
    stream, pool = net.stream(), net.pool(2)
    ids = pool.open(2)
    pool.step(ids, np.stack([x[0], x[0]]))  # compiles the program
    pool.reset(ids)
    monkeypatch.setattr(type(stream), "_converted", None)
    monkeypatch.setattr(type(pool), "_run", None)
    for step in x:
        np.testing.assert_array_equal(pool.step(ids, np.stack([step, step]))[1], stream(np.array(step)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_streams_of_a_softmax_take_the_weights_at_their_start(dtype: str) -> None:
    net, x = onward.Sequential(onward.LSTM(5, 7, rng=0, dtype=dtype), onward.Softmax()), inputs("softmax", 9)
    for _ in range(2):
        stream, pool = net.stream(), net.pool(1)
        whole, ids = net(x), pool.open(1)
        net.load_state_dict({key: 2 * weight for key, weight in net.state_dict().items()})
        np.testing.assert_array_equal(stream(x), whole)
        np.testing.assert_array_equal([pool.step(ids, step[None])[0] for step in x], whole)


@pytest.mark.parametrize("index", [-1, 11])
def test_an_index_outside_of_the_table_is_rejected(index: int) -> None:
    """Graphs count indices below 0 from the end, layers do not."""
    net = MODELS["embedding"]()
    stream, pool = net.stream(), net.pool(2)
    ids = pool.open(2)
    for _ in range(2):  # the second call finds a program
        with pytest.raises(ArgumentError):
            stream(np.array(index))
        with pytest.raises(ArgumentError):
            pool.step(ids, np.array([1, index]))
        for state in (stream.state[0], pool.state(ids)[0]):
            assert not state.any()
        stream(np.array(3))
        pool.step(ids, np.array([1, 2]))
        stream.reset()
        pool.reset(ids)
