"""What loading a TorchScript file reads, and what its first uses do: in any order, copied, or in threads."""

import copy
import os
import pickle
import re
import signal
import sys
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support
from support.pickles import tensor, text
from support.randomized import random_cases
from support.script_archives import archive, forward

import onward
from onward.errors import FileError, OnwardError
from onward.formats.torch.archive import read
from onward.formats.torch.script import code
from onward.formats.torch.script.objects import Loader
from onward.formats.torch.script.program import Program
from onward.model import Model

X = np.random.default_rng(3).standard_normal((2, 5, 3)).astype(np.float32)
WEIGHT = np.random.default_rng(4).standard_normal((1, 3)).astype("<f4")


def with_member(folder: Path, inner: str, storage: bytes = WEIGHT.tobytes()) -> Path:
    """Write a module that adds two inputs, and calls a member whose class is in a file of its own."""
    state = (
        b"}" + text("inner") + b"c__torch__.layers\nInner\n)\x81}" + text("weight") + tensor((1, 3)) + b"sbs"
    )
    lines = ("z = torch.add(x, y)", "return (self.inner).forward(z, )")
    path = archive(folder, forward(*lines, signature="self, x: Tensor, y: Tensor"), state=state)
    with zipfile.ZipFile(path, "a") as members:
        members.writestr("m/data/0", storage)
        members.writestr("m/code/__torch__/layers.py", f"class Inner(Module):\n{inner}")
    return path


PRODUCT = forward("return torch.tanh(torch.mul(z, self.weight))", signature="self, z: Tensor")
COUNTED = forward(
    "weight = self.weight", "_0 = torch.add_(weight, 1)", "return torch.mul(z, weight)",
    signature="self, z: Tensor",
)  # fmt: skip


