"""The layers of recurrent models, named as in torch.nn; may import every folder up to graph.

Layers hold weights, never state. Their methods import graphs, streaming, tracing and formats when called.
"""

from .activation import Activation, Dropout, Softmax
from .conv import AvgPool1d, AvgPool2d, Conv1d, Conv2d, MaxPool1d, MaxPool2d
from .linear import Embedding, Linear
from .norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from .rnn import GRU, LSTM, RNN
from .scans import LRU, RGLRU, GatedDeltaRule, LayerNormLSTM, MinGRU, SelectiveScan, sLSTM
from .sequential import Last, Sequential

__all__ = [
    "GRU",
    "LRU",
    "LSTM",
    "RGLRU",
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
    "GatedDeltaRule",
    "GroupNorm",
    "Last",
    "LayerNorm",
    "LayerNormLSTM",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MinGRU",
    "SelectiveScan",
    "Sequential",
    "Softmax",
    "sLSTM",
]
