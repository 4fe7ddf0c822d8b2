"""Onward for JavaScript raises the errors of Python, also for damaged files."""

import base64
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.javascript import Exported, case, check, in_node, silero_like
from support.sequence_graphs import normal, stepper

import onward
from onward.core import storage
from onward.errors import ShapeError
from onward.graph import Graph, Model

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
VALUES = (-(2**31), -1000, -2, -1, 0, 1, 2, 3, 5, 64, 4096, 2**20, 2**31 - 1)
OURS = {"OnwardError", "FileError", "ArgumentError", "ShapeError", "DtypeError", "SignatureError"}


def test_wrong_inputs_raise_the_errors_of_python(tmp_path: Path) -> None:
    path, x, state = (
        tmp_path / "model.safetensors",
        np.zeros((1, 4), np.float32),
        np.zeros((2, 1, 4), np.float32),
    )
    onward.export_web(
        stepper(), path, (x, state, np.int64(2)), blocks=[x], carry={"state": "stateN"}, rate=np.int64(2)
    )
    content, rate = path.read_bytes(), np.int64(2)
    wrong = {
        "SignatureError": [(x, state), (x, state, rate, x), {"x": x, "state": state, "other": rate}],
        "ShapeError": [
            (x[0], state, rate),
            (np.zeros((2, 4), np.float32), state, rate),
            (x, state, np.array([2])),
        ],
        "DtypeError": [(x, state, np.float32(2))],
        "ArgumentError": [(x, state, np.int64(3))],
    }
    calls = [call for each in wrong.values() for call in each]
    cast = (x.astype(np.float64), state.astype(np.int32), np.int32(2))  # NumPy casts them
    (answer,) = in_node(tmp_path, [case(content, [*calls, cast], [x[0], {"y": x}, x])])
    names = [name for name, each in wrong.items() for _ in each]
    assert [found["error"] for found in answer["calls"][:-1]] == names
    check(answer["calls"][-1], stepper()(x, state, rate))
    assert [found["error"] for found in answer["blocks"][:2]] == ["ShapeError", "SignatureError"]
    assert isinstance(answer["blocks"][2], list)
    with pytest.raises(ShapeError):
        stepper()(x[0], state, rate)


def test_functions_of_float64_which_the_program_lacks_are_refused(tmp_path: Path) -> None:
    graph, path = Graph(), tmp_path / "model.safetensors"
    graph.outputs = (graph.add("Floor", graph.add_input("x", np.float64, (3,))),)
    onward.export_web(Model(graph), path, np.zeros(3))
    (answer,) = in_node(tmp_path, [case(path.read_bytes(), [np.zeros(3)])])
    assert answer["calls"][0]["error"] == "ArgumentError" and "float64" in answer["calls"][0]["message"]


def test_an_index_out_of_range_names_its_node(tmp_path: Path) -> None:
    model, path = onward.Embedding(9, 5, rng=0), tmp_path / "model.safetensors"
    onward.export_web(model, path, np.array([[1], [2]]))
    (answer,) = in_node(tmp_path, [case(path.read_bytes(), [np.array([[1], [9]]), np.array([[1], [8]])])])
    assert answer["calls"][0]["error"] == "ArgumentError" and "index 9" in answer["calls"][0]["message"]
    check(answer["calls"][1], model(np.array([[1], [8]])))


def damaged(content: bytes, rng: np.random.Generator, folder: Path) -> bytes:
    """A file in which some numbers of its programs, weights or description differ."""
    path = folder / "damaged.safetensors"
    path.write_bytes(content)
    tensors, description = storage.read(path)
    assert description is not None
    tensors = {name: array.copy() for name, array in tensors.items()}
    place = rng.integers(4)
    for _ in range(rng.integers(1, 4)):
        value = int(VALUES[rng.integers(len(VALUES))])
        if place < 2:  # the numbers of a program
            programs = description["run"] + description["stream"]["programs"]
            words = tensors[programs[rng.integers(len(programs))]["words"]]
            where = rng.integers(len(words))
            near = max(int(words[where]) + int(rng.integers(-2, 3)), -(2**63))
            words[where] = value if rng.integers(2) else near
        elif place == 2:  # those of weights
            words = description["weights"][rng.integers(len(description["weights"]))]["words"]
            words[rng.integers(len(words))] = value
        else:
            program = description["run"][0]
            entry = program["inputs"][rng.integers(len(program["inputs"]))]
            entry["shape"] = [*entry["shape"][:-1], value]
            program["constants"] = str(rng.integers(99))
            program["axes"] = program["axes"][: rng.integers(3)]
            program["outputs"] = [["float32", "int64", "bool"][rng.integers(3)], *program["outputs"][1:]]
    return storage.content(tensors, {key: value for key, value in description.items() if key != "format"})


def test_damaged_programs_raise_and_leave_other_models_alone(tmp_path: Path) -> None:
    rng, good, cases = np.random.default_rng(0), silero_like(tmp_path), []
    x, net = normal(rng, 9, 1, 3), onward.Sequential(onward.GRU(3, 8, rng=0), onward.LayerNorm(8))
    sources = [good, Exported(tmp_path, net, [x], [x[:4, 0], x[4, 0]])]
    sources.append(Exported(tmp_path, net.quantize("int8"), [x], [x[:4, 0], x[4, 0]]))
    for n in range(400):
        source = sources[n % len(sources)]
        content = damaged(base64.b64decode(source.case["model"]), rng, tmp_path)
        cases.append(source.case | {"model": base64.b64encode(content).decode()})
        if n % 20 == 19:
            cases.append(good.case)
    refused = 0
    for n, answer in enumerate(in_node(tmp_path, cases)):
        if n % 21 == 20:
            good.check(answer)
            continue
        results = [answer, *answer.get("calls", []), *answer.get("blocks", []), answer.get("finish")]
        errors = [result["error"] for result in results if isinstance(result, dict) and "error" in result]
        assert set(errors) <= OURS, answer
        refused += bool(errors)
    assert refused > 150


def test_damaged_files_of_layers_raise(tmp_path: Path) -> None:
    path, cases = tmp_path / "model.safetensors", []
    onward.Sequential(onward.LSTM(3, 4, rng=0), onward.Linear(4, 2, rng=1)).save(path)
    tensors, description = storage.read(path)
    assert description is not None
    for key in ("hidden_size", "input_size", "num_layers", "proj_size"):
        for value in (-1, 0, 5, 2**31, 1.5, None, "4"):
            layers = [description["layers"][0] | {key: value}, description["layers"][1]]
            if (key, value) not in {("proj_size", 0), ("proj_size", None)}:
                cases.append(case(storage.content(tensors, {"type": "Sequential", "layers": layers})))
    for name in tensors:
        changed = {key: array for key, array in tensors.items() if key != name}
        cases.append(case(storage.content(changed | {name: tensors[name][:-1]}, {**description})))
        cases.append(case(storage.content(changed, {**description})))
    content = path.read_bytes()
    cases += [case(content[:n]) for n in (0, 7, 8, 50, len(content) - 1)]
    for answer in in_node(tmp_path, cases):
        assert answer.get("error") == "FileError", answer
