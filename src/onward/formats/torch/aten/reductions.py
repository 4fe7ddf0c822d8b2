"""ATen's reductions over axes, cumulative operators, which are scans over an axis, and softmax."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ....graph.graph import Graph
from ....graph.operations.expressions import Expression, is_nan, maximum, where
from ....graph.writer import Recorder
from .creation import filled
from .elementwise import log_of_sum
from .expressions import expression, floating, p_norm
from .joins import broadcast_tensors
from .registry import BOOL, FLOAT32, INT64, Tensor, aten, define
from .shapes import lifts_scalars
from .translator import Translator

Dims = Sequence[int] | int | None


def axes_of(x: Tensor, dim: Dims) -> list[int]:
    """Return axes counted from 0; no axes stand for all."""
    dims = [] if dim is None else [dim] if isinstance(dim, int) else dim
    return [x.axis(d) for d in dims] or list(range(x.rank))


def require_elements(t: Translator, x: Tensor, dim: Dims) -> None:
    """Raise ArgumentError, now or in a call, if an axis that is reduced has no elements."""
    for axis in axes_of(x, dim) if x.rank else ():
        t.require("Equal", t.size(x, axis), 0, f"axis {axis} is reduced, but has no elements", expected=False)


def reduced(t: Translator, operation: str, x: str, like: Tensor, dim: Dims, keepdim: bool) -> str:
    """Reduce axes of a value with the axes of `like`; no axes stand for all."""
    if not like.rank:
        return t.add(operation, t.add("Unsqueeze", x, [0]), [0], keepdims=0)
    return t.add(operation, x, axes_of(like, dim), keepdims=int(keepdim))


def _same(t: Translator, x: Tensor, dtype: Any) -> str:
    return t.cast(x, dtype or x.dtype)


def wide(x: Tensor) -> np.dtype[Any]:
    """Return the dtype of sums and products: those of integers are int64."""
    return INT64 if x.dtype.kind in "biu" else x.dtype


def _wide(t: Translator, x: Tensor, dtype: Any) -> str:
    return t.cast(x, dtype or wide(x))


def _without_nan(t: Translator, x: Tensor, dtype: Any) -> str:
    y = _wide(t, x, dtype)
    missing = t.add("IsNaN", x) if x.dtype.kind == "f" else None
    return t.add("Where", missing, t.cast(0, dtype or x.dtype), y) if missing else y


def _comparable(t: Translator, x: Tensor, dtype: Any) -> str:
    return t.cast(x, np.int32 if x.dtype == BOOL else x.dtype)


def _truth(dtype: Any) -> Callable[[Translator, Tensor, Any], str]:
    return lambda t, x, _: t.add("Cast", t.cast(x, BOOL), to=np.dtype(dtype))


_logical = _truth(np.uint8)  # whose smallest and largest numbers are the results without elements


def _reduction(operation: str, prepare: Callable[[Translator, Tensor, Any], str]) -> Any:
    def function(
        t: Translator, self: Tensor, dim: Dims = None, keepdim: bool = False, dtype: Any = None
    ) -> str:
        if prepare is _comparable:
            require_elements(t, self, dim)
        y = reduced(t, operation, prepare(t, self, dtype), self, dim, keepdim)
        if prepare is _logical:
            y = t.add("Cast", y, to=BOOL)
            return t.add("Cast", y, to=self.dtype) if self.dtype == np.uint8 else y
        return t.add("Cast", y, to=BOOL) if self.dtype == BOOL and prepare is _comparable else y

    return function


amax, amin = _reduction("ReduceMax", _comparable), _reduction("ReduceMin", _comparable)
define({
    "sum sum.dim_IntList": _reduction("ReduceSum", _wide),
    "mean mean.dim": _reduction("ReduceMean", _same),
}, takes_complex=True)  # fmt: skip
define({
    "nansum": _reduction("ReduceSum", _without_nan),
    "prod prod.dim_int": _reduction("ReduceProd", _wide),
    "logsumexp": _reduction("ReduceLogSumExp", lambda t, x, _: t.cast(x, floating(x))),
    "amax max": amax,
    "amin min": amin,
    "any any.dim any.dims": _reduction("ReduceMax", _logical),
    "all all.dim all.dims": _reduction("ReduceMin", _logical),
    "count_nonzero count_nonzero.dim_IntList": _reduction("ReduceSum", _truth(INT64)),
    "aminmax": lambda t, self, dim=None, keepdim=False: (
        amin(t, self, dim, keepdim), amax(t, self, dim, keepdim)),
    "max.dim": lambda t, self, dim, keepdim=False: (
        amax(t, self, dim, keepdim), _argument(t, "ArgMax", self, dim, keepdim)),
    "min.dim": lambda t, self, dim, keepdim=False: (
        amin(t, self, dim, keepdim), _argument(t, "ArgMin", self, dim, keepdim)),
    "argmax": lambda t, self, dim=None, keepdim=False: _argument(t, "ArgMax", self, dim, keepdim),
    "argmin": lambda t, self, dim=None, keepdim=False: _argument(t, "ArgMin", self, dim, keepdim),
})  # fmt: skip


@aten("nanmean")
def nanmean(t: Translator, self: Tensor, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> str:
    counted = t.add("Cast", t.add("Not", t.add("IsNaN", self)), to=self.dtype)
    terms = _without_nan(t, self, None), counted
    return t.add("Div", *(reduced(t, "ReduceSum", each, self, dim, keepdim) for each in terms))


def _argument(t: Translator, operation: str, x: Tensor, dim: int | None, keepdim: bool) -> str:
    if not x.rank:
        return t.constant(0)
    require_elements(t, x, dim)
    if dim is not None:
        return t.add(operation, x, axis=x.axis(dim), keepdims=int(keepdim))
    place = t.add(operation, t.add("Reshape", x, [-1]), axis=0, keepdims=0)
    return t.add("Reshape", place, [1] * x.rank) if keepdim else place


FAR, NEAR = 2.0**40, 2.0**-40  # distances whose squares may exceed the range of float32
FARTHER, NEARER = 2.0**96, 2.0**-80  # units in which they do not


def variance(
    t: Translator, x: Tensor, dim: Dims, correction: float, keepdim: bool, is_deviation: bool = False
) -> tuple[str, str]:
    """Return the variance or the standard deviation, and the mean; those of half precision are in float32."""
    y, axes = expression(t, x, FLOAT32 if x.dtype == np.float16 else x.dtype), axes_of(x, dim)
    center = y.reduce("ReduceMean", axes, True)
    distance, unit = y - center, None
    if is_deviation and y.dtype == FLOAT32:
        largest = abs(distance).reduce("ReduceMax", axes, True)
        unit = where(largest > FAR, FARTHER, where(largest < NEAR, NEARER, y.constant(1)))
        distance = distance / unit
    total = distance.reduce("ReduceSumSquare", axes, keepdim)
    sizes, count = [x.shape[axis] for axis in axes], y.constant(0)
    if None in sizes:
        product = t.add("ReduceProd", t.add("Gather", t.add("Shape", x), axes), [0], keepdims=0)
        elements = Expression(t, product, INT64).cast(y.dtype)
        count = maximum(elements - correction, 0)
        if correction < 0:  # the variance of no elements is not a number
            count = count * elements.apply("Min", 1)
    elif size := math.prod(n or 0 for n in sizes):
        count = y.constant(max(size - float(correction), 0))
    mean, found = center if keepdim else y.reduce("ReduceMean", axes), total / count
    if is_deviation:
        found = found.apply("Sqrt")
    if unit is not None:
        found = found * (unit if keepdim else unit.reduce("ReduceMax", axes))
    return found.cast(x.dtype).name, mean.cast(x.dtype).name


def _define_variance(name: str, is_deviation: bool, with_mean: bool) -> None:
    @aten(name, f"{name}.dim", f"{name}.correction")
    @lifts_scalars
    def function(
        t: Translator, self: Tensor, dim: Dims = None, unbiased: bool = True, keepdim: bool = False,
        correction: Any = None,
    ) -> Any:  # fmt: skip
        corrected = float(unbiased) if correction is None else correction
        found, mean = variance(t, self, dim, corrected, keepdim, is_deviation)
        return (found, mean) if with_mean else found


_define_variance("var", False, False)
_define_variance("std", True, False)
_define_variance("var_mean", False, True)
_define_variance("std_mean", True, True)


@aten("linalg_vector_norm norm.ScalarOpt_dim norm.Scalar norm.ScalarOpt_dim_dtype")
@lifts_scalars
def vector_norm(
    t: Translator, self: Tensor, ord: Any = 2, dim: Dims = None, keepdim: bool = False, dtype: Any = None,
    p: Any = None,
) -> str:  # fmt: skip
    order = float(2 if p is None and ord is None else ord if p is None else p)
    if order < 0 or order == math.inf:
        require_elements(t, self, dim)
    return p_norm(expression(t, self, dtype or self.dtype), order, axes_of(self, dim), keepdim).name


def _softmax(operation: str) -> Any:
    return lifts_scalars(
        lambda t, self, dim, dtype=None, half_to_float=False: t.add(
            operation, t.cast(self, dtype or self.dtype), axis=self.axis(dim)
        )
    )


define({
    "softmax.int _softmax": _softmax("Softmax"),
    "log_softmax.int _log_softmax": _softmax("LogSoftmax"),
})  # fmt: skip


@aten("_safe_softmax")
@lifts_scalars
def safe_softmax(t: Translator, self: Tensor, dim: int, dtype: Any = None) -> str:
    """The softmax, and 0 for slices that are all -inf."""
    x = expression(t, self, dtype or self.dtype)
    none = x.reduce("ReduceMax", [self.axis(dim)], True).equals(-math.inf)
    return where(none, 0, x.apply("Softmax", axis=self.axis(dim))).name


@aten("cosine_similarity")
def cosine_similarity(t: Translator, x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> str:
    axes = [dim - max(x1.rank, x2.rank) if dim >= 0 else dim]
    pair: list[Any] = [x1, x2] if x1.shape == x2.shape else broadcast_tensors(t, [x1, x2])
    dtype = floating(x1, x2)
    wide = FLOAT32 if dtype == np.float16 else dtype
    named = zip(map(t.named, pair), (x1, x2), strict=True)
    a, b = (Expression(t, name, x.dtype).cast(wide) for name, x in named)
    a, b = (x / maximum(x.reduce("ReduceL2", axes, True), eps) for x in (a, b))
    return (a * b).reduce("ReduceSum", axes).cast(dtype).name


# Cumulative operators.


@aten("cumsum", takes_complex=True)
@lifts_scalars
def cumsum(t: Translator, self: Tensor, dim: int, dtype: Any = None) -> str:
    x = _wide(t, self, dtype)
    return t.add("CumSum", x, self.axis(dim))


@aten("cumprod")
@lifts_scalars
def cumprod(t: Translator, self: Tensor, dim: int, dtype: Any = None) -> str:
    """The products of the elements so far; float32 is multiplied in float64, which avoids overflows."""
    x = expression(t, self, dtype or wide(self))
    y = x.cast(np.float64) if x.dtype == FLOAT32 else x
    return y.apply("CumProd", self.axis(dim)).cast(x.dtype).name


def _scan(
    t: Translator, x: Tensor, dim: int, step: Callable[..., Sequence[Expression]], *starts: tuple[float, Any]
) -> Sequence[str]:
    """Return the states after each step along an axis, from the numbers and dtypes with which they start.

    `step` returns the next states from the present ones and a slice of x.
    """
    axis, n, body = x.axis(dim), len(starts), Graph()
    others = [place for place in range(x.rank) if place != axis]
    sizes = tuple("" if (size := x.shape[place]) is None else size for place in others)
    dtypes = [np.dtype(dtype) for _, dtype in starts]
    *states, slice_ = (
        Expression(Recorder(body), body.add_input(f"value_{i}", dtype, sizes), dtype)
        for i, dtype in enumerate((*dtypes, x.dtype))
    )
    after = step(*states, slice_)
    body.outputs = (*(each.name for each in after), *(each.apply("Identity").name for each in after))
    first = [filled(t, [t.size(x, place) for place in others], *start) for start in starts]
    options = {"num_scan_inputs": 1, "scan_input_axes": [axis], "scan_output_axes": [axis] * n}
    found = t.add_all("Scan", (*first, x), 2 * n, body=body, **options)[n:]
    for name, dtype in zip(found, dtypes, strict=True):
        t.expect_like(name, x, dtype)
    return found


def _define_extremum(name: str, operation: str, sign: int) -> None:
    def step(best: Expression, place: Expression, count: Expression, x: Expression) -> Any:
        replaces = x.apply(operation, best, dtype=BOOL)
        replaces = replaces | is_nan(x) if x.dtype.kind == "f" else replaces
        return where(replaces, x, best), where(replaces, count, place), count + 1

    @aten(name)
    @lifts_scalars
    def extremum(t: Translator, self: Tensor, dim: int) -> Any:
        """The extremum of the elements so far, and the index of its last occurrence."""
        dtype = self.dtype if self.dtype != BOOL else np.dtype(np.uint8)
        x = dataclasses.replace(self, name=t.cast(self, dtype), dtype=dtype)
        limits = None if dtype.kind == "f" else np.iinfo(dtype)
        start = sign * math.inf if limits is None else int(limits.max if sign > 0 else limits.min)
        extrema, places, _ = _scan(t, x, dim, step, (start, dtype), (0, INT64), (0, INT64))
        return t.cast(dataclasses.replace(x, name=extrema), self.dtype), places


_define_extremum("cummax", "GreaterOrEqual", -1)
_define_extremum("cummin", "LessOrEqual", 1)


@aten("logcumsumexp")
@lifts_scalars
def logcumsumexp(t: Translator, self: Tensor, dim: int) -> str:
    """log(exp(x_0) + .. + exp(x_t)), each step from the one before."""
    return _scan(t, self, dim, lambda *terms: [log_of_sum(*terms)], (-math.inf, self.dtype))[0]
