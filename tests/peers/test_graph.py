"""Whole models, planned and run in the core, match PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import modules
from support.in_numpy import unexpected
from support.onnx_nodes import outputs_of
from support.running import bound
from support.skips import Case, counted_cases

import onward
from onward import _core
from onward.graph import Model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from the exporter


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "start" in metafunc.fixturenames:
        metafunc.parametrize("start", range(0, metafunc.config.getoption("--random-modules"), 20))


def whole(name: str, folder: Path, **options: Any) -> tuple[torch.nn.Module, dict[str, Any], Any]:
    torch.manual_seed(1)
    module, inputs = modules.WHOLE[name].module(), modules.inputs_of(modules.WHOLE[name].inputs, 1)
    path = folder / "model.onnx"
    path.write_bytes(modules.exported(module, inputs, **options))
    return module, inputs, onward.load(path)


def assert_close(mine: Any, theirs: Any) -> None:
    assert len(mine) == len(theirs)
    for y, expected in zip(mine, theirs, strict=True):
        assert y.shape == expected.shape and y.dtype == expected.dtype
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", modules.WHOLE)
def test_whole_models_match_pytorch(name: str, tmp_path: Path) -> None:
    module, inputs, model = whole(name, tmp_path)
    expected = modules.answer(module, inputs)
    assert_close(outputs_of(model, **inputs), expected)
    other = {key: x[..., ::-1].copy() for key, x in inputs.items()}
    # the plan must not contain values of the first inputs
    assert_close(outputs_of(model, **other), modules.answer(module, other))
    assert bound(model, *inputs.values()) is not None


def test_random_modules_match_pytorch(start: int, tmp_path: Path) -> None:
    for case in counted_cases(20, start):
        with case:
            module, inputs = modules.random_module(case.seed)
            path = tmp_path / "model.onnx"
            with case.skipping(RuntimeError):  # a kernel is longer than its input
                expected = modules.answer(module, inputs)
            path.write_bytes(modules.exported(module, inputs))
            model: Any = onward.load(path)
            for _ in range(2):
                assert_close(outputs_of(model, **inputs), expected)
            assert not isinstance(model, Model) or not unexpected(model, [*inputs.values()])


@pytest.mark.parametrize(
    "name", [name for name in modules.WHOLE if name not in ("policy", "noise suppressor")]
)
def test_a_row_has_the_same_bits_in_any_batch(name: str, tmp_path: Path) -> None:
    ((first, shape),) = modules.WHOLE[name].inputs.items()
    axes = {first: {0: "batch"}}
    _, _, model = whole(name, tmp_path, dynamic_axes=axes)
    x = modules.inputs_of({first: (5, *shape[1:])}, 2)[first]
    together = outputs_of(model, x)
    for row in range(5):
        for y, alone in zip(together, outputs_of(model, x[row : row + 1]), strict=True):
            np.testing.assert_array_equal(y[row : row + 1], alone)


@pytest.mark.parametrize("first", range(0, 100, 20))
def test_random_modules_give_the_same_bits_in_any_batch_with_any_threads_and_instructions(
    first: int, tmp_path: Path
) -> None:
    for case in counted_cases(20, first):
        with case:
            assert_same_bits(case, tmp_path)


def assert_same_bits(case: Case, tmp_path: Path) -> None:
    module, inputs = modules.random_module(10_000 + case.seed)
    path, scale = tmp_path / "model.onnx", inputs["scale"]
    x = modules.inputs_of({"x": (5, *inputs["x"].shape[1:])}, case.seed)["x"]
    with case.skipping(RuntimeError):  # a kernel is longer than its input
        module(torch.from_numpy(x), torch.from_numpy(scale))
    path.write_bytes(modules.exported(module, {"x": x, "scale": scale}, dynamic_axes={"x": {0: "batch"}}))
    model: Any = onward.load(path)
    expected, before = outputs_of(model, x, scale), _core.isa()
    for row in range(5):
        for y, alone in zip(expected, outputs_of(model, x[row : row + 1], scale), strict=True):
            np.testing.assert_array_equal(y[row : row + 1], alone)
    with onward.num_threads(2):
        for y, other in zip(expected, outputs_of(model, x, scale), strict=True):
            np.testing.assert_array_equal(y, other)
    try:
        for isa in _core.available_isas():
            _core.set_isa(isa)
            for y, other in zip(expected, outputs_of(onward.load(path), x, scale), strict=True):
                np.testing.assert_array_equal(y, other, err_msg=isa)
    finally:
        _core.set_isa(before)


@pytest.mark.parametrize("name", modules.WHOLE)
def test_threads_and_instruction_sets_give_the_same_bits(name: str, tmp_path: Path) -> None:
    _, inputs, model = whole(name, tmp_path)
    expected, before = outputs_of(model, **inputs), _core.isa()
    with onward.num_threads(2):
        for y, first in zip(outputs_of(model, **inputs), expected, strict=True):
            np.testing.assert_array_equal(y, first)
    try:
        for isa in _core.available_isas():
            _core.set_isa(isa)
            again: Any = onward.load(tmp_path / "model.onnx")
            for y, first in zip(outputs_of(again, **inputs), expected, strict=True):
                np.testing.assert_array_equal(y, first, err_msg=isa)
    finally:
        _core.set_isa(before)
