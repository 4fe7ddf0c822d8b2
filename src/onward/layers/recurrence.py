"""The part that layers whose equations are a graph share: a scan over time from one state.

Axis letters: T time, B batch, I input, H hidden units. `layers.equations` holds the equations, and
whatever runs, streams, differentiates, traces and exports graphs does so with them.
"""

from __future__ import annotations  # importing np.random is slow

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import Rng, flag
from ..errors import ArgumentError
from .base import NO_WEIGHTS
from .quantize import Quantizable, packed, uniform
from .stateful import Cache, Inputs, Stateful

if TYPE_CHECKING:
    from .graphs import GraphBuilder


class Recurrence(Quantizable, Stateful[Any]):
    """A layer of one direction whose equations are a graph; its states are (1, B, ...)."""

    STATE_AXES: ClassVar[tuple[str, ...]] = ("1", "batch", "units")
    causal = True
    equation: ClassVar[str] = ""  # the name of its function in `layers.equations`

    def _configure(
        self,
        row_shapes: tuple[Shape, ...],
        batch_first: bool,
        dtype: DTypeLike,
        rng: Rng,
        bound: float,
        shapes: Mapping[str, Shape | None],
        starts: Mapping[str, Callable[[Array], Array]],
    ) -> None:
        """Draw the weights of some shapes from U(-bound, bound).

        `starts` are functions of numbers from U(0, 1) for weights with other distributions.
        """
        self._row_shapes = row_shapes
        self.batch_first = flag("batch_first", batch_first)
        self.step_shape = (self.input_size,)
        self._draw(dtype, rng, uniform(bound), **shapes)
        if rng is not NO_WEIGHTS:
            drawn = {name: (self._weights[name].astype(np.float64) / bound + 1) / 2 for name in starts}
            self.take_weights({name: start(drawn[name]).astype(self.dtype) for name, start in starts.items()})

    def state_shapes(self, batch: int) -> tuple[Shape, ...]:
        return tuple((1, batch, *shape) for shape in self._row_shapes)

    @packed
    def _planners(self, weights: dict[str, Array]) -> tuple[Any, Any]:
        """The planners without and with lengths."""
        from .graphs import planner_of  # slow to import

        model = self._over_steps()
        return planner_of(model, True), planner_of(model, True, True)

    def _in_graphs(self) -> Self:
        return self._over_steps()

    def _over_steps(self) -> Self:
        """The layer with its present weights, whose graph takes x (T, B, I)."""
        twin: Self = copy.copy(self)
        vars(twin)["batch_first"] = False
        return twin

    def add_steps(self, b: GraphBuilder, x: str, initial: Sequence[str]) -> Sequence[str]:
        from . import equations  # slow to import

        if not self.equation:
            raise ArgumentError(f"{self!r} has no equations: derive its class from a layer that has")
        e = equations.Equations(b, self, initial)
        y = e.masked(getattr(equations, self.equation)(e, self, e.value(x))).name
        return y, *e.final

    def _run(self, inputs: Inputs) -> Sequence[Array]:
        results: Sequence[Array] = self._planners[inputs.lengths is not None](*self._given(inputs))
        return results

    def _given(self, inputs: Inputs) -> list[Any]:
        """The inputs of the graph."""
        lengths = () if inputs.lengths is None else (inputs.lengths.astype(np.int32),)
        return [arrays.contiguous(inputs.x), *lengths, *self._filled(inputs.initial, inputs.x.shape[1])]

    def _filled(self, states: Iterable[Array | None], batch: int) -> list[Array]:
        """The arrays of a state, which are zeros where they are None."""
        pairs = zip(states, self.state_shapes(batch), strict=False)
        return [np.zeros(shape, self.dtype) if part is None else part for part, shape in pairs]

    def forward(
        self, x: ArrayLike, state: Any = None, *, lengths: ArrayLike | None = None, rng: Rng = None
    ) -> tuple[Any, Any, Cache]:
        """Call the layer and also return a cache for backward, which computes the values of all steps again.

        Raises the errors of a call.
        """
        self._check_gradients()
        inputs = self.inputs(x, state, lengths)
        run, _ = self._trainable(self.dtype, inputs.lengths is not None)
        results = run(*self._given(inputs), *self._weights.values())
        return *self.outputs(inputs, *results), Cache(inputs, None)

    def backward(self, dy: ArrayLike, dstate: Any, cache: Any) -> tuple[Any, Any, dict[str, Array]]:
        """Return dx (laid out as x), the gradient of the initial state, and those of the weights by name.

        dy is laid out as y, and dstate as the final state (None for zeros). Raises ShapeError, DtypeError,
        ArgumentError.
        """
        fits = isinstance(cache, Cache) and cache.inputs.x.shape[-1] == self.input_size
        self._check_cache(fits and cache.inputs.x.dtype == self.dtype)
        inputs = cache.inputs
        steps, *dstates = self._output_gradients(dy, dstate, inputs)
        after = self._filled(dstates, steps.shape[1])
        if 0 in inputs.x.shape:
            results = [np.zeros_like(inputs.x), *after, *map(np.zeros_like, self._weights.values())]
        else:
            if inputs.lengths is not None:  # past them, x may hold numbers that are not finite
                is_valid = np.arange(len(inputs.x))[:, None] < inputs.lengths
                x = np.where(is_valid[..., None], inputs.x, self.dtype.type(0))
                inputs = Inputs(x, *inputs[1:])
            given = *self._given(inputs), *self._weights.values(), arrays.contiguous(steps), *after
            _, back = self._trainable(self.dtype, inputs.lengths is not None)
            results = list(back(*given))
        of_inputs, found = results[: 1 + len(after)], results[1 + len(after) :]
        return *self.outputs(inputs, *of_inputs), dict(zip(self._weights, found, strict=True))

    def traced(
        self, x: ArrayLike, state: Any, lengths: ArrayLike | None, preactivations: bool
    ) -> tuple[Array, Any, Inputs, dict[str, dict[str, Array]]]:
        from ..graph.plan.planner import Planner  # slow to import
        from ..graph.simplification.simplify import simplify
        from .graphs import graph_of

        if preactivations:
            raise ArgumentError(f"{self!r} has no preactivations in a trace: leave them out")
        inputs, names = self.inputs(x, state, lengths), dict[str, str]()
        graph = graph_of(self._over_steps(), inputs.lengths is not None, names)
        graph.outputs = (*graph.outputs, *names.values())
        results = Planner(simplify(graph))(*self._given(inputs))
        count = 1 + len(self.state_names)
        recorded = dict(zip(names, results[count:], strict=True))
        return *self.outputs(inputs, *results[:count]), inputs, {"l0": recorded}
