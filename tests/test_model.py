"""Whole models as callables: errors of inputs, copies, pickles, threads, forks and memory."""

import copy
import gc
import os
import pickle
import resource
import signal
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_nodes import normal, open_model
from support.recurrences import RECURRENCES, Kind
from support.sequence_graphs import stepper

import onward
from onward.errors import DtypeError, LayerAttributeError, PrecisionError, ShapeError, SignatureError
from onward.graph import Graph, Input, Model
from onward.graph.structure import Structure
from onward.layers.graphs import graph_of


def recurrent() -> Model:
    """A model with an LSTM whose state is an input."""
    graph = Graph()
    x = graph.add_input("x", np.float32, ("batch", "T", 12))
    h0 = graph.add_input("h0", np.float32, ("batch", 7))
    means = graph.add("ReduceMean", x, graph.add_constant(np.array([1])), keepdims=0)
    product = graph.add("MatMul", means, graph.add_constant(normal(12, 7)))
    graph.outputs = (graph.add("Tanh", graph.add("Add", product, h0)),)
    return Model(graph)


X, H = normal(3, 5, 12), normal(3, 7)


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        ((X[0], H), {}, ShapeError, r"x has shape \(5, 12\), but the model takes \(batch, T, 12\)"),
        ((X[..., 1:], H), {}, ShapeError, r"x has shape \(3, 5, 11\), but the model takes \(batch, T, 12\)"),
        ((X, H[:2]), {}, ShapeError, "the axis batch has size 3 in x, but 2 in h0"),
        ((X, H[:1]), {}, ShapeError, "the axis batch has size 3 in x, but 1 in h0"),
        ((X, H.astype(complex)), {}, DtypeError, "h0 has dtype complex128, but the model takes float32"),
        ((X, "text"), {}, DtypeError, "h0"),
        ((X, None), {}, DtypeError, "h0"),
        ((X,), {}, SignatureError, r"missing inputs: h0; the model takes \(x, h0\)"),
        ((), {}, SignatureError, "missing inputs: h0, x"),
        ((X, H, H), {}, SignatureError, r"got 3 inputs; the model takes \(x, h0\)"),
        ((X, H), {"x": X}, SignatureError, "inputs passed twice: x"),
        ((X,), {"h0": H, "c0": H}, SignatureError, "unknown inputs: c0"),
        (({"x": X},), {}, SignatureError, "pass them by name"),
    ],
)
def test_errors_name_the_inputs_and_axes_of_the_file(
    args: Any, kwargs: Any, error: Any, message: str, planned: bool
) -> None:
    model = recurrent()
    if planned:
        model(X, H)
    with pytest.raises(error, match=message):
        model(*args, **kwargs)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize(
    "net",
    [
        onward.LSTM(5, 7, rng=0),
        onward.GRU(5, 7, num_layers=2, bidirectional=True, rng=0),
        onward.LSTM(5, 7, num_layers=3, batch_first=True, dtype="float64", rng=0),
        onward.LSTM(5, 8, num_layers=2, proj_size=3, rng=0),
        onward.Sequential(onward.LSTM(5, 7, rng=1), onward.GRU(7, 33, rng=1), onward.Linear(33, 2, rng=1)),
    ],
)
@pytest.mark.parametrize(("T", "B"), [(4, 3), (1, 1), (3, 0), (0, 5)])
def test_reopened_layers_start_at_zeros_without_a_state(
    net: Any, lengths: bool, T: int, B: int, tmp_path: Path
) -> None:
    net.export_onnx(tmp_path / "net.onnx", lengths=lengths)
    model: Any = onward.load(tmp_path / "net.onnx")
    x = normal(*((B, T, 5) if net.batch_first else (T, B, 5))).astype(net.dtype)
    named = {"lengths": np.arange(B, dtype=np.int32) % (T + 1)} if lengths else {}
    y = net(x, **named)
    np.testing.assert_array_equal(model(x, **named)[0], y[0] if isinstance(y, tuple) else y)
    states = [declared for declared in model.graph.inputs if declared.name.endswith("0")]
    zeros = {s.name: np.zeros([B if n == "batch" else n for n in s.axes], net.dtype) for s in states}
    for mine, other in zip(model(x, **named), model(x, **named, **zeros), strict=True):
        np.testing.assert_array_equal(mine, other)
    with pytest.raises(SignatureError, match=r"missing inputs: .*x; the model takes"):
        model(**zeros)


