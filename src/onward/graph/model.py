"""A whole model that runs a graph: it takes the graph's inputs in order or by name."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..core.arrays import Shape
from ..errors import ArgumentError, SignatureError
from ..layers.base import IncompatibleKeys, Layer
from ..layers.quantize import check_pair
from ..layers.summary import table
from .chain import layers_of
from .declared import as_declared, check_open_axes
from .graph import Graph
from .plan.planner import Planner, constants_of
from .simplification.simplify import simplify
from .summary import summarize

# Streams and quantization are imported where they are used: opening a model must be fast.

if TYPE_CHECKING:
    from ..layers.sequential import Sequential
    from ..layers.summary import Row
    from ..streaming.graph_pool import GraphPool
    from ..streaming.graph_stream import GraphStream
    from ..streaming.pool import Pool
    from ..streaming.stream import Stream
    from ..tracing.trace import Trace


class Model(Layer):
    """A whole model: takes its inputs in order or by name and returns its output, or a tuple of several.

    `inputs` and `outputs` are the names; inputs with default values may be omitted. A model of PyTorch takes
    and returns the tuples, lists and dicts of its forward(): the result is what forward() returns, or
    a tuple of that and the new values of the buffers that it changes. Operations run in the core, or in NumPy
    if the core does not support them. The weights are fixed, and there are no gradients.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._inputs = {declared.name: declared for declared in graph.inputs}
        self.inputs, self.outputs = tuple(self._inputs), tuple(d.name for d in graph.declared_outputs)
        self._variants: dict[frozenset[str], Planner] = {}  # by the replaced defaults
        self._planner = self._variant(frozenset())
        self._names = tuple(declared.name for declared in self._planner.graph.inputs)
        # how many inputs in order are those of the planner, whose graph lacks inputs with default values
        pairs = enumerate(zip(self.inputs, self._names, strict=False))
        self._in_order = next((i for i, (mine, other) in pairs if mine != other), len(self._names))

    def __call__(self, /, *args: ArrayLike, **inputs: ArrayLike) -> Any:
        """Run the model.

        Arrays are converted to the dtypes that the model declares if these are of the same kind or wider.
        Raises SignatureError for unknown or missing inputs, ShapeError, DtypeError, MemoryLimitError, and
        ArgumentError, which names the node, for values that a node does not accept.
        """
        structure = self._graph.structure
        if structure is not None:
            args, inputs = structure.flatten(args, inputs)
        results = self._planner.run(args, inputs) if len(args) <= self._in_order else None
        if results is None:  # otherwise, the signature has passed the checks
            results = self._run_checked(args, inputs)
        if structure is not None:
            return structure.pack(dict(zip(self.outputs, results, strict=True)))
        return results[0] if len(results) == 1 else results

    def _run_checked(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[Any, ...]:
        """Check the inputs and run the planner of the variant for them."""
        self._check_names(args, inputs)
        named = dict(zip(self.inputs, args, strict=False)) | inputs
        planner = self._variant(self._graph.defaults.intersection(named))
        declared = planner.graph.inputs
        arrays = [as_declared(each, named[each.name]) for each in declared]
        check_open_axes(declared, arrays)
        pairs = zip(declared, arrays, strict=True)
        shapes = {each.name: array.shape for each, array in pairs if isinstance(array, np.ndarray)}
        self._graph.sizes.check(shapes)
        return planner(*arrays)

    def _variant(self, replaced: frozenset[str]) -> Planner:
        """Return the planner of the graph in which some defaults are inputs; the others are constants."""
        if replaced not in self._variants:
            fixed = self._graph.defaults - replaced
            graph = dataclasses.replace(
                self._graph,
                inputs=[declared for declared in self._graph.inputs if declared.name not in fixed],
                constants={n: a for n, a in self._graph.constants.items() if n not in replaced},
            )
            size = sum(array.nbytes for array in constants_of(graph))
            self._variants[replaced] = Planner(simplify(graph), weights_size=size)
        return self._variants[replaced]

    @property
    def step_shape(self) -> Shape | None:
        """The shape of one step of the only input (batch, time, ...), or None."""
        declared = self._planner.graph.inputs
        axes = declared[0].axes if len(declared) == 1 else None
        if axes is None or axes[:1] != ("batch",) or not isinstance((*axes, 0)[1], str):
            return None
        return tuple(n for n in axes[2:] if isinstance(n, int)) if "" not in axes[2:] else None

    def layers(self) -> Sequential:
        """Convert a chain of recurrent and dense nodes to layers, which stream, pool and trace.

        x has the layout of the model's first input; batch_first of the layers tells which it is. Raises
        ArgumentError, which names the node, if a node cannot be converted.
        """
        return layers_of(self._planner.graph)

    def stream(  # type: ignore[override]  # a graph streams in more ways, with the same calls
        self,
        batch: int | None = None,
        *,
        carry: Mapping[str, str] | None = None,
        initial: Mapping[str, ArrayLike] | None = None,
        time_axis: int | None = None,
        **fixed: ArrayLike,
    ) -> Stream | GraphStream:
        """Return a sequence that continues from call to call, or `batch` of them: `y = stream(x)`.

        The model runs block by block, and the outputs are bitwise those of one call on the whole sequence;
        `time_axis` is the axis of the input that is time, by default the one over which its recurrent layers
        run. If the model takes its states as inputs and returns them, `carry` names the inputs that the next
        call takes from outputs, {input: output}; by default, those whose names and shapes match (`carries`).
        They start at zeros, or at `initial`. `fixed` are inputs that have the same value in every call.

        Raises ArgumentError, which names the node, if an operation needs the whole sequence.
        """
        if carry is None and time_axis is None and not fixed and not initial:
            with contextlib.suppress(ArgumentError):  # if not, the error below names the node
                return self.layers().stream(batch)
        from ..streaming.graph_stream import GraphStream, SequenceStream
        from .over_time.named_carries import streamed_with
        from .over_time.sequences import streamed_over_time

        carry = self.carries if carry is None and time_axis is None else carry
        if carry:
            return GraphStream(streamed_with(self._graph, carry, fixed, initial or {}, batch or 1))
        with self._candidates_in_errors():
            streamed = streamed_over_time(self._graph, time_axis, fixed, batch or 1)
        return SequenceStream(streamed, batch)

    @contextlib.contextmanager
    def _candidates_in_errors(self) -> Iterator[None]:
        """Add the inputs and outputs that may be states to the error that a graph cannot stream."""
        try:
            yield
        except (ArgumentError, SignatureError) as error:
            from .over_time.named_carries import candidate_carries

            pairs = candidate_carries(self._graph)
            if not pairs:
                raise
            found = "; ".join(f"{name} from {' or '.join(outputs)}" for name, outputs in pairs.items())
            raise type(error)(
                f"{error}. If states are inputs and outputs, name them with carry=: {found}"
            ) from error

    @property
    def carries(self) -> dict[str, str]:
        """The inputs that a stream feeds from outputs: {input: output}."""
        from .over_time.named_carries import found_carries

        return found_carries(self._graph)

    def pool(  # type: ignore[override]  # as stream
        self,
        capacity: int,
        max_capacity: int | None = None,
        *,
        carry: Mapping[str, str] | None = None,
        initial: Mapping[str, ArrayLike] | None = None,
        time_axis: int | None = None,
        **fixed: ArrayLike,
    ) -> Pool | GraphPool:
        """Return thousands of streams, addressed by id: `ids = pool.open(n)`, `y = pool.step(ids, x)`.

        The arguments after `max_capacity` are those of `stream`. Raises ArgumentError, which names the node,
        as `stream` does, and if an operation combines the rows of a batch.
        """
        if carry is None and time_axis is None and not fixed and not initial:
            with contextlib.suppress(ArgumentError):  # if not, the error below names the node
                return self.layers().pool(capacity, max_capacity)
        from ..streaming.graph_pool import GraphPool, SequencePool
        from .over_time.named_carries import streamed_with
        from .over_time.sequences import pooled_over_time

        carry = self.carries if carry is None and time_axis is None else carry
        if carry:
            streamed = streamed_with(self._graph, carry, fixed, initial or {}, 1)
            return GraphPool(streamed, capacity, max_capacity)
        with self._candidates_in_errors():
            streamed = pooled_over_time(self._graph, time_axis, fixed)
        return SequencePool(streamed, capacity, max_capacity)

    def trace(self, x: ArrayLike, state: Any = None, **options: Any) -> Trace:
        """Return a trace of `layers()`, with their options."""
        return self.layers().trace(x, state, **options)

    def quantize(self, precision: str, *, check: Any = None, tolerance: float | None = None) -> Any:
        """Return a copy with weights as "float16", or as "int8" with scales.

        Recurrent layers compute with the quantized matrices, as those of `Layer.quantize`. The constant
        matrices of products and convolutions are stored with one scale for each output, and become float32
        when the model runs first: the file is smaller, but the memory in use is not.

        With `check`, an input, a tuple of inputs or a dict of inputs by name, the largest absolute difference
        between the outputs must not exceed `tolerance`. Raises PrecisionError and ArgumentError.
        """
        from .quantize import check_outputs, quantized

        check_pair(check, tolerance)
        small = Model(quantized(self._graph, precision))
        if check is not None and tolerance is not None:
            check_outputs(small, self, check, tolerance, precision)
        return small

    def steps(self, *inputs: ArrayLike, calls: int = 20) -> list[tuple[str, float]]:
        """Return the steps of the plan for these inputs with the median time of each, in seconds."""
        arrays = [as_declared(d, a) for d, a in zip(self._planner.graph.inputs, inputs, strict=True)]
        self._planner(*arrays)
        plan = self._planner.find(arrays)
        assert plan is not None
        return plan.timed(arrays, calls)

    def _summary_rows(self) -> list[Row]:
        return summarize(self._graph).rows

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of each constant of the source, by name."""
        return {name: array.copy() for name, array in self._graph.constants.items()}

    def _snapshot(self) -> dict[str, Any]:
        return self._described()[1]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Raise ArgumentError: the constants of a graph are fixed."""
        raise ArgumentError(f"the weights of {self!r} are fixed: change its source, or use model.layers()")

    def description(self) -> dict[str, Any]:
        """The graph as JSON. Raises ArgumentError, which names the node, if it runs a Python function."""
        return {"type": "Model", **self._described()[0]}

    def _described(self) -> tuple[dict[str, Any], dict[str, Any]]:
        from ..formats import graphs

        return graphs.describe(self._graph)

    def __str__(self) -> str:
        summary = summarize(self._graph)
        others = f"\n{summary.others} nodes without parameters" if summary.others else ""
        return table(summary.rows) + others

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
