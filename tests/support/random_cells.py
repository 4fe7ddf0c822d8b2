"""Random recurrent PyTorch modules that are loops of cells, or of the equations of one, as source code."""

import io
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

INPUTS, UNITS, OUTPUTS = 3, 5, 4

# What a loop begins with: the expression of a state (B, H).
STATES = [
    "torch.zeros(B, H)", "x.new_zeros(B, H)", "torch.full((B, H), 0.3)", "torch.ones(B, H) / 3",
    "torch.zeros_like(self.inner(FIRST))", "self.start.expand(B, H)", "self.start.repeat(B, 1)",
    "torch.tanh(self.inner(FIRST))", "torch.zeros(B, 1).expand(B, H)",
    "torch.sigmoid(torch.ones(B, H) * 0.3)", "torch.exp(torch.zeros(B, H) - 0.7)",
    "torch.tanh(self.start).expand(B, H)", "FIRST[:, :1] * torch.zeros(H)",
    "torch.tanh(self.inner(torch.ones(B, I) / 3))", "torch.softmax(self.R(self.start.expand(B, H)), 1)",
    "self.norm(self.start.expand(B, H).clone())", "self.R(torch.eye(H)[torch.zeros(B).long()])",
    "torch.arange(B * H).view(B, H).remainder(H) * 0.3",
]  # fmt: skip
# A step: the statements that compute the next h from z (B, H).
STEPS = {
    "LSTMCell": ["h, c = self.cell(z, (h, c))"],
    "GRUCell": ["h = self.cell(z, h)"],
    "RNNCell": ["h = self.cell(z, h)"],
    "vanilla": ["h = torch.tanh(self.W(z) + self.R(h))"],
    "joined": ["h = torch.tanh(self.J(torch.cat([z, h], 1)))"],
    "leaky": ["h = 0.9 * h + 0.1 * torch.relu(self.R(h) + z)"],
    "gru": [
        "r, u, n = self.W3(z).chunk(3, 1)",
        "a, b, d = self.R3(h).chunk(3, 1)",
        "u = torch.sigmoid(u + b)",
        "h = u * h + (1 - u) * torch.tanh(n + torch.sigmoid(r + a) * d)",
    ],
    "minimal": [
        "f = torch.sigmoid(self.J(torch.cat([h, z], 1)))",
        "h = (1 - f) * h + f * torch.tanh(self.W(z) + self.R(f * h))",
    ],
    "lstm": [
        "i, f, g, o = torch.split(self.W4(z) + self.R4(h), [H, H, H, H], 1)",
        "c = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(g)",
        "h = torch.sigmoid(o) * torch.tanh(c)",
    ],
    "matmul": ["h = torch.tanh(torch.addmm(self.start, h, self.M) + z @ self.M)"],
    "normalized": ["h = self.norm(torch.tanh(self.W(z) + self.R(h)))"],
}
# What a step reads: the statements that compute z from the input, the output before or all inputs.
READS = {
    "input": ["z = self.inner(STEP)"],
    "output": ["z = self.inner(STEP) + self.back(y)"],
    "attention": [
        "weights = torch.softmax((keys * h.unsqueeze(1)).sum(2), 1)",
        "z = self.inner(STEP) + (weights.unsqueeze(2) * keys).sum(1)",
    ],
}
# What is done with the output of a step.
CHANGES = [
    "",
    "",
    "",
    " * (1 / H ** 0.5)",
    " * torch.tensor(float(B)).clamp(max=1).exp()",
    " + torch.zeros(B, O)",
]


