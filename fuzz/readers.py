"""Fuzz every reader of untrusted files with atheris, guided by code coverage. Linux only.

    python fuzz/readers.py                          # every reader, 10 seconds each
    python fuzz/readers.py torch onnx --seconds 600 --seed 7

For every file, a reader must end within 10 seconds and 256 MB, execute nothing, write nothing, and raise only
onward.errors. Inputs that violate this are saved in build/fuzz and become tests.
"""

import argparse
import codecs
import contextlib
import gc
import io
import math
import pickle
import struct
import subprocess
import sys
import tempfile
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import atheris
import numpy as np
import onnx
from graph_mutations import mutated_graph

import onward
from onward.errors import ArgumentError, OnwardError
from onward.formats.compiled import model as model_file
from onward.formats.onnx import protobuf, read, tensors
from onward.formats.onnx.translate import translate
from onward.formats.torch.script.program import Program
from onward.graph import Model
from onward.tables import data

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
FOUND = ROOT / "build" / "fuzz"
sys.path.append(str(ROOT / "tests"))

from support import compiled_files as compiled  # noqa: E402
from support import hostile, script_archives  # noqa: E402  # tests is not a package
from support.sequence_graphs import detector  # noqa: E402


class Reader(NamedTuple):
    """The suffix, the reader and the seed files of one kind of file."""

    suffix: str
    read: Callable[[Path], Any]
    seeds: Callable[[Path], Iterator[bytes]]


def model() -> Any:
    return onward.Sequential(onward.LSTM(2, 3, rng=0), onward.Last(), onward.Linear(3, 2, rng=0))


def saved(folder: Path) -> Iterator[bytes]:
    """Models saved by Onward."""
    whole = onward.Sequential(onward.GRU(2, 3, 2, bidirectional=True, rng=0), onward.Softmax())
    for each in (model(), model().quantize("int8"), model().quantize("float16"), whole):
        each.save(folder / "seed")
        yield (folder / "seed").read_bytes()


def exported(folder: Path) -> Iterator[bytes]:
    """Models exported as ONNX."""
    for each in (
        onward.LSTM(2, 3, bidirectional=True, rng=0),
        onward.GRU(2, 3, reset_after=False, rng=0),
        model(),
    ):
        onward.export_onnx(each, folder / "seed.onnx")
        yield (folder / "seed.onnx").read_bytes()


def onnx_files(folder: Path) -> Iterator[bytes]:
    """The small files of the onnx package."""
    for path in sorted((Path(onnx.__file__).parent / "backend" / "test" / "data").rglob("*.onnx")):
        if path.stat().st_size < 20_000:
            yield path.read_bytes()


def tflite_files(folder: Path) -> Iterator[bytes]:
    """Models of TensorFlow Lite: of integers, with variables, loops and recurrent operators."""
    for path in sorted((DATA / "tflite").glob("*.tflite")):
        yield path.read_bytes()


def read_onnx(path: Path) -> None:
    """Read the tensors and attributes of an ONNX file; what was read must survive writing."""
    model = read.read(path, path.read_bytes())
    read.read(path, protobuf.encode(model))
    for tensor in model.graph.initializer if model.graph is not None else ():
        tensors.tensor_array(tensor)
    for node in model.graph.node:
        for attribute in node.attribute:
            if not attribute.ref_attr_name:
                tensors.attribute_value(attribute)


def run_onnx(path: Path) -> None:
    """Translate, plan and run an ONNX file, twice: with other sizes of its open axes the second time."""
    graph = translate(read.read(path, path.read_bytes()))
    loaded = Model(graph)
    for size in (2, 3):
        inputs = {}
        for declared in graph.inputs:
            shape = [axis if isinstance(axis, int) else size for axis in declared.axes or ()]
            if declared.dtype is None or declared.dtype.hasobject or math.prod(shape) > 100_000:
                raise ArgumentError(f"{declared.name} is not an input that this fuzzer makes")
            inputs[declared.name] = np.ones(shape, declared.dtype)
        loaded(**inputs)


def stream_states(folder: Path) -> Iterator[bytes]:
    stream = model().stream()
    stream(np.ones(2))
    stream.save(folder / "seed")
    yield (folder / "seed").read_bytes()


