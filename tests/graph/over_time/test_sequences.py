"""Whole models over a padded batch: each row gives the bits that it gives alone."""

from typing import Any

import numpy as np
import pytest

import onward
from onward.errors import ArgumentError, SignatureError
from onward.graph import Graph, Input, Model

FLOAT = np.dtype(np.float32)


def recognizer(batch_first: bool) -> Model:
    """A model of x (T, B, 5) with outputs of half as many steps, of all steps, and of each row."""
    graph = Graph()
    x = graph.add_input("x", FLOAT, ("batch", "time", 5) if batch_first else ("time", "batch", 5))
    rng = np.random.default_rng(0)
    kernel = graph.add_constant(rng.normal(size=(6, 5, 3)).astype(np.float32))
    to_conv, from_conv = ([0, 2, 1], [2, 0, 1]) if batch_first else ([1, 2, 0], [2, 0, 1])
    channels = graph.add("Transpose", x, perm=to_conv)
    options = {"kernel_shape": [3], "pads": [1, 1], "strides": [2]}
    half = graph.add("Transpose", graph.add("Conv", channels, kernel, **options), perm=from_conv)
    layer = onward.LSTM(6, 7, bidirectional=True, rng=1)
    y, h, _ = graph.add_all("Recurrent", (half,), 3, cell=layer.cell)
    steps = graph.add("Transpose", y, perm=[1, 0, 2]) if batch_first else y
    graph.outputs = steps, graph.add("Tanh", x), h
    graph.declared_outputs = tuple(Input(name, FLOAT) for name in ("half", "all", "h"))
    return Model(graph)


@pytest.mark.parametrize("batch_first", [False, True], ids=["time first", "batch first"])
def test_rows_of_other_lengths_do_not_see_padding(batch_first: bool) -> None:
    model, lengths = recognizer(batch_first), [9, 4, 1, 4, 8]
    x = np.random.default_rng(2).normal(size=(9, 5, 5)).astype(np.float32)
    given = x.swapaxes(0, 1) if batch_first else x
    half, whole, h = model(given, lengths=lengths)
    if batch_first:
        half, whole = half.swapaxes(0, 1), whole.swapaxes(0, 1)
    assert half.shape == (5, 5, 14) and whole.shape == (9, 5, 5)
    for row, length in enumerate(lengths):
        alone = x[:length, row : row + 1]
        own = model(alone.swapaxes(0, 1) if batch_first else alone)
        own_half, own_whole = (a.swapaxes(0, 1) if batch_first else a for a in own[:2])
        np.testing.assert_array_equal(half[: len(own_half), row], own_half[:, 0])
        np.testing.assert_array_equal(whole[:length, row], own_whole[:, 0])
        np.testing.assert_array_equal(h[:, row], own[2][:, 0])
        assert not half[len(own_half) :, row].any() and not whole[length:, row].any()


@pytest.mark.parametrize(
    ("lengths", "message"), [([1, 2], "has shape"), ([1, 2, 3, 4, 10], "expected 0 to 9")], ids=str
)
def test_lengths_that_do_not_match_the_batch_are_refused(lengths: Any, message: str) -> None:
    with pytest.raises(onward.errors.OnwardError, match=message):
        recognizer(False)(np.zeros((9, 5, 5), np.float32), lengths=lengths)


def test_models_without_sequences_do_not_take_lengths() -> None:
    graph = Graph()
    pair = graph.add_input("a", FLOAT, (3,)), graph.add_input("b", FLOAT, (3,))
    graph.outputs, graph.declared_outputs = (graph.add("Add", *pair),), (Input("y", FLOAT),)
    with pytest.raises(ArgumentError, match="lengths, which only models of one input"):
        Model(graph)(np.zeros(3), np.zeros(3), lengths=[1])


def test_an_input_called_lengths_is_an_input() -> None:
    graph = Graph()
    x = graph.add_input("x", FLOAT, ("time", "batch", 3)), graph.add_input("lengths", np.int64, ("batch",))
    y, *_ = graph.add_all("Recurrent", x, 3, cell=onward.LSTM(3, 2, rng=1).cell)
    graph.outputs, graph.declared_outputs = (y,), (Input("y", FLOAT),)
    model = Model(graph)
    assert not model(np.ones((4, 2, 3)), lengths=np.array([4, 1]))[1:, 1].any()
    with pytest.raises(SignatureError, match="missing inputs: lengths"):
        model(np.ones((4, 2, 3)))


