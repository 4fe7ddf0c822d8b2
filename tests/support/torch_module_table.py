"""A table of PyTorch modules and inputs for each: layers, functional forms, loops and attention."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from .torch_loops import BothDirections, CellLoop, GRULoop, OptionalState, RNNLoop, StatesInList, WrittenSteps
from .torch_modules import (
    Attention,
    CausalMask,
    Comparisons,
    Dense,
    DotProduct,
    Einsum,
    Elementwise,
    Indexing,
    InPlace,
    Lists,
    NestedState,
    OptionalMask,
    Packed,
    Padding,
    Positions,
    Recognizer,
    Residual,
    SelfAttention,
    Separable,
    SequenceToSequence,
    Shapes,
    Sorting,
    Spectrum,
    Statistics,
    Tagger,
    TensorBranch,
    WithState,
)


class Case(NamedTuple):
    """A function that makes a module, and its inputs."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Any, ...]]


def x(*shape: int) -> Callable[[], tuple[Tensor, ...]]:
    """Return a function that makes one input of a shape."""
    return lambda: (torch.randn(*shape),)


def xs(*shapes: tuple[int, ...]) -> Callable[[], tuple[Tensor, ...]]:
    """Return a function that makes inputs of several shapes."""
    return lambda: tuple(torch.randn(*shape) for shape in shapes)


def words() -> tuple[Tensor, ...]:
    """Return indices of words."""
    return (torch.randint(11, (3, 6)),)


def _layer(make: Callable[[], nn.Module], *shape: int) -> Case:
    return Case(make, x(*shape))


ACTIVATIONS = [
    *(nn.ReLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.CELU, nn.LeakyReLU, nn.Softplus),
    *(nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Mish, nn.LogSigmoid, nn.ReLU6, nn.PReLU),
]

