"""The attributes that calls of TorchScript change are carries, however the code changes them."""

import importlib.util
import linecache
import sys
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
self.past = self.other; self.past.add_(1)
self.swap(); self.past.mul_(2)
if self.on: self.past.add_(x); self.on = True
before = self.on; self.on = True; p = self.past if before else x; p.add_(1)
if bool(x.sum() > -99) or self.on: self.past.add_(1)
if bool(x.sum() > -99) or self.on: self.count += 1
pair = [self.past] + [x]; pair[0].add_(1)
pair = [self.past] * 2; pair[1].add_(1)
pair = list([self.past]); pair[0].add_(1)
pair = [self.past]; other = pair.copy(); other[0].add_(1)
pair = [x]; pair += [self.past]; pair[1].add_(1)
pair = [x]; other = pair; other.append(self.past); pair[1].add_(1)
pair = [x]; pair.extend([self.past]); pair[-1].add_(1)
pair = [x]; pair.insert(0, self.past); pair[0].add_(1)
pair = [x]; pair[0] = self.past; pair[0].add_(1)
pair = [x]; self.fill(pair); pair[1].add_(1)
pair = [x, self.past]; pair.reverse(); pair[0].add_(1)
pair = [x, self.past]; pair.pop().add_(1)
pair = [x, self.past]; pair[1:][0].add_(1)
pair = [[x], [self.past]]; pair[1][0].add_(1)
pair = list(self.past.unbind(0)) + [x[0]]; pair[1].add_(1)
pair = self.past.split(1); pair[0].add_(1)
pair = {"a": self.past}; other = pair.copy(); other["a"].add_(1)
pair = {"a": self.past}; pair.pop("a").add_(1)
pair = {"a": self.past}; pair.setdefault("a", x).add_(1)
pair = {"a": x}; pair.update({"b": self.past}); pair["b"].add_(1)
pair = {"a": x}; pair["b"] = self.past; pair["b"].add_(1)
pair = {"a": self.past}; for value in pair.values(): value.add_(1)
pair = {"a": self.past}; for key, value in pair.items(): value.add_(1)
pair = {"a": [self.past]}; for key, value in pair.items(): value[0].add_(1)
a = x; b = x; c = x; for i in range(4): a, b, c = self.moved(a, b, c)
p = self.past.data; p.add_(1)
holder = Holder(x); holder.p = self.past; holder.show().add_(1)
pair = Pair(x, self.past); pair.b.add_(1)
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
self.holders[0].p = x
x = x + self.holders[1].bumped()
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
items = [self.history]; items.append([x]); items[0] = [x]
items = [self.past] + [x]; items.append(x); y = items[0] + x; y.add_(1)
p = self.past.t(); q = p + 1; q.add_(1); q[0] = 2
if self.on: self.past.add_(1)
n = self.sizes[0]; y = x * n; items = [y, y]; items[0] = x
""".strip().splitlines()


MODULE = """
import torch
from torch import Tensor, nn
from typing import NamedTuple


class Pair(NamedTuple):
    a: Tensor
    b: Tensor


@torch.jit.script
class Holder:
    def __init__(self, p: Tensor) -> None:
        self.p = p

    def show(self) -> Tensor:
        return self.p

    def bumped(self) -> Tensor:
        self.p = self.p + 1
        return self.p


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("past", torch.ones(2, 3))
        self.history: list[Tensor] = [torch.zeros(2, 3)]
        self.cache: dict[str, Tensor] = {{"a": torch.zeros(2, 3)}}
        self.holders: list[Holder] = [Holder(torch.zeros(2, 3)), Holder(torch.ones(2, 3))]
        self.register_buffer("other", torch.zeros(2, 3))
        self.count, self.sizes, self.on = 2, [2, 3], False

    def bump(self, p: Tensor) -> None:
        p.add_(1)

    def shown(self) -> Tensor:
        return self.past[1:]

    def swap(self) -> None:
        self.past, self.other = self.other, self.past

    def fill(self, pair: list[Tensor]) -> None:
        pair.append(self.past)

    def moved(self, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a.add_(1)
        return b, c, self.past

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0
        {statements}
        return x + self.past * self.count + self.other
"""


def scripted(statements: str, folder: Path) -> Any:
    """Return a module that runs statements and returns a sum of its state."""
    path = folder / "stateful.py"
    path.write_text(MODULE.format(statements=statements.replace("; ", "\n        ")))
    linecache.checkcache(str(path))
    specification: Any = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module  # where PyTorch looks for the code of a class
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
        OnwardError,
        match=r"calls change (history|cache|holders\.p), which is (a (list|dict), not a tensor|in a list)",
    ):
        onward.load(tmp_path / "m.pt")(np.zeros((2, 3), np.float32))
