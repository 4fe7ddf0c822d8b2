"""Transposed convolutions phase by phase of the stride: each is a convolution of its own."""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core import budget
from ...core.windows import Geometry
from ..plan.builder import Builder
from ..plan.view import View
from ..size import are_same
from .products import product_step
from .sliding import (
    channels_first,
    channels_last,
    ends_apart,
    has_adjacent_steps,
    has_far_ends,
    is_worth_transposing,
    pad_view,
    window_view,
    with_adjacent_steps,
)

FEW_OUTPUTS = 4  # with them, vectors hold adjacent windows


class Transposed(NamedTuple):
    """The geometry of a transposed convolution: one number, or one pair, for each axis."""

    groups: int
    strides: Sequence[int]
    dilations: Sequence[int]
    uncropped: Sequence[int]  # the sizes before cropping
    crops: Sequence[tuple[int, int]]  # the elements to crop before and after

    @property
    def before(self) -> list[int]:
        """The elements to crop before each axis."""
        return [before for before, _ in self.crops]

    @property
    def out(self) -> tuple[int, ...]:
        """The sizes of the output."""
        axes = zip(self.uncropped, self.crops, strict=True)
        return tuple(max(0, size - before - after) for size, (before, after) in axes)


def is_depthwise(W: NDArray[Any], g: Transposed) -> bool:
    """Whether each channel has its own kernel."""
    return 1 < g.groups == len(W) and W.shape[1] == 1


class Phase(NamedTuple):
    """The outputs first, first + stride, .. of an axis: these taps of the kernel reach them.

    Output number q sums over tap number j times the input q + start + j step; the inputs ascend.
    """

    first: int
    size: int
    taps: list[int]
    start: int
    step: int


