"""Keras' recurrent layers: cells run over time by Onward's own layers, masked steps left out."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....core.arrays import Array, Shape, as_floats
from ....errors import ArgumentError, ShapeError
from ....layers.base import RunRecurrent
from ....layers.recurrent import Recurrent
from ....layers.rnn import LSTM
from .layer import AnyArray, KerasLayer, Mask, Masked, within


class RNN(KerasLayer):
    """Recurrent layers one on top of the other, as the cells of keras.layers.RNN, LSTM, GRU and SimpleRNN.

    cells: Onward's recurrent layers, batch first. x (B, T, I) to y (B, T, H), or (B, H) without
    return_sequences; with return_state, the state of each cell follows, (B, H) each.

    A masked step keeps the state; its output is that of the step before it, zeros where there is none, and
    zeros everywhere with zero_output_for_mask.
    """

    arguments = ("initial_state", "mask")

    def __init__(
        self,
        cells: Sequence[Recurrent[Any]],
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        zero_output_for_mask: bool = False,
        time_major: bool = False,
    ) -> None:
        self.cells = cells
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.zero_output_for_mask = zero_output_for_mask
        self.time_major = time_major
        self.dtype = cells[0].dtype

    def with_zeros_for_mask(self) -> "RNN":
        """The layer with zero outputs for masked steps, if it returns sequences."""
        return RNN(
            self.cells,
            self.return_sequences,
            self.return_state,
            self.go_backwards,
            zero_output_for_mask=self.return_sequences,
            time_major=self.time_major,
        )

    @property
    def causal(self) -> bool:
        return not self.go_backwards and all(cell.causal for cell in self.cells)

    @property
    def step_shape(self) -> Shape | None:
        return self.cells[0].step_shape

    def run(
        self,
        inputs: Sequence[Masked],
        run_recurrent: RunRecurrent,
        initial_state: Sequence[Masked] = (),
        use_mask: bool = True,
        **options: Any,
    ) -> list[Masked]:
        if options:
            raise ArgumentError(f"an RNN takes x and initial_state, not {', '.join(options)}")
        (x, mask), *states = [*inputs, *initial_state]
        mask = mask if use_mask else None
        steps = as_floats(x, self.dtype, "x")
        if steps.ndim != 3 or 0 in steps.shape[:2]:
            raise ShapeError(f"x has shape {x.shape}, but an RNN takes (B, T, I) with at least one step")
        if mask is not None and mask.shape != steps.shape[:2]:
            raise ShapeError(f"x has shape {x.shape}, but its mask {mask.shape}")
        if self.time_major:
            steps, mask = steps.swapaxes(0, 1), None if mask is None else mask.swapaxes(0, 1)
        if self.go_backwards:
            steps, mask = steps[:, ::-1], None if mask is None else mask[:, ::-1]
        lengths = None if mask is None else mask.sum(axis=1)

        y = steps if mask is None else front(steps, mask)
        final: list[Array] = []
        parts = self._states([state.array for state in states])
        for index, (cell, state) in enumerate(zip(self.cells, parts, strict=True)):
            y, last = run_recurrent(f"cells.{index}.", cell, y, state, lengths)
            final += [part[0] for part in (last if isinstance(cell, LSTM) else [last])]
        if mask is not None:
            y = back(y, mask, self.zero_output_for_mask)

        if not self.return_sequences:
            output = Masked(y[:, -1])
        else:
            output = Masked(y.swapaxes(0, 1) if self.time_major else y, inputs[0].mask)
        return [output, *map(Masked, final)] if self.return_state else [output]

    def _states(self, given: list[AnyArray]) -> list[Any]:
        """The initial state of each cell as that takes it, from arrays (B, H) one after the other."""
        if not given:
            return [None] * len(self.cells)
        count = sum(1 + isinstance(cell, LSTM) for cell in self.cells)
        if len(given) != count:
            raise ArgumentError(f"initial_state is {len(given)} arrays, but this RNN has {count}")
        parts = iter(part[None] for part in given)
        return [(next(parts), next(parts)) if isinstance(cell, LSTM) else next(parts) for cell in self.cells]


def front(x: Array, mask: Mask) -> Array:
    """The steps (B, T, I) of each row that count, moved to the front in their order."""
    order = np.argsort(~mask, axis=1, kind="stable")
    return np.take_along_axis(x, order[:, :, None], axis=1)


def back(y: Array, mask: Mask, zero: bool) -> Array:
    """Steps (B, T, H) from the front to where they were; a masked step shows the last one, or zeros."""
    place: NDArray[np.intp] = np.cumsum(mask, axis=1) - 1
    steps = np.take_along_axis(y, np.maximum(place, 0)[:, :, None], axis=1)
    steps[~mask if zero else place < 0] = 0
    return steps


class Bidirectional(KerasLayer):
    """keras.layers.Bidirectional: two RNNs over the same input, of which one begins at the end.

    merge_mode: "concat", "sum", "ave" and "mul" of the two outputs, the backward one put in order of time;
    None for both. Their final states follow, forward first, if they return them.
    """

    arguments = ("initial_state", "mask")

    def __init__(self, forward_layer: RNN, backward_layer: RNN, merge_mode: str | None = "concat") -> None:
        if merge_mode not in MERGES and merge_mode is not None:
            raise ArgumentError(f"merge_mode={merge_mode!r}, but must be one of {', '.join(MERGES)} or None")
        self.forward_layer = forward_layer
        self.backward_layer = backward_layer
        self.merge_mode = merge_mode
        self.dtype = forward_layer.dtype

    def run(
        self,
        inputs: Sequence[Masked],
        run_recurrent: RunRecurrent,
        initial_state: Sequence[Masked] = (),
        **options: Any,
    ) -> list[Masked]:
        x, *states = [*inputs, *initial_state]
        half = len(states) // 2
        forward, *forward_states = self.forward_layer.run(
            [x], within(run_recurrent, "forward_layer"), initial_state=states[:half], **options
        )
        backward, *backward_states = self.backward_layer.run(
            [x], within(run_recurrent, "backward_layer"), initial_state=states[half:], **options
        )
        mask = forward.mask
        if self.forward_layer.return_sequences:
            time = 0 if self.forward_layer.time_major else 1
            backward = Masked(np.flip(backward.array, time), mask)
        if self.merge_mode is None:
            outputs = [forward, backward]
        else:
            outputs = [Masked(MERGES[self.merge_mode](forward.array, backward.array), mask)]
        return [*outputs, *forward_states, *backward_states]


MERGES: dict[str, Callable[[Array, Array], Array]] = {
    "concat": lambda forward, backward: np.concatenate([forward, backward], axis=-1),
    "sum": np.add,
    "ave": lambda forward, backward: (forward + backward) / 2,
    "mul": np.multiply,
}


class TimeDistributed(KerasLayer):
    """keras.layers.TimeDistributed: a layer applied to every time step of x (B, T, ...).

    The mask of the output is x's. With masks_inside, as in Keras 2, it is that which the layer gives, and
    where it gives none, the steps in which anything counts of what x's mask says.
    """

    arguments = ("training", "mask")

    def __init__(self, layer: KerasLayer, masks_inside: bool = False) -> None:
        self.layer = layer
        self.masks_inside = masks_inside

    def run(self, inputs: Sequence[Masked], run_recurrent: RunRecurrent, **options: Any) -> list[Masked]:
        x, mask = self.only(inputs, options)
        B, T = x.shape[:2]
        # in Keras 3, a mask over steps says nothing about what is inside one
        goes_in = mask is not None and (self.masks_inside or mask.ndim > 2)
        inner = mask.reshape(B * T, *mask.shape[2:]) if mask is not None and goes_in else None
        rows = Masked(x.reshape(B * T, *x.shape[2:]), inner)
        outputs = self.layer.run([rows], within(run_recurrent, "layer"))
        return [
            Masked(y.array.reshape(B, T, *y.array.shape[1:]), self._mask(mask, y.mask, (B, T)))
            for y in outputs
        ]

    def _mask(self, mask: Mask | None, inner: Mask | None, steps: Shape) -> Mask | None:
        if not self.masks_inside:
            return mask
        if inner is not None:
            return inner.reshape(*steps, *inner.shape[1:])
        return None if mask is None else np.asarray(mask.any(axis=tuple(range(2, mask.ndim))))
