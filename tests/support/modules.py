"""Typical production models in PyTorch, and random modules, exported to ONNX."""

import io
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F


class VoiceDetector(nn.Module):
    """An STFT as a convolution, strided convolutions, an LSTM, and a probability for each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = nn.Conv1d(1, 258, 256, 128, bias=False)
        sizes = [(129, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1)]
        self.encoder = nn.ModuleList(nn.Conv1d(i, o, 3, stride, 1) for i, o, stride in sizes)
        self.lstm = nn.LSTM(128, 128, batch_first=True)
        self.head = nn.Linear(128, 1)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = self.stft(F.pad(x[:, None], (64, 64), mode="reflect"))
        z = torch.sqrt(spectrum[:, :129] ** 2 + spectrum[:, 129:] ** 2)
        for layer in self.encoder:
            z = torch.relu(layer(z))
        y, _ = self.lstm(z.transpose(1, 2))
        return torch.sigmoid(self.head(torch.relu(y)))


class NoiseSuppressor(nn.Module):
    """Two LSTMs mask the spectrum, two more mask learned features; one block per call."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(257, 128, 2, batch_first=True)
        self.mask = nn.Linear(128, 257)
        self.encode = nn.Conv1d(257, 256, 1, bias=False)
        self.norm = nn.LayerNorm(256)
        self.second = nn.LSTM(256, 128, 2, batch_first=True)
        self.second_mask = nn.Linear(128, 256)
        self.decode = nn.Conv1d(256, 257, 1, bias=False)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h1, c1) = self.first(x, (h[:2], c[:2]))
        z = self.encode((x * torch.sigmoid(self.mask(y))).transpose(1, 2)).transpose(1, 2)
        y, (h2, c2) = self.second(self.norm(z), (h[2:], c[2:]))
        masked = z * torch.sigmoid(self.second_mask(y))
        return self.decode(masked.transpose(1, 2)).transpose(1, 2), torch.cat([h1, h2]), torch.cat([c1, c2])


class TextReader(nn.Module):
    """A CRNN: 2-D convolutions and pooling over an image, two bidirectional LSTMs, a class per column."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(64, 64, 3, 1, 1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d((2, 1))),
            *(nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU(), nn.MaxPool2d((2, 1))),
        )
        self.lstm = nn.LSTM(128, 128, 2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(256, 37)

    def forward(self, x: Tensor) -> Tensor:
        z = self.layers(x).flatten(1, 2).transpose(1, 2)
        return F.log_softmax(self.head(self.lstm(z)[0]), -1)


class Tagger(nn.Module):
    """An embedding, a bidirectional LSTM, and a class for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(500, 100)
        self.lstm = nn.LSTM(100, 128, bidirectional=True, batch_first=True)
        self.head = nn.Linear(256, 17)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.softmax(self.head(self.lstm(self.embedding(tokens))[0]), -1)


class AttentionPooling(nn.Module):
    """A GRU whose steps are weighted by a softmax over time."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(40, 128, batch_first=True)
        self.score, self.head = nn.Linear(128, 1), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        weights = torch.softmax(self.score(torch.tanh(y)), 1)
        return self.head((weights * y).sum(1))


class Forecaster(nn.Module):
    """An LSTM on separately normalized series; the forecast is added to the last value."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(7, 64, 2, batch_first=True), nn.Linear(64, 24 * 7)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        deviation = torch.sqrt(((x - mean) ** 2).mean(1, keepdim=True) + 1e-5)
        z = (x - mean) / deviation
        y = self.head(self.lstm(z)[0][:, -1]).reshape(-1, 24, 7) + z[:, -1:]
        return y * deviation + mean


