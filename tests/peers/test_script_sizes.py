"""Sizes that TorchScript computes from those of its inputs are never constants of the recorded graph."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.randomized import random_cases
from torch import Tensor, nn

import onward

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated


class CausalConvolution(nn.Module):
    """A strided convolution that pads up to whole strides, with sizes in tensors, as neural codecs do."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(inputs, outputs, kernel, stride)
        self.register_buffer("stride", torch.tensor(stride))
        self.register_buffer("kernel", torch.tensor(kernel))
        self.register_buffer("total", torch.tensor(kernel - stride))

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[-1]
        frames = torch.ceil((length - self.kernel + self.total) / self.stride + 1).to(torch.int64) - 1
        extra = frames * self.stride + self.kernel - self.total - length
        padded: Tensor = self.convolution(nn.functional.pad(x, (int(self.total), extra)))
        return padded


class Transposed(nn.Module):
    """A transposed convolution that cuts what exceeds whole strides."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.convolution, self.excess = nn.ConvTranspose1d(inputs, outputs, kernel, stride), kernel - stride

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convolution(x)
        return y[..., : y.shape[-1] - self.excess]


def check(module: nn.Module, traced_with: Tensor, lengths: list[int], path: Path) -> None:
    """Compare a traced module with PyTorch for inputs of several lengths."""
    torch.jit.trace(module, traced_with, check_trace=False).save(str(path))
    program, loaded = torch.jit.load(str(path)), onward.load(path)
    for length in lengths:
        x = torch.randn(*traced_with.shape[:-1], length)
        expected, actual = program(x).numpy(), loaded(x.numpy())
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_codecs_of_any_strides_keep_their_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    for _ in range(random_cases(8)):
        strides = [int(n) for n in rng.choice([2, 3, 4, 5, 8], size=rng.integers(2, 5))]
        layers: list[nn.Module] = [CausalConvolution(1, 4, 5, 1)]
        layers += [CausalConvolution(4, 4, 2 * n, n) for n in strides]
        layers += [Transposed(4, 4, 2 * n, n) for n in strides[::-1]]
        total = int(np.prod(strides))
        lengths = [total, 7 * total, *(int(n) for n in rng.integers(1, 9 * total, size=3))]
        check(nn.Sequential(*layers).eval(), torch.randn(1, 1, 3 * total), lengths, tmp_path / "model.pt")


class Steps(nn.Module):
    """A function of the length, added to the last step."""

    def __init__(self, kind: str, number: int) -> None:
        super().__init__()
        self.kind, self.number = kind, number

    def forward(self, x: Tensor) -> Tensor:
        length, n = x.shape[-1], self.number
        if self.kind == "padded":  # to a multiple
            return nn.functional.pad(x, (0, -length % n))
        if self.kind == "frames":
            return x[..., : length // n + 1]
        if self.kind == "clamped":
            return x.sum(-1) * torch.clamp(torch.tensor(length), max=n)
        return x[..., : torch.div(length + n - 1, n, rounding_mode="floor")]


@pytest.mark.parametrize("kind", ["padded", "frames", "clamped", "ceiling"])
@torch.no_grad()
def test_functions_of_sizes_are_not_constants(kind: str, tmp_path: Path) -> None:
    for number in (3, 8, 38, 100, 160):
        check(Steps(kind, number), torch.randn(2, 3, 500), [1, 39, 48, 161, 333, 1000], tmp_path / "model.pt")
