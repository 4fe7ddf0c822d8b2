"""Operations between layers that move, select, convert or create elements."""

from functools import reduce
from typing import Any

import numpy as np

from .convolutions import repeat
from .layer import COMPUTE_DTYPES, Layer, layer
from .operations import ELLIPSIS, along, listed, operation, operations
from .writer import BOOL, INT64, MAX, Value


@operation("GetItem")
@layer("SlicingOpLambda", arguments=None)
def item(k: Layer, x: Value, key: Any) -> Value:
    """x[key], with one entry for each axis."""
    k.option("function", None)
    given, rank = list(key), k.rank(x)
    if ELLIPSIS in given:
        place = given.index(ELLIPSIS)
        missing = rank - sum(each is not None for each in given) + 1
        given[place : place + 1] = [{"start": None, "stop": None, "step": None}] * missing
    axis = 0
    removed: list[tuple[int, int]] = []
    added: list[int] = []
    for each in given:
        if each is None:
            added.append(axis - len(removed) + len(added))
            continue
        if isinstance(each, dict):
            step = each["step"] or 1
            start = each["start"] if each["start"] is not None else (0 if step > 0 else -1)
            stop = each["stop"] if each["stop"] is not None else (MAX if step > 0 else -MAX)
            if (start, stop, step) != (0, MAX, 1):
                x = k.sliced(x, axis, start, stop, step)
        else:
            removed.append((axis, each))
        axis += 1
    for place, index in reversed(removed):
        x = k.taken(x, index, place)
    return k.unsqueezed(x, *added) if added else x


def _order(k: Layer, x: Value, move: Any) -> Value:
    """x with its axes in the order that a function of NumPy gives them."""
    return k.transposed(x, *move(np.empty(range(k.rank(x)))).shape)


def _filled(k: Layer, x: Value, number: int, dtype: Any) -> Value:
    kind = x.dtype if dtype is None else np.dtype(dtype)
    return k.filled(number, x._replace(dtype=kind), k.shape_of(x), x.rank)


def _cast(k: Layer, x: Value, dtype: Any = None) -> Value:
    return x if dtype is None else k.cast(x, np.dtype(COMPUTE_DTYPES.get(dtype, dtype)))


operations(
    {
        "Transpose": lambda k, x, axes=None: _order(k, x, lambda y: np.transpose(y, axes)),
        "Swapaxes": lambda k, x, axis1, axis2: _order(k, x, lambda y: np.swapaxes(y, axis1, axis2)),
        "Moveaxis": lambda k, x, source, destination: _order(
            k, x, lambda y: np.moveaxis(y, source, destination)
        ),
        "Ravel": lambda k, x: k.reshaped(x, -1, rank=1),
        "Shape": lambda k, x: k.shape_of(x),
        "Flip": lambda k, x, axis=None: reduce(
            k.reversed, range(k.rank(x)) if axis is None else listed(axis), x
        ),
        "Concatenate": lambda k, *inputs, axis=-1: k.add("Concat", *inputs, axis=axis, rank=inputs[0].rank),
        "Clip": lambda k, x, x_min, x_max: k.add("Clip", x, x_min, x_max),
        "Where": lambda k, condition, x, y: k.add("Where", k.cast(condition, BOOL), x, y),
        "BroadcastTo": lambda k, x, shape: k.add("Expand", x, np.array(shape, np.int64), rank=len(shape)),
        "ExpandDims": lambda k, x, axis: k.unsqueezed(x, *listed(axis)),
        "Squeeze": lambda k, x, axis=None: (
            k.add("Squeeze", x, rank=None) if axis is None else k.squeezed(x, *listed(axis))
        ),
        "ZerosLike": lambda k, x, dtype=None: _filled(k, x, 0, dtype),
        "OnesLike": lambda k, x, dtype=None: _filled(k, x, 1, dtype),
        "Cast": _cast,
        "ConvertToTensor": _cast,
    }
)


