"""Check the inputs of a call against those that a graph declares: names, dtypes, shapes and their sizes."""

import ast
import functools
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..core import arrays
from ..core.syntax import parse_expression
from ..errors import DtypeError, ShapeError, SignatureError
from .node import AnyArray
from .size import Size

UNNAMED = {"", "?", "-1", "None"}  # what exporters write for an axis of any size


class Input(NamedTuple):
    """The declaration of an input. An axis is a size, the name of an open size, or "" without a name.

    A dtype that the file does not state may be a guess. Arrays of other dtypes are not converted to it, since
    the code might compute something else with them; `converts` tells which are. Without a dtype, "lists"
    become arrays, and all other values stay what they are.
    """

    name: str
    dtype: np.dtype[Any] | None = None  # None: any object
    axes: tuple[int | str, ...] | None = None  # None: any shape
    converts: str = "same_kind"  # arrays of kinds that fit, "floats", "no" arrays, or only "lists"

    def with_name(self, name: str) -> "Input":
        """Return the declaration with another name."""
        return Input(name, self.dtype, self.axes, self.converts)

    def of_dtype(self, dtype: np.dtype[Any]) -> "Input":
        """Return the declaration with another dtype."""
        return Input(self.name, dtype, self.axes, self.converts)

    def with_axes(self, *axes: int | str) -> "Input":
        """Return the declaration with other axes."""
        return Input(self.name, self.dtype, axes, self.converts)


def check_names(known: Mapping[str, Any], names: Sequence[str], what: str) -> None:
    """Raise SignatureError for names that are not known."""
    if unknown := [name for name in names if name not in known]:
        raise SignatureError(f"unknown {what}: {', '.join(unknown)}; the model has ({', '.join(known)})")


def as_declared(declared: Input, value: ArrayLike) -> Any:
    """Convert a value to the declared dtype and check its shape. Raises DtypeError, ShapeError."""
    name = declared.name
    if declared.dtype is None:
        if declared.converts != "lists" or value is None:
            return value
        array = value if type(value) is np.ndarray else arrays.as_array(value, name)
        is_list = array.dtype.kind == "f" and not hasattr(value, "dtype")
        if is_list or array.dtype.name == "bfloat16":  # as weights of bfloat16
            return array.astype(np.float32)
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    array = value if type(value) is np.ndarray else arrays.as_array(value, name)
    if array.dtype != declared.dtype:
        _check_conversion(declared, array.dtype, hasattr(value, "dtype"))
        with np.errstate(all="ignore"):
            array = array.astype(declared.dtype)
    if declared.axes is not None and not _fits(array.shape, declared.axes):
        raise ShapeError(_misfit(name, array.shape, declared.axes))
    return array


def _misfit(name: str, shape: tuple[int, ...], axes: tuple[int | str, ...]) -> str:
    """Say what shape an input has and what the model takes, and which sizes the file fixes."""
    takes = ", ".join("any" if axis in UNNAMED else str(axis) for axis in axes)
    text = f"{name} has shape {shape}, but the model takes ({takes})"
    if len(shape) != len(axes):
        return text
    pairs = [(i, size) for i, size in enumerate(axes) if isinstance(size, int) and size != shape[i]]
    fixed = ", ".join(f"axis {i} to {size}" for i, size in pairs)
    return f"{text}: its export fixed {fixed}. If its layers take other sizes, export it with dynamic axes"


def _check_conversion(declared: Input, dtype: np.dtype[Any], is_array: bool) -> None:
    """Raise DtypeError for values of a dtype that must not be converted; lists may be if the kinds fit."""
    assert declared.dtype is not None
    name = declared.name
    if not np.can_cast(dtype, declared.dtype, "same_kind"):
        raise DtypeError(f"{name} has dtype {dtype}, but the model takes {declared.dtype}: convert it first")
    is_kept = dtype.kind == declared.dtype.kind and declared.converts == "floats"
    if is_array and not is_kept and declared.converts != "same_kind":
        raise DtypeError(
            f"{name} has dtype {dtype}, but the code was recorded for {declared.dtype}, since the file "
            f'states no dtype: pass inputs={{"{name}": ("{dtype}", axes)}} to load'
        )


