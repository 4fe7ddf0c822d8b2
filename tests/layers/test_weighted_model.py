"""The gradients and the training of whole models, beside those of the layers that they were exported from."""

import copy
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_networks import convolutions, recurrences
from support.skips import Case, counted_cases

import onward
from onward import train
from onward.core.cell import Cell
from onward.errors import ArgumentError, ShapeError
from onward.graph import Graph, Model
from onward.graph.declared import Input
from onward.graph.plan import planner


def layers() -> onward.Sequential:
    return onward.Sequential(
        onward.GRU(3, 7, bidirectional=True, rng=1), onward.LayerNorm(14), onward.Linear(14, 5, rng=2),
        onward.Activation("gelu"), onward.LSTM(5, 4, 2, rng=3), onward.Linear(4, 2, rng=4),
    )  # fmt: skip


def exported(path: Path, net: onward.Sequential) -> Model:
    net.export_onnx(path / "model.onnx")
    model = onward.load(path / "model.onnx")
    assert isinstance(model, Model)
    return model


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (50, 5), (7, 17)])
def test_gradients_are_those_of_the_layers(tmp_path: Path, steps: int, batch: int) -> None:
    rng, net = np.random.default_rng(0), layers()
    model = exported(tmp_path, net)
    x = rng.standard_normal((steps, batch, 3)).astype(np.float32)
    (y, state, cache), (expected, _, kept) = model.forward(x), net.forward(x)
    assert state is None
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dx, _, gradients = model.backward(dy, None, cache)
    dx_of_layers, _, of_layers = net.backward(dy, None, kept)
    np.testing.assert_allclose(dx, dx_of_layers, rtol=1e-3, atol=1e-5)
    # each weight has one gradient, in another layout
    squares = [
        sum((g.astype(np.float64) ** 2).sum() for g in each.values()) for each in (gradients, of_layers)
    ]
    assert squares[0] == pytest.approx(squares[1], rel=1e-4)
    assert gradients.keys() == model.trained_weights().keys()


def test_training_gives_the_losses_of_the_layers(tmp_path: Path) -> None:
    rng, net = np.random.default_rng(0), layers()
    model = exported(tmp_path, net)
    x = rng.standard_normal((9, 20, 3)).astype(np.float32)
    y = rng.standard_normal((9, 20, 2)).astype(np.float32)
    options: dict[str, Any] = {"loss": "mse", "optimizer": train.Adam(1e-2), "epochs": 4, "progress": False}
    losses = [train.fit(each, (x, y), rng=0, validation=(x, y), **options).losses for each in (model, net)]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(model(x)[0], net(x), rtol=1e-2, atol=1e-3)


def test_calls_streams_copies_and_files_have_the_new_weights(tmp_path: Path) -> None:
    net = onward.Sequential(onward.LSTM(3, 4, rng=0), onward.Linear(4, 2, rng=1))
    model, x = exported(tmp_path, net), np.ones((5, 2, 3), np.float32)
    stale, others = model(x)[0], {name: w * np.float32(1.5) for name, w in model.trained_weights().items()}
    model.stream()  # which keeps the old weights
    model.load_state_dict(model.state_dict() | others)
    y, *_ = model(x)
    assert not np.array_equal(y, stale)
    np.testing.assert_allclose(model.forward(x)[0], y, rtol=1e-6)
    model.save(tmp_path / "saved.safetensors")
    stream = model.stream(2)
    assert np.array_equal(np.concatenate([stream(step[None]) for step in x]), y)
    saved = onward.load(tmp_path / "saved.safetensors")
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), saved):
        assert np.array_equal(copied(x)[0], y)


def test_a_resumed_training_has_the_bits_of_one_without_interruption(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 40, 3)).astype(np.float32), rng.standard_normal((6, 40, 2))
    options: dict[str, Any] = {"loss": "mse", "rng": 0, "progress": False}
    whole, parts, again = (exported(tmp_path, layers()) for _ in range(3))
    train.fit(whole, (x, y), epochs=3, **options)
    train.fit(parts, (x, y), epochs=1, checkpoint=tmp_path / "run", **options)
    train.fit(again, (x, y), epochs=3, checkpoint=tmp_path / "run", resume=True, **options)
    for name, weight in whole.trained_weights().items():
        assert np.array_equal(weight, again.trained_weights()[name]), name


def test_a_model_without_time_trains_on_rows() -> None:
    rng, graph = np.random.default_rng(0), Graph()
    x = graph.add_input("x", np.float32, ("batch", 1, 6, 5))
    W = graph.add_constant(rng.standard_normal((4, 1, 3, 3)).astype(np.float32), "filters")
    C = graph.add_constant(rng.standard_normal(4).astype(np.float32), "bias")
    y = graph.add("Relu", graph.add("Conv", x, W, C, pads=[1, 1, 1, 1]))
    y = graph.add("GlobalAveragePool", graph.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]))
    y = graph.add("Flatten", y)
    B = graph.add_constant(rng.standard_normal((4, 3)).astype(np.float32), "matrix")
    graph.outputs = (graph.add("Gemm", y, B, output="y"),)
    graph.declared_outputs = (Input("y"),)
    model = Model(graph)
    pictures = rng.standard_normal((50, 1, 6, 5)).astype(np.float32)
    classes = (pictures[:, 0, :, 0].mean(1) > 0).astype(int)
    history = train.fit(
        model, (pictures, classes), loss="cross_entropy", optimizer=train.Adam(0.02), epochs=30, rng=0,
        validation=(pictures, classes), progress=False,
    )  # fmt: skip
    assert history.losses[-1] < 0.7 * history.losses[0]


