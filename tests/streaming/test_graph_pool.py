"""Pools of whole models give each stream the bits that it gets on its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.multirate_graphs import MultirateGraph
from support.sequence_graphs import RandomGraph, detector, normal
from support.sequence_graphs import stepper as row_stepper
from support.skips import counted_cases

from onward import GRU, errors
from onward.core import storage
from onward.graph import Graph, Input, Model

FLOAT = np.dtype(np.float32)


def assert_equal_bits(y: Any, expected: Any) -> None:
    np.testing.assert_array_equal(
        np.asarray(y).view(np.int32), np.asarray(expected).view(np.int32), strict=True
    )


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_pool_with_the_bits_of_each_stream_alone(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    model = RandomGraph(seed).build(int(rng.integers(1, 6)), has_checks=True)
    pool, streams = model.pool(2, time_axis=1), [model.stream(time_axis=1) for _ in range(5)]
    ids = pool.open(5)
    for turn in range(8):
        places = np.flatnonzero(rng.random(5) < 0.6 * (turn != 6))
        steps = None if turn % 2 else int(rng.integers(0, 5))
        x = normal(rng, len(places), 5) if steps is None else normal(rng, len(places), steps, 5)
        y = pool.step(ids[places], x)
        assert len(y) == len(places)
        for own, place, row in zip(y, places, x, strict=True):
            assert_equal_bits(own, streams[place](row))
        if turn == 3:
            pool.save(tmp_path / "pool")
            pool = model.pool(1, time_axis=1)
            pool.load(tmp_path / "pool")
        if turn == 5:
            pool, ids, streams = pool.copy(), ids[1:], streams[1:]
            pool.close([int(ids[0]) - 1] if int(ids[0]) - 1 in pool.ids else [])
            ids, streams = np.append(ids, pool.open(1)), [*streams, model.stream(time_axis=1)]
    places = rng.permutation(5)[:4]
    for last, place in zip(pool.finish(ids[places]), places, strict=True):
        assert_equal_bits(last, streams[place].finish())


def test_sequences_that_have_ended_need_reset() -> None:
    model, x = detector(8), normal(np.random.default_rng(0), 3, 6, 8)
    pool, stream = model.pool(4), model.stream()
    ids = pool.open(3)
    pool.step(ids, x)
    state = pool.state(ids)
    expected = [stream(x[1]), stream.finish()]
    assert_equal_bits(pool.finish(ids[:2])[1], expected[1])
    twin = pool.copy()
    for each in (pool, twin):
        for call in (lambda: each.step(ids, x), lambda: each.finish(ids)):  # noqa: B023
            with pytest.raises(errors.ArgumentError, match=r"streams \[0, 1\] have ended: call reset"):
                call()
        np.testing.assert_equal(each.state(ids), state)
        each.step(ids[2:], x[2:])
    pool.reset(ids[:1])
    assert_equal_bits(pool.step(ids[:1], x[1:2])[0], expected[0])
    pool.set_state(ids[1:2], state[1:2])
    assert_equal_bits(pool.finish(ids[:2])[1], expected[1])
    pool.close(ids[:1])
    assert pool.open(1) == ids[:1]
    assert_equal_bits(pool.step(ids[:1], x[1:2])[0], expected[0])
    with pytest.raises(errors.ArgumentError, match="not open"):
        pool.finish([3])


def test_finish_returns_the_result_of_each_output_and_stream(tmp_path: Path) -> None:
    drawn = RandomGraph(0)
    drawn.add("Conv", drawn.constant(4, 5, 3), pads=[1, 1])
    largest = drawn.graph.add("ReduceMax", drawn.value, drawn.integers(2), keepdims=0)
    drawn.graph.outputs = (drawn.graph.add("Transpose", drawn.value, perm=[0, 2, 1]), largest)
    model, rng = Model(drawn.graph), np.random.default_rng(0)
    pool, lengths = model.pool(4, time_axis=1), (0, 1, 5, 9)
    ids, x = pool.open(4), [normal(rng, 1, n, 5) for n in lengths]
    parts = [pool.step(ids[i : i + 1], x[i])[0][0] for i in range(4)]
    pool.save(tmp_path / "pool")
    steps, results = pool.finish(ids)
    for i in range(1, 4):  # the convolution needs a step
        whole, result = model(x[i])
        assert_equal_bits(np.concatenate([parts[i], steps[i]]), whole[0])
        assert_equal_bits(results[i], result[0])
    pool.load(tmp_path / "pool")  # the sequences before their end
    assert_equal_bits(pool.finish(ids)[1], results)


def test_finish_needs_a_sequence() -> None:
    pool = stepper("batch").pool(2)
    with pytest.raises(errors.ArgumentError, match=r"named \(h\): each call returns all its steps"):
        pool.finish(pool.open(1))


def stepper(batch: int | str, flat: tuple[int, ...] = (-1, 8)) -> Model:
    """state' = tanh(x W + state), y = state' reshaped twice, with the state of shape (2, batch, 4)."""
    graph = Graph()
    x, h = graph.add_input("x", FLOAT, (batch, 4)), graph.add_input("h", FLOAT, (2, batch, 4))
    W = graph.add_constant(normal(np.random.default_rng(0), 4, 4))
    after = graph.add("Tanh", graph.add("Add", graph.add("MatMul", x, W), h), output="hn")
    rows = graph.add("Transpose", after, perm=[1, 0, 2])
    y = graph.add("Reshape", rows, graph.add_constant(np.array(flat)), name="flatten")
    graph.outputs = (graph.add("Exp", y), after)
    graph.declared_outputs = (Input("y", FLOAT), Input("hn", FLOAT, (2, batch, 4)))
    return Model(graph)


@pytest.mark.parametrize(("batch", "flat"), [("batch", (-1, 8)), (1, (1, 8)), (1, (-1, 8))])
def test_named_carries_pool_even_if_the_file_fixes_one_row(batch: int | str, flat: tuple[int, ...]) -> None:
    rng, model = np.random.default_rng(0), stepper(batch, flat)
    pool, streams = model.pool(10), [model.stream() for _ in range(4)]
    ids = pool.open(4)
    for _ in range(5):
        places = rng.permutation(4)[: rng.integers(1, 5)]
        x = normal(rng, len(places), 4)
        expected = np.concatenate([streams[place](row[None]) for place, row in zip(places, x, strict=True)])
        assert_equal_bits(pool.step(ids[places], x), expected)
    for state, stream in zip(pool.state(ids), streams, strict=True):
        np.testing.assert_equal(state, stream.state)
    pool.set_state(ids[:1], pool.state(ids[1:2]))
    pool.reset(ids[1:2])
    np.testing.assert_equal(pool.state(ids[:2]), [streams[1].state, model.stream().state])


def test_the_first_step_of_a_file_with_several_open_sizes_takes_several_rows() -> None:
    model, x = stepper("batch"), normal(np.random.default_rng(0), 3, 4)
    model.graph.inputs[0] = Input("x", FLOAT, ("batch", "features"))
    pool = Model(model.graph).pool(3)
    with pytest.raises(errors.OnwardError):
        pool.step(pool.open(1), x[:1, :3])
    expected = [model.stream()(row[None]) for row in x[:2]]
    assert_equal_bits(pool.step([0, *pool.open(1)], x[:2]), np.concatenate(expected))
    assert pool.runs_together


def test_a_graph_that_counts_the_axes_of_its_rows_runs_them_together() -> None:
    """PyTorch's exporter writes x.dim() as Size(Shape(x))."""
    graph = Graph()
    x, h = graph.add_input("x", FLOAT, ("batch", 4)), graph.add_input("h", FLOAT, ("batch", 4))
    rank = graph.add("Cast", graph.add("Size", graph.add("Shape", x)), to="float32")
    graph.outputs = (graph.add("Add", h, x, output="hn"), graph.add("Mul", x, rank, output="y"))
    graph.declared_outputs = (Input("hn", FLOAT, ("batch", 4)), Input("y", FLOAT, ("batch", 4)))
    pool, rows = Model(graph).pool(3), normal(np.random.default_rng(0), 3, 4)
    assert_equal_bits(pool.step(pool.open(3), rows), 2 * rows)
    assert pool.runs_together


