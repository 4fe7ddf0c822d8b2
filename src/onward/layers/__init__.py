"""The layers of recurrent models, named as in torch.nn; may import every folder up to core.

Layers hold weights, never state. Their methods import streaming, tracing and formats when called.
"""

from .activation import Activation, Softmax
from .conv import Conv1d, Conv2d
from .dropout import Dropout
from .embedding import Embedding
from .last import Last
from .linear import Linear
from .norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from .pooling import AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
from .rnn import GRU, LSTM, RNN
from .sequential import Sequential

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
]
