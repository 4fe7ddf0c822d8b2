"""PyTorch's state dicts: which layers they are of, read off names and shapes alone."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import arrays
from ..base import UNDRAWN, Layer, Weighted
from ..dense import Embedding, Linear
from ..errors import ArgumentError, OnwardError
from ..layers import GRU, LSTM, RNN

Tensors = Mapping[str, NDArray[Any]]

RECURRENT = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)_l(\d+)(_reverse)?")
CELLS: dict[int, type[RNN] | type[GRU] | type[LSTM]] = {1: RNN, 3: GRU, 4: LSTM}


class Parts(dict[str, Layer]):
    """The layers of a state dict by prefix, "" where there is none; `leftover` names what belongs to none."""

    def __init__(self) -> None:
        super().__init__()
        self.leftover: list[str] = []


def parts(state_dict: Tensors, nonlinearity: str, batch_first: bool) -> Parts:
    """The layers that a state dict holds the weights of.

    weight_ih_l0 and its kin make a recurrent layer, and the rows of weight_hh_l0 for each hidden unit tell
    its cell: 4 are an LSTM, 3 a GRU, 1 an RNN; a weight_hr_l0 is a projection. A matrix `weight` with a
    `bias` makes a Linear; without one, an Embedding if the name before it has "emb" in it, else a Linear. A
    layer computes in float64 if any of its tensors is float64, else in float32.

    Raises an OnwardError that names the tensor where one is missing or does not fit the others.
    """
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for key, tensor in state_dict.items():
        prefix, _, name = key.rpartition(".")
        groups.setdefault(prefix, {})[name] = tensor

    found = Parts()
    for prefix, group in groups.items():
        own = {name: tensor for name, tensor in group.items() if RECURRENT.fullmatch(name)}
        try:
            if own:
                found[prefix] = _recurrent(own, nonlinearity, batch_first)
            elif "weight" in group and group["weight"].ndim == 2:
                own = {name: group[name] for name in ("weight", "bias") if name in group}
                found[prefix] = _matrix(own, "emb" in prefix.rpartition(".")[2].lower())
        except OnwardError as error:
            raise ArgumentError(f"{prefix or 'the state dict'}: {error}") from error
        found.leftover += [f"{prefix}.{name}".lstrip(".") for name in group if name not in own]
    if not found:
        raise ArgumentError(
            f"no tensor belongs to a layer that Onward knows: {', '.join(found.leftover) or 'it is empty'}"
        )
    return found


def _recurrent(own: Tensors, nonlinearity: str, batch_first: bool) -> Layer:
    _, input_size = _matrix_shape(own, "weight_ih_l0")
    rows, columns = _matrix_shape(own, "weight_hh_l0")
    projected = "weight_hr_l0" in own
    hidden_size = _matrix_shape(own, "weight_hr_l0")[1] if projected else columns
    cell = CELLS.get(rows // hidden_size) if hidden_size and rows % hidden_size == 0 else None
    if cell is None or (projected and cell is not LSTM):
        raise ArgumentError(
            f"weight_hh_l0 has shape {(rows, columns)}; expected 4 (LSTM), 3 (GRU) or 1 (RNN) rows for each "
            f"of {hidden_size} hidden units, 4 under a projection"
        )
    matches = [RECURRENT.fullmatch(name) for name in own]
    config: dict[str, Any] = {
        "input_size": input_size,
        "hidden_size": hidden_size,
        # counted, not taken from the highest: a gap is then a missing layer, and a huge number costs nothing
        "num_layers": len({match[2] for match in matches if match}),
        "bias": any(name.startswith("bias") for name in own),
        "bidirectional": any(name.endswith("_reverse") for name in own),
        "batch_first": batch_first,
    }
    if cell is RNN:
        config["nonlinearity"] = nonlinearity
    if projected:
        config["proj_size"] = columns
    return _filled(cell, config, own)


def _matrix_shape(own: Tensors, name: str) -> tuple[int, int]:
    if name not in own or own[name].ndim != 2:
        problem = f"has shape {own[name].shape}" if name in own else "is missing"
        raise ArgumentError(f"{name} {problem}; expected a matrix")
    rows, columns = own[name].shape
    return rows, columns


def _matrix(own: Tensors, embedding: bool) -> Layer:
    rows, columns = own["weight"].shape
    if embedding and "bias" not in own:
        return _filled(Embedding, {"num_embeddings": rows, "embedding_dim": columns}, own)
    return _filled(Linear, {"in_features": columns, "out_features": rows, "bias": "bias" in own}, own)


def _filled(layer_type: type[Weighted], config: dict[str, Any], weights: Tensors) -> Layer:
    for name, tensor in weights.items():
        if not np.issubdtype(tensor.dtype, np.floating):
            raise ArgumentError(f"{name} has dtype {tensor.dtype}; expected floats")
    dtype = arrays.working_dtype(*weights.values())
    layer = layer_type(**config, dtype=dtype, rng=UNDRAWN)  # type: ignore[call-arg]
    layer.load_state_dict(weights)
    return layer
