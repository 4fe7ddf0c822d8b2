"""Whole models: what users call, stream, pool, trace, quantize, save and export."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

import onward._core as _core

from .core.arrays import Array, Shape
from .core.recent import Recent
from .errors import ArgumentError
from .graph.declared import as_declared, check_call, open_sizes, zeros_of
from .graph.graph import Graph
from .graph.over_time.memory import in_blocks
from .graph.plan.planner import Planner, size_of_weights
from .graph.simplification.simplify import simplify
from .layers.base_model import LOADING
from .layers.quantize import check_outputs
from .layers.weighted_model import WeightedModel

# What a call does not need is imported where it is used: opening a model must be fast.

if TYPE_CHECKING:
    from .core.summary import Row
    from .graph.over_time.streamed import Layout, Streamed, TimeAndBatch
    from .graph.plan.program import Program
    from .layers.sequential import Sequential
    from .streaming.graph_pool import GraphPool
    from .streaming.graph_stream import GraphStream
    from .tracing.trace import Trace


class Model(_core.DirectCalls, WeightedModel):
    """A whole model: takes its inputs in order or by name and returns its output, or a tuple of several.

    `inputs` and `outputs` are the names. Inputs with default values may be omitted, as may the initial states
    of recurrent layers, which are then zeros. A model of PyTorch takes and returns the tuples, lists and
    dicts of its forward(): the result is what forward() returns, or a tuple of that and the new values of the
    buffers that it changes. Variables of TensorFlow Lite have their initial values in every call; `stream`
    keeps them. What the core does not support runs in NumPy. `onward.train.fit` trains its weights.

    Arrays are converted to the dtypes that the model declares if these are of the same kind or wider.
    A model whose only input is a batch of sequences also takes `lengths` (B,), the number of valid steps
    in each row: outputs are those of each row without its padding, followed by zeros.

    Calls that would take more than 64 MB run in blocks along a time or batch axis, with the same
    bits and in bounded memory, if the graph permits it: no layer may run from the last step to the first
    or combine all steps (softmax or attention over time). All other graphs run all at once.

    A call raises SignatureError for unknown or missing inputs, ShapeError, DtypeError, MemoryLimitError,
    WorkLimitError, and ArgumentError, which names the node, for values that a node does not accept.

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np, onward
    >>> path = Path(tempfile.mkdtemp()) / "model.onnx"
    >>> onward.GRU(3, 4).export_onnx(path)
    >>> model = onward.load(path)
    >>> model.inputs, model.outputs
    (('x', 'h0'), ('y', 'h_n'))
    >>> y, h = model(np.ones((5, 1, 3)))
    >>> y.shape
    (5, 1, 4)
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._inputs = {declared.name: declared for declared in graph.inputs}
        self.inputs, self.outputs = tuple(self._inputs), tuple(d.name for d in graph.declared_outputs)
        self._models: dict[str, Model] = {}  # for all sizes, and of sequences that start at zeros
        self._variants: dict[frozenset[str], Planner] = {}  # by the replaced defaults
        self._streamed: Recent[Streamed] = Recent()  # by arguments
        # the programs of the graph with these defaults, also of the planner for other weights
        self._names = tuple(declared.name for declared in graph.with_defaults().inputs)
        self._programs = _core.Plans(self._names, [])
        # how many inputs in order are those of the planner, whose graph lacks inputs with default values
        pairs = enumerate(zip(self.inputs, self._names, strict=False))
        self._in_order = next((i for i, (mine, other) in pairs if mine != other), len(self._names))
        _core.DirectCalls.__init__(self, self._programs, -1 if graph.structure else self._in_order)
        self._variant(frozenset())

    def _call(self, /, *args: ArrayLike, **inputs: ArrayLike) -> Any:  # without a plan in the core
        results = self.results(args, inputs)
        if (structure := self._graph.structure) is not None:
            return structure.pack(dict(zip(self.outputs, results, strict=True)))
        return results[0] if len(results) == 1 else results

    @property
    def graph(self) -> Graph:
        """The graph that the source describes."""
        return self._graph

    @property
    def planner(self) -> Planner:
        """What runs the graph, simplified and with the default values of its inputs."""
        return self._variant(frozenset())

    def results(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[Any, ...]:
        """Run the model and return its outputs, which are not packed in containers."""
        if self._graph.structure is not None:
            args, inputs = self._graph.structure.flatten(args, inputs)
        if "lengths" in inputs and "lengths" not in self._inputs:
            return self.general.with_lengths(args, **inputs)
        if len(args) <= self._in_order and (results := self._programs(args, inputs)) is not None:
            return results
        _, planner, arrays = self.checked(args, inputs)
        return planner(*arrays)

    def with_lengths(self, args: tuple[Any, ...], lengths: ArrayLike, **inputs: Any) -> tuple[Any, ...]:
        """Run the sequences of a batch without their padding."""
        from .graph.over_time.sequences import run_with_lengths

        if self.layout is None or len(self.inputs) != 1:
            raise ArgumentError(
                f"{self!r} got lengths, which only models of one input over time and a batch take"
            )
        _, planner, (x,) = self.checked(args, inputs)
        return run_with_lengths(planner, self.layout, x, lengths)

    def checked(
        self, args: tuple[Any, ...], inputs: dict[str, Any]
    ) -> tuple[frozenset[str], Planner, list[Any]]:
        """Check the inputs; return the defaults that they replace, the planner for them, and its inputs."""
        named = dict(zip(self.inputs, args, strict=False)) | inputs
        missing = [name for name in self._names if name not in named]
        check_call(self.inputs, args, inputs, [name for name in missing if name not in self.initial_states])
        replaced = self._graph.defaults.intersection(named)
        planner = self._variant(replaced)
        passed = [each for each in planner.graph.inputs if each.name in named]
        arrays = {each.name: as_declared(each, named[each.name]) for each in passed}
        sizes = open_sizes(passed, list(arrays.values()))
        zeros = {name: zeros_of(self._inputs[name], sizes) for name in missing}
        check_call(self.inputs, args, inputs, [name for name, array in zeros.items() if array is None])
        arrays |= zeros
        shapes = {n: array.shape for n, array in arrays.items() if isinstance(array, np.ndarray)}
        self._graph.sizes.check_call(shapes)
        return replaced, planner, [arrays[each.name] for each in planner.graph.inputs]

    @cached_property
    def initial_states(self) -> frozenset[str]:
        """The inputs that a call may omit, because recurrent layers start at zeros without them."""
        from .graph.over_time.named_carries import initial_states

        return initial_states(self.planner.graph)

    def general_graph(self, fixed: Mapping[str, Any] | None = None) -> Graph:
        """Return the graph of `general`; some inputs may be fixed."""
        source = self._graph.source
        given = {name: np.asarray(value) for name, value in (fixed or {}).items()}
        return self._graph if source is None else source.general(given)

    @property
    def general(self) -> Model:
        """The model for all sizes: this one, unless code is recorded. Raises ArgumentError without one."""
        return self._related("general", self.general_graph())

    def _related(self, kind: str, graph: Graph) -> Model:
        """Return the model of a graph; this one is not kept for its own, which would be a cycle."""
        if graph is self._graph:
            return self
        if kind not in self._models or self._models[kind].graph is not graph:
            self._models[kind] = Model(graph)
        return self._models[kind]

    def generalized(self, fixed: Mapping[str, Any]) -> tuple[Model, Mapping[str, Any]]:
        """Return `general`, or the model if it keeps a state and lacks that, and the inputs left to fix."""
        if self._graph.source is None:
            return self, fixed
        try:
            model = Model(self.general_graph(fixed)) if fixed else self.general
        except ArgumentError:
            if not self._graph.carries:
                raise
            return self, fixed
        return model, {name: value for name, value in fixed.items() if name in model.inputs}

    def _variant(self, replaced: frozenset[str]) -> Planner:
        """Return the planner of the graph in which some defaults are inputs."""
        if (found := self._variants.get(replaced)) is not None:
            return found
        with LOADING:  # the planner of an older graph would give its programs to this model
            graph = self._graph.with_defaults(replaced)
            size, ready = size_of_weights(graph), None if replaced else self._programs
            planner = Planner(simplify(graph), weights_size=size, in_blocks=in_blocks, ready=ready)
            return self._variants.setdefault(replaced, planner)

    def layers(self) -> Sequential:
        """Convert a chain of recurrent and dense nodes to layers, which stream, pool and trace.

        x has the layout of the model's first input; batch_first of the layers tells which it is. Raises
        ArgumentError, which names the node, if a node cannot be converted.
        """
        from .layers.chain import layers_of

        return layers_of(self.general.planner.graph)

    def stream(
        self,
        batch: int | None = None,
        *,
        carry: Mapping[str, str] | None = None,
        initial: Mapping[str, ArrayLike] | None = None,
        time_axis: int | None = None,
        **fixed: ArrayLike,
    ) -> GraphStream:
        """Return a sequence that continues from call to call, or `batch` of them: `y = stream(x)`.

        The model runs block by block, and the outputs are bitwise those of one call on the whole sequence;
        `time_axis` is the axis of the input that is time, by default the one over which its recurrent layers
        run. If the model takes its states as inputs and returns them, `carry` names the inputs that the next
        call takes from outputs, {input: output}; by default, those whose names and shapes match (`carries`).
        They start at zeros, or at `initial`. `fixed` are inputs that have the same value in every call. All
        others are sequences, of which a call takes a block each: `y = stream(far, near)`.

        Raises ArgumentError, which names the node, if an operation needs the whole sequence.
        """
        return self._stream(True, fixed, batch, (carry, initial, time_axis))

    def graph_stream(
        self,
        batch: int | None = None,
        carry: Mapping[str, str] | None = None,
        initial: Mapping[str, ArrayLike] | None = None,
        time_axis: int | None = None,
        **fixed: ArrayLike,
    ) -> GraphStream:
        """Return a stream as `stream` does, but one that runs the graph, even if it is a chain of layers."""
        return self._stream(False, fixed, batch, (carry, initial, time_axis))

    def _stream(self, as_layers: bool, fixed: Any, batch: Any, chosen: tuple[Any, Any, Any]) -> GraphStream:
        from .streaming.graph_stream import stream_of

        def make(rows: int) -> Streamed:
            model, others = self.generalized(fixed)
            return model.streamed(rows, *chosen, others, as_layers=as_layers)

        return stream_of(make, batch)

    def streamed(
        self,
        batch: int,
        carry: Mapping[str, str] | None,
        initial: Mapping[str, ArrayLike] | None,
        time_axis: int | None,
        fixed: Mapping[str, Any],
        pooled: bool = False,
        as_layers: bool = False,  # that of `layers`, if the model is a chain of them
    ) -> Streamed:
        """Return the graph over a block, over time or with named carries; equal arguments share it."""

        def make() -> Streamed:
            from .graph.over_time.named_carries import candidates_in_errors, streamed_with
            from .graph.over_time.sequences import streamed_over_time
            from .streaming.layers import streamed_chain

            is_chosen, runs_in_calls = carry is not None or time_axis is not None, self._graph.runs_in_calls
            if as_layers and not (is_chosen or fixed or initial or runs_in_calls):
                with contextlib.suppress(ArgumentError):  # if not, the error below names the node
                    return streamed_chain(self.general.planner.graph)
            has_rows = self.layout is not None and self.layout.axes.batch is not None
            named = carry if is_chosen or (has_rows and not initial and not runs_in_calls) else self.carries
            if named:
                return streamed_with(self._graph, named, fixed, initial or {}, batch)
            with candidates_in_errors(self._graph):
                return streamed_over_time(self._from_zeros, time_axis, fixed, batch, pooled)

        return self._streamed.get(make, batch, carry, initial, time_axis, fixed, pooled, as_layers)

    @cached_property
    def _from_zeros(self) -> Graph:
        """The graph whose initial states are zeros and which does not return its final states."""
        from .graph.over_time.named_carries import from_zeros

        return from_zeros(self._graph)

    @property
    def of_sequences(self) -> Model:
        """The model whose initial states are zeros."""
        return self._related("of_sequences", self._from_zeros)

    @cached_property
    def output_axes(self) -> TimeAndBatch:
        """The time axis and the batch axis of the first output of a model with a layout."""
        from .graph.over_time.sequences import output_axes

        graph = self.of_sequences.planner.graph
        assert self.layout is not None
        return output_axes(graph, graph.inputs, [self.layout])[0]

    def run(self, x: Any, state: Any, lengths: Any, run_recurrent: Any) -> tuple[Any, Any]:
        """Run sequences of equal length from zeros; an only output gets the order of the input's axes."""
        if state is not None or (lengths is not None and self.layout is not None):
            raise ArgumentError(f"{self!r} does not take a batch of sequences of equal length alone")
        planner, given = self.general.of_sequences.planner, x if isinstance(x, tuple) else (x,)
        if len(planner.graph.inputs) != len(given):
            raise ArgumentError(f"{self!r} does not take {len(given)} arrays; pass a tuple of all inputs")
        y, *others = planner(*map(as_declared, planner.graph.inputs, given))
        return [y, *others] if others else self.as_batch(y), None

    def as_batch(self, y: Array, is_back: bool = False) -> Array:
        time, batch = (None, None) if self.layout is None else self.general.output_axes
        if batch is None:
            return y
        source = (batch,) if time is None else (time, batch)
        target = (0,) if time is None else (1, 0) if self.batch_first else (0, 1)
        return np.moveaxis(y, target, source) if is_back else np.moveaxis(y, source, target)

    def _restart(self, graph: Graph) -> None:
        for planner in self._variants.values():
            planner.detach()
        self._graph = graph
        self._models, self._variants, self._streamed = {}, {}, Recent()
        self.__dict__.pop("_from_zeros", None)
        self._programs.replace([])

    @property
    def layout(self) -> Layout | None:
        """Which axes of the only input are time and the batch, or None if no recurrent layer shows it."""
        with contextlib.suppress(ArgumentError):
            return self.general.graph_layout
        return None

    @cached_property
    def graph_layout(self) -> Layout | None:
        """The `layout` of a model that runs the same graph for all sizes."""
        from .graph.over_time.sequences import find_layouts

        graph = self.of_sequences.planner.graph
        if len(graph.inputs) != 1 or graph.inputs[0].axes is None or graph.inputs[0].dtype is None:
            return None
        with contextlib.suppress(ArgumentError):
            return find_layouts(graph, graph.inputs, None)[0]
        return None

    @property
    def step_shape(self) -> Shape | None:
        """The shape of one step of one row."""
        layout = self.layout
        return layout and tuple(size for axis, size in enumerate(layout.shape) if axis not in layout.axes)

    @property
    def batch_first(self) -> bool:
        """Whether the input has its batch axis before its time axis."""
        return self.layout is not None and self.layout.axes == (1, 0)

    @property
    def carries(self) -> dict[str, str]:
        """The inputs that a stream feeds from outputs: {input: output}."""
        from .graph.over_time.named_carries import found_carries

        with contextlib.suppress(ArgumentError):
            return found_carries(self.general_graph())
        return found_carries(self._graph)

    def pool(
        self,
        capacity: int,
        max_capacity: int | None = None,
        *,
        carry: Mapping[str, str] | None = None,
        initial: Mapping[str, ArrayLike] | None = None,
        time_axis: int | None = None,
        **fixed: ArrayLike,
    ) -> GraphPool:
        """Return thousands of streams, addressed by id: `ids = pool.open(n)`, `y = pool.step(ids, x)`.

        The arguments after `max_capacity` are those of `stream`. Raises ArgumentError, which names the node,
        as `stream` does, and if an operation combines the rows of a batch.
        """
        from .streaming.graph_pool import pool_of

        model, others = self.generalized(fixed)
        found = model.streamed(1, carry, initial, time_axis, others, pooled=True, as_layers=True)
        return pool_of(found, capacity, max_capacity)

    def trace(
        self,
        /,
        *args: ArrayLike,
        values: Sequence[str] = (),
        preactivations: bool = False,
        **inputs: ArrayLike,
    ) -> Trace:
        """Run the model, and record the gates and states of its recurrent nodes, named as in the file.

        The states of `carries` may be omitted and then start at zeros. `values` names intermediate values, or
        the nodes that compute them, which are also recorded. Nodes in loops are recorded if the number of
        iterations is known from the shapes of the inputs. Raises the errors of a call, and ArgumentError if
        there is nothing to record, or for unknown values.
        """
        if self._graph.source is not None:
            return self.general.trace(*args, values=values, preactivations=preactivations, **inputs)
        if self._graph.structure is not None:
            args, inputs = self._graph.structure.flatten(args, inputs)
        model = self if len(args) + len(inputs) >= len(self._names) else self.of_sequences
        replaced, _, arrays = model.checked(args, inputs)
        graph = model.graph.with_defaults(replaced)
        from .tracing.graph_trace import trace_graph

        return trace_graph(graph, arrays, values, preactivations, model.layout, model.planner)

    def quantize(self, precision: str, *, check: Any = None, tolerance: float | None = None) -> Any:
        """Return a copy with weights as "float16", or as "int8" with scales.

        Recurrent layers, and products and convolutions with constant matrices, compute with the quantized
        matrices, as `Layer.quantize` describes. With int8, convolutions quantize each window of their input.

        With `check`, an input, a tuple of inputs or a dict of inputs by name, the largest absolute difference
        between the outputs must not exceed `tolerance`. Raises PrecisionError and ArgumentError.
        """
        from .graph.quantize import outputs, quantized

        small = Model(quantized(self.general_graph(), precision))
        check_outputs(small, self, lambda model: outputs(model, check), precision, check, tolerance)
        return small

    @property
    def programs(self) -> list[Program]:
        """The programs that calls have needed so far; their guards tell for which sizes they hold."""
        return self.planner.programs

    def steps(self, *inputs: ArrayLike, calls: int = 20) -> list[tuple[str, float]]:
        """Return the steps of the plan for these inputs with the median time of each, in seconds."""
        arrays = [as_declared(d, a) for d, a in zip(self.planner.graph.inputs, inputs, strict=True)]
        self.planner(*arrays)
        return list(self.planner.find(arrays).timed(arrays, calls))

    def summary_rows(self) -> list[Row]:
        from .graph.summary import summarize

        return summarize(self.general.graph).rows

    def __str__(self) -> str:
        from .graph.summary import described

        return described(self.general.graph)

    def __repr__(self) -> str:
        return f"Model(({', '.join(self.inputs)}) -> ({', '.join(self.outputs)}))"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._graph,)