def test_a_state_that_is_more_than_an_initial_one_is_required() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("T", "B", 4))
    h0, c0 = (
        graph.add_input(name, np.float32, (1, size, 7)) for name, size in (("h0", "B"), ("c0", "other"))
    )
    y, h, c = graph.add_all("Recurrent", (x, "", h0, c0), 3, cell=onward.LSTM(4, 7, rng=0).cell)
    graph.outputs = (y, graph.add("Add", h0, h), c)
    with pytest.raises(SignatureError, match="missing inputs: h0"):  # which an output also reads
        Model(graph)(normal(5, 3, 4), c0=normal(1, 3, 7))
    graph.outputs = (y, h, c)
    with pytest.raises(SignatureError, match="missing inputs: c0"):  # whose size nothing tells
        Model(graph)(normal(5, 3, 4))


def test_quantized_models_are_checked_on_every_nested_output() -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, ("B", 12))
    y = graph.add("MatMul", x, graph.add_constant(normal(12, 7)))
    graph.outputs = (y, graph.add("ArgMax", y, axis=1))
    graph.declared_outputs = tuple(Input(name) for name in graph.outputs)
    graph.structure = Structure({"x": "x"}, ({"scores": y, "best": [graph.outputs[1]]},))
    model = Model(graph)
    with pytest.raises(PrecisionError, match="above the tolerance of 1e-06"):
        model.quantize("int8", check=normal(5, 12), tolerance=1e-6)
    small = model.quantize("int8", check={"x": normal(5, 12)}, tolerance=1)
    assert small(normal(5, 12))["best"][0].shape == (5, 1)


def test_axes_without_a_name_may_differ() -> None:
    graph = Graph()
    graph.add_input("a", np.float32, ("?", ""))
    graph.add_input("b", np.float32, ("?", ""))
    graph.outputs = (graph.add("Concat", "a", "b", axis=0),)
    model = Model(graph)
    assert model(np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)).shape == (3, 3)
    with pytest.raises(ShapeError, match=r"takes \(any, any\)"):
        model(X, X)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "int8", "bool", "str"])
def test_outputs_share_no_memory_with_inputs_constants_or_each_other(dtype: str) -> None:
    constant = np.arange(6).reshape(2, 3).astype(object if dtype == "str" else dtype)
    graph = Graph()
    x = graph.add_input("x", constant.dtype, (2, 3))
    same, c = graph.add("Identity", x), graph.add_constant(constant)
    moved = graph.add("Reshape", x, graph.add_constant(np.array([3, 2])))
    graph.outputs = (x, x, same, moved, c, graph.add("Identity", c))
    model = Model(graph)
    for x in (constant.copy(), constant[::-1].copy(), constant[::-1].copy()):
        outputs = model(x)
        arrays = [x, constant, *outputs]
        for place, one in enumerate(arrays):
            assert not any(np.shares_memory(one, other) for other in arrays[:place])
        before = [output.copy() for output in outputs]
        for output in outputs:
            output[...] = 0
        for first, second in zip(before, model(x), strict=True):
            np.testing.assert_array_equal(first, second)


def test_an_integer_scalar_that_selects_the_plan_is_returned_as_a_copy() -> None:
    graph = Graph()
    rate = graph.add_input("rate", np.int64, ())
    graph.outputs = (graph.add("Identity", rate),)
    model, x = Model(graph), np.array(16000)
    for _ in range(2):
        y = model(x)
        assert y == 16000
        assert not np.shares_memory(x, y)
        y[...] = 1
    assert model(x) == 16000


