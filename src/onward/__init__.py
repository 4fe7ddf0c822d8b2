"""Onward runs recurrent networks forward: NumPy arrays in, NumPy arrays out, no framework installed."""

import importlib
import types

from . import errors, textbook
from .convolution import AvgPool1d, AvgPool2d, Conv1d, Conv2d, MaxPool1d, MaxPool2d
from .dense import Activation, Dropout, Embedding, Last, Linear, Softmax
from .export import export_onnx
from .layers import GRU, LSTM, RNN
from .load import load, load_tensors
from .model import Sequential
from .normalization import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from .threads import get_num_threads, num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "Dropout",
    "Embedding",
    "GroupNorm",
    "Last",
    "LayerNorm",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "Sequential",
    "Softmax",
    "errors",
    "export_onnx",
    "get_num_threads",
    "load",
    "load_tensors",
    "num_threads",
    "set_num_threads",
    "textbook",
    "train",
]


def __getattr__(name: str) -> types.ModuleType:
    """onward.train is imported when it is first named: those who run models need not wait for it."""
    if name == "train":
        return importlib.import_module(".train", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
