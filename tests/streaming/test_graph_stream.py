"""Models whose states are inputs and outputs stream with named carries."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.programs import described_steps
from support.sequence_graphs import normal, stepper

import onward
from onward import errors
from onward.graph import Graph, Input, Model
from onward.tables import inference

RNG = np.random.default_rng(0)


def by_hand(model: Model, xs: Any, state: Any, rate: int = 1) -> tuple[list[Any], Any]:
    outputs = []
    for x in xs:
        y, state = model(x, state, np.array(rate))
        outputs.append(y)
    return outputs, state


@pytest.mark.parametrize("batch", [None, 3])
def test_a_named_carry_gives_the_bits_of_feeding_the_state_back(batch: int | None) -> None:
    model, xs = stepper(), RNG.normal(size=(5, batch or 1, 4)).astype(np.float32)
    expected, state = by_hand(model, xs, np.zeros((2, batch or 1, 4), np.float32))
    for stream in (model.stream(batch, carry={"state": "stateN"}, rate=1), model.stream(batch, rate=1)):
        np.testing.assert_array_equal([stream(x) for x in xs], expected)
        np.testing.assert_array_equal(stream.state["state"], state)


def test_initial_values_of_carries_are_where_reset_returns_to() -> None:
    model, xs = stepper(), RNG.normal(size=(3, 1, 4)).astype(np.float32)
    initial = RNG.normal(size=(2, 1, 4)).astype(np.float32)
    expected, _ = by_hand(model, xs, initial)
    stream = model.stream(carry={"state": "stateN"}, initial={"state": initial}, rate=1)
    initial[:] = 0  # the stream has its own copy
    for _ in range(2):
        np.testing.assert_array_equal([stream(x=x) for x in xs], expected)
        stream.reset()


def test_copies_and_saved_states_continue_independently(tmp_path: Path) -> None:
    model, xs = stepper(), RNG.normal(size=(6, 1, 4)).astype(np.float32)
    expected, _ = by_hand(model, xs, np.zeros((2, 1, 4), np.float32))
    stream = model.stream(rate=1)
    for x in xs[:3]:
        stream(x)
    stream.save(tmp_path / "state")
    branch, loaded, assigned = stream.copy(), model.stream(rate=1), model.stream(rate=1)
    loaded.load(tmp_path / "state")
    assigned.state = stream.state
    for s in (stream, branch, loaded, assigned):
        np.testing.assert_array_equal([s(x) for x in xs[3:]], expected[3:])


def test_a_file_of_another_model_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    stream = stepper().stream(rate=1)
    stream(np.ones((1, 4)))
    before = stream.state
    for other in (
        stepper(weights=1).stream(rate=1),
        stepper().stream(2, rate=1),
        onward.GRU(3, 4, rng=0).stream(),
    ):
        other.save(tmp_path / "state")
        with pytest.raises(errors.FileError):
            stream.load(tmp_path / "state")
    np.testing.assert_equal(stream.state, before)


def test_an_error_in_a_call_leaves_every_carry_unchanged() -> None:
    stream = stepper().stream(rate=1)
    stream(np.ones((1, 4)))
    before = stream.state
    for args, kind in (
        ([np.ones((1, 5))], errors.ShapeError),
        ([np.ones((1, 4), complex)], errors.DtypeError),
        ([], errors.SignatureError),
        ([np.ones((1, 4))] * 2, errors.SignatureError),
        ([np.ones((3, 4))], errors.OnwardError),  # the state has one row
    ):
        with pytest.raises(kind):
            stream(*args)
        np.testing.assert_equal(stream.state, before)


@pytest.mark.parametrize(
    ("state", "new"),
    [
        ("h", "hn"),
        ("h0", "hn"),
        ("state_in", "state_out"),
        ("hin", "hout"),
        ("prev_h", "next_h"),
        ("s", "new_s"),
    ],
)
def test_pairs_are_found_by_affixes_of_their_names(state: str, new: str) -> None:
    assert stepper(state, new).carries == {state: new}


def test_pairs_of_other_names_are_candidates_in_the_error() -> None:
    model = stepper("memory", "activity")
    assert model.carries == {}
    with pytest.raises(errors.OnwardError, match="name them with carry=: memory from activity"):
        model.stream(rate=1)
    assert model.stream(carry={"memory": "activity"}, rate=1)(np.ones((1, 4))).shape == (2, 1, 4)


def test_the_only_output_is_no_candidate_for_a_state() -> None:
    graph = Graph()
    x = graph.add_input("signal", np.float32, ("batch", "time", 3))
    last = graph.add("Gather", x, graph.add_constant(np.array(-1)), axis=1)
    scale = graph.add_input("scale", np.float32, ("batch", 3))
    graph.outputs = (graph.add("Mul", last, scale),)
    graph.declared_outputs = (Input("score", np.dtype(np.float32), ("batch", 3)),)
    with pytest.raises(errors.OnwardError) as caught:
        Model(graph).stream()
    assert "carry=" not in str(caught.value)


def test_unknown_names_are_listed() -> None:
    for arguments, name in (
        ({"carry": {"memory": "stateN"}}, "memory"),
        ({"carry": {"state": "memory"}}, "memory"),
        ({"sr": 16000}, "sr"),
        ({"initial": {"memory": 0}}, "memory"),
    ):
        with pytest.raises(errors.SignatureError, match=f"unknown .*: {name}"):
            stepper().stream(**arguments)  # type: ignore[arg-type]


def test_calls_from_several_threads_take_effect_one_after_the_other() -> None:
    model, x = stepper(), np.ones((1, 4), np.float32)
    stream = model.stream(rate=1)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: stream(x), range(200)))
    _, state = by_hand(model, [x] * 200, np.zeros((2, 1, 4), np.float32))
    np.testing.assert_array_equal(stream.state["state"], state)


def test_out_takes_the_output_and_later_calls_change_nothing_that_was_returned() -> None:
    model, xs = stepper(), RNG.normal(size=(6, 1, 4)).astype(np.float32)
    expected, _ = by_hand(model, xs, np.zeros((2, 1, 4), np.float32))
    stream, out, kept = model.stream(rate=1), np.empty((2, 1, 4), np.float32), []
    for i, x in enumerate(xs):
        branch = stream.copy()
        assert stream(x, out=out) is out
        np.testing.assert_array_equal(out, expected[i])
        kept.append(branch(x))  # a new array, and a branch whose carries are its own
    np.testing.assert_array_equal(kept, expected)
    sparse = np.empty((2, 1, 8), np.float32)[..., ::2]  # not contiguous
    stream.reset()
    for x, y in zip(xs, expected, strict=True):
        np.testing.assert_array_equal(stream(x=x, out=sparse), y)


def recurrent_over_steps() -> Model:
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    steps = graph.add("Transpose", x, perm=[1, 0, 2])
    y = graph.add_all("Recurrent", (steps, ""), 2, cell=onward.GRU(4, 4, rng=0).cell)[0]
    graph.outputs = (graph.add("Transpose", y, perm=[1, 0, 2]), graph.add("Exp", x))
    return Model(graph)


def test_out_may_not_share_memory_with_an_input_or_another_output() -> None:
    model, memory = recurrent_over_steps(), normal(np.random.default_rng(0), 2, 4, 12)
    check_separate_outputs(model, [memory[0, :, 4 * i : 4 * i + 4] for i in range(3)], memory[0, :, 2:6])
    parts = normal(np.random.default_rng(0), 3, 4, 4)  # which the core takes as they are
    check_separate_outputs(model, [*parts], parts.reshape(12, 4)[2:6])


def check_separate_outputs(model: Model, arrays: list[Any], between: Any) -> None:
    """Check calls with an input and two outputs; another array shares memory with the first two."""
    x, a, b = arrays
    expected = model(x[None])
    stream = model.stream(time_axis=1)
    for _ in range(3):  # in NumPy at first, later in the core
        for out in ((a, a), (x, b), (a, between), (between, b)):
            before = stream.state
            with pytest.raises(errors.ArgumentError, match="share"):
                stream(x, out=out)
            np.testing.assert_equal(stream.state, before)
        with pytest.raises(errors.ArgumentError, match="out is tuple, but must be"):
            stream(x, out=(a,))
        with pytest.raises(errors.DtypeError, match="out is NoneType"):
            stream(x, out=(a, None))
        y = stream(x, out=(a, b))
        assert y[0] is a and y[1] is b
        np.testing.assert_array_equal(y[0], expected[0][0])
        np.testing.assert_array_equal(y[1], expected[1][0])
        stream.reset()


def test_out_may_not_share_memory_with_a_named_input() -> None:
    stream, x = stepper().stream(rate=1), np.ones((2, 1, 4), np.float32)
    for _ in range(3):
        with pytest.raises(errors.ArgumentError, match="out shares memory with"):
            stream(x=x[0], out=x)


def test_an_out_that_does_not_fit_leaves_the_carries_unchanged() -> None:
    stream, x = stepper().stream(rate=1), np.ones((1, 4))
    stream(x)
    before, read_only = stream.state, np.zeros((2, 1, 4), np.float32)
    read_only.flags.writeable = False
    for out, kind in (
        (np.empty((2, 1, 5), np.float32), errors.ShapeError),
        (np.empty((2, 1, 4)), errors.DtypeError),
        (read_only, errors.ArgumentError),
        ([[0.0]], errors.DtypeError),
        ((read_only, read_only), errors.ArgumentError),
    ):
        with pytest.raises(kind, match="out "):
            stream(x, out=out)
        np.testing.assert_equal(stream.state, before)


def test_an_out_with_too_few_axes_is_a_wrong_shape() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", "time", 4))
    steps = graph.add("Transpose", x, perm=[1, 0, 2])
    y = graph.add_all("Recurrent", (steps, ""), 2, cell=onward.GRU(4, 4, rng=0).cell)[0]
    graph.outputs = (graph.add("Sin", graph.add("Transpose", y, perm=[1, 0, 2])),)
    stream = Model(graph).stream(2, time_axis=1)
    with pytest.raises(errors.ShapeError, match=r"out has shape \(\), but y has shape \(2, 4\)"):
        stream(np.ones((2, 4), np.float32), out=np.empty((), np.float32))


@pytest.mark.parametrize("count", [1, 2])
def test_a_call_with_out_allocates_nothing_that_grows_with_the_model(count: int) -> None:
    sizes = []
    for width in (64, 512):
        graph = Graph()
        x = graph.add_input("x", np.float32, (1, width))
        h = graph.add_input("h", np.float32, (1, width))
        W = graph.add_constant(normal(np.random.default_rng(0), width, width))
        after = graph.add("Tanh", graph.add("Add", graph.add("MatMul", x, W), h))
        outputs = [graph.add(name, after) for name in ("Neg", "Exp")[:count]]
        graph.outputs, dtype = (*outputs, after), np.dtype(np.float32)
        graph.declared_outputs = tuple(Input(name, dtype, (1, width)) for name in (*"yz"[:count], "hn"))
        stream, step = Model(graph).stream(carry={"h": "hn"}), np.ones((1, width), np.float32)
        arrays = [np.empty((1, width), dtype) for _ in outputs]
        out: Any = arrays[0] if count == 1 else tuple(arrays)
        for _ in range(3):
            stream(step, out=out)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10):
            stream(step, out=out)
        sizes.append(tracemalloc.get_traced_memory()[1] - before)
        tracemalloc.stop()
    assert sizes[1] <= sizes[0] + 256
    assert sizes[1] < 2048


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_graph_with_states_as_inputs_runs_and_streams_over_its_sequences(batch_first: bool) -> None:
    graph, dtype = Graph(), np.dtype(np.float32)
    axes = ("batch", "time", 4) if batch_first else ("time", "batch", 4)
    x, h = graph.add_input("x", dtype, axes), graph.add_input("h0", dtype, (1, "batch", 7))
    steps = graph.add("Transpose", x, perm=[1, 0, 2]) if batch_first else x
    y, h_n = graph.add_all("Recurrent", (steps, "", h), 2, cell=onward.GRU(4, 7, rng=0).cell)
    twice = graph.add("Add", y, graph.add("Sin", y))  # not a chain of layers; time first
    graph.outputs = (twice, h_n)
    graph.declared_outputs = (Input("y", dtype, ("time", "batch", 7)), Input("hn", dtype, (1, "batch", 7)))
    model, sequences = Model(graph), [normal(np.random.default_rng(i), 3 + i % 2, 4) for i in range(5)]
    alone = []
    for sequence in sequences:
        whole = sequence[None] if batch_first else sequence[:, None]
        alone.append(model(whole, np.zeros((1, 1, 7), dtype))[0][:, 0])
    found, stream = inference.outputs(model, sequences), model.stream()
    for place, sequence in enumerate(sequences):
        np.testing.assert_array_equal(found[place], alone[place])
        stream.reset()
        np.testing.assert_array_equal([stream(x_t) for x_t in sequence], alone[place])


@pytest.mark.parametrize("layer", [onward.Activation("relu"), onward.Conv1d(3, 9, 2, groups=3, rng=0)])
def test_a_given_time_axis_is_not_asked_for(layer: Any, tmp_path: Path) -> None:
    onward.Sequential(onward.MaxPool1d(2, stride=1), layer).export_onnx(tmp_path / "model.onnx")
    model, x = onward.load(tmp_path / "model.onnx"), normal(np.random.default_rng(0), 3, 9)
    if isinstance(layer, onward.Activation):  # any number of channels fits
        with pytest.raises(
            errors.ArgumentError, match=r"\(batch, channels, length\), and no weight tells the size"
        ):
            model.stream(time_axis=2)
        return
    stream = model.stream(time_axis=2)
    y = np.concatenate([stream(x[:, :4]), stream(x[:, 4:]), stream.finish()], 1)
    np.testing.assert_array_equal(y, model(x[None])[0])


@pytest.mark.parametrize("kernel", [[1, 2], [2, 2]])
def test_convolutions_that_are_pooled_at_once_stream_with_the_bits_of_the_whole_sequence(
    kernel: list[int],
) -> None:
    rng, graph = np.random.default_rng(0), Graph()
    value = graph.add_input("x", np.dtype(np.float32), ("batch", 1, "time", 13))
    for channels, before in ((20, 1), (9, 20)):
        W = graph.add_constant(normal(rng, channels, before, 3, 3) / 9)
        value = graph.add("Relu", graph.add("Conv", value, W, pads=[1, 1, 1, 1]))
        value = graph.add("MaxPool", value, kernel_shape=kernel, strides=kernel)
    graph.outputs = (value,)
    model, x = Model(graph), normal(rng, 3, 1, 61, 13)
    expected = model(x)
    assert "".join(described_steps(model.programs[-1])).count("pooled_product") == 2
    streams, pool = [model.stream(time_axis=2) for _ in x], model.pool(3, time_axis=2)
    ids, parts, t = pool.open(3), [], 0
    while t < x.shape[2]:
        block = x[:, :, t : t + int(rng.integers(1, 9))]
        rows = [stream(row) for stream, row in zip(streams, block, strict=True)]
        parts.append(pool.step(ids, block))
        for row, own in zip(parts[-1], rows, strict=True):
            np.testing.assert_array_equal(row, own, strict=True)
        t += block.shape[2]
    found = [np.concatenate(steps, 1) for steps in zip(*parts, pool.finish(ids), strict=True)]
    np.testing.assert_array_equal(found, expected)