def test_a_graph_that_carries_more_for_a_single_row_pools_its_rows_one_by_one() -> None:
    """PyTorch's exporter writes x.squeeze() as an If; two rows had other carries than one, a ValueError."""
    one, several = Graph(), Graph()
    one.outputs = (one.add("CumSum", one.add_input("x"), one.add_constant(np.array(1))),)
    several.outputs = (several.add("Neg", several.add_input("x")),)
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", "time", 4))
    batch = graph.add("Gather", graph.add("Shape", x), graph.add_constant(np.array(0)))
    is_one = graph.add("Equal", batch, graph.add_constant(np.array(1)))
    graph.outputs = (graph.add("If", is_one, x, then_branch=one, else_branch=several),)
    pool = Model(graph).pool(3, time_axis=1)
    blocks = np.random.default_rng(0).standard_normal((3, 5, 4)).astype(np.float32)
    ids = pool.open(3)
    for block in (blocks[:, :2], blocks[:, 2:]):
        y = pool.step(ids, block)
    np.testing.assert_array_equal(y, np.cumsum(blocks, 1)[:, 2:])


def test_a_loop_whose_body_uses_the_number_of_rows_streams_several_rows() -> None:
    rng, graph, body = np.random.default_rng(3), Graph(), Graph()
    W = rng.normal(size=(7, 7)).astype(np.float32)
    x = graph.add_input("x", FLOAT, ("", "", 7))
    B, T = (graph.add("Gather", graph.add("Shape", x), graph.add_constant(np.array(axis))) for axis in (0, 1))
    rows = graph.add("Unsqueeze", B, graph.add_constant(np.array([0])))
    shape = graph.add("Concat", rows, graph.add_constant(np.array([7])), axis=0)
    h = graph.add("ConstantOfShape", shape, value=np.zeros(1, np.float32))
    i, goes_on, before, sequence, size = map(body.add_input, ("i", "goes_on", "before", "sequence", "size"))
    step = body.add("Gather", sequence, i, axis=1)
    after = body.add("Tanh", body.add("Add", step, body.add("MatMul", before, body.add_constant(W))))
    wide = body.add("Concat", size, body.add_constant(np.array([7])), axis=0)
    half = body.add("ConstantOfShape", wide, value=np.full(1, 0.5, np.float32))
    body.outputs = goes_on, after, body.add("Mul", after, half)
    _, ys = graph.add_all("Loop", (T, "", h, x, rows), 2, body=body, captured=2)
    graph.outputs = (graph.add("Transpose", ys, perm=[1, 0, 2]),)
    graph.declared_outputs = (Input("y", FLOAT),)
    model, inputs = Model(graph), rng.normal(size=(5, 9, 7)).astype(np.float32)
    stream = model.stream(batch=5, time_axis=1)
    parts = [stream(inputs[:, start:end]) for start, end in ((0, 4), (4, 5), (5, 9))]
    np.testing.assert_array_equal(np.concatenate(parts, 1), model(inputs), strict=True)


def test_a_loop_that_carries_its_sequence_its_weights_and_what_it_does_not_read_streams() -> None:
    """As JAX and TensorFlow write loops: all values are states, and the condition is a constant."""
    rng, graph, body = np.random.default_rng(4), Graph(), Graph()
    x = graph.add_input("x", FLOAT, ("steps", 6))
    W, h = (graph.add_constant(rng.normal(size=shape).astype(np.float32)) for shape in ((6, 6), (6,)))
    T = graph.add("Gather", graph.add("Shape", x), graph.add_constant(np.array(0)), axis=0)
    unread = graph.add("Cast", T, to=np.dtype(np.int32))
    i, goes_on, weights, before, sequence, _ = map(
        body.add_input, ("i", "goes_on", "weights", "before", "sequence", "unread")
    )
    step = body.add("Gather", sequence, i, axis=0)
    after = body.add("Tanh", body.add("Add", step, body.add("MatMul", before, weights)))
    body.outputs = goes_on, weights, after, sequence, after
    true = graph.add_constant(np.array(True))
    *_, ys = graph.add_all("Loop", (T, true, W, h, x, unread), 4, body=body, captured=1)
    graph.outputs = (ys,)
    graph.declared_outputs = (Input("y", FLOAT),)
    model, inputs = Model(graph), rng.normal(size=(9, 6)).astype(np.float32)
    stream = model.stream(time_axis=0)
    parts = [stream(inputs[start:end]) for start, end in ((0, 4), (4, 5), (5, 9))]
    np.testing.assert_array_equal(np.concatenate(parts), model(inputs), strict=True)
    state, expected = model.graph.constants[h], []
    for row in inputs:
        state = np.tanh(row + state @ model.graph.constants[W])
        expected.append(state)
    np.testing.assert_allclose(model(inputs), expected, rtol=1e-5, atol=1e-5)
