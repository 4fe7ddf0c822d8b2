"""TorchScript files of quantize_dynamic against modules with the floats that their weights stand for."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.randomized import random_cases
from torch import Tensor, nn
from torch.ao import quantization

import onward

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns that both are deprecated
LAYERS = {nn.Linear, nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell}


class Layers(nn.Module):
    """A recurrent layer and a linear layer of its outputs."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        kind = [nn.LSTM, nn.GRU][rng.integers(2)]
        features, hidden = (int(size) for size in rng.choice([1, 5, 7, 33], 2))
        options: Any = {"num_layers": int(rng.integers(1, 4)), "bidirectional": bool(rng.integers(2))}
        self.features = features
        self.layer = kind(features, hidden, batch_first=bool(rng.integers(2)), **options)
        self.linear = nn.Linear(hidden * (1 + options["bidirectional"]), 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.layer(x)[0])


class Cells(nn.Module):
    """Each kind of cell over the steps of a sequence."""

    features = 5

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru, self.rnn = (
            nn.LSTMCell(5, 7),
            nn.GRUCell(7, 6),
            nn.RNNCell(6, 4, nonlinearity="relu"),
        )

    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.shape[1], 7), torch.ones(x.shape[1], 7)
        g, r = torch.zeros(x.shape[1], 6), torch.zeros(x.shape[1], 4)
        outputs = []
        for step in x.unbind(0):
            h, c = self.lstm(step, (h, c))
            g = self.gru(h, g)
            r = self.rnn(g, r)
            outputs.append(r)
        return torch.stack(outputs)


def dequantized(quantized: nn.Module, module: nn.Module) -> nn.Module:
    """The module with the floats that the weights of its quantized copy stand for."""
    module = copy.deepcopy(module)
    for name, layer in module.named_modules():
        if type(layer) in LAYERS:
            packed = quantized.get_submodule(name)
            weights: Any = packed.weight() if isinstance(layer, nn.Linear) else packed.get_weight()
            for key, value in ({"weight": weights} if isinstance(layer, nn.Linear) else weights).items():
                floats = value.dequantize() if value.is_quantized else value
                getattr(layer, key).data.copy_(floats)
    return module


@pytest.mark.parametrize("saved", ["script", "trace"])
@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16])
@pytest.mark.parametrize("seed", range(random_cases(8)))
def test_quantized_weights_are_the_floats_that_they_stand_for(
    seed: int, dtype: torch.dtype, saved: str, tmp_path: Path
) -> None:
    torch.manual_seed(seed)
    torch.backends.quantized.engine = "fbgemm"
    module = (Layers(np.random.default_rng(seed)) if seed else Cells()).eval()
    quantized = quantization.quantize_dynamic(module, LAYERS, dtype)
    x = torch.randn(4, 3, module.features)
    with torch.no_grad():
        made = torch.jit.script(quantized) if saved == "script" else torch.jit.trace(quantized, x)
        expected, own = dequantized(quantized, module)(x), quantized(x)
    torch.jit.save(made, tmp_path / "model.pt")
    model: Any = onward.load(tmp_path / "model.pt")
    y = model(x.numpy())
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(y, own, rtol=0, atol=0.05)  # PyTorch also quantizes x


def test_each_channel_has_a_scale_of_its_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 5, bias=False)).eval()
    with torch.no_grad():
        module[0].weight *= torch.tensor([1, 10, 100, 1000])[:, None]
    options = {nn.Linear: quantization.per_channel_dynamic_qconfig}
    quantized = quantization.quantize_dynamic(module, options)
    torch.jit.save(torch.jit.script(quantized), tmp_path / "model.pt")
    x = torch.randn(6, 9)
    with torch.no_grad():
        expected = dequantized(quantized, module)(x)
    y = onward.load(tmp_path / "model.pt")(x.numpy())
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-4)


def test_modules_whose_values_are_quantized_are_refused(tmp_path: Path) -> None:
    module = nn.Sequential(quantization.QuantStub(), nn.Linear(9, 4), quantization.DeQuantStub()).eval()
    module.qconfig = quantization.get_default_qconfig("fbgemm")
    prepared = quantization.prepare(module)
    prepared(torch.randn(6, 9))
    torch.jit.save(torch.jit.script(quantization.convert(prepared)), tmp_path / "model.pt")
    with pytest.raises(onward.errors.OnwardError, match="before it is quantized"):
        onward.load(tmp_path / "model.pt")(np.ones((6, 9), np.float32))
