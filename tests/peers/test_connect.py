"""Chains of files that PyTorch exports, with the structure of a denoiser in three files, against PyTorch."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.modules import answer, exported
from torch import Tensor, nn

import onward

Array = NDArray[np.float32]
HOP, BANDS, BINS, HIDDEN = 20, 16, 12, 10


def causal(channels: int, outputs: int, stride: int = 1, steps: int = 3) -> nn.Sequential:
    """A convolution over steps and frequencies that reads earlier steps alone, in separable form."""
    return nn.Sequential(
        nn.ConstantPad2d((0, 0, steps - 1, 0), 0.0),
        nn.Conv2d(channels, outputs, (steps, 3), stride=(1, stride), padding=(0, 1), bias=False),
        nn.Conv2d(outputs, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class FrontEnd(nn.Module):
    """Frames of a signal to the log power of bands, and to the complex numbers of the lowest bins."""

    def __init__(self) -> None:
        super().__init__()
        angles = 2 * torch.pi * torch.arange(HOP + 1)[:, None] * torch.arange(2 * HOP) / (2 * HOP)
        basis = torch.cat([angles.cos(), -angles.sin()]) * torch.hann_window(2 * HOP)
        self.transform = nn.Conv1d(1, len(basis), 2 * HOP, stride=HOP, bias=False)
        self.transform.weight.data = basis[:, None]
        self.bands = nn.Linear(HOP + 1, BANDS)
        self.bands.weight.data.abs_()

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        real, imaginary = self.transform(wave.unsqueeze(1)).chunk(2, dim=1)
        z = torch.stack([real, imaginary], 1).transpose(2, 3)
        power = self.bands((z * z).sum(1, keepdim=True))
        return torch.log(power.abs() + 1e-3), z[..., :BINS]


class Encoder(nn.Module):
    """Features of bands and of complex bins to skip connections, an embedding and a noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([causal(1, 4), causal(4, 4, 2, 1), causal(4, 4, 2, 1), causal(4, 4, 1, 1)])
        self.bins = causal(2, 4)
        self.join = nn.Linear(4 * BINS, 4 * BANDS // 4)
        self.gru = nn.GRU(4 * BANDS // 4, HIDDEN, batch_first=True)
        self.level = nn.Sequential(nn.Linear(HIDDEN, 1), nn.Sigmoid())

    def forward(self, feat_erb: Tensor, feat_spec: Tensor) -> tuple[Tensor, ...]:
        skips, x = [], feat_erb
        for conv in self.convs:
            x = conv(x)
            skips.append(x)
        c0 = self.bins(feat_spec)
        both = x.permute(0, 2, 3, 1).flatten(2) + self.join(c0.permute(0, 2, 3, 1).flatten(2))
        emb, _ = self.gru(both)
        return *skips, emb, c0, self.level(emb) * 50 - 15


class BandDecoder(nn.Module):
    """A gain for each band."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(HIDDEN, HIDDEN, num_layers=2, batch_first=True)
        self.out = nn.Linear(HIDDEN, BANDS)
        self.up = nn.ModuleList([
            nn.ConvTranspose2d(4, 4, (1, 3), stride=(1, 2), padding=(0, 1), output_padding=(0, 1), groups=2)
            for _ in range(2)
        ])  # fmt: skip
        self.last = nn.Sequential(causal(4, 1, steps=1), nn.Sigmoid())

    def forward(self, emb: Tensor, e3: Tensor, e2: Tensor, e1: Tensor, e0: Tensor) -> Tensor:
        y, _ = self.gru(emb)
        B, T, _ = y.shape
        x = self.out(y).view(B, T, BANDS // 4, 4).permute(0, 3, 1, 2) + e3
        x = self.up[1](self.up[0](x + e2) + e1)
        gains: Tensor = self.last(x + e0)
        return gains


class BinDecoder(nn.Module):
    """Complex coefficients for each bin."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.out = nn.Sequential(nn.Linear(HIDDEN, BINS * 2), nn.Tanh())
        self.skip = nn.Conv2d(4, 2, 1)

    def forward(self, emb: Tensor, c0: Tensor) -> Tensor:
        y, _ = self.gru(emb)
        coefs: Tensor = self.out(y).unflatten(2, (BINS, 2)) + self.skip(c0).permute(0, 2, 3, 1)
        return coefs


INPUTS = [["wave"], ["feat_erb", "feat_spec"], ["emb", "e3", "e2", "e1", "e0"], ["emb", "c0"]]
OUTPUTS = [["feat_erb", "feat_spec"], ["e0", "e1", "e2", "e3", "emb", "c0", "lsnr"], ["m"], ["coefs"]]
TIME = {"wave": 1, "emb": 1, "lsnr": 1, "coefs": 1}  # the axis of steps, otherwise 2


@pytest.fixture(scope="module")
def modules() -> list[nn.Module]:
    torch.manual_seed(0)
    return [each().eval() for each in (FrontEnd, Encoder, BandDecoder, BinDecoder)]


def values_of(modules: list[nn.Module], wave: Array) -> dict[str, Array]:
    """Every input and output of the modules, one after another."""
    values = {"wave": wave}
    for module, takes, gives in zip(modules, INPUTS, OUTPUTS, strict=True):
        found = answer(module, {name: values[name] for name in takes})
        values |= dict(zip(gives, found, strict=True))
    return values


def noise(frames: int) -> Array:
    return np.random.default_rng(frames).normal(size=(1, HOP * (frames + 1))).astype(np.float32)


@pytest.fixture(scope="module")
def chain(modules: list[nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, values, models = tmp_path_factory.mktemp("denoiser"), values_of(modules, noise(9)), []
    for module, takes, gives in zip(modules, INPUTS, OUTPUTS, strict=True):
        path = folder / f"{gives[-1]}.onnx"
        axes = {name: {TIME.get(name, 2): "time"} for name in (*takes, *gives)}
        arrays = {name: values[name] for name in takes}
        path.write_bytes(exported(module, arrays, output_names=gives, dynamic_axes=axes))
        models.append(onward.load(path))
    return onward.chain(*models)


def test_files_run_as_one_model(modules: list[nn.Module], chain: Any) -> None:
    assert chain.inputs == ("wave",)
    assert chain.outputs[0] == "coefs" and set(chain.outputs) == {"coefs", "lsnr", "m"}
    for frames in (9, 23):
        known = values_of(modules, noise(frames))
        for name, y in zip(chain.outputs, chain(known["wave"]), strict=True):
            np.testing.assert_allclose(y, known[name], rtol=0, atol=2e-4)


def test_files_stream_as_one_model(chain: Any) -> None:
    wave = noise(23)
    stream, parts, start = chain.stream(1), [], 0
    for end in (1, HOP, 3 * HOP + 1, 9 * HOP, wave.shape[1]):
        parts.append(stream(wave[:, start:end]))
        start = end
    parts.append(stream.finish())
    for name, whole, *blocks in zip(chain.outputs, chain(wave), *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(blocks, axis=TIME.get(name, 2)), whole)