def total() -> Model:
    """hn = h + the sum of x over its rows, y = x + that sum."""
    graph = Graph()
    x, h = graph.add_input("x", FLOAT, ("batch", 4)), graph.add_input("h", FLOAT, ("batch", 4))
    total = graph.add("ReduceSum", x, graph.add_constant(np.array([0])), keepdims=1)
    graph.outputs = (graph.add("Add", h, total, output="hn"), graph.add("Add", x, total, output="y"))
    graph.declared_outputs = (Input("hn", FLOAT, ("batch", 4)), Input("y", FLOAT, ("batch", 4)))
    return Model(graph)


def flat() -> Model:
    """hn = h + x without its axis of one row, y = exp(that x)."""
    graph = Graph()
    x, h = graph.add_input("x", FLOAT, (1, 4)), graph.add_input("h", FLOAT, (1, 4))
    flat = graph.add("Reshape", x, graph.add_constant(np.array([4])))
    graph.outputs = (graph.add("Add", h, flat, output="hn"), graph.add("Exp", flat, output="y"))
    graph.declared_outputs = (Input("hn", FLOAT, (1, 4)), Input("y", FLOAT, (4,)))
    return Model(graph)


@pytest.mark.parametrize("build", [total, flat])
def test_rows_that_a_graph_ties_together_run_one_after_the_other(build: Any) -> None:
    rng, model = np.random.default_rng(0), build()
    pool, streams = model.pool(4), [model.stream() for _ in range(4)]
    ids = pool.open(4)
    for places in ([2, 0, 3], [1, 2, 3, 0], [1]):
        x = normal(rng, len(places), 4)
        expected = [streams[place](row[None]).ravel() for place, row in zip(places, x, strict=True)]
        assert_equal_bits(pool.step(ids[places], x), np.stack(expected))
    np.testing.assert_equal(pool.state(ids), [stream.state for stream in streams])
    assert pool.step([], np.ones((0, 4))).shape == (0, 4)