def _fits(shape: tuple[int, ...], axes: tuple[int | str, ...]) -> bool:
    if len(shape) != len(axes):
        return False
    return all(size == axis or isinstance(axis, str) for size, axis in zip(shape, axes, strict=True))


def open_sizes(inputs: Sequence[Input], arrays: Sequence[Any]) -> dict[str, int]:
    """Return the size of each named axis. Raises ShapeError if axes of the same name have different sizes."""
    sizes: dict[str, tuple[int, str]] = {}
    for declared, array in zip(inputs, arrays, strict=True):
        for axis, size in zip(declared.axes or (), getattr(array, "shape", ()), strict=False):
            if isinstance(axis, str) and axis not in UNNAMED:
                known, owner = sizes.setdefault(axis, (size, declared.name))
                if known != size:
                    raise ShapeError(
                        f"the axis {axis} has size {known} in {owner}, but {size} in {declared.name}: "
                        "pass inputs of matching sizes"
                    )
    return {axis: size for axis, (size, _) in sizes.items()}


def zeros_of(declared: Input, sizes: Mapping[str, int]) -> AnyArray | None:
    """Return zeros of the declared shape, or None if one of its sizes is unknown."""
    axes = [sizes.get(axis) if isinstance(axis, str) else axis for axis in declared.axes or (None,)]
    return None if None in axes else np.zeros(axes, declared.dtype)  # type: ignore[arg-type]  # no axis is None


def check_call(
    names: Sequence[str], args: Sequence[Any], inputs: Mapping[str, Any], missing: Sequence[str]
) -> None:
    """Raise SignatureError for inputs of a model that are unknown, missing or passed twice."""
    takes = f"the model takes ({', '.join(names)})"
    if len(args) > len(names):
        raise SignatureError(f"got {len(args)} inputs; {takes}")
    if any(isinstance(value, dict) for value in args):
        raise SignatureError(f"got a dict of inputs: pass them by name, as model(**inputs); {takes}")
    problems = {
        "inputs passed twice": set(names[: len(args)]) & inputs.keys(),
        "unknown inputs": inputs.keys() - set(names),
        "missing inputs": missing,
    }
    for problem, wrong in problems.items():
        if wrong:
            raise SignatureError(f"{problem}: {', '.join(sorted(wrong))}; {takes}")


MAX_EXPRESSION = 2000  # characters
MAX_FUNCTIONS = 512  # that are kept
FunctionOfSizes = Callable[[Mapping[str, Any]], Any]
FUNCTIONS: dict[str, Callable[..., Any]] = {  # of sympy and torch, and Python's operators
    "Integer": lambda n: n,
    "Add": lambda *terms: sum(terms),
    "Sub": operator.sub,
    "Mul": lambda *factors: math.prod(factors),
    "Mult": operator.mul,
    "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv,
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "Max": max,
    "Min": min,
    "max": max,
    "min": min,
    "Div": operator.truediv,
    "Pow": lambda n, m: math.prod([n] * m) if type(m) is int and m < 9 else float(n) ** m,
    "USub": operator.neg,
    "Not": operator.not_,
    "And": lambda *conditions: all(conditions),
    "Or": lambda *conditions: any(conditions),
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
    "torch.sym_float": float,
    **{f"math.{name}": getattr(math, name) for name in ("trunc", "floor", "ceil", "sqrt")},
}
SYMBOL = re.compile(r"Symbol\('(\w+)'[^()]*\)")


class _Sizes(NamedTuple):
    ranges: Mapping[str, tuple[int | None, int | None]] = {}
    axes: Mapping[str, tuple[int | str, ...]] = {}
    guards: tuple[str, ...] = ()


