"""The gate orders of PyTorch, Keras and ONNX, and the conversion between them."""

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
    before = GATE_ORDER[source, cell]
    gates = array.reshape(len(before), len(array) // len(before), *array.shape[1:])
    return gates[[before.index(gate) for gate in GATE_ORDER[target, cell]]].reshape(array.shape)