class Policy(nn.Module):
    """One step of a recurrent policy, which returns actions, a value and the state."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(24, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.lstm = nn.LSTM(64, 128)
        self.actions, self.value = nn.Linear(128, 6), nn.Linear(128, 1)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        y, (h, c) = self.lstm(self.body(x)[None], (h, c))
        return torch.tanh(self.actions(y[0])), self.value(y[0]), h, c


class SpeechRecognizer(nn.Module):
    """Strided 2-D convolutions and five GRUs, as in Deep Speech 2."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 32, (11, 11), (2, 2), (5, 5)), nn.BatchNorm2d(32), nn.Hardtanh(0, 20)),
            *(nn.Conv2d(32, 32, (11, 11), (2, 1), (5, 5)), nn.BatchNorm2d(32), nn.Hardtanh(0, 20)),
        )
        self.gru = nn.GRU(32 * 20, 256, 5, batch_first=True)
        self.head = nn.Linear(256, 29)

    def forward(self, x: Tensor) -> Tensor:
        z = self.layers(x).flatten(1, 2).transpose(1, 2)
        return torch.softmax(self.head(self.gru(z)[0]), -1)


class Translator(nn.Module):
    """A sequence-to-sequence model with attention; the decoder is unrolled over eight steps."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.cell = nn.GRU(32, 64, batch_first=True), nn.GRUCell(64 + 20, 64)
        self.query, self.head = nn.Linear(64, 64), nn.Linear(128, 20)

    def forward(self, x: Tensor) -> Tensor:
        memory, h = self.encoder(x)
        h, y, outputs = h[0], torch.zeros_like(x[:, 0, :20]), []
        for _ in range(8):
            weights = torch.softmax(torch.bmm(memory, self.query(h)[:, :, None]), 1)
            context = torch.bmm(weights.transpose(1, 2), memory)[:, 0]
            h = self.cell(torch.cat([context, y], 1), h)
            y = torch.softmax(self.head(torch.cat([h, context], 1)), -1)
            outputs.append(y)
        return torch.stack(outputs, 1)


class KeywordSpotter(nn.Module):
    """Depthwise separable convolutions and an LSTM, whose last step determines the class."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv1d(40, 40, 5, padding=2, groups=40), nn.Conv1d(40, 64, 1), nn.ReLU()),
            *(nn.Conv1d(64, 64, 5, padding=4, dilation=2, groups=64), nn.Conv1d(64, 64, 1), nn.ReLU()),
            nn.AvgPool1d(2),
        )
        self.lstm, self.head = nn.LSTM(64, 96, batch_first=True), nn.Linear(96, 12)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(self.layers(x).transpose(1, 2))
        return torch.softmax(self.head(y[:, -1]), -1)


class AcousticModel(nn.Module):
    """Two LSTM layers, and the probabilities of letters."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, num_layers=2, batch_first=True)
        self.head = nn.Linear(256, 30)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(x)
        return torch.log_softmax(self.head(y), dim=-1)


class Whole(NamedTuple):
    """A model, and the shapes of its inputs by name; "tokens" holds integers."""

    module: Callable[[], nn.Module]
    inputs: dict[str, tuple[int, ...]]


WHOLE = {
    "voice detector": Whole(VoiceDetector, {"x": (1, 16000)}),
    "noise suppressor": Whole(NoiseSuppressor, {"x": (1, 1, 257), "h": (4, 1, 128), "c": (4, 1, 128)}),
    "text reader": Whole(TextReader, {"x": (1, 1, 32, 100)}),
    "tagger": Whole(Tagger, {"tokens": (1, 30)}),
    "attention pooling": Whole(AttentionPooling, {"x": (1, 100, 40)}),
    "forecaster": Whole(Forecaster, {"x": (1, 96, 7)}),
    "policy": Whole(Policy, {"x": (1, 24), "h": (1, 1, 128), "c": (1, 1, 128)}),
    "speech recognizer": Whole(SpeechRecognizer, {"x": (1, 1, 80, 400)}),
    "translator": Whole(Translator, {"x": (1, 20, 32)}),
    "acoustic model": Whole(AcousticModel, {"x": (1, 50, 40)}),
    "keyword spotter": Whole(KeywordSpotter, {"x": (1, 40, 100)}),
}


def inputs_of(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, NDArray[Any]]:
    """Return random inputs with these shapes."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, 500, shape)
        if name == "tokens"
        else rng.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def exported(module: nn.Module, inputs: dict[str, NDArray[Any]], **options: Any) -> bytes:
    """Export the module to ONNX and return the bytes of the file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the exporter
        torch.onnx.export(
            module.eval(),
            tuple(map(torch.from_numpy, inputs.values())),
            file,
            input_names=list(inputs),
            dynamo=False,
            **options,
        )
    return file.getvalue()


def answer(module: nn.Module, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the outputs of the module."""
    with torch.inference_mode():
        outputs = module.eval()(*map(torch.from_numpy, inputs.values()))
    return [y.numpy() for y in (outputs if isinstance(outputs, tuple) else (outputs,))]


