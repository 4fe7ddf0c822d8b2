"""Streams of PyTorch modules: the bits of the whole call, which agrees with PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.causal_modules import CausalNet, write
from support.randomized import random_cases
from support.sequence_graphs import blocks, normal
from support.skips import Case, Cases
from torch import nn

import onward
from onward.errors import ArgumentError, OnwardError

pytestmark = pytest.mark.filterwarnings("ignore")  # from the exporters

REASON = "combines a step with a result for the whole sequence"  # the mean over time


def as_tuple(outputs: Any) -> tuple[Any, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def assert_streams(case: Case, model: Any, module: CausalNet, x: NDArray[Any], sizes: list[slice]) -> None:
    """Stream x in blocks."""
    stream = model.stream(len(x), time_axis=2)
    parts = [as_tuple(stream(x[:, :, block])) for block in sizes]
    with torch.no_grad(), case.skipping(RuntimeError):  # shorter than a window
        expected = as_tuple(module(torch.from_numpy(x)))
    with case.skipping(OnwardError):  # the exporter excludes lengths that the module accepts
        whole = as_tuple(model(x))
    parts.append(as_tuple(stream.finish()))
    for i, (y, other) in enumerate(zip(whole, expected, strict=True)):
        np.testing.assert_allclose(y, other.numpy(), rtol=1e-4, atol=1e-5)
        streamed = parts[-1][i]
        if y.ndim == 3:  # with steps
            streamed = np.concatenate([part[i].reshape(*y.shape[:2], -1) for part in parts], 2)
        np.testing.assert_array_equal(streamed.view(np.int32), y.view(np.int32), strict=True)


def test_random_causal_modules_and_unets_stream_with_the_bits_of_the_whole_call(tmp_path: Path) -> None:
    cases = Cases()
    for seed in range(random_cases(12)):
        rng, module = np.random.default_rng(seed), CausalNet(seed).eval()
        with cases.new(seed) as case:
            with case.skipping(NotImplementedError):  # torch.export cannot solve an inequality of sizes
                write(module, tmp_path / "module")
            model = onward.load(tmp_path / "module")
            with case.skipping(ArgumentError, match=REASON):
                model.stream(time_axis=2)
        if case.skipped:
            continue
        for T in (int(rng.integers(14)), int(rng.integers(14, 40)), int(rng.integers(40, 90))):
            with cases.new(seed) as each:
                sizes = blocks(rng, T) if rng.integers(2) else [slice(t, t + 1) for t in range(T)]
                assert_streams(each, model, module, normal(rng, 2, module.channels, T), sizes)
    cases.check(most=1 / 4)


class Demucs(nn.Module):
    """Strided and transposed convolutions around an LSTM; the decoder cuts the skip connections."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv1d(1, 4, 8, 4), nn.Conv1d(4, 4, 8, 4)])
        self.up = nn.ModuleList([nn.ConvTranspose1d(4, 4, 8, 4), nn.ConvTranspose1d(4, 1, 8, 4)])
        self.rnn = nn.LSTM(4, 4)

    def forward(self, x: Any) -> Any:  # (batch, time)
        y, skips = x.unsqueeze(1), []
        for down in self.down:
            y = torch.relu(down(y))
            skips.append(y)
        y = self.rnn(y.permute(2, 0, 1))[0].permute(1, 2, 0)
        for up in self.up:
            y = up(y + skips.pop()[..., : y.shape[-1]])
        return y.squeeze(1)


@pytest.mark.parametrize("T", [84, 340, 341, 350])
def test_a_unet_streams_the_steps_that_its_skip_connections_cut(T: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Demucs().eval(), normal(np.random.default_rng(0), 1, T)
    torch.jit.trace(module, (torch.randn(1, 84),), check_trace=False).save(tmp_path / "demucs.pt")
    stream = onward.load(tmp_path / "demucs.pt").stream(time_axis=1)
    y = np.concatenate([*(stream(x[0, t : t + 20]) for t in range(0, T, 20)), stream.finish()])
    assert stream.latency == 35
    with torch.no_grad():
        np.testing.assert_allclose(y, module(torch.from_numpy(x))[0].numpy(), rtol=1e-4, atol=1e-6)


class Separator(nn.Module):
    """Masks for two sources, which are decoded as rows of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.mask = nn.Conv1d(1, 6, 16, 8, bias=False), nn.Conv1d(6, 12, 1)
        self.decode = nn.ConvTranspose1d(6, 1, 16, 8, bias=False)

    def forward(self, x: Any) -> Any:  # (batch, time)
        frames = torch.relu(self.encode(x.unsqueeze(1)))
        masks = torch.sigmoid(self.mask(frames)).view(len(x), 2, 6, -1)
        return self.decode((masks * frames.unsqueeze(1)).flatten(0, 1)).view(len(x), 2, -1)


@pytest.mark.parametrize("form", ["exported program", "ONNX"])
@pytest.mark.parametrize("size", [1, 8, 16])
def test_a_separator_streams_blocks_that_complete_no_frame(size: int, form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, auto = Separator().eval(), torch.export.Dim.AUTO
    args: tuple[Any, ...] = ((torch.randn(1, 160),),)
    dynamic = {"dynamic_shapes": {"x": {0: auto, 1: auto}}}
    if form == "ONNX":  # whose shapes are computed from the length of x
        torch.onnx.export(module, *args, tmp_path / "model", dynamo=True, verbose=False, **dynamic)
    else:
        torch.export.save(torch.export.export(module, *args, **dynamic), tmp_path / "model")
    model, x = onward.load(tmp_path / "model"), normal(np.random.default_rng(0), 1, 160)
    stream = model.stream(batch=1, time_axis=1)
    y = np.concatenate([*(stream(x[:, t : t + size]) for t in range(0, 160, size)), stream.finish()], -1)
    np.testing.assert_array_equal(y, model(x))


class OverTimeAndFeatures(nn.Module):
    """A convolution over time and features, whose channels and features an LSTM reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, (3, 5), stride=(2, 2), padding=(1, 2))
        self.rnn = nn.LSTM(40, 8, batch_first=True)

    def forward(self, x: Any) -> Any:  # (batch, time, 20)
        return self.rnn(self.conv(x.unsqueeze(1)).transpose(1, 2).flatten(2))[0]


def test_a_convolution_over_time_and_features_streams_into_an_lstm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, auto = OverTimeAndFeatures().eval(), torch.export.Dim.AUTO
    program = torch.export.export(module, (torch.randn(2, 60, 20),), dynamic_shapes=({0: auto, 1: auto},))
    torch.export.save(program, tmp_path / "model.pt2")
    # the guards of the program fix the length to 59 or 60
    model, x = onward.load(tmp_path / "model.pt2"), normal(np.random.default_rng(0), 2, 59, 20)
    stream = model.stream(2)
    y = np.concatenate([stream(x[:, :1]), stream(x[:, 1:8]), stream(x[:, 8:]), stream.finish()], 1)
    np.testing.assert_array_equal(y, model(x))
