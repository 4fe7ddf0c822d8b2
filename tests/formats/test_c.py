"""Models as C: the bits are those of Python, and what has no C is refused before anything is written."""

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ROOT, c_code, pages
from support.examples import detector_of_voices
from support.extremes import extremes
from support.linear_attention import Attention
from support.onnx_nodes import draw_quantized, open_model
from support.random_branches import RandomBranches
from support.random_loops import RandomLoop
from support.random_networks import random_network
from support.sequence_graphs import detector
from support.skips import counted_cases

import onward
from onward.errors import ArgumentError, OnwardError
from onward.formats.c import vectors
from onward.formats.c.library import FUNCTIONS, functions, paragraphs, words_of
from onward.formats.c.steps import ACTIVATIONS, STEPS, UNARY
from onward.graph import Graph
from onward.model import Model

STREAMS: dict[str, Any] = {
    "rnn": lambda: onward.RNN(3, 5, 2, nonlinearity="relu", rng=0),
    "gru": lambda: onward.Sequential(onward.GRU(3, 21, rng=0), onward.LayerNorm(21), onward.Softmax()),
    "gru_before": lambda: onward.GRU(3, 5, reset_after=False, bias=False, rng=0),
    "lstm_options": lambda: onward.LSTM(
        3, 6, peephole=True, coupled=True, clip=0.5, activations=("hard_sigmoid", "softplus", "mish"), rng=0
    ),
    "lstm_projected": lambda: onward.LSTM(3, 8, 2, proj_size=3, batch_first=True, rng=0),
    "int8": lambda: onward.Sequential(onward.GRU(3, 8, rng=0), onward.Linear(8, 2, rng=1)).quantize("int8"),
    "float16": lambda: onward.LSTM(3, 8, rng=0).quantize("float16"),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streams_have_the_bits_of_python(name: str, tmp_path: Path) -> None:
    rows = 1 + list(STREAMS).index(name) % 2
    c_code.checked(STREAMS[name](), tmp_path / f"{name}.c", stream=True, steps=2, rows=rows, math=rows == 1)


def test_the_accuracy_of_int8_is_measured_on_data(tmp_path: Path) -> None:
    net = onward.Sequential(onward.GRU(3, 40, rng=0), onward.Linear(40, 2, rng=1))
    x = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    found = c_code.checked(net, tmp_path / "net.c", stream=True, int8=True, data={"x": x})
    y, other = net.stream()(x), net.quantize("int8").stream()(x)
    np.testing.assert_allclose(found.accuracy.largest_difference, np.abs(y - other).max(), rtol=1e-6)
    assert 0 < found.accuracy.relative_error < 0.1
    exact = net.export_c(tmp_path / "exact.c", stream=True)
    assert exact.accuracy is None and found.figures.weights < 0.4 * exact.figures.weights
    for data, message in (({"x": x[:29, :2]}, "x has 58 numbers"), ({"y": x}, "unknown inputs: y")):
        with pytest.raises(OnwardError, match=message):
            net.export_c(tmp_path / "other.c", stream=True, data=data)


def test_infinities_saturate_int8_as_in_python(tmp_path: Path) -> None:
    x = np.random.default_rng(0).choice(np.array([-np.inf, -2, 0, 1, np.inf], np.float32), (30, 3))
    c_code.checked(STREAMS["int8"](), tmp_path / "net.c", stream=True, data={"x": x})


@pytest.mark.parametrize("seed", [0, 3, 6])
def test_integers_of_calibrated_scales_have_the_bits_of_python(seed: int, tmp_path: Path) -> None:
    model, options, x = random_network(np.random.default_rng(seed))
    found = c_code.checked(model, tmp_path / "net.c", calibrate={"x": x}, math=bool(seed % 2), **options)
    assert found.accuracy.relative_error < 0.1
    code = found.files["net.c"]
    assert "dot_of_bytes" in code and not re.search(r"\b(product|tanh_quotient)\(", code)


def test_blocks_of_calibrated_recurrent_layers_have_any_number_of_steps(tmp_path: Path) -> None:
    net = onward.Sequential(onward.LSTM(3, 4, rng=0), onward.GRU(4, 3, rng=1), onward.Linear(3, 2, rng=2))
    x = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    found = c_code.checked(net, tmp_path / "net.c", stream=True, steps=40, calibrate={"x": x})
    assert "for (run = 0; run < 40; run++)" in found.files["net.c"]


def test_calibrated_models_are_smaller(tmp_path: Path) -> None:
    net = onward.Sequential(onward.LSTM(16, 64, rng=0), onward.Linear(64, 4, rng=1))
    x = np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32)
    small = net.export_c(tmp_path / "small.c", stream=True, calibrate={"x": x}).figures
    exact = net.export_c(tmp_path / "exact.c", stream=True).figures
    assert small.weights < 0.35 * exact.weights and small.state < 0.7 * exact.state
    with pytest.raises(OnwardError, match="unknown inputs: y"):
        net.export_c(tmp_path / "other.c", stream=True, calibrate={"y": x})


