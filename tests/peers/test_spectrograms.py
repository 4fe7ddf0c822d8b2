"""Spectrograms, mel spectrograms and cepstral coefficients in every format that PyTorch writes."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onward

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that TorchScript is deprecated


class Spectrogram(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.normalized: bool = options.get("normalized", False)
        self.onesided: bool = options.get("onesided", True)
        self.center: bool = options.get("center", True)
        self.pad_mode: str = options.get("pad_mode", "reflect")
        self.win_length: int = options.get("win_length", 64)
        self.register_buffer("window", torch.hann_window(self.win_length))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stft(
            x, 64, 20, self.win_length, self.window, center=self.center, pad_mode=self.pad_mode,
            normalized=self.normalized, onesided=self.onesided, return_complex=True,
        ).abs().pow(2.0)  # fmt: skip


class Cepstrum(nn.Module):
    """Mel spectrograms, decibels and a cosine transform, as torchaudio computes them."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = Spectrogram()
        self.register_buffer("mel", torch.rand(33, 12))
        n = torch.arange(12.0)
        self.register_buffer("cosines", torch.cos(math.pi / 12 * (n[:, None] + 0.5) * n[None, :7]))

    def forward(self, x: Tensor) -> Tensor:
        mel = torch.matmul(self.spectrogram(x).transpose(-1, -2), self.mel).transpose(-1, -2)
        decibels = 10.0 * torch.log10(torch.clamp(mel, min=1e-10))
        decibels = torch.max(decibels, decibels.amax((-2, -1), keepdim=True) - 80.0)
        return torch.matmul(decibels.transpose(-1, -2), self.cosines).transpose(-1, -2)


CASES: list[nn.Module] = [
    Spectrogram(normalized=normalized, onesided=onesided, center=center, pad_mode=mode, win_length=length)
    for normalized, onesided, (center, mode), length in itertools.product(
        (False, True), (True, False), ((True, "reflect"), (True, "constant"), (False, "reflect")), (64, 50)
    )
]


@pytest.mark.parametrize("how", ["traced", "scripted", "exported"])
@torch.no_grad()
def test_spectrograms_have_the_numbers_and_shapes_of_torch(how: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    for module in [*CASES, Cepstrum()]:
        x, path = torch.randn(2, 300), tmp_path / ("model.pt2" if how == "exported" else "model.pt")
        if how == "exported":
            torch.export.save(torch.export.export(module, (x,)), path)
        else:
            program = torch.jit.trace(module, x) if how == "traced" else torch.jit.script(module)
            program.save(str(path))
        expected, actual = module(x).numpy(), onward.load(path)(x.numpy())
        assert actual.shape == expected.shape
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * scale, err_msg=str(vars(module)))
