"""PyTorch's state dicts and pickled modules: which layers they are of, read off names and shapes.

What a module pickled whole says of itself is honoured, and must agree with its weights. What names and shapes
cannot prove is never guessed: it is left over, with the reason.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core import arrays
from ...errors import ArgumentError, OnwardError, SignatureError
from ...layers.activation import Activation, Softmax
from ...layers.base import NO_WEIGHTS, Layer, Weighted
from ...layers.conv import Conv1d, Conv2d, Convolution
from ...layers.embedding import Embedding
from ...layers.linear import Linear
from ...layers.norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from ...layers.pooling import AvgPool1d, AvgPool2d, MaxPool1d, MaxPool2d
from ...layers.rnn import LSTM, RNN
from .archive import MAX_AXES
from .names import CELLS, RECURRENT, Merged, Tensors, is_torchs

MATRICES = {"Linear": False, "NonDynamicallyQuantizableLinear": False, "Embedding": True}
# What becomes a layer only of a module that says its options itself.
STATED: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        *(Conv1d, Conv2d, MaxPool1d, MaxPool2d, AvgPool1d, AvgPool2d),
        *(BatchNorm1d, BatchNorm2d, LayerNorm, GroupNorm),
    )
}
# At inference with running statistics these are, without them each channel is a group.
INSTANCE_NORMS: dict[str, type[Layer]] = {"InstanceNorm1d": BatchNorm1d, "InstanceNorm2d": BatchNorm2d}
ACTIVATIONS = {
    "ReLU": "relu", "ReLU6": "relu6", "Tanh": "tanh", "Sigmoid": "sigmoid", "Hardsigmoid": "hard_sigmoid",
    "SiLU": "silu", "Mish": "mish", "SELU": "selu", "Softplus": "softplus", "Softsign": "softsign",
    "GELU": "gelu", "Hardtanh": "relu6", "LeakyReLU": "leaky_relu", "ELU": "elu",
}  # fmt: skip
PARAMETERS = {"LeakyReLU": "negative_slope", "ELU": "alpha"}
# What an activation of Onward does not have: the one value that an option may have, or None if not said.
RELU6 = {"min_val": (0,), "max_val": (6,)}
FIXED: dict[str, dict[str, tuple[Any, ...]]] = {
    "Softplus": {"beta": (1,), "threshold": (20,)},
    "Hardtanh": RELU6,
    # which some files do not say
    "ReLU6": {name: (*values, None) for name, values in RELU6.items()},
    "GELU": {"approximate": ("none", None)},
}
IDLE = "which does nothing here"
RECURRENT_OF_TORCH = {"RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"}
STATED_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
ALLOWED = {"return_indices": False, "divisor_override": None}  # what a layer of Onward does not have


class Parts(dict[str, Layer]):
    """The layers of a file by prefix, "" where there is none.

    `leftover` names the tensors that belong to no layer, and `reasons` says of modules why they are none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.leftover: list[str] = []
        self.reasons: dict[str, str] = {}

    @property
    def alone(self) -> Layer | None:
        """The one layer of a file in which nothing else acts."""
        return next(iter(self.values())) if len(self) == 1 and not (self.leftover or self.acting) else None

    @property
    def acting(self) -> dict[str, str]:
        """The reasons of modules that change what goes through them."""
        return {prefix: reason for prefix, reason in self.reasons.items() if not reason.endswith(IDLE)}


