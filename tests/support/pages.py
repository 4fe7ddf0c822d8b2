"""Run the code blocks of a page: Python in one namespace, and the commands of `onward`."""

import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
import types
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from click.testing import CliRunner
from safetensors.numpy import save_file

import onward
from onward.cli import main
from onward.graph import Graph, Input, Model
from support import DATA, ROOT
from support.sequence_graphs import detector, stepper

BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE
)
FOLDERS = ("*.md", "docs/**/*.md", "src/onward/**/*.md")
LESSONS = ("learn", "slides")  # folders with tests of their own
PAGES = sorted(page for folder in FOLDERS for page in ROOT.glob(folder) if page.parent.name not in LESSONS)
NOT_CODE = {"", "csv", "text"}
OTHER_FRAMEWORKS = ("torch", "keras", "ray")
TOKENS = np.array([[1, 4, 2, 8, 5]])
SERVER = "127.0.0.1:8000"  # the address of the server in the pages


class Block(NamedTuple):
    """A code block: its language, its code and the number of its first line."""

    language: str
    code: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The code blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match["language"] not in NOT_CODE:
            line = text.count("\n", 0, match.start("code"))
            yield Block(match["language"], textwrap.dedent(match["code"]), line)


def suite(block: Block) -> str:
    """The folder of tests that runs a block, tests, tests/peers or tests/web, or "c" for test_c_library."""
    if block.language in ("js", "c"):
        return {"js": "web", "c": "c"}[block.language]
    if block.language not in ("python", "sh"):
        raise ValueError(f"no suite runs blocks of {block.language!r}: line {block.line}")
    other = rf"^(?:import|from) (?:{'|'.join(OTHER_FRAMEWORKS)})\b|--engine ray"
    return "peers" if re.search(other, block.code, re.MULTILINE) else "tests"


def pages_of(name: str) -> list[Path]:
    """The pages with a block that a suite runs."""
    return [page for page in PAGES if any(suite(block) == name for block in blocks(page))]


def run(page: Path, *suites: str) -> None:
    """Run the Python and the commands of these suites in the current folder."""
    module = sys.modules["page"] = types.ModuleType("page")  # a module, so that its classes can be pickled
    for block in blocks(page):
        if suite(block) not in suites:
            continue
        if block.language == "sh":
            for command in re.sub(r"\\\n", " ", block.code).splitlines():
                run_command(command)
            continue
        code = compile("\n" * block.line + block.code, str(page), "exec")
        if SERVER in block.code:
            with serving(["onward", "serve", "vowels"]) as address:
                code = compile(block.code.replace(SERVER, address), str(page), "exec")
                exec(code, vars(module))
        else:
            exec(code, vars(module))


def run_command(command: str) -> None:
    """Run a command of a page; what installs and builds is run by .ci/run."""
    words = shlex.split(command, comments=True)
    if not words:
        return
    if words[:2] in (["onward", "serve"], ["onward", "explore"]):
        with serving(words) as address:
            assert urllib.request.urlopen(f"http://{address}/").status == 200
        return
    if words[0] in ("pip", "make"):
        check_installation(words)
        return
    assert words[0] == "onward", f"what is {command!r}?"
    if words[1] == "train" and "--epochs" not in words:  # that it runs is enough here
        words += ["--epochs", "1"]
    result = CliRunner().invoke(main, words[1:], catch_exceptions=False)
    assert result.exit_code == 0, f"{command}\n{result.output}"


def check_installation(words: list[str]) -> None:
    """.ci/run runs a `make` and the commands of the README's section Install; others install known extras."""
    steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if words[0] == "make":
        assert re.search(rf"^{' '.join(words)}$", steps, re.MULTILINE), f".ci/run does not run {words}"
    for named in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(named.split(",")) <= extras["optional-dependencies"].keys(), named