class Sizes(_Sizes):
    """Ranges of symbols by name, the sizes of inputs as numbers or expressions of symbols, and guards.

    A guard is a condition of symbols on which the program depends, such as "T // 3 == 1".
    """

    _allowed: Mapping[str, Sequence[int]] = {}  # the shapes of the last call

    def check_call(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Check the shapes of the inputs of a call, unless they are those of the last one."""
        if shapes != self._allowed:
            self.check(shapes)
            self._allowed = shapes

    def check(self, shapes: Mapping[str, Sequence[Any]]) -> None:
        """Check the shapes of inputs by name. Raises ShapeError, which names the axis and the constraint.

        Axes with the same symbol have the same size: the model has checked that.
        """
        places = [
            (f"axis {axis} of {name}", size, declared)
            for name, shape in shapes.items()
            for axis, (size, declared) in enumerate(zip(shape, self.axes.get(name, ()), strict=False))
        ]
        sizes = {}
        for place, size, symbol in places:
            if symbol in self.ranges:
                low, high = self.ranges[str(symbol)]
                # torch.export assumes that no size is 0 or 1; as torch does, take a minimum of 2 as none
                if (low is not None and low > 2 and size < low) or (high is not None and size > high):
                    bounds = f"{low or 0} to {'any size' if high is None else high}"
                    raise ShapeError(f"{place} has size {size}, but the model takes {symbol} from {bounds}")
                sizes[str(symbol)] = size
        for place, size, declared in places:
            expected = evaluate(declared, sizes) if isinstance(declared, str) else declared
            if expected is not None and size != expected:
                raise ShapeError(f"{place} has size {size}, but must have {declared} = {expected}")
        for guard in self.guards:
            if evaluate(guard, sizes) is False:
                names = re.findall(r"\w+", guard)
                given = (f"{place} has size {name} = {size}" for place, size, name in places if name in names)
                raise ShapeError(f"the model was exported for sizes with {guard}, but {', '.join(given)}")


def readable(expression: str) -> str:
    """Return an expression without sympy's declarations of its symbols."""
    return SYMBOL.sub(r"\1", expression)


def evaluate(expression: str, sizes: Mapping[str, Any]) -> Any:
    """Evaluate an expression or condition of symbols, or return None if it contains anything unknown."""
    if len(expression) > MAX_EXPRESSION:
        return None
    try:
        value = _function_of(expression)(sizes)
    except (SyntaxError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return None
    return value if type(value) is Size or (isinstance(value, int) and abs(value) < 1 << 63) else None


@functools.lru_cache(MAX_FUNCTIONS)  # a call checks the conditions again
def _function_of(expression: str) -> FunctionOfSizes:
    """Return the value of an expression as a function of sizes; that of an unknown expression is None."""
    with suppress(SyntaxError, ValueError, KeyError):
        return _function(parse_expression(expression))
    return lambda sizes: None


def _function(node: ast.AST) -> FunctionOfSizes:
    match node:
        case ast.Constant(int() | float() as number):
            return lambda sizes: number
        case ast.Name(name):
            return operator.itemgetter(name)
        case ast.Call(ast.Name() | ast.Attribute() as function, operands, []):
            kind = ast.unparse(function)
        case ast.BinOp(left, operation, right) | ast.Compare(left, [operation], [right]):
            kind, operands = type(operation).__name__, [left, right]
        case ast.BoolOp(operation, operands):
            kind = type(operation).__name__
        case ast.UnaryOp(operation, operand):
            kind, operands = type(operation).__name__, [operand]
        case _:
            raise ValueError(f"{ast.dump(node)[:60]} is not an expression of sizes")
    combined, parts = FUNCTIONS[kind], list(map(_function, operands))
    return lambda sizes: combined(*[part(sizes) for part in parts])
