"""Streams and pools of layers beyond those that the core chains: they run as programs."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.randomized import random_cases
from support.sequence_graphs import blocks
from support.skips import counted_cases

import onward
from onward.errors import ArgumentError
from onward.layers.graphs import graph_of
from onward.streaming.graph_pool import SequencePool
from onward.streaming.graph_stream import SequenceStream
from onward.streaming.layers import streamed_layers

MODELS: dict[str, Callable[[], onward.Sequential]] = {
    "softmax": lambda: onward.Sequential(
        onward.LSTM(5, 7, rng=0), onward.Linear(7, 3, rng=1), onward.Softmax()
    ),
    "embedding": lambda: onward.Sequential(onward.Embedding(11, 5, rng=0), onward.GRU(5, 7, rng=1)),
}


def inputs(name: str, steps: int) -> Any:
    rng = np.random.default_rng(2)
    return rng.integers(0, 11, steps) if name == "embedding" else rng.random((steps, 5), np.float32)


def recurrent_network(rng: np.random.Generator, dtype: str) -> onward.Sequential:
    """Recurrent and linear layers of random sizes and options, with asymmetric weights."""
    layers: list[Any] = []
    size, batch_first = int(rng.integers(1, 20)), bool(rng.integers(2))
    for _ in range(rng.integers(1, 4)):
        H, seed = int(rng.integers(2, 34)), int(rng.integers(99))
        if layers and rng.random() < 0.4:
            layers.append(onward.Linear(size, H, bool(rng.integers(2)), dtype=dtype, rng=seed))
            size = H
            continue
        options: dict[str, Any] = {"num_layers": int(rng.integers(1, 4)), "bias": bool(rng.integers(2))}
        match rng.integers(3):
            case 0:
                kind, options["nonlinearity"] = onward.RNN, str(rng.choice(["tanh", "relu"]))
            case 1:
                kind, options["reset_after"] = onward.GRU, bool(rng.integers(2))
            case _:
                kind, options["proj_size"] = onward.LSTM, int(rng.integers(H))
                options["peephole"] = bool(rng.integers(2))
        if rng.random() < 0.3:
            options["clip"] = 0.4
        layers.append(kind(size, H, batch_first=batch_first, dtype=dtype, rng=seed, **options))
        size = options.get("proj_size") or H
    return onward.Sequential(*layers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_of_recurrent_and_linear_layers_have_the_bits_of_a_call_and_run_in_the_core(
    dtype: str,
) -> None:
    for case in counted_cases(20, most=0):
        with case:
            rng = np.random.default_rng(case.seed)
            net, B = recurrent_network(rng, dtype), int(rng.choice([1, 5]))
            assert net.step_shape is not None
            x = rng.standard_normal((50, B, *net.step_shape)).astype(dtype)
            given = x.swapaxes(0, 1) if net.batch_first else x
            axis, y, streamed = int(net.batch_first), net(given), streamed_layers(net)
            stream, pool = SequenceStream(streamed, B), SequencePool(streamed, B)
            # blocks of one step, of no steps, and of up to 20
            ends = np.cumsum([1, 0, 1, 7, *rng.integers(0, 21, 4)]).clip(max=50)
            blocks = [stream(block) for block in np.split(given, ends, axis)]
            np.testing.assert_array_equal(np.concatenate(blocks, axis), y, strict=True)
            for T in (1, 7, 50):
                assert (
                    streamed.planner.ready((*streamed.layers.zeros(B), *streamed.blocks(T, B)), {})
                    is not None
                )
            ids = pool.open(B)
            steps = np.stack([pool.step(ids, x_t) for x_t in x], axis)
            np.testing.assert_array_equal(steps, y, strict=True)


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


def test_a_subclass_with_a_call_of_its_own_streams_what_it_computes() -> None:
    class Doubled(onward.Linear):
        def run(self, x: Any, *others: Any) -> Any:
            y, state = super().run(x, *others)
            return 2 * y, state

    net, x = onward.Sequential(onward.GRU(5, 7, rng=0), Doubled(7, 3, rng=1)), inputs("softmax", 6)
    stream, pool = net.stream(), net.pool(2)
    ids, y = pool.open(2), net(x)
    np.testing.assert_array_equal([stream(step) for step in x[:4]] + [*stream(x[4:])], y)
    np.testing.assert_array_equal([pool.step(ids, np.stack([step] * 2))[1] for step in x], y)
    assert stream.finish().shape == (0, 3)
    with pytest.raises(ArgumentError, match="is not a layer that a graph can hold"):
        graph_of(net)


def test_what_streams_is_made_once_and_freed_with_the_model() -> None:
    net = onward.LSTM(5, 7, rng=0)
    found = streamed_layers(net)
    stream, pool = net.stream(3), net.pool(2)
    assert stream.streamed is found is pool.model
    alive, weights = weakref.ref(found), weakref.ref(net.own_weights["weight_hh_l0"])
    gc.disable()
    try:
        del net, found, stream, pool
        assert alive() is None and weights() is None
    finally:
        gc.enable()


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


def test_convolutions_stream_with_the_bits_of_a_call_on_the_whole_sequence() -> None:
    for seed in range(random_cases(10)):
        rng = np.random.default_rng(seed)
        channels, layers = 3, list[Any]()
        for number in range(rng.integers(1, 4)):
            outputs, kernel, dilation = (int(n) for n in rng.integers((1, 1, 1), (6, 5, 3)))
            options = {"stride": int(rng.integers(1, 3)), "padding": int(rng.integers(0, kernel))}
            layers.append(onward.Conv1d(channels, outputs, kernel, **options, dilation=dilation, rng=number))
            if rng.integers(2):
                layers.append(onward.BatchNorm1d(outputs))
            if rng.integers(2):
                layers.append(onward.Activation("tanh"))
            if rng.integers(2):
                layers.append(
                    (onward.MaxPool1d, onward.AvgPool1d)[rng.integers(2)](2, int(rng.integers(1, 3)))
                )
            channels = outputs
        net = onward.Sequential(*layers) if len(layers) > 1 else layers[0]
        x = rng.standard_normal((2, 3, 90)).astype(np.float32)
        whole, stream, alone, pool = net(x), net.stream(2), net.stream(), net.pool(2)
        ids = pool.open(2)
        parts, pooled = [], []
        for block in blocks(rng, 90):
            parts.append(stream(x[..., block]))
            np.testing.assert_array_equal(alone(x[0][..., block]), parts[-1][0])
            pooled.append(pool.step(ids, x[..., block]))
        parts.append(stream.finish())
        pooled.append(pool.finish(ids))
        np.testing.assert_array_equal(np.concatenate(parts, -1), whole, strict=True)
        for row in range(2):
            np.testing.assert_array_equal(np.concatenate([y[row] for y in pooled], -1), whole[row])


def test_a_stream_of_convolutions_keeps_its_weights() -> None:
    net, x = onward.Conv1d(2, 3, 3, rng=0), np.ones((2, 9), np.float32)
    stream, y = net.stream(), net(x)
    net.load_state_dict({name: 0 * weight for name, weight in net.state_dict().items()})
    np.testing.assert_array_equal(stream(x), y)
    np.testing.assert_array_equal(net.stream()(x), 0 * y)
