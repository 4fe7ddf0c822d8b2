"""Every check of cpp/run/model_file.cpp: a file with one wrong number is refused for what is wrong."""

from typing import Any

import pytest
from support.compiled_files import CHECKED, LAST, SIZES, Places, with_checksum

import onward
from onward import _core

MANY = 1 << 16


def text(value: str) -> list[int]:
    return [len(value), *value.encode()]


def port(dtype: str = "float32") -> list[int]:
    """The words of an input or output of unknown axes."""
    return [*text("z"), *text(dtype), 0, 0]


def graph(inputs: int, outputs: int, dtype: str = "float32") -> list[int]:
    """The words of a graph without programs."""
    return [inputs, *port() * inputs, outputs, *port(dtype) * outputs, 0]


def float64(name: str) -> dict[str, Any]:
    """The dtype float64 in the place of float32."""
    return {f"{name} dtype length+6": ord("6"), f"{name} dtype length+7": ord("4")}


def axes(name: str, *filler: int) -> dict[str, Any]:
    """A list that has three items gets 17, one more than arrays have axes."""
    return {name: [17, *filler * 14]}


ARRAY = [*text("float32"), 1, 18, 0]  # of 72 bytes
VALUE = {"calls program 0 input 0 shape 0": 1, "calls program 0 input 0 shape 1": 1}
VALUE |= {"calls program 0 input 0 shape 2": 3, "calls program 0 input 0 value": 10}
ALONE = {"together": 0, "carry 0 rows": -1}  # streams that run one after the other
LAST_GRAPH, BLOCK_GRAPH = "last inputs to carries", "stream inputs to pooled"

# The file of GRU(2, 3) and Linear(3, 2), whose stream has an end: messages, and changes that lead to them.
REFUSED: dict[str, list[dict[str, Any]]] = {
    "an array is too large": [
        {"array 0 shape 0": -1},
        {"array 0 shape 0": 1 << 62},
        {"arrays": 12, "weights": [*text("float32"), 2, 0, 1 << 31, 0, 2], "weights 1 arrays 0": 11},
    ],
    "an array exceeds the file": [
        {"array 0 offset": -64},
        {"array 0 offset": 32},
        {"array 10 offset": 832},
        {"array 10 offset": LAST - 63},
        axes("array 8 shape count", 1),
    ],
    "an array does not exist": [{"weights 0 arrays 0": -1}, {"weights 0 arrays 0": 11}],
    "repeat arrays too often": [
        {"weights 0 arrays count": [4 + MANY, *[0] * MANY], "weights 0 length": 26 + MANY},
        {
            "arrays": 11 + MANY,
            "weights": [*ARRAY * MANY, 2],
            "carries": [1 + MANY, *(n for i in range(MANY) for n in (11 + i, -1, -1, 0))],
        },
    ],
    "weights have too many words": [{"weights 0 length": 27, "weights 1 length": [0, 12]}],
    "weights must be vectors or matrices": [{"weights 1 arrays 1": 8}],
    "an axis has a size below 0": [{"calls input 0 axis 2": -2}],
    "an array has too many axes": [axes("calls input 0 axes", 1, 0)],
    "an input has too many axes": [axes("calls program 0 input 0 shape count", 1)],
    "a value does not fit its input": [
        {"calls program 0 input 0 value": 10},
        VALUE | float64("calls program 0 input 0"),
    ],
    "a program has the wrong number of inputs or outputs": [
        {"calls inputs": [2, *port()]},
        {"calls outputs": [2, *port()]},
    ],
    "an output has the wrong dtype": [float64("calls output 0")],
    "a program has too many axes": [{"calls program 0 input 0 shape 0": -1025}],
    "a stream has the wrong number of inputs or outputs": [
        {"rows of inputs count": [2, -1]},
        {"stream axes": [2, 0, 1]},
        {"pooled": [1, *graph(3, 2)]},
        {"pooled": [1, *graph(2, 3)]},
    ],
    "a carry has the wrong dtype or shape": [
        {"carry 0 rows": -2, "together": 0},
        {"carry 0 time": -2},
        {"carry 0 rows": 3},
        {"carry 0 time": 3},
        {"carry 0 rows": -1},
        {"carry 0 rows": 2},
        float64("array 10"),
        {"pooled": [1, *graph(2, 2, "float64")]},
        {BLOCK_GRAPH: graph(2, 2, "float64"), "pooled": [1, *graph(2, 2)]},
    ],
    "an input has no axis for rows": [
        {"rows of inputs 0": -1},
        {"rows of inputs 0": 16},
        ALONE | {"rows of inputs 0": -2},
    ],
    "an axis does not exist": [
        *(
            {name: wrong}
            for name in ("output 0 time", "output 0 rows", "rows of ends 0")
            for wrong in (-2, 16)
        ),
        {"latency": -1},
        {"time": 16},
        {"rows": 16},
        {"rows": -2},
    ],
    "the end of a stream does not fit it": [
        {"time": -1},
        {"time": 3},
        {"rows": 3},
        axes("step shape count", 1),
        {"step shape 2": -1},
        {"step shape 2": 1 << 31},
        {"rows of ends count": [2, 0]},
        {"rows of ends count": [2, 0], LAST_GRAPH: graph(2, 2)},
        {LAST_GRAPH: graph(2, 2)},
        {LAST_GRAPH: graph(3, 1)},
        {BLOCK_GRAPH: graph(3, 2), "rows of inputs count": [2, 0]},
    ],
    "its words are not complete": [{"end to end": [0]}, {"calls to end": [0, 0]}],
}


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("compiled") / "x.onward"
    onward.Sequential(onward.GRU(2, 3, rng=0), onward.Linear(3, 2, rng=1)).compile(path)
    return path.read_bytes()


def refused(content: bytes) -> str:
    with pytest.raises(ValueError) as found:
        _core.ModelFile(content)
    return str(found.value)


def test_wrong_numbers_are_refused_for_what_is_wrong(content: bytes) -> None:
    places = Places(content)
    _core.ModelFile(places.changed({}))
    for message, cases in REFUSED.items():
        for case in cases:
            assert message in refused(places.changed(case)), (message, case)


def test_what_wrong_numbers_are_added_to_is_not_refused(content: bytes) -> None:
    for changes in (VALUE, ALONE, {"pooled": [1, *graph(2, 2)]}, {LAST_GRAPH: graph(2, 1)}):
        _core.ModelFile(Places(content).changed(changes))


def test_wrong_headers_are_refused_for_what_is_wrong(content: bytes) -> None:
    names, sizes = ("size", "words", "count", "data", "data_size"), SIZES.unpack_from(content, CHECKED)
    known, end = dict(zip(names, sizes, strict=True)), CHECKED + SIZES.size
    assert "not a compiled model" in refused(b"\x88" + content[1:])
    assert "it is cut off" in refused(content[:10])
    assert "permit other vectors" in refused(content[:12] + b"\x08" + content[13:])
    assert "bytes behind its end" in refused(content + b"\0")
    wrong = {
        "words": [0, known["words"] + 8],
        "count": [-(1 << 61), 1 << 61, known["size"] // 8],
        "data": [0, known["data"] + 8, LAST - 63],
        "data_size": [-64, known["data_size"] + 64],
    }
    for name, number in [(name, number) for name, numbers in wrong.items() for number in numbers]:
        changed = SIZES.pack(*(known | {name: number}).values())
        found = refused(with_checksum(content[:CHECKED] + changed + content[end:]))
        assert "a section exceeds the file" in found, (name, number)
