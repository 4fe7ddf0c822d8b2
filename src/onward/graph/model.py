"""A whole model that runs a graph: it takes the graph's inputs in order or by name."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays
from ..errors import DtypeError, ShapeError, SignatureError
from ..layers.familiar_names import FamiliarNames
from .chain import layers_of
from .graph import Graph, Input
from .planner import Planner
from .simplify import simplify
from .summary import summarize

if TYPE_CHECKING:
    from ..layers.sequential import Sequential
    from ..layers.summary import Row
    from ..streaming.pool import Pool
    from ..streaming.stream import Stream
    from ..tracing.trace import Trace


class Model(FamiliarNames):
    """A whole model: takes its inputs in order or by name and returns its outputs in order, as a tuple.

    `inputs` and `outputs` are the names; inputs with default values may be omitted. A model of PyTorch takes
    and returns the tuples, lists and dicts of its forward(): the result is the tuple of what forward()
    returns, followed by the new values of the buffers that it changes. Operations run in the core, or in
    NumPy if the core does not support them.
    """

    _conversion: ClassVar[str] = "model.layers()"

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._inputs = {declared.name: declared for declared in graph.inputs}
        self.inputs, self.outputs = tuple(self._inputs), tuple(d.name for d in graph.declared_outputs)
        self._variants: dict[frozenset[str], Planner] = {}  # by the replaced defaults
        self._planner = self._variant(frozenset())
        self._names = tuple(declared.name for declared in self._planner.graph.inputs)

    def __call__(self, /, *args: ArrayLike, **inputs: ArrayLike) -> tuple[Any, ...]:
        """Run the model.

        Arrays are converted to the dtypes that the model declares if these are of the same kind or wider.
        Raises SignatureError for unknown or missing inputs, ShapeError, DtypeError, MemoryLimitError, and
        ArgumentError, which names the node, for values that a node does not accept.
        """
        structure = self._graph.structure
        if structure is not None:
            args, inputs = structure.flatten(args, inputs)
        results = self._planner.run(args, inputs)  # its signature has passed the checks
        if results is None:
            results = self._run(args, inputs)
        if structure is not None:
            return structure.pack(dict(zip(self.outputs, results, strict=True)))
        return results

    def _run(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[Any, ...]:
        """Check the inputs and run the planner of the variant for them."""
        self._check_names(args, inputs)
        named = dict(zip(self.inputs, args, strict=False)) | inputs
        planner = self._variant(self._graph.defaults.intersection(named))
        values = [_converted(self._inputs[d.name], named[d.name]) for d in planner.graph.inputs]
        names = (declared.name for declared in planner.graph.inputs)
        self._graph.sizes.check({n: np.shape(value) for n, value in zip(names, values, strict=True)})
        return planner(*values)

    def _variant(self, replaced: frozenset[str]) -> Planner:
        """Return the planner of the graph in which some defaults are inputs; the others are constants."""
        if replaced not in self._variants:
            fixed = self._graph.defaults - replaced
            graph = dataclasses.replace(
                self._graph,
                inputs=[declared for declared in self._graph.inputs if declared.name not in fixed],
                constants={n: a for n, a in self._graph.constants.items() if n not in replaced},
            )
            self._variants[replaced] = Planner(simplify(graph))
        return self._variants[replaced]

    def layers(self) -> Sequential:
        """Convert a chain of recurrent and dense nodes to layers, which stream, pool and trace.

        x has the layout of the model's first input; batch_first of the layers tells which it is. Raises
        ArgumentError, which names the node, if a node cannot be converted.
        """
        return layers_of(self._planner.graph)

    def stream(self, batch: int | None = None) -> Stream:
        """Return a stream of `layers()`; raises the errors of both, as do the methods below."""
        return self.layers().stream(batch)

    def pool(self, capacity: int, max_capacity: int | None = None) -> Pool:
        """Return a pool of `layers()`."""
        return self.layers().pool(capacity, max_capacity)

    def trace(self, x: ArrayLike, state: Any = None, **options: Any) -> Trace:
        """Return a trace of `layers()`, with their options."""
        return self.layers().trace(x, state, **options)

    def quantize(self, precision: str, **options: Any) -> Sequential:
        """Quantize `layers()`, with their options."""
        return self.layers().quantize(precision, **options)

    def _summary_rows(self) -> list[Row]:
        return summarize(self._graph).rows

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of each constant of the source, by name."""
        return {name: array.copy() for name, array in self._graph.constants.items()}

    def __repr__(self) -> str:
        return f"Model(({', '.join(self.inputs)}) -> ({', '.join(self.outputs)}))"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._graph,)

    def _check_names(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        """Raise SignatureError for inputs that are unknown, missing or passed twice."""
        takes = f"the model takes ({', '.join(self.inputs)})"
        if len(args) > len(self.inputs):
            raise SignatureError(f"got {len(args)} inputs; {takes}")
        positional = set(self.inputs[: len(args)])
        twice, unknown = positional & inputs.keys(), inputs.keys() - self._inputs.keys()
        missing = set(self._names) - inputs.keys() - positional
        for names, problem in (
            (twice, "inputs passed twice"),
            (unknown, "unknown inputs"),
            (missing, "missing inputs"),
        ):
            if names:
                raise SignatureError(f"{problem}: {', '.join(sorted(names))}; {takes}")


def _converted(declared: Input, value: ArrayLike) -> Any:
    """Convert a value to the declared dtype and check its shape. Raises DtypeError, ShapeError."""
    if declared.dtype is None:
        return value
    name = declared.name
    array = value if type(value) is np.ndarray else arrays.as_array(value, name)
    if array.dtype != declared.dtype:
        if not np.can_cast(array.dtype, declared.dtype, "same_kind"):
            raise DtypeError(
                f"{name} has dtype {array.dtype}, but the model takes {declared.dtype}: convert it first"
            )
        with np.errstate(all="ignore"):
            array = array.astype(declared.dtype)
    if declared.axes is not None and not _fits(array.shape, declared.axes):
        takes = ", ".join(str(axis) or "any" for axis in declared.axes)
        raise ShapeError(f"{name} has shape {array.shape}, but the model takes ({takes})")
    return array


def _fits(shape: tuple[int, ...], axes: tuple[int | str, ...]) -> bool:
    if len(shape) != len(axes):
        return False
    return all(size == axis or type(axis) is str for size, axis in zip(shape, axes, strict=True))
