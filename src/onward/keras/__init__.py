"""Keras' layers and models, in Keras' layout (batch first) and with its masks, over Onward's own layers."""

from .activations import Activation, Softmax
from .attention import Attention
from .basic import Custom, Dense, Embedding, Flatten, Identity, Masking, Permute, RepeatVector, Reshape
from .convolution import Convolution, GlobalPooling, Pooling
from .graph import Model
from .layer import KerasLayer
from .merging import Concatenate, Dot, Merge
from .normalization import BatchNormalization, LayerNormalization
from .operations import Operation
from .recurrent import RNN, Bidirectional, TimeDistributed

LAYERS: tuple[type[KerasLayer], ...] = (
    *(Dense, Embedding, Activation, Softmax, Identity, Masking, Flatten, Reshape, Permute, RepeatVector),
    *(Convolution, Pooling, GlobalPooling, BatchNormalization, LayerNormalization),
    *(Merge, Concatenate, Dot, Attention, Operation),
    *(RNN, Bidirectional, TimeDistributed, Model),
)

__all__ = [
    "LAYERS",
    "RNN",
    "Activation",
    "Attention",
    "BatchNormalization",
    "Bidirectional",
    "Concatenate",
    "Convolution",
    "Custom",
    "Dense",
    "Dot",
    "Embedding",
    "Flatten",
    "GlobalPooling",
    "Identity",
    "KerasLayer",
    "LayerNormalization",
    "Masking",
    "Merge",
    "Model",
    "Operation",
    "Permute",
    "Pooling",
    "RepeatVector",
    "Reshape",
    "Softmax",
    "TimeDistributed",
]
