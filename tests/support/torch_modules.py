"""PyTorch modules of the kinds that recurrent models consist of, which TorchScript can compile."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Tagger(nn.Module):
    """Embeds words, runs a recurrent layer, and scores tags."""

    def __init__(self, kind: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 5, padding_idx=0)
        self.recurrent = kind(5, 7, batch_first=True, **options)
        self.head = nn.Linear(14 if options.get("bidirectional") else 7, 3)

    def forward(self, words: Tensor) -> Tensor:
        y, _ = self.recurrent(self.embedding(words))
        return self.head(y)


class WithState(nn.Module):
    """An LSTM whose states are inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, 2)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.lstm(x, (h, c))
        return y, h, c


class NestedState(nn.Module):
    """A GRU whose state is in a tuple of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, h = self.gru(x, h)
        return y, (h, y.sum(0))


class Packed(nn.Module):
    """A recurrent layer over packed sequences of any order, up to the longest one or all steps."""

    def __init__(
        self, kind: type[nn.Module], padding: float = 0.0, is_whole: bool = False, **options: Any
    ) -> None:
        super().__init__()
        self.recurrent, self.padding = kind(3, 4, bidirectional=True, **options), padding
        self.is_whole = is_whole
        self.batch_first: bool = options.get("batch_first", False)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        packed = pack_padded_sequence(x, lengths, batch_first=self.batch_first, enforce_sorted=False)
        y, _ = self.recurrent(packed)
        total = x.size(1 if self.batch_first else 0) if self.is_whole else None
        padded, counts = pad_packed_sequence(y, self.batch_first, self.padding, total)
        return padded, counts


class SequenceToSequence(nn.Module):
    """An encoder, and a decoder with attention that takes its own choices."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(3, 6, batch_first=True)
        self.cell = nn.GRUCell(6 + 4, 6)
        self.embedding = nn.Embedding(5, 4)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, h = self.encoder(x)
        h = h[0]
        word = torch.zeros(x.shape[0], dtype=torch.long)
        scores = []
        for _ in range(4):
            weights = torch.softmax(torch.bmm(y, h.unsqueeze(2)).squeeze(2), dim=1)
            context = torch.bmm(weights.unsqueeze(1), y).squeeze(1)
            h = self.cell(torch.cat([context, self.embedding(word)], 1), h)
            logits = self.head(h)
            scores.append(logits)
            word = logits.argmax(1)
        return torch.stack(scores, 1)


class Attention(nn.Module):
    """Additive attention over the outputs of a recurrent layer, with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        self.score = nn.Linear(8, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        scores = self.score(torch.tanh(y)).squeeze(-1).masked_fill(~mask, -1e9)
        return (F.softmax(scores, dim=-1).unsqueeze(-1) * y).sum(1)


class SelfAttention(nn.Module):
    """nn.MultiheadAttention with a mask of keys."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x)
        return y


class DotProduct(nn.Module):
    """F.scaled_dot_product_attention, causal."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Residual(nn.Module):
    """Convolutions with residual connections."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(4, 4, 3, padding=1)
        self.second = nn.Conv1d(4, 4, 3, padding=2, dilation=2)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.second(F.relu(self.first(x))))


class Separable(nn.Module):
    """A depthwise and a pointwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4, padding="same")
        self.pointwise = nn.Conv2d(4, 6, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.hardswish(self.pointwise(self.depthwise(x)))


class Recognizer(nn.Module):
    """A convolutional front end, then recurrent layers over its columns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.lstm = nn.LSTM(16, 5, bidirectional=True)
        self.head = nn.Linear(10, 7)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        B, C, H, W = y.shape
        y = y.permute(3, 0, 1, 2).reshape(W, B, C * H)
        y, _ = self.lstm(y)
        return F.log_softmax(self.head(y), dim=-1)


class InPlace(nn.Module):
    """Changes views of tensors in place."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        y[:, 0] = 0
        y[1:, 1:3] += 2
        row = y[0]
        row.mul_(3)
        y.transpose(0, 1)[2] = x[:, 0]
        return F.relu(y, inplace=True)


class Statistics(nn.Module):
    """Reductions over axes."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values, places = x.max(dim=1)
        return x.mean(dim=(0, 2)), x.std(dim=-1), values, places


