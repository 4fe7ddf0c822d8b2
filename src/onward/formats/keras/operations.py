"""Operations between layers: those of Keras 3, and TensorFlow's functions in Keras 2."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...errors import FileError
from . import activations
from .core_layers import einsum_of
from .layer import COMPUTE_DTYPES, LAYERS, Layer, dtype_name, layer
from .normalization import unit
from .writer import BOOL, INT64, Value

FUNCTIONAL = ("TFOpLambda", "SlicingOpLambda")  # the classes of TensorFlow's functions
# Keras 3's names of TensorFlow's functions, options and further arrays, and defaults that differ.
FUNCTIONS = {
    "pow": "Power", "truediv": "TrueDivide", "concat": "Concatenate", "gather": "Take", "reverse": "Flip",
    "clip_by_value": "Clip", "variance": "Var", "swish": "Silu",
}  # fmt: skip
OPTIONS = {
    "perm": "axes", "shape": "newshape", "paddings": "pad_width", "multiples": "repeats",
    "depth": "num_classes", "clip_value_min": "x_min", "clip_value_max": "x_max",
    "num_or_size_splits": "indices_or_sections",
}  # fmt: skip
ARRAYS = ("x", "y", "b", "indices")
IGNORED = ("name", "out_type")
AXIS_0 = ("Cumsum", "Argmax", "Argmin", "Take")  # functions whose axis is 0 by default
NO_SETTINGS = ("name", "trainable", "dtype_policy")
ELLIPSIS = {"ellipsis": True}


def call(entry: Any, arguments: list[Any], options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return what an operation is called with: its arrays, and its options by the names of Keras 3."""
    kind = entry["class_name"]
    if kind == "GetItem":
        return arguments[:1], {"key": [_place(each) for each in listed(arguments[1])]}
    if kind == "SlicingOpLambda":
        return arguments, {"key": [_place(each) for each in listed(options["slice_spec"])]}
    if kind == "Take":
        return [arguments[0], *(_as_array(each, "int64") for each in arguments[1:])], options
    if kind != "TFOpLambda":
        return arguments, options
    dtype = str(COMPUTE_DTYPES[dtype_name(entry["config"].get("dtype", "float32"))])
    given = [name for name in ARRAYS if name in options]
    further = [_as_array(options.pop(name), "int64" if name == "indices" else dtype) for name in given]
    named = {OPTIONS.get(key, key): value for key, value in options.items() if key not in IGNORED}
    return [*arguments, *further], named


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _as_array(value: Any, dtype: str) -> Any:
    """Return an array that Keras 2 writes as lists of numbers as Keras 3 writes it; all else as it is."""
    if isinstance(value, list) and not isinstance(value[0], str):
        return {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}
    return value


def _place(value: Any) -> Any:
    """Return one axis of an index: a number, None, an ellipsis, or {"start": a, "stop": b, "step": c}."""
    if isinstance(value, dict) and value.get("class_name") == "__ellipsis__":
        return ELLIPSIS
    if isinstance(value, dict):
        numbers = value["config"] if value.get("class_name") == "__slice__" else value
        value = {key: numbers[key] for key in ("start", "stop", "step")}
    parts = value.values() if isinstance(value, dict) else [value]
    if any(type(each) not in (int, type(None)) for each in parts):
        raise FileError(f"an index is {str(value)[:80]}, which Onward does not know")
    return value


