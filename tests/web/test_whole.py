"""Whole models that `export_web` wrote give the bits of Python in JavaScript."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import DATA
from support.javascript import Exported, case, check, evaluated, in_chromium, in_node, silero_like
from support.sequence_graphs import RandomGraph, normal, stepper
from support.skips import counted_cases

import onward
from onward.errors import ArgumentError
from onward.graph import Graph, Input, Model

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")


RELAXED = "--experimental-wasm-relaxed-simd"  # of versions of Node that have not switched it on
HAS_OPTION = RELAXED in subprocess.run(["node", "--v8-options"], stdout=subprocess.PIPE, text=True).stdout
OPTIONS = pytest.mark.parametrize("options", [[], [RELAXED] if HAS_OPTION else []], ids=["plain", "relaxed"])


@OPTIONS
def test_a_voice_detector_whose_state_is_an_input_gives_the_bits_of_python(
    tmp_path: Path, options: list[str]
) -> None:
    models = [silero_like(tmp_path, precision) for precision in ("", "float16", "int8")]
    cases = [model.case for model in models]
    for model, answer in zip(models, in_node(tmp_path, cases, *options), strict=True):
        model.check(answer)


@OPTIONS
def test_files_of_tensorflow_lite_stream_with_the_answers_of_the_reference_kernels(
    tmp_path: Path, options: list[str]
) -> None:
    exported = []
    for name, tolerance in (("mww_vad", 0), ("keras_lstm", 1e-6)):
        arrays = np.load(DATA / f"tflite/{name}.npz")
        blocks, answers = list(arrays["x"][:8]), arrays["y0"][:8]
        exported.append(Exported(tmp_path, onward.load(DATA / f"tflite/{name}.tflite"), [], blocks))
        np.testing.assert_allclose(exported[-1].streamed, answers, rtol=0, atol=tolerance)
    cases = [each.case for each in exported]
    for model, answer in zip(exported, in_node(tmp_path, cases, *options), strict=True):
        model.check(answer)


@OPTIONS
@pytest.mark.parametrize("first", range(0, 40, 20))
def test_random_graphs_give_the_bits_of_python(tmp_path: Path, first: int, options: list[str]) -> None:
    exported = []
    for each in counted_cases(20, first):
        with each:
            rng = np.random.default_rng(each.seed)
            model = RandomGraph(each.seed).build(int(rng.integers(2, 9)))
            T = int(rng.integers(40, 70))
            x, size = normal(rng, 1, T, 5), int(rng.integers(1, 13))
            parts = [x[:, t : t + size] for t in range(0, T - size + 1, size)]
            with each.skipping(ArgumentError, match="NumPy|stream|time"):
                exported.append(Exported(tmp_path, model, [normal(rng, 3, 50, 5), x], parts))
    cases = [each.case for each in exported]
    for model, answer in zip(exported, in_node(tmp_path, cases, *options), strict=True):
        model.check(answer)


def models() -> Iterator[tuple[Any, list[Any], list[Any], dict[str, Any]]]:
    """Models with other operations: calls, blocks and the options of the stream."""
    rng = np.random.default_rng(0)
    x = normal(rng, 9, 1, 3)
    norm = onward.Sequential(onward.GRU(3, 8, rng=0), onward.LayerNorm(8), onward.Linear(8, 2, rng=1))
    yield norm, [x, normal(rng, 5, 4, 3)], [x[:4, 0], x[4, 0], x[5:9, 0]], {}
    yield norm.quantize("int8"), [x], [x[:3, 0], x[3:6, 0]], {}
    both = onward.LSTM(3, 33, 2, bidirectional=True, proj_size=5, rng=2)
    yield onward.Sequential(both, onward.Linear(10, 1, rng=3), onward.Activation("gelu")), [x], [], {}
    yield (
        onward.LSTM(
            3, 7, peephole=True, clip=0.5, cell_clip=0.2, activations=("hard_sigmoid", "tanh", "elu"), rng=1
        ),
        [x],
        [],
        {},
    )
    tokens = onward.Sequential(
        onward.Embedding(9, 5, rng=0), onward.RNN(5, 7, rng=1), onward.Linear(7, 9, rng=2)
    )
    yield tokens, [np.array([[8], [0], [3]]), np.array([[1], [2], [0]])], [np.array([4, 1])], {}
    image = [
        onward.Conv2d(2, 7, 3, padding=1, stride=2, rng=0),
        onward.BatchNorm2d(7),
        onward.Activation("relu"),
    ]
    yield onward.Sequential(*image, onward.MaxPool2d(2)), [normal(rng, 3, 2, 12, 17)], [], {}
    state, steps = normal(rng, 2, 3, 4), [normal(rng, 3, 4) for _ in range(3)]
    named = {"carry": {"state": "stateN"}, "initial": {"state": state}, "batch": 3, "rate": np.int64(2)}
    call = {"rate": np.int64(3), "x": steps[0], "state": state}
    yield stepper(), [call], [*steps, {"x": steps[0]}], named
    yield _integers(), [(np.array([3, -1, 2], np.int32), normal(rng, 4, 3))], [], {}


def _integers() -> Model:
    """Integers, booleans, doubles, a choice, sorted elements and a constant output."""
    graph = Graph()
    i, x = graph.add_input("i", np.int32, (3,)), graph.add_input("x", np.float32, (4, 3))
    values, order = graph.add_all("TopK", (x, graph.add_constant(np.array([2]))), 2, axis=1)
    positive = graph.add("Greater", x, graph.add_constant(np.float32(0)))
    chosen = graph.add("Where", positive, x, graph.add("Neg", x))
    doubles = graph.add(
        "Cast", graph.add("MatMul", chosen, graph.add("Transpose", x, perm=[1, 0])), to=np.dtype(np.float64)
    )
    rows = graph.add("Gather", x, i, axis=0)
    sums = graph.add("CumSum", rows, graph.add_constant(np.array(0)))
    constant = graph.add_constant(np.array([1.5, -2], np.float32))
    graph.outputs = (values, order, positive, doubles, graph.add("Mul", i, i), sums, constant)
    graph.declared_outputs = tuple(Input(f"y{n}", None) for n in range(len(graph.outputs)))
    return Model(graph)


def has_tiny_numbers(y: np.ndarray[Any, Any]) -> bool:
    """Whether the terms of a number may be denormal: WebAssembly flushes sums, but not what is added up."""
    return bool((np.abs(y[y != 0]) < 1e-30).any())


def test_sizes_without_an_example_give_the_bits_of_python(tmp_path: Path) -> None:
    path, cases, expected = tmp_path / "model.safetensors", [], []
    for each in counted_cases(40):
        with each:
            rng = np.random.default_rng(each.seed)
            model = RandomGraph(each.seed).build(int(rng.integers(2, 9)))
            with each.skipping(ArgumentError, match="NumPy|stream|time"):
                onward.export_web(model, path, normal(rng, 3, 50, 5), blocks=[normal(rng, 1, 9, 5)])
            calls = [normal(rng, int(rng.integers(1, 6)), int(rng.integers(20, 80)), 5) for _ in range(4)]
            parts = [normal(rng, 1, T, 5) for T in rng.integers(1, 30, 4)]
            stream = model.stream()
            expected.append(([model(x) for x in calls], [stream(x) for x in parts]))
            cases.append(case(path.read_bytes(), calls, parts))
    run = refused = 0
    for (calls, parts), answer in zip(expected, in_node(tmp_path, cases), strict=True):
        results = [*zip(answer["calls"], calls, strict=True)]
        ran = takewhile(lambda each: isinstance(each[0], list), zip(answer["blocks"], parts, strict=True))
        for found, y in (*results, *ran):
            if isinstance(found, dict):  # no program takes these sizes
                assert found["error"] == "ShapeError", found
                refused += 1
            elif not any(map(has_tiny_numbers, y if isinstance(y, tuple) else (y,))):
                check(found, y)
                run += 1
        refused += sum(isinstance(found, dict) for found in answer["blocks"])
    assert run > 5 * refused, (run, refused)


def test_a_flat_array_takes_the_shape_of_an_example_or_one_open_axis(tmp_path: Path) -> None:
    path, net = tmp_path / "model.safetensors", onward.Sequential(onward.GRU(3, 5, rng=0), onward.Softmax())
    onward.export_web(net, path, np.zeros((7, 2, 3), np.float32), blocks=[np.zeros((4, 1, 3), np.float32)])
    program = """
        const { readFile } = await import("node:fs/promises");
        const model = await onward.Onward.load(await readFile("FILE")), stream = model.stream();
        const flat = (n) => new Float32Array(n).fill(0.5);
        const results = [model.run(flat(42)), stream(flat(3)), stream(flat(15))];
        console.log(JSON.stringify(results.map(({ shape }) => shape)));
    """
    assert evaluated(program.replace("FILE", str(path))) == [[7, 2, 5], [5], [5, 5]]


@OPTIONS
def test_layers_images_and_integers_give_the_bits_of_python(tmp_path: Path, options: list[str]) -> None:
    exported = [Exported(tmp_path, *each[:3], **each[3]) for each in models()]
    cases = [each.case for each in exported]
    for model, answer in zip(exported, in_node(tmp_path, cases, *options), strict=True):
        model.check(answer)


def test_whole_models_give_the_bits_of_python_in_chromium(tmp_path: Path, visit: Any) -> None:
    exported = [silero_like(tmp_path)]
    exported += [Exported(tmp_path, *each[:3], **each[3]) for each in models()]
    for model, answer in zip(exported, in_chromium(visit(), [each.case for each in exported]), strict=True):
        model.check(answer)


@pytest.mark.parametrize(
    ("engine", "cores"),
    [
        ("", ["onward-graph-relaxed.wasm"]),
        ("WebAssembly.validate = () => false;", ["onward-graph.wasm"]),  # as in Safari
    ],
    ids=["relaxed", "plain"],
)
def test_the_module_loads_the_fast_core_where_the_browser_runs_it(
    tmp_path: Path, visit: Any, engine: str, cores: list[str]
) -> None:
    page, requested = visit("about:blank", ready=False), []
    page.add_init_script(engine)
    page.on("request", lambda request: requested.append(request.url.rpartition("/")[2]))
    page.goto(visit.address)
    model = silero_like(tmp_path)
    model.check(in_chromium(page, [model.case])[0])
    assert [name for name in requested if name.startswith("onward-graph")] == cores


@pytest.mark.skipif(
    "ONWARD_CASES" not in os.environ, reason="set ONWARD_CASES to the folder of published models"
)
def test_published_models_give_the_bits_of_python(tmp_path: Path) -> None:
    folder, rng = Path(os.environ["ONWARD_CASES"]), np.random.default_rng(0)
    frames = np.load(folder / "silero_v6" / "inputs.npz")["input"][:20]
    state = np.zeros((1, 1, 128), np.float32)
    silero = onward.load(folder / "silero_v6" / "silero_vad_v6.onnx")
    exported = [Exported(tmp_path, silero, [(frames, state, state)], list(frames[:, None]))]
    silero = onward.load(folder / "silero_vad" / "silero_vad_16k_op15.onnx")
    exported += [Exported(tmp_path, silero, [], list(frames[:, None]), sr=np.int64(16000))]
    for n, size in ((1, 257), (2, 512)):
        model = onward.load(folder / "dtln" / f"model_{n}.onnx")
        _, state = model.inputs
        calls = [(np.abs(normal(rng, 1, 1, size)), normal(rng, 1, 2, 128, 2)) for _ in range(3)]
        exported.append(
            Exported(tmp_path, model, calls, [x for x, _ in calls], carry={state: model.outputs[1]})
        )
    for model, answer in zip(exported, in_node(tmp_path, [each.case for each in exported]), strict=True):
        model.check(answer)
