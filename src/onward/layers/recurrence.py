"""The part that layers whose equations are a graph share: a scan over time from one state.

Axis letters: T time, B batch, I input, H hidden units. `layers.equations` holds the equations, and
whatever runs, streams, differentiates, traces and exports graphs does so with them.
"""

from __future__ import annotations  # importing np.random is slow

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Never

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import onward._core as _core

from ..core import arrays
from ..core.arrays import Array, Shape
from ..core.checks import Rng, flag, unknown_arguments
from ..errors import ArgumentError
from .base import NO_WEIGHTS
from .quantize import Quantizable, packed, uniform
from .stateful import Cache, Inputs, Stateful

if TYPE_CHECKING:
    from .graphs import GraphBuilder


class Recurrence(Quantizable, Stateful):
    """A layer of one direction whose equations are a graph; its states are (1, B, ...)."""

    STATE_AXES: ClassVar[tuple[str, ...]] = ("1", "batch", "units")
    causal = True
    output_size: int
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

        return planner_of(self, True), planner_of(self, True, True)

    def add_steps(self, b: GraphBuilder, x: str, initial: Sequence[str]) -> Sequence[str]:
        from . import equations  # slow to import

        if not self.equation:
            raise ArgumentError(f"{self!r} has no equations: derive its class from a layer that has")
        e = equations.Equations(
            b.graph, self, b.label[0], b.prefix, b.lengths, initial, b.recorded is not None
        )
        y = e.masked(getattr(equations, self.equation)(e, self, e.value(x))).name
        if b.recorded is not None:
            b.recorded |= e.recorded
        return y, *e.final

    def __call__(
        self, x: ArrayLike, state: Any = None, *, lengths: ArrayLike | None = None, **unknown: Never
    ) -> tuple[Array, Any]:
        """Run a sequence from its first step to its last.

        x is (T, B, I), (B, T, I) with batch_first, or (T, I) unbatched. state has the form of the returned
        state, or is None for zeros. lengths (B,), or one integer unbatched, gives the number of valid steps
        in each row. All arrays are converted to the layer's dtype.

        Returns y, laid out as x, and the final state, both as new arrays. Past a row's length, y is 0; the
        final state is that of the last valid step. Raises ShapeError, DtypeError, SignatureError for unknown
        arguments, and ArgumentError for a length out of range or a state of the wrong kind.
        """
        if unknown:
            raise unknown_arguments(self, unknown, "x, state=None, *, lengths=None")
        inputs = self.inputs(x, state, lengths)
        return self.outputs(inputs, self._planners[inputs.lengths is not None](*inputs.given()))

    def inputs(self, x: ArrayLike, state: Any, lengths: ArrayLike | None) -> Inputs:
        """The arguments of a call, checked, with a batch axis."""
        x = self.as_sequence(x)
        batched = x.ndim == 3
        batch_axis = 0 if self.batch_first else 1
        x = x if batched else np.expand_dims(x, batch_axis)
        T, B = x.shape[1 - batch_axis], x.shape[batch_axis]
        states = self._full_state("{}0", state, B, batched)
        valid = None if lengths is None else arrays.as_lengths(lengths, (B,) if batched else (), T)
        h0, c0 = (*states, None)[:2]
        return Inputs(
            arrays.contiguous(x), h0, c0, None if valid is None else valid.astype(np.int32), batched
        )

    def _full_state(self, names: str, state: Any, B: int, batched: bool) -> tuple[Array, ...]:
        """The arrays of a state or of its gradient, which is None for zeros."""
        given = zip(self.state_names, self.split_state(state), self.state_shapes(B), strict=False)
        found = [
            (self.initial_state(names.format(name), x, shape, batched), shape) for name, x, shape in given
        ]
        return tuple(np.zeros(shape, self.dtype) if x is None else x for x, shape in found)

    def outputs(self, inputs: Inputs, results: Iterable[Any]) -> tuple[Any, Any]:
        """The results of a call, from those of the graph."""
        y, *states = results
        if not inputs.batched:
            y, states = y[0] if self.batch_first else y[:, 0], [part[:, 0] for part in states]
        return y, self.join_state(states[0], states[1] if len(states) > 1 else None)

    def forward(
        self, x: ArrayLike, state: Any = None, *, lengths: ArrayLike | None = None, rng: Rng = None
    ) -> tuple[Any, Any, Cache]:
        """Call the layer and also return a cache for backward, which holds all values of all steps.

        The steps run one by one in NumPy, with the bits of a call. Raises the errors of a call.
        """
        self._check_gradients()
        inputs = self.inputs(x, state, lengths)
        if 0 in inputs.x.shape:
            return *self(x, state, lengths=lengths), Cache(inputs, None)
        from ..graph.gradients import Run  # slow to import
        from .graphs import graph_of

        run = Run(graph_of(self, inputs.lengths is not None), inputs.given())
        y, *states = (part.copy() for part in run.outputs)
        return *self.outputs(inputs, (y, *states)), Cache(inputs, run)

    def backward(self, dy: ArrayLike, dstate: Any, cache: Any) -> tuple[Any, Any, dict[str, Array]]:
        """Return dx (laid out as x), the gradient of the initial state, and those of the weights by name.

        dy is laid out as y, and dstate as the final state (None for zeros). Raises ShapeError, DtypeError,
        ArgumentError.
        """
        fits = isinstance(cache, Cache) and cache.inputs.x.shape[-1] == self.input_size
        self._check_cache(fits and cache.inputs.x.dtype == self.dtype)
        inputs, run = cache
        batch_axis = 0 if self.batch_first else 1
        B, shape = inputs.x.shape[batch_axis], [*inputs.x.shape[:2], self.output_size]
        if not inputs.batched:
            del shape[batch_axis]
        dy = arrays.as_gradient(dy, tuple(shape), self.dtype)
        dy = dy if inputs.batched else np.expand_dims(dy, batch_axis)
        after = self._full_state("d{}", dstate, B, inputs.batched)
        if run is None:
            found = {name: np.zeros_like(weight) for name, weight in self._weights.items()}
            results: Any = (np.zeros_like(inputs.x), *after)
        else:
            with np.errstate(all="ignore"), _core.Flushing():
                known = run.back((dy, *after))

            def gradient(name: str) -> Any:
                return known.get(name, np.zeros_like(run.values[name]))

            found = {name: np.ascontiguousarray(gradient(name)) for name in self.own_weights}
            results = [gradient(name) for name in run.inputs if name != "lengths"]
        dx, before = self.outputs(inputs, results)
        return dx, before, found

    def records(
        self, x: ArrayLike, state: Any, lengths: ArrayLike | None
    ) -> tuple[Array, Any, Inputs, dict[str, Array]]:
        """y and the final state, the checked arguments, and the gates and states (T, B, ...) by name."""
        from ..graph.plan.planner import Planner  # slow to import
        from ..graph.simplification.simplify import simplify
        from .graphs import graph_of

        inputs, names = self.inputs(x, state, lengths), dict[str, str]()
        graph = graph_of(self, inputs.lengths is not None, names)
        graph.outputs = (*graph.outputs, *names.values())
        results = Planner(simplify(graph))(*inputs.given())
        count = 1 + len(self.state_names)
        recorded = dict(zip(names, results[count:], strict=True))
        if inputs.lengths is not None:  # 0 past the length of a row
            for name, array in recorded.items():
                valid = np.arange(len(array))[:, None] < inputs.lengths
                recorded[name] = np.where(valid.reshape(*valid.shape, *[1] * (array.ndim - 2)), array, 0)
        y, after = self.outputs(inputs, results[:count])
        return y, after, inputs, recorded
