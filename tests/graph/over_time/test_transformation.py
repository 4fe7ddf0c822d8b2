"""Graphs over blocks give the bits of the graph over the whole sequence, however it is split."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import control_flow
from support.onnx_nodes import open_model
from support.running import loaded_programs
from support.sequence_graphs import RandomGraph, blocks, detector, normal
from support.skips import Case, counted_cases

import onward
from onward import errors
from onward.graph import Graph, Model


def assert_streams(case: Case, T: int, batch: int | None, path: Path) -> None:
    """Stream a random sequence in random blocks, with branches and saved states."""
    rng = np.random.default_rng(case.seed)
    model = RandomGraph(case.seed).build(int(rng.integers(1, 7)), has_checks=True)
    x = normal(rng, batch or 1, T, 5)
    with case.skipping(errors.OnwardError):  # shorter than a window, or than its padding
        whole = model(x)
    stream, parts = model.stream(batch, time_axis=1), []
    is_over_time = model.graph.nodes[-1].operation == "Transpose"
    for block in blocks(rng, T):
        parts.append(stream(x[:, block] if batch else x[0, block]))
        match rng.integers(4):
            case 0:
                branch = stream.copy()
                stream(x[:, :3] if batch else x[0, :3])  # must not change the branch
                stream = branch
            case 1:
                stream.save(path)
                stream = model.stream(batch, time_axis=1)
                stream.load(path)
            case 2:
                state = stream.state
                stream = model.stream(batch, time_axis=1)
                stream.state = state
    parts.append(stream.finish())
    expected = whole if batch else whole[0]
    y = np.concatenate(parts, -2) if is_over_time else parts[-1]
    np.testing.assert_array_equal(y.view(np.int32), expected.view(np.int32), strict=True)


@pytest.mark.parametrize(("T", "batch"), [(1, None), (11, 3), (40, None)])
def test_random_graphs_stream_with_the_bits_of_the_whole_call(
    T: int, batch: int | None, tmp_path: Path
) -> None:
    for case in counted_cases(40):
        with case:
            assert_streams(case, T, batch, tmp_path / "state")


@pytest.mark.parametrize("dtype", [np.int64, np.float32], ids=str)
def test_positions_continue_from_block_to_block(dtype: Any) -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", "time", 3))
    length = graph.add("Slice", graph.add("Shape", x), *(graph.add_constant(np.array([n])) for n in (1, 2)))
    limits = [graph.add_constant(np.array([4])), length, graph.add_constant(np.array([-2]))]
    limits[1] = graph.add("Add", graph.add("Mul", length, limits[2]), limits[0])
    places = graph.add("Range", *(graph.add("Cast", name, to=np.dtype(dtype)) for name in limits))
    embedding = graph.add_constant(normal(np.random.default_rng(0), 40, 3))
    places = graph.add("Cast", places, to=np.dtype(np.int64))
    graph.outputs = (graph.add("Add", x, graph.add("Gather", embedding, places)),)
    model = Model(graph)
    x = normal(np.random.default_rng(1), 2, 13, 3)
    expected = x + graph.constants[embedding][4 - 2 * np.arange(13)]
    np.testing.assert_array_equal(model(x), expected)
    stream, pool = model.stream(2, time_axis=1), model.pool(2, time_axis=1)
    np.testing.assert_array_equal(
        np.concatenate([stream(x[:, :1]), stream(x[:, 1:9]), stream(x[:, 9:])], 1), expected
    )
    a, b = pool.open(2)
    np.testing.assert_array_equal(pool.step([a], x[:1, 0]), expected[:1, 0])  # the rows are at other places
    np.testing.assert_array_equal(pool.step([a, b], x[:, [1, 0]][[0, 1], [0, 1]]), expected[[0, 1], [1, 0]])


@pytest.mark.parametrize("precision", ["int8", "float16"])
@pytest.mark.parametrize("seed", range(8))
def test_compressed_graphs_stream_with_the_bits_of_the_whole_call(seed: int, precision: str) -> None:
    rng = np.random.default_rng(seed)
    model = RandomGraph(seed).build(4)
    small, x = model.quantize(precision), normal(rng, 2, 29, 5)
    stream, whole = small.stream(2, time_axis=1), small(x)
    parts = [*(stream(x[:, block]) for block in blocks(rng, 29)), stream.finish()]
    is_over_time = model.graph.nodes[-1].operation == "Transpose"
    y = np.concatenate(parts, -2) if is_over_time else parts[-1]
    np.testing.assert_array_equal(y.view(np.int32), whole.view(np.int32), strict=True)


def over_steps(*operations: tuple[Any, ...], time_axis: int = 1) -> Model:
    """Build a graph of x (1, time, 4); each operation is (name, inputs after the first, attributes)."""
    graph = Graph()
    value = graph.add_input("x", np.float32, (1, "time", 4))
    for name, inputs, attributes in operations:
        constants = [graph.add_constant(np.asarray(array)) for array in inputs]
        value = graph.add(name, value, *constants, name=f"the {name}", **attributes)
    graph.outputs = (value,)
    return Model(graph)


FILTERS = normal(np.random.default_rng(0), 4, 4, 3)
TO_CHANNELS = ("Transpose", [], {"perm": [0, 2, 1]})
WHOLE = [
    ([("Softmax", [], {"axis": 1})], "it combines the steps of the whole sequence"),
    ([("Flatten", [], {})], "it merges time with another axis"),
    ([("CumSum", [1], {"reverse": 1})], "its sum starts at the last step"),
    ([("Gather", [0], {"axis": 1})], "it takes other steps than the last one"),
    (
        [TO_CHANNELS, ("Conv", [FILTERS], {"auto_pad": "SAME_UPPER", "strides": [2]})],
        "its padding depends on",
    ),
    ([("Pad", [[0, 2, 0, 0, 0, 0]], {"mode": "wrap"})], "it pads time with mode='wrap'"),
    ([TO_CHANNELS, ("InstanceNormalization", [np.ones(4, np.float32)] * 2, {})], "it combines the steps"),
    ([("Einsum", [], {"equation": "btc->bc"})], "it combines the steps"),
    ([("GatherND", [[[0, 1]]], {})], "it combines the steps of the whole sequence"),
    ([("ScatterND", [[[0, 1]], np.ones((1, 4), np.float32)], {})], "it combines the steps"),
    ([("ScatterElements", [[[[0]]], np.ones((1, 1, 1), np.float32)], {"axis": 2})], "it combines the steps"),
    ([("GridSample", [np.zeros((1, 2, 1), np.float32)], {})], "Onward has no rule for GridSample over time"),
]


@pytest.mark.parametrize(("operations", "reason"), WHOLE, ids=[reason for _, reason in WHOLE])
def test_an_operation_that_needs_the_whole_sequence_is_named_with_the_reason(
    operations: list[Any], reason: str
) -> None:
    with pytest.raises(errors.ArgumentError, match=f"node the .*: cannot stream: {reason}"):
        over_steps(*operations).stream(time_axis=1)


ENTRIES = [  # operations on the features (1, time, 2, 2) of each step
    ([("Transpose", [], {"perm": [3, 2, 0, 1]}), ("GatherND", [[[1, 0], [0, 0], [1, 1]]], {})], 2),
    ([("Transpose", [], {"perm": [3, 2, 0, 1]}), ("GatherND", [[[1], [0]]], {})], 3),
    ([("Transpose", [], {"perm": [2, 0, 1, 3]}), ("GatherND", [[[1], [1]]], {"batch_dims": 0})], 2),
    ([("Det", [], {})], 1),
]


@pytest.mark.parametrize(("operations", "axis"), ENTRIES, ids=[f"{o[-1][0]}-{axis}" for o, axis in ENTRIES])
def test_operations_on_entries_of_each_step_keep_the_steps_apart(operations: list[Any], axis: int) -> None:
    model = over_steps(("Reshape", [[1, -1, 2, 2]], {}), *operations)
    x = normal(np.random.default_rng(0), 1, 7, 4)
    stream = model.stream(time_axis=1)
    parts = [stream(x[:, block]) for block in (slice(0, 1), slice(1, 5), slice(5, 7))]
    np.testing.assert_array_equal(np.concatenate(parts, axis), model(x))


def test_updates_of_entries_of_each_step_keep_the_steps_apart() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    first = graph.add("Transpose", x, perm=[2, 0, 1])
    update = graph.add(
        "Slice", graph.add("Tanh", first), *(graph.add_constant(np.array([n])) for n in (1, 3, 0))
    )
    updated = graph.add("ScatterND", first, graph.add_constant(np.array([[3], [0]])), update)
    places = graph.add(
        "Cast", graph.add("Greater", x, graph.add_constant(np.float32(0))), to=np.dtype(np.int64)
    )
    chosen = graph.add("ScatterElements", graph.add("Transpose", updated, perm=[1, 2, 0]), places, x, axis=2)
    graph.outputs = (chosen,)
    model, values = Model(graph), normal(np.random.default_rng(0), 1, 9, 4)
    stream = model.stream(time_axis=1)
    parts = [stream(values[:, block]) for block in (slice(0, 1), slice(1, 6), slice(6, 9))]
    np.testing.assert_array_equal(np.concatenate(parts, 1), model(values))


def at_places(first: int, step: int, *taps: int) -> Model:
    """Return the windows of x (batch, time) whose first places a Range counts, backwards if step < 0."""
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", "time"))
    length, zero = graph.add("Shape", x, start=1, end=2), graph.add_constant(np.array([0]))
    limits = [zero, graph.add("Sub", length, graph.add_constant(np.array([max(taps)])))]
    starts = graph.add("Range", *limits[:: 1 if step > 0 else -1], graph.add_constant(np.array([step])))
    starts = graph.add("Unsqueeze", starts, graph.add_constant(np.array([1])))
    places = graph.add("Add", starts, graph.add_constant(np.array([tap + first for tap in taps])))
    graph.outputs = (graph.add("Gather", x, places, axis=1),)
    return Model(graph)


@pytest.mark.parametrize(
    ("first", "step", "taps"),
    [(-1, 1, (0, 1)), (0, -1, (0, 1)), (0, 1, (0, 1, 3))],
    ids=["from the end", "backwards", "at several distances"],
)
def test_windows_that_are_not_those_of_a_convolution_are_refused(
    first: int, step: int, taps: tuple[int, ...]
) -> None:
    at_places(0, 2, 0, 1).stream(time_axis=1)
    with pytest.raises(errors.ArgumentError, match="Gather"):
        at_places(first, step, *taps).stream(time_axis=1)


def assert_blocks_equal_the_whole(model: Model, x: Any, axis: int) -> None:
    """Stream x without its batch axis in random blocks of axis 1; the output has its steps on `axis`."""
    rng, whole = np.random.default_rng(0), model(x)
    for _ in range(4):
        stream = model.stream(time_axis=1)
        parts = [stream(x[0, block]) for block in blocks(rng, x.shape[1])]
        y = np.concatenate([*parts, stream.finish()], axis - 1)
        np.testing.assert_array_equal(y, whole[0], strict=True)


@pytest.mark.parametrize("operation", ["QLinearConv", "ConvInteger"])
@pytest.mark.parametrize("stride", [1, 2])
def test_quantized_convolutions_pad_with_their_zero_point(operation: str, stride: int) -> None:
    rng = np.random.default_rng(0)
    scale, zero = np.array(0.05, np.float32), np.array(117, np.uint8)
    weights, options = rng.integers(0, 255, (6, 4, 3)).astype(np.uint8), {"pads": [1, 1], "strides": [stride]}
    factors = [np.array(0.01, np.float32), np.array(131, np.uint8)]
    if operation == "QLinearConv":
        conv: tuple[Any, ...] = (operation, [scale, zero, weights, *factors, scale, zero], options)
    else:
        conv = (operation, [weights, zero, factors[1]], options)
    model = over_steps(TO_CHANNELS, ("QuantizeLinear", [scale, zero], {}), conv, TO_CHANNELS)
    assert_blocks_equal_the_whole(model, normal(rng, 1, 21, 4), 1)


@pytest.mark.parametrize("included", [0, 1])
@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [2, 0, 0, 1], [0, 0, 0, 0]])
@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_averages_over_time_and_features_count_the_padding_as_the_whole_call(
    included: int, pads: list[int], ceil_mode: int
) -> None:
    axes = np.array([1])
    options = {"kernel_shape": [3, 2], "strides": [1 if any(pads) else 2, 2], "pads": pads}
    options |= {"count_include_pad": included, "ceil_mode": ceil_mode}
    model = over_steps(("Unsqueeze", [axes], {}), ("AveragePool", [], options), ("Squeeze", [axes], {}))
    if included and ceil_mode and any(pads):
        with pytest.raises(errors.ArgumentError, match="counts only a part of the padding"):
            model.stream(time_axis=1)
    else:
        assert_blocks_equal_the_whole(model, normal(np.random.default_rng(1), 1, 20, 4), 1)


@pytest.mark.parametrize("kernel", [2, 4, 6])
def test_same_padding_streams_with_a_stride_if_the_first_side_is_fixed(kernel: int) -> None:
    filters = normal(np.random.default_rng(2), 4, 4, kernel)
    options = {"auto_pad": "SAME_UPPER", "strides": [2]}
    for T in (9, 10):
        model = over_steps(TO_CHANNELS, ("Conv", [filters], options), TO_CHANNELS)
        assert_blocks_equal_the_whole(model, normal(np.random.default_rng(1), 1, T, 4), 1)


def test_steps_that_become_several_count_in_the_latency() -> None:
    filters = normal(np.random.default_rng(2), 4, 4, 4)
    twice = ("ConvTranspose", [filters], {"strides": [2], "pads": [1, 1]})
    stream = over_steps(TO_CHANNELS, twice, TO_CHANNELS).stream(time_axis=1)
    assert stream.latency == 1  # the crop at the start leaves an odd number of outputs of the first step
    assert [len(stream(np.ones(4, np.float32))) for _ in range(3)] == [1, 2, 2]
    assert len(stream.finish()) == 1
    halved = ("Conv", [FILTERS], {"pads": [1, 1], "strides": [2]})
    model = over_steps(TO_CHANNELS, halved, twice, TO_CHANNELS)
    assert_blocks_equal_the_whole(model, normal(np.random.default_rng(1), 1, 13, 4), 1)


def test_an_encoder_and_decoder_with_a_skip_connection_streams() -> None:
    rng, graph = np.random.default_rng(3), Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    start = graph.add("Transpose", x, perm=[0, 2, 1])
    down, up = (graph.add_constant(normal(rng, 4, 4, 4)) for _ in range(2))
    low = graph.add("Relu", graph.add("Conv", start, down, strides=[2], pads=[1, 1]))
    high = graph.add("ConvTranspose", low, up, strides=[2], pads=[1, 1])
    graph.outputs = (graph.add("Transpose", graph.add("Add", high, start), perm=[0, 2, 1]),)
    assert_blocks_equal_the_whole(Model(graph), normal(rng, 1, 24, 4), 1)


def test_interpolation_between_steps_is_refused() -> None:
    scales = np.array([1, 1, 2], np.float32)
    graph = Graph()
    x = graph.add("Transpose", graph.add_input("x", np.float32, (1, "time", 4)), perm=[0, 2, 1])
    graph.outputs = (graph.add("Resize", x, "", graph.add_constant(scales), mode="linear", name="up"),)
    with pytest.raises(errors.ArgumentError, match=r"node up .*it interpolates between steps"):
        Model(graph).stream(time_axis=1)


def test_a_bidirectional_layer_is_refused_by_name() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("time", 1, 4))
    layer = onward.GRU(4, 3, bidirectional=True, rng=0)
    y = graph.add_all("Recurrent", (x, ""), 2, cell=layer.cell, name="both")[0]
    graph.outputs = (graph.add("Exp", y),)
    with pytest.raises(errors.ArgumentError, match=r"node both .*reverse direction starts at the last step"):
        Model(graph).stream()


def test_a_mean_over_time_that_later_steps_use_is_refused() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    peak = graph.add("ReduceMax", x, graph.add_constant(np.array([1])))
    graph.outputs = (graph.add("Sub", x, peak, name="scaled"),)
    with pytest.raises(
        errors.ArgumentError, match=r"node scaled .*combines a step with a result for the whole"
    ):
        Model(graph).stream(time_axis=1)


def test_computing_with_the_length_of_the_sequence_is_refused() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, "time", 4))
    length = graph.add("Cast", graph.add("Size", x), to=np.float32)
    graph.outputs = (graph.add("Div", x, length, name="scaled"),)
    with pytest.raises(errors.ArgumentError, match=r"node scaled .*computes with the length of the sequence"):
        Model(graph).stream(time_axis=1)


def test_latency_counts_the_steps_that_centred_windows_look_ahead() -> None:
    centred = over_steps(TO_CHANNELS, ("Conv", [FILTERS], {"pads": [1, 1]}), ("Relu", [], {}))
    causal = over_steps(TO_CHANNELS, ("Conv", [FILTERS], {"pads": [2, 0]}), ("Relu", [], {}))
    strided = over_steps(
        TO_CHANNELS,
        ("Conv", [FILTERS], {"pads": [1, 1], "strides": [2]}),
        ("Conv", [FILTERS], {"pads": [1, 1]}),
    )
    assert [model.stream(time_axis=1).latency for model in (centred, causal, strided)] == [1, 0, 3]
    stream = causal.stream(time_axis=1)
    assert stream(np.ones(4, np.float32)).shape == (4,)  # every step completes one
    assert strided.stream(time_axis=1)(np.ones(4, np.float32)).shape == (4, 0)


def test_the_steps_that_a_row_carries_follow_one_another() -> None:
    """Otherwise, copies move them channel by channel."""
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", 3, "time"))
    kernel = graph.add_constant(normal(np.random.default_rng(0), 7, 3, 5))
    graph.outputs = (graph.add("Conv", x, kernel, pads=[4, 0]),)
    stream = Model(graph).stream(2, time_axis=2)
    (before,) = stream.state.values()
    assert before.shape == (2, 4, 3)
    x = normal(np.random.default_rng(1), 2, 3, 9)
    np.testing.assert_array_equal(
        np.concatenate([stream(x[..., :2]), stream(x[..., 2:])], 2), Model(graph)(x)
    )
    (after,) = stream.state.values()
    np.testing.assert_array_equal(after, x[..., 5:].swapaxes(1, 2))


def test_a_stream_needs_reset_after_its_end() -> None:
    stream = over_steps(TO_CHANNELS, ("Conv", [FILTERS], {"pads": [1, 1]})).stream(time_axis=1)
    x = normal(np.random.default_rng(1), 6, 4)
    first = np.concatenate([stream(x), stream.finish()], 1)
    for call in (lambda: stream(x), stream.finish):
        with pytest.raises(errors.ArgumentError, match="the sequence has ended: call reset"):
            call()
    stream.reset()
    np.testing.assert_array_equal(np.concatenate([stream(x), stream.finish()], 1), first)


def test_a_stream_continues_from_a_state_after_its_end(tmp_path: Path) -> None:
    stream = over_steps(TO_CHANNELS, ("Conv", [FILTERS], {"pads": [1, 1]})).stream(time_axis=1)
    x = normal(np.random.default_rng(1), 6, 4)
    stream(x)
    state = stream.state
    stream.save(tmp_path / "state")
    expected = stream.copy()(x)
    for continue_from in (
        lambda: stream.load(tmp_path / "state"),
        lambda: setattr(stream, "state", state),
    ):
        stream.finish()
        continue_from()
        np.testing.assert_array_equal(stream(x), expected)


def test_the_time_axis_must_be_given_without_a_recurrent_layer() -> None:
    for nodes in ([("Exp", [], {})], [TO_CHANNELS, ("Conv", [FILTERS], {"pads": [2, 0]})]):
        with pytest.raises(errors.ArgumentError, match="pass time_axis="):
            over_steps(*nodes).stream()


def test_x_of_a_wrong_shape_changes_nothing() -> None:
    stream = over_steps(TO_CHANNELS, ("Conv", [FILTERS], {"pads": [2, 0]})).stream(time_axis=1)
    stream(normal(np.random.default_rng(1), 6, 4))
    before = stream.state
    for x in (np.ones(3), np.ones((2, 3)), np.ones((2, 6, 4)), np.ones((1, 1, 6, 4))):
        with pytest.raises(errors.ShapeError, match=r"must be one step \(4,\) or a block \(T, 4\)"):
            stream(x)
    np.testing.assert_equal(stream.state, before)


def test_steps_without_output_run_in_the_core() -> None:
    stream = detector(8).stream()  # every other step completes none
    for step in normal(np.random.default_rng(0), 12, 8):
        stream(step)
    plans = loaded_programs(stream)
    assert len(plans) > 1
    assert all(plan.entry is not None for plan in plans)  # no step runs in NumPy


@pytest.mark.parametrize("mode", ["reflect", "edge"])
@pytest.mark.parametrize("sides", [(3, 0), (0, 3), (2, 4)])
def test_padding_with_own_steps_streams_even_if_the_sequence_is_short(
    mode: str, sides: tuple[int, int]
) -> None:
    rng, pads = np.random.default_rng(0), [0, sides[0], 0, 0, sides[1], 0]
    model = over_steps(("Pad", [pads], {"mode": mode}), ("Exp", [], {}))
    for T in (1, 2, 4, 5, 9):
        for _ in range(3):
            x, stream = normal(rng, T, 4), model.stream(time_axis=1)
            y = np.concatenate([*(stream(x[block]) for block in blocks(rng, T)), stream.finish()])
            np.testing.assert_array_equal(y, model(x[None])[0])


@pytest.mark.parametrize("T", [1, 2, 3, 9])
def test_steps_of_padding_are_not_returned_before_a_crop_of_a_short_sequence(T: int) -> None:
    model = over_steps(
        TO_CHANNELS,
        ("Conv", [FILTERS], {"pads": [0, 2]}),  # its last two steps are complete only at the end
        ("Pad", [[0, 0, 1, 0, 0, 0]], {}),
        ("Slice", [[0], [-2], [2]], {}),
    )
    x, stream = normal(np.random.default_rng(0), T, 4), model.stream(time_axis=1)
    y = np.concatenate([*(stream(step[None]) for step in x), stream.finish()], 1)
    np.testing.assert_array_equal(y, model(x[None])[0])


@pytest.mark.parametrize(("axis", "out_axis"), [(1, 1), (1, 0), (1, 2)])
def test_a_scan_over_time_carries_its_states(axis: int, out_axis: int) -> None:
    proto, (feeds,) = control_flow.scan(23, axis, 0, out_axis, 0)
    model = open_model(proto)
    h_n, whole = model(**feeds)
    rng, x = np.random.default_rng(0), feeds["x"]
    for _ in range(4):
        stream = model.stream(2, time_axis=axis, h0=feeds["h0"])
        parts = [stream(x[:, block]) for block in blocks(rng, 23)] + [stream.finish()]
        np.testing.assert_array_equal(np.concatenate([y for _, y in parts], out_axis), whole)
        np.testing.assert_array_equal(parts[-1][0], h_n)


def test_a_scan_from_the_last_step_is_refused() -> None:
    proto, (feeds,) = control_flow.scan(23, 1, 1, 1, 0)
    with pytest.raises(errors.ArgumentError, match="its slices are not the steps in their order"):
        open_model(proto).stream(2, time_axis=1, h0=feeds["h0"])


def test_a_loop_runs_along_the_axis_called_time() -> None:
    graph, body = Graph(), Graph()
    h, x = (body.add_input(name, np.float32) for name in "hx")
    total = body.add("Add", h, x)
    body.outputs = (total, body.add("Tanh", total))
    names = [graph.add_input("x", np.float32, ("time", "batch", 4))]
    start = graph.add_constant(np.ones((1, 4), np.float32))
    graph.outputs = graph.add_all("Scan", [start, *names], 2, body=body, num_scan_inputs=1)[1:]
    x = normal(np.random.default_rng(1), 7, 1, 4)
    stream = Model(graph).stream()
    np.testing.assert_array_equal(np.concatenate([stream(x[:3]), stream(x[3:])]), Model(graph)(x))
