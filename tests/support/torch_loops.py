"""PyTorch modules with loops over time that are written by hand."""

import torch
from torch import Tensor, nn


class CellLoop(nn.Module):
    """A loop over time with an LSTM cell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(1), 4)
        c = torch.zeros(x.size(1), 4)
        outputs = []
        for t in range(x.size(0)):
            h, c = self.cell(x[t], (h, c))
            outputs.append(h)
        return torch.stack(outputs)


class GRULoop(nn.Module):
    """A loop over time with a GRU cell, backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[1], 4)
        for t in range(x.shape[0] - 1, -1, -1):
            h = self.cell(x[t], h)
        return h


class RNNLoop(nn.Module):
    """A loop over time with a vanilla cell."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(3, 4, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[1], 4)
        for step in x.unbind(0):
            h = self.cell(step, h)
        return h


class WrittenSteps(nn.Module):
    """A loop that writes each of its steps into a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros(x.size(0), x.size(1), 4)
        h = torch.zeros(x.size(1), 4)
        for t in range(x.size(0)):
            h = self.cell(x[t], h)
            y[t] = h
        return y


class OptionalState(nn.Module):
    """A loop over the last axis but one whose state is None before the first iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        state: tuple[Tensor, Tensor] | None = None
        y: list[Tensor] = []
        for step in x.unbind(1):
            if state is None:
                state = (torch.zeros(x.size(0), 4), torch.ones(x.size(0), 4))
            state = self.cell(step, state)
            y += [state[0].unsqueeze(1)]
        return torch.cat(y, 1)


class BothDirections(nn.Module):
    """Two loops; the second one runs backwards over what the first one collected."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.back = nn.RNNCell(3, 4), nn.RNNCell(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h, g = torch.zeros(x.size(1), 4), torch.zeros(x.size(1), 4)
        forth: list[Tensor] = []
        back: list[Tensor] = []
        for t in range(x.size(0)):
            h = self.cell(x[t], h)
            forth.append(h)
        for t in range(len(forth) - 1, -1, -1):
            g = self.back(forth[t], g)
            back.insert(0, g)
        forth.append(h)
        return torch.stack(forth) + torch.stack(back + back[-1:]) * len(back)


class StatesInList(nn.Module):
    """A loop with a list of states, one per layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.GRUCell(3, 3), nn.GRUCell(3, 3)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        states = [torch.zeros(x.size(1), 3), torch.ones(x.size(1), 3)]
        y = torch.zeros(x.size(1), 3)
        for t in range(x.size(0)):
            y = x[t]
            for i, layer in enumerate(self.layers):
                y = layer(y, states[i])
                states[i] = y
        return y, torch.stack(states)


class FirstLoudStep(nn.Module):
    """A loop that returns as soon as a step is loud, which depends on its values."""

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.zeros(x.size(1), x.size(2))
        i = 0
        while i < x.size(0):
            seen = seen + x[i] * i
            if float(seen.sum()) > 0.5:
                return seen
            i += 1
        return -seen
