"""Keras layers and models: batch-first, with masks; may import every folder up to layers."""

from .activation_layers import Activation, PReLU, Softmax
from .attention import Attention
from .basic import (
    Custom,
    Dense,
    Embedding,
    Flatten,
    Identity,
    Masking,
    Permute,
    RepeatVector,
    Rescaling,
    Reshape,
)
from .convolution import Convolution, GlobalPooling, Padding, Pooling, UpSampling
from .graph import Model
from .layer import KerasLayer
from .merging import Concatenate, Dot, Merge
from .normalization import BatchNormalization, GroupNormalization, LayerNormalization, UnitNormalization
from .operations import Operation
from .recurrent_layers import RNN, Bidirectional, TimeDistributed

LAYERS: tuple[type[KerasLayer], ...] = (
    *(Dense, Embedding, Activation, PReLU, Softmax, Identity, Masking, Rescaling),
    *(Flatten, Reshape, Permute, RepeatVector, Convolution, Pooling, GlobalPooling, Padding, UpSampling),
    *(BatchNormalization, LayerNormalization, GroupNormalization, UnitNormalization),
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
    "GroupNormalization",
    "Identity",
    "KerasLayer",
    "LayerNormalization",
    "Masking",
    "Merge",
    "Model",
    "Operation",
    "PReLU",
    "Padding",
    "Permute",
    "Pooling",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "Softmax",
    "TimeDistributed",
    "UnitNormalization",
    "UpSampling",
]