def pool_states(folder: Path) -> Iterator[bytes]:
    pool = model().pool(3)
    pool.step(pool.open(2), np.ones((2, 2)))
    pool.save(folder / "seed")
    yield (folder / "seed").read_bytes()


def arrays(folder: Path) -> Iterator[bytes]:
    """Archives of NumPy arrays."""
    for save in (np.savez, np.savez_compressed):
        content = io.BytesIO()
        save(content, x=np.ones((4, 2)), lengths=[3, 1], y=[0, 1])
        yield content.getvalue()


def tables(folder: Path) -> Iterator[bytes]:
    yield b"sequence,label,a,b\n1,0,0.5,2\n1,0,-1e3,nan\n2,1,3,4\n"
    yield b'a,b\r\n1,2\r\n\r\n"3",4\r\n'
    yield b"sequence,time,a\n1,2024-01-01,NA\n1,2024-01-02,3\n2,2024-01-01,\n"


def run_script(path: Path) -> None:
    """Open a TorchScript archive and run it."""
    model = onward.load(path)
    if isinstance(model, Model):
        model(np.ones((2, 4, 20), np.float32))


def run_code(path: Path) -> None:
    """Run the forward() of a class M in the code of a TorchScript archive."""
    state = pickle.dumps({"count": 3, "training": False}, 2)[2:-1]  # without the protocol and the end
    content = script_archives.archived(path.read_bytes(), state)
    Model(Program(content).graph())(np.ones((2, 3), np.float32))


def code(folder: Path) -> Iterator[bytes]:
    """Code of TorchScript: a class with a branch, a loop, a list and an attribute that changes."""
    lines = [
        "class M(Module):", "  count : int", "  def forward(self: __torch__.M,", "    x: Tensor) -> Tensor:",
        "    count = self.count", "    self.count = torch.add(count, 1)",
        "    _0 = annotate(List[Tensor], [])",
        "    for i in range(torch.size(x, 0)):", "      _1 = torch.append(_0, torch.select(x, 0, i))",
        "    if bool(torch.gt(torch.sum(x), 0)):", "      y = torch.stack(_0)", "    else:", "      y = x",
        "    z = torch.mul_(torch.slice(y, 1, 0, 2), count)", "    return torch.relu(y)", "",
    ]  # fmt: skip
    yield "\n".join(lines).encode()


def stored(pattern: str) -> Callable[[Path], Iterator[bytes]]:
    """Files of other libraries in tests/data."""
    return lambda folder: (path.read_bytes() for path in sorted(DATA.glob(pattern)))


def compiled_files(folder: Path) -> Iterator[bytes]:
    """Compiled models with most kinds of steps, and one that looks ahead."""
    yield from (content for _, content in compiled.contents(folder))
    detector(2).compile(folder / "seed.onward")
    yield (folder / "seed.onward").read_bytes()


def run_compiled(path: Path) -> None:
    """Open a compiled model whose checksum is right, and run its calls and streams."""
    compiled.run(model_file.load(path, compiled.with_checksum(path.read_bytes())))


READERS = {
    "compiled": Reader(".onward", run_compiled, compiled_files),
    "safetensors": Reader(".safetensors", onward.load, saved),
    "torch": Reader(".pt", onward.load, stored("torch/*.pt")),
    "pt2": Reader(".pt2", onward.load, stored("exported_program/*.pt2")),
    "script": Reader(".pt", run_script, stored("torch/front_[st]*.pt")),
    "script-code": Reader(".py", run_code, code),
    "keras": Reader(".keras", onward.load, stored("keras/*.keras")),
    "hdf5": Reader(".h5", onward.load, stored("keras/[!w]*.h5")),
    "onnx": Reader(".onnx", onward.load, exported),
    "tflite": Reader(".tflite", onward.load, tflite_files),
    "onnx-messages": Reader(".onnx", read_onnx, onnx_files),
    "onnx-graphs": Reader(".onnx", run_onnx, onnx_files),
    "npz": Reader(".npz", onward.load_tensors, arrays),
    "stream": Reader(".state", lambda path: model().stream().load(path), stream_states),
    "pool": Reader(".state", lambda path: model().pool(3, 1000).load(path), pool_states),
    "csv": Reader(".csv", data.read, tables),
    "sequences": Reader(".npz", data.read, arrays),
}


def unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name), member)
    return content.getvalue()


def mutated(content: bytes, max_size: int, seed: int) -> bytes:
    """Mutate the content; in an archive, usually one member, because other changes fail its checksum."""
    try:
        members = unzipped(content) if seed % 8 else {}
    except Exception:  # zipfile and zlib raise many kinds of errors for damaged archives
        members = {}
    if not members:
        return bytes(atheris.Mutate(content, max_size))
    name = sorted(members)[seed // 8 % len(members)]
    members[name] = bytes(atheris.Mutate(members[name], len(members[name]) + 100))
    return zipped(members)[:max_size]


def mutated_onnx(content: bytes, max_size: int, seed: int) -> bytes:
    """Mutate the bytes or, more often, the graph of an ONNX file."""
    with contextlib.suppress(OnwardError):  # earlier mutations of bytes may have damaged the file
        if seed % 4:
            return mutated_graph(content, seed)[:max_size]
    return bytes(atheris.Mutate(content, max_size))


def mutated_program(content: bytes, max_size: int, seed: int) -> bytes:
    """Mutate the bytes or, more often, the numbers of the programs of a compiled file."""
    with contextlib.suppress(ValueError, struct.error):  # mutations of bytes may have damaged the file
        if seed % 4:
            return compiled.changed(content, np.random.default_rng(seed))[:max_size]
    return bytes(atheris.Mutate(content, max_size))


def fuzz(name: str, seconds: int, seed: int) -> None:
    """Fuzz one reader, then end the process, with an error status if a file violates the guarantees."""
    warnings.simplefilter("ignore")  # warnings of the readers do not matter here
    reader = READERS[name]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    path = folder / f"file{reader.suffix}"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        with hostile.bounded(seconds=10), contextlib.suppress(OnwardError):
            reader.read(path)

    seeds = folder / "seeds"
    seeds.mkdir()
    for number, content in enumerate(reader.seeds(folder)):
        (seeds / str(number)).write_bytes(content)
    # A mutated file may be of another kind, so every reader's imports happen before the guards are active.
    for other in READERS.values():
        for content in other.seeds(folder):
            opened = folder / f"seed{other.suffix}"
            opened.write_bytes(content)
            with contextlib.suppress(OnwardError):  # Onward may lack an operator
                other.read(opened)
    codecs.lookup("raw_unicode_escape")  # used by pickles
    for function in gc.get_objects():
        if isinstance(function, types.FunctionType) and str(function.__module__).startswith("onward"):
            atheris.instrument_func(function)
    FOUND.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        "-timeout=20",
        "-max_len=200000",
        f"-artifact_prefix={FOUND}/{name}-",
    ]
    mutator = {"custom_mutator": mutated} if reader.suffix in (".pt", ".pt2", ".keras", ".npz") else {}
    if name == "onnx-graphs":
        mutator = {"custom_mutator": mutated_onnx}
    if name == "compiled":
        mutator = {"custom_mutator": mutated_program}
    atheris.Setup(
        [sys.argv[0], *options, "-verbosity=1", "-print_final_stats=1", str(seeds)], read, **mutator
    )
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "readers", nargs="*", choices=[*READERS, []], help="the readers to fuzz (default: all)"
    )
    parser.add_argument("--seconds", type=int, default=10, help="the time for each reader (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the mutations (default: 1)")
    arguments = parser.parse_args()
    limits = ["--seconds", str(arguments.seconds), "--seed", str(arguments.seed)]
    if len(arguments.readers) == 1:
        fuzz(arguments.readers[0], arguments.seconds, arguments.seed)
    failed = []
    for name in arguments.readers or READERS:  # in separate processes, because the fuzzer ends its process
        command = [sys.executable, __file__, name, *limits]
        process = subprocess.run(command, capture_output=True, text=True)
        runs = [
            line.split()[-1] for line in process.stderr.splitlines() if "number_of_executed_units" in line
        ]
        result = "failed" if process.returncode else "no violations"
        print(f"{name}: {runs[-1] if runs else 'no'} files, {result}", flush=True)
        if process.returncode:
            failed.append(name)
            print(process.stdout[-3000:], process.stderr[-3000:], flush=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
