"""ONNX graphs as models: inputs by name, the graph's outputs in order."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

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
from .as_layers import layers_of
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
        self._inputs = {value.name: Input.declared(value) for value in model.graph.input}
        self._defaults = {tensor.name for tensor in model.graph.initializer}
        self.inputs = tuple(self._inputs)
        self.outputs = tuple(value.name for value in model.graph.output)
        try:
            self._evaluator = Evaluator(model)
        except OnwardError:
            raise
        except Exception as error:  # the package's evaluator has no errors of its own
            raise ArgumentError(f"the graph cannot be run: {error}") from error

    def __call__(self, /, *args: ArrayLike, **inputs: ArrayLike) -> tuple[Any, ...]:
        """Runs the graph.

        Arrays are converted once to the dtypes that the graph declares, if those are of the same kind or a
        wider one. Raises SignatureError for inputs unknown or missing, ShapeError, DtypeError, and
        ArgumentError, which names the node, for values that a node cannot take.
        """
        feed = dict(zip(self.inputs, args, strict=False)) | inputs
        if len(feed) != len(args) + len(inputs) or feed.keys() != self._inputs.keys():
            self._check_names(args, inputs)
        for name, value in feed.items():
            feed[name] = self._inputs[name].array(value)
        # an initializer that an input overrides is no constant
        plan = None if self._defaults and self._defaults & feed.keys() else self._planner.plan(feed)
        if plan is not None:
            return tuple(plan(feed))
        # an object of its own for each value, as a node takes the same object for the same values
        feed = {name: a.view() if isinstance(a, np.ndarray) else a for name, a in feed.items()}
        return tuple(self._evaluator.run(None, feed))

    @functools.cached_property
    def _planner(self) -> Planner:
        nodes, known = self._evaluator.plan()
        return Planner(nodes_of(nodes), known, self.outputs)

    def _check_names(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        """Raises SignatureError for inputs that are unknown, missing or given twice."""
        if len(args) > len(self.inputs):
            raise SignatureError(f"{len(args)} inputs, but the graph takes ({', '.join(self.inputs)})")
        positional = set(self.inputs[: len(args)])
        twice, unknown = positional & inputs.keys(), inputs.keys() - self._inputs.keys()
        missing = self._inputs.keys() - self._defaults - inputs.keys() - positional
        for names, problem in ((twice, "given twice"), (unknown, "unknown"), (missing, "missing")):
            if names:
                takes = f"the graph takes ({', '.join(self.inputs)})"
                raise SignatureError(f"{problem}: {', '.join(sorted(names))}; {takes}")

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


class Input(NamedTuple):
    """An input as the graph declares it: its name, dtype and axes, None where it says nothing of them."""

    name: str
    dtype: np.dtype[Any] | None  # None: a sequence or a map
    axes: tuple[int | str, ...] | None

    @classmethod
    def declared(cls, value: onnx.ValueInfoProto) -> Input:
        """The input that a graph's declaration describes."""
        if not value.type.HasField("tensor_type"):
            return cls(value.name, None, None)
        tensor = value.type.tensor_type
        axes = None
        if tensor.HasField("shape"):
            axes = tuple(a.dim_value if a.HasField("dim_value") else a.dim_param for a in tensor.shape.dim)
        return cls(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), axes)

    def array(self, value: ArrayLike) -> Any:
        """An array of the declared dtype, once its shape agrees. Raises DtypeError and ShapeError."""
        if self.dtype is None:
            return value
        array = value if type(value) is np.ndarray else arrays.as_array(value, self.name)
        if array.dtype != self.dtype:
            if not np.can_cast(array.dtype, self.dtype, "same_kind"):
                raise DtypeError(
                    f"{self.name} has dtype {array.dtype}, but the graph takes {self.dtype}: convert it first"
                )
            with np.errstate(all="ignore"):
                array = array.astype(self.dtype)
        if self.axes is not None and not self._fits(array.shape):
            takes = ", ".join(map(str, self.axes))
            raise ShapeError(f"{self.name} has shape {array.shape}, but the graph takes ({takes})")
        return array

    def _fits(self, shape: tuple[int, ...]) -> bool:
        assert self.axes is not None
        if len(shape) != len(self.axes):
            return False
        for size, axis in zip(shape, self.axes, strict=True):
            if size != axis and type(axis) is int:
                return False
        return True
