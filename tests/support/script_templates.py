"""What random modules for torch.jit.script are made of: code with fields to fill in."""

HEADER = """
from typing import Dict, Final, List, NamedTuple, Optional, Tuple
import torch
from torch import Tensor, nn
from torch.nn import functional as F

class Pair(NamedTuple):
    left: Tensor
    right: Tensor

def squash(x: Tensor, factor: float = 0.5, mode: str = "tanh") -> Tensor:
    if mode == "tanh":
        return torch.tanh(x * factor)
    elif mode == "relu":
        return torch.relu(x) * factor
    else:
        raise ValueError(f"unknown mode {mode}")

class Helper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.gain = 0.7

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    @torch.jit.export
    def scaled(self, x: Tensor, by: float = 2.0, other: Optional[Tensor] = None) -> Tensor:
        y = self.forward(x) * by * self.gain
        if other is not None:
            y = y - other
        return y
"""

CLASS = """
class M{seed}(nn.Module):
    N: Final[int]
    hidden: Optional[Tensor]
    sizes: List[int]

    def __init__(self) -> None:
        super().__init__()
        self.N = {n}
        self.flag = {flag}
        self.kind = {kind!r}
        self.sizes = [1, {n}]
        self.count = 0
        self.hidden = None
        self.linear = nn.Linear(3, 3)
        self.cell = nn.{cell}(3, 3)
        self.helper = Helper()
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 3, bias=False)])
        self.register_buffer("total", torch.full((3,), 0.5))

    def forward(self, x: Tensor, y: Tensor{parameters}) -> {returns}:
{body}
"""

# What the random choices write; a, b: variables or expressions (B, C); k: a number; c: a condition.
EXPRESSIONS = """
torch.tanh({a}); ({a} + {b}); ({a} * {b} * 0.5); self.linear({a}); torch.sigmoid({a} - {b}); F.relu({a})
torch.where({a} > 0, {b}, {a} * 0.1); torch.cat([{a}, {b}], 1)[:, {k}:{k} + 3]; ({a}).clamp(-1, 1.5)
({a} - {b}.mean(1, keepdim=True)); torch.max({a}, {b}); ({a})[:, :1] * {b}; torch.softmax({a}, dim=-1)
torch.stack([{a}, {b}]).sum(0); squash({a}); squash({a}, mode='relu', factor=0.{k}); self.helper({a})
self.helper.scaled({a}, by=0.{k}); self.helper.scaled({a}, 0.5, {b}); x[0] + {a}; x[-1] * {a}; x.mean(0) + {a}
x[: {k}].sum(0) + {a}; x[-{k} - 1:].sum(dim=0); ({a} if {c} else {b}); ({a}).t().contiguous().t()
({a}).view(-1).view({b}.size(0), -1); ({a})[:, [2, 0, 1]]; ({a}).flip(1); ({a}) / (1 + {b}.abs())
({a}).unsqueeze(1).expand(-1, 2, -1).reshape(-1, 2, 3)[:, 1]; ({a}).chunk(3, 1)[{k}] + {b}
torch.zeros_like({a}) + {b}; ({a}).masked_fill({b} > 0.3, 0.25); ({a}).transpose(0, 1).t(); ({a}).cumsum(1)
({a}) * {b}.size(0) - {k}; ({a}) + {k} // 2 + {k}.5; ({a}).squeeze(-1) * 2; ({a}) @ self.linear.weight
torch.einsum('bi,bi->b', {a}, {b}).unsqueeze(1) + {b}; self.cell({a}, {b}); {a} + torch.arange(3) * 0.1
({a}).gather(1, {b}.argsort(1)) * 0.5; ({a}).double().float()
x.permute(1, 0, 2).reshape(x.size(1), -1)[:, :3] + {b}
"""
CONDITIONS = """
x.size(0) > {k}; x.shape[0] == {k}; {a}.size(0) <= {k}; self.flag; not self.flag; self.N == {k}
self.kind == 'a'; self.kind in ['b', 'c']; self.N > 1 and x.size(0) > {k}; bool({a}.sum() > 0)
float({a}.mean()) < 0.1; ({a} > 1.5).any(); {a}.max().item() > 0.5; {a}.dim() == 2; x.size(0) % 2 == {k} % 2
self.flag or bool(({a} > 0).all()); {a}.numel() > 3 * {k}; isinstance({a}, Tensor); len(self.sizes) > {k} - 1
{a}.dtype == torch.float32; x.is_cuda and {k} > 2
"""
WRITES = """
{a}.add_({b}); {a} *= 0.5; {a}[:, 1:] += {b}[:, 1:]; {a}[0] = {b}[0]; {a}[:, 0].mul_(2); {a}[{a} > 0.5] = 0.1
{a}.masked_fill_({b} > 0, 0.2); {a}[:, ::2] = 1; {a}[..., -1] = {b}.sum(1); {a}.clamp_(min=-0.5); {a}.zero_()
{a}[:1, :2] = {b}[:1, 1:]; {a}.copy_({b}); {a} -= {b}.mean(); {a}.t()[1].add_({b}[:, 0])
{a}.view(-1)[0] = 0.3; {a}.select(1, 2).sub_(1); {a}.narrow(1, 0, 2).relu_(); {a}.fill_({a}.mean().item())
"""
