"""ATen's linear algebra: decompositions, solvers, norms, distances and products of tensors."""

import math
from collections.abc import Sequence
from functools import reduce
from string import ascii_lowercase
from typing import Any

import numpy as np

from ....errors import ArgumentError
from ....graph.operations.expressions import Expression, where
from .elementwise import binary
from .expressions import expression, floating, p_norm, promoted
from .reductions import vector_norm, wide
from .registry import Tensor, aten, bounded, define
from .shapes import reshaped, transposed
from .translator import Translator


def through_numpy(t: Translator, function: str, *inputs: Any, count: int = 1, **options: Any) -> Any:
    """Add a function of NumPy. Return the name of its output, or several names if `count` is not 1."""
    for x in inputs:
        if isinstance(x, Tensor) and x.dtype.kind == "c":
            raise ArgumentError(f"{function} of complex numbers is not supported")
    names = t.add_all("NumPy", inputs, count, function=function, **options)
    return names[0] if count == 1 else names


def _special(function: str) -> Any:
    return lambda t, self: through_numpy(t, function, t.cast(self, floating(self)))


def _of_pair(function: str, common: Any = promoted) -> Any:
    def pair(t: Translator, self: Tensor, other: Any) -> Any:
        dtype = common(self, other)
        return through_numpy(t, function, t.cast(self, dtype), t.cast(other, dtype))

    return pair


define({
    "inverse": lambda t, self: through_numpy(t, "inverse", self),
    "linalg_inv linalg_inv_ex": lambda t, A, check_errors=False: through_numpy(t, "inverse", A),
    "det": lambda t, self: t.add("Det", self),
    "linalg_det _linalg_det": lambda t, A: t.add("Det", A),
    "logdet": lambda t, self: t.add("Log", t.add("Det", self)),
    "slogdet": lambda t, self: through_numpy(t, "slogdet", self, count=2),
    "linalg_slogdet _linalg_slogdet": lambda t, A: through_numpy(t, "slogdet", A, count=2),
    "linalg_cholesky cholesky linalg_cholesky_ex": lambda t, self, upper=False, check_errors=False: (
        through_numpy(t, "cholesky", self, upper=upper)),
    "linalg_qr": lambda t, A, mode="reduced": through_numpy(t, "qr", A, count=2, mode=mode),
    "qr": lambda t, self, some=True: (
        through_numpy(t, "qr", self, count=2, mode="reduced" if some else "complete")),
    "linalg_svd": lambda t, A, full_matrices=True, driver=None: (
        through_numpy(t, "svd", A, count=3, full=full_matrices)),
    "_linalg_svd": lambda t, A, full_matrices=False, compute_uv=True, driver=None: (
        through_numpy(t, "svd", A, count=3, full=full_matrices)),
    "linalg_svdvals": lambda t, A, driver=None: through_numpy(t, "singular_values", A),
    "linalg_eigh": lambda t, self, UPLO="L": through_numpy(t, "eigh", self, count=2, uplo=UPLO),
    "_linalg_eigh": lambda t, A, UPLO="L", compute_v=True: through_numpy(t, "eigh", A, count=2, uplo=UPLO),
    "linalg_eigvalsh": lambda t, self, UPLO="L": through_numpy(t, "eigh", self, count=2, uplo=UPLO)[0],
    "linalg_matrix_exp matrix_exp": lambda t, self: through_numpy(t, "matrix_exp", self),
    "linalg_matrix_power matrix_power": lambda t, self, n: through_numpy(t, "matrix_power", self, n=n),
    "linalg_solve linalg_solve_ex _linalg_solve_ex": lambda t, A, B, left=True, check_errors=False: (
        _solved(t, A, B, left)),
    "linalg_solve_triangular": lambda t, self, B, upper, left=True, unitriangular=False: (
        _solved(t, _triangle(t, self, upper, unitriangular), B, left)),
    "cholesky_solve": lambda t, self, input2, upper=False: _solved(t, _gram(t, input2, upper), self),
    "cholesky_inverse": lambda t, self, upper=False: through_numpy(t, "inverse", _gram(t, self, upper)),
    "trace": lambda t, self: t.add("Einsum", t.cast(self, wide(self)), equation="ii->"),
    "signbit": lambda t, self: through_numpy(t, "signbit", self),
    "frexp.Tensor": lambda t, self: through_numpy(t, "frexp", self, count=2),
    **{name: _special(name) for name in ("lgamma", "digamma", "erfinv", "i0")},
    **{name: _of_pair(name) for name in ("gcd", "lcm", "nextafter")},
    "copysign.Tensor copysign.Scalar": _of_pair("copysign", floating),
})  # fmt: skip


