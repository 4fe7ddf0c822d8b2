"""Run a whole model of one input on rows: arrays with the axes that the model declares, without the batch."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import ArgumentError
from ..graph import Graph
from ..graph.declared import Input
from ..graph.over_time.named_carries import INITIAL, MOVES
from ..graph.size import Size
from ..graph.summary import signatures
from ..model import Model
from .layout import AnyArray

BATCH = ("batch", "batch_size", "B", "N")  # the names of an axis of rows


def batch_axis(axes: Sequence[int | str]) -> int | None:
    """The axis of rows: one with such a name, or the first if its size is open or 1; None if there is none.

    >>> batch_axis(("time", "batch", 3)), batch_axis((1, 3, 5)), batch_axis((20, 3))
    (1, 0, None)
    """
    named = [axis for axis, name in enumerate(axes) if name in BATCH]
    return (named or [0])[0] if named or (axes and (isinstance(axes[0], str) or axes[0] == 1)) else None


class Rows:
    """A whole model of one input, called with rows, and its output for each row.

    A row has the axes of the input without its batch axis. Rows from tables are steps of features, (T, F):
    `time` is the axis of steps in a row. Raises ArgumentError for a model of several inputs or outputs, or
    without a batch axis.
    """

    def __init__(self, model: Model) -> None:
        self._model = model = model.general.of_sequences
        graph = model.planner.graph
        declared = [each for each in graph.inputs if each.name not in model.initial_states]
        if len(declared) != 1:
            raise ArgumentError(
                f"the model takes several inputs ({', '.join(model.inputs)}): pass them by name as .npz"
            )
        if len(graph.outputs) != 1:
            raise ArgumentError(
                f"the model has several outputs ({', '.join(model.outputs)}): pass its input as .npy or .npz"
            )
        axes, name, layout = declared[0].axes, declared[0].name, model.layout
        batch = layout.axes.batch if layout is not None else batch_axis(axes or ())
        if axes is None or declared[0].dtype is None or batch is None or len(axes) < 2:
            raise ArgumentError(f"the input {name} of the model has no axis of rows")
        self.batch = batch
        self.axes = (*axes[:batch], *axes[batch + 1 :])
        places = [place for place, size in enumerate(self.axes) if isinstance(size, str)]
        self.time = places[0] if len(places) == 1 else 0
        if layout is not None and layout.axes.time is not None:
            self.time = layout.axes.time - (layout.axes.time > batch)
        self._dtype = declared[0].dtype
        rows, steps = _output_axes(graph, declared[0], batch, self.time + (self.time >= batch))
        self._rows = rows  # the axis of rows in the output; None if it is unknown
        self.takes_many = rows is not None and isinstance(axes[batch], str)
        # the axis of steps in the output of a row
        self.output_time = 0 if steps is None else steps - (rows is not None and rows < steps)

    @property
    def step_shape(self) -> tuple[int | None, ...]:
        """The shape of a step of a row from a table; None for a size that is open."""
        sizes = (*self.axes[: self.time], *self.axes[self.time + 1 :])
        return tuple(size if isinstance(size, int) else None for size in sizes)

    def from_steps(self, steps: AnyArray) -> AnyArray:
        """Return a row of a table, (T, F), with the axes of the model; whole numbers may become integers."""
        if self._dtype.kind in "iu" and steps.dtype.kind == "f" and (steps == np.rint(steps)).all():
            steps = steps.astype(self._dtype)
        return np.moveaxis(steps, 0, self.time)

    def example(self) -> AnyArray:
        """A row of zeros, with one step if any number is accepted, as from a table."""
        sizes = [size if isinstance(size, int) else 1 for size in self.axes]
        return np.moveaxis(np.zeros(sizes, self._dtype), self.time, 0)

    def run(self, rows: Sequence[AnyArray]) -> list[AnyArray]:
        """The output of each of some rows, only one unless `takes_many`; a number becomes an array (1,)."""
        (y,) = self._model.results((np.stack(rows, self.batch),), {})
        if self._rows is not None:
            return [np.atleast_1d(row) for row in np.moveaxis(y, self._rows, 0)]
        axis = next((axis for axis in (self.batch, 0) if y.shape[axis : axis + 1] == (1,)), None)
        return [np.atleast_1d(y if axis is None else y.squeeze(axis))]


def _output_axes(graph: Graph, declared: Input, batch: int, time: int) -> tuple[int | None, int | None]:
    """The axes of the output whose sizes follow from the input's rows and steps; None if they are unknown."""
    sizes = list(declared.axes or ())
    for axis, name in ((batch, "rows"), (time, "steps")):
        if isinstance(sizes[axis], str):
            sizes[axis] = name
    inputs = [declared.with_axes(*sizes) if each is declared else each for each in graph.inputs]
    found = signatures(graph.replaced(inputs=inputs)).get(graph.outputs[0])
    shape = () if found is None else found.shape
    one = {"rows"} if sizes[batch] == 1 else set()  # an axis of size 1 may be that of an only row
    names = [size.names if isinstance(size, Size) else one if size == 1 else set() for size in shape]
    rows = next((axis for axis, each in enumerate(names) if "rows" in each), None)
    return rows, next((axis for axis, each in enumerate(names) if "steps" in each and axis != rows), None)


def has_several_outputs(graph: Graph) -> bool:
    """Whether a graph has outputs besides the first and the final states of recurrent layers."""
    producers = {name: node for node in graph.nodes for name in node.outputs}
    for name in graph.outputs[1:]:
        while name in producers and producers[name].operation in MOVES:
            name = producers[name].inputs[0]
        if name not in producers or producers[name].operation not in INITIAL:
            return True
    return False


def called(model: Model, arrays: Mapping[str, AnyArray]) -> list[AnyArray]:
    """Return the outputs of a whole model for inputs by name.

    Where inputs have one more axis than the model declares, or many rows where it declares one, it is called
    for each row, and its outputs are joined along their first axes.
    """
    declared = {each.name: each for each in model.graph.inputs}
    added, split = set(), set()
    for name, array in arrays.items():
        axes = declared[name].axes if name in declared else None
        if axes is not None and array.ndim == len(axes) + 1:
            added.add(name)
        elif axes and axes[0] == 1 and array.ndim == len(axes) and len(array) != 1:
            split.add(name)
    counts = {len(arrays[name]) for name in added | split}
    if not counts or 0 in counts:
        return list(model.results((), dict(arrays)))
    if len(counts) > 1:
        sizes = ", ".join(f"{name} {len(arrays[name])}" for name in arrays if name in added | split)
        raise ArgumentError(f"the inputs have different numbers of rows: {sizes}")
    calls = []
    for row in range(counts.pop()):
        rows = {name: arrays[name][row] for name in added} | {
            name: arrays[name][row : row + 1] for name in split
        }
        calls.append(model.results((), {**arrays, **rows}))
    joins = [np.concatenate if not added and y.shape[:1] == (1,) else np.stack for y in calls[0]]
    return [join(ys) for join, ys in zip(joins, zip(*calls, strict=True), strict=True)]
