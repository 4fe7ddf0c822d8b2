"""Random causal and multi-rate PyTorch modules over x (batch, channels, time), and U-Nets of them."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """One random operation that keeps the number of channels; it may change the number of steps."""

    def __init__(self, kind: str, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.kind, self.kernel, self.reach = kind, kernel, (kernel - 1) * dilation
        self.conv = nn.Conv1d(channels, channels, kernel, dilation=dilation)
        self.wide = nn.Conv1d(channels, 2 * channels, 1)
        self.norm, self.batch_norm = nn.LayerNorm(channels), nn.BatchNorm1d(channels)
        self.rnn = (nn.GRU if kernel % 2 else nn.LSTM)(channels, channels, batch_first=True)
        self.scale = nn.Parameter(torch.randn(channels, 1))
        self.taps = nn.Parameter(torch.randn(5))
        self.table = nn.Parameter(torch.randn(channels, 200))

    def forward(self, x: Any) -> Any:
        match self.kind:
            case "causal":
                return x + torch.relu(self.conv(F.pad(x, (self.reach, 0))))
            case "chomp":  # pads both sides, and leaves out the end
                y = F.conv1d(x, self.conv.weight, padding=self.reach, dilation=self.conv.dilation)
                return x + y[..., : -self.reach] if self.reach else x + y
            case "centred":
                return x + self.conv(F.pad(x, (self.reach // 2, self.reach - self.reach // 2)))
            case "valid":
                y = self.conv(x)
                return torch.tanh(y) + x[..., self.reach :]
            case "valid, cut to its length":
                y = self.conv(x)
                return torch.tanh(y) * x[..., : y.shape[-1]]
            case "gated":
                return F.glu(self.wide(x), 1)
            case "layer norm":
                return self.norm(x.transpose(1, 2)).transpose(1, 2)
            case "batch norm":
                return self.batch_norm(x)
            case "softmax":
                return torch.softmax(x, 1) * self.scale
            case "recurrent":
                return x + self.rnn(x.transpose(1, 2))[0].transpose(1, 2)
            case "running sum":
                return torch.cumsum(0.1 * x, -1)
            case "running mean":
                return F.avg_pool1d(F.pad(x, (self.kernel - 1, 0)), self.kernel, 1)
            case "running maximum":
                windows = F.pad(x, (self.kernel - 1, 0)).unsqueeze(
                    2
                )  # torch.export fixes those of max_pool1d
                return F.max_pool2d(windows, (1, self.kernel), 1).squeeze(2)
            case "shift":
                zeros = x.new_zeros(x.shape[0], x.shape[1], self.kernel)
                return x - torch.cat([zeros, x[..., : -self.kernel]], -1)
            case "difference":
                return F.pad(x[..., 1:] - x[..., :-1], (1, 0))
            case "broadcast":
                return x * self.scale.expand(-1, x.shape[-1]) + torch.ones_like(x[:, :1])
            case "windows":
                y = F.pad(x, (self.kernel, 0)).unfold(-1, self.kernel + 1, 1)
                return x + y @ self.taps[: self.kernel + 1]
            case "positions":
                return x + self.table[:, : x.shape[-1]]
            case "stacked":
                parts = self.wide(x).view(x.shape[0], 2, x.shape[1], -1)
                return torch.sigmoid(parts[:, 0]) * (parts * x.unsqueeze(1)).flatten(0, 1)[::2]
            case "heads":
                parts = self.wide(x).view(x.shape[0], x.shape[1], 2, x.shape[-1])
                return (torch.softmax(parts, 2) * parts).sum(2)
            case "mean of the sequence":
                return x - x.mean(-1, keepdim=True)
            case _:
                raise ValueError(self.kind)


KINDS = (
    *("causal", "chomp", "centred", "valid", "valid, cut to its length", "gated", "layer norm", "batch norm"),
    *("softmax", "recurrent", "running sum", "running mean", "running maximum", "shift", "difference"),
    *("broadcast", "windows", "positions", "stacked", "heads", "mean of the sequence"),
)


class CausalNet(nn.Module):
    """Random blocks; if `levels`, between strided and transposed convolutions with skip connections."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)

        def pick(*choices: Any) -> Any:
            return choices[int(torch.randint(len(choices), (), generator=generator))]

        self.channels = channels = pick(3, 4)
        self.levels, self.how = pick(0, 0, 1, 2), pick("cut", "cut", "both cut", "padded")

        def block() -> Block:
            return Block(pick(*KINDS), channels, pick(2, 3, 4), pick(1, 2))

        self.first = nn.Sequential(*(block() for _ in range(pick(1, 2, 3))))
        self.inner = nn.Sequential(*(block() for _ in range(pick(0, 1, 2))))
        self.down, self.up, self.after = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for _ in range(self.levels):
            stride, more = pick(2, 3, 4), pick(0, 1, 2)
            kernel = stride + more if self.how != "padded" else stride
            padding = pick(0, 0, 1)
            self.down.append(nn.Conv1d(channels, channels, kernel, stride, padding=padding))
            self.up.append(nn.ConvTranspose1d(channels, channels, kernel, stride, padding=padding))
            self.after.append(block() if pick(0, 1) else nn.Identity())
        self.head = pick("all", "all", "all", "last", "two")

    def forward(self, x: Any) -> Any:
        y, skips = self.first(x), []
        for down in self.down:
            skips.append(y)
            y = torch.relu(down(y))
        y = self.inner(y)
        for up, after in zip(self.up[::-1], self.after, strict=True):
            y, skip = after(up(y)), skips.pop()
            skip = skip[..., : y.shape[-1]]
            if self.how == "both cut":
                y = y[..., : skip.shape[-1]]
            y = y + skip
        match self.head:
            case "last":
                return y[..., -1]
            case "two":
                return y, torch.tanh(x)
        return y


def write(module: CausalNet, path: Path) -> None:
    """Write a module for a batch and sequences of any size: traced if it is recurrent, or else exported.

    torch.export fixes the number of steps of recurrent layers.
    """
    x = torch.randn(2, module.channels, 60)
    is_recurrent = any(getattr(block, "kind", "") == "recurrent" for block in module.modules())
    with torch.no_grad():
        if is_recurrent:
            torch.jit.trace(module, (x,), check_trace=False).save(path)
        else:
            auto = torch.export.Dim.AUTO
            torch.export.save(torch.export.export(module, (x,), dynamic_shapes=({0: auto, 2: auto},)), path)
