"""Damaged files, and bounds on what opening one may take: for the tests of every loader."""

import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from onward.errors import OnwardError


def truncated(content: bytes) -> Iterator[bytes]:
    """The content cut at every percent of its length."""
    for percent in range(100):
        yield content[: len(content) * percent // 100]


def flipped(content: bytes, places: int = 1000) -> Iterator[bytes]:
    """The content with one byte changed, at places all over it."""
    rng = np.random.default_rng(0)
    for position in rng.integers(len(content), size=places).tolist():
        changed = bytearray(content)
        changed[position] ^= int(rng.integers(1, 256))
        yield bytes(changed)


@contextmanager
def bounded(seconds: float = 1.0, memory: int = 1 << 28) -> Iterator[None]:
    """Fails if what is done inside takes more processor time, or asks for more memory, than this."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, before[1]))
    start = time.process_time()
    try:
        yield
    finally:
        taken = time.process_time() - start
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert taken < seconds


def open_damaged(
    path: Path,
    contents: Iterable[bytes],
    load: Callable[[Path], Any],
    check: Callable[[Any], None],
    seconds: float = 1.0,
    memory: int = 1 << 28,
) -> int:
    """Opens each content, at `path`, within bounds; returns how many were refused.

    Each must be refused by an error of Onward that names the file, or give what passes `check`.
    """
    refused = 0
    for content in contents:
        path.write_bytes(content)
        with bounded(seconds, memory):
            try:
                loaded = load(path)
            except OnwardError as error:
                refused += 1
                assert str(path) in str(error)
                continue
            check(loaded)
    return refused


def check_parts(loaded: Any) -> None:
    """That each layer, or the one model, runs, and answers in the shape that its sizes say."""
    for layer in loaded.values() if isinstance(loaded, dict) else [loaded]:
        x = np.zeros((2, 1, getattr(layer, "input_size", getattr(layer, "in_features", 1))))
        if type(layer).__name__ in ("RNN", "LSTM", "GRU"):
            y, _ = layer(x)
            units = (getattr(layer, "proj_size", 0) or layer.hidden_size) * (1 + layer.bidirectional)
            assert y.shape == (2, 1, units)
        elif type(layer).__name__ == "Linear":
            assert layer(x).shape == (2, 1, layer.out_features)
        else:
            assert {name: weight.shape for name, weight in layer.state_dict().items()} == dict(layer.shapes())