def test_an_input_without_a_batch_axis_has_the_rows_on_a_new_one() -> None:
    model, x = row_stepper(), normal(np.random.default_rng(0), 3, 4)
    pool, rates = model.pool(3), np.array([1, 2, 3])
    y = pool.step(pool.open(3), x, rates)
    for i, rate in enumerate(rates):
        assert_equal_bits(y[:, i], model.stream()(x[i : i + 1], rate)[:, 0])


def test_an_input_of_steps_before_rows_states_the_shape_that_it_takes() -> None:
    """The file takes its only step from the first of two axes of size 1."""
    graph, zero = Graph(), np.array([0])
    x, h = graph.add_input("x", FLOAT, (1, 1, 4)), graph.add_input("h", FLOAT, (1, 4))
    step = graph.add("Squeeze", x, graph.add_constant(zero))
    hn = graph.add("Add", h, step, output="hn")
    graph.outputs = (hn, graph.add("Unsqueeze", hn, graph.add_constant(zero), output="y"))
    graph.declared_outputs = (Input("hn", FLOAT, (1, 4)), Input("y", FLOAT, (1, 1, 4)))
    pool, rows = Model(graph).pool(3), normal(np.random.default_rng(0), 3, 4)
    ids = pool.open(3)
    with pytest.raises(errors.ShapeError, match=r"needs 3 rows on axis 1, as ids: pass \(1, 3, 4\)"):
        pool.step(ids, rows[:, None])
    assert_equal_bits(pool.step(ids, rows[None]), rows[None])


