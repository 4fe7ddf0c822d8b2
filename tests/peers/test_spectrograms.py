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


class Denoiser(nn.Module):
    """Scales the spectrum of each frame, and adds up the frames."""

    def __init__(self, n: int, hop: int, win_length: int, center: bool) -> None:
        super().__init__()
        self.n, self.hop, self.win_length, self.center = n, hop, win_length, center
        self.register_buffer("window", torch.hann_window(win_length) + 0.1)
        self.gains = nn.Parameter(torch.rand(n // 2 + 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        options = {"window": self.window, "center": self.center}
        sizes = self.n, self.hop, self.win_length
        spectrum = torch.stft(x, *sizes, **options, return_complex=True)
        return torch.istft(spectrum * self.gains, *sizes, **options)


class Changes(nn.Module):
    """Logarithms of the energies of frames, and their changes from frame to frame."""

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.view_as_real(torch.stft(x, 32, 8, center=False, return_complex=True))
        energies = torch.log(spectrum.pow(2).sum(-1) + 1e-3).transpose(1, 2)
        return energies[:, 1:] - energies[:, :-1]


@pytest.mark.parametrize("how", ["traced", "exported"])
@torch.no_grad()
def test_streams_of_spectra_have_the_bits_of_the_call_and_the_numbers_of_torch(
    how: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    rng, path = np.random.default_rng(0), tmp_path / "model.pt2"
    sizes = [
        (16, 4, 16, False),
        (16, 16, 16, False),
        (20, 5, 20, True),
        (24, 7, 18, True),
        (48, 12, 30, True),
    ]
    for module in [*(Denoiser(*each).eval() for each in sizes), Changes()]:
        x = torch.randn(2, 203)
        if how == "exported":
            axes = ({1: torch.export.Dim.AUTO},)
            torch.export.save(torch.export.export(module, (x,), dynamic_shapes=axes), path)
        else:
            torch.jit.save(torch.jit.trace(module, x, check_trace=False), str(path))
        model, signal = onward.load(path), x.numpy()
        whole = model(signal)
        np.testing.assert_allclose(whole, module(x).numpy(), rtol=0, atol=2e-5)
        stream, parts, ends = model.stream(2, time_axis=1), list[Any](), [0]
        while ends[-1] < signal.shape[1]:
            ends.append(ends[-1] + int(rng.integers(0, 40)))
            parts.append(stream(signal[:, ends[-2] : ends[-1]]))
        np.testing.assert_array_equal(np.concatenate([*parts, stream.finish()], 1), whole)