class Step(nn.Module):
    """One operation on a sequence (B, T, F)."""

    def __init__(self, function: Callable[[Tensor], Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _over_time(layer: nn.Module) -> Step:
    """Apply a layer that takes (B, F, T) to (B, T, F)."""
    return Step(lambda x: layer(x.transpose(1, 2)).transpose(1, 2), layer)


def _convolution(rng: np.random.Generator, F_in: int) -> tuple[Step, int]:
    groups = int(rng.choice([1, 1, F_in] + [2] * (F_in % 2 == 0)))
    F_out = groups * int(rng.integers(1, 9)) if groups < F_in or rng.random() < 0.5 else F_in
    kernel, dilation = int(rng.integers(1, 5)), int(rng.integers(1, 3))
    padding = int(rng.integers(0, 3)) if kernel == 1 or rng.random() < 0.7 else dilation * (kernel - 1)
    layer = nn.Conv1d(
        F_in, F_out, kernel, int(rng.integers(1, 3)), padding, dilation, groups, bool(rng.random() < 0.8)
    )
    return _over_time(layer), F_out


def _recurrent(rng: np.random.Generator, F_in: int) -> tuple[Step, int]:
    kind, H = [nn.RNN, nn.LSTM, nn.GRU][rng.integers(3)], int(rng.choice([1, 7, 16, 33]))
    both = bool(rng.random() < 0.4)
    layer = kind(F_in, H, int(rng.integers(1, 3)), bidirectional=both, batch_first=True)
    return Step(lambda x: layer(x)[0], layer), H * (1 + both)


def _norm(rng: np.random.Generator, F_in: int) -> tuple[Step, int]:
    kind = rng.integers(4)
    if kind == 0:
        layer = nn.LayerNorm(F_in)
        return Step(layer, layer), F_in
    layer = [nn.BatchNorm1d(F_in), nn.InstanceNorm1d(F_in, affine=True), nn.GroupNorm(1, F_in)][kind - 1]
    for parameter in layer.state_dict().values():
        if parameter.dtype == torch.float32:
            parameter.copy_(torch.rand(parameter.shape) + 0.5)
    return _over_time(layer), F_in


def _pooling(rng: np.random.Generator, F_in: int) -> tuple[Step, int]:
    kernel = int(rng.integers(2, 4))
    pooling = [nn.MaxPool1d(kernel, 2, kernel // 2), nn.AvgPool1d(kernel, 1)][rng.integers(2)]
    return _over_time(pooling), F_in


def standardized(x: Tensor) -> Tensor:
    """A normalization that is written out; the exporter writes its operations."""
    centered = x - x.mean(-1, True)
    return centered / torch.sqrt((centered**2).mean(-1, True) + 1e-5)


def _cell(rng: np.random.Generator, F_in: int) -> tuple[Step, int]:
    """The first steps of a cell, unrolled."""
    H = int(rng.choice([1, 7, 16, 33]))
    if rng.random() < 0.5:
        gru = nn.GRUCell(F_in, H)

        def run_gru(x: Tensor) -> Tensor:
            h, steps = torch.tanh(x[:, 0, :1]).repeat(1, H), []
            for t in range(min(4, x.shape[1])):
                h = gru(x[:, t], h)
                steps.append(h)
            return torch.stack(steps, 1)

        return Step(run_gru, gru), H
    lstm = nn.LSTMCell(F_in, H)

    def run_lstm(x: Tensor) -> Tensor:
        h = c = torch.tanh(x[:, 0, :1]).repeat(1, H)
        steps = []
        for t in range(min(4, x.shape[1])):
            h, c = lstm(x[:, t], (h, c))
            steps.append(h)
        return torch.stack(steps, 1)

    return Step(run_lstm, lstm), H


def _elementwise(rng: np.random.Generator, F_in: int) -> tuple[Step, int]:
    functions: list[Callable[[Tensor], Tensor]] = [
        *(torch.relu, torch.tanh, torch.sigmoid, F.gelu, F.silu, F.elu, F.softplus, F.hardtanh, torch.abs),
        *(F.mish, F.hardswish, lambda x: F.gelu(x, approximate="tanh"), lambda x: x * torch.sigmoid(1.7 * x)),
        *(standardized, lambda x: x * torch.rsqrt((x * x).mean(-1, True) + 1e-5)),
        *(lambda x: x * x + 0.5, lambda x: torch.sqrt(x.abs() + 0.1), lambda x: 1 / (x.abs() + 0.5)),
        *(lambda x: x.clamp(-0.3, 0.9), lambda x: torch.cat([x, -x], -1)[..., ::2], lambda x: x.flip(1)),
        *(
            lambda x: torch.maximum(x, -0.5 * x),
            lambda x: F.leaky_relu(x, 0.2),
            lambda x: x - x.mean(1, True),
        ),
        *(lambda x: torch.softmax(x, -1), lambda x: x * x.amax(-1, True), lambda x: F.pad(x, (0, 0, 1, 2))),
    ]
    return Step(functions[rng.integers(len(functions))]), F_in


def _linear(rng: np.random.Generator, F_in: int) -> tuple[Step, int]:
    F_out = int(rng.integers(1, 20))
    layer = nn.Linear(F_in, F_out, bool(rng.random() < 0.8))
    return Step(layer, layer), F_out


def _attention(rng: np.random.Generator, F_in: int) -> tuple[Step, int]:
    query, key = nn.Linear(F_in, 8), nn.Linear(F_in, 8)

    def attend(x: Tensor) -> Tensor:
        weights = torch.softmax(query(x) @ key(x).transpose(1, 2) / 8**0.5, -1)
        return x + weights @ x

    return Step(attend, query, key), F_in


def _residual(rng: np.random.Generator, F_in: int) -> tuple[Step, int]:
    layer = nn.Linear(F_in, F_in)
    return Step(lambda x: x + torch.tanh(layer(x)), layer), F_in


HEADS: list[Callable[[Tensor], Any]] = [
    *(lambda x: x, lambda x: x[:, -1], lambda x: x.mean(1), lambda x: x.amax(1), lambda x: x.sum(-1)),
    *(lambda x: (x[:, 0], x.transpose(1, 2)), lambda x: x.flatten(1), lambda x: x.unbind(1)[0]),
]


class Random(nn.Module):
    """A random sequence of steps on a combination of two inputs, and a random head."""

    def __init__(self, rng: np.random.Generator, features: int) -> None:
        super().__init__()
        kinds = [
            _convolution,
            _recurrent,
            _norm,
            _pooling,
            _elementwise,
            _elementwise,
            _linear,
            _attention,
            _residual,
            _cell,
        ]
        steps = []
        for _ in range(int(rng.integers(2, 7))):
            step, features = kinds[rng.integers(len(kinds))](rng, features)
            steps.append(step)
        recurrent, features = _recurrent(rng, features)
        steps.append(recurrent)
        self.steps, self.head = nn.Sequential(*steps), HEADS[rng.integers(len(HEADS))]

    def forward(self, x: Tensor, scale: Tensor) -> Any:
        return self.head(self.steps(x * scale + x))


def random_module(seed: int) -> tuple[nn.Module, dict[str, NDArray[Any]]]:
    """Return a random module and its inputs."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    features = int(rng.integers(1, 12))
    batch, steps = int(rng.choice([1, 2, 5])), int(rng.integers(12, 40))
    return Random(rng, features), inputs_of({"x": (batch, steps, features), "scale": (1, 1, features)}, seed)
