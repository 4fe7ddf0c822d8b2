"""A layer of a Keras model: its configuration, its weights, and the nodes that it writes into the graph.

A module of this package describes a kind of layer in one function:

    @layer("Dense", masks="kept")
    def dense(layer: Layer, x: Value, *, units: int, use_bias: bool = True) -> Value:
        ...

Its keyword arguments are keys of the configuration, those without a default value required. It adds nodes for
its inputs, and returns its output or a list of them. Functions that several layers share take further keys.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from ...core import budget
from ...core.arrays import FLOAT32, FLOAT64, FloatDtype
from ...core.identity import Identity
from ...errors import ArgumentError, FileError, OnwardError
from ...graph import Graph
from .stored_weights import MODELS, Tensor, Weights
from .writer import Value, Writer

HARMLESS = {
    "name", "trainable", "batch_input_shape", "batch_shape", "input_shape", "input_dim", "input_length",
    "sparse", "ragged", "optional", "seed", "noise_shape", "rate", "stddev", "dropout", "recurrent_dropout",
    "implementation", "unroll", "stateful", "use_cudnn", "momentum", "renorm", "renorm_clipping",
    "renorm_momentum", "synchronized", "virtual_batch_size", "fused", "unit_forget_bias", "input_spec",
    "quantization_config", "batch_size", "build_input_shape", "flash_attention", "output_shape",
    "query_shape", "key_shape", "value_shape", "shared_axes", "fill_mode", "fill_value",
}  # fmt: skip
HARMLESS_ENDINGS = ("_initializer", "_regularizer", "_constraint")
UNLESS_SET = {
    "lora_rank", "lora_alpha", "quantization_mode", "custom_objects", "gptq_unpacked_column_size",
    "num_constants", "time_major", "use_gate", "softmax_robust_masking", "sliding_window", "rms_scaling",
    "crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias",
}  # fmt: skip  # change nothing where they are None or False
COMPUTE_DTYPES = {
    "float32": FLOAT32, "float64": FLOAT64, "float16": FLOAT32, "bfloat16": FLOAT32,
    "mixed_float16": FLOAT32, "mixed_bfloat16": FLOAT32,
}  # fmt: skip  # half precision is computed in float32
CELLS_ONLY = ("SimpleRNNCell", "LSTMCell", "GRUCell")  # which are no layers of a model
PACKAGES = ("keras", "tf_keras", "tensorflow")
REQUIRED: Any = inspect.Parameter.empty

Made = TypeVar("Made")
Masks = Literal["dropped", "kept", "kept in 3", "own"]
Function = Callable[..., Any]


class Kind(NamedTuple):
    """What describes a kind of layer.

    `arguments` are the arguments of its call after the inputs, in Keras' order; None accepts any. `masks`
    tells what becomes of the mask of the first input; with "own", the function sets the masks of its outputs.
    """

    function: Function
    arguments: tuple[str, ...] | None
    masks: Masks


LAYERS: dict[str, Kind] = {}


def layer(
    *names: str, masks: Masks = "dropped", arguments: tuple[str, ...] | None = ()
) -> Callable[[Function], Function]:
    """Register a function for Keras classes."""

    def register(function: Function) -> Function:
        for name in names:
            LAYERS[name] = Kind(function, arguments, masks)
        return function

    return register


@dataclass
class Context:
    """What all layers of a file share."""

    version: int  # Keras 1, 2 or 3
    recurrent_activation: str  # the default of LSTM and GRU
    zeros_in_both: bool | None  # whether Bidirectional gives zeros where masked; None if unknown
    masks_inside: bool  # whether TimeDistributed passes masks to its layer and takes them from it
    attention_removes_masks: bool = (
        False  # whether MultiHeadAttention takes its inputs' masks from later layers
    )
    theano: bool = False  # whether the kernels of convolutions are Theano's
    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    graph: Graph = field(default_factory=Graph)  # that all layers write
    constants: dict[Identity, str] = field(default_factory=dict)
    unmasked: set[str] = field(default_factory=set)  # the values that lost their masks


class Layer(Writer):
    """One layer of a file. Each call writes nodes; all calls share the weights.

    Raises FileError, which names the layer, for what Onward does not support.
    """

    def __init__(self, entry: Any, weights: Weights, context: Context, path: str = "") -> None:
        check_entry(entry)
        if context.version == 1:
            entry = in_words_of_keras_2(entry)
        self.kind = str(entry.get("class_name"))
        self.module = entry.get("module")
        registered = entry.get("registered_name")
        self.full_kind = registered if isinstance(registered, str) and ">" in registered else self.kind
        config = entry["config"]
        self.config: dict[str, Any] = dict(config) if isinstance(config, dict) else {"layers": config}
        self.name = str(self.config.get("name", self.kind))
        self.path = f"{path}/{self.name}" if path else self.name
        self.weights, self.context = weights, context
        self.graph, self.constants = context.graph, context.constants
        self._left = dict(self.config)
        self.memory: dict[str, Any] = {}  # what a function keeps from call to call
        self.custom = self.custom_object(self.name, self.full_kind, self.kind)
        self.kind_name, self.type = self._find_kind()
        # layers convert floats to their dtype; operations, models and functions do not
        self.converts = self.type.arguments is not None and self.kind not in (*MODELS, *CELLS_ONLY)

    def custom_object(self, *names: str) -> Any:
        """Return the object of the user for the first of these names that has one, or None."""
        objects = self.context.custom_objects
        return next((objects[name] for name in names if name in objects), None)

    def _find_kind(self) -> tuple[str, Kind]:
        """Return the Keras class that describes the layer, and what it registered."""
        if isinstance(self.custom, type):
            name = _known_base(self, self.custom)
            return name, LAYERS[name]
        if self.custom is not None:
            return self.kind, Kind(_python, None, "dropped")
        if self.is_operation():
            return self.kind, LAYERS[f"ops.{self.kind}"]
        if self.kind in CELLS_ONLY:
            return self.kind, Kind(_python, (), "dropped")
        of_keras = self.module is None or str(self.module).split(".")[0] in PACKAGES
        if self.full_kind not in LAYERS or not of_keras or _in_operations(self.module):
            is_code = self.kind == "Lambda"
            raise FileError(
                f"layer {self.name} is a {self.full_kind}, "
                + ("whose code Onward does not run" if is_code else "which Onward does not know")
                + f": pass a function of arrays{'' if is_code else ' or the layer class that it extends'}, "
                f"custom_objects={{{self.name if is_code else self.full_kind!r}: ...}}"
            )
        return self.full_kind, LAYERS[self.full_kind]

    def is_operation(self) -> bool:
        """Whether this is an operation of Keras 3, some of which have the names of layers."""
        of_operations = _in_operations(self.module)
        if self.module is None:  # in HDF5 files
            of_operations = self.context.version == 3 and "trainable" not in self.config
        return of_operations and f"ops.{self.kind}" in LAYERS

    # Reading the configuration.

    def option(self, key: str, default: Any = REQUIRED) -> Any:
        """Return the value of a key, which is then honored."""
        if key not in self._left and default is REQUIRED:
            raise self.error(f"does not say its {key}")
        return self._left.pop(key, default)

    def rest(self) -> dict[str, Any]:
        """Return all keys that nobody took."""
        left, self._left = self._left, {}
        return left

    def dtype(self) -> FloatDtype:
        """Return the dtype of the computation."""
        self._left.pop("dtype", None)
        dtype = dtype_name(self.config.get("dtype", "float32"))
        if dtype not in COMPUTE_DTYPES:
            raise self.error(f"has dtype {dtype!r}, which Onward does not compute in")
        return COMPUTE_DTYPES[dtype]

    def arrays(self, *present: Any, part: str = "") -> list[Any]:
        """Return the weights of the layer or of a part, in Keras' order, and None for those not present."""
        weights = self.weights.part(part) if part else self.weights
        found = iter(self.once(f"arrays {part}", lambda: weights.take(sum(map(bool, present)))))
        return [next(found) if each else None for each in present]

    def part(self, weights: str, entry: Any) -> "Layer":
        """Return a layer inside this one, whose weights are in the attribute `weights`."""
        return self.once(
            f"part {weights}", lambda: Layer(entry, self.weights.part(weights), self.context, self.path)
        )

    def read(self, function: Callable[..., Made]) -> Made:
        """Return what a function reads of the configuration, every key of which it must take."""
        self._left = dict(self.config)
        found = self.call(function)
        self._finish()
        return found

    def call(self, function: Callable[..., Made], *inputs: Value, **options: Any) -> Made:
        """Call a function of the layer and inputs with the options of the call and those of the layer."""
        others = {*(self.type.arguments or ()), *options}
        own: dict[str, Any] = {}
        for key, default, is_float in _keys(function):
            if key not in others:
                value = self.option(key, default)
                own[key] = float(value) if is_float else value  # JSON may hold an integer
        return function(self, *inputs, **own, **options)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Let errors name the layer."""
        try:
            yield
        except FileError:
            raise
        except OnwardError as error:
            raise FileError(f"layer {self.name} ({self.kind}): {error}") from error
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise FileError(
                f"layer {self.name} ({self.kind}) is not described as Keras does: {error!r}"
            ) from error

    def _finish(self) -> None:
        """Raise FileError for a key that nobody took and that may change a number."""
        if isinstance(self.custom, type):
            return  # a subclass may have keys of its own
        if "dtype" in self._left:
            self.dtype()
        for key, value in self._left.items():
            harmless = key in HARMLESS or key.endswith(HARMLESS_ENDINGS) or (key, value) == ("groups", 1)
            if not harmless and not (key in UNLESS_SET and not value):
                raise self.error(f"has {key}={str(value)[:80]}, which Onward does not support")

    def __call__(self, *inputs: Value, **options: Any) -> list[Value]:
        """Write the nodes of one call, and return its outputs.

        `mask` and `mask_inside` are masks for the inputs, in order, that replace their own; with the latter,
        the output has the mask of the input.
        """
        own, inside = options.pop("mask", []), options.pop("mask_inside", [])
        masks = own or inside
        masked = [x.with_mask(mask) for x, mask in zip(inputs, masks, strict=False)]
        self._left = dict(self.config)
        budget.spend(50 * budget.STEP + budget.STEP * len(self._left))
        given = [*masked, *inputs[len(masked) :]]
        with self.errors():
            if self.converts:
                given = [self.floats(x) if x.dtype.kind == "f" else x for x in given]
            found = self.call(self.type.function, *given, **options)
            if self.type.function is not _python:
                self._finish()
        outputs = found if isinstance(found, list) else [found]
        if self.type.masks != "own":
            kept = self.type.masks == "kept" or (self.type.masks != "dropped" and self.context.version == 3)
            mask = (masked or inputs)[0].mask if kept and inputs else None
            outputs = [y.with_mask(mask) for y in outputs]
        if inside:
            outputs = [y.with_mask(y.mask and inputs[0].mask) for y in outputs]
        return outputs

    def applied(self, where: Writer, x: Value) -> Value:
        """Return the output of a call whose nodes are written where another layer writes."""
        self.graph, self.constants = where.graph, where.constants
        return self(x)[0]

    def once(self, key: str, make: Callable[[], Made]) -> Made:
        """Return what `make` returned in the first call, for all calls of the layer."""
        if key not in self.memory:
            self.memory[key] = make()
        made: Made = self.memory[key]
        return made

    def weight(self, name: str, array: Any) -> Any:
        """Add a weight as a constant that all calls share; None stays None."""
        if array is None:
            return None
        return self.constant(self.once(name, lambda: np.asarray(array, self.dtype())), name)

    def product(self, x: Value, kernel: Tensor, bias: Tensor | None, name: str = "") -> Value:
        """Add the product of x and a kernel (inputs, outputs), plus a bias; the names have a prefix."""
        weights = [self.weight(f"{name}kernel", kernel), self.weight(f"{name}bias", bias)]
        return self.add("MatMul", x, *weights)

    def floats(self, x: Value) -> Value:
        """Convert a value to the dtype of the computation."""
        return self.cast(x, self.dtype())

    def only_floats(self, x: Value) -> Value:
        """Convert floats as `floats` does. Raises FileError for integers, where Keras rounds the output."""
        if x.dtype.kind != "f":
            raise self.error(f"takes {x.dtype}: Keras computes integers here, which Onward does not support")
        return self.floats(x)


@cache
def _keys(function: Function) -> list[tuple[str, Any, bool]]:
    """Return the keys that a function takes, their default values, and whether they are floats."""
    parameters = inspect.signature(function).parameters.values()
    named = [each for each in parameters if each.kind is each.KEYWORD_ONLY]
    return [(each.name, each.default, each.annotation is float) for each in named]


# The words of Keras 1 in those of Keras 2.
CLASSES = {"Convolution1D": "Conv1D", "Convolution2D": "Conv2D", "TimeDistributedDense": "Dense"}
MERGES = {
    "sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate",
}  # fmt: skip
KEYS = {
    "output_dim": "units", "inner_activation": "recurrent_activation", "bias": "use_bias", "p": "rate",
    "sigma": "stddev", "nb_filter": "filters", "filter_length": "kernel_size", "subsample": "strides",
    "subsample_length": "strides", "border_mode": "padding", "pool_length": "pool_size", "stride": "strides",
    "dim_ordering": "data_format",
}  # fmt: skip
ORDERINGS = {"tf": "channels_last", "th": "channels_first"}
OF_TRAINING = {
    "init", "inner_init", "forget_bias_init", "beta_init", "gamma_init", "W_regularizer", "U_regularizer",
    "b_regularizer", "W_constraint", "b_constraint", "dropout_W", "dropout_U", "input_dtype",
}  # fmt: skip


def in_words_of_keras_2(entry: dict[str, Any]) -> dict[str, Any]:
    """A layer's entry as Keras 2 would have it; what has none is left for an error that names it."""
    kind, config = entry.get("class_name"), entry["config"]
    if not isinstance(config, dict):
        return entry
    config = {key: value for key, value in config.items() if key not in OF_TRAINING}
    if kind == "Merge":
        if config.get("mode") not in MERGES or config.get("layers"):
            return entry
        kind = MERGES[config["mode"]]
        kept = {"axis": config.get("concat_axis", -1)} if kind == "Concatenate" else {}
        return entry | {"class_name": kind, "config": kept | {"name": config.get("name", kind)}}
    if kind != "Embedding":
        config = {KEYS.get(key, key): value for key, value in config.items()}
    if "data_format" in config:
        config["data_format"] = ORDERINGS.get(config["data_format"], config["data_format"])
    if kind == "Convolution1D":
        config["kernel_size"] = [config["kernel_size"]]
    if kind == "Convolution2D":
        config["kernel_size"] = [config.pop("nb_row"), config.pop("nb_col")]
    if kind == "BatchNormalization" and config.get("mode") == 0:  # others take the batch's own averages
        del config["mode"]
    return entry | {"class_name": CLASSES.get(str(kind), kind), "config": config}


