"""The ATen operators of PyTorch as operations of graphs; may import every folder up to graph."""

from . import (  # noqa: F401 - each module registers its operators
    activations,
    combinations,
    composites,
    control,
    convolutions,
    creation,
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
