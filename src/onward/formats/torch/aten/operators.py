"""All operators: each module registers its own, and aliases have those of another operator."""

from . import (  # noqa: F401 - each module registers its operators
    control,
    convolutions,
    creation,
    diagonals,
    elementwise,
    indexing,
    joins,
    layers,
    linear_algebra,
    losses,
    ordering,
    packed,
    quantized,
    recurrent,
    reductions,
    shapes,
    signal,
)
from .registry import COMPLEX, OPERATORS, PUTS, RESULTS, VIEWS, aten
from .schemas import schema

# Operators that have all overloads of another operator.
ALIASES = {
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin",
    "arcsinh": "asinh", "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh", "argwhere": "nonzero",
    "clip": "clamp", "concat": "cat", "concatenate": "cat", "divide": "div", "fix": "trunc", "ger": "outer",
    "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le",
    "moveaxis": "movedim", "multiply": "mul", "negative": "neg", "not_equal": "ne", "row_stack": "vstack",
    "special_digamma": "digamma", "special_erf": "erf", "special_erfc": "erfc", "special_erfinv": "erfinv",
    "special_exp2": "exp2", "special_expit": "sigmoid", "special_expm1": "expm1",
    "special_gammaln": "lgamma", "special_i0": "i0", "special_log1p": "log1p",
    "special_log_softmax": "log_softmax", "special_logit": "logit", "special_logsumexp": "logsumexp",
    "special_psi": "digamma", "special_round": "round", "special_sinc": "sinc",
    "special_softmax": "softmax", "subtract": "sub", "true_divide": "div",
}  # fmt: skip
for _key, _function in list(OPERATORS.items()):
    _name, _, _overload = _key.partition(".")
    _aliases = [f"{alias}.{_overload}" for alias, name in ALIASES.items() if name == _name]
    _is_view, _result, _takes_complex = _key in VIEWS, RESULTS.get(_key, ""), _key in COMPLEX
    _known = filter(schema, _aliases)
    _put = PUTS.get(_key)
    aten(*_known, view=_is_view, put=_put, takes_complex=_takes_complex, result=_result)(_function)
    _copy = f"{_name}_copy.{_overload}"
    if _is_view and _copy not in OPERATORS and schema(_copy):  # its elements have memory of their own
        aten(_copy, takes_complex=_takes_complex, result=_result)(_function)
for _alias, _key in (  # overloads of other names
    ("special_round", "round.decimals"),
    ("special_softmax", "softmax.int"),
    ("special_log_softmax", "log_softmax.int"),
):
    aten(_alias)(OPERATORS[_key])
