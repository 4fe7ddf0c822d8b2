"""Models that follow one another run, stream and pool as one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.onnx_nodes import normal

import onward
from onward import errors
from onward.graph import Graph, Input
from onward.model import Model

FLOAT = np.dtype(np.float32)


def model(outputs: dict[str, str], graph: Graph) -> Model:
    graph.outputs = tuple(outputs.values())
    graph.declared_outputs = tuple(Input(name, FLOAT) for name in outputs)
    return Model(graph)


def front_end() -> Model:
    """Frames of four samples of a signal, and their mean, over time."""
    graph = Graph()
    x = graph.add_input("wave", FLOAT, ("batch", 1, "T"))
    y = graph.add("Conv", x, graph.add_constant(normal(6, 1, 4)), strides=[2], pads=[2, 0])
    return model({"bands": graph.add("Transpose", y, perm=[0, 2, 1])}, graph)


def encoder() -> Model:
    """A recurrent layer, whose outputs two models take."""
    graph = Graph()
    x = graph.add_input("bands", FLOAT, ("N", "S", 6))
    steps = graph.add("Transpose", x, perm=[1, 0, 2])
    h, *_ = graph.add_all("Recurrent", (steps,), 2, cell=onward.GRU(6, 5, rng=0).cell)
    h = graph.add("Transpose", h, perm=[1, 0, 2])
    return model({"embedding": h, "level": graph.add("Tanh", h)}, graph)


def decoder() -> Model:
    graph = Graph()
    a = graph.add_input("bands", FLOAT, ("n", "s", 6))
    b = graph.add_input("embedding", FLOAT, ("n", "s", 5))
    y = graph.add("Mul", a, graph.add("Sigmoid", graph.add("MatMul", b, graph.add_constant(normal(5, 6)))))
    return model({"mask": y}, graph)


def one_after_another(wave: Any) -> tuple[Any, Any]:
    bands = front_end()(wave)
    embedding, level = encoder()(bands)
    return decoder()(bands, embedding), level


@pytest.fixture(scope="module")
def chain() -> Any:
    return onward.chain(front_end(), encoder(), decoder())


def test_inputs_take_the_outputs_of_their_names(chain: Any) -> None:
    assert (chain.inputs, chain.outputs) == (("wave",), ("mask", "level"))
    x = normal(3, 1, 40)
    for y, expected in zip(chain(x), one_after_another(x), strict=True):
        np.testing.assert_array_equal(y, expected)


def test_a_chain_streams_with_the_bits_of_one_call(chain: Any) -> None:
    x = normal(1, 1, 40)
    stream = chain.stream(1)
    blocks = [stream(x[..., start:end]) for start, end in ((0, 1), (1, 8), (8, 40))]
    for number, expected in enumerate(one_after_another(x)):
        np.testing.assert_array_equal(np.concatenate([block[number] for block in blocks], 1), expected)


def test_a_chain_runs_as_a_pool(chain: Any) -> None:
    x = normal(2, 1, 8)
    pool = chain.pool(2)
    found = pool.step(pool.open(2), x)
    for y, expected in zip(found, one_after_another(x), strict=True):
        np.testing.assert_array_equal(y, expected)


def test_a_chain_is_saved_and_exported(chain: Any, tmp_path: Path) -> None:
    x = normal(3, 1, 40)
    chain.save(tmp_path / "chain.safetensors")
    chain.export_onnx(tmp_path / "chain.onnx")
    for name in ("chain.safetensors", "chain.onnx"):
        loaded: Any = onward.load(tmp_path / name)
        for y, expected in zip(loaded(x), chain(x), strict=True):
            np.testing.assert_array_equal(y, expected)


def smoother() -> Model:
    """A model whose state is an input and an output."""
    graph = Graph()
    x, h = graph.add_input("x", FLOAT, ("batch", 4)), graph.add_input("h", FLOAT, ("batch", 4))
    y = graph.add("Tanh", graph.add("Add", graph.add("MatMul", x, graph.add_constant(normal(4, 4))), h))
    graph.outputs = (graph.add("Mul", y, x), y)
    graph.declared_outputs = (Input("y", FLOAT, ("batch", 4)), Input("hn", FLOAT, ("batch", 4)))
    return Model(graph)


def test_states_of_the_same_names_are_kept_apart() -> None:
    single, both = smoother(), onward.chain(smoother(), smoother())
    assert both.inputs == ("x", "0.h", "1.h") and both.outputs == ("y", "1.hn", "0.hn")
    assert both.carries == {"0.h": "0.hn", "1.h": "1.hn"}
    stream, first, second = both.stream(), single.stream(), single.stream()
    for x in normal(5, 1, 4):
        np.testing.assert_array_equal(stream(x), second(first(x)))
    pool, x = both.pool(3), normal(3, 4)
    ids = pool.open(3)
    for _ in range(2):
        y = pool.step(ids, x)
    streams = both.stream(), both.stream(), both.stream()
    for each, row, expected in zip(streams, x, y, strict=True):
        each(row[None])
        np.testing.assert_array_equal(each(row[None])[0], expected)


def test_layers_follow_one_another() -> None:
    layers = (
        onward.Linear(4, 3, rng=0),
        onward.LSTM(3, 2, rng=1),
        onward.Sequential(onward.Linear(2, 5, rng=2)),
    )
    both, x = onward.chain(*layers), normal(6, 2, 4)
    expected = layers[2](layers[1](layers[0](x))[0])
    np.testing.assert_array_equal(both(x), expected)
    stream = both.stream(2)
    np.testing.assert_array_equal(np.stack([stream(step) for step in x]), expected)


def test_what_cannot_be_connected_is_named() -> None:
    with pytest.raises(errors.ArgumentError, match=r"got 1 models; expected at least two"):
        onward.chain(front_end())
    with pytest.raises(errors.ArgumentError, match=r"model 1 takes \(bands, embedding\), and nothing names"):
        onward.chain(onward.Linear(2, 3), decoder())
    with pytest.raises(errors.SignatureError, match=r"unknown output in connect: nothing; .*\(0.bands\)"):
        onward.chain(front_end(), encoder(), connect={"bands": "nothing"})
    with pytest.raises(errors.SignatureError, match=r"unknown inputs in connect: none"):
        onward.chain(front_end(), encoder(), connect={"none": "bands"})
    with pytest.raises(errors.ShapeError, match=r"output bands of model 0 has 3 axes, but the input wave"):
        onward.chain(front_end(), images())
    with pytest.raises(errors.ArgumentError, match=r"model 1 is function, which is not a whole model"):
        onward.chain(front_end(), images)  # type: ignore[arg-type]


def images() -> Model:
    graph = Graph()
    x = graph.add_input("wave", FLOAT, ("batch", 1, 4, 4))
    return model({"y": graph.add("Relu", x)}, graph)
