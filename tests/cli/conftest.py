"""Model files that several tests of the command line use."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import onward


@pytest.fixture
def lstm(tmp_path: Path) -> Path:
    """A model of one layer, which returns an output for each step."""
    onward.LSTM(12, 5, rng=0).save(tmp_path / "lstm.safetensors")
    return tmp_path / "lstm.safetensors"


@pytest.fixture
def state_dict(tmp_path: Path) -> Path:
    """A PyTorch state dict with two layers and a tensor that belongs to neither."""
    tensors = {f"encoder.{key}": value for key, value in onward.GRU(3, 4).state_dict().items()}
    tensors |= {"head.weight": np.ones((2, 4), np.float32), "scale": np.ones(3, np.float32)}
    safetensors.numpy.save_file(tensors, tmp_path / "theirs.safetensors")
    return tmp_path / "theirs.safetensors"
