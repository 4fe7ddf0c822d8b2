"""An nn.Sequential opens as a model; other modules open as parts that can be connected."""

from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch

import onward
from onward.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns about deprecated and experimental features


def test_convert_keeps_the_options_of_a_sequential(tmp_path: Path) -> None:
    rnn, x = torch.nn.RNN(3, 4, nonlinearity="relu", batch_first=True), torch.randn(2, 5, 3)
    with torch.no_grad():
        expected = rnn(x)[0].numpy()
    torch.save(torch.nn.Sequential(rnn, torch.nn.Dropout()), tmp_path / "rnn.pt")
    for target in ("rnn.safetensors", "rnn.onnx"):
        main(["convert", str(tmp_path / "rnn.pt"), str(tmp_path / target)], standalone_mode=False)
        net = onward.load(tmp_path / target)
        y = net.layers()(x.numpy()) if target == "rnn.onnx" else net(x.numpy())
        np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6)


def test_convert_refuses_a_sequential_with_an_unsupported_module(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.GRU(3, 4), torch.nn.Tanhshrink()), tmp_path / "m.pt")
    for target, words in (
        ("m.onnx", r"no forward\(\)"),
        ("m.safetensors", "tensors alone do not determine 1: Tanhshrink"),
    ):
        with pytest.raises(click.UsageError, match=words):
            main(["convert", str(tmp_path / "m.pt"), str(tmp_path / target)], standalone_mode=False)


def saved_sequential(net: torch.nn.Sequential, x: torch.Tensor, path: Path) -> Any:
    """Return a Sequential saved as a pickle and loaded by Onward, and torch's output for x."""
    with torch.no_grad():
        expected = net.eval()(x)
    torch.save(net, path)
    return onward.load(path), expected.numpy()


def test_a_sequential_opens_as_a_model_with_its_activations(tmp_path: Path) -> None:
    block = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.LeakyReLU(0.3), torch.nn.Dropout(0.4))
    act = torch.nn.ReLU()
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 7), act, block, act, torch.nn.Identity(), torch.nn.LayerNorm(5, eps=0.1),
        torch.nn.Sequential(torch.nn.Linear(5, 3)), torch.nn.Softmax(-1),
    )  # fmt: skip
    model, expected = saved_sequential(net, x := torch.randn(3, 17, 6), tmp_path / "m")
    kinds = ["Linear", "Activation", "Linear", "Activation", "Activation", "LayerNorm", "Linear", "Softmax"]
    assert [type(layer).__name__ for layer in model] == kinds
    np.testing.assert_allclose(model(x.numpy()), expected, rtol=0, atol=2e-6)


def test_a_sequential_of_convolutions_opens_as_a_model(tmp_path: Path) -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv1d(4, 6, 3, stride=2), torch.nn.BatchNorm1d(6), torch.nn.ELU(0.7), torch.nn.MaxPool1d(2),
        torch.nn.Dropout1d(), torch.nn.Conv1d(6, 5, 3, padding=1, bias=False),
    )  # fmt: skip
    net(torch.randn(8, 4, 31))  # fill the running statistics
    model, expected = saved_sequential(net, x := torch.randn(5, 4, 33), tmp_path / "m")
    np.testing.assert_allclose(model(x.numpy()), expected, rtol=0, atol=3e-6)


def test_a_sequential_with_an_unsupported_module_opens_as_parts(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Flatten(), torch.nn.Linear(6, 2))
    parts, _ = saved_sequential(net, torch.randn(5, 2, 4), tmp_path / "m")
    assert list(parts) == ["0", "2"]
    with pytest.raises(onward.errors.ArgumentError, match=r"'1' .* Flatten, which Onward does not support"):
        parts.sequential()


def test_a_subclass_of_sequential_records_no_order(tmp_path: Path) -> None:
    class Residual(torch.nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + super().forward(x)

    globals()["Residual"] = Residual
    Residual.__qualname__ = "Residual"
    inner = torch.nn.Linear(4, 4)
    for net in (Residual(inner), torch.nn.Sequential(torch.nn.Linear(4, 4), Residual(inner))):
        torch.save(net, tmp_path / "m")
        parts = onward.load(tmp_path / "m")
        assert isinstance(parts, dict)
        with pytest.raises(onward.errors.ArgumentError):
            parts.sequential()


def test_parts_connect_the_sequentials_of_a_module(tmp_path: Path) -> None:
    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh())
            self.gru = torch.nn.GRU(4, 7, batch_first=True)
            self.head = torch.nn.Sequential(torch.nn.Linear(7, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.gru(self.front(x))[0])

    globals()["Tagger"] = Tagger
    Tagger.__qualname__ = "Tagger"
    module, x = Tagger(), torch.randn(3, 17, 5)
    torch.save(module, tmp_path / "m")
    model = onward.load(tmp_path / "m").sequential("front", "gru", "head")
    with torch.no_grad():
        np.testing.assert_allclose(model(x.numpy()), module(x).numpy(), rtol=0, atol=2e-6)