def test_errors_of_a_step_change_no_stream() -> None:
    pool = stepper("batch").pool(2, max_capacity=3)
    ids = pool.open(2)
    pool.step(ids, np.ones((2, 4)))
    before = pool.state(ids)
    for call, kind in (
        (lambda: pool.step(ids, np.ones((3, 4))), errors.ShapeError),
        (lambda: pool.step(ids, np.ones((2, 5))), errors.ShapeError),
        (lambda: pool.step(ids, np.ones((2, 4), complex)), errors.DtypeError),
        (lambda: pool.step([0, 0], np.ones((2, 4))), errors.ArgumentError),
        (lambda: pool.step([0, 7], np.ones((2, 4))), errors.ArgumentError),
        (lambda: pool.step([0.5], np.ones((1, 4))), errors.DtypeError),
        (lambda: pool.step([ids], np.ones((2, 4))), errors.ShapeError),
        (lambda: pool.step(ids), errors.SignatureError),
        (lambda: pool.open(2), errors.ArgumentError),
        (lambda: pool.close([5]), errors.ArgumentError),
        (lambda: pool.set_state(ids, [{}, {}]), errors.ArgumentError),
    ):
        with pytest.raises(kind):
            call()
        np.testing.assert_equal(pool.state(ids), before)
    assert len(pool) == 2
    assert pool.capacity == 2
    assert pool.step([], np.ones((0, 4))).shape == (0, 8)


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    stepper("batch").stream().save(tmp_path / "stream")
    with pytest.raises(errors.FileError, match="is not the state of a pool of a whole model"):
        stepper("batch").pool(1).load(tmp_path / "stream")
    pool = RandomGraph(0).build(2).pool(1, time_axis=1)
    pool.save(tmp_path / "pool")
    with pytest.raises(errors.FileError, match="another model"):
        stepper("batch").pool(1).load(tmp_path / "pool")


def test_files_that_fix_the_number_of_steps_stream_and_pool_with_any() -> None:
    model, x = detector(8, steps=50), normal(np.random.default_rng(0), 1, 50, 8)
    stream, pool = model.stream(), model.pool(1)
    y = [stream(x[0, :3]), stream(x[0, 3:]), stream.finish()]
    assert_equal_bits(np.concatenate(y), model(x)[0])
    ids = pool.open(1)
    parts = [pool.step(ids, x[:, :7])[0], *(pool.step(ids, x[:, t])[0] for t in range(7, 50))]
    assert_equal_bits(np.concatenate(parts), np.concatenate(y)[: len(np.concatenate(parts))])


def test_an_interrupt_changes_no_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = detector(8), normal(np.random.default_rng(0), 2, 6, 8)
    pool = model.pool(2)
    ids = pool.open(2)
    pool.step(ids, x)
    states = pool.state(ids)

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pool.rows.planner, "ready", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pool.step(ids, x)
    np.testing.assert_equal(pool.state(ids), states)