class Sorting(nn.Module):
    """topk, sort and cumsum."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        top, places = torch.topk(x, 2, dim=-1)
        ordered, _ = torch.sort(x, dim=0, descending=True)
        return top + places, ordered, torch.cumsum(x, dim=1)


class Indexing(nn.Module):
    """Slices, masks, gather and advanced indices."""

    def forward(self, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        selected = x[:, places]
        gathered = torch.gather(
            x, 1, places.unsqueeze(0).expand(x.size(0), -1).unsqueeze(-1).expand(-1, -1, x.size(2))
        )
        return selected, gathered, x[:, ::2, -1]


class Lists(nn.Module):
    """Returns a list of chunks."""

    def forward(self, x: Tensor) -> list[Tensor]:
        first, second = torch.chunk(x, 2, dim=-1)
        return [first * 2, second + first]


class Elementwise(nn.Module):
    """Functions of one number."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.exp(-x.abs()) + torch.log1p(x * x) + torch.erf(x) - torch.rsqrt(x * x + 1)
        return torch.where(x > 0, y.clamp(-1, 1), torch.sign(x) * y.pow(2)) + (x % 0.3) // 0.1


class Comparisons(nn.Module):
    """Comparisons and logic."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return ((x > y) & (x != 0) | ~(y >= 1)).to(torch.float32) + (x == y).float()


class Padding(nn.Module):
    """All modes of padding."""

    def forward(self, x: Tensor) -> Tensor:
        constant = F.pad(x, (1, 2), value=0.5)
        parts = [constant, F.pad(x, [1, 2], mode="reflect"), F.pad(x, [1, 2], mode="replicate")]
        parts.append(F.pad(x, [1, 2], mode="circular"))
        return torch.cat(parts, 1)


class Shapes(nn.Module):
    """Views, repetitions and permutations."""

    def forward(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        y = x.reshape(B * T, -1).view(B, T, -1).permute(2, 0, 1).contiguous()
        y = torch.stack([y, y.flip(2)], 0).flatten(0, 1)
        return torch.cat([y, y.repeat(1, 1, 2)], 2).squeeze(0).roll(1, 0)


class Einsum(nn.Module):
    """torch.einsum and matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("btc,cd->btd", x, self.weight) + x @ self.weight


class TensorBranch(nn.Module):
    """A branch that depends on the value of a tensor, in a traced model the side of the example."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        if bool(x.sum() > 0):
            y = y + 1
            z = y.mean(0)
        else:
            z = y.sum(0) * 3
        return z + y[0]


class OptionalMask(nn.Module):
    """An optional input that is omitted."""

    def forward(self, x: Tensor, mask: Optional[Tensor] = None) -> Tensor:  # noqa: UP045  # TorchScript
        if mask is not None:
            x = x * mask
        return x.cumsum(0)


class Buffer(nn.Module):
    """A running mean, which each call updates."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return x - self.mean


class Spectrum(nn.Module):
    """An STFT as a convolution, its magnitude, and a log."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", torch.randn(18, 1, 16))

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv1d(F.pad(x.unsqueeze(1), (8, 8), mode="reflect"), self.basis, stride=4)
        return torch.log(torch.sqrt(y[:, :9] ** 2 + y[:, 9:] ** 2) + 1e-5)


class Positions(nn.Module):
    """Sines of positions that are added to a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        T, C = x.size(1), x.size(2)
        places = torch.arange(T, dtype=torch.float32).unsqueeze(1)
        rates = torch.exp(torch.arange(0, C, 2) * (-3.0 / C))
        table = torch.zeros(T, C)
        table[:, 0::2] = torch.sin(places * rates)
        table[:, 1::2] = torch.cos(places * rates)
        return x + table


class CausalMask(nn.Module):
    """Attention with a mask from triu."""

    def forward(self, x: Tensor) -> Tensor:
        T = x.size(1)
        mask = torch.triu(torch.full((T, T), float("-inf")), diagonal=1)
        return torch.softmax(x @ x.transpose(1, 2) / x.size(2) ** 0.5 + mask, -1) @ x


class Dense(nn.Module):
    """Concatenates the outputs of all layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(3, 4), nn.Linear(7, 5)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, torch.tanh(layer(x))], -1)
        return x
