"""The nodes that PyTorch's exporters write for idioms become one operation and match PyTorch."""

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support import modules
from support.onnx_nodes import outputs_of
from support.running import bound, simplified
from torch import Tensor, nn
from torch.nn import functional as F

from onward.formats.onnx.read import read
from onward.formats.onnx.translate import translate
from onward.graph import Model

pytestmark = pytest.mark.filterwarnings("ignore")  # from the exporters


class Calls(nn.Module):
    """A function of tensors, and the layers that it uses."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def exported(module: nn.Module, inputs: dict[str, Any], dynamo: bool) -> bytes:
    """Export with one of the two exporters; the older one writes operators of opset 13 or 17."""
    if not dynamo:
        return modules.exported(module, inputs, opset_version=17 if isinstance(module, Spectrum) else 13)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), tuple(map(torch.from_numpy, inputs.values())), file,
            input_names=list(inputs), dynamo=True, verbose=False,
        )  # fmt: skip
    return file.getvalue()


def opened(module: nn.Module, inputs: dict[str, Any], dynamo: bool) -> Model:
    return Model(translate(read("model.onnx", exported(module, inputs, dynamo))))


def check(module: nn.Module, inputs: dict[str, Any], dynamo: bool) -> list[str]:
    """Compare a model with PyTorch, whose plan must need no NumPy, and return its operations."""
    model = opened(module, inputs, dynamo)
    expected = modules.answer(module, inputs)
    for _ in range(2):
        for y, theirs in zip(outputs_of(model, **inputs), expected, strict=True):
            scale = max(1.0, float(np.abs(theirs).max()))
            np.testing.assert_allclose(y, theirs, rtol=0, atol=2e-6 * scale)
    plan = bound(model, *inputs.values())
    assert plan is not None and plan.entry is not None
    return [node.operation for node in simplified(model).nodes]


def rms_norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


ACTIVATIONS = {
    "Gelu": F.gelu,
    "Gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "Swish": F.silu,
    "HardSwish": F.hardswish,
    "Mish": F.mish,
}


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_becomes_one_operation(name: str, dynamo: bool) -> None:
    x = modules.inputs_of({"x": (3, 7)}, 0)
    assert check(Calls(ACTIVATIONS[name]), x, dynamo) == [name.partition(",")[0]]


@pytest.mark.parametrize("dynamo", [False, True])
def test_a_layer_norm_becomes_one_operation(dynamo: bool) -> None:
    layer = nn.LayerNorm(7)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    assert check(layer, modules.inputs_of({"x": (3, 5, 7)}, 0), dynamo) == ["LayerNormalization"]


@pytest.mark.parametrize("dynamo", [False, True])
def test_an_rms_norm_becomes_one_operation(dynamo: bool) -> None:
    scale = nn.Parameter(torch.randn(7))
    layer = nn.Module()
    layer.scale = scale
    module = Calls(lambda x: rms_norm(x) * layer.scale, layer)
    assert check(module, modules.inputs_of({"x": (3, 5, 7)}, 0), dynamo) == ["RMSNormalization"]


@pytest.mark.parametrize("dynamo", [False, True])
def test_a_step_of_a_cell_becomes_one_operation(dynamo: bool) -> None:
    lstm, gru = nn.LSTMCell(3, 7), nn.GRUCell(3, 7)
    state = {"x": (5, 3), "h": (5, 7)}
    inputs = modules.inputs_of(state | {"c": (5, 7)}, 0)
    assert check(Calls(lambda x, h, c: lstm(x, (h, c)), lstm), inputs, dynamo) == ["Step"]
    assert check(Calls(gru, gru), modules.inputs_of(state, 0), dynamo) == ["Step"]


class Spectrum(nn.Module):
    """The magnitudes of a short-time Fourier transform by the operator STFT."""

    def __init__(self, center: bool) -> None:
        super().__init__()
        self.center = center
        self.register_buffer("window", torch.hann_window(64))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.stft(x, 64, 16, window=self.window, return_complex=False, center=self.center)
        return torch.sqrt(y[..., 0] ** 2 + y[..., 1] ** 2)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("center", [False, True])
def test_an_stft_is_planned_without_numpy(center: bool, dynamo: bool) -> None:
    assert "STFT" in check(Spectrum(center), modules.inputs_of({"x": (2, 400)}, 0), dynamo)


@pytest.mark.parametrize("dynamo", [False, True])
def test_an_stft_as_a_convolution_is_planned_without_numpy(dynamo: bool) -> None:
    waves = torch.fft.rfft(torch.eye(64)).T
    layer = nn.Conv1d(1, 66, 64, 16, bias=False)
    layer.weight.data = torch.cat([waves.real, waves.imag])[:, None].contiguous()

    def magnitudes(x: Tensor) -> Tensor:
        y = layer(x[:, None])
        return torch.sqrt(y[:, :33] ** 2 + y[:, 33:] ** 2)

    assert "Conv" in check(Calls(magnitudes, layer), modules.inputs_of({"x": (2, 400)}, 0), dynamo)
