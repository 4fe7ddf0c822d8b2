"""Onward runs recurrent networks forward: NumPy arrays in, NumPy arrays out, no framework installed."""

from importlib.metadata import version

from . import errors, textbook
from .dense import Embedding, Last, Linear, Softmax
from .layers import GRU, LSTM, RNN
from .load import load
from .model import Sequential

__version__ = version("onward")

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Embedding",
    "Last",
    "Linear",
    "Sequential",
    "Softmax",
    "errors",
    "load",
    "textbook",
]
