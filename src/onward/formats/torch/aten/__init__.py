"""The ATen operators of PyTorch as operations of graphs; may import every folder up to graph."""

from . import (  # noqa: F401 - each module registers its operators
    activations,
    combinations,
    combined,
    composites,
    control,
    convolutions,
    creation,
    cumulative,
    elementwise,
    indexing,
    joins,
    layers,
    promotion,
    recurrent,
    reductions,
    shapes,
    signal,
    symbols,
)