def phases(out: int, kernel: int, stride: int, dilation: int, before: int) -> list[Phase]:
    """Split the outputs of an axis, from which `before` elements were removed, into phases.

    >>> phases(out=5, kernel=3, stride=2, dilation=1, before=0)  # doctest: +NORMALIZE_WHITESPACE
    [Phase(first=0, size=3, taps=[2, 0], start=-1, step=1),
     Phase(first=1, size=2, taps=[1], start=0, step=1)]
    """
    found = []
    budget.spend(budget.STEP // 10 * min(stride, out) * kernel)
    for first in range(min(stride, out)):
        taps = [tap for tap in reversed(range(kernel)) if (first + before - tap * dilation) % stride == 0]
        inputs = [(first + before - tap * dilation) // stride for tap in taps]
        step = inputs[1] - inputs[0] if len(inputs) > 1 else 1
        size = max(0, -((first - out) // stride))
        found.append(Phase(first, size, taps, inputs[0] if inputs else 0, step))
    return found


def phase_by_phase(b: Builder, x: View, W: NDArray[Any], bias: NDArray[Any] | None, g: Transposed) -> View:
    """Convolve x (N, *in, C) with the taps of each phase; return y (N, *out, M)."""
    N, *sizes, C = x.shape
    n, groups, out, M = len(sizes), g.groups, g.out, W.shape[1] * g.groups
    by_axis = [phases(*axis) for axis in zip(out, W.shape[2:], g.strides, g.dilations, g.before, strict=True)]
    pads = [padding_of(axis, size) for axis, size in zip(by_axis, sizes, strict=True)]
    has_few, is_adjacent = groups == 1 and M <= FEW_OUTPUTS, has_adjacent_steps(x)
    transposes = has_few and is_worth_transposing(b, C, math.prod(W.shape[2:]), M, sizes[-1])
    keeps_order = transposes or (is_adjacent and (has_few or (is_depthwise(W, g) and g.strides[-1] == 1)))
    y = channels_last(b.new(N, M, *out)) if keeps_order else b.new(N, *out, M)
    if keeps_order and has_few and is_adjacent and n == 1 and _have_far_ends(x, by_axis[0], pads[0]):
        _filter_phases(b, x, W, bias, g, by_axis, None, y)
        return y
    padded = pad_view(b, x, pads, b.scalar(0.0), not keeps_order)
    if keeps_order and has_few:
        padded = with_adjacent_steps(b, padded)
        _filter_phases(b, padded, W, bias, g, by_axis, [side[0] for side in pads], y)
        return y
    if not keeps_order and is_depthwise(W, g) and padded.strides[-1] != 1:
        padded = b.contiguous(padded)
    for phase in itertools.product(*by_axis):
        target = outputs_of(y, phase, g)
        if not all(axis.taps for axis in phase):
            b.add("copy", b.scalar(0.0) if bias is None else b.constant(bias), target)
            continue
        windows = _windows(padded, phase, [side[0] for side in pads])
        if is_depthwise(W, g):
            weights = b.constant(np.ascontiguousarray(_taps_of(W[:, 0], phase).reshape(C, -1).T))
            added = None if bias is None else b.constant(bias)
            b.add("window", "weighted_sum", windows, weights, added, target)
            continue
        taps = tuple(tuple(axis.taps) for axis in phase)
        for group in range(groups):
            rows = windows.sliced(2 * n + 1, group * C // groups, (group + 1) * C // groups)
            filters = partial(_filters, W, bias, group, groups, phase)
            packed = b.packed((W, bias), ("transposed", group, taps), filters)
            product = product_step(b, packed, rows, M // groups, n + 1)
            b.add("copy", product, target.sliced(n + 1, group * M // groups, (group + 1) * M // groups))
    return y


def _have_far_ends(x: View, found: Sequence[Phase], sides: tuple[Any, Any]) -> bool:
    """Whether padding x (N, T, C) takes longer than steps for the windows at its ends, in each phase."""
    kernel = max(len(phase.taps) for phase in found)
    step = max((phase.step for phase in found if len(phase.taps) > 1), default=1)
    outputs = [phase.size for phase in found if phase.taps]
    return all(
        has_far_ends(channels_first(x), Geometry((kernel,), (1,), (step,), (sides,), (size,)))
        for size in outputs
    )


def _filter_phases(
    b: Builder, x: View, W: NDArray[Any], bias: NDArray[Any] | None, g: Transposed,
    by_axis: list[list[Phase]], before: list[int] | None, y: View,
) -> None:  # fmt: skip
    """Compute few outputs y (N, *out, M) from x, both with adjacent steps.

    `before` is the padding of x, or None if its only axis is not padded. The phases of the last axis that
    read the same windows are the units of one product for each output.
    """
    n, M = W.ndim - 2, W.shape[1]
    runs = [[(phase,) for phase in axis] for axis in by_axis[:-1]]
    for parts in itertools.product(*runs, _reading_the_same(by_axis[-1])):
        others, together = tuple([phase for (phase,) in parts[:-1]]), parts[-1]
        phase = (*others, together[0])
        target = outputs_of(y, phase, g)
        rows, P = target.shape[:-1], len(together)
        if not all(axis.taps for axis in phase):
            value = b.scalar(0.0) if bias is None else b.constant(bias).with_axes((M, 1), (1, 0))
            b.add("copy", value, target.with_axes((*rows, M, P), (*target.strides, y.strides[n])))
            continue
        units = target if P == 1 else target.with_axes((*rows, P), (*target.strides[:-1], y.strides[n]))
        if before is None:
            windows = _windows_apart(b, x, together[0], units)
        else:
            windows = [(_windows(x, phase, before), n, units)]
        taps = [tuple(axis.taps) for axis in (*others, *together)]
        for outputs in [slice(m, m + 1) for m in range(M)] if P > 1 else [slice(0, M)]:
            make = partial(
                _filters_of_phases, W[:, outputs], bias, outputs, [(*others, last) for last in together]
            )
            packed = b.packed((W, bias), ("phases", outputs.start, *taps), make)
            for part, axes, results in windows:
                own = results.with_axes(results.shape, results.strides, outputs.start * y.strides[-1])
                b.add("filter", packed, part, 1 + axes, None, own)


def _windows_apart(b: Builder, x: View, phase: Phase, y: View) -> list[tuple[View, int, View]]:
    """Return the windows of a phase over x (N, T, C), the number of their axes, and their outputs.

    Those at the ends of x are apart from the others.
    """
    T, taps = x.shape[1], len(phase.taps)
    end = phase.start + phase.size + (taps - 1) * phase.step
    sides = max(0, -phase.start), max(0, end - T)
    x = x.sliced(1, max(0, phase.start), T - max(0, T - end))
    g = Geometry((taps,), (1,), (phase.step,), (sides,), (phase.size,))
    parts = ends_apart(b, x, g, y) if any(sides) else [(x, g, y)]
    return [(window_view(part, windows), len(windows.kernel), target) for part, windows, target in parts]


def _filters_of_phases(
    W: NDArray[Any], bias: NDArray[Any] | None, outputs: slice, phases: list[tuple[Phase, ...]]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the taps of phases, for some outputs, one below the other, and their bias."""
    rows = np.concatenate([_filters(W, None, 0, 1, phase)[0] for phase in phases])
    return rows, None if bias is None else np.tile(bias[outputs], len(phases))


def _reading_the_same(phases: list[Phase]) -> list[list[Phase]]:
    """Split phases into runs that read the same windows."""
    found: list[list[Phase]] = []
    for phase in phases:
        last = found[-1][-1] if found else None
        if last is not None and are_same(last.size, phase.size) and _reach(last) == _reach(phase):
            found[-1].append(phase)
        else:
            found.append([phase])
    return found


def _reach(phase: Phase) -> tuple[int, int, int]:
    return phase.start, phase.step, len(phase.taps)


def padding_of(axis: list[Phase], size: int) -> tuple[int, int]:
    """Return the zeros that the windows of all phases need before and after an axis of the input."""
    ends = [p.start + (p.size - 1) + (len(p.taps) - 1) * p.step for p in axis if p.taps]
    return max(0, -min(p.start for p in axis)), max(0, max(ends, default=0) + 1 - size)


def _windows(x: View, phase: tuple[Phase, ...], before: list[int]) -> View:
    """Return the windows (N, *outputs, *taps, C) of x (N, *in, C), which is padded."""
    places = x.strides[1:-1]
    offset = sum((p.start + pad) * stride for p, pad, stride in zip(phase, before, places, strict=True))
    taps = [p.step * stride for p, stride in zip(phase, places, strict=True)]
    shape = (x.shape[0], *(p.size for p in phase), *(len(p.taps) for p in phase), x.shape[-1])
    strides = (x.strides[0], *places, *taps, x.strides[-1])
    return x.with_axes(shape, strides, offset)


def outputs_of(y: View, phase: tuple[Phase, ...], g: Transposed) -> View:
    """Return the outputs of a phase of y (N, *out, M)."""
    for axis, (part, size, stride) in enumerate(zip(phase, g.out, g.strides, strict=True), start=1):
        y = y.sliced(axis, part.first, size, stride)
    return y


def _filters(
    W: NDArray[Any], bias: NDArray[Any] | None, group: int, groups: int, phase: tuple[Phase, ...]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the taps of a phase as rows of a matrix, for the outputs of one group, and their bias."""
    C, M = W.shape[0] // groups, W.shape[1]
    own = _taps_of(np.moveaxis(W[group * C : (group + 1) * C], 0, -1), phase)
    return own.reshape(M, -1), None if bias is None else bias[group * M : (group + 1) * M]


def _taps_of(W: NDArray[Any], phase: tuple[Phase, ...]) -> NDArray[Any]:
    """Return the taps of a phase of kernels, whose axes follow the first one."""
    for axis, part in enumerate(phase, start=1):
        W = W[(slice(None),) * axis + (part.taps,)]  # np.take would copy all taps before
    return W