def check_entry(entry: Any) -> None:
    """Raise FileError for what describes no layer."""
    if not isinstance(entry, dict) or not isinstance(entry.get("config"), dict | list):
        raise FileError(f"the configuration has {str(entry)[:80]!r} where a layer was expected")


def dtype_name(value: Any) -> Any:
    """Return the name of a dtype, or of the policy that Keras 3 writes for one."""
    return value.get("config", {}).get("name") if isinstance(value, dict) else value


def _in_operations(module: Any) -> bool:
    return str(module).startswith(("keras.src.ops.", "keras.ops"))


# The Keras classes of layers of Onward with another name.
COUNTERPARTS = {
    "Linear": "Dense", "RNN": "SimpleRNN", "Conv1d": "Conv1D", "Conv2d": "Conv2D",
    "LayerNorm": "LayerNormalization", "BatchNorm1d": "BatchNormalization",
    "BatchNorm2d": "BatchNormalization", "GroupNorm": "GroupNormalization",
    "MaxPool1d": "MaxPooling1D", "MaxPool2d": "MaxPooling2D", "AvgPool1d": "AveragePooling1D",
    "AvgPool2d": "AveragePooling2D",
}  # fmt: skip


def _known_base(layer: Layer, given: type) -> str:
    """Return the Keras class that a class is or extends: of Keras, of the user, or of Onward."""
    for base in given.__mro__:
        name = base.__name__
        if base.__module__.partition(".")[0] == __name__.partition(".")[0]:
            name = COUNTERPARTS.get(name, name)
        if name in LAYERS and not name.startswith("ops."):
            return name
    raise ArgumentError(
        f"custom_objects has {given.__name__} for layer {layer.name}, which extends no layer of Onward"
    )


