"""ONNX graphs as callable models."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike

from ...core import arrays
from ...errors import ArgumentError, DtypeError, OnwardError, ShapeError, SignatureError
from ...layers.sequential import Sequential
from ...streaming.pool import Pool
from ...streaming.stream import Stream
from ...tracing.trace import Trace
from .as_layers import layers_of
from .evaluator import Evaluator
from .file import initializers


class Graph:
    """The model in an ONNX file: takes the graph's inputs in order or by name, returns its outputs in order.

    Recurrent nodes run in Onward's core, including those in the bodies of Loop, If and Scan; other nodes run
    in NumPy. `inputs` and `outputs` are the names, including those of inputs with default values. Raises
    ArgumentError for a node that Onward does not support.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._types = {value.name: value.type for value in model.graph.input}
        self._defaults = {tensor.name for tensor in model.graph.initializer}
        self.inputs = tuple(self._types)
        self.outputs = tuple(value.name for value in model.graph.output)
        try:
            self._evaluator = Evaluator(model)
        except OnwardError:
            raise
        except Exception as error:  # the package's evaluator raises errors of any kind
            raise ArgumentError(f"the graph cannot be run: {error}") from error

    def __call__(self, /, *args: ArrayLike, **inputs: ArrayLike) -> tuple[Any, ...]:
        """Run the graph.

        Arrays are converted to the dtypes that the graph declares if these are of the same kind or wider.
        Raises SignatureError for unknown or missing inputs, ShapeError, DtypeError, and ArgumentError, which
        names the node, for values that a node does not accept.
        """
        if len(args) > len(self.inputs):
            raise SignatureError(f"got {len(args)} inputs; the graph takes ({', '.join(self.inputs)})")
        given = dict(zip(self.inputs, args, strict=False))
        twice, unknown = given.keys() & inputs, inputs.keys() - self._types.keys()
        given |= inputs
        missing = self._types.keys() - self._defaults - given.keys()
        for names, problem in (
            (twice, "inputs passed twice"),
            (unknown, "unknown inputs"),
            (missing, "missing inputs"),
        ):
            if names:
                takes = f"the graph takes ({', '.join(self.inputs)})"
                raise SignatureError(f"{problem}: {', '.join(sorted(names))}; {takes}")
        feed = {name: _as_declared(value, self._types[name], name) for name, value in given.items()}
        return tuple(self._evaluator.run(None, feed))

    def layers(self) -> Sequential:
        """Convert a chain of recurrent and dense nodes to layers, which stream, pool and trace.

        x has the layout of the graph's first input, as batch_first of the layers tells. Raises ArgumentError,
        which names the node, if a node cannot be converted.
        """
        return layers_of(self._evaluator)

    def stream(self, batch: int | None = None) -> Stream:
        """A stream of `layers()`; raises what these raise, as do the methods below."""
        return self.layers().stream(batch)

    def pool(self, capacity: int, max_capacity: int | None = None) -> Pool:
        """A pool of `layers()`."""
        return self.layers().pool(capacity, max_capacity)

    def trace(self, x: ArrayLike, state: Any = None, **options: Any) -> Trace:
        """A trace of `layers()`, with their options."""
        return self.layers().trace(x, state, **options)

    def quantize(self, precision: str, **options: Any) -> Sequential:
        """Quantize `layers()`, with their options."""
        return self.layers().quantize(precision, **options)

    def state_dict(self) -> dict[str, Any]:
        """A copy of each array in the graph, by name."""
        return initializers(self._model)

    def __repr__(self) -> str:
        return f"Graph(({', '.join(self.inputs)}) -> ({', '.join(self.outputs)}))"

    def __reduce__(self) -> tuple[Any, ...]:
        return Graph, (self._model,)


def _as_declared(value: ArrayLike, kind: onnx.TypeProto, name: str) -> Any:
    """Check an input's shape and convert it to the dtype that the graph declares."""
    if not kind.HasField("tensor_type"):
        return value  # a sequence or a map
    array = arrays.as_array(value, name)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)
    if array.dtype != dtype:
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise DtypeError(f"{name} has dtype {array.dtype}; the graph takes {dtype}: convert it first")
        with np.errstate(all="ignore"):
            array = array.astype(dtype)
    if kind.tensor_type.HasField("shape"):
        shape = [
            axis.dim_value if axis.HasField("dim_value") else None for axis in kind.tensor_type.shape.dim
        ]
        if array.ndim != len(shape) or any(
            n not in (None, m) for n, m in zip(shape, array.shape, strict=True)
        ):
            names = [axis.dim_param or str(axis.dim_value) for axis in kind.tensor_type.shape.dim]
            raise ShapeError(f"{name} has shape {array.shape}; the graph takes ({', '.join(names)})")
    return array.view()  # a new object, because nodes assume that the same object has the same values
