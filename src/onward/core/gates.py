"""The gate orders of PyTorch, Keras and ONNX, and the conversion between them."""

from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

# One letter per gate. LSTM: input, forget, candidate g (Keras and ONNX write c), output. GRU: reset,
# update z, candidate n (Keras and ONNX write h). Onward's own order is PyTorch's.
GATE_ORDER = {
    ("torch", "lstm"): "ifgo",
    ("torch", "gru"): "rzn",
    ("keras", "lstm"): "ifgo",
    ("keras", "gru"): "zrn",
    ("onnx", "lstm"): "iofg",
    ("onnx", "gru"): "zrn",
    ("torch", "peephole"): "ifo",
    ("onnx", "peephole"): "iof",
}


def reorder(array: NDArray[Scalar], cell: str, source: str, target: str) -> NDArray[Scalar]:
    """A copy of gates stacked along the first axis, reordered from `source` to `target`."""
    order = _order(cell, source, target)
    gates = array.reshape(len(order), len(array) // len(order), *array.shape[1:])
    return gates.take(order, 0).reshape(array.shape)


@cache
def _order(cell: str, source: str, target: str) -> tuple[int, ...]:
    """Return the place in `source` of each gate of `target`."""
    return tuple(map(GATE_ORDER[source, cell].index, GATE_ORDER[target, cell]))