@pytest.mark.parametrize("perm", [[2, 0, 1], [0, 1, 2], [1, 0, 2]])
@pytest.mark.parametrize("n", [1, 5, 131])
def test_streams_that_run_together_take_one_call_of_the_core(
    perm: list[int], n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are the first axis of the input, or follow the time axis."""
    graph, rng = Graph(), np.random.default_rng(n)
    names = [("time", "batch", 5)[axis] for axis in np.argsort(perm)]
    x = graph.add_input("x", np.dtype(np.float32), tuple(names))
    y, *_ = graph.add_all("Recurrent", [graph.add("Transpose", x, perm=perm)], 2, cell=GRU(5, 4, rng=0).cell)
    graph.outputs = (graph.add("Sin", graph.add("Transpose", y, perm=list(np.argsort(perm)))),)
    model = Model(graph)
    pool, time = model.pool(n), names.index("time") - (names.index("batch") < names.index("time"))
    ids = rng.permutation(pool.open(n))[: max(1, n // 2 + 1)]
    streams = [model.graph_stream() for _ in ids]
    blocks = [
        np.zeros((len(ids), *(5 if name == 5 else T for name in names if name != "batch")), "f4")
        for T in (1, 3)
    ]
    for block in blocks:  # the first calls compile
        pool.step(ids, block)
        pool.step(ids, np.take(block, 0, 1 + time))
    pool.reset(ids)
    is_first = names.index("batch") == 0
    monkeypatch.setattr(pool, "_run", None)
    for T in (1, 3) if is_first else (1,):  # other blocks are not in the order of the input
        block = rng.standard_normal(blocks[T > 1].shape).astype(np.float32)
        assert_equal_bits(
            pool.step(ids, block), np.stack([s(x) for s, x in zip(streams, block, strict=True)])
        )
        step = np.take(block, 0, 1 + time)
        assert_equal_bits(pool.step(ids, step), np.stack([s(x) for s, x in zip(streams, step, strict=True)]))


def test_any_number_of_streams_runs_with_few_programs() -> None:
    rng, model = np.random.default_rng(0), stepper("batch")
    pool, streams = model.pool(150), [model.stream() for _ in range(150)]
    ids = pool.open(150)
    for n in (150, 77, 1, 128, 149):
        places, x = rng.permutation(150)[:n], normal(rng, n, 4)
        expected = [streams[place](row[None]) for place, row in zip(places, x, strict=True)]
        assert_equal_bits(pool.step(ids[places], x), np.concatenate(expected))
    assert pool.rows is not None
    assert len(pool.rows.planner.programs) <= 2  # for one row and for several


def test_many_streams_in_different_phases_run_with_the_bits_of_each_alone() -> None:
    rng, model = np.random.default_rng(0), RandomGraph(0).build(5)  # it halves the steps
    pool, first = model.pool(1, time_axis=1), model.stream(time_axis=1)
    ids, streams = pool.open(150), [first.copy() for _ in range(150)]
    for n, steps in ((150, 1), (90, 3), (131, 2), (150, 5)):
        places = rng.permutation(150)[:n]
        x = normal(rng, n, steps, 5)
        for y, place, row in zip(pool.step(ids[places], x), places, x, strict=True):
            assert_equal_bits(y, streams[place](row))
    assert pool.rows is not None
    for program in pool.rows.planner.programs:
        shapes = [required[1] for required in program.signature]
        rows = [shape[axis] for shape, axis in zip(shapes, pool.rows.axes, strict=True)]
        assert max(rows) <= 1, "a program holds for one number of rows"


def test_an_id_far_beyond_the_streams_of_a_file_is_refused(tmp_path: Path) -> None:
    pool = stepper("batch").pool(2)
    pool.open(1)
    pool.save(tmp_path / "pool")
    tensors, metadata = storage.read(tmp_path / "pool")
    moved = {name.replace("0.", f"{10**9}.", 1): array for name, array in tensors.items()}
    storage.write(tmp_path / "pool", moved | {"ids": np.array([10**9])}, metadata or {})
    with pytest.raises(errors.FileError, match=r"ids up to 1000000000, which need [\d,]+ bytes of memory"):
        pool.load(tmp_path / "pool")
    assert list(pool.ids) == [0]


def test_ids_stay_as_the_capacity_doubles_and_streams_close(tmp_path: Path) -> None:
    model, x = stepper("batch"), normal(np.random.default_rng(0), 7, 4)
    pool, streams = model.pool(1), [model.stream() for _ in range(7)]
    ids = pool.open(7)
    expected = np.concatenate([stream(row[None]) for stream, row in zip(streams, x, strict=True)])
    assert_equal_bits(pool.step(ids, x), expected)
    pool.close(ids[[1, 4]])
    (again,) = pool.open(1)
    assert again in ids[[1, 4]]
    assert_equal_bits(pool.step([again], x[:1]), model.stream()(x[:1]))
    pool.save(tmp_path / "pool")
    other = model.pool(1)
    other.load(tmp_path / "pool")
    assert list(other.ids) == list(pool.ids)
    rows = [0, 2, 3, 5, 6]
    expected = np.concatenate([streams[row](x[row : row + 1]) for row in rows])
    assert_equal_bits(other.step(ids[rows[::-1]], x[rows[::-1]])[::-1], expected)


def test_an_output_that_is_the_same_for_all_rows_has_a_row_for_each_stream() -> None:
    graph = Graph()
    x, h = graph.add_input("x", FLOAT, ("batch", 4)), graph.add_input("h", FLOAT, ("batch", 4))
    after = graph.add("Tanh", graph.add("Add", x, h), output="hn")
    rows = graph.add("Gather", graph.add("Shape", x), graph.add_constant(np.array([0])))
    sizes = graph.add("Concat", rows, graph.add_constant(np.array([2])), axis=0)
    deviations = normal(np.random.default_rng(0), 2)
    graph.outputs = (graph.add("Expand", graph.add_constant(deviations), sizes), after)
    graph.declared_outputs = (Input("deviations", FLOAT), Input("hn", FLOAT, ("batch", 4)))
    pool = Model(graph).pool(3)
    for n in (2, 3):
        assert_equal_bits(pool.step(pool.open(n), np.ones((n, 4), np.float32)), np.stack([deviations] * n))
        pool.close(pool.ids)


def test_multirate_graphs_pool_with_the_bits_of_each_stream_alone() -> None:
    def assert_equal_rows(y: Any, expected: list[Any]) -> None:
        rows = zip(*y, strict=True) if isinstance(y, tuple) else ((row,) for row in y)
        for own, alone in zip(rows, expected, strict=True):
            for one, other in zip(own, alone if isinstance(y, tuple) else (alone,), strict=True):
                assert_equal_bits(one, other)

    for case in counted_cases(12, most=1 / 3):
        with case:
            rng, model = np.random.default_rng(case.seed), MultirateGraph(case.seed or 0).build(5)
            with case.skipping(errors.ArgumentError, match="cannot stream: "):
                streams = [model.stream(time_axis=1) for _ in range(3)]
            pool = model.pool(3, time_axis=1)
            ids = pool.open(3)
            for _ in range(int(rng.integers(6))):
                places = np.flatnonzero(rng.random(3) < 0.7)
                x = normal(rng, len(places), int(rng.integers(0, 9)), 5)
                y = pool.step(ids[places], x)
                assert_equal_rows(y, [streams[place](rows) for place, rows in zip(places, x, strict=True)])
            for place in range(3):  # a sequence alone may have a length that the model does not take
                with case.skipping(errors.ShapeError):
                    expected = streams[place].finish()
                assert_equal_rows(pool.finish(ids[place : place + 1]), [expected])


def test_known_steps_after_the_last_one_end_each_sequence() -> None:
    """`finish` of the pool raised ArgumentError, because these steps hold for one row."""
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", "time", 4))
    batch = graph.add("Gather", graph.add("Shape", x), graph.add_constant(np.array([0])))
    sizes = graph.add("Concat", batch, graph.add_constant(np.array([2, 4])), axis=0)
    steps = graph.add("Expand", graph.add_constant(np.ones((1, 1, 4), np.float32)), sizes)
    graph.outputs = (graph.add("Concat", x, steps, axis=1),)
    pool = Model(graph).pool(3, time_axis=1)
    ids, blocks = pool.open(3), normal(np.random.default_rng(0), 3, 5, 4)
    y = np.concatenate([pool.step(ids, blocks), pool.finish(ids)], 1)
    np.testing.assert_array_equal(y, Model(graph)(blocks))


def test_a_graph_that_adds_to_its_input_is_not_taken_for_a_chain_of_layers() -> None:
    graph = Graph()
    x, h = graph.add_input("x", FLOAT, ("batch", 4)), graph.add_input("h", FLOAT, ("batch", 4))
    graph.outputs = (graph.add("Add", x, h, name="sum"),)
    graph.declared_outputs = (Input("hn", FLOAT, ("batch", 4)),)
    with pytest.raises(errors.ArgumentError, match=r"node sum .*cannot be converted to layers"):
        Model(graph).layers()


@pytest.mark.parametrize("seed", range(6))
def test_a_reshape_that_infers_the_steps_takes_blocks_of_any_length(seed: int) -> None:
    """The file fixes one row, and reshapes to (-1, 1, ...)."""
    rng, graph = np.random.default_rng(seed), Graph()
    time = seed % 2
    x = graph.add_input("x", np.float32, (1, "time", 8) if time else ("time", 1, 8))
    y = graph.add("Transpose", x, perm=[1, 0, 2]) if time else x
    y = graph.add("Recurrent", y, cell=GRU(8, 8, rng=seed).cell)
    for shape in ([2, 4], [[8], [4, 2], [2, 2, 2]][seed // 2]):
        y = graph.add("Reshape", y, graph.add_constant(np.array([-1, 1, *shape])))
    graph.outputs = (graph.add("Tanh", y),)
    model = Model(graph)
    pool, streams = model.pool(3), [model.stream() for _ in range(3)]
    ids = pool.open(3)
    assert pool.runs_together
    for steps in (6, 1, 0, 7):
        blocks = normal(rng, 3, steps, 8)
        for own, stream, block in zip(pool.step(ids, blocks), streams, blocks, strict=True):
            assert_equal_bits(own, stream(np.expand_dims(block, 1 - time))[:, 0])
