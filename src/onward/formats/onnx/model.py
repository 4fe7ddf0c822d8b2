"""ONNX graphs as callable models."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, NamedTuple

import numpy as np
import onnx
from numpy.typing import ArrayLike

from ...core import arrays
from ...errors import ArgumentError, DtypeError, OnwardError, ShapeError, SignatureError
from ...graph import Planner
from ...layers.familiar_names import FamiliarNames
from ...layers.sequential import Sequential
from ...layers.summary import Row
from ...streaming.pool import Pool
from ...streaming.stream import Stream
from ...tracing.trace import Trace
from .as_layers import layers_of
from .evaluator import Evaluator
from .file import initializers
from .nodes import nodes_of
from .summary import summarize


class Graph(FamiliarNames):
    """The model in an ONNX file: takes the graph's inputs in order or by name, returns its outputs in order.

    Recurrent nodes run in Onward's core, including those in the bodies of Loop, If and Scan; other nodes run
    in NumPy. `inputs` and `outputs` are the names, including those of inputs with default values. Raises
    ArgumentError for a node that Onward does not support.
    """

    _conversion: ClassVar[str] = "model.layers()"

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
        except Exception as error:  # the package's evaluator raises errors of any kind
            raise ArgumentError(f"the graph cannot be run: {error}") from error

    def __call__(self, /, *args: ArrayLike, **inputs: ArrayLike) -> tuple[Any, ...]:
        """Run the graph.

        Arrays are converted to the dtypes that the graph declares if these are of the same kind or wider.
        Raises SignatureError for unknown or missing inputs, ShapeError, DtypeError, and ArgumentError, which
        names the node, for values that a node does not accept.
        """
        outputs = self._planner.run(args, inputs)
        if outputs is not None:
            return outputs
        feed = dict(zip(self.inputs, args, strict=False)) | inputs if args else inputs
        named_twice = len(feed) != len(args) + len(inputs)
        plan = None if named_twice else self._planner.find(feed)  # its signature has passed the checks
        if plan is not None:
            return tuple(plan(feed))
        if named_twice or feed.keys() != self._inputs.keys():
            self._check_names(args, inputs)
        feed = {name: self._inputs[name].array(value) for name, value in feed.items()}
        # an initializer that an input replaces is not a constant
        plan = None if self._defaults & feed.keys() else self._planner.plan(feed)
        if plan is not None:
            return tuple(plan(feed))
        # a new object for each array: operators cache what they make of an array by its identity
        feed = {name: a.view() if isinstance(a, np.ndarray) else a for name, a in feed.items()}
        return tuple(self._evaluator.run(None, feed))

    @functools.cached_property
    def _planner(self) -> Planner:
        nodes, known = self._evaluator.plan()
        return Planner(nodes_of(nodes), known, self.inputs, self.outputs)

    def _check_names(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        """Raise SignatureError for inputs that are unknown, missing or passed twice."""
        if len(args) > len(self.inputs):
            raise SignatureError(f"got {len(args)} inputs; the graph takes ({', '.join(self.inputs)})")
        positional = set(self.inputs[: len(args)])
        twice, unknown = positional & inputs.keys(), inputs.keys() - self._inputs.keys()
        missing = self._inputs.keys() - self._defaults - inputs.keys() - positional
        for names, problem in (
            (twice, "inputs passed twice"),
            (unknown, "unknown inputs"),
            (missing, "missing inputs"),
        ):
            if names:
                takes = f"the graph takes ({', '.join(self.inputs)})"
                raise SignatureError(f"{problem}: {', '.join(sorted(names))}; {takes}")

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

    def _summary_rows(self) -> list[Row]:
        return summarize(self._model).rows

    def state_dict(self) -> dict[str, Any]:
        """A copy of each array in the graph, by name."""
        return initializers(self._model)

    def __repr__(self) -> str:
        return f"Graph(({', '.join(self.inputs)}) -> ({', '.join(self.outputs)}))"

    def __reduce__(self) -> tuple[Any, ...]:
        return Graph, (self._model,)


class Input(NamedTuple):
    """The declaration of an input: its name, dtype and axes; None where the graph does not declare them."""

    name: str
    dtype: np.dtype[Any] | None  # None: a sequence or a map
    axes: tuple[int | str, ...] | None

    @classmethod
    def declared(cls, value: onnx.ValueInfoProto) -> Input:
        """Read the declaration from a graph."""
        if not value.type.HasField("tensor_type"):
            return cls(value.name, None, None)
        tensor = value.type.tensor_type
        axes = None
        if tensor.HasField("shape"):
            axes = tuple(a.dim_value if a.HasField("dim_value") else a.dim_param for a in tensor.shape.dim)
        return cls(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), axes)

    def array(self, value: ArrayLike) -> Any:
        """Convert a value to the declared dtype and check its shape. Raises DtypeError, ShapeError."""
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
