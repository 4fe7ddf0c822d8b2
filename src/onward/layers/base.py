"""The base class of layers: configuration, weights under PyTorch's names, saving and pickling."""

from __future__ import annotations  # importing np.random is slow

import inspect
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..core import arrays, facade
from ..core.arrays import Array, FloatDtype, Shape
from ..core.checks import LARGEST, Rng, checked, generator, unknown_arguments
from ..core.equivalents import ATTRIBUTES
from ..errors import ArgumentError, LayerAttributeError, MemoryLimitError, OnwardError, ShapeError

if TYPE_CHECKING:
    from ..streaming.pool import Pool
    from ..streaming.stream import Stream
    from ..tracing.explore import Page
    from ..tracing.trace import Trace
    from .summary import Row

# How a model calls a recurrent sublayer: (its name, the layer, x, state, lengths) to (y, final state).
RunRecurrent: TypeAlias = "Callable[[str, Any, Any, Any, Any], tuple[Any, Any]]"
Draw: TypeAlias = "Callable[[np.random.Generator, Shape], Array]"  # of the initial values of a weight

# Class attributes that the constructors of some layers replace.
SET_BY_CONSTRUCTORS = {"batch_first", "causal", "dtype", "step_shape", "takes_vectors"}

NO_WEIGHTS: Any = object()  # as `rng`: allocate no weights until load_state_dict


class IncompatibleKeys(NamedTuple):
    """The missing and unexpected names that load_state_dict found; both are empty if strict."""

    missing_keys: list[str]
    unexpected_keys: list[str]


LOADING = threading.RLock()  # held while weights are replaced, so that a snapshot never mixes two sets
if hasattr(os, "register_at_fork"):  # a forked child has no thread that would release the lock
    os.register_at_fork(
        before=LOADING.acquire, after_in_parent=LOADING.release, after_in_child=LOADING.release
    )