def test_a_model_of_two_inputs_trains_on_tuples() -> None:
    rng, graph = np.random.default_rng(0), Graph()
    a, b = (graph.add_input(name, np.float32, ("batch", 3)) for name in "ab")
    W = graph.add_constant(rng.standard_normal((3, 2)).astype(np.float32), "W")
    graph.outputs = (graph.add("MatMul", graph.add("Mul", a, b), W),)
    graph.declared_outputs = (Input("y"),)
    model, x = Model(graph), tuple(rng.standard_normal((2, 17, 3)).astype(np.float32))
    data = [(x, rng.standard_normal((17, 2)).astype(np.float32))]
    history = train.fit(
        model, data, loss="mse", optimizer=train.Adam(0.1), epochs=9, validation=data, progress=False
    )
    assert history.validation_losses[-1] < history.losses[0]
    with pytest.raises(ArgumentError, match=r"x has 1 arrays; expected a tuple with .* each of \(a, b\)"):
        model.forward(x[0])


def in_float64(graph: Graph) -> Graph:
    """The same graph in double precision."""

    def wide(node: Any) -> Any:
        cell = node.attributes.get("cell")
        if cell is None:
            return node
        form = Cell(cell.kind, **{**cell.config(), "dtype": "float64"})
        return node.with_attributes({**node.attributes, "cell": form.filled(cell.weights)})

    narrow = {name: a for name, a in graph.constants.items() if a.dtype == np.float32}
    constants = graph.constants | {name: a.astype(np.float64) for name, a in narrow.items()}
    inputs = [each.of_dtype(np.dtype(np.float64)) for each in graph.inputs]
    return graph.replaced(inputs=inputs, constants=constants, nodes=list(map(wide, graph.nodes)))


def check(case: Case, make: Callable[..., Any], shape: tuple[int, ...]) -> None:
    """Compare the gradients with respect to x and all weights with a central difference."""
    rng = np.random.default_rng(case.seed)
    model = Model(in_float64(make(rng)[0].graph))
    x = rng.standard_normal(shape)
    y, _, cache = model.forward(x)
    dy = rng.standard_normal(y.shape)
    dx, _, gradients = model.backward(dy, None, cache)
    weights = dict(model.trained_weights())
    ways = {name: rng.standard_normal(w.shape) for name, w in weights.items()}
    way, sides = rng.standard_normal(x.shape), []
    for size in (1e-6, -1e-6):
        model.take_weights({name: w + size * ways[name] for name, w in weights.items()})
        sides.append((model(x + size * way) * dy).sum())
    found = (dx * way).sum() + sum((gradients[name] * ways[name]).sum() for name in weights)
    assert found == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=2e-4, abs=1e-6)


def test_random_networks_equal_central_differences() -> None:
    for case in counted_cases(12):
        with case:
            check(case, convolutions, (1, 2, 9, 7))
        with case:
            check(case, recurrences, (1, 6, 20))


def test_what_does_not_fit_raises(tmp_path: Path) -> None:
    model, x = exported(tmp_path, layers()), np.ones((5, 2, 3), np.float32)
    y, _, cache = model.forward(x)
    with pytest.raises(ShapeError, match=r"dy has shape \(5, 2\); expected \(5, 2, 2\)"):
        model.backward(y[..., 0], None, cache)
    with pytest.raises(ArgumentError, match="cache was not returned by the forward method of"):
        model.backward(y, None, (x,))
    with pytest.raises(ArgumentError, match="takes no state"):
        model.forward(x, np.zeros((1, 2, 4)))
    with pytest.raises(ArgumentError, match=r"sequences of equal length, but the lengths are \[5, 3\]"):
        model.forward(x, lengths=[5, 3])
    with pytest.raises(ArgumentError, match="is missing"):
        model.load_state_dict({})
    with pytest.raises(ArgumentError, match=r"recurrent_dropout=0\.5 acts in layers"):
        train.fit(model, [(x, y)], recurrent_dropout=0.5)


def test_a_node_without_gradients_is_named() -> None:
    graph = Graph()
    x, W = graph.add_input("x", np.float32, ("n", 3)), graph.add_constant(np.ones((3, 3), np.float32))
    graph.outputs = (graph.add("ReduceProd", graph.add("MatMul", x, W), name="product"),)
    graph.declared_outputs = (Input("y"),)
    model = Model(graph)
    y, _, cache = model.forward(np.ones((2, 3)))
    with pytest.raises(ArgumentError, match=r"product \(ReduceProd\).* has no gradient"):
        model.backward(y, None, cache)


def test_a_program_that_compiles_while_weights_are_replaced_does_not_run_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = exported(tmp_path, layers()), np.ones((4, 2, 3), np.float32)
    weights = {name: 0.5 * weight for name, weight in model.trained_weights().items()}
    exact = exported(tmp_path, layers())
    exact.load_state_dict(weights)
    compiled, compiles, continues = planner.compiled, threading.Event(), threading.Event()

    def slowly(*args: Any) -> Any:
        compiles.set()
        continues.wait(30)
        return compiled(*args)

    monkeypatch.setattr(planner, "compiled", slowly)
    call = threading.Thread(target=model, args=[x])
    call.start()
    assert compiles.wait(30)
    load = threading.Thread(target=model.load_state_dict, args=[weights])
    load.start()
    load.join(0.3)  # time to replace the weights, unless that waits for the program
    continues.set()
    call.join()
    load.join()
    for y, expected in zip(model(x), exact(x), strict=True):
        np.testing.assert_array_equal(y, expected)