def parts(state_dict: Merged, nonlinearity: str, batch_first: bool) -> Parts:
    """The layers that a state dict holds the weights of.

    weight_ih_l0 and its kin make a recurrent layer, and the rows of weight_hh_l0 for each hidden unit tell
    its cell: 4 are an LSTM, 3 a GRU, 1 an RNN; a weight_hr_l0 is a projection. A matrix `weight` with a
    `bias` makes a Linear; without one, an Embedding if the name before it has "emb" in it, else a Linear,
    unless the file says what it is. A layer computes in float64 if any of its tensors is float64, else in
    float32. `nonlinearity` and `batch_first` are for layers of which the file does not say them.

    A module of a class that is not of torch.nn is no layer, whatever its weights; nor are weights of which
    doubts remain. What was left out is among the `reasons`.

    Raises an OnwardError that names the tensor where one is missing or does not fit the others.
    """
    groups: dict[str, dict[str, NDArray[Any]]] = {prefix: {} for prefix in state_dict.modules}
    for key, tensor in state_dict.tensors.items():
        prefix, _, name = key.rpartition(".")
        groups.setdefault(prefix, {})[name] = tensor

    parents = {"", *(prefix.rpartition(".")[0] for prefix in groups)}
    found = Parts()
    for prefix, group in groups.items():
        said = state_dict.modules.get(prefix, {})
        own: Tensors = {}
        try:
            if prefix in state_dict.doubts:
                raise Unknown(state_dict.doubts[prefix])
            layer, own = _layer(prefix, group, said, nonlinearity, batch_first)
            if layer is not None:
                found[prefix] = layer
        except Unknown as error:
            found.reasons[prefix] = str(error)
        except OnwardError as error:
            raise ArgumentError(f"{prefix or 'the state dict'}: {error}") from error
        known = prefix in found or prefix in found.reasons or (prefix in parents and not group)
        if not known and (reason := _reason(group, said)):
            found.reasons[prefix] = reason
        found.leftover += [f"{prefix}.{name}".lstrip(".") for name in group if name not in own]
    found.leftover += state_dict.others
    if not found:
        why = {prefix or "the whole": reason for prefix, reason in found.reasons.items()}
        problem = "; ".join(f"{prefix}: {reason}" for prefix, reason in why.items())
        names = ", ".join(found.leftover) or ("it is one tensor alone" if found.leftover else "it is empty")
        raise ArgumentError(f"no tensor belongs to a layer that Onward knows: {problem or names}")
    return found


def _layer(
    prefix: str, group: Tensors, said: Mapping[str, Any], nonlinearity: str, batch_first: bool
) -> tuple[Layer | None, Tensors]:
    """The layer that the tensors and the options of a module make, if any, and those of the tensors in it."""
    name = _class(said) if is_torchs(said) else ""
    own = {key: tensor for key, tensor in group.items() if RECURRENT.fullmatch(key)}
    if own and (not said or name in RECURRENT_OF_TORCH):
        return _recurrent(own, said, nonlinearity, batch_first), own
    if name in ACTIVATIONS:
        return _activation(name, said), {}
    if name == "Softmax":
        return Softmax(_option(said, "dim")), {}
    if name in STATED or name in INSTANCE_NORMS:
        own = {key: group[key] for key in STATED_TENSORS if key in group}
        kind, said = _normal(said) if name in INSTANCE_NORMS else (STATED[name], said)
        return _stated(kind, own, said), own
    own = {key: group[key] for key in ("weight", "bias") if key in group}
    if [tensor.ndim for tensor in own.values()] in ([2], [2, 1]) and "weight" in own:
        embedding = _is_embedding(prefix, own, said)
        if embedding is not None:
            return _matrix(own, said, embedding), own
    return None, {}


class Unknown(ArgumentError):
    """A module of a known class has an option that its layer in Onward has not, or does not say one."""


def _reason(group: Tensors, said: Mapping[str, Any]) -> str:
    """Why what has these tensors, or is such a module, is no layer; "" where nothing is known of it."""
    if said:
        name, path = _class(said), said["class"]
        if "quantized" in path or ".torch.classes." in path:
            return f"{name}, whose weights are quantized: save the model before that, and quantize it here"
        if "Dropout" in name or name == "Identity":
            return f"{name}, {IDLE}"
        return f"{name}, which {'is no layer of Onward' if group else 'has no weights'}"
    axes = group["weight"].ndim if "weight" in group else 0
    if "bias" in group and group["bias"].ndim > 1:
        axes = 1
    if "running_var" in group:
        return "a batch normalization, but a state dict does not say its eps"
    if axes in (3, 4):
        shape = group["weight"].shape
        return (
            f"a convolution, weight {shape}, but a state dict does not say its stride, padding and dilation"
        )
    return "a normalization, but a state dict does not say which, and its eps" if axes == 1 else ""


