"""Damaged files, and limits on what opening them may do, for the tests of every loader."""

import codecs
import contextlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onward
import onward.core.storage  # these, before any watch begins: an import counts as execution
import onward.formats.compiled.model
import onward.formats.compiled.running
import onward.formats.keras.load
import onward.formats.native
import onward.formats.onnx.read
import onward.formats.onnx.reference
import onward.formats.onnx.translate
import onward.formats.torch.exported_graph
import onward.formats.torch.find_layers
import onward.formats.torch.parts
import onward.formats.torch.state_dict
import onward.graph.over_time.block_plan
import onward.graph.over_time.named_carries
import onward.graph.summary
import onward.layers.chain
import onward.model
from onward.errors import KerasWarning, OnwardError
from onward.graph.operations import OPERATIONS
from onward.graph.operations.modules import MODULES

codecs.lookup("cp437")  # zipfile reads names with it
assert np.char  # NumPy 2 imports it when it is first used; NumPy 1 has no such module to import
for _name in MODULES:
    OPERATIONS[_name]  # imports its module

LARGE = [1 << bits for bits in (31, 32, 62, 63)] + [(1 << 64) - 1]
# Python's audit events for executing, importing, connecting and writing. Parsing raises "compile" only.
ACTS = (
    "exec import pickle.find_class os.system os.exec os.fork os.forkpty os.posix_spawn os.spawn "
    "subprocess.Popen socket.connect socket.bind os.remove os.rename os.mkdir os.rmdir os.link os.symlink "
    "os.chmod os.truncate shutil.copyfile shutil.move ctypes.dlopen"
).split()


class _Watch:
    """Records forbidden audit events while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and (event in ACTS or (event == "open" and _writes(*arguments[1:]))):
            self.seen.append(f"{event} {arguments!r}"[:200])


def _writes(mode: str | None, flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or bool(set(mode or "r") & set("wax+"))


_watch = _Watch()


def truncated(content: bytes) -> Iterator[bytes]:
    """The content truncated at every percent of its length."""
    for percent in range(100):
        yield content[: len(content) * percent // 100]


def flipped(content: bytes, places: int = 250) -> Iterator[bytes]:
    """The content with one byte changed, at many positions; `make fuzz` tries more."""
    rng = np.random.default_rng(0)
    for position in rng.integers(len(content), size=places).tolist():
        changed = bytearray(content)
        changed[position] ^= int(rng.integers(1, 256))
        yield bytes(changed)


def inflated(content: bytes, places: int = 15) -> Iterator[bytes]:
    """The content with a large 8-byte integer at many positions, where it may act as a length."""
    rng = np.random.default_rng(0)
    starts = {0, 8, 16, *rng.integers(len(content) - 8, size=places).tolist()}
    for start in sorted(starts):
        for number in LARGE:
            yield content[:start] + number.to_bytes(8, "little") + content[start + 8 :]


# Elsewhere, a test that asks for more memory than there is may take all of it before it fails.
needs_bound = pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the memory of a process")


@contextmanager
def bounded_memory(memory: int) -> Iterator[None]:
    """Allow the block so many more bytes of addresses, on Linux only, where RLIMIT_AS limits them."""
    if sys.platform != "linux":
        yield
        return
    import resource  # which Windows lacks

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def bounded(seconds: float = 2.0, memory: int = 1 << 28) -> Iterator[None]:
    """Fail if the block executes or writes anything, or exceeds these limits of time and memory."""
    with bounded_memory(memory):
        start = time.process_time()
        _watch.seen.clear()
        _watch.on = True
        try:
            yield
        finally:
            _watch.on = False
            taken = time.process_time() - start
    assert not _watch.seen, _watch.seen
    assert taken < seconds, f"took {taken} s"


def refused(path: Path, load: Callable[[Path], Any] = onward.load, memory: int = 1 << 28) -> str:
    """The message of the error, which must come from Onward, name the file, and stay within the limits."""
    with bounded(memory=memory), pytest.raises(OnwardError) as error:
        load(path)
    assert str(path) in str(error.value)
    return str(error.value)


def open_damaged(
    path: Path,
    contents: Iterable[bytes],
    load: Callable[[Path], Any] = onward.load,
    check: Callable[[Any], None] = lambda loaded: None,
) -> int:
    """Open each content, written to `path`, within the limits; return how many were refused.

    Each must raise an error of Onward that names the file, or load and pass `check`. Nothing else
    may be in the folder after it.
    """
    refused = 0
    for content in contents:
        path.write_bytes(content)
        with bounded(), warnings.catch_warnings():
            warnings.simplefilter("ignore", KerasWarning)
            try:
                loaded = load(path)
            except OnwardError as error:
                refused += 1
                assert str(path) in str(error)
                continue
            check(loaded)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return refused


def check_parts(loaded: Any) -> None:
    """Check that the model, or each layer, runs and returns the shape that its sizes imply."""
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


def check_model(loaded: Any) -> None:
    """Check that a graph with the input x (2, 3, 1) runs, or raises an error from onward.errors."""
    try:
        loaded(np.ones((2, 3, 1), np.float32))
    except OnwardError:
        pass


def check_script(loaded: Any) -> None:
    """Check that a program with the input x (2, 4, 20) runs, or raises an error from onward.errors."""
    if not isinstance(loaded, dict):  # damage can remove the program
        with contextlib.suppress(OnwardError):
            loaded(np.ones((2, 4, 20), np.float32))
