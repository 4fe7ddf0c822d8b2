"""Onward for JavaScript gives the bits of the Python package, in Node."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.javascript import evaluated
from support.random_options import drawn
from support.randomized import random_cases

import onward
from onward import bundled

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
HERE = Path(__file__).parent


def decoded(array):
    return np.frombuffer(base64.b64decode(array["data"]), np.float32).reshape(array["shape"])


def run(tmp_path, cases):
    """The answers of Node for (model or path, x, lengths or None)."""
    described = []
    for n, (model, x, lengths) in enumerate(cases):
        causal = isinstance(model, Path) or model.causal
        if not isinstance(model, Path):
            model.save(tmp_path / f"{n}.safetensors")
            model = tmp_path / f"{n}.safetensors"
        integers = x.dtype.kind == "i"
        data = x.astype(np.int32 if integers else np.float32)
        described.append({
            "model": str(model), "x": base64.b64encode(data.tobytes()).decode(), "shape": x.shape,
            "integers": integers, "lengths": lengths, "streams": x.ndim == 1 + (not integers) and causal,
        })  # fmt: skip
    (tmp_path / "cases.json").write_text(json.dumps(described))
    command = ["node", HERE / "answers.mjs", tmp_path / "cases.json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def check(model, x, lengths, answer):
    options = {} if lengths is None else {"lengths": lengths}
    y = model(x, **options)
    np.testing.assert_array_equal(decoded(answer["y"]), y[0] if isinstance(y, tuple) else y)
    trace = model.trace(x, preactivations=True, **options)
    assert set(answer["trace"]) == set(trace)
    for name, values in trace.items():
        np.testing.assert_array_equal(decoded(answer["trace"][name]), values, err_msg=name)
    if "stream" in answer and model.causal:
        stream = model.stream()
        for x_t, y_t in zip(x, answer["stream"], strict=True):
            np.testing.assert_array_equal(decoded(y_t), stream(x_t))


def test_bundled_models_give_the_bits_of_python(tmp_path):
    data = np.load(bundled.datasets()["japanese_vowels_test"])
    _, vocabulary = onward.text.load(bundled.models()["shakespeare"])
    text = vocabulary.encode("KING RICHARD III:\nNow is the winter of our discontent")
    cases = [
        (bundled.models()["vowels"], data["x"][: data["lengths"][0]], None),
        (bundled.models()["shakespeare"], text, None),
        (bundled.models()["shakespeare"], text[:1], None),
    ]
    for (path, x, lengths), answer in zip(cases, run(tmp_path, cases), strict=True):
        check(onward.load(path), x, lengths, answer)


def models():
    """Every cell with its options, every precision, several layers, both directions."""
    for kind in (onward.RNN, onward.LSTM, onward.GRU):
        for size, layers, both in ((1, 1, False), (7, 2, True), (33, 2, False)):
            yield kind(5, size, layers, bidirectional=both, rng=size)
        yield kind(5, 33, 2, rng=3, bias=False)
        for precision in ("float16", "int8"):
            yield onward.Sequential(kind(5, 33, 2, rng=1), onward.Linear(33, 7, rng=2)).quantize(precision)
    yield onward.RNN(5, 7, nonlinearity="relu", rng=1)
    yield onward.LSTM(5, 33, proj_size=9, rng=1)
    yield onward.LSTM(5, 7, peephole=True, rng=1)
    yield onward.LSTM(
        5, 7, coupled=True, clip=0.5, cell_clip=0.2, activations=("hard_sigmoid", "softsign", "elu"), rng=1
    )
    yield onward.GRU(5, 7, reset_after=False, rng=1)
    for last in (onward.Softmax(), onward.Activation("gelu"), onward.Activation("leaky_relu", 0.1)):
        yield onward.Sequential(
            onward.GRU(5, 9, rng=1), onward.Dropout(0.5), onward.Linear(9, 33, rng=2), last
        )


def test_random_models_give_the_bits_of_python(tmp_path):
    cases = [drawn(np.random.default_rng(seed)) for seed in range(random_cases(100))]
    for case, answer in zip(cases, run(tmp_path, cases), strict=True):
        check(*case, answer)


def test_quantized_text_models_give_the_bits_of_python(tmp_path):
    layers = onward.Embedding(9, 5, rng=0), onward.LSTM(5, 33, rng=1), onward.Linear(33, 9, rng=2)
    x, models = np.array([8, 0, 3, 3, 1]), [onward.Sequential(*layers)]
    models += [models[0].quantize(precision) for precision in ("float16", "int8")]
    cases = [(model, x, None) for model in models]
    for (model, x, lengths), answer in zip(cases, run(tmp_path, cases), strict=True):
        check(model, x, lengths, answer)


def test_every_cell_option_and_precision_gives_the_bits_of_python(tmp_path):
    rng = np.random.default_rng(0)
    cases = []
    for model in models():
        cases.append((model, rng.normal(size=(17, 5)).astype(np.float32), None))
        cases.append((model, rng.normal(size=(11, 3, 5)).astype(np.float32), [11, 0, 4]))
        cases.append((model, rng.normal(size=(50, 1, 5)).astype(np.float32) * 1e-3, None))
    for (model, x, lengths), answer in zip(cases, run(tmp_path, cases), strict=True):
        options = {} if lengths is None or isinstance(model, onward.Sequential) else {"lengths": lengths}
        check(model, x, options.get("lengths", lengths), answer)


def test_batch_first_swaps_the_axes_as_in_python(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 9, 5)).astype(np.float32)
    lstm = onward.LSTM(5, 7, 2, batch_first=True, bidirectional=True, rng=1)
    ends = [onward.Linear(14, 3, rng=2)], [onward.Last(batch_first=True), onward.Linear(14, 3, rng=2)]
    cases = [(onward.Sequential(lstm, *end), x, lengths) for end in ends for lengths in (None, [9, 1, 0, 5])]
    for (model, x, lengths), answer in zip(cases, run(tmp_path, cases), strict=True):
        check(model, x, lengths, answer)


REFUSED = {  # calls of a model LSTM(5, 7), Linear(7, 2), and of an Embedding(4, 3)
    "model.run(x, { lengths: [3] })": "ShapeError: lengths=(3,); expected 2 integers from 0 to 3",
    "model.run(x, { lengths: [3, 4] })": "ShapeError: lengths=(3, 4); expected",
    "model.run(x, { lengths: [-1, 1.5] })": "ShapeError: lengths=(-1, 1.5); expected",
    "model.run(x, { lengths: 1 })": "ShapeError: lengths=1; expected 2 integers from 0 to 3",
    "model.run(x, { lengths: 0 })": "ShapeError: lengths=0; expected",
    "model.run(x, { lengths: '12' })": "ShapeError: lengths=12; expected",
    "model.run(x, { lengths: [null, '1'] })": "ShapeError: lengths=(, 1); expected",
    "model.run(x, { state: [{ h: [1, 2], c: null }] })": "ShapeError: h of the state of this LSTM",
    "model.run(x, { state: [] })": "ShapeError: state has 0 entries; expected 1",
    "model.backward(x, new Float32Array(12), { state: [{ h: [1], c: [1] }] })": "ShapeError: h of the state",
    "model.run([[1, 2, 3, 4, 5], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6]])": "ShapeError: nested arrays",
    "model.run([[1, 2, 3, 4, null]])": "ArgumentError: got null; expected",
    "model.run([[1, 2, 3, 4, '5']])": "ArgumentError: got string; expected",
    "model.run([[1, 2, 3, 4, [5]]])": "ShapeError: nested arrays of shape (1, 5)",
    "model.run(null)": "ArgumentError: got null; expected",
    "model.run(3)": "ShapeError: x has shape (), but this model takes (T, 5), or (T, B, 5) in batches",
    "model.stream()(3)": "ShapeError: x has shape (), but this stream takes (5,), (T, 5), or (T, B, 5)",
    "model.stream()([[[[1, 2, 3, 4, 5]]]])": "ShapeError: x has shape (1, 1, 1, 5), but this stream",
    "table.stream()([[[1]]])": "ShapeError: x has shape (1, 1, 1), but this stream takes a number, (T,), or",
    "model.backward(x, [[1, 2]])": "ShapeError: an array of 2 numbers cannot have shape (3, 2, 2)",
    "model.clamp({ layer: '0.l0', gate: 'i', unit: 0.5, value: 1 })": "ArgumentError: unit=0.5",
    "table.stream()(1.5)": "ArgumentError: x contains 1.5",
    "table.run([0, 4])": "ArgumentError: x contains 4",
}


def test_arguments_that_do_not_fit_are_errors_and_other_types_are_converted(tmp_path):
    model = onward.Sequential(onward.LSTM(5, 7, rng=0), onward.Linear(7, 2, rng=1))
    table = onward.Embedding(4, 3, rng=0)
    for name, each in (("model", model), ("table", table)):
        each.save(tmp_path / f"{name}.safetensors")
    program = f"""
        const {{ readFile }} = await import("node:fs/promises");
        const load = async (name) => onward.Onward.load(await readFile(`{tmp_path}/${{name}}.safetensors`));
        const model = await load("model"), table = await load("table");
        const doubles = Float64Array.from({{ length: 30 }}, (_, k) => Math.fround(Math.sin(k)));
        const x = new onward.Tensor(Float32Array.from(doubles), [3, 2, 5]), dy = doubles.slice(0, 12);
        const outcome = (call) => {{
            try {{ return String(call()); }} catch (error) {{ return String(error); }}
        }};
        const found = [{", ".join(f"() => {call}" for call in REFUSED)}].map(outcome);
        const pairs = [
            [model.run(x), model.run(new onward.Tensor(doubles, [3, 2, 5]))],
            [model.gradient(x, Float32Array.from(dy)), model.gradient(x, dy)],
            [model.gradient(x, Float32Array.from(dy)), model.gradient(x, new onward.Tensor(dy, [3, 2, 2]))],
            [model.run(x, {{ state: [{{ h: Float32Array.of(...dy, 1, 1), c: null }}] }}),
             model.run(x, {{ state: [{{ h: [...dy, 1, 1], c: null }}] }})],
            [table.run([3, 1]), table.run(BigInt64Array.of(3n, 1n))],
            [table.run([3, 1]), table.run([3n, 1n])],
        ];
        console.log(JSON.stringify([found, pairs.map((pair) => pair.map(({{ data }}) => [...data]))]));
    """
    found, pairs = evaluated(program)
    for (call, message), got in zip(REFUSED.items(), found, strict=True):
        assert got.startswith(message), (call, got)
    for number, (one, other) in enumerate(pairs):
        assert one == other and any(one), number