def operation(*names: str, floats: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function of a layer, its inputs and its settings; with `floats`, of floats alone."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        known = inspect.signature(function).parameters

        def run(k: Layer, *inputs: Value, **options: Any) -> Any:
            settings = {key: value for key, value in k.rest().items() if key not in NO_SETTINGS}
            given = {key: value for key, value in (settings | options).items() if value is not None}
            if unknown := [key for key, value in given.items() if key not in known and value]:
                raise k.error(f"has {', '.join(unknown)}, which Onward does not support")
            given = {key: value for key, value in given.items() if key in known}
            return function(k, *_of_one_dtype(k, inputs, floats), **given)

        layer(*(f"ops.{name}" for name in names), arguments=None)(run)
        return function

    return register


def operations(table: Mapping[str, Callable[..., Any]], floats: bool = False) -> None:
    """Register a function for each name."""
    for name, function in table.items():
        operation(name, floats=floats)(function)


def _of_one_dtype(k: Layer, inputs: Sequence[Value], floats: bool) -> list[Value]:
    """Integers take the precision of the floats that they meet, and numbers in the file that of values."""
    dtypes = [x.dtype for x in inputs if x.rank != 0 and x.dtype.kind != "b"]
    dtype = next((each for each in dtypes if each.kind == "f"), np.dtype(np.float32) if floats else None)
    if dtype is not None:
        return [k.cast(x, dtype) if x.dtype.kind != "b" else x for x in inputs]
    return [k.cast(x, dtypes[0]) if dtypes and x.rank == 0 else x for x in inputs]


@layer("TFOpLambda", arguments=None)
def tensorflow_function(k: Layer, *inputs: Value, **options: Any) -> Any:
    """A function of TensorFlow: math.reduce_mean is Mean in Keras 3."""
    function = k.option("function")
    k.option("dtype", None)
    name = function.rpartition(".")[2].removeprefix("reduce_")
    name = FUNCTIONS.get(name, _title(name))
    if f"ops.{name}" not in LAYERS:
        raise k.error(
            f"is tf.{function}, which Onward does not know: pass a function of arrays, "
            f"custom_objects={{{k.name!r}: function}}"
        )
    defaults = {"axis": 0} if name in AXIS_0 else {}
    return LAYERS[f"ops.{name}"].function(k, *inputs, **defaults | options)


def _title(name: str) -> str:
    return "".join(map(str.capitalize, name.split("_")))


def _elementwise(target: str, k: Layer, /, *inputs: Value) -> Value:
    return k.add(target, *inputs)


def _logical(target: str, k: Layer, /, *inputs: Value) -> Value:
    return k.add(target, *(k.cast(x, BOOL) for x in inputs))


# The operation of the graph for each of Keras' elementwise operations of any numbers, and those of floats.
ELEMENTWISE = {
    **{name: name for name in ("Add", "Sign", "Floor", "Ceil", "Round", "Identity", "Abs", "Equal", "Less")},
    "Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "TrueDivide": "Div", "Power": "Pow",
    "Maximum": "Max", "Minimum": "Min", "Negative": "Neg", "Absolute": "Abs", "StopGradient": "Identity",
    "Greater": "Greater", "GreaterEqual": "GreaterOrEqual", "LessEqual": "LessOrEqual",
    "Isnan": "IsNaN", "Isinf": "IsInf",
}  # fmt: skip
FLOATS = ("Exp", "Log", "Sqrt", "Sin", "Cos", "Tan", "Sinh", "Cosh", "Erf", "Reciprocal")
ARC = ("sin", "cos", "tan", "sinh", "cosh", "tanh")
operations({name: partial(_elementwise, target) for name, target in ELEMENTWISE.items()})
operations({name: partial(_elementwise, name) for name in FLOATS}, floats=True)
operations({f"Arc{name}": partial(_elementwise, f"A{name}") for name in ARC}, floats=True)
operations({f"Logical{name}": partial(_logical, name) for name in ("And", "Or", "Not", "Xor")})
operations(
    {
        "NotEqual": lambda k, a, b: k.add("Not", k.add("Equal", a, b)),
        "Square": lambda k, x: k.add("Mul", x, x),
    }
)
operations(
    {
        "Rsqrt": lambda k, x: k.add("Reciprocal", k.add("Sqrt", x)),
        "Log1p": lambda k, x: k.add("Log", k.add("Add", x, 1.0)),
        "Expm1": lambda k, x: k.add("Sub", k.add("Exp", x), 1.0),
        "Einsum": lambda k, *inputs, subscripts: einsum_of(k, subscripts, *inputs),
        **{_title(name): function for name, function in activations.ACTIVATIONS.items()},
    },
    floats=True,
)


def _axes(axis: Any) -> list[int] | None:
    return None if axis is None else [int(each) for each in listed(axis)]


def _reduction(target: str, k: Layer, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    return k.reduced(target, x, _axes(axis), keepdims)


def _any(target: str, k: Layer, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    """A reduction of booleans."""
    numbers = k.cast(k.cast(x, BOOL), np.float32)
    return k.cast(k.reduced(target, numbers, _axes(axis), keepdims), BOOL)


def _place_of(target: str, k: Layer, x: Value, axis: int | None = None, keepdims: bool = False) -> Value:
    """The index of the largest or the smallest element along an axis."""
    x, axis = along(k, x, axis)
    rank = None if x.rank is None else x.rank - (not keepdims)
    index = k.add(target, x, axis=axis, keepdims=int(keepdims), rank=rank, dtype=INT64)
    return k.cast(index, np.dtype(np.int32) if k.context.version == 3 else INT64)


def along(k: Layer, x: Value, axis: int | None) -> tuple[Value, int]:
    """Return x and an axis; without one, all elements of x along a single axis."""
    return (k.reshaped(x, -1, rank=1), 0) if axis is None else (x, axis)


operations({name: partial(_reduction, f"Reduce{name}") for name in ("Sum", "Max", "Min", "Prod")})
operations({"Any": partial(_any, "ReduceMax"), "All": partial(_any, "ReduceMin")})
operations({"Argmax": partial(_place_of, "ArgMax"), "Argmin": partial(_place_of, "ArgMin")})
MEANS = {"Mean": "ReduceMean", "Logsumexp": "ReduceLogSumExp"}
operations({name: partial(_reduction, target) for name, target in MEANS.items()}, floats=True)


@operation("Var", floats=True)
def variance(k: Layer, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    """The mean of the squared distances from the mean."""
    distance = k.add("Sub", x, k.reduced("ReduceMean", x, _axes(axis), keepdims=True))
    return k.reduced("ReduceMean", k.add("Mul", distance, distance), _axes(axis), keepdims)


@operation("Norm", floats=True)
def norm(k: Layer, x: Value, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Value:
    """The norm of vectors, or the Frobenius norm of matrices."""
    axes = _axes(axis)
    count = k.rank(x) if axes is None else len(axes)
    if ord in (None, "fro", "euclidean", 2) and (ord != 2 or count == 1):
        return k.reduced("ReduceL2", x, axes, keepdims)
    magnitude = k.add("Abs", x)
    simple = {1: "ReduceSum", np.inf: "ReduceMax", -np.inf: "ReduceMin"}
    if count == 1 and (found := simple.get({"inf": np.inf, "-inf": -np.inf}.get(ord, ord))):
        return k.reduced(found, magnitude, axes, keepdims)
    if count == 1 and isinstance(ord, int | float) and ord > 0:
        powers = k.reduced("ReduceSum", k.add("Pow", magnitude, float(ord)), axes, keepdims)
        return k.add("Pow", powers, 1 / ord)
    raise k.error(f"has ord={ord!r} over {count} axes, which Onward does not support")


@operation("Cumsum")
def cumulative_sum(k: Layer, x: Value, axis: int | None = None, dtype: Any = None) -> Value:
    """The sums of the elements up to each, along an axis."""
    x, axis = along(k, x, axis)
    return k.add("CumSum", x if dtype is None else k.cast(x, np.dtype(dtype)), np.array(axis))


def _matmul(k: Layer, a: Value, b: Value) -> Value:
    if min(k.rank(a), k.rank(b)) < 2:
        raise k.error("multiplies vectors, which Onward does not support")
    return k.add("MatMul", a, b)


def _normalize(k: Layer, x: Value, axis: Any = -1, order: int = 2, epsilon: float | None = None) -> Value:
    if order != 2:
        raise k.error(f"has order={order}; expected 2")
    return unit(k, x, listed(axis), (epsilon or 1e-7) ** 2)


operations(
    {
        "Std": lambda k, x, axis=None, keepdims=False: k.add("Sqrt", variance(k, x, axis, keepdims)),
        "Matmul": _matmul,
        "Normalize": _normalize,
        "L2Normalize": lambda k, x, axis, epsilon=1e-12: unit(k, x, listed(axis), epsilon),
    },
    floats=True,
)
