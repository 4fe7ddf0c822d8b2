"""The gradients of operations with respect to their inputs, as compositions of operations.

The rules hold for operations as the equations of layers use them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ArgumentError
from .compositions import composed
from .expressions import sqrt, square, where


def _summed(dx: Any, x: Any) -> Any:
    """Return a gradient summed over the axes along which an input was broadcast."""
    leading = dx.rank - x.rank
    axes = [*range(leading)]
    axes += [
        leading + axis for axis, size in enumerate(x.shape) if size == 1 and dx.shape[leading + axis] != 1
    ]
    summed = dx.reduce("ReduceSum", axes, True) if axes else dx
    return summed.apply("Squeeze", range(leading)) if leading else summed


def _expanded(dx: Any, x: Any) -> Any:
    """Return a gradient repeated along the axes in which an input is larger."""
    return dx.apply("Expand", x.apply("Shape").name)


def _transposed(x: Any) -> Any:
    """Return matrices with their last two axes exchanged."""
    return x.apply("Transpose", perm=[*range(x.rank - 2), x.rank - 1, x.rank - 2])


def _of_product(dy: Any, y: Any, A: Any, B: Any, bias: Any = None) -> Iterator[Any]:
    yield dy.apply("MatMul", _transposed(B))
    if B.rank == 2:  # of all rows at once
        A, dB = (each.apply("Reshape", [-1, each.shape[-1]]) for each in (A, dy))
    else:
        dB = dy
    yield _transposed(A).apply("MatMul", dB)
    yield dy


def _of_maximum(dy: Any, y: Any, a: Any, b: Any) -> Iterator[Any]:
    yield where(a >= b, dy, 0)
    yield where(a < b, dy, 0)


def _of_where(dy: Any, y: Any, condition: Any, a: Any, b: Any) -> Iterator[Any]:
    yield where(condition, dy, 0)
    yield where(condition, 0, dy)


def _of_sum(dy: Any, y: Any, x: Any, axes: Any = None, *, keepdims: int = 1) -> Iterator[Any]:
    yield _expanded(dy if keepdims or axes is None else dy.apply("Unsqueeze", axes), x)


def _of_layer_norm(
    dy: Any, y: Any, x: Any, gain: Any, bias: Any = None, *, axis: int = -1, epsilon: float = 1e-5
) -> Iterator[Any]:
    """y = gain z + bias, and z is standardized along the last axis."""
    if axis not in (-1, x.rank - 1):
        raise ArgumentError(f"axis={axis} has no gradient; expected the last axis")

    def mean(x: Any) -> Any:
        return x.reduce("ReduceMean", [-1], True)

    z, dz = x.apply("Standardize", axes=[-1], epsilon=epsilon), dy * gain
    deviation = sqrt(mean(square(x - mean(x))) + epsilon)
    yield (dz - (mean(dz) + z * mean(dz * z))) / deviation
    yield dy * z
    yield dy


def _of_split(dys: Sequence[Any], ys: Sequence[Any], x: Any, sizes: Any, *, axis: int) -> Iterator[Any]:
    parts = [_expanded(y.constant(0), y) if dy is None else dy for dy, y in zip(dys, ys, strict=True)]
    yield parts[0].apply("Concat", *parts[1:], axis=axis)


def _of_concat(dy: Any, y: Any, *parts: Any, axis: int) -> Iterator[Any]:
    yield from dy.apply_all("Split", [x.shape[axis] for x in parts], outputs=len(parts), axis=axis)


def _moved(dy: Any, y: Any, x: Any, *others: Any, **attributes: Any) -> Iterator[Any]:
    yield dy.apply("Reshape", x.apply("Shape").name)


# For each operation, a function of the gradient with respect to the output, the output, the inputs and the
# attributes, which returns the gradients with respect to the inputs that have some, as large as the output or
# the input. That of Split takes the gradients with respect to all outputs.
RULES: Mapping[str, Callable[..., Iterable[Any]]] = {
    "Add": lambda dy, y, a, b: (dy, dy),
    "Sub": lambda dy, y, a, b: (dy, -dy),
    "Mul": lambda dy, y, a, b: (dy * b, dy * a),
    "Div": lambda dy, y, a, b: (dy / b, -dy * y / b),
    "Neg": lambda dy, y, x: (-dy,),
    "Max": _of_maximum,
    "Where": _of_where,
    "MatMul": _of_product,
    "Sigmoid": lambda dy, y, x: (dy * y * (1 - y),),
    "Tanh": lambda dy, y, x: (dy * (1 - y) * (y + 1),),
    "Exp": lambda dy, y, x: (dy * y,),
    "Sqrt": lambda dy, y, x: (dy / (y + y),),
    "Sin": lambda dy, y, x: (dy * x.apply("Cos"),),
    "Cos": lambda dy, y, x: (-dy * x.apply("Sin"),),
    "Softplus": lambda dy, y, x: (dy * x.apply("Sigmoid"),),
    "ReduceSum": _of_sum,
    "LayerNormalization": _of_layer_norm,
    "Split": _of_split,
    "Concat": _of_concat,
    "Reshape": _moved,
    "Squeeze": _moved,
    "Unsqueeze": _moved,
    "Transpose": lambda dy, y, x, perm: (dy.apply("Transpose", perm=[int(n) for n in np.argsort(perm)]),),
}
# The inputs that have gradients, where some have none.
_DIFFERENTIABLE = {
    "Where": slice(1, 3),
    **dict.fromkeys(("ReduceSum", "Split", "Reshape", "Squeeze", "Unsqueeze"), slice(1)),
}


def differentiable(operation: str, inputs: Sequence[Any]) -> Sequence[Any]:
    """Return those of the inputs of an operation that have gradients."""
    return inputs[_DIFFERENTIABLE.get(operation, slice(None))]


@composed("Gradient")
def gradient(*values: Any, of: str, count: int, **attributes: Any) -> Iterator[Any]:
    """The gradients with respect to the inputs of an operation that have some.

    The inputs are the gradients with respect to its `count` outputs, these outputs, and its inputs.
    """
    dys, ys, inputs = values[:count], values[count : 2 * count], values[2 * count :]
    given = (dys[0], ys[0]) if count == 1 else (dys, ys)
    found = RULES[of](*given, *inputs, **attributes)
    for x, dx in zip(differentiable(of, inputs), found, strict=False):
        yield _summed(dx, x)
