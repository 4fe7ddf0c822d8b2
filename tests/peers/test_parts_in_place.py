"""Writes into tensors, the parts that operators split them into, and parts of these, beside PyTorch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.randomized import random_cases
from torch import Tensor, nn

import onward


class Parts(nn.Module):
    """A random sequence of reads and writes of a tensor and the parts that an operator splits it into."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.kind, self.dim = str(rng.choice(["chunk", "split", "sizes", "unbind"])), int(rng.integers(2))
        names = ["sigmoid", "add", "whole", "inner", "read", "select", "alias"]
        self.changes = [(str(rng.choice(names)), *rng.integers(0, 4, 2).tolist()) for _ in range(8)]

    def split(self, x: Tensor) -> list[Tensor]:
        match self.kind:
            case "chunk":
                return list(torch.chunk(x, 4, self.dim))
            case "split":
                return list(torch.split(x, (1, 2)[self.dim], self.dim))
            case "sizes":
                return list(torch.split(x, [(1, 2)[self.dim]] * 4, self.dim))
        return list(torch.unbind(x, self.dim))[:4]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = x * 1.5
        parts, found = self.split(x), list[Tensor]()
        for change, i, j in self.changes:
            match change:
                case "sigmoid":
                    torch.sigmoid_(parts[i])
                case "add":
                    parts[i].add_(parts[j])
                case "whole":
                    x.mul_(0.5)
                case "inner":
                    torch.chunk(parts[i], 2, -1)[j % 2].neg_()
                case "read":
                    found.append(x.sum() + parts[j].sum())
                case "select":
                    x[i] = x[j] + 1
                case "alias":
                    parts[i].to(x.dtype).detach().tanh_()
        return (x, *parts, *found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(random_cases(24)))
def test_random_writes(seed: int, tmp_path: Path) -> None:
    module, x = Parts(seed), torch.randn(4, 8)
    with torch.no_grad():
        torch.jit.trace(module, (x,), check_trace=False).save(tmp_path / "model.pt")
        torch.export.save(torch.export.export(module, (x,)), tmp_path / "model.pt2")
        expected = module(x)
    for name in ("model.pt", "model.pt2"):
        for y, right in zip(onward.load(tmp_path / name)(x.numpy()), expected, strict=True):
            np.testing.assert_allclose(y, right, rtol=1e-5, atol=1e-6)
