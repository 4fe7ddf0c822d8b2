"""Functions that write into what reshape and its kind return: a view of the memory of a tensor, or a copy."""

from typing import Any

import torch
from torch import nn

VIEWS = """
w
w.transpose(0, 1)
w.transpose(0, 1).transpose(0, 1)
w.permute(2, 0, 1)
w[-1:]
w[:, 1:]
w[:, 1]
w[..., 0]
w[:, ::2]
w.unsqueeze(1)
w.transpose(0, 1) * 1
w.transpose(0, 1).clone()
w[:, 1:] * 1
w.transpose(0, 1) + w[0, 0]
w.transpose(0, 1).contiguous()
w.transpose(0, 1).reshape(-1, 4)
w[:, 1:].flatten(1)
w.transpose(1, 2) * torch.ones(1, 4, 1)
(w.transpose(1, 2) > 0).to(torch.float32)
""".strip().splitlines()
# of which torch.export fixes the sizes
STEPS = """
torch.rnn_tanh(w, w[None, :, 0], [torch.eye(4) * 2, torch.eye(4)], False, 1, 0.0, False, False, True)[0]
torch.rnn_tanh(w, w[:1, :, :], [torch.eye(4) * 2, torch.eye(4)], False, 1, 0.0, False, False, False)[0]
""".strip().splitlines()
COPIES = """
u.contiguous()
u.reshape(-1)
u.reshape(u.shape)
u.reshape(u.size(0), -1)
u.reshape(-1, u.size(-1))
u.flatten(1)
u.ravel()
""".strip().splitlines()


def code(view: str) -> str:
    """Return a method that writes into each copy of a view, and returns the tensor, the view and the copy."""
    lines, results = [], []
    for i, copy in enumerate(COPIES):
        lines += ["w = x.clone()", f"u = {view}", f"t = {copy}", "t.mul_(3)", "w[:1] += 1"]
        lines += [f"w{i} = w + 0", f"u{i} = u + 0", f"t{i} = t + 0"]
        results += [f"w{i}", f"u{i}", f"t{i}"]
    body = "\n".join(f"    {line}" for line in (*lines, f"return {', '.join(results)}"))
    return f"def forward(self, x):\n{body}\n"


def module(view: str) -> nn.Module:
    """Return a module with that method."""
    names: dict[str, Any] = {"torch": torch}
    exec(code(view), names)
    return type("Copies", (nn.Module,), {"forward": names["forward"]})()  # type: ignore[no-any-return]
