"""Models with random weights for bench/zoo.py: recurrences and front ends, written here and of packages.

The packages are torchaudio, transformers, speechbrain, demucs, encodec, ncps and minGRU_pytorch; those that
are not installed are skipped by name. The sizes are small, so that a run of all models takes minutes.
"""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Model(NamedTuple):
    """A module and its inputs, or a file without a module."""

    name: str
    module: nn.Module | None
    inputs: tuple[Tensor, ...]
    path: Path | None = None


class GatedDeltaRule(nn.Module):
    """A state (K, V) that forgets, and moves towards each value; its outputs are written one by one."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, gate: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        B, H, T, K = k.shape
        y, S = torch.zeros_like(v), torch.zeros(B, H, K, v.shape[-1])
        for t in range(T):
            S = S * gate[:, :, t].exp()[..., None, None]
            known = (S * k[:, :, t][..., None]).sum(-2)
            change = (v[:, :, t] - known) * beta[:, :, t][..., None]
            S = S + k[:, :, t][..., None] * change[..., None, :]
            y[:, :, t] = (S * q[:, :, t][..., None]).sum(-2) * K**-0.5
        return y, S


class TriangularInverse(nn.Module):
    """The inverse of a triangular matrix, row by row, as the chunked delta rule computes it."""

    def forward(self, a: Tensor) -> Tensor:
        a = a.clone()
        for i in range(1, a.shape[-1]):
            row, above = a[..., i, :i].clone(), a[..., :i, :i].clone()
            a[..., i, :i] = row + (row.unsqueeze(-1) * above).sum(-2)
        return a + torch.eye(a.shape[-1])


class WrittenCells(nn.Module):
    """A cell whose states are written to the output one by one."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        y = x.new_zeros(x.shape[0], x.shape[1], h.shape[1])
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            y[:, t] = h
        return y