def _class(said: Mapping[str, Any]) -> str:
    name: str = said.get("class", "").rpartition(".")[2]
    return name


def _stated(kind: type[Layer], own: dict[str, NDArray[Any]], said: Mapping[str, Any]) -> Layer:
    """A layer whose options its module says; the sizes are those of its weights."""
    for name, value in ALLOWED.items():
        if (stated := _plain(said, name, value)) != value:
            raise Unknown(f"{_class(said)} with {name}={stated!r}, which Onward's does not have")
    options = [name for name in inspect.signature(kind).parameters if name not in ("bias", "dtype", "rng")]
    config = {name: _plain(said, name, None) for name in options if name in said}
    if not config:
        raise Unknown(f"{_class(said)}, but the file does not say its options")
    sizes = _sizes(kind, own, config)
    for name, value in sizes.items():
        if config.get(name, value) != value:
            raise ArgumentError(f"the file says {name}={config[name]!r}, but the weights have {value!r}")
    try:
        if not issubclass(kind, Weighted):
            return kind(**config)
        kind(**config | sizes, rng=NO_WEIGHTS)  # type: ignore[call-arg]
    except (ArgumentError, SignatureError) as error:
        raise Unknown(f"{_class(said)}: {error}") from error
    if "running_mean" in own:
        tracked = own.get("num_batches_tracked", np.zeros(()))  # which old files do not have
        own["num_batches_tracked"] = tracked.astype(own["running_mean"].dtype)
    return _filled(kind, config | sizes, own)


def _activation(name: str, said: Mapping[str, Any]) -> Activation:
    for option, values in FIXED.get(name, {}).items():
        if None not in values:
            _option(said, option)
        if (stated := _plain(said, option, None)) not in values:
            raise Unknown(f"{name} with {option}={stated!r}, which Onward's does not have")
    parameters = [_option(said, PARAMETERS[name])] if name in PARAMETERS else []
    try:
        return Activation(ACTIVATIONS[name], *parameters)
    except ArgumentError as error:
        raise Unknown(f"{name}: {error}") from error


def _option(said: Mapping[str, Any], name: str) -> Any:
    """What the file says; Unknown if it does not."""
    if (value := _plain(said, name, None)) is None:
        raise Unknown(f"{_class(said)}, but the file does not say its {name}")
    return value


def _normal(said: Mapping[str, Any]) -> tuple[type[Layer], Mapping[str, Any]]:
    """What an instance normalization is at inference, and its options there."""
    if _plain(said, "track_running_stats", False):
        return INSTANCE_NORMS[_class(said)], said
    sizes = ("num_groups", "num_channels") if "num_features" in said else ()
    return GroupNorm, {**said, **{name: said["num_features"] for name in sizes}}


