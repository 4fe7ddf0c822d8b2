"""Threads that load and use files for the first time in a process."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import DATA
from support.randomized import random_cases

import onward
from onward import bundled

FILES = {
    "TorchScript": DATA / "torch" / "front_script.pt",
    "trace": DATA / "torch" / "front_trace.pt",
    "exported program": DATA / "exported_program" / "torch_2.8.pt2",
    "state dict": DATA / "torch" / "weights.pt",
    "Keras 3": DATA / "keras" / "graph_3.keras",
    "Keras 2": DATA / "keras" / "tagger_2.h5",
    "layers": bundled.models()["vowels"],
}
PROGRAM = """
import sys, threading, onward
sys.setswitchinterval(1e-5)
start, errors = threading.Barrier(len(sys.argv) - 1), []
def use(path):
    start.wait()
    try:
        model = onward.load(path)
        str(model), model.stream()
    except onward.errors.OnwardError:
        pass  # not every model streams
    except BaseException as error:
        errors.append(f"{path}: {error!r}")
threads = [threading.Thread(target=use, args=(path,)) for path in sys.argv[1:]]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*errors, sep="\\n")
"""


def run(files: list[Path]) -> str:
    """Use files in one thread each, in a new process, and return the errors."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.mark.parametrize("case", range(random_cases(1)))
def test_threads_that_load_for_the_first_time_do_not_wait_for_each_other(case: int, tmp_path: Path) -> None:
    """They failed with ImportError or a deadlock, because modules imported each other."""
    onward.Sequential(onward.LSTM(3, 4), onward.Linear(4, 2)).export_onnx(tmp_path / "model.onnx")
    onward.load(tmp_path / "model.onnx").save(tmp_path / "graph.safetensors")
    files = [*FILES.values(), tmp_path / "model.onnx", tmp_path / "graph.safetensors"]
    turned = files[case % len(files) :] + files[: case % len(files)]
    assert run([*turned, *turned]) == ""