@aten("svd")
def svd(t: Translator, self: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    U, S, Vh = through_numpy(t, "svd", self, count=3, full=not some)
    return U, S, transposed(t, self, Vh)


def _solved(t: Translator, A: Any, B: Tensor, left: bool = True) -> str:
    if left:
        return str(through_numpy(t, "solve", A, B))
    return transposed(t, B, through_numpy(t, "solve", transposed(t, B, A), transposed(t, B, B)))


def _triangle(t: Translator, A: Tensor, upper: bool, has_ones: bool) -> str:
    y = t.add("Trilu", A, 0, upper=int(upper))
    if not has_ones:
        return y
    eye = t.constant(np.eye(A.shape[-1] or 0), A.dtype)
    return t.add("Add", t.add("Mul", y, t.add("Sub", t.cast(1, A.dtype), eye)), eye)


def _gram(t: Translator, L: Tensor, upper: bool) -> str:
    """The matrix whose Cholesky factor is L."""
    factors = [L, transposed(t, L, L)]
    return t.add("MatMul", *(factors[::-1] if upper else factors))


@aten("linalg_pinv", "pinverse", "linalg_pinv.atol_rtol_float", "linalg_pinv.atol_rtol_tensor")
def pinv(t: Translator, self: Tensor, rcond: Any = 1e-15, hermitian: bool = False, **tolerances: Any) -> str:
    if any(value is not None for value in tolerances.values()):
        raise ArgumentError("pinv with tolerances is not supported")
    if tolerances:
        rcond = max(self.shape[-1] or 0, self.shape[-2] or 0) * float(np.finfo(self.dtype).eps)
    return str(through_numpy(t, "pseudoinverse", self, rcond=rcond, hermitian=hermitian))


@aten("linalg_cross cross")
def cross(t: Translator, self: Tensor, other: Tensor, dim: int | None = None) -> str:
    axis = self.shape.index(3) if dim is None else dim
    for x in (self, other):
        t.require("Equal", t.size(x, axis), 3, f"axis {axis} of a cross product does not have 3 elements")
    return str(through_numpy(t, "cross", self, other, axis=axis))


# Norms and distances.


@aten("linalg_matrix_norm linalg_matrix_norm.str_ord frobenius_norm.dim")
def matrix_norm(
    t: Translator, self: Tensor, ord: Any = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False,
    dtype: Any = None,
) -> str:  # fmt: skip
    """The norm of matrices that `ord` names."""
    if ord == "fro":
        return vector_norm(t, self, 2, dim, keepdim, dtype)
    x, places = expression(t, self, dtype or self.dtype), [self.axis(axis) for axis in dim]
    if ord in ("nuc", 2, -2):
        others = [axis for axis in range(self.rank) if axis not in places]
        matrices = x.apply("Transpose", perm=[*others, *places])
        values = Expression(t, through_numpy(t, "singular_values", matrices.name), x.dtype)
        y = p_norm(values, {"nuc": 1, 2: math.inf, -2: -math.inf}[ord], [-1])
        return (y.apply("Unsqueeze", places) if keepdim else y).name
    summed, compared = places if abs(ord) == 1 else places[::-1]
    y = p_norm(p_norm(x, 1, [summed], True), math.copysign(math.inf, ord), [compared], True)
    return (y if keepdim else y.apply("Squeeze", places)).name


@aten("linalg_norm")
def norm(
    t: Translator, self: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> str:
    """The norm of matrices if two axes and an order are given, or else that of vectors."""
    axes = range(self.rank) if dim is None and ord is not None else dim
    if ord is not None and isinstance(axes, Sequence) and len(axes) == 2:
        return matrix_norm(t, self, ord, axes, keepdim, dtype)
    return vector_norm(t, self, 2 if ord is None else ord, dim, keepdim, dtype)


def _difference(t: Translator, a: Tensor, b: Tensor) -> Expression:
    """Return a - b, computed in the dtype of both, as floats."""
    dtype = promoted(a, b)
    return Expression(t, binary(t, "Sub", a, b), dtype).cast(floating(a, b))


define({
    "nuclear_norm nuclear_norm.dim": lambda t, self, dim=(-2, -1), keepdim=False: (
        matrix_norm(t, self, "nuc", dim, keepdim)),
    "dist": lambda t, self, other, p: (
        p_norm(_difference(t, self, other), p, range(max(self.rank, other.rank))).name),
    "pairwise_distance": lambda t, x1, x2, p, eps, keepdim: (
        p_norm(_difference(t, x1, x2) + eps, p, [-1], keepdim).name),
    "special_ndtri": lambda t, self: through_numpy(t, "ndtri", t.cast(self, floating(self))),
})  # fmt: skip


@aten("cdist _cdist_forward")
def cdist(t: Translator, x1: Tensor, x2: Tensor, p: float = 2, compute_mode: Any = None) -> str:
    """The distance of each row of x1 from each row of x2."""
    difference = t.add("Sub", t.add("Unsqueeze", x1, [-2]), t.add("Unsqueeze", x2, [-3]))
    return p_norm(Expression(t, difference, x1.dtype), p, [-1]).name


@aten("pdist _pdist_forward")
def pdist(t: Translator, self: Tensor, p: float = 2) -> str:
    """The distance of each row from each later one."""
    if self.shape[0] is None:
        raise ArgumentError("pdist of an unknown number of rows is not supported")
    bounded(self.shape[0] ** 2)
    pairs = [t.constant(places, np.int64) for places in np.triu_indices(self.shape[0], 1)]
    first, second = (t.add("Gather", self, places, axis=0) for places in pairs)
    return p_norm(Expression(t, t.add("Sub", first, second), self.dtype), p, [-1]).name


@aten("renorm")
def renorm(t: Translator, self: Tensor, p: float, dim: int, maxnorm: float) -> str:
    """Slices whose norm exceeds a maximum are scaled down to it."""
    x = expression(t, self, self.dtype)
    norm = p_norm(x, p, [axis for axis in range(self.rank) if axis != self.axis(dim)], True)
    return (x * where(norm > maxnorm, maxnorm / (norm + 1e-7), 1)).name


# Products of tensors.


@aten("linalg_vecdot")
def vecdot(t: Translator, x: Tensor, y: Tensor, dim: int = -1) -> str:
    rank = max(x.rank, y.rank)
    return t.add("ReduceSum", binary(t, "Mul", x, y), [dim % rank], keepdims=0)


@aten("inner")
def inner(t: Translator, self: Tensor, other: Tensor) -> str:
    if not (self.rank and other.rank):
        return binary(t, "Mul", self, other)
    return tensordot(t, self, other, [-1], [-1])


@aten("tensordot")
def tensordot(
    t: Translator, self: Tensor, other: Tensor, dims_self: Sequence[int], dims_other: Sequence[int]
) -> str:
    a, b = list(ascii_lowercase[: self.rank]), list(ascii_lowercase[self.rank : self.rank + other.rank])
    for i, j in zip(dims_self, dims_other, strict=True):
        b[other.axis(j)] = a[self.axis(i)]
    summed = {a[self.axis(i)] for i in dims_self}
    kept = "".join(label for label in (*a, *b) if label not in summed)
    return t.add("Einsum", self, other, equation=f"{''.join(a)},{''.join(b)}->{kept}")


@aten("linalg_multi_dot", "chain_matmul")
def multi_dot(t: Translator, tensors: Any = None, matrices: Any = None) -> str:
    factors = matrices if tensors is None else tensors
    return str(reduce(lambda a, b: t.add("MatMul", a, b), factors[1:], t.cast(factors[0], factors[0].dtype)))


@aten("kron")
def kron(t: Translator, self: Tensor, other: Tensor) -> str:
    rank = max(self.rank, other.rank)
    a, b = ([*[1] * (rank - x.rank), *t.sizes(x)] for x in (self, other))
    if not all(isinstance(n, int) for n in (*a, *b)):
        raise ArgumentError("kron of unknown sizes is not supported")
    first = reshaped(t, self, [n for size in a for n in (size, 1)])
    second = reshaped(t, other, [n for size in b for n in (1, size)])
    return reshaped(t, t.add("Mul", first, second), [n * m for n, m in zip(a, b, strict=True)])  # type: ignore[operator]  # integers
