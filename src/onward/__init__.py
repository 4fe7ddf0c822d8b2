"""Onward runs recurrent networks forward: NumPy arrays in, NumPy arrays out, no framework installed."""

from . import errors, textbook
from .dense import Embedding, Last, Linear, Softmax
from .layers import GRU, LSTM, RNN
from .load import load, load_tensors
from .model import Sequential
from .threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

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
    "load_tensors",
    "set_num_threads",
    "textbook",
]
