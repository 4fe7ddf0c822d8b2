"""Run whole models in JavaScript: in Node, or in a page of a browser."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

import onward
from onward.graph import Graph, Input, Model
from onward.tracing.explore import PAGE
from support import ROOT
from support.sequence_graphs import normal

MODULE = (PAGE / "onward.js").as_uri()
SCRIPT = ROOT / "tests/web/whole.mjs"
DTYPES = {
    "Float32Array": np.float32, "Float64Array": np.float64, "Int32Array": np.int32, "Int8Array": np.int8,
    "BigInt64Array": np.int64, "Uint8Array": np.uint8,
}  # fmt: skip


def encoded(array: Any) -> dict[str, Any]:
    array = np.asarray(array)
    return {
        "data": base64.b64encode(array.tobytes()).decode(),
        "dtype": array.dtype.name,
        "shape": array.shape,
    }


def inputs_of(call: Any) -> Any:
    if isinstance(call, dict):
        return {name: encoded(value) for name, value in call.items()}
    return [encoded(value) for value in (call if isinstance(call, tuple) else (call,))]


def case(
    content: bytes, calls: Any = (), parts: Any = (), finish: bool = False, traced: bool = False
) -> dict[str, Any]:
    return {
        "model": base64.b64encode(content).decode(),
        "calls": list(map(inputs_of, calls)),
        "blocks": list(map(inputs_of, parts)),
        "finish": finish,
        "traced": traced,
    }


def in_node(tmp_path: Path, cases: list[dict[str, Any]], *options: str) -> list[Any]:
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    command = ["node", *options, str(SCRIPT), str(tmp_path / "cases.json")]
    found: list[Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def in_chromium(page: Any, cases: list[dict[str, Any]]) -> list[Any]:
    found: list[Any] = page.evaluate(
        """async (cases) => {
            const onward = await import("./onward.js"), { answer } = await import("./whole.js"), answers = [];
            for (const each of cases) answers.push(await answer(onward, each));
            return answers;
        }""",
        cases,
    )
    return found


def check(found: Any, expected: Any) -> None:
    expected = expected if isinstance(expected, tuple) else (expected,)
    assert isinstance(found, list), found
    assert len(found) == len(expected)
    for array, y in zip(found, expected, strict=True):
        dtype = np.bool_ if y.dtype == bool else DTYPES[array["dtype"]]
        values = np.frombuffer(base64.b64decode(array["data"]), dtype).reshape(array["shape"])
        assert values.dtype == y.dtype
        np.testing.assert_array_equal(values, y)


class Exported:
    """A model with some calls, which may be traced, and blocks, and their outputs in Python."""

    def __init__(
        self,
        folder: Path,
        model: Any,
        calls: Any = (),
        parts: Any = (),
        traced: bool = False,
        **options: Any,
    ) -> None:
        path = folder / "model.safetensors"
        onward.export_web(model, path, *calls, blocks=parts, trace=traced, **options)
        whole = isinstance(model, Model)
        stream = model.stream(**options) if parts else None
        run = model if whole else lambda *args: _first(model(*args))
        self.expected = [run(**c) if isinstance(c, dict) else run(*_tuple(c)) for c in calls]
        self.streamed = [stream(**c) if isinstance(c, dict) else stream(*_tuple(c)) for c in parts]
        self.last = stream.finish() if hasattr(stream, "finish") and hasattr(stream, "_is_finished") else None
        self.traces = []
        for call in calls if traced else ():
            named = {"preactivations": True, **(call if isinstance(call, dict) else {})}
            self.traces.append(model.trace(*(() if isinstance(call, dict) else _tuple(call)), **named))
        self.case = case(path.read_bytes(), calls, parts, self.last is not None, traced)

    def check(self, answer: Any) -> None:
        assert "error" not in answer, answer
        for found, y in zip(answer["calls"] + answer["blocks"], self.expected + self.streamed, strict=True):
            check(found, y)
        if self.last is not None:
            check(answer["finish"], self.last)
        for found, trace in zip(answer["traces"], self.traces, strict=True):
            assert "error" not in found, found
            check([found["x"], found["y"]], (trace.x, trace.y))
            assert list(found["layers"]) == list(trace.layers)
            for name, layer in trace.layers.items():
                assert set(found["layers"][name]) == set(layer)
                for key, array in layer.items():
                    check([found["layers"][name][key]], array)


def _tuple(call: Any) -> tuple[Any, ...]:
    return call if isinstance(call, tuple) else (call,)


def _first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def evaluated(program: str) -> Any:
    """What a program prints as JSON in Node, in which `onward` is the module."""
    source = f'const onward = await import("{MODULE}");\n{program}'
    command = ["node", "--input-type=module", "--eval", source]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def voice_detector(quantized: str = "") -> Model:
    """A model like Silero: an STFT, convolutions, an LSTM whose state is an input, and a head."""
    rng = np.random.default_rng(3)

    def constant(*shape: int) -> str:
        return graph.add_constant((rng.normal(size=shape) * 0.2).astype(np.float32))

    graph = Graph()
    x = graph.add_input("input", np.float32, ("batch", 128))
    state = graph.add_input("state", np.float32, (2, "batch", 9))
    rate = graph.add_input("sr", np.int64, ())
    y = graph.add("Unsqueeze", x, graph.add_constant(np.array([1])))
    y = graph.add("Pad", y, graph.add_constant(np.array([0, 0, 16, 0, 0, 16])), mode="reflect")
    y = graph.add("Conv", y, constant(34, 1, 32), strides=[16])
    real, imaginary = graph.add_all("Split", (y,), 2, axis=1, num_outputs=2)
    y = graph.add("Add", graph.add("Mul", real, real), graph.add("Mul", imaginary, imaginary))
    y = graph.add("Sqrt", y)
    is_16 = graph.add("Equal", rate, graph.add_constant(np.array(16000)))
    y = graph.add("Mul", y, graph.add("Where", is_16, constant(1), constant(1)))
    for channels, outputs in ((17, 12), (12, 9)):
        y = graph.add(
            "Relu", graph.add("Conv", y, constant(outputs, channels, 3), constant(outputs), pads=[1, 1])
        )
    y = graph.add("Transpose", y, perm=[2, 0, 1])
    h, c = graph.add_all("Split", (state,), 2, axis=0, num_outputs=2)
    layer = onward.LSTM(9, 9, rng=4)
    y, h, c = graph.add_all("Recurrent", (y, "", h, c), 3, cell=layer.cell)
    y = graph.add("Gather", y, graph.add_constant(np.array(-1)), axis=0)
    y = graph.add("Sigmoid", graph.add("Gemm", y, constant(9, 1), constant(1)))
    graph.outputs = (y, graph.add("Concat", h, c, axis=0))
    kind = np.dtype(np.float32)
    graph.declared_outputs = (Input("output", kind), Input("stateN", kind, (2, "batch", 9)))
    model = Model(graph)
    return model.quantize(quantized) if quantized else model


def silero_like(folder: Path, quantized: str = "") -> Exported:
    rng, model = np.random.default_rng(0), voice_detector(quantized)
    frames = [normal(rng, 1, 128) for _ in range(5)]
    calls = [
        (normal(rng, batch, 128), normal(rng, 2, batch, 9), np.int64(rate))
        for batch, rate in ((1, 16000), (3, 16000), (1, 8000))
    ]
    return Exported(folder, model, calls, frames, sr=np.int64(16000))