def test_a_bidirectional_layer_runs_in_calls_of_one_size(tmp_path: Path) -> None:
    layer = onward.GRU(3, 4, 2, bidirectional=True, rng=0)
    with pytest.raises(ArgumentError, match="the axis time of x is open, and C has fixed sizes"):
        layer.export_c(tmp_path / "gru.c")
    c_code.checked(layer, tmp_path / "gru.c", sizes={"time": 7}, rows=2)


def test_inputs_that_are_states_become_those_of_the_stream(tmp_path: Path) -> None:
    found = c_code.checked(detector_of_voices(576), tmp_path / "vad.c", stream=True, sr=np.int64(16000))
    assert found.inputs == {"input": (1, 576)} and found.outputs == {"output": (1, 1)}
    assert found.figures.state == 2 * 128 * 4


def test_a_product_whose_output_is_copied_to_another_order_of_axes(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, 9, 5))
    W = graph.add_constant(np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32))
    y = graph.add("Transpose", graph.add("MatMul", x, W), perm=[0, 2, 1])
    graph.outputs = (graph.add("Softmax", y, axis=-1, output="y"),)
    c_code.checked(Model(graph), tmp_path / "net.c")


@pytest.mark.parametrize("after", ["Identity", "Relu", "Tanh"])
def test_convolutions_with_the_channels_in_front_have_the_bits_of_python(after: str, tmp_path: Path) -> None:
    """With few and with many outputs, in groups, and in phases; the windows of one row and of several."""
    rng, graph = np.random.default_rng(0), Graph()
    x, line = graph.add_input("x", np.float32, (2, 4, 21)), graph.add_input("line", np.float32, (1, 4, 3))
    outputs = []
    cases = ((x, (7, 4, 1), 1), (x, (3, 4, 5), 1), (x, (10, 2, 3), 2), (line, (9, 4, 3), 1))
    for each, shape, group in cases:
        W = graph.add_constant(rng.normal(size=shape).astype(np.float32))
        b = graph.add_constant(rng.normal(size=shape[0]).astype(np.float32))
        outputs.append(graph.add(after, graph.add("Conv", each, W, b, group=group)))
    W = graph.add_constant(rng.normal(size=(4, 2, 6)).astype(np.float32))
    outputs.append(graph.add(after, graph.add("ConvTranspose", x, W, strides=[3], pads=[1, 0])))
    graph.outputs = tuple(outputs)
    c_code.checked(Model(graph), tmp_path / "net.c")


def integers() -> Model:
    """Convolutions and products of bytes that are rescaled, and rows that are quantized as they come."""
    rng, graph = np.random.default_rng(0), Graph()
    x, rows = graph.add_input("x", np.float32, (1, 4, 9)), graph.add_input("rows", np.float32, (3, 10))
    number = graph.add_constant
    q = graph.add("Cast", graph.add("Mul", x, number(np.float32(30))), to=np.dtype(np.int8))
    zero, low, high = (number(np.array(n, np.int8)) for n in (-3, -128, 127))
    outputs = []
    for shape, group in (((4, 1, 3), 4), ((5, 4, 2), 1)):
        W, bias = rng.integers(-99, 99, shape).astype(np.int8), rng.integers(-999, 999, shape[0])
        sums = graph.add("ConvInteger", q, number(W), zero, group=group)
        sums = graph.add("Add", graph.add("Transpose", sums, perm=[0, 2, 1]), number(bias.astype(np.int32)))
        factor = rng.integers(2**30, 2**31, shape[0]).astype(np.int32), np.full(shape[0], -7, np.int32)
        outputs.append(graph.add("Rescale", sums, *map(number, factor), zero, low, high))
    for operation in ("QuantizeRows", "QuantizeRowsWithZero"):
        bytes_, scale, *at = graph.add_all(operation, [rows], 2 + ("Zero" in operation))
        W, unit = rng.integers(-99, 99, (10, 6)).astype(np.int8), rng.random(6, np.float32)
        others = scale, *(at or [number(np.array(0, np.int8))]), number(unit)
        outputs.append(graph.add("RowProduct", bytes_, number(W), *others))
    graph.outputs = tuple(outputs)
    return Model(graph)


