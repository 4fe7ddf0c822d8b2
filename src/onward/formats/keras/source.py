"""A layer in Keras' configurations: every key is honoured, or known to change nothing, or an error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ...core.arrays import FLOAT32, FLOAT64, FloatDtype
from ...errors import FileError, OnwardError
from ...layers.base import Weighted
from . import runtime, version_1
from .runtime.activation_layers import ACTIVATIONS
from .runtime.operations import OPERATIONS
from .stored_weights import Tensor, Weights

HARMLESS = {
    "name", "trainable", "batch_input_shape", "batch_shape", "input_shape", "input_dim", "input_length",
    "sparse", "ragged", "optional", "seed", "noise_shape", "rate", "stddev", "dropout", "recurrent_dropout",
    "implementation", "unroll", "stateful", "use_cudnn", "momentum", "renorm", "renorm_clipping",
    "renorm_momentum", "synchronized", "virtual_batch_size", "fused", "unit_forget_bias", "input_spec",
    "kernel_initializer", "recurrent_initializer", "bias_initializer", "embeddings_initializer",
    "beta_initializer", "gamma_initializer", "moving_mean_initializer", "moving_variance_initializer",
    "alpha_initializer", "depthwise_initializer", "pointwise_initializer", "kernel_regularizer",
    "recurrent_regularizer", "bias_regularizer", "activity_regularizer", "embeddings_regularizer",
    "beta_regularizer", "gamma_regularizer", "alpha_regularizer", "kernel_constraint",
    "recurrent_constraint", "bias_constraint", "embeddings_constraint", "beta_constraint",
    "gamma_constraint", "alpha_constraint", "depthwise_regularizer", "depthwise_constraint",
    "pointwise_regularizer", "pointwise_constraint", "quantization_config", "batch_size", "build_input_shape",
}  # fmt: skip
UNLESS_SET = {
    "lora_rank", "lora_alpha", "quantization_mode", "custom_objects", "gptq_unpacked_column_size",
    "num_constants",
}  # fmt: skip  # change nothing where they are None
COMPUTE_DTYPES = {
    "float32": FLOAT32, "float64": FLOAT64, "float16": FLOAT32, "bfloat16": FLOAT32,
    "mixed_float16": FLOAT32, "mixed_bfloat16": FLOAT32,
}  # fmt: skip
RENAMED = {"swish": "silu", "hard_swish": "hard_silu", "leaky_relu_v2": "leaky_relu"}
REQUIRED: Any = object()

Filled = TypeVar("Filled", bound=Weighted)


@dataclass
class Context:
    """What is the same for all layers of a file."""

    builders: Mapping[str, Callable[["Source"], runtime.KerasLayer]]  # for each class of Keras
    version: int  # Keras 1, 2 or 3
    recurrent_activation: str  # of an LSTM or GRU that does not say
    zeros_in_both: bool | None  # whether Bidirectional gives zeros where masked; None if not known
    masks_inside: bool  # whether TimeDistributed hands masks to its layer and takes them from it
    theano: bool = False  # whether the convolutions are Theano's
    custom_objects: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


def check_entry(entry: Any) -> None:
    """Raises FileError for what describes no layer."""
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict | list):
        raise FileError(f"the configuration has {str(entry)[:80]!r} where a layer was expected")


def dtype_name(value: Any) -> Any:
    """The name of a dtype, or of the policy that Keras 3 writes for one."""
    return value.get("config", {}).get("name") if isinstance(value, dict) else value


class Source:
    """One layer's configuration, every key of which must be taken, and its weights."""

    def __init__(self, entry: Any, weights: Weights, context: Context) -> None:
        check_entry(entry)
        if context.version == 1:
            entry = version_1.translated(entry)
        self.kind = str(entry.get("class_name"))
        self.registered = entry.get("registered_name")
        self.module = entry.get("module")
        config = entry["config"]
        self.config: dict[str, Any] = dict(config) if isinstance(config, dict) else {"layers": config}
        self.name = str(self.config.get("name", self.kind))
        self.weights = weights
        self.context = context

    def take(self, key: str, default: Any = REQUIRED) -> Any:
        """The value of a key, which is then honoured."""
        if key not in self.config and default is REQUIRED:
            raise self.error(f"does not say its {key}")
        return self.config.pop(key, default)

    def dtype(self) -> FloatDtype:
        """Half precision is computed in float32."""
        dtype = dtype_name(self.take("dtype", "float32"))
        if dtype not in COMPUTE_DTYPES:
            raise self.error(f"has dtype {dtype!r}, which Onward does not compute in")
        return COMPUTE_DTYPES[dtype]

    def layer(self, key: str, part: str) -> runtime.KerasLayer:
        """The layer under a key, whose weights are in the attribute `part`."""
        return build(self.take(key), self.weights.part(part), self.context)

    def activation(self, key: str = "activation", default: Any = "linear") -> runtime.KerasLayer:
        """The layer that an activation is."""
        value = self.take(key, default)
        if isinstance(value, dict) and value.get("class_name") in self.context.builders:
            layer = build(value, self.weights.part(key), self.context)
            if type(layer).compute is runtime.KerasLayer.compute:
                raise self.error(f"has {key}={layer!r}, which is no function of one array")
            return layer
        name = _function_name(value)
        for each in (name, str(name).rpartition(">")[2]):  # with its package, or without
            if each in self.context.custom_objects:
                return runtime.Custom(each, self.context.custom_objects[each], keeps_mask=True)
        return runtime.Activation(self.named(key, value))

    def named(self, key: str, value: Any) -> str:
        """An activation's name as Onward has it: hard_sigmoid changed its slope in Keras 3."""
        value = _function_name(value)
        name = "linear" if value is None else RENAMED.get(value, value) if isinstance(value, str) else None
        if name not in ACTIVATIONS:
            raise self.error(
                f"has {key}={value!r}, which Onward does not know; functions of yours, as custom_objects, "
                "run outside the cells of recurrent layers alone"
            )
        return "hard_sigmoid_keras2" if name == "hard_sigmoid" and self.context.version < 3 else str(name)

    def error(self, problem: str) -> FileError:
        """An error that names the layer."""
        return FileError(f"layer {self.name} ({self.kind}) {problem}")

    def finish(self) -> None:
        """Raises FileError for a key that nobody took and that might change a number."""
        for key, value in self.config.items():
            if key not in HARMLESS and not (key in UNLESS_SET and not value):
                raise self.error(f"has {key}={str(value)[:80]}, which Onward does not support")