MODULES: dict[str, Case] = {
    "linear": _layer(lambda: nn.Linear(5, 3), 2, 4, 5),
    "linear without bias": _layer(lambda: nn.Linear(5, 3, bias=False), 4, 5),
    "bilinear": Case(lambda: nn.Bilinear(3, 4, 2), xs((5, 3), (5, 4))),
    "embedding": Case(lambda: nn.Embedding(11, 5, padding_idx=0), words),
    "rnn": _layer(lambda: nn.RNN(3, 4, nonlinearity="relu"), 6, 2, 3),
    "lstm": _layer(lambda: nn.LSTM(3, 4), 6, 2, 3),
    "lstm of 2 layers, both directions": _layer(lambda: nn.LSTM(3, 4, 2, bidirectional=True), 6, 2, 3),
    "lstm with projections": _layer(lambda: nn.LSTM(3, 6, proj_size=4, batch_first=True), 2, 6, 3),
    "lstm without bias": _layer(lambda: nn.LSTM(3, 4, bias=False), 6, 2, 3),
    "lstm without batch": _layer(lambda: nn.LSTM(3, 4), 6, 3),
    "gru": _layer(lambda: nn.GRU(3, 4, batch_first=True), 2, 6, 3),
    "gru of 2 layers, both directions": _layer(lambda: nn.GRU(3, 4, 2, bidirectional=True), 6, 2, 3),
    "lstm cell": _layer(lambda: nn.LSTMCell(3, 4), 2, 3),
    "gru cell": _layer(lambda: nn.GRUCell(3, 4), 2, 3),
    "rnn cell": _layer(lambda: nn.RNNCell(3, 4), 2, 3),
    "tagger with lstm": Case(lambda: Tagger(nn.LSTM), words),
    "tagger with gru": Case(lambda: Tagger(nn.GRU, bidirectional=True), words),
    "tagger with rnn": Case(lambda: Tagger(nn.RNN, num_layers=2), words),
    "state as input": Case(WithState, xs((5, 2, 3), (2, 2, 4), (2, 2, 4))),
    "nested state": Case(NestedState, xs((5, 2, 3), (1, 2, 4))),
    "packed lstm": Case(
        lambda: Packed(nn.LSTM, batch_first=True), lambda: (torch.randn(3, 6, 3), torch.tensor([3, 5, 2]))
    ),
    "packed gru": Case(lambda: Packed(nn.GRU, -1.5), lambda: (torch.randn(6, 3, 3), torch.tensor([3, 6, 2]))),
    "packed lstm to all steps": Case(
        lambda: Packed(nn.LSTM, 0.5, True, batch_first=True),
        lambda: (torch.randn(3, 6, 3), torch.tensor([3, 5, 2])),
    ),
    "packed gru to all steps": Case(
        lambda: Packed(nn.GRU, is_whole=True), lambda: (torch.randn(6, 2, 3), torch.tensor([3, 4]))
    ),
    "packed rnn": Case(lambda: Packed(nn.RNN), lambda: (torch.randn(6, 3, 3), torch.tensor([6, 3, 1]))),
    "loop of lstm cells": _layer(CellLoop, 5, 2, 3),
    "loop of gru cells": _layer(GRULoop, 5, 2, 3),
    "loop of rnn cells": _layer(RNNLoop, 5, 2, 3),
    "loop that writes its steps": _layer(WrittenSteps, 5, 2, 3),
    "loop with an optional state": _layer(OptionalState, 2, 5, 3),
    "loops in both directions": _layer(BothDirections, 5, 2, 3),
    "loop with a list of states": _layer(StatesInList, 5, 2, 3),
    "sequence to sequence": _layer(SequenceToSequence, 2, 5, 3),
    "attention": Case(Attention, lambda: (torch.randn(2, 5, 3), torch.rand(2, 5) > 0.3)),
    "multihead attention": _layer(SelfAttention, 2, 5, 8),
    "dot-product attention": Case(DotProduct, xs((2, 2, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4))),
    "transformer layer": _layer(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, 5, 8),
    "conv1d": _layer(lambda: nn.Conv1d(3, 5, 3, stride=2, padding=1, dilation=2), 2, 3, 12),
    "conv1d with same padding": _layer(lambda: nn.Conv1d(4, 6, 4, padding="same", groups=2), 2, 4, 9),
    "conv1d with reflection": _layer(lambda: nn.Conv1d(4, 6, 3, padding=1, padding_mode="reflect"), 2, 4, 9),
    "conv2d": _layer(lambda: nn.Conv2d(3, 5, (3, 2), stride=(1, 2), bias=False), 2, 3, 7, 8),
    "conv3d": _layer(lambda: nn.Conv3d(2, 3, 2), 2, 2, 4, 4, 4),
    "transposed conv1d": _layer(lambda: nn.ConvTranspose1d(3, 5, 4, stride=2, padding=1), 2, 3, 7),
    "transposed conv2d": _layer(lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), 2, 4, 5, 6),
    "max pooling": _layer(lambda: nn.MaxPool1d(3, 2, 1), 2, 3, 9),
    "max pooling in 2d": _layer(lambda: nn.MaxPool2d((2, 3), ceil_mode=True), 2, 3, 7, 8),
    "average pooling": _layer(lambda: nn.AvgPool1d(2), 2, 3, 8),
    "average pooling in 2d": _layer(lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), 2, 3, 7, 8),
    "adaptive pooling": _layer(lambda: nn.AdaptiveAvgPool1d(1), 2, 3, 8),
    "adaptive pooling in 2d": _layer(lambda: nn.AdaptiveMaxPool2d((2, 4)), 2, 3, 6, 8),
    "batch norm": _layer(lambda: nn.BatchNorm1d(4), 3, 4, 5),
    "batch norm in 2d": _layer(lambda: nn.BatchNorm2d(4), 3, 4, 5, 2),
    "layer norm": _layer(lambda: nn.LayerNorm([4, 5]), 3, 4, 5),
    "group norm": _layer(lambda: nn.GroupNorm(2, 4), 3, 4, 5),
    "instance norm": _layer(lambda: nn.InstanceNorm1d(4, affine=True), 3, 4, 5),
    "rms norm": _layer(lambda: nn.RMSNorm(5), 3, 4, 5),
    "dropout": _layer(lambda: nn.Sequential(nn.Dropout(), nn.Linear(3, 2), nn.Dropout1d()), 4, 3),
    "softmax": _layer(lambda: nn.Sequential(nn.Linear(3, 4), nn.Softmax(dim=-1)), 2, 3),
    "log softmax": _layer(lambda: nn.LogSoftmax(dim=1), 2, 3, 4),
    "glu": _layer(lambda: nn.GLU(dim=1), 2, 6, 4),
    "flatten": _layer(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.Unflatten(1, (2, 1))), 2, 3, 4
    ),
    "upsampling": _layer(lambda: nn.Upsample(scale_factor=2, mode="nearest"), 2, 3, 4),
    "weight norm": _layer(lambda: parametrizations.weight_norm(nn.Linear(3, 4)), 2, 3),
    "residual": _layer(Residual, 2, 4, 9),
    "separable": _layer(Separable, 2, 4, 6, 5),
    "recognizer": _layer(Recognizer, 2, 1, 8, 10),
    "in place": _layer(InPlace, 4, 4),
    "statistics": _layer(Statistics, 3, 4, 5),
    "sorting": _layer(Sorting, 3, 4),
    "indexing": Case(Indexing, lambda: (torch.randn(2, 5, 3), torch.tensor([3, 0, 4]))),
    "list of outputs": _layer(Lists, 2, 6),
    "elementwise": _layer(Elementwise, 3, 4),
    "comparisons": Case(Comparisons, lambda: (torch.randn(3, 4).round(), torch.randn(3, 4).round())),
    "padding": _layer(Padding, 2, 3, 7),
    "shapes": _layer(Shapes, 2, 3, 4),
    "einsum": _layer(Einsum, 2, 3, 4),
    "branch on a tensor": _layer(TensorBranch, 3, 4),
    "optional input": _layer(OptionalMask, 3, 4),
    "spectrum": _layer(Spectrum, 2, 40),
    "positions": _layer(Positions, 2, 5, 6),
    "causal mask": _layer(CausalMask, 2, 5, 4),
    "dense": _layer(Dense, 2, 3),
    **{f"activation {kind.__name__}": _layer(kind, 3, 4) for kind in ACTIVATIONS},
}