def test_bytes_and_rows_have_the_bits_of_python(tmp_path: Path) -> None:
    c_code.checked(integers(), tmp_path / "integers.c")


def test_random_loops_have_the_bits_of_python(tmp_path: Path) -> None:
    for case in counted_cases(3):
        with case:
            loop = RandomLoop(200 + (case.seed or 0))
            model = c_code.with_sizes(loop.graph, *loop.inputs)
            with case.skipping(ArgumentError, match="NumPy"):
                found = c_code.checked(model, tmp_path / "net.c", math=False)
            assert loop.count < 2 or "for (run = 0;" in found.files["net.c"]


def test_random_branches_have_the_bits_of_python(tmp_path: Path) -> None:
    for case in counted_cases(3):
        with case:
            branches = RandomBranches(300 + (case.seed or 0))
            model = c_code.with_sizes(branches.graph, *branches.inputs(3))
            found = c_code.checked(model, tmp_path / "net.c", math=False)
            assert "for (run = 0; run < 1 &&" in found.files["net.c"]


def test_random_layers_that_quantize_dynamically_have_the_bits_of_python(tmp_path: Path) -> None:
    for case in counted_cases(2):
        with case:
            drawn, _ = draw_quantized(np.random.default_rng(case.seed))
            model = c_code.with_sizes(open_model(drawn.model).graph, *drawn.feeds.values())
            with case.skipping(ArgumentError, match="NumPy"):
                found = c_code.checked(model, tmp_path / "net.c")
            assert "product_of_range(" in found.files["net.c"]


@pytest.mark.parametrize("seed", [1, 3])
def test_random_linear_attention_has_the_bits_of_python(seed: int, tmp_path: Path) -> None:
    attention = Attention(seed)
    graph = attention.graph()
    c_code.checked(c_code.with_sizes(graph, *attention.inputs.values()), tmp_path / "net.c", math=False)


def test_a_stream_that_looks_ahead_returns_its_last_steps_at_the_end(tmp_path: Path) -> None:
    found = c_code.checked(detector(3), tmp_path / "detector.c", stream=True, steps=5)
    assert "void detector_finish(detector_state *state, float *y);" in found.files["detector.h"]
    assert re.search(r"finish_y_counts\[\] = \{[1-9]", found.files["detector_test.c"])
    assert "finish" not in onward.GRU(3, 4, rng=0).export_c(tmp_path / "gru.c", stream=True).files["gru.h"]


def elementwise() -> Model:
    """All elementwise functions, comparisons, conversions and integers, on numbers of any size."""
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, 150))
    scale = graph.add_constant(np.geomspace(1e-3, 1e4, 150).astype(np.float32))
    scaled = graph.add("Mul", x, scale)
    names = "Abs Ceil Cos Erf Floor Log Neg Reciprocal Round Sign Sin Sqrt Elu Exp Gelu HardSigmoid LeakyRelu"
    names += " Mish Relu Sigmoid Softplus Softsign Tanh ThresholdedRelu"
    outputs = [graph.add(name, scaled) for name in names.split()]
    huge = graph.add("Mul", x, graph.add_constant(np.geomspace(1e10, 1e38, 150).astype(np.float32)))
    outputs += [graph.add("Sin", huge), graph.add("Cos", huge)]
    outputs.append(graph.add("LogSoftmax", scaled))
    integers = graph.add("Cast", scaled, to=np.dtype(np.int32))
    is_less = graph.add("Less", integers, graph.add("Add", integers, integers))
    outputs += [integers, is_less, graph.add("Where", is_less, x, scaled)]
    special = graph.add("Where", is_less, x, graph.add_constant(extremes(np.float32, 1, 150)))
    bounds = [graph.add_constant(np.array(bound, np.float32)) for bound in (0, 6)]
    outputs += [
        graph.add("Relu", special),
        graph.add("Clip", special, *bounds),
        graph.add("Max", special, bounds[0]),
    ]
    outputs += [graph.add("Cast", graph.add("Cast", scaled, to=np.dtype(np.int64)), to=np.dtype(np.float32))]
    graph.outputs = tuple(outputs)
    return Model(graph)


