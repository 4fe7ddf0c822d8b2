"""Loops of Python over time, as PyTorch traces and exports them, give PyTorch's and onnxruntime's outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from support.randomized import random_cases
from torch import Tensor, nn

import onward
from onward.graph import Model

B, D = 2, 6
UNARY = (torch.tanh, torch.sigmoid, torch.relu, torch.neg)
BINARY = (torch.add, torch.sub, torch.mul, torch.maximum)


class RandomLoop(nn.Module):
    """A loop over the steps of x (B, T, D) with a random body, states, constants and outputs."""

    def __init__(self, seed: int, longest: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.steps, self.count = int(rng.integers(8, longest)), int(rng.integers(1, 4))
        self.places = list(range(self.steps))[:: -1 if rng.integers(4) == 0 else 1]
        choices = [*UNARY, *BINARY, "linear", "norm", "scale", "cell"]
        self.body = [
            (rng.choice(choices), *rng.integers(0, 1 << 16, 2).tolist()) for _ in range(rng.integers(5, 10))
        ]
        self.later = rng.integers(0, len(self.body), self.count).tolist()
        self.output = str(rng.choice(["stack", "cat", "write", "unbind"]))
        self.linear, self.norm, self.cell = nn.Linear(D, D), nn.LayerNorm(D), nn.GRUCell(D, D)
        self.scales = rng.uniform(0.5, 1, self.steps).tolist()

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        states, outputs = [h] * self.count, list[Tensor]()
        written = torch.zeros_like(x)
        parts = x.unbind(1)
        for t in self.places:
            step = parts[t] if self.output == "unbind" else x[:, t]
            values = [step, *states]
            for choice, first, second in self.body:
                a, b = values[first % len(values)], values[second % len(values)]
                values.append(self.computed(choice, a, b, t))
            own = values[1 + self.count :]
            states = [own[place].clamp(-3, 3) for place in self.later]
            if self.output == "write":
                written[:, t] = own[-1]
            outputs.append(own[-1])
        if self.output == "write":
            return written, states[0]
        if self.output == "cat":
            return torch.cat([y.unsqueeze(1) for y in outputs], 1), states[0]
        return torch.stack(outputs, 1), states[0]

    def computed(self, choice: Any, a: Tensor, b: Tensor, t: int) -> Tensor:
        match choice:
            case "linear":
                return torch.tanh(self.linear(a))
            case "norm":
                return self.norm(a)
            case "scale":
                return a * self.scales[t]
            case "cell":
                return self.cell(a, b)
        return choice(a) if choice in UNARY else choice(a, b)


def traced(module: nn.Module, inputs: Any, folder: Path) -> Path:
    torch.jit.trace(module, inputs, check_trace=False).save(folder / "model.pt")
    return folder / "model.pt"


def exported(module: nn.Module, inputs: Any, folder: Path) -> Path:
    torch.export.save(torch.export.export(module, inputs), folder / "model.pt2")
    return folder / "model.pt2"


def as_onnx(module: nn.Module, inputs: Any, folder: Path) -> Path:
    torch.onnx.export(module, inputs, folder / "model.onnx", dynamo=False, input_names=["x", "h"])
    return folder / "model.onnx"


# the longest loop, since torch.export takes long
FORMS = {traced: (3, 30), as_onnx: (3, 40), exported: (1, 12)}


def loops(model: Model) -> int:
    return sum(node.operation in ("Loop", "Recurrent") for node in model.general.planner.graph.nodes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_random_loops(tmp_path: Path) -> None:
    rolled, cases = (
        [],
        [(form, seed) for form, (count, _) in FORMS.items() for seed in range(random_cases(count))],
    )
    for form, seed in cases:
        torch.manual_seed(seed)
        module = RandomLoop(seed, FORMS[form][1]).eval()
        inputs = torch.randn(B, module.steps, D), torch.randn(B, D)
        with torch.no_grad():
            expected = [y.numpy() for y in module(*inputs)]
            path = form(module, inputs, tmp_path)
        arrays = dict(zip("xh", (x.numpy() for x in inputs), strict=True))
        declared = {name: ("float32", x.shape) for name, x in arrays.items()}
        model = onward.load(path, **({"inputs": declared} if form is traced else {}))
        feed = {name: arrays[name] for name in model.inputs}
        answers = [model(**feed)]
        if form is as_onnx:
            answers.append(onnxruntime.InferenceSession(path).run(None, feed))
        for answer in answers:
            for y, right in zip(answer, expected, strict=True):
                np.testing.assert_allclose(y, right, rtol=1e-3, atol=1e-4, err_msg=f"{form.__name__} {seed}")
        rolled.append(loops(model) > 0)
    assert np.mean(rolled) > 0.6  # not arrays of unknown sizes that loops write backwards, for example