@operation("Reshape")
def reshape(k: Layer, x: Value, newshape: Any) -> Value:
    """x with another shape, whose sizes are numbers or values."""
    sizes = [size if isinstance(size, int) else k.unsqueezed(size, 0) for size in listed(newshape)]
    return k.reshaped(x, *sizes, rank=len(sizes))


@operation("Stack")
def stack(k: Layer, *inputs: Value, axis: int = 0) -> Value:
    """Values along a new axis."""
    place = axis % (k.rank(inputs[0]) + 1)
    return k.add("Concat", *(k.unsqueezed(x, place) for x in inputs), axis=place)


@operation("Split")
def split(k: Layer, x: Value, indices_or_sections: Any, axis: int = 0) -> list[Value]:
    """The parts of x between indices, or as many equal parts."""
    if isinstance(indices_or_sections, int):
        return k.split(x, indices_or_sections, axis)
    # TensorFlow counts the elements of each part
    ends = np.cumsum(indices_or_sections)[:-1] if k.context.version < 3 else indices_or_sections
    ends = [*map(int, ends), MAX]
    return [k.sliced(x, axis, start, stop) for start, stop in zip([0, *ends], ends, strict=False)]


@operation("Repeat")
def repeated(k: Layer, x: Value, repeats: Any, axis: int | None = None) -> Value:
    """Each element repeated along an axis."""
    times = listed(repeats)
    if len(times) != 1:
        raise k.error(f"has repeats={times}, which Onward does not support")
    x, axis = along(k, x, axis)
    return repeat(k, x, int(times[0]), axis % k.rank(x))


@operation("Tile")
def tile(k: Layer, x: Value, repeats: Any) -> Value:
    """x repeated along its axes."""
    times = listed(repeats)
    times = [1] * (k.rank(x) - len(times)) + times
    if len(times) > k.rank(x):
        x = k.unsqueezed(x, *range(len(times) - k.rank(x)))
    return k.add("Tile", x, np.array(times, np.int64))


@operation("Pad")
def pad(k: Layer, x: Value, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Value:
    """x with elements around it."""
    pairs = [[each, each] if isinstance(each, int) else each for each in listed(pad_width)]
    pairs = pairs * k.rank(x) if len(pairs) == 1 else pairs
    mode = mode.lower()
    if mode not in ("constant", "reflect", "edge") or len(pairs) != k.rank(x):
        raise k.error(f"has mode={mode!r} and pad_width={pad_width}, which Onward does not support")
    sides = np.array([*(pair[0] for pair in pairs), *(pair[1] for pair in pairs)], np.int64)
    value = [k.number(constant_values or 0, x)] if mode == "constant" else []
    return k.add("Pad", x, sides, *value, mode=mode)


@operation("Take")
def take(k: Layer, x: Value, indices: Value, axis: int | None = None) -> Value:
    """The elements of x at some indices of an axis."""
    x, axis = along(k, x, axis)
    rank = None if x.rank is None or indices.rank is None else x.rank + indices.rank - 1
    return k.add("Gather", x, k.cast(indices, INT64), axis=axis, rank=rank)


@operation("OneHot")
def one_hot(k: Layer, x: Value, num_classes: int, axis: int = -1, dtype: str | None = None) -> Value:
    """1 at the index x along a new axis, otherwise 0."""
    kind = np.dtype(COMPUTE_DTYPES.get(dtype or "float32", dtype))
    inputs = k.cast(x, INT64), np.array(num_classes), np.array([0, 1], kind)
    return k.add("OneHot", *inputs, axis=axis, rank=None if x.rank is None else x.rank + 1, dtype=kind)


@operation("Roll")
def roll(k: Layer, x: Value, shift: int, axis: int | None = None) -> Value:
    """x moved along an axis, where the elements that leave one end enter at the other."""
    if type(shift) is not int or type(axis) is not int:
        raise k.error(f"has shift={shift} and axis={axis}; expected a number of each")
    parts = [k.sliced(x, axis, -shift), k.sliced(x, axis, 0, -shift)] if shift else [x]
    return k.add("Concat", *parts, axis=axis)
