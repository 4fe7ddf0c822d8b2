"""PyTorch modules for exported programs: layers, attention, state, control flow."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .exported_functions import FUNCTIONS, Case, Function, of
from .exported_rarities import RARITIES


class First(nn.Module):
    """The first output of a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)[0]


class WithState(nn.Module):
    """A recurrent layer that takes and returns its state."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, state: Any) -> Any:
        return self.module(x, state)


class Cells(nn.Module):
    """A cell in a loop over time."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for step in x.unbind(0):
            state = self.cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs)


class Attention(nn.Module):
    """Self-attention over the outputs of a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.attention = (
            nn.GRU(6, 8, batch_first=True),
            nn.MultiheadAttention(8, 2, batch_first=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return self.attention(y, y, y)[0] + y


class Positional(nn.Module):
    """An embedding plus sinusoids, computed in forward()."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        t = torch.arange(x.shape[1], dtype=torch.float32)[:, None]
        scale = torch.exp(torch.arange(0, 8, 2) * -0.5)
        return x + torch.cat([torch.sin(t * scale), torch.cos(t * scale)], -1)


class Counter(nn.Module):
    """Buffers that each call changes."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)
        self.register_buffer("h", torch.randn(2, 4))
        self.register_buffer("calls", torch.tensor(3))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        self.h.copy_(self.cell(x, self.h))
        return self.h * self.calls


class Containers(nn.Module):
    """Nested inputs and outputs."""

    def forward(self, x: Tensor, state: Any, options: Any) -> Any:
        h, (c, d) = state
        return {"sum": x + h, "parts": [c * 2, (d, options["scale"] * x)]}, x


class InPlace(nn.Module):
    """Writes into slices, rows, masked elements and views."""

    def forward(self, x: Tensor) -> Any:
        y = torch.zeros(x.shape[0], 6)
        y[:, 1:5] = x
        y[0] = 3.0
        y[:, 2] += 1
        y[:, ::3] = -x[:, :2]
        z = y.view(-1)
        z[1:3] *= 2
        y[y > 2.5] = 9.0
        w = y.t()
        w[1].sub_(5)
        F.relu_(y)
        return y, z.sum(), w.mean(0)


class Branch(nn.Module):
    """A branch on a value, with weights inside."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, self.a, self.b, (x,))


class While(nn.Module):
    """A loop that ends when a value exceeds a limit."""

    def forward(self, x: Tensor) -> Any:
        from torch._higher_order_ops.while_loop import while_loop

        return while_loop(
            lambda i, y: y.abs().sum() < 100,
            lambda i, y: (i + 1, y * 1.5),
            (torch.zeros((), dtype=torch.int64), x),
        )


class Scan(nn.Module):
    """A recurrence written as a scan."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(4, 4) / 2)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        from torch._higher_order_ops.scan import scan

        return scan(lambda h, x: ((h @ self.W + x).tanh(), h * 2), h, x)


class Map(nn.Module):
    """A function of each row."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        from torch._higher_order_ops.map import map

        return map(lambda a, b: (a * b).cumsum(0), x, y)


class Spectrum(nn.Module):
    """STFT, magnitude, and the inverse."""

    def forward(self, x: Tensor) -> Any:
        window = torch.hann_window(16)
        z = torch.stft(x, 16, 4, window=window, return_complex=True)
        return z.abs(), torch.istft(z * 2, 16, 4, window=window)


def _x(*shape: int) -> Callable[[], tuple[Any, ...]]:
    return lambda: (torch.randn(*shape),)


def _states(*shapes: tuple[int, ...]) -> Callable[[], tuple[Any, ...]]:
    return lambda: tuple(torch.randn(*shape) for shape in shapes)


