"""The forecast of an example is that of PyTorch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import DATA
from support.examples import example

import onward


class Forecaster(torch.nn.Module):
    """The next two rows of a window (batch, window, columns)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(2, 9, num_layers=2, batch_first=True)
        self.head = torch.nn.Linear(9, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(x)
        return self.head(y[:, -1]).reshape(-1, 2, 2)


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # PyTorch warns about its own LSTM
def test_forecaster_of_pytorch_forecasts_the_rows_of_pytorch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, forecasts = Forecaster().eval(), example("forecast")
    torch.export.save(torch.export.export(module, (torch.zeros(1, 31, 2),)), tmp_path / "forecaster.pt2")
    series = forecasts.read(DATA / "keras" / "forecaster.csv", ["load", "temperature"]) / 50
    found = forecasts.forecast(onward.load(tmp_path / "forecaster.pt2"), series, window=31, steps=9)
    with torch.no_grad():
        expected = forecasts.forecast(lambda x: module(torch.from_numpy(x)).numpy(), series, 31, 9)
    assert found.shape == (9, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)
