"""The base class of layers: configuration, weights under PyTorch's names, saving and pickling."""

from __future__ import annotations  # importing np.random is slow

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..core import arrays, facade
from ..core.arrays import Array, FloatDtype, Shape
from ..core.checks import LARGEST, Rng, checked, generator, unknown_arguments
from ..errors import ArgumentError, LayerAttributeError, MemoryLimitError
from .base_model import LOADING, BaseModel, IncompatibleKeys

if TYPE_CHECKING:
    from ..core.summary import Row
    from ..streaming.graph_pool import SequencePool
    from ..streaming.graph_stream import SequenceStream
    from ..tracing.trace import Trace

Draw: TypeAlias = "Callable[[np.random.Generator, Shape], Array]"  # of the initial values of a weight

NO_WEIGHTS: Any = object()  # as `rng`: allocate no weights until load_state_dict


class _Planners(dict[Any, Any]):
    """The planners of training, by dtype and whether there are lengths; copies of a layer share them.

    Pickles leave them out.
    """

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> Any:
        return type(self), ()


class Layer(BaseModel):
    """A callable on arrays whose constructor arguments are attributes of the same names; it holds weights."""

    step_shape: Shape | None = None
    _weights: Mapping[str, Array] = MappingProxyType({})
    _shapes: Mapping[str, Shape] = MappingProxyType({})  # of the weights before quantization

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]

    if not TYPE_CHECKING:  # type checkers should still report unknown attributes

        def __getattr__(self, name: str) -> Any:
            weight = self._weights.get(name)
            if weight is not None:
                view = weight.view()
                view.flags.writeable = False
                return view
            super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set each attribute once, in the constructor; raise LayerAttributeError for it, and for weights."""
        if name in self._weights:
            raise LayerAttributeError(
                f"{name} is a weight and read-only: use load_state_dict({{{name!r}: ...}}, strict=False)"
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
        self._check_gradients()
        y = self(x)
        return y, (self._floats(x, ()), y.shape)

    def _backward(self, dy: ArrayLike, cache: Any) -> tuple[Any, dict[str, Array]]:
        """Return dx and the gradients of the weights of a layer without a state: those of its graph."""
        x, shape = cache if isinstance(cache, tuple) and len(cache) == 2 else (None, None)
        if not isinstance(x, np.ndarray) or not isinstance(shape, tuple):
            raise self._foreign_cache()
        weights, (_, planner) = self._weights, self._trainable(x.dtype)
        given = (weights[name] for name in self._names_in_graphs())
        dy = arrays.contiguous(arrays.as_gradient(dy, shape, x.dtype))
        dx, *found = planner(arrays.contiguous(x), *given, dy)
        gradients = dict(zip(self._names_in_graphs(), found, strict=True))
        return dx, {name: gradients[name] for name in self.trained_weights()}

    def _names_in_graphs(self) -> Iterable[str]:
        """The weights that the output depends on, which are constants of these names in a graph."""
        return self._weights

    @cached_property
    def _of_weights(self) -> _Planners:
        return _Planners()

    def _trainable(self, dtype: FloatDtype, lengths: bool = False) -> tuple[Any, Any]:
        """The planners of the layer and of its gradients in a dtype, which are the same for all weights."""
        found = self._of_weights.get((dtype, lengths))
        if found is None:
            names = list(self._names_in_graphs())
            found = facade.call("trainable", self._in_graphs(), names, dtype, lengths)
            self._of_weights[dtype, lengths] = found
        return found  # type: ignore[no-any-return]

    def _in_graphs(self) -> Self:
        """The layer whose graph has the gradients."""
        return self

    def _check_gradients(self) -> None:
        """Raise ArgumentError if the layer has no gradients, as quantized ones have none."""

    def _check_cache(self, fits: bool) -> None:
        """Raise ArgumentError unless a cache fits the layer."""
        if not fits:
            raise self._foreign_cache()

    def _foreign_cache(self) -> ArgumentError:
        return ArgumentError(f"cache was not returned by the forward method of {self!r}")

    def stream(self, batch: int | None = None) -> SequenceStream:
        """One sequence that continues from call to call, or `batch` of them: `y = stream(x)`.

        Raises ArgumentError if the model needs future steps, as a reverse direction does.
        """
        stream: SequenceStream = facade.call("stream", self, batch)
        return stream

    def pool(self, capacity: int, max_capacity: int | None = None) -> SequencePool:
        """Thousands of streams, addressed by id: `ids = pool.open(n)`, `y = pool.step(ids, x)`.

        Memory is allocated for `capacity` streams and doubles as needed, up to max_capacity. Raises
        ArgumentError as `stream` does.
        """
        pool: SequencePool = facade.call("pool", self, capacity, max_capacity)
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
        for name, shape in self.float_shapes():
            yield name, shape
            if self.precision == "int8" and self.is_matrix(name, shape):
                yield f"{name}_scale", shape[:1]

    def float_shapes(self) -> Iterable[tuple[str, Shape]]:
        """The name and shape of each weight before quantization."""
        return self._shapes.items()

    def stored_weights(self) -> Iterator[tuple[str, Shape, np.dtype[Any]]]:
        """The name, shape and dtype of each weight."""
        for prefix, leaf in self.sublayers().items():
            for name, shape in leaf.shapes():
                is_quantized = leaf.precision and leaf.is_matrix(name, shape)
                yield prefix + name, shape, np.dtype(leaf.precision) if is_quantized else leaf.dtype

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

    @property
    def own_weights(self) -> Mapping[str, Array]:
        """The weights without those of other layers; a new dict replaces this one when they change."""
        return self._weights

    def take_weights(self, weights: Mapping[str, Array]) -> None:
        """Replace some weights with arrays of the right shape and dtype, and take ownership of them."""
        with LOADING:
            for prefix, leaf in self.sublayers().items():
                of_leaf = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
                if leaf is not self:
                    leaf.take_weights(of_leaf)
                    continue
                for name in DERIVED:  # first: a copy made meanwhile never combines them with new weights
                    self.__dict__.pop(name, None)
                self._weights = {**self._weights, **of_leaf}  # a new dict: a running call keeps the old one

    def __getstate__(self) -> dict[str, Any]:
        # copied in one step: another thread may be adding a derived attribute; copies share the planners
        state = self.__dict__.copy() | {"_of_weights": self._of_weights}
        return {name: value for name, value in state.items() if name not in DERIVED}

    def checked_weights(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> tuple[dict[str, Array], IncompatibleKeys]:
        """The weights in a state dict, not copied, in the dtypes of the layer. Raises ArgumentError."""
        stored = {name: (shape, dtype) for name, shape, dtype in self.stored_weights()}
        weights = arrays.as_weights(self, state_dict, stored, strict)
        missing = [name for name in stored if name not in weights]
        return weights, IncompatibleKeys(missing, [name for name in state_dict if name not in stored])


# Attributes derived from the weights when first needed.
DERIVED = "cell", "step_kernel", "_filters", "_backward_kernel", "_derived", "_planners"