def _function_name(value: Any) -> Any:
    """The name of a function in a configuration."""
    if not isinstance(value, dict):
        return value
    return value.get("config") if value.get("class_name") == "function" else value.get("class_name")


def build(entry: Any, weights: Weights, context: Context) -> runtime.KerasLayer:
    """The layer that an entry of a configuration describes. Raises FileError, which names the layer."""
    source = Source(entry, weights, context)
    own = (
        source.registered if isinstance(source.registered, str) and ">" in source.registered else source.kind
    )
    for name in (source.name, own, source.kind):
        if name in context.custom_objects:
            return _custom(source, context.custom_objects[name])
    if _is_operation(source) and source.kind in OPERATIONS:
        settings = {k: v for k, v in source.config.items() if k != "name" and v is not None}
        return runtime.Operation(source.kind, settings)
    of_keras = source.module is None or str(source.module).split(".")[0] in (
        "keras",
        "tf_keras",
        "tensorflow",
    )
    if own not in context.builders or not of_keras or _is_operation(source):
        raise FileError(
            f"layer {source.name} is a {own}, which Onward does not know: give a function of arrays for it, "
            f"custom_objects={{{own!r}: function}}"
        )
    try:
        layer = context.builders[own](source)
        source.finish()
    except FileError:
        raise
    except OnwardError as error:
        raise FileError(f"layer {source.name} ({source.kind}): {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FileError(
            f"layer {source.name} ({source.kind}) is not described as Keras does: {error!r}"
        ) from error
    return layer


def _is_operation(source: Source) -> bool:
    """Keras 3 has operations beside layers, some of the same name; HDF5 files omit the module."""
    if source.module is None:
        known = source.context.version == 3 and source.kind in OPERATIONS
        return known and "trainable" not in source.config
    return str(source.module).startswith(("keras.src.ops.", "keras.ops"))


def filled(layer: Filled, weights: Mapping[str, Tensor]) -> Filled:
    """The layer with these weights."""
    layer.load_state_dict(weights)
    return layer


def _custom(source: Source, function: Callable[..., Any]) -> runtime.KerasLayer:
    return runtime.Custom(source.kind, function, source.weights.rest())
