"""TorchScript models of random functions of sizes give what PyTorch gives, and errors where it does."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.randomized import random_cases
from support.size_functions import code, shape
from support.skips import Cases
from torch import Tensor, nn

import onward
from onward.errors import OnwardError

BATCHES, FUNCTIONS = 4, random_cases(40)  # functions in a batch
pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated


def scripted(source: str) -> Any:
    script = type("Code", (torch.jit.ScriptModule,), {})()
    script.define(source)
    return script


def traced(source: str, example: Tensor) -> Any:
    names: dict[str, Any] = {"torch": torch, "math": math, "List": list, "Tensor": Tensor}
    exec(source, names)
    module = type("Code", (nn.Module,), {"forward": names["forward"]})()
    return torch.jit.trace(module, example, check_trace=False)


def refuses(model: Any, x: Any) -> bool:
    """Whether a model refuses x, or returns no elements, which operations may do without checking others."""
    try:
        return not model(x).size
    except OnwardError:
        return True


@pytest.mark.parametrize("batch", range(BATCHES))
def test_what_torch_refuses_is_an_error_and_no_result(batch: int, tmp_path: Path) -> None:
    cases, path = Cases(), tmp_path / "model.pt"
    for seed in range(batch * FUNCTIONS, (batch + 1) * FUNCTIONS):
        rng = np.random.default_rng(seed)
        source, options = code(rng), [{}, {"inputs": {"x": ["batch", "time", 4]}}][rng.integers(2)]
        with cases.new(seed) as case:
            with case.skipping(Exception):  # torch takes no example of these sizes
                module = scripted(source) if rng.random() < 0.5 else traced(source, torch.ones(shape(rng)))
            module.save(str(path))
            with case.skipping(OnwardError):
                models = [onward.load(path, **options)]
            for call in range(8):
                x = 2 * rng.standard_normal(shape(rng)).astype(np.float32)
                try:
                    expected = module(torch.from_numpy(x)).numpy()
                except (RuntimeError, torch.jit.Error):
                    assert all(refuses(model, x) for model in models), (source, x.shape)
                    continue
                for model in models:
                    with case.skipping(OnwardError):
                        actual = model(x)
                    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4, err_msg=source)
                    assert actual.shape == expected.shape, (source, x.shape)
                if call == 3 and len(models) == 1:
                    with case.skipping(OnwardError):
                        models[0].save(tmp_path / "model.safetensors")
                    models.append(onward.load(tmp_path / "model.safetensors"))
    cases.check(most=0.35)