def test_loading_parses_the_code_of_the_module_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It parsed the code of each layer, which took longer than all the rest."""
    parsed: list[str] = []
    parse = code.parse

    def noted(source: str) -> Any:
        parsed.append(source)
        return parse(source)

    monkeypatch.setattr(code, "parse", noted)
    model = onward.load(with_member(tmp_path, PRODUCT))
    assert ["class M" in source for source in parsed] == [True]
    np.testing.assert_allclose(model(X, X), np.tanh(2 * X * WEIGHT), rtol=0, atol=1e-6)
    assert ["class M" in source for source in parsed] == [True, False]


def test_code_is_recorded_at_once_for_declared_inputs(tmp_path: Path) -> None:
    path = with_member(tmp_path, PRODUCT + "  def broken(self:\n")
    declared = {"x": ("batch", "time", 3), "y": ("batch", "time", 3)}
    with pytest.raises(FileError, match="unknown inputs: z"):
        onward.load(path, inputs={**declared, "z": 1})
    with pytest.raises(FileError, match=r"code/__torch__/layers\.py.*: the code cannot be parsed"):
        onward.load(path, inputs=declared)
    model = onward.load(with_member(tmp_path, PRODUCT), inputs=declared)
    other = pickle.loads(pickle.dumps(model))
    assert [each.axes for each in other.graph.inputs] == [("batch", "time", 3)] * 2
    np.testing.assert_array_equal(other(X, X), model(X, X))


def test_loading_checks_the_weights(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="needs 3 elements of float32, but its storage has 8 bytes"):
        onward.load(with_member(tmp_path, PRODUCT, WEIGHT.tobytes()[:8]))


def test_loading_finds_the_code_of_each_class(tmp_path: Path) -> None:
    path, kept = with_member(tmp_path, PRODUCT), tmp_path / "without.pt"
    with zipfile.ZipFile(path) as members, zipfile.ZipFile(kept, "w") as others:
        for name in members.namelist():
            if "layers" not in name:
                others.writestr(name, members.read(name))
    with pytest.raises(FileError, match=r"without\.pt: the archive has no class __torch__\.layers\.Inner"):
        onward.load(kept)


def test_each_file_of_code_is_read_once(tmp_path: Path) -> None:
    """Looking for the code of each class decoded its file: work grew with the product of both sizes."""
    members = b"".join(text(f"n{i}") + f"c__torch__\nN{i}\n)\x81}}b".encode("latin-1") for i in range(300))
    lines = "past = self.past", "self.past = torch.add(past, 1)", "return torch.add(x, past)"
    state = b"}(" + text("past") + b"K\x07" + members + b"u"
    content = archive(tmp_path, forward(*lines), state=state).read_bytes()
    files, reads = read(content), list[str]()

    def read_file(file: str) -> str:
        reads.append(file)
        return files.code(file)

    model = Model(Program(content, archive=files, code=code.Code(read_file)).graph())
    np.testing.assert_array_equal(model(X)[0], X + 7)
    assert reads == ["__torch__.py"]


@pytest.mark.parametrize("inner", [PRODUCT, COUNTED])
def test_errors_in_the_code_of_a_member_are_those_of_each_use(tmp_path: Path, inner: str) -> None:
    model = onward.load(with_member(tmp_path, inner + "  def broken(self:\n"))
    for _ in range(2):
        with pytest.raises(OnwardError, match=r"code/__torch__/layers\.py.*: the code cannot be parsed"):
            model(X, X)


@pytest.mark.parametrize("inner", [PRODUCT, COUNTED])
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_model_is_copied_before_and_after_its_first_use(
    tmp_path: Path, copied: Callable[[Any], Any], inner: str
) -> None:
    path = with_member(tmp_path, inner)
    model, fresh = onward.load(path), onward.load(path)
    expected = model(X, X)
    for other in (copied(fresh), copied(model)):
        assert (other.inputs, other.outputs, other.carries) == (model.inputs, model.outputs, model.carries)
        for y, wanted in zip(copied(other)(X, X), expected, strict=True):
            np.testing.assert_array_equal(y, wanted)


def test_asking_for_an_unknown_attribute_first_is_an_error_that_names_it(tmp_path: Path) -> None:
    model = onward.load(with_member(tmp_path, PRODUCT))
    assert not hasattr(model, "nothing")
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = model.nothing


USES: dict[str, Callable[[Any], Any]] = {
    "call": lambda model: model(X, X),
    "names": lambda model: (model.inputs, model.outputs, model.carries),
    "graph": lambda model: [node.operation for node in model.general_graph().nodes],
    "declared": lambda model: len(model.graph.inputs),
    "programs": lambda model: len(model.programs) >= 0,
}


def test_a_model_of_invalid_code_is_shown(tmp_path: Path) -> None:
    """repr() raised the error of the code."""
    model = onward.load(with_member(tmp_path, COUNTED + "  def broken(self:\n"))
    assert re.search(r"^Model\(the code of the file is invalid: code/.*layers\.py.*parsed", repr(model))
    assert repr(onward.load(with_member(tmp_path, PRODUCT))) == "Model((x, y) -> (output))"


def test_a_model_whose_axes_are_not_known_can_be_printed(tmp_path: Path) -> None:
    """print() raised an error until the first call."""
    model = onward.load(with_member(tmp_path, PRODUCT))
    first, second = str(model).splitlines()
    assert first == repr(model) and re.search("axes of its inputs; .* or call the model first", second)
    model(X, X)
    assert "x_0" in str(model)


def test_a_call_that_the_code_refuses_tells_no_dtypes(tmp_path: Path) -> None:
    """After a call with float64, a model could not be saved."""
    model = onward.load(archive(tmp_path, forward("return torch.matmul(x, torch.ones([3, 2]))")))
    with pytest.raises(OnwardError, match="float64, float32"):
        model(X.astype(np.float64))
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(onward.load(tmp_path / "m.safetensors")(X[0]), X[0] @ np.ones((3, 2), "f"))


@pytest.mark.parametrize("case", range(random_cases(4)))
def test_threads_use_a_fresh_model_at_the_same_time(tmp_path: Path, case: int) -> None:
    path = with_member(tmp_path, COUNTED if case % 2 else PRODUCT)
    used = onward.load(path)
    expected = {name: use(used) for name, use in USES.items()}
    model = onward.load(path)
    random = np.random.default_rng(case)
    names = ["call", *random.choice([name for name in USES if name != "graph"], 7)]
    start, results = threading.Barrier(len(names)), dict[int, Any]()

    def run(place: int) -> None:
        start.wait()
        try:
            results[place] = USES[names[place]](model)
        except BaseException as error:
            results[place] = error

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=run, args=(place,)) for place in range(len(names))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    for place, name in enumerate(names):
        np.testing.assert_equal(results[place], expected[name])


def test_threads_that_describe_and_call_a_model_make_recordings_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They shared the objects of the file; the call recorded those of the other, and fixed the sizes."""
    path = support.DATA / "torch" / "script.pt"
    x = np.load(support.DATA / "torch" / "answer.npz")["x"]
    expected, model = onward.load(path)(x), onward.load(path)
    load, calling, describing = Loader.module, threading.Event(), threading.Event()

    def one_inside_the_other(loader: Loader) -> Any:
        if calling.is_set():
            describing.set()
        else:
            calling.set()
            assert describing.wait(timeout=60)
        return load(loader)

    monkeypatch.setattr(Loader, "module", one_inside_the_other)
    with ThreadPoolExecutor(1) as threads:
        called = threads.submit(model, x)
        assert calling.wait(timeout=60)
        assert model.description()["type"] == "Model"
    np.testing.assert_array_equal(called.result(), expected)
    model(x[:, :-1])
    assert len(model.programs) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only POSIX forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_opens_models_although_a_thread_of_its_parent_opened_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cached property of Python 3.11 has a lock for all objects, which the thread held in the child."""
    path = with_member(tmp_path, COUNTED)
    model, other = onward.load(path), onward.load(path)
    parent, opening, forked = os.getpid(), threading.Event(), threading.Event()
    class_at = code.Code.class_at

    def slow(*arguments: Any) -> Any:
        if os.getpid() == parent and threading.current_thread() is not threading.main_thread():
            opening.set()
            assert forked.wait(timeout=60)
        return class_at(*arguments)

    monkeypatch.setattr(code.Code, "class_at", slow)
    with ThreadPoolExecutor(1) as threads:
        names = threads.submit(lambda: model.inputs)
        assert opening.wait(timeout=60)
        if (child := os.fork()) == 0:
            signal.alarm(60)  # which ends a child that waits
            os._exit(other.inputs != ("x", "y", "inner.weight"))
        forked.set()
        _, status = os.waitpid(child, 0)
    assert (names.result(), status) == (("x", "y", "inner.weight"), 0)


def test_an_attribute_error_while_the_code_is_read_does_not_recurse(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a property, it made Python ask for the property again, and so on."""
    model: Any = onward.load(support.DATA / "torch" / "front_script.pt")

    def graph(program: Program) -> None:
        raise AttributeError("a mistake")

    monkeypatch.setattr(Program, "graph", graph)
    for use in (lambda: model.inputs, lambda: model(X)):
        with pytest.raises(AttributeError, match="a mistake"):
            use()
