"""The attributes that calls of TorchScript change are carries, however the code changes them."""

import importlib.util
import linecache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import onward
from onward.errors import OnwardError

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated

# Each statement changes the buffer `past` (2, 3) or the number `count`.
CHANGES = """
self.past = self.past + x
self.past += x
self.past[0] = x[0]
self.past[0] += x[1]
self.past[:, 1:].mul_(2)
self.past.view(-1).add_(1)
p = self.past.t(); p[0] = 3
p = self.past.type_as(x); p.add_(1); x = x + p
p = self.past if self.count == 2 else x; p.add_(1)
p = x; p = self.past; p.add_(1)
a, b = (self.past, x); a.sub_(b)
pair = [self.past, x]; pair[0].add_(1)
pair = {"a": self.past}; pair["a"].add_(1)
pair = [x]; pair.append(self.past); pair[1].add_(1)
for each in [self.past, self.past]: each.add_(x)
p = self.past.to(torch.float32); p.add_(1)
p = self.past.float(); p.add_(1)
self.bump(self.past)
self.bump(self.past[1])
self.shown().add_(1)
self.bump(self.shown())
self.count += 1
self.count = self.count * 2
""".strip().splitlines()
# Each statement changes a list or dict, of which streams and calls cannot carry the elements.
CONTAINERS = """
self.history.append(x)
self.history[0] = x
self.history[0].add_(x)
items = self.history; items += [x]
for each in self.history: each.add_(1)
self.cache["a"] = x
self.cache["a"].add_(1)
""".strip().splitlines()
# These change no attribute.
KEPT = """
items = self.history + [x]; items.append(x); items[1] = x
items = [self.past, x]; items[0] = x; items.append(x)
p = self.past + x; p.add_(1)
p = self.past.clone(); p.add_(1)
p = self.past.to(torch.float64); p.add_(1)
p = self.past.double().t(); p.add_(1)
p = self.past.to(torch.float32, copy=True); p.add_(1)
p = self.past.to(torch.float32, False, True); p.add_(1)
n = self.sizes[0]; y = x * n; items = [y, y]; items[0] = x
""".strip().splitlines()


MODULE = """
import torch
from torch import Tensor, nn


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("past", torch.ones(2, 3))
        self.history: list[Tensor] = [torch.zeros(2, 3)]
        self.cache: dict[str, Tensor] = {{"a": torch.zeros(2, 3)}}
        self.count, self.sizes = 2, [2, 3]

    def bump(self, p: Tensor) -> None:
        p.add_(1)

    def shown(self) -> Tensor:
        return self.past[1:]

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0
        {statements}
        return x + self.past * self.count
"""


def scripted(statements: str, folder: Path) -> Any:
    """Return a module that runs statements and returns a sum of its state."""
    path = folder / "stateful.py"
    path.write_text(MODULE.format(statements=statements.replace("; ", "\n        ")))
    linecache.checkcache(str(path))
    specification: Any = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return torch.jit.script(module.Module().eval())


@pytest.mark.parametrize("statements", [*CHANGES, *KEPT])
def test_a_second_call_starts_from_what_the_first_one_changed(statements: str, tmp_path: Path) -> None:
    script = scripted(statements, tmp_path)
    script.save(str(tmp_path / "m.pt"))
    model, x = onward.load(tmp_path / "m.pt"), torch.randn(2, 3)
    assert bool(model.carries) == (statements in CHANGES)
    carried: list[Any] = []
    for _ in range(3):
        results = model(x.numpy(), *carried)
        y, *carried = results if model.carries else [results]
        np.testing.assert_allclose(y, script(x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("statements", CONTAINERS)
def test_changes_of_containers_are_not_forgotten(statements: str, tmp_path: Path) -> None:
    scripted(statements, tmp_path).save(str(tmp_path / "m.pt"))
    with pytest.raises(
        OnwardError, match=r"calls change (history|cache), which is a (list|dict), not a tensor"
    ):
        onward.load(tmp_path / "m.pt")(np.zeros((2, 3), np.float32))
