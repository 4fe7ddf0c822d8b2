"""The geometry of sliding windows: padding, output sizes and windows as views."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import ArgumentError, ShapeError
from ..plan.builder import Builder
from ..plan.view import View

# The attributes of operations with windows, apart from the size of the kernel.
WINDOW = ("auto_pad", "dilations", "pads", "strides")


class Geometry(NamedTuple):
    """A window that slides over some axes: one number, or padding before and after, for each axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    sides: tuple[tuple[int, int], ...]
    out: tuple[int, ...]

    @property
    def spans(self) -> tuple[int, ...]:
        """The distance between the first and the last element of a window, plus one."""
        return spans(self.kernel, self.dilations)


def spans(kernel: Sequence[int], dilations: Sequence[int]) -> tuple[int, ...]:
    """Return the number of elements that a window covers on each axis."""
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))


def geometry(sizes: Sequence[int], kernel: Sequence[int], attributes: Mapping[str, Any]) -> Geometry:
    """Return the geometry of windows over axes of some sizes.

    `attributes` holds auto_pad, pads, strides, dilations and ceil_mode of ONNX. Raises ArgumentError for
    attributes that do not match the axes, and ShapeError if a window is larger than the padded axis.
    """
    n = len(kernel)
    if len(sizes) != n:
        raise ShapeError(f"the kernel has {n} axes, the input {len(sizes)}")
    strides = tuple(map(int, attributes.get("strides") or [1] * n))
    dilations = tuple(map(int, attributes.get("dilations") or [1] * n))
    if len(strides) != n or len(dilations) != n or min((*strides, *dilations, *kernel), default=1) < 1:
        raise ArgumentError(
            f"kernel {tuple(kernel)}, strides {strides}, dilations {dilations}; expected {n} positive numbers"
        )
    covered = spans(kernel, dilations)
    sides = padding(sizes, covered, strides, attributes.get("auto_pad", "NOTSET"), attributes.get("pads"))
    out, steps = [], []
    for size, span, step, (before, after) in zip(sizes, covered, strides, sides, strict=True):
        room = size + before + after - span
        if room < 0:
            raise ShapeError(
                f"an axis of size {size}, {size + before + after} with padding, is shorter than {span}"
            )
        places = room // step + 1
        # with ceil_mode, a last window may exceed the padding, but must start before it
        if attributes.get("ceil_mode") and room % step and places * step < size + before:
            places += 1
        out.append(places)
        # a step that is never taken may have any size, which views cannot represent
        steps.append(step if places > 1 else min(step, room + 1))
    strides = tuple(steps)
    dilations = tuple(step if k > 1 else 1 for step, k in zip(dilations, kernel, strict=True))
    return Geometry(tuple(kernel), strides, dilations, sides, tuple(out))


def padding(
    sizes: Sequence[int],
    covered: Sequence[int],
    strides: Sequence[int],
    auto_pad: str,
    pads: Sequence[int] | None,
) -> tuple[tuple[int, int], ...]:
    """Return the padding before and after each axis."""
    n = len(sizes)
    if auto_pad == "VALID":
        return ((0, 0),) * n
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        sides = []
        for size, span, step in zip(sizes, covered, strides, strict=True):
            total = max(0, (-(-size // step) - 1) * step + span - size)
            less, more = total // 2, total - total // 2
            sides.append((less, more) if auto_pad == "SAME_UPPER" else (more, less))
        return tuple(sides)
    if auto_pad not in ("NOTSET", ""):
        raise ArgumentError(f"auto_pad={auto_pad!r}; expected NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    pads = list(map(int, pads or [0] * 2 * n))
    if len(pads) != 2 * n:
        raise ArgumentError(f"pads={pads}; expected {2 * n} integers")
    return tuple(zip(pads[:n], pads[n:], strict=True))


def whole_sides(sizes: Sequence[int], g: Geometry) -> list[tuple[int, int]]:
    """Return the padding that includes the elements that ceil_mode adds after an axis."""
    axes = zip(sizes, g.spans, g.strides, g.out, g.sides, strict=True)
    return [
        (before, max(after, (places - 1) * step + span - size - before))
        for size, span, step, places, (before, after) in axes
    ]


def pad_view(b: Builder, x: View, sides: Sequence[tuple[int, int]], value: View) -> View:
    """Pad the middle axes of x (N, *in, C) with a value, a view of one element."""
    if not any(map(any, sides)):
        return x
    N, *sizes, C = x.shape
    shape = (N, *(size + sum(side) for size, side in zip(sizes, sides, strict=True)), C)
    whole = b.new(*shape, dtype=x.dtype)
    low = [0, *(before for before, _ in sides), 0]
    high = [first + size for first, size in zip(low, x.shape, strict=True)]
    b.add("fill_border", value, whole, low, high)
    inner = whole
    for axis, (first, last) in enumerate(zip(low, high, strict=True)):
        inner = inner.sliced(axis, first, last)
    b.add("copy", x, inner)
    return whole


def window_view(x: View, g: Geometry) -> View:
    """Return the windows (N, *out, *kernel, C) of the padded x (N, *in, C) as a view."""
    n = len(g.kernel)
    places = tuple(x.strides[1 + axis] * g.strides[axis] for axis in range(n))
    taps = tuple(x.strides[1 + axis] * g.dilations[axis] for axis in range(n))
    shape = (x.shape[0], *g.out, *g.kernel, x.shape[-1])
    return x._replace(shape=shape, strides=(x.strides[0], *places, *taps, x.strides[-1]))


def tap_view(windows: View, n: int, tap: Sequence[int]) -> View:
    """Return one element of each window (N, *out, C)."""
    part = windows
    for axis, place in enumerate(tap):
        part = part.sliced(1 + n + axis, place, place + 1)
    return part._replace(
        shape=(*part.shape[: 1 + n], part.shape[-1]), strides=(*part.strides[: 1 + n], part.strides[-1])
    )


def window_step(
    b: Builder, operation: str, x: View, g: Geometry, weights: View | None = None, bias: View | None = None
) -> View:
    """Combine the elements of each window of the padded x (N, *in, C); return y (N, *out, C)."""
    if x.strides[-1] != 1 and x.shape[-1] > 1:
        x = b.contiguous(x)
    y = b.new(x.shape[0], *g.out, x.shape[-1])
    b.add("window", operation, window_view(x, g), weights, bias, y)
    return y
