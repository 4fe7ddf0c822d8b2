"""Turn PyTorch's state dicts and pickled modules into layers, by their names, shapes and recorded options.

Options that a pickled module records are used, and must agree with its weights. Nothing is guessed: a module
that names and shapes do not identify is left out, with the reason.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core import arrays
from ...errors import ArgumentError, OnwardError, SignatureError
from ...layers.activation import Activation, Softmax
from ...layers.base import NO_WEIGHTS, Layer
from ...layers.conv import AvgPool1d, AvgPool2d, Conv1d, Conv2d, Convolution, MaxPool1d, MaxPool2d
from ...layers.linear import Embedding, Linear
from ...layers.norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from ...layers.rnn import LSTM, RNN
from ..zip import MAX_AXES
from .parts import NO_EFFECT, Parts
from .state_dict import CELLS, RECURRENT, StateDict, Tensors, is_from_torch

MATRICES: dict[str, type[Linear] | type[Embedding]] = {
    "Linear": Linear, "NonDynamicallyQuantizableLinear": Linear, "Embedding": Embedding
}  # fmt: skip
# These become layers only if the file records their options.
_CONVOLUTIONS = (Conv1d, Conv2d, MaxPool1d, MaxPool2d, AvgPool1d, AvgPool2d)
_NORMS = (BatchNorm1d, BatchNorm2d, LayerNorm, GroupNorm)
WITH_OPTIONS: dict[str, type[Layer]] = {kind.__name__: kind for kind in (*_CONVOLUTIONS, *_NORMS)}
# At inference, an instance norm with running statistics is a batch norm; without, each channel is a group.
INSTANCE_NORMS: dict[str, type[Layer]] = {"InstanceNorm1d": BatchNorm1d, "InstanceNorm2d": BatchNorm2d}
ACTIVATIONS = {
    "ReLU": "relu", "ReLU6": "relu6", "Tanh": "tanh", "Sigmoid": "sigmoid", "Hardsigmoid": "hard_sigmoid",
    "Hardswish": "hard_swish",
    "SiLU": "silu", "Mish": "mish", "SELU": "selu", "Softplus": "softplus", "Softsign": "softsign",
    "GELU": "gelu", "Hardtanh": "relu6", "LeakyReLU": "leaky_relu", "ELU": "elu",
}  # fmt: skip
NAMED = 10  # tensors in an error message
PARAMETERS = {"LeakyReLU": "negative_slope", "ELU": "alpha"}
# The only value of an option that Onward supports.
REQUIRED: dict[str, dict[str, Any]] = {
    "Softplus": {"beta": 1, "threshold": 20},
    "Hardtanh": {"min_val": 0, "max_val": 6},
    "GELU": {"approximate": "none"},
}
UNSUPPORTED = {"return_indices": False, "divisor_override": None, "max_norm": None}
RECURRENT_LAYERS, RECURRENT_CELLS = {"RNN", "LSTM", "GRU"}, {"RNNCell", "LSTMCell", "GRUCell"}
TENSOR_NAMES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def find_layers(
    state_dict: StateDict,
    nonlinearity: str | None,
    batch_first: bool | None,
    given: Mapping[str, Mapping[str, Any]] | None = None,
) -> Parts:
    """Find the layers whose weights a state dict contains.

    weight_ih_l0 and related names identify a recurrent layer; the rows of weight_hh_l0 per hidden unit
    identify its cell: 4 for an LSTM, 3 for a GRU, 1 for an RNN; weight_hr_l0 is a projection. A matrix
    `weight` with a `bias` is a Linear; without a bias it is an Embedding if its name contains "emb", else a
    Linear, unless the file records its class. A layer computes in float64 if any of its tensors is float64,
    else in float32. `nonlinearity` and `batch_first` apply to layers for which the file does not record them,
    and `given` holds the options of single modules by name.

    A module whose class is not torch.nn's is not a layer, whatever its weights.

    Raises an OnwardError that names the tensor if one is missing or does not fit the others.
    """
    groups: dict[str, dict[str, NDArray[Any]]] = {prefix: {} for prefix in state_dict.modules}
    for key, tensor in state_dict.tensors.items():
        prefix, _, name = key.rpartition(".")
        groups.setdefault(prefix, {})[name] = tensor

    parents = {"", *(prefix.rpartition(".")[0] for prefix in groups)}
    parts, given = Parts(), given or {}
    parts.containers = _sequential_modules(state_dict.modules)
    if unknown := given.keys() - groups.keys():
        raise ArgumentError(
            f"the file has no module {', '.join(sorted(unknown))}; it has {', '.join(filter(None, groups))}"
        )
    for prefix, group in groups.items():
        options = state_dict.modules.get(prefix, {})
        used: Tensors = {}
        try:
            if prefix in state_dict.doubts:
                raise Unsupported(state_dict.doubts[prefix])
            arguments: dict[str, Any] = {"nonlinearity": nonlinearity, "batch_first": batch_first}
            if prefix in given:
                options, arguments = _given_options(group, options, given[prefix], arguments)
            layer, used = _layer(prefix, group, options, **arguments)
            if layer is not None:
                parts[prefix] = layer
        except Unsupported as error:
            if prefix in given:
                raise ArgumentError(f"{prefix}: {error}") from error
            parts.reasons[prefix] = str(error)
        except OnwardError as error:
            raise ArgumentError(f"{prefix or 'the state dict'}: {error}") from error
        explained = prefix in parts or prefix in parts.reasons or (prefix in parents and not group)
        if not explained and (reason := _reason(group, options)):
            parts.reasons[prefix] = reason
        parts.leftover += [f"{prefix}.{name}".lstrip(".") for name in group if name not in used]
    parts.leftover += state_dict.others
    if not parts:
        raise ArgumentError(f"the file contains no layer that Onward supports: {_contents(parts)}")
    return parts


def _contents(parts: Parts) -> str:
    """Describe a file without layers: why its modules are none, or else its tensors."""
    if parts.reasons:
        return "; ".join(f"{prefix or 'the module'}: {reason}" for prefix, reason in parts.reasons.items())
    if not parts.leftover:
        return "it contains no tensors"
    names = [*filter(None, parts.leftover)]
    rest = f" and {len(names) - NAMED} more tensors" if len(names) > NAMED else ""
    return f"it contains {', '.join(names[:NAMED]) or 'a tensor without a name'}{rest}"


def _sequential_modules(modules: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """The names of the modules in each nn.Sequential, in order."""
    containers: dict[str, list[str]] = {
        name: []
        for name, options in modules.items()
        if is_from_torch(options) and _class(options) == "Sequential"
    }
    for name in filter(None, modules):
        containers.get(name.rpartition(".")[0], []).append(name)
    return containers


def _layer(
    prefix: str,
    group: Tensors,
    options: Mapping[str, Any],
    nonlinearity: str | None,
    batch_first: bool | None,
) -> tuple[Layer | None, Tensors]:
    """The layer that a module's tensors and options define, if any, and the tensors that it uses."""
    name = _class(options) if is_from_torch(options) else ""
    used = {key: tensor for key, tensor in group.items() if RECURRENT.fullmatch(key)}
    if used and (not options or name in RECURRENT_LAYERS | RECURRENT_CELLS):
        # a traced module records no options
        if name in RECURRENT_LAYERS and batch_first is None:
            _required_option(options, "batch_first", "pass batch_first to load")
        if name == "RNN" and nonlinearity is None:
            _required_option(options, "nonlinearity", "pass nonlinearity to load")
        return _recurrent(used, options, nonlinearity or "tanh", bool(batch_first)), used
    if name in ACTIVATIONS:
        return _activation(name, options), {}
    if name == "Softmax":
        return Softmax(_required_option(options, "dim")), {}
    if name in WITH_OPTIONS or name in INSTANCE_NORMS:
        used = {key: group[key] for key in TENSOR_NAMES if key in group}
        kind, options = _instance_norm(options) if name in INSTANCE_NORMS else (WITH_OPTIONS[name], options)
        return _layer_with_options(kind, used, options), used
    used = {key: group[key] for key in ("weight", "bias") if key in group}
    if (matrix := _matrix_type(prefix, used, options)) is None:
        return None, {}
    _check_supported(options)
    padding = {"padding_idx": _option(options, "padding_idx", None)} if matrix is Embedding else {}
    return _with_weights(matrix, _sizes(matrix, used, {}) | padding, used), used