def call(name: str, layer: Any, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
    """Call a recurrent sublayer as a plain forward pass does."""
    return layer(x, state, lengths=lengths)  # type: ignore[no-any-return]


class FamiliarNames:
    """What users of PyTorch and Keras type on any model: it works, or the error names Onward's equivalent.

    `_conversion` is the call that converts what is no Layer to one, for attributes that only a Layer has.
    """

    _conversion: ClassVar[str] = ""

    if not TYPE_CHECKING:  # type checkers should still report unknown attributes

        def __getattr__(self, name: str) -> None:
            hint = ""
            if name in ATTRIBUTES:
                hint = f": {ATTRIBUTES[name]}"
            elif self._conversion and not name.startswith("_") and hasattr(Layer, name):
                hint = f": use {self._conversion}.{name}"
            message = f"{type(self).__name__} has no attribute {name!r}{hint}"
            raise LayerAttributeError(message, name=name, obj=self)

    def summary_rows(self) -> Sequence[Row]:
        raise NotImplementedError

    def eval(self) -> Self:
        """The model itself, which always runs inference, as PyTorch does after eval()."""
        return self

    def cpu(self) -> Self:
        """The model itself, which always runs on the CPU."""
        return self

    def summary(self) -> None:
        """Print the kind, output shape and number of parameters of each layer, as `onward info` does."""
        print(facade.call("table", self.summary_rows()))


class Layer(FamiliarNames):
    """A callable on arrays whose constructor arguments are attributes of the same names.

    Streaming, tracing, training and the file formats see every layer and model through the attributes below:
    its sublayers, its states, and how its output at a time step depends on its input.
    """

    dtype: FloatDtype = arrays.FLOAT32
    step_shape: Shape | None = None  # the shape of one row of x at one time step; None if any is accepted
    takes_vectors: bool = True  # whether a batched input may be (B, F), without a time axis
    causal: bool = False  # whether the output at a step depends only on that step and on the state before it
    state_names: ClassVar[tuple[str, ...]] = ()  # ("h",) or ("h", "c") for a recurrent layer
    unchanged_by_step: ClassVar[bool] = False  # whether one time step on its own passes through unchanged
    step_kernel: Any = None  # the core's Stack or Dense that computes a time step, if the core supports it
    precision = ""  # the stored dtype of the matrices once quantized: "float16" or "int8"
    _weights: Mapping[str, Array] = MappingProxyType({})
    _shapes: Mapping[str, Shape] = MappingProxyType({})  # of the weights before quantization

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]

    def __call__(self, x: ArrayLike, /) -> Any:
        raise NotImplementedError

    if not TYPE_CHECKING:  # type checkers should still report unknown attributes

        def __getattr__(self, name: str) -> Any:
            weight = self._weights.get(name)
            if weight is not None:
                view = weight.view()
                view.flags.writeable = False
                return view
            super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set each attribute once, in the constructor; raise LayerAttributeError afterwards."""
        if name in self._weights:
            raise LayerAttributeError(
                f"{name} is a weight and read-only: use load_state_dict({{{name!r}: ...}}, strict=False)"
            )
        inherited = hasattr(type(self), name) and name not in SET_BY_CONSTRUCTORS
        if not name.startswith("_") and (name in self.__dict__ or inherited):
            raise LayerAttributeError(
                f"{type(self).__name__}.{name} is read-only: build a new layer and copy its weights with "
                "load_state_dict"
            )
        super().__setattr__(name, value)

    def _floats(self, x: ArrayLike, unknown: Iterable[str]) -> Array:
        """The input of a call in the dtype of the computation. Raises DtypeError, SignatureError."""
        if unknown:
            raise unknown_arguments(self, unknown, "x")
        array = x if type(x) is np.ndarray else arrays.as_array(x, "x")
        dtype = self.__dict__.get("dtype") or arrays.working_dtype(array)  # layers with weights have one
        return array if array.dtype == dtype else arrays.as_floats(array, dtype, "x")

    def summary_rows(self) -> list[Row]:
        layers = {name.rstrip("."): layer for name, layer in self.sublayers().items()}
        rows: list[Row] = facade.call("connected_rows", layers)
        return rows

    @property
    def batch_first(self) -> bool:
        """Whether the batch axis comes before the time axis."""
        return any(layer.batch_first for layer in self.sublayers().values() if layer is not self)

    def state_shapes(self, batch: int) -> tuple[Shape, ...]:
        """The shape of each array named in `state_names` for a batch."""
        return ()

    def sublayers(self) -> dict[str, Layer]:
        """The layers of this model by the prefix of their weight names; a single layer is its own."""
        return {"": self}

    def recurrent_sublayers(self) -> list[Any]:
        """The sublayers that have a state, in order."""
        return [layer for layer in self.sublayers().values() if layer.state_names]

    def with_sublayers(self, sublayers: Mapping[str, Layer]) -> Layer:
        """A copy of the model with some sublayers replaced."""
        return sublayers.get("", self)

    def frozen(self) -> Layer:
        """A model that shares the present weights and their packed copies, and keeps them from then on."""
        with LOADING:
            twins = {name: object.__new__(type(layer)) for name, layer in self.sublayers().items()}
            for name, layer in self.sublayers().items():
                twins[name].__dict__.update(layer.__dict__)
            return self.with_sublayers(twins)

    def split_states(self, state: Any) -> Sequence[Any]:
        """One state for each recurrent sublayer, from a state passed to a call. Raises ArgumentError."""
        count = len(self.recurrent_sublayers())
        if state is None:
            return [None] * count
        if not isinstance(state, list | tuple) or len(state) != count:
            kind = type(state).__name__
            given = f"{len(state)} states" if isinstance(state, list | tuple) else f"of type {kind}"
            raise ArgumentError(
                f"state is {given}, but must be a list of {count}, one for each recurrent layer"
            )
        return state

    def join_states(self, states: list[Any]) -> Any:
        """The state that a call returns, built from the state of each recurrent sublayer."""
        return states

    def run(self, x: Any, state: Any, lengths: Any, run_recurrent: RunRecurrent) -> tuple[Any, Any]:
        """Return the output and the final state; `run_recurrent` calls each recurrent sublayer."""
        return self(x), None

    def forward(
        self, x: ArrayLike, state: Any = None, *, lengths: ArrayLike | None = None, rng: Rng = None
    ) -> tuple[Any, Any, Any]:
        """The output y and final state of a call (None without a state), and a cache for backward.

        With `rng`, a Generator or a seed, dropout acts as in training. The cache may refer to x and the state
        instead of copying them: do not change them before backward. Caches can be reused and pickled. Raises
        the errors of a call, and ArgumentError for a layer without gradients.
        """
        y, cache = self._forward(x, lengths, rng)
        return y, None, cache

    def backward(self, dy: ArrayLike, dstate: Any, cache: Any) -> tuple[Any, Any, dict[str, Array]]:
        """Return dx, the gradient of the initial state, and the gradients of the weights by name.

        dy and dstate are the gradients of a scalar with respect to y and the final state (None for zeros).
        The weights must be those that forward used. dx is None if x holds integers. Raises ShapeError,
        DtypeError, ArgumentError.
        """
        dx, gradients = self._backward(dy, cache)
        return dx, None, gradients

    def _forward(self, x: ArrayLike, lengths: ArrayLike | None, rng: Rng) -> tuple[Any, Any]:
        """Return y and the cache of a layer without a state."""
        raise ArgumentError(f"{self!r} has no gradients: it supports inference only")

    def _backward(self, dy: ArrayLike, cache: Any) -> tuple[Any, dict[str, Array]]:
        """Return dx and the gradients of the weights of a layer without a state."""
        raise ArgumentError(f"{self!r} has no gradients: it supports inference only")

    def _check_cache(self, fits: bool) -> None:
        """Raise ArgumentError unless a cache fits the layer."""
        if not fits:
            raise ArgumentError(f"cache was not returned by the forward method of {self!r}")

    def stream(self, batch: int | None = None) -> Stream:
        """One sequence that continues from call to call, or `batch` of them: `y = stream(x)`.

        Raises ArgumentError if the model needs future steps, as a reverse direction does.
        """
        stream: Stream = facade.call("stream", self, batch)
        return stream

    def pool(self, capacity: int, max_capacity: int | None = None) -> Pool:
        """Thousands of streams, addressed by id: `ids = pool.open(n)`, `y = pool.step(ids, x)`.

        Memory is allocated for `capacity` streams and doubles as needed, up to max_capacity. Raises
        ArgumentError as `stream` does.
        """
        pool: Pool = facade.call("pool", self, capacity, max_capacity)
        return pool

    def trace(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        preactivations: bool = False,
    ) -> Trace:
        """Run x as a call does and record every gate and state of every recurrent layer, direction and step.

        Raises the errors of a call, and ArgumentError if the model has no recurrent layer.
        """
        trace: Trace = facade.call("trace", self, x, state, lengths, preactivations)
        return trace

    def explore(self, x: ArrayLike, *, classes: Sequence[str] | None = None, text: str | None = None) -> Page:
        """The interactive page of `onward explore` for a run on x; see `Trace.explore`."""
        return self.trace(x).explore(classes=classes, text=text)

    def quantize(
        self, precision: str, *, check: ArrayLike | None = None, tolerance: float | None = None
    ) -> Self:
        """A copy that stores its matrices and filters as "float16", or as "int8" with scales.

        The copy works like any model, and computes in float32. With float16, its outputs are those of a
        float32 model with the rounded weights. With int8, the weights and the vectors they multiply are
        quantized, each row by its largest magnitude, and products are summed exactly. Depthwise convolutions
        stay as they are. Its `state_dict` holds the stored arrays: `weight` and, for int8, `weight_scale`.

        With `check`, inputs x of the model, the largest absolute difference between the outputs must not
        exceed `tolerance`. Raises PrecisionError, which states the difference; DtypeError for a float64
        model; ArgumentError for weights that the precision cannot represent or that are already quantized.
        """
        small: Self = facade.call("quantize", self, precision, check, tolerance)
        return small

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "rng"]
        return {name: str(self.dtype) if name == "dtype" else getattr(self, name) for name in names}

    def description(self) -> dict[str, Any]:
        """The layer's type and configuration, from which `onward.load` rebuilds it."""
        return {"type": type(self).__name__, **self.config()}

    def __repr__(self) -> str:
        parameters = inspect.signature(type(self)).parameters
        arguments = [
            repr(value) if parameters[name].default is inspect.Parameter.empty else f"{name}={value!r}"
            for name, value in self.config().items()
            if value != parameters[name].default
        ]
        return f"{type(self).__name__}({', '.join(arguments)})"

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """The name and shape of each weight, in PyTorch's order."""
        for name, shape in self._float_shapes():
            yield name, shape
            if self.precision == "int8" and len(shape) > 1:
                yield f"{name}_scale", shape[:1]

    def _float_shapes(self) -> Iterable[tuple[str, Shape]]:
        """The name and shape of each weight before quantization."""
        return self._shapes.items()

    def stored_weights(self) -> Iterator[tuple[str, Shape, np.dtype[Any]]]:
        """The name, shape and dtype of each weight."""
        for prefix, leaf in self.sublayers().items():
            for name, shape in leaf.shapes():
                is_quantized = leaf.precision and len(shape) > 1
                yield prefix + name, shape, np.dtype(leaf.precision) if is_quantized else leaf.dtype

    def compressed(self, precision: str) -> Layer:
        """The layer with quantized matrices, or the layer itself if it has none to quantize."""
        return self

    def _draw(self, dtype: DTypeLike, rng: Rng, draw: Draw, **shapes: Shape | None) -> None:
        """Set dtype and draw the initial weights of these shapes, if they are not None."""
        self.dtype = arrays.float_dtype(dtype)
        self._shapes = {name: shape for name, shape in shapes.items() if shape is not None}
        if rng is NO_WEIGHTS:
            return
        for name, shape in self.shapes():
            if math.prod(shape) > LARGEST // self.dtype.itemsize:
                raise ArgumentError(f"{name} would have shape {shape}, which exceeds the address space")
        drawn = generator(rng)
        try:
            self.take_weights({name: draw(drawn, shape).astype(self.dtype) for name, shape in self.shapes()})
        except MemoryError as error:
            raise MemoryLimitError(f"the weights of {self!r} do not fit in memory: {error}") from error

    def weights_by_name(self) -> dict[str, Array]:
        """The weights, consistent even during a concurrent load_state_dict."""
        with LOADING:
            leaves = self.sublayers().items()
            return {prefix + name: w for prefix, leaf in leaves for name, w in leaf.own_weights.items()}

    @property
    def own_weights(self) -> Mapping[str, Array]:
        """The weights without those of other layers; a new dict replaces this one when they change."""
        return self._weights

    def take_weights(self, weights: Mapping[str, Array]) -> None:
        """Replace some weights with arrays of the right shape and dtype, and take ownership of them."""
        with LOADING:
            for prefix, leaf in self.sublayers().items():
                own = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
                if leaf is not self:
                    leaf.take_weights(own)
                    continue
                for name in DERIVED:  # first: a copy made meanwhile never combines them with new weights
                    self.__dict__.pop(name, None)
                self._weights = {**self._weights, **own}  # a new dict: a running call keeps the old one

    def __getstate__(self) -> dict[str, Any]:
        # copied in one step: another thread may be adding a derived attribute
        return {name: value for name, value in self.__dict__.copy().items() if name not in DERIVED}

    def state_dict(self) -> dict[str, Array]:
        """A copy of each weight under the name that PyTorch gives it."""
        return {name: weight.copy() for name, weight in self.weights_by_name().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy weights into the layer, converted to its dtype; changes nothing if it raises.

        A quantized layer takes the arrays of its own `state_dict`: float16, or int8 and scales. Returns the
        missing and the unexpected names. Raises ArgumentError, which lists these names and every wrong shape
        and dtype; with `strict=False`, missing and unexpected names are not an error.
        """
        weights, keys = self.checked_weights(state_dict, strict)
        self.take_weights({name: weight.copy() for name, weight in weights.items()})
        return keys

    def adopt(self, state_dict: Mapping[str, Any]) -> None:
        """Use arrays, which must not change, as weights; copy those of another dtype or layout."""
        self.take_weights(self.checked_weights(state_dict)[0])

    def checked_weights(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> tuple[dict[str, Array], IncompatibleKeys]:
        """The weights in a state dict, not copied, in the dtypes of the layer. Raises ArgumentError."""
        if not isinstance(state_dict, Mapping):
            kind = type(state_dict).__name__
            raise ArgumentError(f"load_state_dict takes a dict of arrays by name, not {kind}")
        stored = {name: (shape, dtype) for name, shape, dtype in self.stored_weights()}
        missing = [name for name in stored if name not in state_dict]
        unexpected = [name for name in state_dict if name not in stored]
        problems = [f"{name} is missing; expected shape {stored[name][0]}" for name in missing if strict]
        problems += [f"{name} is not expected" for name in unexpected if strict]
        weights = {}
        for name, (shape, dtype) in stored.items():
            if name in state_dict:
                try:
                    array = arrays.as_floats(state_dict[name], dtype, name)
                    if array.shape != shape:
                        raise ShapeError(f"{name} has shape {array.shape}; expected {shape}")
                    weights[name] = arrays.contiguous(array)
                except OnwardError as error:
                    problems.append(str(error))
        if problems:
            raise ArgumentError("\n  ".join([f"{self!r} cannot take these weights:", *problems]))
        return weights, IncompatibleKeys(missing, unexpected)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Copy the weights of any file that `onward.load` opens into this model.

        If the file's names differ from the model's, layers with the same weight shapes are matched in order.
        For Keras files, including weights-only files, each layer takes the weights of its Keras
        counterpart, in layer order; kernels, gates and the cuDNN layout are converted. Changes nothing if it
        raises: FileError, and ArgumentError as load_state_dict does.
        """
        try:
            self.load_state_dict(facade.call("weights_for", self, path))
        except ArgumentError as error:
            raise ArgumentError(f"{path}: {error}") from error

    def export_onnx(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write the model as ONNX. The options and the errors are those of `onward.export_onnx`."""
        facade.call("export_onnx", self, path, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the architecture and the weights to a safetensors file, for `onward.load`.

        If writing fails, an existing file is left unchanged. Raises FileError.
        """
        from ..core import storage  # imports the JSON and safetensors packages

        storage.write(path, self.weights_by_name(), self.description())


# Attributes derived from the weights when first needed.
DERIVED = ("step_kernel", "_filters", "_layer_kernels", "_backward_kernel", "_backward_kernels", "_planned")
