"""Compiled models that have most kinds of steps, and changes of the numbers in their programs."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import onward
from onward import _core
from onward.errors import OnwardError
from onward.graph import Graph, Model

from . import DATA

HEADER, CHECKED = 16, 24  # bytes before the checksum, and before the bytes that it covers
# behind the checksum: the size of the file, and the places and the sizes of the words and of the data
SIZES = struct.Struct("<5q")
FIRST_ENTRY, LAST = -(1 << 63), (1 << 63) - 1
POWERS = [1 << exponent for exponent in (0, 1, 20, 31, 33, 61, 62)]
NUMBERS = (0, -1, *POWERS, (1 << 62) - (1 << 44), LAST, -LAST, FIRST_ENTRY)


def with_checksum(content: bytes) -> bytes:
    return content[:HEADER] + _core.checksum(content[CHECKED:]).to_bytes(8, "little") + content[CHECKED:]


def changed(content: bytes, rng: np.random.Generator) -> bytes:
    """The file with one to three other words: extreme, neighboring or moved ones; its checksum is right."""
    _, start, count, _, _ = SIZES.unpack_from(content, CHECKED)
    words = np.frombuffer(content, np.int64, count, start).copy()
    for _ in range(rng.integers(1, 4)):
        place = rng.integers(count)
        here = int(words[place])
        choices = [NUMBERS[rng.integers(len(NUMBERS))], int(words[rng.integers(count)]), FIRST_ENTRY + 3]
        choices += [min(here + 1, LAST), max(here - 1, -LAST), here ^ 1 << 62]
        words[place] = choices[rng.integers(len(choices))]
    end = start + words.nbytes
    return with_checksum(content[:start] + words.tobytes() + content[end:])


class Places:
    """Where the numbers of a file are among its words, by what they are, as an own reader finds them."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        _, start, count, _, _ = SIZES.unpack_from(content, CHECKED)
        self.words = np.frombuffer(content, np.int64, count, start).tolist()
        self.found: dict[str, int] = {}
        self._programs: list[int] = []  # the places of their lengths
        self._at = 0
        for i in range(self._number("arrays")):
            self._text(f"array {i} dtype")
            self._numbers(f"array {i} shape")
            self._number(f"array {i} offset")
        for i in range(self._number("weights")):
            end = self._number(f"weights {i} length") + self._at
            self._numbers(f"weights {i} arrays")
            self._at = end
        if self._number("calls"):
            self._graph("calls")
        if self._number("stream"):
            self._stream()
        self.found["end"] = self._at
        assert self._at == count

    def changed(self, changes: dict[str, Any]) -> bytes:
        """Return the file with other words at some places.

        A place is a name, or "name+n" for the nth word behind it, or "name to name" for all words from the
        first one up to the second one. Lists take the place of words, and lengthen programs around them.
        """
        _, start, _, data, data_size = SIZES.unpack_from(self._content, CHECKED)
        words, replaced = list(self.words), {}
        for place, new in changes.items():
            first, _, last = place.partition(" to ")
            name, _, more = first.partition("+")
            begin = self.found[name] + int(more or 0)
            replaced[begin] = self.found[last] if last else begin + 1, new if isinstance(new, list) else [new]
        for begin, (end, new) in sorted(replaced.items(), reverse=True):
            for place in self._programs:
                if place < begin <= place + self.words[place]:
                    words[place] += len(new) - (end - begin)
            words[begin:end] = new
        text = np.array(words, np.int64).tobytes()
        moved = -(-len(text) // 64) * 64 + start
        sizes = SIZES.pack(moved + data_size, start, len(words), moved, data_size)
        rest = self._content[CHECKED + SIZES.size : start] + text.ljust(moved - start, b"\0")
        rest += self._content[data : data + data_size]
        return with_checksum(self._content[:CHECKED] + sizes + rest)

    def _number(self, name: str) -> int:
        self.found[name] = self._at
        self._at += 1
        return int(self.words[self._at - 1])

    def _numbers(self, name: str) -> None:
        for i in range(self._number(f"{name} count")):
            self._number(f"{name} {i}")

    def _text(self, name: str) -> None:
        length = self._number(f"{name} length")
        self._at += length

    def _graph(self, name: str) -> None:
        for side in ("input", "output"):
            for i in range(self._number(f"{name} {side}s")):
                self._text(f"{name} {side} {i} name")
                self._text(f"{name} {side} {i} dtype")
                self._number(f"{name} {side} {i} is known")
                for axis in range(self._number(f"{name} {side} {i} axes")):
                    self._number(f"{name} {side} {i} axis {axis}")
                    self._text(f"{name} {side} {i} axis {axis} name")
        for i in range(self._number(f"{name} programs")):
            self._program(f"{name} program {i}")

    def _program(self, name: str) -> None:
        self._programs.append(self._at)
        end = self._number(f"{name} length") + self._at
        for i in range(self._number(f"{name} inputs")):
            self._text(f"{name} input {i} dtype")
            self._numbers(f"{name} input {i} shape")
            self._number(f"{name} input {i} value")
        for i in range(self._number(f"{name} outputs")):
            self._text(f"{name} output {i} dtype")
        self._number(f"{name} constants")
        self._at = end

    def _stream(self) -> None:
        self._graph("stream")
        for name in ("pooled", "last"):
            if self._number(name):
                self._graph(name)
        for i in range(self._number("carries")):
            for each in ("initial", "rows", "time", "any shape"):
                self._number(f"carry {i} {each}")
        self._numbers("rows of inputs")
        for i in range(self._number("stream axes")):
            self._number(f"output {i} time")
            self._number(f"output {i} rows")
        self._numbers("rows of ends")
        for each in ("together", "time", "rows", "latency", "every step"):
            self._number(each)
        self._numbers("step shape")
        self._text("fingerprint")


def various_steps() -> Model:
    """A graph over x (rows, 8), in which each operation becomes another step of the core."""
    graph, rng = Graph(), np.random.default_rng(0)
    x = graph.add_input("x", np.float32, ("rows", 8))

    def number(value: Any) -> str:
        return graph.add_constant(np.asarray(value))

    def weights(*shape: int) -> str:
        return graph.add_constant(rng.normal(size=shape).astype(np.float32))

    top = graph.add_all("TopK", (x, number([3])), 2, axis=1)
    image = graph.add("Reshape", x, number([0, 1, 2, 4]))
    conv = graph.add("Relu", graph.add("Conv", image, weights(3, 1, 2, 2), weights(3), pads=[1, 1, 0, 0]))
    places = graph.add("Abs", top[1])
    q = graph.add_all("DynamicQuantizeLinear", (x,), 3)
    found = [
        *top,
        graph.add("MaxPool", conv, kernel_shape=[2, 2], strides=[2, 2]),
        graph.add("AveragePool", conv, kernel_shape=[1, 2]),
        graph.add("MatMul", x, graph.add("Transpose", x, perm=[1, 0])),
        graph.add("Softmax", graph.add("MatMul", x, weights(8, 5)), axis=1),
        graph.add("CumSum", x, number(1)),
        graph.add("ReduceMax", x, number([0]), keepdims=0),
        graph.add("ReduceSum", x, number([1])),
        graph.add("GatherElements", x, places, axis=1),
        graph.add("ScatterElements", x, places, top[0], axis=1),
        graph.add("Where", graph.add("Less", x, number(np.float32(0.5))), x, number(np.float32(2))),
        graph.add("Pad", x, number([1, 2, 0, 1])),
        graph.add("Slice", x, number([-1]), number([-9]), number([1]), number([-2])),
        *(
            graph.add("DFT", graph.add("Unsqueeze", x, number([2])), number(n), number(1))
            for n in (1, 64, 131)
        ),
        graph.add("LayerNormalization", x, weights(8), axis=-1),
        graph.add("MatMulInteger", q[0], number(rng.integers(-9, 9, (8, 3)).astype(np.int8)), q[2]),
        graph.add("DequantizeLinear", *q),
        graph.add("QuantizeLinear", x, number(np.float32(0.1)), number(np.int8(3))),
        graph.add("Range", number(0), graph.add("Size", x), number(1)),
        graph.add("Cast", graph.add("Mod", places, number(2)), to=np.dtype(np.int8)),
        graph.add("Tanh", graph.add("Mul", graph.add("Exp", x), graph.add("Add", x, number(np.float32(1))))),
    ]
    graph.outputs = tuple(found)
    return Model(graph)


def models() -> dict[str, Any]:
    """Models of layers in float32 and int8, of both directions, of a graph, and of integers."""
    layers = onward.Sequential(onward.GRU(2, 3, rng=0), onward.Linear(3, 2, rng=1))
    return {
        "layers": layers,
        "bytes": layers.quantize("int8"),
        "directions": onward.LSTM(2, 3, 2, bidirectional=True, rng=2),
        "steps": various_steps(),
        "integers": onward.load(DATA / "tflite" / "mww_vad.tflite"),
    }


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The compiled files of these models."""
    for name, model in models().items():
        model.compile(folder / "x.onward")
        yield name, (folder / "x.onward").read_bytes()


def run(loaded: Any) -> None:
    """Call a compiled model with inputs that it declares, and stream it."""
    for size in (3, 1):
        arrays = []
        for declared in loaded.declared.inputs:
            shape = [axis if isinstance(axis, int) else size for axis in declared.axes or ()]
            if np.prod(shape, dtype=float) > 1e5:
                return
            arrays.append(np.ones(shape, declared.dtype))
        with contextlib.suppress(OnwardError):
            loaded(*arrays)
        with contextlib.suppress(OnwardError):
            stream = loaded.stream()
            stream(arrays[0])
            if hasattr(stream, "finish"):
                stream.finish()
