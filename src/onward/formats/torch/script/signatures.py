"""Choose the overload of an ATen operator from its arguments, which TorchScript passes by position."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from ....errors import ArgumentError
from .. import exported_graph  # noqa: F401 - it registers the operators
from ..aten.registry import OPERATORS, Symbol, Tensor
from ..aten.translator import IGNORED

# The positional parameters of operators whose functions have others, or in another order.
_PAIR = ("self", "dim", "index")
ORDERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("max.default", "min.default"), ("self",)),
    **dict.fromkeys(("zeros.default", "ones.default", "empty.memory_format"), ("size",)),
    "empty_strided.default": ("size", "stride"), "hardtanh.default": ("self", "min_val", "max_val"),
    "swapaxes.default": ("self", "axis0", "axis1"), "split.sizes": ("self", "split_size", "dim"),
    "copy.default": ("self", "src", "non_blocking"),
    **dict.fromkeys(("scatter.value", "scatter.value_reduce", "index_fill.int_Scalar"), (*_PAIR, "value")),
    "scatter_reduce.two": (*_PAIR, "src", "reduce"),
    **dict.fromkeys(("sort.default", "argsort.default"), ("self", "dim", "descending")),
    "rrelu.default": ("self", "lower", "upper", "training", "generator"),
    **dict.fromkeys(
        ("upsample_linear1d.vec", "upsample_bilinear2d.vec"),
        ("input", "output_size", "align_corners", "scale_factors"),
    ),
    "upsample_nearest1d.default": ("self", "output_size", "scales"),
    "upsample_nearest2d.default": ("self", "output_size", "scales_h", "scales_w"),
    **{f"{name}.default": ("self", "unbiased") for name in ("var", "std", "var_mean", "std_mean")},
    "std_mean.dim": ("self", "dim", "unbiased", "keepdim"), "norm.Scalar": ("self", "p"),
    **dict.fromkeys(("norm.ScalarOpt_dim", "norm.ScalarOpt_dim_dtype"), ("self", "p", "dim", "keepdim")),
}  # fmt: skip
MAX_OTHERS = 8  # positional arguments that have no names
# annotations, as they are written or as types
TENSORS, INTEGERS = ("Tensor", str(Tensor)), ("int", str(int))
NUMBERS = ("typing.Any", "Any", "float", str(float), *INTEGERS)
# bfloat16 has no NumPy dtype, and is widened to float32
DTYPES = {
    0: np.uint8, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.int64, 5: np.float16, 6: np.float32,
    7: np.float64, 9: np.complex64, 10: np.complex128, 11: np.bool_, 15: np.float32,
}  # fmt: skip


def overload(name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of the overload that takes these arguments, and the arguments by name.

    Raises ArgumentError if the operator or the arguments are not supported.
    """
    candidates = _overloads(name)
    if not candidates:
        raise ArgumentError(f"the operator {name[:100]} is not supported")
    problem = ""
    for key in candidates:
        try:
            return key, _bound(key, arguments, keywords)
        except TypeError as error:
            problem = problem or str(error)
    raise ArgumentError(f"the operator {name} does not take these arguments: {problem}")


@cache
def _overloads(name: str) -> list[str]:
    """Return the overloads of an operator; those with axes precede those with a second tensor."""
    found = [key for key in OPERATORS if key.rpartition(".")[0] == name]
    return sorted(found, key=lambda key: (not key.endswith(".default"), ".dim" not in key))


@cache
def _parameters(key: str) -> tuple[tuple[str, ...], dict[str, inspect.Parameter], bool]:
    """Return the positional parameters of an operator, all parameters, and whether it takes others."""
    parameters = dict(list(inspect.signature(OPERATORS[key]).parameters.items())[1:])
    named = {name: p for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    takes_others = len(named) < len(parameters)
    positional = tuple(name for name, p in named.items() if p.kind is not p.KEYWORD_ONLY)
    others = [f" {place}" for place in range(MAX_OTHERS)] if takes_others else []
    return ORDERS.get(key, (*positional, *others)), named, takes_others


def _bound(key: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Match arguments with the parameters of an operator. Raises TypeError if it does not take them."""
    positional, parameters, takes_others = _parameters(key)
    if len(arguments) > len(positional):
        raise TypeError(f"got {len(arguments)} arguments, expected at most {len(positional)}")
    bound = {**dict(zip(positional, arguments, strict=False)), **keywords}
    bound = {name: value for name, value in bound.items() if name in parameters or name not in IGNORED}
    for name, value in bound.items():
        if name not in parameters:
            if not takes_others or isinstance(value, list):
                raise TypeError(f"unknown argument {name}")
        elif not _fits(key, name, str(parameters[name].annotation), value):
            raise TypeError(f"{name} is a {type(value).__name__}")
        elif isinstance(value, Tensor) and not value.shape and value.dtype.kind in "iuf":
            if str(parameters[name].annotation) in NUMBERS:
                bound[name] = Symbol(value.name, value.dtype)
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in bound:
            raise TypeError(f"the argument {name} is missing")
    if type(bound.get("dtype")) is int:
        bound["dtype"] = np.dtype(DTYPES[bound["dtype"]])
    return bound


def _fits(key: str, name: str, annotation: str, value: Any) -> bool:
    """Whether a value may be an argument of a parameter."""
    if name in ("unbiased", "keepdim"):
        return isinstance(value, bool)
    if annotation in TENSORS or (name == "other" and key in ("max.other", "min.other")):
        return isinstance(value, Tensor)
    if annotation in INTEGERS:
        return isinstance(value, int | Symbol)
    if (
        annotation.startswith(("collections.abc.Sequence", "list"))
        and "|" not in annotation.rpartition("]")[2]
    ):
        return isinstance(value, list | tuple)
    return not (name in ("dim", "axis") and isinstance(value, Tensor | bool))
