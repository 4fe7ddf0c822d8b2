"""ONNX graphs as models: inputs by name, the graph's outputs in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike

from ...core import arrays
from ...errors import ArgumentError, DtypeError, OnwardError, ShapeError, SignatureError
from ...graph import Planner
from ...layers.sequential import Sequential
from ...streaming.pool import Pool
from ...streaming.stream import Stream
from ...tracing.trace import Trace
from .chain import layers_of
from .evaluator import Evaluator
from .file import initializers
from .nodes import nodes_of


class Graph:
    """The model of an ONNX file: takes its graph's inputs in order or by name, returns its outputs in order.

    Recurrent nodes run in Onward's core wherever they are, in the bodies of Loop, If and Scan too, and all
    other nodes in NumPy. `inputs` and `outputs` are names, an input that has a default value among them.
    Raises ArgumentError for a node that is not supported.
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
        except Exception as error:  # the package's evaluator has no errors of its own
            raise ArgumentError(f"the graph cannot be run: {error}") from error
        nodes, known = self._evaluator.plan()
        self._planner = Planner(nodes_of(self._evaluator, nodes), known, self.outputs)

    def __call__(self, /, *args: ArrayLike, **inputs: ArrayLike) -> tuple[Any, ...]:
        """Runs the graph.

        Arrays are converted once to the dtypes that the graph declares, if those are of the same kind or a
        wider one. Raises SignatureError for inputs unknown or missing, ShapeError, DtypeError, and
        ArgumentError, which names the node, for values that a node cannot take.
        """
        if len(args) > len(self.inputs):
            raise SignatureError(f"{len(args)} inputs, but the graph takes ({', '.join(self.inputs)})")
        given = dict(zip(self.inputs, args, strict=False))
        twice, unknown = given.keys() & inputs, inputs.keys() - self._types.keys()
        given |= inputs
        missing = self._types.keys() - self._defaults - given.keys()
        for names, problem in ((twice, "given twice"), (unknown, "unknown"), (missing, "missing")):
            if names:
                takes = f"the graph takes ({', '.join(self.inputs)})"
                raise SignatureError(f"{problem}: {', '.join(sorted(names))}; {takes}")
        feed = {name: _as_declared(value, self._types[name], name) for name, value in given.items()}
        plan = self._planner.plan(feed)
        return tuple(self._evaluator.run(None, feed) if plan is None else plan(feed))

    def layers(self) -> Sequential:
        """The graph as layers, if it is a chain of recurrent and dense nodes: they stream, pool and trace.

        x is laid out as the graph's first input, which batch_first says; states go in and out as of any
        Sequential. Raises ArgumentError, which names the node that stands in the way.
        """
        return layers_of(self._evaluator)

    def stream(self, batch: int | None = None) -> Stream:
        """A stream of the graph as layers; raises what `layers` and theirs raise, as all of these do."""
        return self.layers().stream(batch)

    def pool(self, capacity: int, max_capacity: int | None = None) -> Pool:
        """A pool of the graph as layers."""
        return self.layers().pool(capacity, max_capacity)

    def trace(self, x: ArrayLike, state: Any = None, **options: Any) -> Trace:
        """A trace of the graph as layers, with the options of theirs."""
        return self.layers().trace(x, state, **options)

    def quantize(self, precision: str, **options: Any) -> Sequential:
        """The graph as layers, quantised, with the options of theirs."""
        return self.layers().quantize(precision, **options)

    def state_dict(self) -> dict[str, Any]:
        """A copy of each array that the graph holds, by name."""
        return initializers(self._model)

    def __repr__(self) -> str:
        return f"Graph(({', '.join(self.inputs)}) -> ({', '.join(self.outputs)}))"

    def __reduce__(self) -> tuple[Any, ...]:
        return Graph, (self._model,)


def _as_declared(value: ArrayLike, kind: onnx.TypeProto, name: str) -> Any:
    """An input in the dtype that the graph declares for it, once its shape agrees."""
    if not kind.HasField("tensor_type"):
        return value  # a sequence or a map
    array = arrays.as_array(value, name)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)
    if array.dtype != dtype:
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise DtypeError(f"{name} has dtype {array.dtype}, but the graph takes {dtype}: convert it first")
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
            raise ShapeError(f"{name} has shape {array.shape}, but the graph takes ({', '.join(names)})")
    return array.view()  # an object of its own, as a node takes the same object for the same values
