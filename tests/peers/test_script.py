"""TorchScript archives, traced and scripted, give the same numbers as the modules in PyTorch."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.torch_module_table import MODULES
from support.torch_modules import Buffer, TensorBranch

import onward

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated


def flat(value: Any) -> list[NDArray[Any]]:
    """Return the tensors in a nested value as arrays."""
    if isinstance(value, torch.Tensor):
        return [value.detach().numpy()]
    if isinstance(value, dict):
        value = list(value.values())
    return [array for each in value for array in flat(each)]


def saved(module: torch.nn.Module, inputs: tuple[Any, ...], how: str, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "traced":
            program = torch.jit.trace(module, inputs, check_trace=False, strict=False)
        else:
            program = torch.jit.script(module)
        buffer = io.BytesIO()
        torch.jit.save(program, buffer)
    path.write_bytes(buffer.getvalue())
    return path


def assert_close(actual: Any, expected: list[NDArray[Any]]) -> None:
    actual = actual if isinstance(actual, tuple) else (actual,)
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape and a.dtype == e.dtype
        scale = max(1.0, float(np.abs(e).max(initial=0)))
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-5 * scale)


WAYS = [(name, how) for name in MODULES for how in ("traced", "scripted")]
WAYS.remove(("weight norm", "scripted"))  # PyTorch itself cannot run it


@pytest.mark.parametrize(("name", "how"), WAYS)
def test_a_module_gives_the_numbers_of_torch(name: str, how: str, tmp_path: Path) -> None:
    torch.manual_seed(sum(map(ord, name)))
    case = MODULES[name]
    module = case.make().eval()
    inputs = case.inputs()
    model = onward.load(saved(module, inputs, how, tmp_path / "m.pt"))
    for arguments in (inputs, case.inputs()):
        if how == "traced" and isinstance(module, TensorBranch):
            arguments = inputs
        with torch.no_grad():
            expected = flat(module(*arguments))
        assert_close(model(*(argument.numpy() for argument in arguments)), expected)


def test_a_changed_buffer_is_a_carry_with_the_value_of_the_file(tmp_path: Path) -> None:
    module = Buffer().eval()
    x, other = torch.randn(2, 4, 3)
    with torch.no_grad():
        module(torch.randn(4, 3))
    model = onward.load(saved(module, (x,), "scripted", tmp_path / "m.pt"))
    y, mean = model(x.numpy())
    assert_close(model(x.numpy()), [y, mean])  # a call does not change the model
    z, mean = model(other.numpy(), mean)
    with torch.no_grad():
        assert_close((y, z, mean), flat([module(x), module(other), module.mean]))


@pytest.mark.parametrize("sign", [1, -1])
def test_both_sides_of_a_branch_on_a_tensor_run(sign: int, tmp_path: Path) -> None:
    module = TensorBranch()
    model = onward.load(saved(module, (), "scripted", tmp_path / "m.pt"))
    x = sign * torch.rand(3, 4)
    assert_close(model(x.numpy()), flat(module(x)))