def _sizes(kind: type[Layer], own: Tensors, config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that weights answer."""
    sizes: dict[str, Any] = {}
    weight, groups = own.get("weight"), config.get("groups", 1)
    if issubclass(kind, Convolution) and weight is not None and weight.ndim > 2 and isinstance(groups, int):
        sizes = {"in_channels": weight.shape[1] * groups, "out_channels": len(weight), "bias": "bias" in own}
        sizes["kernel_size"] = weight.shape[2:]
    elif issubclass(kind, LayerNorm):
        sizes = {"elementwise_affine": weight is not None, "bias": weight is None or "bias" in own}
        sizes |= {} if weight is None else {"normalized_shape": weight.shape}
    elif issubclass(kind, GroupNorm):
        sizes = {"affine": weight is not None} | ({} if weight is None else {"num_channels": weight.size})
    elif issubclass(kind, BatchNorm1d | BatchNorm2d):
        sizes = {"affine": weight is not None, "track_running_stats": "running_mean" in own}
        sizes |= {"num_features": own["running_mean"].size} if "running_mean" in own else {}
    return sizes


def _recurrent(own: Tensors, said: Mapping[str, Any], nonlinearity: str, batch_first: bool) -> Layer:
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
        "proj_size": columns if projected else 0,
        "peephole": "weight_peephole_l0" in own,  # of Onward: PyTorch has none
    }
    for name, value in config.items():
        if (stated := _plain(said, name, value)) != value:
            raise ArgumentError(f"the file says {name}={stated!r}, but the weights have {value!r}")
    kind, _, stated = str(_plain(said, "mode", cell.__name__)).upper().partition("_")
    if kind != cell.__name__:
        raise ArgumentError(f"the file says that it is {kind!r}, but the weights are of {cell.__name__}")
    if cell is RNN:
        config["nonlinearity"] = stated.lower() or _plain(said, "nonlinearity", nonlinearity)
    if cell is not LSTM:
        del config["proj_size"], config["peephole"]
    config["batch_first"] = _plain(said, "batch_first", batch_first)
    config["dropout"] = _plain(said, "dropout", 0.0)
    return _filled(cell, config, own)


def _plain(said: Mapping[str, Any], name: str, default: Any) -> Any:
    """What the file says, if it does; errors can show it."""
    value = said.get(name, default)
    flat = value if isinstance(value, tuple) else (value,)
    if len(flat) > MAX_AXES or not all(isinstance(item, bool | int | float | str | None) for item in flat):
        raise ArgumentError(f"the file says nothing plain of {name}: it is a {type(value).__name__}")
    return value


def _matrix_shape(own: Tensors, name: str) -> tuple[int, int]:
    if name not in own or own[name].ndim != 2:
        problem = f"has shape {own[name].shape}" if name in own else "is missing"
        raise ArgumentError(f"{name} {problem}; expected a matrix")
    rows, columns = own[name].shape
    return rows, columns


def _is_embedding(prefix: str, own: Tensors, said: Mapping[str, Any]) -> bool | None:
    """Whether a matrix is an Embedding or a Linear; None if the file says that it is neither."""
    if said:
        return MATRICES.get(_class(said)) if is_torchs(said) else None
    name = prefix.rpartition(".")[2].lower()
    if "bias" not in own and "norm" in name:
        raise Unknown("a matrix, or a normalization over two axes: a state dict does not say which")
    return "bias" not in own and "emb" in name


def _matrix(own: Tensors, said: Mapping[str, Any], embedding: bool) -> Layer:
    rows, columns = own["weight"].shape
    if not embedding:
        return _filled(Linear, {"in_features": columns, "out_features": rows, "bias": "bias" in own}, own)
    if (limit := _plain(said, "max_norm", None)) is not None:
        raise Unknown(f"{_class(said)} with max_norm={limit!r}, which Onward's does not have")
    padding = _plain(said, "padding_idx", None)
    config = {"num_embeddings": rows, "embedding_dim": columns, "padding_idx": padding}
    return _filled(Embedding, config, own)


def _filled(layer_type: type[Weighted], config: dict[str, Any], weights: Tensors) -> Layer:
    for name, tensor in weights.items():
        if not np.issubdtype(tensor.dtype, np.floating):
            raise ArgumentError(f"{name} has dtype {tensor.dtype}; expected floats")
    dtype = arrays.working_dtype(*weights.values())
    layer = layer_type(**config, dtype=dtype, rng=NO_WEIGHTS)  # type: ignore[call-arg]
    layer.load_state_dict(weights)
    return layer