B = {0: (0,)}
RECURRENT = {
    "LSTM": Case(lambda: First(nn.LSTM(5, 7)), _x(9, 3, 5), {0: (1,)}),
    "LSTM of two layers, bidirectional": Case(
        lambda: First(nn.LSTM(5, 7, 2, bidirectional=True, batch_first=True, dropout=0.5)), _x(3, 9, 5), B
    ),
    "LSTM without bias": Case(lambda: First(nn.LSTM(5, 7, bias=False)), _x(9, 3, 5), {0: (1,)}),
    "LSTM with projection": Case(lambda: First(nn.LSTM(5, 7, 2, proj_size=3)), _x(9, 3, 5), {0: (1,)}),
    "LSTM with state": Case(
        lambda: WithState(nn.LSTM(5, 7, 2)),
        lambda: (torch.randn(4, 3, 5), (torch.randn(2, 3, 7), torch.randn(2, 3, 7))),
    ),
    "LSTM unbatched": Case(lambda: First(nn.LSTM(5, 7)), _x(9, 5)),
    "LSTM of one unit": Case(lambda: First(nn.LSTM(5, 1)), _x(1, 1, 5)),
    "LSTM in float64": Case(lambda: First(nn.LSTM(5, 7).double()), lambda: (torch.randn(6, 2, 5).double(),)),
    "GRU": Case(lambda: First(nn.GRU(5, 7)), _x(9, 3, 5), {0: (1,)}),
    "GRU bidirectional": Case(
        lambda: First(nn.GRU(5, 7, 3, bidirectional=True, batch_first=True)), _x(3, 9, 5), B
    ),
    "GRU with state": Case(lambda: WithState(nn.GRU(5, 7)), _states((4, 3, 5), (1, 3, 7))),
    "RNN": Case(lambda: First(nn.RNN(5, 7, 2)), _x(9, 3, 5), {0: (1,)}),
    "RNN of relu": Case(
        lambda: First(nn.RNN(5, 7, nonlinearity="relu", bidirectional=True)), _x(9, 3, 5), {0: (1,)}
    ),
    "LSTMCell": Case(lambda: Cells(nn.LSTMCell(5, 7)), _x(4, 3, 5), {0: (1,)}),
    "GRUCell": Case(lambda: Cells(nn.GRUCell(5, 7, bias=False)), _x(4, 3, 5), {0: (1,)}),
    "RNNCell": Case(lambda: Cells(nn.RNNCell(5, 7, nonlinearity="relu")), _x(4, 3, 5), {0: (1,)}),
}
LAYERS = {
    "Linear": Case(lambda: nn.Linear(5, 3), _x(4, 2, 5), {0: (0, 1)}),
    "Bilinear": Case(lambda: Function(nn.Bilinear(3, 4, 2)), _states((5, 3), (5, 4))),
    "Embedding": Case(
        lambda: nn.Embedding(9, 4, padding_idx=2), lambda: (torch.randint(0, 9, (3, 6)),), {0: (0, 1)}
    ),
    "Conv1d": Case(lambda: nn.Conv1d(4, 6, 3, 2, 1, groups=2), _x(3, 4, 17), {0: (0, 2)}),
    "Conv1d same": Case(lambda: nn.Conv1d(4, 6, 4, padding="same", dilation=2), _x(3, 4, 17), B),
    "Conv1d circular": Case(lambda: nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular"), _x(3, 4, 17), B),
    "Conv1d unbatched": Case(lambda: nn.Conv1d(4, 6, 3), _x(4, 17)),
    "Conv2d": Case(lambda: nn.Conv2d(2, 4, (3, 2), (1, 2), dilation=(2, 1)), _x(3, 2, 9, 8), B),
    "Conv3d": Case(lambda: nn.Conv3d(2, 3, 2), _x(2, 2, 4, 5, 6), B),
    "ConvTranspose1d": Case(lambda: nn.ConvTranspose1d(4, 6, 4, 2, 1, 1, groups=2), _x(3, 4, 9), B),
    "ConvTranspose2d": Case(lambda: nn.ConvTranspose2d(2, 3, 3, 2), _x(2, 2, 5, 4), B),
    "MaxPool1d": Case(lambda: nn.MaxPool1d(3, 2, 1, ceil_mode=True), _x(3, 4, 12), B),
    "MaxPool2d with indices": Case(lambda: nn.MaxPool2d(2, return_indices=True), _x(2, 3, 6, 8), B),
    "AvgPool1d": Case(lambda: nn.AvgPool1d(3, 2, 1), _x(3, 4, 11), B),
    "AvgPool2d": Case(lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), _x(3, 4, 11, 9), B),
    "AdaptiveAvgPool1d": Case(lambda: nn.AdaptiveAvgPool1d(4), _x(3, 4, 11), B),
    "AdaptiveAvgPool2d": Case(lambda: nn.AdaptiveAvgPool2d(1), _x(3, 4, 11, 7), B),
    "BatchNorm1d": Case(lambda: nn.BatchNorm1d(4), _x(3, 4, 7), {0: (0, 2)}),
    "BatchNorm2d": Case(lambda: nn.BatchNorm2d(4, affine=False), _x(3, 4, 7, 5), B),
    "LayerNorm": Case(lambda: nn.LayerNorm(6), _x(3, 4, 6), {0: (0, 1)}),
    "LayerNorm over two axes": Case(lambda: nn.LayerNorm((4, 6), bias=False), _x(3, 4, 6), B),
    "RMSNorm": Case(lambda: nn.RMSNorm(6), _x(3, 4, 6), B),
    "GroupNorm": Case(lambda: nn.GroupNorm(2, 6), _x(3, 6, 9), B),
    "InstanceNorm1d": Case(lambda: nn.InstanceNorm1d(4, affine=True), _x(3, 4, 9), B),
    "Upsample nearest": Case(lambda: nn.Upsample(scale_factor=2.0), _x(2, 3, 7), B),
    "Upsample linear": Case(lambda: nn.Upsample(size=11, mode="linear"), _x(2, 3, 7), B),
    "Upsample bilinear": Case(
        lambda: nn.Upsample(scale_factor=(2.0, 3.0), mode="bilinear", align_corners=True), _x(2, 3, 5, 4), B
    ),
    "PixelShuffle": Case(lambda: nn.PixelShuffle(2), _x(2, 8, 3, 4), B),
    "MultiheadAttention": Case(Attention, _x(3, 5, 6), B),
    "TransformerEncoderLayer": Case(
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), _x(3, 5, 8), B
    ),
    "TransformerDecoderLayer": Case(
        lambda: Function(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)),
        _states((3, 5, 8), (3, 4, 8)),
    ),
    "weight norm": Case(lambda: nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 3)), _x(2, 3, 7), B),
    "weight norm of an LSTM": Case(
        lambda: First(nn.utils.parametrizations.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")), _x(4, 2, 3)
    ),
    "EmbeddingBag": Case(lambda: nn.EmbeddingBag(9, 4, mode="mean"), lambda: (torch.randint(0, 9, (3, 6)),)),
    "positions": Case(Positional, lambda: (torch.randint(0, 20, (3, 6)),), {0: (0, 1)}),
    "activations": of(
        lambda x: [
            f(x)
            for f in (
                F.relu,
                F.relu6,
                F.silu,
                F.mish,
                F.selu,
                F.celu,
                F.elu,
                F.gelu,
                F.hardswish,
                F.hardsigmoid,
                F.hardtanh,
                F.leaky_relu,
                F.softplus,
                F.softsign,
                F.logsigmoid,
                F.tanhshrink,
                F.softshrink,
                F.hardshrink,
                torch.sigmoid,
                torch.tanh,
                F.glu,
            )
        ],
        (3, 6),
    ),
    "activations with options": of(
        lambda x: (
            F.gelu(x, approximate="tanh"),
            F.softplus(x, 2.0),
            F.elu(x, 0.5),
            F.threshold(x, 0.1, -2.0),
            F.leaky_relu(x, 0.3),
            F.softmin(x, 0),
            F.prelu(x, torch.tensor([0.2])),
        ),
        (3, 6),
    ),
}
WHOLES = {
    "containers": Case(
        Containers,
        lambda: (
            torch.randn(2, 3),
            (torch.randn(2, 3), (torch.randn(1), torch.randn(2))),
            {"scale": torch.randn(3)},
        ),
    ),
    "in place": Case(InPlace, _x(5, 4), B),
    "branch": Case(Branch, _x(5, 4), B),
    "while": Case(While, _x(5, 4)),
    "scan": Case(Scan, _states((5, 3, 4), (3, 4))),
    "long scan": Case(Scan, _states((40, 3, 4), (3, 4))),
    "map": Case(Map, _states((5, 4), (4,))),
    "spectrum": Case(Spectrum, _x(2, 64)),
}
CASES = RECURRENT | LAYERS | FUNCTIONS | RARITIES | WHOLES