@contextmanager
def serving(words: list[str]) -> Iterator[str]:
    """Run a command that serves until it is interrupted, at any free port; yields its address."""
    words = [sys.executable, "-m", *words, *(["--no-browser"] if words[1] == "explore" else ["--keep", "0"])]
    with subprocess.Popen([*words, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            output = []
            for line in process.stdout:
                output.append(line)
                if found := re.search(r"http://(127\.0\.0\.1:\d+)/", line):
                    yield found[1]
                    break
            else:
                raise AssertionError(f"{words} did not start: {output}")
        finally:
            process.terminate()


def voice_detector() -> Model:
    """A graph with the inputs and outputs of Silero VAD: output and stateN of input, state and sr."""
    graph, dtype, rng = Graph(), np.dtype(np.float32), np.random.default_rng(0)
    x = graph.add_input("input", dtype, ("batch", 576))
    state = graph.add_input("state", dtype, (2, "batch", 128))
    rate = graph.add_input("sr", np.int64, ())
    W, V = (
        graph.add_constant(rng.normal(0, 0.05, shape).astype(np.float32)) for shape in ((576, 128), (128, 1))
    )
    scaled = graph.add("Div", graph.add("MatMul", x, W), graph.add("Cast", rate, to=dtype))
    after = graph.add("Tanh", graph.add("Add", scaled, state), output="stateN")
    mean = graph.add("ReduceMean", after, graph.add_constant(np.array([0])), keepdims=0)
    y = graph.add("Sigmoid", graph.add("MatMul", mean, V), output="output")
    graph.outputs = (y, after)
    graph.declared_outputs = (Input("output", dtype), Input("stateN", dtype, (2, "batch", 128)))
    return Model(graph)


def measurements(path: Path) -> None:
    rows = ["patient,day,pulse,weight,outcome"]
    rng = np.random.default_rng(0)
    for patient in range(20):
        for day in range(1, 6):
            outcome = "well" if patient % 2 else "ill"
            rows.append(
                f"p{patient},2024-01-{day:02},{60 + 10 * (patient % 2) + rng.normal():.2f},2.5,{outcome}"
            )
    path.write_text("\n".join(rows) + "\n")


def recordings(path: Path) -> None:
    names = ",".join(f"f{k}" for k in range(12))
    lines = [
        ",".join(f"{value:.3f}" for value in row) for row in np.random.default_rng(0).normal(size=(9, 12))
    ]
    path.write_text("\n".join([names, *lines]) + "\n")


def table(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    x = [np.random.default_rng(k).normal(size=(5 + k, 12)).tolist() for k in range(4)]
    pq.write_table(pa.table({"id": range(4), "x": x}), path)


def speakers_model() -> onward.Sequential:
    return onward.Sequential(onward.LSTM(12, 16), onward.Last(), onward.Linear(16, 9))


def copy(*parts: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(DATA.joinpath(*parts).read_bytes())


def state_dict(path: Path) -> None:
    save_file(onward.LSTM(12, 64, num_layers=2).state_dict(), path)


# The files that the pages open and do not write themselves; a framework's file is written by its own block.
FILES: dict[str, Callable[[Path], Any]] = {
    "tagger.pt2": copy("pages", "tagger.pt2"),
    "tagger.pt": copy("torch", "whole.pt"),
    "tagger_script.pt": copy("torch", "script.pt"),
    "tagger.keras": copy("keras", "tagger_3.keras"),
    "old.h5": copy("keras", "old_1.h5"),
    "lstm.safetensors": state_dict,
    "lstm.onnx": lambda path: onward.export_onnx(onward.LSTM(12, 64), path),
    "detector.onnx": lambda path: detector(8).save(path),
    "stepper.onnx": lambda path: stepper().save(path),
    "silero_vad.onnx": lambda path: voice_detector().save(path),
    "okay_nabu.wav": lambda path: shutil.copy(DATA / "tflite" / "okay_nabu.wav", path),
    "okay_nabu.tflite": lambda path: shutil.copy(DATA / "tflite" / "mww_okay_nabu.tflite", path),
    "visits.csv": measurements,
    "measured.csv": recordings,
    "recordings.npz": lambda path: np.savez(path, x=np.random.default_rng(0).normal(size=(60, 12))),
    "t.parquet": table,
    "net.safetensors": lambda path: speakers_model().save(path),
    "inputs.npz": lambda path: np.savez(path, TOKENS),
    "outputs.npz": lambda path: np.savez(path, onward.load(DATA / "pages" / "tagger.pt2")(TOKENS)),
    "plays.txt": lambda path: path.write_text("To be, or not to be: that is the question.\n" * 40),
}


def write_files(folder: Path, page: Path) -> None:
    """Write the files that a page mentions."""
    text = page.read_text(encoding="utf-8")
    for name, write in FILES.items():
        if name in text:
            write(folder / name)
