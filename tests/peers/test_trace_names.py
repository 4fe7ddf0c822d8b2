"""Layers of exported models have the names of their modules in traces, whatever exporter wrote the file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onward

torch = pytest.importorskip("torch")


class Net(torch.nn.Module):  # type: ignore[misc,name-defined]
    """Recurrent modules of two, one and one layers, one of them in another module."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.LSTM(4, 5, 2, bidirectional=True, batch_first=True)
        self.decoder = torch.nn.Sequential(torch.nn.Linear(10, 3), torch.nn.GRU(3, 3, batch_first=True))
        self.last = torch.nn.LSTM(3, 2, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.last(self.decoder(self.encoder(x)[0])[0])[0]


@pytest.mark.filterwarnings("ignore")  # of the exporters
@pytest.mark.parametrize("dynamo", [False, True])
def test_exporter_that_names_nodes_after_operators(tmp_path: Path, dynamo: bool) -> None:
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    net = Net().eval()
    options = {} if dynamo else {"dynamic_axes": {"x": {1: "time"}}, "input_names": ["x"]}
    torch.onnx.export(net, (x,), tmp_path / "net.onnx", dynamo=dynamo, **options)
    trace = onward.load(tmp_path / "net.onnx").trace(x.numpy())
    directions = [f"encoder.l{layer}{direction}" for layer in (0, 1) for direction in ("", "_reverse")]
    assert list(trace.layers) == [*directions, "decoder.1.l0", "last.l0"]
    np.testing.assert_allclose(trace["last.l0.h"].swapaxes(0, 1), net(x).detach(), atol=1e-6)
    second = net.encoder(x)[0].detach()
    np.testing.assert_allclose(trace["encoder.l1_reverse.h"].swapaxes(0, 1), second[..., 5:], atol=1e-6)
