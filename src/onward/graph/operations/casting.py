"""Conversions between dtypes, as ONNX defines them."""

from typing import Any

import numpy as np

from ...core.extras import install_hint
from ...errors import ArgumentError, DtypeError
from ..node import AnyArray, Node, Operand, Signature
from ..plan.builder import Builder
from ..plan.view import DTYPES, View, name_of
from ..sized import has_sizes
from .compositions import composed
from .integer_fusion import converted
from .registry import Inputs, elementwise, operation
from .value import typed_view

FLOAT8_WITHOUT_RANGE = "float8_e8m0fnu"  # only powers of two


def as_dtype(name: Any) -> np.dtype[Any]:
    """Return a dtype from itself or its name; the dtype of strings is object. Raises DtypeError."""
    if isinstance(name, str) and name == "string":
        return np.dtype(object)
    try:
        found: np.dtype[Any] = np.dtype(name)
    except TypeError:
        found = np.dtype(_extension(str(name)))
    return np.dtype(object) if found.kind in "SU" else found


def _extension(name: str) -> Any:
    """Return a dtype that NumPy lacks, such as bfloat16."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise DtypeError(f"the dtype {name} needs ml_dtypes: {install_hint('onnx')}") from error
    if not hasattr(ml_dtypes, name):
        raise DtypeError(f"{name!r} is not the name of a dtype")
    return getattr(ml_dtypes, name)


def cast_to(x: AnyArray, dtype: np.dtype[Any], saturate: bool = True, round_mode: str = "up") -> AnyArray:
    """Convert an array.

    Floats become integers by truncation; out of range, they become what the core makes of them. Floats beyond
    the range of an 8-bit dtype become its largest number if `saturate`, otherwise infinite or NaN.
    `round_mode` applies to float8_e8m0fnu.
    """
    if x.dtype == dtype or (x.dtype.kind in "SU" and dtype.kind == "O"):
        return x.astype(dtype, copy=False)
    if dtype.kind == "O":
        return x.astype(np.str_).astype(object)
    if x.dtype.kind in "OSU":
        x = _parsed(x, dtype)
    name = name_of(dtype)
    if name == FLOAT8_WITHOUT_RANGE:
        return _power_of_two(x, saturate, round_mode).view(dtype)
    if name.startswith("float8_") and saturate:
        return _saturated(x, dtype)
    is_integer = dtype.kind in "iu" or name.startswith(("int", "uint"))  # int4 is not of kind i
    if is_integer and x.dtype.kind not in "iub" and dtype != np.uint64:
        return _truncated(x, dtype)
    return x.astype(dtype)


def _parsed(x: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    """Return the numbers that strings spell, in an integer dtype or in float64."""
    texts = [text.decode() if isinstance(text, bytes) else str(text) for text in x.ravel()]
    number, parsed = (int, dtype) if dtype.kind in "iu" else (float, np.float64)
    try:
        return np.array([number(text) for text in texts], parsed).reshape(x.shape)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(
            f"a string is not the number of dtype {dtype} that Cast expects: {error}"
        ) from error


def _truncated(x: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    """Return floats as integers, as the core converts them.

    Floats beyond the range of 32 or 64 bits, and NaN, become its smallest number; smaller dtypes keep its low
    bits.
    """
    wide, limit = (np.int64, 2.0**63) if dtype.itemsize == 8 or dtype == np.uint32 else (np.int32, 2.0**31)
    truncated = np.trunc(x.astype(np.float64))
    return np.where((truncated >= -limit) & (truncated < limit), truncated, -limit).astype(wide).astype(dtype)


def _saturated(x: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    import ml_dtypes

    x = x.astype(np.float32) if x.dtype not in (np.float16, np.float64) else x
    largest = float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]  # lacks types
    return np.clip(x, -largest, largest).astype(dtype)


def _power_of_two(x: AnyArray, saturate: bool, round_mode: str) -> AnyArray:
    """Return the biased exponents of the powers of two near |x|; 255 stands for NaN and infinity."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    exponent, fraction = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    rounding = {
        "up": fraction > 0,
        "down": np.zeros_like(fraction, bool),
        "nearest": (fraction > 0x400000) | ((fraction == 0x400000) & (exponent > 0)),
    }
    if round_mode not in rounding:
        raise ArgumentError(f"round_mode={round_mode!r}; expected {', '.join(rounding)}")
    rounded = np.minimum(exponent + rounding[round_mode], 254 if saturate else 255)
    return np.where(exponent == 255, 255, rounded).astype(np.uint8)


def _cast_signature(x: Operand, *, to: Any, **attributes: Any) -> Signature:
    return Signature(x.shape, as_dtype(to))


@operation("Cast", signature=_cast_signature, combines=elementwise, takes_sizes=True)
def cast(x: AnyArray, *, to: Any, saturate: int = 1, round_mode: str = "up") -> Any:
    return x if has_sizes(x) else cast_to(x, as_dtype(to), bool(saturate), round_mode)


@composed("CastLike")
def cast_like(x: Any, like: Any, *, saturate: int = 1, round_mode: str = "up") -> Any:
    """x in the dtype of another value."""
    return x.apply("Cast", to=as_dtype(like.dtype), saturate=saturate, round_mode=round_mode)


@operation("BitCast", signature=_cast_signature, combines=elementwise)
def bit_cast(x: AnyArray, *, to: Any) -> Any:
    """The bits of x as another dtype of the same size."""
    dtype = as_dtype(to)
    if dtype.itemsize != x.dtype.itemsize:
        raise DtypeError(f"BitCast from {x.dtype} to {dtype}; expected dtypes of the same size")
    return np.asarray(x, order="C").view(dtype)


@cast.lowering
def _(b: Builder, node: Node, inputs: Inputs, shapes: list[tuple[int, ...]]) -> list[View] | None:
    x, dtype = typed_view(b, inputs[0]), as_dtype(node.attributes["to"])
    if x is None or dtype.name not in DTYPES:
        return None
    if inputs[0] is not None and inputs[0].used_once and dtype == np.float32 and (y := converted(b, x)):
        return [y]
    return [b.cast(x, dtype.name)]
