"""Rare functions that run in NumPy: linear algebra, order statistics and special functions."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...core import budget
from ...errors import ArgumentError
from ..node import AnyArray, Operand, Signature
from .registry import operation


def _cholesky(x: AnyArray, upper: bool = False) -> AnyArray:
    L = np.linalg.cholesky(x)
    return np.swapaxes(L, -1, -2) if upper else L


def _solve(A: AnyArray, B: AnyArray) -> AnyArray:
    """B has matrices, or vectors of the batch axes of A."""
    if B.ndim == 1 or B.shape == A.shape[:-1]:
        return np.linalg.solve(A, B[..., None])[..., 0]
    return np.linalg.solve(A, B)


def _matrix_exp(x: AnyArray) -> AnyArray:
    """The series of a matrix scaled below 1/2, squared as often as it was halved."""
    norm = float(np.abs(x).sum(-1).max(initial=0))
    halvings = max(0, math.ceil(math.log2(norm)) + 1) if 0 < norm < math.inf else 0
    scaled, term = x / 2.0**halvings, np.broadcast_to(np.eye(x.shape[-1]), x.shape)
    total = term.copy()
    for k in range(1, 20):
        term = term @ scaled / k
        total = total + term
    for _ in range(halvings):
        total = total @ total
    return total


def _mode(x: AnyArray, axis: int) -> Any:
    """The smallest of the most frequent elements along an axis, and its last index; NaN equals no element."""
    rows = np.moveaxis(x, axis, -1)
    values, places = np.empty(rows.shape[:-1], x.dtype), np.empty(rows.shape[:-1], np.int64)
    for place in np.ndindex(values.shape):
        row = rows[place]
        found, counts = np.unique(row, return_counts=True, equal_nan=False)
        places[place] = np.flatnonzero(row == found[counts.argmax()]).max(initial=0)  # 0 in a row of NaNs
        values[place] = row[places[place]]
    return values, places


def _quantile(x: AnyArray, q: AnyArray, axis: int, method: str, ignores_nan: bool) -> AnyArray:
    function = np.nanquantile if ignores_nan else np.quantile
    return np.asarray(function(x, q, axis, method=method))  # type: ignore[call-overload]


def _histogram(x: AnyArray, bins: int, low: float, high: float) -> AnyArray:
    if low == high and x.size:
        low, high = float(x.min()), float(x.max())
    return np.histogram(x, bins, (low, high))[0].astype(np.float64)


@np.vectorize(otypes=[np.float64])  # also without elements
def _lgamma(x: float) -> float:
    """The logarithm of |gamma(x)|, infinite at the poles."""
    if math.isinf(x) or (x <= 0 and x == math.floor(x)):
        return math.inf
    return math.lgamma(x)


def _digamma(x: AnyArray) -> AnyArray:
    """The derivative of lgamma: by reflection below 0, by recurrence to 10, then by Stirling's series."""
    y = np.where(x < 0, 1 - x, x)
    total = np.zeros_like(y)
    for _ in range(10):
        total = np.where(y < 10, total - 1 / y, total)
        y = np.where(y < 10, y + 1, y)
    s = 1 / (y * y)
    total = (
        total + np.log(y) - 0.5 / y - s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s / 132))))
    )
    return np.where(
        (x < 0) & (x == np.floor(x)), np.nan, np.where(x < 0, total - np.pi / np.tan(np.pi * x), total)
    )


@np.vectorize(otypes=[np.float64])  # also without elements
def _erfinv(y: float) -> float:
    """Newton's method from Winitzki's approximation."""
    if not abs(y) < 1:
        return math.copysign(math.inf, y) if abs(y) == 1 else math.nan
    logarithm = math.log1p(-y * y)
    a = 2 / (math.pi * 0.147) + logarithm / 2
    x = math.copysign(math.sqrt(math.sqrt(a * a - logarithm / 0.147) - a), y)
    for _ in range(4):
        missing = math.erfc(abs(x)) - (1 - abs(y))  # precise near 1
        x += math.copysign(1, x) * missing * math.sqrt(math.pi) / 2 * math.exp(x * x)
    return x


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "cholesky": _cholesky, "copysign": np.copysign, "cross": np.cross, "digamma": _digamma,
    "eigh": lambda x, uplo="L": np.linalg.eigh(x, uplo), "erfinv": _erfinv, "frexp": np.frexp, "gcd": np.gcd,
    "histogram": _histogram, "i0": np.i0, "inverse": np.linalg.inv, "lcm": np.lcm, "lgamma": _lgamma,
    "matrix_exp": _matrix_exp, "matrix_power": np.linalg.matrix_power, "mode": _mode,
    "nextafter": np.nextafter, "pseudoinverse": np.linalg.pinv, "qr": np.linalg.qr, "quantile": _quantile,
    "signbit": np.signbit, "singular_values": lambda x: np.linalg.svd(x, compute_uv=False),
    "slogdet": np.linalg.slogdet, "solve": _solve,
    "ndtri": lambda x: math.sqrt(2) * _erfinv(2 * x - 1),
    "svd": lambda x, full=True: np.linalg.svd(x, full_matrices=full),
}  # fmt: skip
IN_OWN_PRECISION = {"nextafter", "copysign", "gcd", "lcm"}


def _sample(x: Operand) -> AnyArray:
    """Return matrices of this shape that every function accepts."""
    if not isinstance(x, Signature):
        return x
    diagonal = np.eye(*x.shape[-2:], dtype=x.dtype) if len(x.shape) > 1 else np.zeros((), x.dtype)
    return np.broadcast_to(diagonal, x.shape)


def _signature(*inputs: Operand, function: str, **options: Any) -> list[Signature]:
    results = numpy_function.compute([_sample(x) for x in inputs], {"function": function, **options})
    return [Signature.of(result) for result in results]


@operation("NumPy", signature=_signature, widens=True)
def numpy_function(*inputs: AnyArray, function: str, **options: Any) -> tuple[Any, ...]:
    """The results of one of `FUNCTIONS`, computed in float64 and rounded to the dtype of the first input."""
    if function not in FUNCTIONS:
        raise ArgumentError(f"the function {function!r} is unknown; expected {', '.join(FUNCTIONS)}")
    dtype = inputs[0].dtype
    is_wide = dtype.kind == "f" and function not in IN_OWN_PRECISION
    operands = [x.astype(np.float64) if is_wide and x.dtype.kind == "f" else x for x in inputs]
    try:
        results = FUNCTIONS[function](*operands, **options)
    except np.linalg.LinAlgError as error:
        raise ArgumentError(f"{function}: {error}") from error
    results = results if isinstance(results, tuple) else (results,)
    arrays = [np.asarray(y) for y in results]
    return tuple(y.astype(dtype) if is_wide and y.dtype == np.float64 else y for y in arrays)


@numpy_function.reading
def _(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Some functions run Python for each element; those of matrices take n^3 operations."""
    x: Any = inputs[0]
    return budget.STEP // 4 + 10 * sum(x.shape[-1:])
