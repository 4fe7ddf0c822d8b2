"""Damaged files of TensorFlow Lite are loaded or refused with an error that names them."""

import random
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import support

import onward
from onward.core import budget
from onward.errors import FileError, MemoryLimitError, OnwardError
from onward.formats.tflite.control import Steps
from onward.formats.tflite.read import Model, Subgraph, Tensor
from onward.formats.tflite.translate import Translator
from onward.graph import Graph

SEEDS = ["mww_vad", "keras_gru", "keras_lstm_int8"]
BOUNDARIES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A copy in which a few bytes or numbers differ, or whose end is missing."""
    found = bytearray(data)
    # most of the tables are at the end or the start, and what lies between are weights
    limit = len(found) if rng.random() < 0.3 else min(len(found), 6000)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = 8 + rng.randrange(limit - 16)
        at = at if rng.random() < 0.5 else len(found) - at
        if rng.random() < 0.5:
            found[at] = rng.randrange(256)
        else:
            at -= at % 4
            found[at : at + 4] = rng.choice(BOUNDARIES).to_bytes(4, "little")
    return bytes(found[: rng.randrange(len(found))] if rng.random() < 0.1 else found)


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files_are_loaded_or_refused(name: str, tmp_path: Path) -> None:
    data, rng, path = (
        (support.DATA / "tflite" / f"{name}.tflite").read_bytes(),
        random.Random(0),
        tmp_path / "m.tflite",
    )
    refused, end = 0, time.monotonic() + 1.0
    for count in range(2000):
        path.write_bytes(damaged(data, rng))
        try:
            onward.load(path)
        except OnwardError as error:
            refused += 1
            assert str(path) in str(error)
        if count > 60 and time.monotonic() > end:
            break
    assert refused > 10


def test_every_prefix_of_the_tables_is_refused(tmp_path: Path) -> None:
    data, path = (support.DATA / "tflite" / "keras_lstm_int8.tflite").read_bytes(), tmp_path / "m.tflite"
    for size in (8, 9, 16, 100, len(data) // 2, len(data) - 1000):
        path.write_bytes(data[:size])
        with pytest.raises(FileError, match=r"m\.tflite"):
            onward.load(path)


def test_an_input_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(FileError, match="has the type 93"):
        _ = Tensor("x", "93", ()).dtype


def test_states_that_are_larger_than_the_budget_are_refused() -> None:
    state = Tensor("state", "float32", (1 << 20, 1 << 20), is_variable=True)
    with budget.of_file(1000), pytest.raises(MemoryLimitError, match="1000 bytes"):
        Translator(Model(), Graph()).state(state)


def test_a_condition_that_tests_itself_counts_nothing() -> None:
    # the condition of a loop was followed without an end, and twice where both sides are one value
    nothing = SimpleNamespace()
    pairs = [
        SimpleNamespace(kind="LOGICAL_AND", inputs=[n - 1, n - 1], outputs=[n], options=nothing)
        for n in range(64)
    ]
    pairs[0].inputs = [63, 63]
    condition = Subgraph(tensors=[], inputs=[], outputs=[63], operators=pairs)
    body = Subgraph(tensors=[], inputs=[], outputs=[], operators=[])
    assert Steps(body, []).limits(None, condition) == []


def test_weights_of_a_wrong_size_are_refused(tmp_path: Path) -> None:
    data = bytearray((support.DATA / "tflite" / "keras_lstm.tflite").read_bytes())
    shape = np.array([2, 24, 8], "<i4").tobytes()  # a vector of two sizes
    at = data.find(shape)
    data[at + 4 : at + 8] = (25).to_bytes(4, "little")
    (tmp_path / "m.tflite").write_bytes(data)
    with pytest.raises(FileError, match="takes 800 bytes, but its buffer has 768"):
        onward.load(tmp_path / "m.tflite")
