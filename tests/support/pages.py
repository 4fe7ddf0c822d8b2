"""Run the code blocks of a page: Python in one namespace, and the commands of `onward`."""

import re
import shlex
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
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
    r"^(?P<note><!-- not run: .*? -->\n+)?"
    r"(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)
PAGES = sorted(
    page for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if page.parent.name != "learn"
)
OTHER_FRAMEWORKS = ("torch", "keras", "ray")
TOKENS = np.array([[1, 4, 2, 8, 5]])
NOT_OURS = {"pip", "make", "eval", "git", "python"}  # commands that install or build
ENDLESS = (["onward", "serve"], ["onward", "explore"])  # they run until interrupted


class Block(NamedTuple):
    """A code block: its language, its code and the number of its first line."""

    language: str
    code: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that are to be run."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match["language"] in ("python", "sh") and not match["note"]:
            line = text.count("\n", 0, match.start("code"))
            yield Block(match["language"], textwrap.dedent(match["code"]), line)


def needs_framework(block: Block) -> bool:
    return bool(re.search(rf"^(?:import|from) (?:{'|'.join(OTHER_FRAMEWORKS)})\b", block.code, re.MULTILINE))


def run(page: Path, with_frameworks: bool) -> int:
    """Run the blocks of a page in the current folder, those of other frameworks on request; count them."""
    module = sys.modules["page"] = types.ModuleType("page")  # a module, so that its classes can be pickled
    count = 0
    for block in blocks(page):
        if needs_framework(block) and not with_frameworks:
            continue
        if block.language == "python":
            exec(compile("\n" * block.line + block.code, str(page), "exec"), vars(module))
        else:
            for command in re.sub(r"\\\n", " ", block.code).splitlines():
                run_command(command)
        count += 1
    return count


def run_command(command: str) -> None:
    words = shlex.split(command, comments=True)
    if not words or words[0] in NOT_OURS or words[:2] in ENDLESS:
        return
    assert words[0] == "onward", f"what is {command!r}?"
    if words[1] == "train" and "--epochs" not in words:  # that it runs is enough here
        words += ["--epochs", "1"]
    result = CliRunner().invoke(main, words[1:], catch_exceptions=False)
    assert result.exit_code == 0, f"{command}\n{result.output}"


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
    "visits.csv": measurements,
    "new.csv": measurements,
    "measured.csv": recordings,
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