def test_elementwise_functions_without_math_h_have_the_bits_of_python(tmp_path: Path) -> None:
    for target in (c_code.HERE, c_code.Target(("cc", "-O1"))):  # with -O1, GCC makes maxima of more functions
        found = c_code.checked(elementwise(), tmp_path / "functions.c", target, math=False)
    assert "math.h" not in found.files["functions.c"]


def test_infinite_constants_without_math_h_compile(tmp_path: Path) -> None:
    """What a largest value starts with before the first step."""
    graph = Graph()
    x = graph.add_input("x", np.float32, (1, 3, "time"))
    graph.outputs = (graph.add("MaxPool", x, kernel_shape=[3], pads=[2, 0]),)
    c_code.checked(Model(graph), tmp_path / "pool.c", stream=True, math=False, time_axis=2)
    infinite = [[np.array([-np.inf, 2], np.float32)]]
    assert vectors.accuracy(infinite, infinite) == (0, 0)


def test_what_has_no_c_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.add_input("x", np.float32, (4, 4))
    graph.outputs = (graph.add("Det", x, name="the product"),)
    for model, message, options in (
        (Model(graph), r"the product .*NumPy", {}),
        (onward.GRU(3, 4, bidirectional=True, rng=0), "cannot stream", {"stream": True}),
        (onward.GRU(3, 4, rng=0), "prefix is '3d', but must be a name of C", {"prefix": "3d"}),
        (onward.GRU(3, 4, rng=0), "steps=0, but must be", {"stream": True, "steps": 0}),
    ):
        with pytest.raises((ArgumentError, ValueError), match=message):
            model.export_c(tmp_path / "x.c", **options)
    assert not list(tmp_path.iterdir())


def test_several_streams_share_an_arena(tmp_path: Path) -> None:
    found = onward.GRU(3, 4, rng=0).export_c(tmp_path / "gru.c", stream=True)
    header = found.files["gru.h"]
    assert "void gru_step_in(gru_arena *arena, gru_state *state, const float *x, float *y);" in header
    assert "GRU_MULTIPLY_ADDS 84" in header and found.figures.state == 16
    assert not re.search(r"\b(malloc|calloc|free|stdio|stdlib)\b", found.files["gru.c"])


def test_a_scalar_is_an_input_of_each_call_unless_it_decides_what_runs(tmp_path: Path) -> None:
    graph = Graph()
    x, n = graph.add_input("x", np.float32, (3,)), graph.add_input("n", np.int64, ())
    graph.outputs = (graph.add("Mul", x, graph.add("Cast", n, to=np.dtype(np.float32)), output="y"),)
    found = c_code.checked(Model(graph), tmp_path / "scaled.c")
    assert found.inputs == {"x": (3,), "n": ()}
    graph.outputs = (graph.add("Expand", x, graph.add("Reshape", n, graph.add_constant(np.array([1])))),)
    with pytest.raises(ArgumentError, match="C has only the core; fix inputs that decide what runs, as n="):
        Model(graph).export_c(tmp_path / "expanded.c")


INDICES = """#include "table.h"
#include <stdio.h>

int main(void)
{
    static const int64_t indices[] = {0, 4, -5, -1, 5, -6, INT64_MAX, INT64_MIN};
    float y[2];
    unsigned i;
    for (i = 0; i < sizeof indices / sizeof *indices; i++) {
        table_run(indices + i, y);
        printf("%g ", y[1]);
    }
    return 0;
}
"""


def test_an_index_out_of_range_takes_the_nearest_element(tmp_path: Path) -> None:
    graph = Graph()
    rows = graph.add_constant(np.arange(10, dtype=np.float32).reshape(5, 2))
    graph.outputs = (graph.add("Gather", rows, graph.add_input("i", np.int64, (1,)), axis=0, output="y"),)
    Model(graph).export_c(tmp_path / "table.c")
    (tmp_path / "main.c").write_text(INDICES)
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover")
    program = c_code.compiled([tmp_path / "table.c", tmp_path / "main.c"], flags=flags)
    assert c_code.run(program).split() == "1 9 1 9 9 1 9 1".split()