def controlled() -> Model:
    """A model with a plan per size, a branch that depends on values, a loop, and an operator of onnx."""
    branches = [
        helper.make_graph(
            [helper.make_node(operator, ["x"], ["b"])], "branch", [], [onnx.ValueInfoProto(name="b")]
        )
        for operator in ("Neg", "Abs")
    ]
    body = helper.make_graph(
        [helper.make_node("Tanh", ["v"], ["w"]), helper.make_node("Identity", ["on"], ["again"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [onnx.ValueInfoProto(name="again"), onnx.ValueInfoProto(name="w")],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["chosen"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Loop", ["count", "", "chosen"], ["looped"], body=body),
        helper.make_node("SequenceConstruct", ["looped", "x"], ["pair"]),
        helper.make_node("ConcatFromSequence", ["pair"], ["y"], axis=0),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [onnx.ValueInfoProto(name="y")],
        [
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("count", TensorProto.INT64, [], [20]),
        ],
    )
    return open_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def expected(x: Any) -> Any:
    looped = -x if x.sum() > 0 else np.abs(x)
    for _ in range(20):
        looped = np.tanh(looped)
    return np.concatenate([looped, x])


INPUTS = [normal(rows, 4) for rows in range(1, 25)]


def check(model: Model, inputs: Any = INPUTS) -> bool:
    """Check the outputs for more sizes than plans are kept."""
    for x in inputs:
        assert np.allclose(model(x)[0], expected(x), 1e-5, 1e-6)  # np.testing would import, under a lock
    return True


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_and_pickles_of_a_model_with_control_flow_give_the_same_bits(
    copied: Any, planned: bool
) -> None:
    model = controlled()
    if planned:
        check(model)
    other = copied(model)
    for x in INPUTS[::5]:
        np.testing.assert_array_equal(other(x)[0], model(x)[0])


def test_a_model_is_freed_with_its_last_reference_after_a_stream() -> None:
    """It kept itself as the model for all sizes, so that its weights waited for the garbage collector."""
    model = Model(graph_of(onward.Sequential(onward.GRU(3, 4), onward.Linear(4, 2))))
    model.stream()(normal(5, 3))
    reference = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert reference() is None
    finally:
        gc.enable()


def test_eight_threads_call_one_model_while_plans_are_dropped() -> None:
    model, plain = controlled(), recurrent()

    def run(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(INPUTS))
        check(model, [INPUTS[place] for place in order])
        for rows in order.tolist():
            x, h = normal(rows + 1, 5, 12), normal(rows + 1, 7)
            np.testing.assert_array_equal(plain(x, h)[-1:], plain(x[-1:], h[-1:]))

    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(run, range(16)):
            pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_child_forked_while_another_thread_plans_does_not_wait_for_its_lock() -> None:
    model, done = controlled(), threading.Event()

    def call() -> None:
        while not done.is_set():
            check(model)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                os._exit(not check(model, INPUTS[:10]))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        done.set()
        for caller in callers:
            caller.join()


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system has no /proc")
def test_memory_does_not_grow_over_calls_whose_shapes_alternate() -> None:
    model, sizes = recurrent(), range(1, 13)
    inputs = [(normal(rows, 5, 12), normal(rows, 7)) for rows in sizes]
    for x, h in inputs * 30:
        model(x, h)
    gc.collect()
    before = resident()
    for _ in range(12_500):  # 100,000 calls with kept plans
        for x, h in inputs[:8]:
            model(x, h)
    for x, h in inputs * 100:  # each makes a plan and drops another
        model(x, h)
    gc.collect()
    assert resident() - before < 8_000_000


def test_the_names_of_inputs_cannot_be_replaced() -> None:
    model = recurrent()
    with pytest.raises(LayerAttributeError, match=r"Model.inputs is read-only"):
        model.inputs = ("y", "h0")
    assert model.inputs == ("x", "h0")


@pytest.mark.parametrize("kind", RECURRENCES.values(), ids=RECURRENCES)
def test_states_of_an_exported_recurrence_may_be_omitted(tmp_path: Path, kind: Kind) -> None:
    first = kind.layer()
    net = onward.Sequential(first, onward.Linear(first.output_size, 5, rng=0), kind.layer(1))
    net.export_onnx(tmp_path / "m.onnx")
    x = normal(9, 3, *net.step_shape)
    np.testing.assert_array_equal(onward.load(tmp_path / "m.onnx")(x)[0], net(x))


def test_a_whole_model_is_a_member_of_a_sequential(tmp_path: Path) -> None:
    gru, last = onward.GRU(12, 7, rng=0), onward.Linear(7, 2, rng=1)
    onward.Sequential(gru, onward.Linear(7, 7, rng=2)).export_onnx(tmp_path / "m.onnx")
    model: Any = onward.load(tmp_path / "m.onnx")
    steps = normal(5, 3, 12)
    y, _ = model(steps)
    np.testing.assert_array_equal(onward.Sequential(model.of_sequences, last)(steps), last(y))


def test_streams_and_pools_with_equal_arguments_share_programs_and_packed_weights() -> None:
    model = stepper()
    streams = [model.stream(rate=np.int64(rate)) for rate in (1, 1, 2)]
    shared = [stream.streamed for stream in streams]
    assert shared[0] is shared[1] and shared[0] is not shared[2]
    x = np.random.default_rng(0).random((2, 1, 4), np.float32)
    first = [streams[0](each) for each in x]
    np.testing.assert_array_equal([streams[1](each) for each in x], first)  # each has a state of its own
    assert model.stream(rate=np.int64(1), initial={"state": np.ones((2, 1, 4))}).streamed is not shared[0]
