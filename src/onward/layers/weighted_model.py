"""The weights and the gradients of whole models."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays, facade
from ..core.arrays import Array, Shape
from ..core.checks import Rng
from ..errors import ArgumentError
from ..graph.graph import Graph
from .base_model import LOADING, BaseModel, IncompatibleKeys

if TYPE_CHECKING:
    from ..graph.trainable import Trainable


class GraphCache(NamedTuple):
    """The part of a forward pass that backward needs."""

    inputs: list[Any]
    outputs: list[tuple[Shape, Any]]  # their shapes and dtypes
    is_tuple: bool  # whether x was a tuple


def _gradient(dy: Any, shape: Shape, dtype: Any) -> Array:
    """The gradient with respect to an output of this shape and dtype, 0 for None and for integers."""
    if dy is None or dtype.kind != "f":
        return np.zeros(shape, dtype)
    return arrays.contiguous(arrays.as_gradient(dy, shape, dtype))


class WeightedModel(BaseModel):
    """A model that runs a graph, whose weights can be replaced and trained."""

    _graph: Graph

    def general_graph(self, fixed: Mapping[str, Any] | None = None) -> Graph:
        """Return the graph for all sizes; some inputs may be fixed."""
        raise NotImplementedError

    @property
    def of_sequences(self) -> Any:
        """The model whose initial states are zeros."""
        raise NotImplementedError

    def _restart(self, graph: Graph) -> None:
        """Run another graph with the same inputs and outputs from now on."""
        raise NotImplementedError

    def as_batch(self, y: Array, is_back: bool = False) -> Array:
        """Return an only output with its axes in the order of those of the input, or back."""
        raise NotImplementedError

    @cached_property
    def _trainable(self) -> Trainable:
        """The graph whose weights are inputs, which is the same for all weights."""
        from ..graph.trainable import Trainable  # slow to import

        return Trainable(self.general.of_sequences.graph.with_defaults(), self.trained_weights())

    @property
    def general(self) -> Any:
        """The model for all sizes."""
        raise NotImplementedError

    def trained_weights(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] | None = self.__dict__.get("_weights")
        if found is None:
            from ..graph.trainable import weights_of  # slow to import

            found = self.__dict__["_weights"] = weights_of(self.general_graph())
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of each constant of the source and of the weights of its cells, by name."""
        return {name: a.copy() for name, a in {**self._graph.constants, **self.trained_weights()}.items()}

    def checked_weights(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> tuple[dict[str, Any], IncompatibleKeys]:
        """The weights in a state dict, not copied. Raises ArgumentError.

        Constants that do not train are not expected, but may be there with the values that they have.
        """
        weights, constants = self.trained_weights(), self._graph.constants
        given = state_dict
        if isinstance(state_dict, Mapping):
            fixed = {
                name: constants[name] for name in state_dict if name in constants and name not in weights
            }
            different = [name for name, a in fixed.items() if not np.array_equal(a, state_dict[name])]
            if different:
                raise ArgumentError(f"{self!r} cannot take {', '.join(different)}: no weights, but constants")
            given = {name: value for name, value in state_dict.items() if name not in fixed}
        stored = {name: (array.shape, array.dtype) for name, array in weights.items()}
        found = arrays.as_weights(self, given, stored, strict)
        missing = [name for name in stored if name not in found]
        return found, IncompatibleKeys(missing, [name for name in given if name not in stored])

    def take_weights(self, weights: Mapping[str, Any]) -> None:
        if not weights:
            return
        from ..graph.trainable import with_weights  # slow to import

        with LOADING:
            after = {**self.trained_weights(), **weights}
            self._restart(with_weights(self.general_graph(), weights))
            self.__dict__["_weights"] = after

    def forward(
        self,
        x: ArrayLike | tuple[ArrayLike, ...],
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[Any, None, GraphCache]:
        """The output y of a call, or a tuple of several, no state, and a cache for backward.

        x is the only input, or a tuple of all; recurrent layers start at zeros, unless their initial states
        are among the inputs. Dropout does not act, and normalizations use the statistics of the model.
        `trained_weights` are the weights. Raises the errors of a call, and ArgumentError, which names the
        node, if an operation has no gradient, and for lengths that differ.
        """
        trainable = self._trainable
        if state is not None:
            raise ArgumentError(f"{self!r} takes no state: its states are inputs")
        if lengths is not None and len({*np.atleast_1d(lengths).tolist()}) > 1:
            given = np.asarray(lengths).tolist()
            raise ArgumentError(f"{self!r} trains on sequences of equal length, but the lengths are {given}")
        inputs = trainable.arrays(x)
        results = trainable.forward(*inputs, *self.trained_weights().values())
        cache = GraphCache(inputs, [(y.shape, y.dtype) for y in results], isinstance(x, tuple))
        return self.as_batch(results[0]) if len(results) == 1 else results, None, cache

    def backward(self, dy: Any, dstate: Any, cache: Any) -> tuple[Any, None, dict[str, Array]]:
        """Return dx, no gradient of a state, and the gradients of the weights by name.

        dy is the gradient of a scalar with respect to y, or a tuple of them, None for zeros. dx is a tuple
        if x is, and None for integers. Raises ShapeError, DtypeError, ArgumentError.
        """
        trainable = self._trainable
        if not isinstance(cache, GraphCache) or len(cache.inputs) != len(trainable.inputs):
            raise ArgumentError(f"cache was not returned by the forward method of {self!r}")
        if dstate is not None:
            raise ArgumentError(f"{self!r} takes no gradient of a state: its states are outputs")
        count = len(cache.outputs)
        given = [self.as_batch(arrays.as_array(dy, "dy"), is_back=True)] if count == 1 else list(dy)
        if len(given) != count:
            raise ArgumentError(f"dy has {len(given)} arrays; expected {count}, one for each output")
        dys = [_gradient(each, *output) for each, output in zip(given, cache.outputs, strict=True)]
        found = trainable.backward(*cache.inputs, *self.trained_weights().values(), *dys)
        dx, gradients = trainable.of_inputs(found)
        return tuple(dx) if cache.is_tuple else dx[0], None, gradients

    def weights_by_name(self) -> dict[str, Any]:
        return self._described()[1]

    def description(self) -> dict[str, Any]:
        """The graph as JSON. Raises ArgumentError, which names the node, if it runs a Python function."""
        return {"type": "Model", **self._described()[0]}

    def _described(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return facade.call("describe", self.general_graph())  # type: ignore[no-any-return]