class RandomCells:
    """The source code of a module from x (B, T, I) to (B, T, O), or to the last step (B, O) if `is_last`.

    If it is `causal`, no step depends on a later one.
    """

    def __init__(self, seed: int) -> None:
        rng, self._seed = np.random.default_rng(seed), seed

        def pick(choices: list[str]) -> str:
            return choices[rng.integers(len(choices))]

        self._step, read = pick([*STEPS]), pick(["input", "input", "output", "attention"])
        self.causal, self.is_last = read != "attention", rng.random() < 0.2
        time, unbinds = int(rng.random() < 0.7), rng.random() < 0.3
        at = ("x[{}]", "x[:, {}]")[time]
        h, c, y = (pick(STATES).replace("FIRST", at.format(0)) for _ in range(3))
        body = [line.replace("STEP", "step" if unbinds else at.format("t")) for line in READS[read]]
        body += [*STEPS[self._step], f"y = self.outer(h){pick(CHANGES)}", "ys.append(y)"]
        lines = [
            f"I, H, O = {INPUTS}, {UNITS}, {OUTPUTS}",
            "keys = self.inner(x)",
            *([] if time else ["x = x.transpose(0, 1)"]),
            f"B, T = x.size({1 - time}), x.size({time})",
            f"h = {h}",
            f"c = {c}",
            f"y = ({y})[:, :1].expand(B, O)",
            "ys = []",
            f"for step in x.unbind({time}):" if unbinds else "for t in range(T):",
            *(f"    {line}" for line in body),
            "return y" if self.is_last else "return torch.stack(ys, 1)",
        ]
        self.code = "def forward(self, x):\n" + "".join(f"    {line}\n" for line in lines)

    def module(self, folder: Path) -> nn.Module:
        """Return the module, whose code is a file in a folder: torch.jit.script reads that."""
        path = folder / f"cells_{self._seed}.py"
        head = "import torch\nfrom torch import nn\n\n\nclass Cells(nn.Module):\n"
        path.write_text(head + "".join(f"    {line}\n" for line in self.code.splitlines()))
        spec = spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        loaded = module_from_spec(spec)
        spec.loader.exec_module(loaded)
        torch.manual_seed(self._seed)
        module, H = loaded.Cells(), UNITS
        if self._step.endswith("Cell"):
            module.cell = getattr(nn, self._step)(H, H)
        sizes = {"inner": (INPUTS, H), "outer": (H, OUTPUTS), "back": (OUTPUTS, H), "J": (2 * H, H)}
        sizes |= {
            "W": (H, H),
            "R": (H, H),
            "W3": (H, 3 * H),
            "R3": (H, 3 * H),
            "W4": (H, 4 * H),
            "R4": (H, 4 * H),
        }
        for name, (inputs, outputs) in sizes.items():
            setattr(module, name, nn.Linear(inputs, outputs))
        module.norm = nn.LayerNorm(H)
        module.start, module.M = nn.Parameter(torch.randn(1, H)), nn.Parameter(torch.randn(H, H) / 2)
        result: nn.Module = module.eval()
        return result


def _scripted(module: nn.Module, x: Tensor) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    return file.getvalue()


def _traced(module: nn.Module, x: Tensor) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, x, check_trace=False), file)
    return file.getvalue()


def _exported(module: nn.Module, x: Tensor) -> bytes:
    file, batch = io.BytesIO(), torch.export.Dim.AUTO
    torch.export.save(torch.export.export(module, (x,), dynamic_shapes=({0: batch},)), file)
    return file.getvalue()


def _onnx(module: nn.Module, x: Tensor) -> bytes:
    file, axes = io.BytesIO(), {"x": {0: "batch"}}
    torch.onnx.export(
        module, (x,), file, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes=axes
    )
    return file.getvalue()


# Each format writes a module, given an example of its input; all but the first fix the number of steps.
FORMATS: dict[str, Callable[[nn.Module, Tensor], bytes]] = {
    "scripted": _scripted, "traced": _traced, "exported": _exported, "onnx": _onnx,
}  # fmt: skip


def shapes(seed: int, steps: list[int], count: int) -> list[tuple[int, int]]:
    """Batches and numbers of steps in random order."""
    pairs: Any = [(B, T) for B in (1, 2, 3, 5) for T in steps]
    return [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))[:count]]