def test_names_of_inputs_that_c_reserves(tmp_path: Path) -> None:
    graph = Graph()
    first, second = (graph.add_input(name, np.float32, (3,)) for name in ("for", "1.x"))
    graph.outputs = (graph.add("Add", first, second, output="state"),)
    found = c_code.checked(Model(graph), tmp_path / "add.c")
    assert [*found.inputs, *found.outputs] == ["nfor", "n1_x", "nstate"]


def test_carries_that_grow_until_they_are_full_run_in_phases(tmp_path: Path) -> None:
    found = c_code.checked(detector(3), tmp_path / "detector.c", stream=True, steps=2)
    assert found.phases > 1
    assert "detector_count(const detector_state *state, int output)" in found.files["detector.h"]


def test_the_page_lists_the_steps_with_c_and_its_program_runs(tmp_path: Path) -> None:
    parts = runpy.run_path(str(ROOT / "tools/site/generated.py"))["PARTS"]
    rows = parts["steps in C"]().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == sorted(STEPS)
    assert all(len(row.split("|")[2].strip()) > 10 for row in rows)
    sources = "".join(path.read_text() for path in (ROOT / "cpp/run").glob("*.cpp"))
    assert set(STEPS) <= set(re.findall(r'{"(\w+)", (?:read|add)', sources))
    (page,) = [each for each in pages.pages_of("c") if each.stem == "microcontroller"]
    (block,) = [each for each in pages.blocks(page) if each.language == "c"]
    net = onward.Sequential(onward.GRU(12, 32, rng=0), onward.Linear(32, 3, rng=1))
    net.export_c(tmp_path / "keyword.c", stream=True)
    (tmp_path / "main.c").write_text(block.code)
    program = c_code.compiled([tmp_path / "keyword.c", tmp_path / "main.c"])
    printed = c_code.run(program).split()
    stream = net.stream()
    expected = [stream(np.zeros(12))[0] for _ in printed]
    np.testing.assert_allclose([float(number) for number in printed], expected, rtol=1e-5)


def test_functions_of_templates_have_different_names_and_follow_those_that_they_call() -> None:
    assert sum(len(paragraphs(file)) for file in FUNCTIONS) == len(functions())
    known: set[str] = set()
    for name, text in functions().items():
        assert (words_of(text) & functions().keys()) - {name} <= known, name
        known.add(name)
    assert {name for name, _ in ACTIVATIONS.values()} | {*UNARY.values()} <= known
    assert len(STEPS) > 20


def test_arithmetic_of_integers_has_the_numbers_of_python(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.add(
        "Mul", graph.add_input("x", np.float32, (3, 4)), graph.add_constant(np.array([7], np.float32))
    )
    a = graph.add("Cast", x, to=np.dtype(np.int32))
    b = graph.add("Sub", a, graph.add_constant(np.array([[1, 0, -2, 3]], np.int32)))
    parts = [
        graph.add("Div", a, b),
        graph.add("Mod", a, graph.add_constant(np.array([[3, -2, 1, -1]], np.int32))),
        graph.add("Abs", graph.add("Neg", a)),
        graph.add("Sign", b),
        graph.add("CumSum", a, graph.add_constant(np.array(1))),
        graph.add("CumProd", a, graph.add_constant(np.array(0)), reverse=1, exclusive=1),
        graph.add("ReduceProd", b, graph.add_constant(np.array([0]))),
        graph.add("Where", graph.add("Equal", a, b), a, b),
    ]
    graph.outputs = (graph.add("Cast", graph.add("Concat", *parts, axis=0), to=np.dtype(np.float32)),)
    c_code.checked(Model(graph), tmp_path / "net.c")


def test_sorting_of_integers_is_refused_by_name(tmp_path: Path) -> None:
    graph = Graph()
    a = graph.add("Cast", graph.add_input("x", np.float32, (3, 4)), to=np.dtype(np.int32))
    graph.outputs = graph.add_all("TopK", (a, graph.add_constant(np.array([2]))), 2)
    with pytest.raises(ArgumentError, match="largest elements of int32 have no C yet"):
        Model(graph).export_c(tmp_path / "net.c")
