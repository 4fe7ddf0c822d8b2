"""Onward runs recurrent networks forward: NumPy arrays in, NumPy arrays out, no framework installed."""

from importlib.metadata import version as _version

from . import errors, textbook
from .dense import Embedding, Last, Linear, Softmax
from .layers import GRU, LSTM, RNN
from .load import load
from .model import Sequential
from .threads import get_num_threads, set_num_threads

__version__ = _version("onward")

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
    "get_num_threads",
    "load",
    "set_num_threads",
    "textbook",
]
