"""The gradients of models from ONNX and .pt2 files, and of layers, against PyTorch's autograd."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.modules import WHOLE, exported, inputs_of, random_module
from torch import nn

import onward
from onward import train
from onward.errors import ArgumentError

# those of PyTorch while it exports
pytestmark = [
    pytest.mark.filterwarnings("ignore:The tensor attributes"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]
REPEATS_A_STEP = {"translator"}  # whose file is a loop, which has no gradient


def files_of(module: nn.Module, inputs: dict[str, Any], path: Path) -> list[Path]:
    """The module as an ONNX file and as a .pt2 file."""
    (path / "model.onnx").write_bytes(exported(module, inputs))
    program = torch.export.export(module.eval(), tuple(map(torch.from_numpy, inputs.values())))
    torch.export.save(program, path / "model.pt2")
    return [path / "model.onnx", path / "model.pt2"]


def check(module: nn.Module, inputs: dict[str, Any], path: Path) -> None:
    """Compare dx of each input, and the gradients of the weights that keep their names and shapes."""
    leaves = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in inputs.values()]
    module.zero_grad()
    model: Any = onward.load(path)
    given = tuple(inputs.values())
    y, _, cache = model.forward(given if len(given) > 1 else given[0])
    ys = y if isinstance(y, tuple) else (y,)
    dys = [
        np.random.default_rng(n).standard_normal(each.shape).astype(np.float32) for n, each in enumerate(ys)
    ]
    outputs = module.eval()(*leaves)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    sums = [
        (each * torch.tensor(model.as_batch(dy, is_back=True) if len(dys) == 1 else dy)).sum()
        for each, dy in zip(outputs, dys, strict=True)
    ]
    sum(sums).backward()
    dx, _, gradients = model.backward(dys[0] if len(dys) == 1 else dys, None, cache)
    for found, leaf in zip(dx if isinstance(dx, tuple) else (dx,), leaves, strict=True):
        if leaf.grad is not None:
            assert_close(found, leaf.grad.numpy(), 0)
    right = {name: p.grad.numpy() for name, p in module.named_parameters() if p.grad is not None}
    largest = max(np.abs(gradient).max() for gradient in right.values())
    named = [name for name, g in right.items() if name in gradients and gradients[name].shape == g.shape]
    for name in named:
        assert_close(gradients[name], right[name], largest)


def assert_close(found: Any, right: Any, largest: float) -> None:
    bound = 2e-3 * np.abs(right).max() + 1e-5 * largest
    np.testing.assert_allclose(found, right, rtol=0, atol=bound)


@pytest.mark.parametrize("seed", range(16))
def test_gradients_of_random_modules_are_those_of_autograd(seed: int, tmp_path: Path) -> None:
    module, inputs = random_module(seed)
    for path in files_of(module, inputs, tmp_path):
        check(module, inputs, path)


@pytest.mark.parametrize("name", sorted(WHOLE.keys() - REPEATS_A_STEP))
def test_gradients_of_whole_models_are_those_of_autograd(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, inputs = WHOLE[name].module().eval(), inputs_of(WHOLE[name].inputs, 0)
    (tmp_path / "model.onnx").write_bytes(exported(module, inputs))
    check(module, inputs, tmp_path / "model.onnx")


def test_a_loop_without_gradients_is_named(tmp_path: Path) -> None:
    module, inputs = WHOLE["translator"].module().eval(), inputs_of(WHOLE["translator"].inputs, 0)
    (tmp_path / "model.onnx").write_bytes(exported(module, inputs))
    model: Any = onward.load(tmp_path / "model.onnx")
    given = tuple(inputs.values())
    y, _, cache = model.forward(given if len(given) > 1 else given[0])
    with pytest.raises(ArgumentError, match="has no gradient"):
        model.backward(y, None, cache)


class Tagger(nn.Module):
    """An embedding, a convolution, an LSTM and a dense layer, with dropout and statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.conv = nn.Embedding(9, 5), nn.Conv1d(5, 7, 3, padding=1)
        self.norm, self.dropout = nn.BatchNorm1d(7), nn.Dropout(0.3)
        self.lstm, self.head = nn.LSTM(7, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(self.embedding(tokens).transpose(1, 2))).relu().transpose(1, 2)
        y, _ = self.lstm(y)
        return self.head(self.dropout(y))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["pt2", "script"])
def test_fine_tuning_gives_the_weights_of_pytorch(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, rng = Tagger().eval(), np.random.default_rng(0)
    tokens, targets = rng.integers(0, 9, (5, 12)), rng.integers(0, 4, (5, 12))
    if kind == "pt2":
        torch.export.save(torch.export.export(module, (torch.tensor(tokens),)), tmp_path / "model")
    else:
        torch.jit.script(module).save(str(tmp_path / "model"))
    model: Any = onward.load(tmp_path / "model")
    options: Any = {"loss": "cross_entropy", "optimizer": train.Adam(0.02), "progress": False}
    history = train.fit(model, [(tokens, targets)], epochs=12, **options)
    adam, losses = torch.optim.Adam(module.parameters(), lr=0.02), []
    for _ in range(12):  # in eval(), as Onward trains
        adam.zero_grad()
        scores = module(torch.tensor(tokens)).reshape(-1, 4)
        loss = nn.functional.cross_entropy(scores, torch.tensor(targets).reshape(-1))
        loss.backward()
        adam.step()
        losses.append(loss.item())
    np.testing.assert_allclose(history.losses, losses, rtol=2e-3)
    with torch.inference_mode():
        np.testing.assert_allclose(model(tokens), module(torch.tensor(tokens)).numpy(), rtol=0.05, atol=0.02)


LAYERS: list[tuple[Any, Any, tuple[int, ...]]] = [
    (onward.Conv1d(4, 6, 3, 2, 1, 2, 2, rng=0), nn.Conv1d(4, 6, 3, 2, 1, 2, 2), (5, 4, 50)),
    (
        onward.Conv2d(3, 4, (3, 2), (1, 2), (1, 0), rng=0),
        nn.Conv2d(3, 4, (3, 2), (1, 2), (1, 0)),
        (17, 3, 7, 9),
    ),
    (onward.BatchNorm1d(7), nn.BatchNorm1d(7).eval(), (5, 7, 33)),
    (onward.GroupNorm(2, 6), nn.GroupNorm(2, 6), (5, 6, 9)),
    (onward.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, 1), (5, 2, 7, 33)),
    (onward.AvgPool1d(3, 2, 1, ceil_mode=True), nn.AvgPool1d(3, 2, 1, ceil_mode=True), (5, 2, 33)),
]


@pytest.mark.parametrize(("layer", "module", "shape"), LAYERS, ids=lambda each: type(each).__name__)
def test_gradients_of_layers_are_those_of_autograd(layer: Any, module: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    module.load_state_dict({name: torch.tensor(w) for name, w in layer.state_dict().items()})
    x = rng.standard_normal(shape).astype(np.float32)
    leaf = torch.tensor(x, requires_grad=True)
    y, _, cache = layer.forward(x)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    module(leaf).backward(torch.tensor(dy))
    dx, _, gradients = layer.backward(dy, None, cache)
    assert leaf.grad is not None
    assert_close(dx, leaf.grad.numpy(), 0)
    for name, parameter in module.named_parameters():
        assert_close(gradients[name], parameter.grad.numpy(), 0)