class MelSpectrogram(nn.Module):
    """Logarithms of the energies of mel bands."""

    def __init__(self, n: int, hop: int, bands: int) -> None:
        super().__init__()
        self.n, self.hop = n, hop
        self.register_buffer("window", torch.hann_window(n))
        self.register_buffer("filters", torch.rand(n // 2 + 1, bands))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.stft(x, self.n, self.hop, window=self.window, return_complex=True)
        power = torch.view_as_real(spectrum).pow(2).sum(-1)
        return torch.log(power.transpose(1, 2) @ self.filters + 1e-6)


class SpectralGain(nn.Module):
    """A spectrum times a gain for each frequency, and back."""

    def __init__(self, n: int, hop: int) -> None:
        super().__init__()
        self.n, self.hop = n, hop
        self.register_buffer("window", torch.hann_window(n))
        self.gain = nn.Parameter(torch.rand(n // 2 + 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.stft(x, self.n, self.hop, window=self.window, return_complex=True)
        return torch.istft(spectrum * self.gain, self.n, self.hop, window=self.window, length=x.shape[-1])


def separable(channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for dilation in (1, 2, 4):
        layers += [
            nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels),
            nn.PReLU(),
            nn.Conv1d(channels, channels, 1),
        ]
    return nn.Sequential(*layers)


def written_here() -> Iterator[Model]:
    heads = [torch.randn(1, 4, 24, 16) * scale for scale in (1.0, 0.3, 1.0)]
    gates = -torch.rand(1, 4, 24), torch.rand(1, 4, 24)
    yield Model("gated delta rule", GatedDeltaRule(), (*heads, *gates))
    yield Model("triangular inverse", TriangularInverse(), (torch.randn(1, 4, 2, 32, 32) * 0.1,))
    sequence, state = torch.randn(2, 20, 16), torch.zeros(2, 16)
    yield Model("written GRU cell", WrittenCells(nn.GRUCell(16, 16)), (sequence, state))
    yield Model("written RNN cell", WrittenCells(nn.RNNCell(16, 16)), (sequence, state))
    yield Model("mel spectrogram, 402", MelSpectrogram(402, 160, 40), (torch.randn(2, 16000),))
    yield Model("mel spectrogram, 512", MelSpectrogram(512, 128, 64), (torch.randn(1, 16000),))
    yield Model("spectral gain", SpectralGain(400, 100), (torch.randn(1, 16000),))
    encoder = nn.Sequential(nn.Conv1d(1, 32, 7, padding=3), nn.ELU(), nn.Conv1d(32, 64, 4, 2), nn.ELU())
    yield Model("encoder of audio", encoder, (torch.randn(1, 1, 24000),))
    decoder = nn.Sequential(nn.ConvTranspose1d(64, 32, 4, 2), nn.LeakyReLU(), nn.Conv1d(32, 1, 7, padding=3))
    yield Model("decoder of audio", decoder, (torch.randn(1, 64, 12000),))
    yield Model("separable convolutions", separable(128), (torch.randn(1, 128, 1000),))
    yield Model("few channels", nn.Conv1d(4, 4, 3, padding=1), (torch.randn(1, 4, 6400),))


def of_torchaudio() -> Iterator[Model]:
    from torchaudio.models import ConvTasNet, DeepSpeech, Wav2Letter

    yield Model("ConvTasNet", ConvTasNet(msk_num_layers=4, msk_num_stacks=2), (torch.randn(1, 1, 16000),))
    yield Model("DeepSpeech", DeepSpeech(64, n_hidden=128), (torch.randn(1, 1, 100, 64),))
    yield Model("Wav2Letter", Wav2Letter(input_type="mfcc", num_features=40), (torch.randn(1, 40, 200),))


class HiddenStates(nn.Module):
    """The last hidden states of a language model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(input_ids=tokens, use_cache=False).last_hidden_state


LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "Mamba": {"state_size": 16},
    "Mamba2": {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1, "chunk_size": 8},
    "FalconMamba": {"state_size": 16},
    "RecurrentGemma": {"lru_width": 64, "intermediate_size": 128, "num_attention_heads": 4, "head_dim": 16},
    "Rwkv": {"attention_hidden_size": 64, "intermediate_size": 128},
    "Lfm2": {
        **{"intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"layer_types": ["conv", "full_attention"], "block_multiple_of": 16},
    },
    "xLSTM": {"num_heads": 4, "chunk_size": 8},
    "Bamba": {
        **{"intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16},
        **{"mamba_chunk_size": 8, "mamba_n_groups": 1},
    },
    "FalconH1": {
        **{"intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16},
        **{"mamba_d_ssm": 128, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16},
        **{"mamba_chunk_size": 8},
    },
}


def of_transformers() -> Iterator[Model]:
    import transformers

    tokens = torch.randint(0, 100, (1, 24))
    for name, options in LANGUAGE_MODELS.items():
        config = getattr(transformers, f"{name}Config")
        made = config(vocab_size=100, hidden_size=64, num_hidden_layers=2, **options)
        yield Model(name, HiddenStates(getattr(transformers, f"{name}Model")(made)), (tokens,))
    vocoder = transformers.SpeechT5HifiGanConfig(upsample_initial_channel=128)
    yield Model("HiFi-GAN", transformers.SpeechT5HifiGan(vocoder), (torch.randn(40, 80),))


def of_speechbrain() -> Iterator[Model]:
    from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

    ecapa = ECAPA_TDNN(80, channels=[128] * 4 + [384], lin_neurons=64)
    yield Model("ECAPA-TDNN", ecapa, (torch.randn(1, 200, 80),))


def of_demucs() -> Iterator[Model]:
    from demucs.demucs import Demucs

    yield Model("Demucs", Demucs(["a", "b"], channels=16, depth=4), (torch.randn(1, 2, 22050),))


def of_encodec() -> Iterator[Model]:
    from encodec.modules import SEANetDecoder, SEANetEncoder

    yield Model("EnCodec, encoder", SEANetEncoder(n_filters=8, dimension=32), (torch.randn(1, 1, 24000),))
    yield Model("EnCodec, decoder", SEANetDecoder(n_filters=8, dimension=32), (torch.randn(1, 32, 75),))


def of_ncps() -> Iterator[Model]:
    from ncps.torch import LTC, CfC
    from ncps.wirings import AutoNCP

    yield Model("CfC", CfC(20, 50), (torch.randn(2, 30, 20),))
    yield Model("CfC, wired", CfC(20, AutoNCP(28, 4)), (torch.randn(2, 30, 20),))
    yield Model("LTC, wired", LTC(20, AutoNCP(28, 4)), (torch.randn(1, 10, 20),))


def of_mingru() -> Iterator[Model]:
    from minGRU_pytorch import minGRU

    yield Model("minGRU", minGRU(64), (torch.randn(2, 50, 64),))


PACKAGES: dict[str, Callable[[], Iterator[Model]]] = {
    "torchaudio": of_torchaudio,
    "transformers": of_transformers,
    "speechbrain": of_speechbrain,
    "demucs": of_demucs,
    "encodec": of_encodec,
    "ncps": of_ncps,
    "minGRU_pytorch": of_mingru,
}


def of_packages() -> Iterator[Model]:
    """Yield the models of installed packages, and print the names of those that are missing."""
    for package, made in PACKAGES.items():
        if importlib.util.find_spec(package):
            yield from made()
        else:
            print(f"skipped: the models of {package}, which is not installed")
