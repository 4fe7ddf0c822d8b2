"""Writes of TorchScript show in all tensors that share the memory, also after branches and loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.randomized import random_cases
from support.shared_memory import function, source
from support.skips import Cases

import onward
from onward.errors import ArgumentError

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated


@pytest.mark.parametrize("first", range(0, random_cases(200), 20))
def test_writes_show_where_memory_is_shared(first: int, tmp_path: Path) -> None:
    cases = Cases()
    for seed in range(first, first + 20):
        script = type("Code", (torch.jit.ScriptModule,), {})()
        script.define(source(seed))
        script.save(str(tmp_path / f"{seed}.pt"))
        model, random = onward.load(tmp_path / f"{seed}.pt"), np.random.default_rng(seed)
        for n in (1, 3):
            x = random.standard_normal((3, 3)).astype(np.float32)
            with cases.new(seed) as case:
                expected = function(seed)(None, torch.from_numpy(x), n)
                with case.skipping(AssertionError, RuntimeError):  # TorchScript itself leaves out a write
                    assert all(map(torch.equal, script(torch.from_numpy(x), n), expected))
                with case.skipping(ArgumentError):  # it is not known whether memory is shared
                    results = model(x, n)
                for actual, y in zip(results, expected, strict=True):
                    np.testing.assert_allclose(actual, y.numpy(), rtol=1e-4, atol=1e-4)
    cases.check(most=0.75)


@pytest.mark.parametrize("write", ["m[0] = x", "m.append(x)", "l.reverse()"])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_list_is_not_read_after_one_that_it_may_be_changed(write: str, depth: int, tmp_path: Path) -> None:
    """`m = l` in a branch made two lists of one, and `l` stayed as it was."""
    script = type("Code", (torch.jit.ScriptModule,), {})()
    lines = ["def forward(self, x):", " l = [x + 1]", " m = [x + 2]"]
    lines += [" " * n + f"if bool(x.sum() > {n}):" for n in range(1, depth + 1)]
    lines += [" " * depth + " m = l", f" {write}", " return l[-1] + m[-1]"]
    script.define("\n".join([*lines, ""]))
    script.save(str(tmp_path / "m.pt"))
    with pytest.raises(ArgumentError, match="a list or dict that may be one that it changed"):
        onward.load(tmp_path / "m.pt")(np.ones((3, 3), np.float32))
