"""What all layers share: arguments checked and shown, weights under PyTorch's names, saving, pickling."""

from __future__ import annotations  # np.random is slow to import: not before a layer draws weights

import inspect
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..core import arrays, storage
from ..core.arrays import Array, FloatDtype, Shape
from ..core.checks import LARGEST, Rng, generator
from ..errors import ArgumentError, OnwardError, ShapeError

Value = TypeVar("Value")

# Calls a recurrent layer within a model: (its name, the layer, x, state, lengths) to (y, state).
Recur: TypeAlias = "Callable[[str, Any, Any, Any, Any], tuple[Any, Any]]"

UNDRAWN: Any = object()  # as `rng`: the layer gets no weights, and no memory is taken, until load_state_dict


class IncompatibleKeys(NamedTuple):
    """What load_state_dict did not find and did not use, as in PyTorch; both empty where it is strict."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def call(name: str, layer: Any, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
    """The Recur of a plain forward pass."""
    result: tuple[Any, Any] = layer(x, state, lengths=lengths)
    return result


class Layer:
    """Anything that is called on arrays. Constructor arguments are kept as attributes of the same names.

    A model is a layer made of others, its leaves. Whatever streams, traces or quantises models knows them by
    `_leaves`, `_replaced`, `_run`, `per_step` and `_step_shape` alone.
    """

    dtype: FloatDtype = arrays.FLOAT32
    # a file's arrays by the layer's names for them: set by onward.load, which stands above
    _weights_for: ClassVar[Callable[[Any, str | os.PathLike[str]], Mapping[str, Any]]]

    def __call__(self, x: ArrayLike, /) -> Any:
        raise NotImplementedError

    @property
    def per_step(self) -> bool:
        """Whether what comes out after a time step needs nothing but that step and the state before it."""
        return False

    @property
    def _takes_batch_first(self) -> bool:
        """Whether the batch leads in what it takes and gives, and not time."""
        return any(getattr(leaf, "batch_first", False) for leaf in self._leaves().values())

    @property
    def _step_shape(self) -> Shape | None:
        """The shape of one row of x at one time step; None: any."""
        return None

    def _leaves(self) -> dict[str, Layer]:
        """The layers that this one is made of, by the prefix of their weights' names; itself if of none."""
        return {"": self}

    def _chain(self) -> list[Layer] | None:
        """Its leaves in order, where each is called once, on what the one before it returned; else None."""
        return [self] if self._leaves() == {"": self} else None

    def _replaced(self, leaves: Mapping[str, Layer]) -> Layer:
        """The same model with other layers for the leaves named."""
        return leaves.get("", self)

    def _run(self, x: Any, state: Any, lengths: Any, recur: Recur) -> tuple[Any, Any]:
        """The output and the final state, each recurrent leaf being called through `recur`.

        The state of a recurrent layer is its own; that of a model a list, one for each of its recurrent
        leaves, in their order. Layers without a state return None for it.
        """
        return self(x), None

    def forward(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[Any, Any, Any]:
        """y and the final state as a call gives them, None where there is no state, and a cache for backward.

        With `rng`, a Generator or a seed, dropout acts, as in training. The cache keeps x and the state
        themselves where they have the layer's dtype already: leave them as they are until backward. Caches
        can be used many times, and pickled. Raises what a call raises, and ArgumentError for a layer that has
        no gradients.
        """
        raise ArgumentError(f"{self!r} has no gradients: it can be called, but not trained")

    def _check_cache(self, fits: bool) -> None:
        """Raises ArgumentError unless a cache fits the layer."""
        if not fits:
            raise ArgumentError(f"cache is not what a forward pass of {self!r} returned")

    def backward(self, dy: ArrayLike, dstate: Any, cache: Any) -> tuple[Any, Any, dict[str, Array]]:
        """dx, dstate and the gradient of each weight, by its name in the state dict.

        Derivatives of a scalar by x, by the initial state and by the weights, of those by y and by the final
        state, dstate, where None stands for zeros. The weights must be those that forward used. dx is None
        where x are integers. Raises ShapeError, DtypeError, ArgumentError.
        """
        raise ArgumentError(f"{self!r} has no gradients: it can be called, but not trained")

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "rng"]
        return {name: str(self.dtype) if name == "dtype" else getattr(self, name) for name in names}

    def description(self) -> dict[str, Any]:
        """The layer's type and configuration, from which `onward.load` builds it again."""
        return {"type": type(self).__name__, **self.config()}

    def __repr__(self) -> str:
        parameters = inspect.signature(type(self)).parameters
        shown = [
            repr(value) if parameters[name].default is inspect.Parameter.empty else f"{name}={value!r}"
            for name, value in self.config().items()
            if value != parameters[name].default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Name and shape of each weight, in PyTorch's order."""
        return iter(())

    def _stored(self) -> Iterator[tuple[str, Shape, np.dtype[Any]]]:
        """Name, shape and dtype of each weight."""
        for prefix, leaf in self._leaves().items():
            for name, shape in leaf.shapes():
                yield prefix + name, shape, leaf._dtype_of(name, shape)

    def _dtype_of(self, name: str, shape: Shape) -> np.dtype[Any]:
        """What one weight of a leaf is stored as."""
        return self.dtype

    def _compressed(self, precision: str) -> Layer:
        """A leaf with its matrices stored in less; itself where that is not done."""
        return self

    def _weights_by_name(self) -> dict[str, Array]:
        return {}

    def _take(self, weights: dict[str, Array]) -> None:
        """Replaces the weights named: arrays of the right shape and dtype that nobody else holds."""

    def state_dict(self) -> dict[str, Array]:
        """A copy of each weight under the name that PyTorch gives it."""
        return {name: weight.copy() for name, weight in self._weights_by_name().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copies weights in, converted to the dtype of the layer's own; changes nothing if it raises.

        A quantised layer takes what its own `state_dict` gives: halves, or int8 and scales.

        Returns the names that were missing and those that were not expected. Raises ArgumentError, which
        names all of them and every wrong shape and dtype; with `strict=False`, missing and unexpected names
        are no error.
        """
        if not isinstance(state_dict, Mapping):
            raise ArgumentError(
                f"load_state_dict takes a dict of arrays by name, not {type(state_dict).__name__}"
            )
        stored = list(self._stored())
        shapes, dtypes = {n: shape for n, shape, _ in stored}, {n: dtype for n, _, dtype in stored}
        missing = [name for name in shapes if name not in state_dict]
        unexpected = [name for name in state_dict if name not in shapes]
        problems = [f"{name} is missing; expected shape {shapes[name]}" for name in missing] if strict else []
        problems += [f"{name} is not expected" for name in unexpected] if strict else []
        weights = {}
        for name, shape in shapes.items():
            if name not in missing:
                try:
                    array = arrays.as_stored(state_dict[name], dtypes[name], name)
                    if array.shape != shape:
                        raise ShapeError(f"{name} has shape {array.shape}; expected {shape}")
                    weights[name] = array.copy()
                except OnwardError as error:
                    problems.append(str(error))
        if problems:
            raise ArgumentError("\n  ".join([f"{self!r} cannot take these weights:", *problems]))
        self._take(weights)
        return IncompatibleKeys(missing, unexpected)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Copies the weights of any file that `onward.load` opens into a model built by hand.

        Where its names are not the model's, layers of the same weights are matched in order. Of Keras' files,
        those of weights alone included, each layer takes what its counterpart in Keras has, in the layers'
        order; kernels, gates and cuDNN's layout are converted. Changes nothing if it raises: FileError, and
        ArgumentError as load_state_dict.
        """
        try:
            self.load_state_dict(self._weights_for(path))
        except ArgumentError as error:
            raise ArgumentError(f"{path}: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a safetensors file, architecture included, for `onward.load`.

        Whatever goes wrong, a file that was there before stays whole. Raises FileError.
        """
        storage.write(path, self._weights_by_name(), self.description())


# Attributes that are made of the weights when they are first needed.
PACKED = ("_kernel", "_layer_kernels", "_backward_kernel", "_backward_kernels")
_PACKING = threading.Lock()
if hasattr(os, "register_at_fork"):  # a child has no thread that would give it back
    os.register_at_fork(
        before=_PACKING.acquire, after_in_parent=_PACKING.release, after_in_child=_PACKING.release
    )


class packed(Generic[Value]):
    """An attribute of PACKED: a cached property, but never kept of weights replaced meanwhile."""

    def __init__(self, make: Callable[[Any], Value]) -> None:
        self._make = make

    def __get__(self, layer: Weighted, owner: type) -> Value:
        weights = layer._weights
        value = self._make(layer)
        with _PACKING:
            if layer._weights is weights:
                layer.__dict__[self._make.__name__] = value
        return value


class Weighted(Layer):
    """A layer that holds weights."""

    _weights: dict[str, Array]

    def _draw(self, dtype: DTypeLike, rng: Rng, draw: Callable[[np.random.Generator, Shape], Array]) -> None:
        """Sets dtype and initial weights, once the attributes are set that `shapes` depends on."""
        self.dtype = arrays.float_dtype(dtype)
        self._weights = {}
        if rng is UNDRAWN:
            return
        for name, shape in self.shapes():
            if math.prod(shape) > LARGEST // self.dtype.itemsize:
                raise ArgumentError(f"{name} would have shape {shape}, beyond what memory can hold")
        drawn = generator(rng)
        self._take({name: draw(drawn, shape).astype(self.dtype) for name, shape in self.shapes()})

    def _weights_by_name(self) -> dict[str, Array]:
        return self._weights

    def _take(self, weights: dict[str, Array]) -> None:
        with _PACKING:
            self._weights = self._weights | weights  # a new dict: a call meanwhile keeps the old one
            for name in PACKED:
                self.__dict__.pop(name, None)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in PACKED}


def uniform(bound: float) -> Callable[[np.random.Generator, Shape], Array]:
    """Draws from U(-bound, bound), PyTorch's initial weights."""
    return lambda generator, shape: generator.uniform(-bound, bound, shape)