def _given_options(
    group: Tensors, recorded: Mapping[str, Any], given: Mapping[str, Any], arguments: dict[str, Any]
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The options as if the file recorded those that are given, and the arguments of a recurrent layer.

    "type" is the class of the module if the weights do not tell it.
    """
    if recorded:
        raise ArgumentError("the file records its options; remove the argument")
    if any(map(RECURRENT.fullmatch, group)):
        if unknown := given.keys() - arguments.keys():
            raise ArgumentError(
                f"the options are {', '.join(sorted(unknown))}; expected nonlinearity or batch_first"
            )
        return {}, {**arguments, **given}
    axes, likely = group["weight"].ndim if "weight" in group else 0, "BatchNorm1d"
    if "running_var" not in group:
        likely = f"Conv{axes - 2}d" if axes > 2 else "GroupNorm" if "num_groups" in given else "LayerNorm"
    name = str(given.get("type", likely))
    if name not in WITH_OPTIONS:
        raise ArgumentError(f"the type is {name!r}; expected one of {', '.join(WITH_OPTIONS)}")
    kind = WITH_OPTIONS[name]
    known = inspect.signature(kind).parameters
    if unknown := given.keys() - known.keys() - {"type"}:
        raise ArgumentError(f"{name} has no option {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    derived = _sizes(kind, group, given).keys() - given.keys() | {"dtype", "rng", "type"}
    defaults = {key: p.default for key, p in known.items() if p.default is not p.empty}
    options = {key: value for key, value in {**defaults, **given}.items() if key not in derived}
    return {"class": f"torch.nn.{name}", **options}, arguments


class Unsupported(ArgumentError):
    """A module of a known class has an option that Onward does not support, or does not record one."""


def _reason(group: Tensors, options: Mapping[str, Any]) -> str:
    """Why a module with these tensors or options is not a layer; "" if nothing is known about it."""
    if options:
        name, path = _class(options), options["class"]
        if "quantized" in path or ".torch.classes." in path:
            return f"{name}, whose weights are quantized: save the model before quantizing it in PyTorch"
        has_effect = "Dropout" not in name and name != "Identity"
        return f"{name}, {'which Onward does not support' if has_effect else NO_EFFECT}"
    axes = group["weight"].ndim if "weight" in group else 0
    if "bias" in group and group["bias"].ndim > 1:
        axes = 1
    if "running_var" in group:
        return "a batch normalization, whose eps a state dict does not record"
    if axes in (3, 4):
        shape = group["weight"].shape
        return (
            f"a convolution with a weight of shape {shape}, whose stride, padding and dilation a state dict "
            "does not record: pass them to load by the module's name, such as "
            'conv={"stride": 1, "padding": 0}'
        )
    return "a normalization, whose kind and eps a state dict does not record" if axes == 1 else ""


def _class(options: Mapping[str, Any]) -> str:
    name: str = options.get("class", "").rpartition(".")[2]
    return name


def _layer_with_options(
    kind: type[Layer], used: dict[str, NDArray[Any]], options: Mapping[str, Any]
) -> Layer:
    """A layer with the options that its module records and the sizes of its weights."""
    _check_supported(options)
    parameters = [name for name in inspect.signature(kind).parameters if name not in ("bias", "dtype", "rng")]
    config = {name: _option(options, name, None) for name in parameters if name in options}
    if not config:
        raise Unsupported(f"{_class(options)}, whose options the file does not record")
    sizes = _sizes(kind, used, config)
    _check_sizes(config, sizes)
    try:
        if "rng" not in inspect.signature(kind).parameters:
            return kind(**config)
        kind(**config | sizes, rng=NO_WEIGHTS)  # type: ignore[call-arg]  # each class has its own arguments
    except (ArgumentError, SignatureError) as error:
        raise Unsupported(f"{_class(options)}: {error}") from error
    if "running_mean" in used:
        tracked = used.get("num_batches_tracked", np.zeros(()))  # old files do not have it
        used["num_batches_tracked"] = tracked.astype(used["running_mean"].dtype)
    return _with_weights(kind, config | sizes, used)


def _check_supported(options: Mapping[str, Any], only: Mapping[str, Any] = UNSUPPORTED) -> None:
    """Raise Unsupported if the file records another value of an option than the only supported one."""
    for name, value in only.items():
        if (recorded := _option(options, name, value)) != value:
            raise Unsupported(f"{_class(options)} with {name}={recorded!r}, which Onward does not support")


def _check_sizes(options: Mapping[str, Any], sizes: Mapping[str, Any]) -> None:
    """Raise ArgumentError if the file records other sizes than those of the weights."""
    for name, value in sizes.items():
        if (recorded := _option(options, name, value)) != value:
            raise ArgumentError(f"the file says {name}={recorded!r}, but the weights have {value!r}")


def _activation(name: str, options: Mapping[str, Any]) -> Activation:
    required = REQUIRED.get(name, {})
    # modules pickled before PyTorch 1.12 do not have the option of GELU
    if name != "GELU" or options["class"].startswith("__torch__."):
        for option in required:
            _required_option(options, option)
    _check_supported(options, required)
    parameters = [_required_option(options, PARAMETERS[name])] if name in PARAMETERS else []
    try:
        return Activation(ACTIVATIONS[name], *parameters)
    except ArgumentError as error:
        raise Unsupported(f"{name}: {error}") from error


def _required_option(options: Mapping[str, Any], name: str, fix: str = "") -> Any:
    """The value of an option that the file records. Raises Unsupported if it does not."""
    if (value := _option(options, name, None)) is None:
        raise Unsupported(f"{_class(options)}, whose {name} the file does not record{fix and ': '}{fix}")
    return value


def _instance_norm(options: Mapping[str, Any]) -> tuple[type[Layer], Mapping[str, Any]]:
    """The layer that an instance normalization is at inference, and its options."""
    if _option(options, "track_running_stats", False):
        return INSTANCE_NORMS[_class(options)], options
    sizes = ("num_groups", "num_channels") if "num_features" in options else ()
    return GroupNorm, {**options, **{name: options["num_features"] for name in sizes}}


def _sizes(kind: type[Layer], used: Tensors, config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that follow from the shapes of the weights."""
    sizes: dict[str, Any] = {}
    weight, groups = used.get("weight"), config.get("groups", 1)
    if issubclass(kind, Convolution) and weight is not None and weight.ndim > 2 and isinstance(groups, int):
        sizes = {"in_channels": weight.shape[1] * groups, "out_channels": len(weight), "bias": "bias" in used}
        sizes["kernel_size"] = weight.shape[2:]
    elif weight is not None and issubclass(kind, Linear):
        sizes = {"in_features": weight.shape[1], "out_features": len(weight), "bias": "bias" in used}
    elif weight is not None and issubclass(kind, Embedding):
        sizes = {"num_embeddings": len(weight), "embedding_dim": weight.shape[1]}
    elif issubclass(kind, LayerNorm):
        sizes = {"elementwise_affine": weight is not None, "bias": weight is None or "bias" in used}
        sizes |= {} if weight is None else {"normalized_shape": weight.shape}
    elif issubclass(kind, GroupNorm):
        sizes = {"affine": weight is not None} | ({} if weight is None else {"num_channels": weight.size})
    elif issubclass(kind, BatchNorm1d | BatchNorm2d):
        sizes = {"affine": weight is not None, "track_running_stats": "running_mean" in used}
        sizes |= {"num_features": used["running_mean"].size} if "running_mean" in used else {}
    return sizes


def _recurrent(used: Tensors, options: Mapping[str, Any], nonlinearity: str, batch_first: bool) -> Layer:
    _, input_size = _matrix_shape(used, "weight_ih_l0")
    rows, columns = _matrix_shape(used, "weight_hh_l0")
    projected = "weight_hr_l0" in used
    hidden_size = _matrix_shape(used, "weight_hr_l0")[1] if projected else columns
    cell = CELLS.get(rows // hidden_size) if hidden_size and rows % hidden_size == 0 else None
    if cell is None or (projected and cell is not LSTM):
        raise ArgumentError(
            f"weight_hh_l0 has shape {(rows, columns)}; expected 4 (LSTM), 3 (GRU) or 1 (RNN) rows for each "
            f"of {hidden_size} hidden units, and 4 with a projection"
        )
    matches = [RECURRENT.fullmatch(name) for name in used]
    config: dict[str, Any] = {
        "input_size": input_size,
        "hidden_size": hidden_size,
        # the count, not the highest index: a gap is then a missing layer, and a huge index costs nothing
        "num_layers": len({match[2] for match in matches if match}),
        "bias": any(name.startswith("bias") for name in used),
        "bidirectional": any(name.endswith("_reverse") for name in used),
        "proj_size": columns if projected else 0,
        "peephole": "weight_peephole_l0" in used,  # an option of Onward's own files
    }
    _check_sizes(options, config)
    kind, _, stated = str(_option(options, "mode", cell.__name__)).upper().partition("_")
    if kind != cell.__name__:
        raise ArgumentError(f"the file says mode={kind!r}, but the weights are those of {cell.__name__}")
    if cell is RNN:
        config["nonlinearity"] = stated.lower() or _option(options, "nonlinearity", nonlinearity)
    if cell is not LSTM:
        del config["proj_size"], config["peephole"]
    config["batch_first"] = _option(options, "batch_first", batch_first)
    config["dropout"] = _option(options, "dropout", 0.0)
    return _with_weights(cell, config, used)


def _option(options: Mapping[str, Any], name: str, default: Any) -> Any:
    """The recorded value of an option, or the default; a plain value that errors can show."""
    value = options.get(name, default)
    flat = value if isinstance(value, tuple) else (value,)
    if len(flat) > MAX_AXES or not all(isinstance(item, bool | int | float | str | None) for item in flat):
        raise ArgumentError(f"the file says that {name} is a {type(value).__name__}; expected a plain value")
    return value


def _matrix_shape(used: Tensors, name: str) -> tuple[int, int]:
    if name not in used or used[name].ndim != 2:
        problem = f"has shape {used[name].shape}" if name in used else "is missing"
        raise ArgumentError(f"{name} {problem}; expected a matrix")
    rows, columns = used[name].shape
    return rows, columns


def _matrix_type(prefix: str, used: Tensors, options: Mapping[str, Any]) -> type[Layer] | None:
    """The class of a matrix; None if the tensors are none, or if the file records another class."""
    if "weight" not in used or [tensor.ndim for tensor in used.values()] not in ([2], [2, 1]):
        return None
    if options:
        return MATRICES.get(_class(options)) if is_from_torch(options) else None
    name = prefix.rpartition(".")[2].lower()
    if "bias" not in used and "norm" in name:
        raise Unsupported("a matrix or a normalization over two axes; a state dict does not record which")
    return Embedding if "bias" not in used and "emb" in name else Linear


def _with_weights(layer_type: type[Layer], config: dict[str, Any], weights: Tensors) -> Layer:
    for name, tensor in weights.items():
        if not np.issubdtype(tensor.dtype, np.floating):
            raise ArgumentError(f"{name} has dtype {tensor.dtype}; expected floats")
    dtype = arrays.working_dtype(*weights.values())
    layer = layer_type(**config, dtype=dtype, rng=NO_WEIGHTS)  # type: ignore[call-arg]  # their own arguments
    layer.load_state_dict(weights)
    return layer
