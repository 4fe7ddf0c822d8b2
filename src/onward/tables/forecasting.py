"""Forecasting: cut long sequences into windows, with the following steps as targets."""

from dataclasses import replace

import numpy as np

from ..errors import ArgumentError
from .layout import AnyArray, Sequences


def cut(sequences: Sequences, window: int, horizon: int, future: bool) -> Sequences:
    """Return every window of `window` steps as a sequence, with the next `horizon` targets, (N, H * O).

    Windows do not cross sequences. With `future`, windows at the end are kept even if some of their targets
    are unknown; these are NaN. A window is named after its sequence and its last step. Raises
    ArgumentError if no sequence is long enough, or if the targets are not numbers for each step.
    """
    targets = sequences.targets
    if sequences.labels is not None or not (targets is None or isinstance(targets, list)):
        raise ArgumentError(
            f"{sequences.origin}: --window forecasts numbers, so the target must be a number for each step"
        )
    ahead = 0 if future or targets is None else horizon
    items: list[AnyArray] = []
    following: list[AnyArray] = []
    names: list[str] = []
    for row, item in enumerate(sequences.items):
        for start in range(len(item) - window - ahead + 1):
            end = start + window
            items.append(item[start:end])
            last = str(end - 1) if sequences.times is None else sequences.times[row][end - 1]
            names.append(last if sequences.single else f"{sequences.name(row)}:{last}")
            if targets is not None:
                known = targets[row][end : end + horizon]
                padding = ((0, horizon - len(known)), (0, 0))
                following.append(np.pad(known, padding, constant_values=np.nan).reshape(-1))
    if not items:
        raise ArgumentError(
            f"{sequences.origin}: the longest sequence has {sequences.lengths.max()} steps, but --window "
            f"{window}{f' and --horizon {horizon}' if ahead else ''} need {window + ahead}"
        )
    return replace(
        sequences,
        items=items,
        targets=None if targets is None else np.stack(following),
        names=names,
        times=None,
        selection=replace(sequences.selection, window=window, horizon=horizon),
        single=False,
    )