@dataclass
class PythonCall:
    """A function of the user in place of a layer: y = function(x, *weights); several inputs are a list."""

    function: Callable[..., Any]
    count: int  # the number of inputs; the arrays of `named` follow
    weights: Sequence[Tensor]
    options: Mapping[str, Any]
    named: Mapping[str, int | None]  # options that are arrays: how many in a list, or None for one array
    dtype: np.dtype[Any]  # floats have this dtype

    def __call__(self, *arrays: Tensor) -> Any:
        """Return the output, or a tuple of several."""
        x, rest = arrays[: self.count], iter(arrays[self.count :])
        options = dict(self.options)
        for name, size in self.named.items():
            options[name] = next(rest) if size is None else [next(rest) for _ in range(size)]
        y = self.function(x[0] if self.count == 1 else list(x), *self.weights, **options)
        return tuple(map(self._typed, y)) if isinstance(y, list | tuple) else self._typed(y)

    def _typed(self, y: Any) -> Tensor:
        array = np.asarray(y)
        return array.astype(self.dtype, copy=False) if array.dtype.kind == "f" else array


def _python(layer: Layer, *inputs: Value, **options: Any) -> list[Value]:
    """Call a function of the user; the outputs have unknown shapes."""
    weights = layer.once("weights", layer.weights.rest)
    arrays = {key: value for key, value in options.items() if isinstance(value, list)}
    named = {key: None if len(value) == 1 else len(value) for key, value in arrays.items()}
    others = {key: value for key, value in options.items() if key not in arrays}
    dtype = COMPUTE_DTYPES.get(dtype_name(layer.config.get("dtype")), FLOAT32)
    call = PythonCall(layer.custom, len(inputs), weights, others, named, dtype)
    values = [*inputs, *(value for values in arrays.values() for value in values)]
    count = layer.memory.get("outputs", 1)  # that the model uses
    return layer.add_all("Python", values, [None] * count, dtype, function=call)
