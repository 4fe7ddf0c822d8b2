"""A model over many sequences: those of like length together, each answered bitwise as if it were alone."""

from collections.abc import Iterator, Sequence

from ..errors import ArgumentError
from ..layers.base import Layer, call
from . import data
from .data import AnyArray, Integers

BATCH = 64  # sequences in one call: enough rows for the core's full speed


def outputs(model: Layer, sequences: Sequence[AnyArray]) -> Iterator[tuple[Integers, list[AnyArray]]]:
    """What the model gives for each sequence (T, ...): (T, O) or (O,), batch by batch with their numbers.

    Raises what the model raises, whichever of a batch's sequences it is for.
    """
    batch_first = model.batch_first
    # what is not of such layers alone would look at what shorter sequences are padded with
    chain = [leaf.causal or bool(leaf.state_names) for leaf in model.in_order() or []]
    padded = model.causal or (bool(chain) and all(chain))
    for rows, x, lengths in data.Sequences(list(sequences), None).batches(BATCH, padded):
        y, _ = model._run(x.swapaxes(0, 1) if batch_first else x, None, lengths if padded else None, call)
        if isinstance(y, list):
            raise ArgumentError(f"the model has {len(y)} outputs for a sequence, but must have one")
        if y.ndim == 2:
            yield rows, list(y)
        else:
            steps = y if batch_first else y.swapaxes(0, 1)
            yield rows, [row[:length] for row, length in zip(steps, lengths, strict=True)]
