"""Operations between layers: those of Keras 3, and TensorFlow's functions in Keras 2."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import FileError
from . import activations
from .core_layers import einsum_of
from .layer import COMPUTE_DTYPES, LAYERS, Layer, dtype_name, layer
from .normalization import unit
from .writer import BOOL, Value

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
DEFAULTS: dict[str, dict[str, Any]] = {
    "Cumsum": {"axis": 0}, "Argmax": {"axis": 0}, "Argmin": {"axis": 0}, "Take": {"axis": 0},
}  # fmt: skip
NO_SETTINGS = ("name", "trainable", "dtype_policy")
ELLIPSIS = {"ellipsis": True}
MAX = np.iinfo(np.int64).max


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
    dtype = COMPUTE_DTYPES[dtype_name(entry["config"].get("dtype", "float32"))]
    further = [
        _as_array(options.pop(name), "int64" if name == "indices" else str(dtype))
        for name in ARRAYS
        if name in options
    ]
    return [*arguments, *further], {
        OPTIONS.get(key, key): value for key, value in options.items() if key not in IGNORED
    }


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
            settings = {key: k.option(key) for key in k.config if k.has(key) and key not in NO_SETTINGS}
            given = {key: value for key, value in (settings | options).items() if value is not None}
            if unknown := [key for key, value in given.items() if key not in known and value]:
                raise k.error(f"has {', '.join(unknown)}, which Onward does not support")
            given = {key: value for key, value in given.items() if key in known}
            return function(k, *_of_one_dtype(k, inputs, floats), **given)

        for name in names:
            layer(f"ops.{name}", arguments=None)(run)
        return function

    return register


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
    return LAYERS[f"ops.{name}"].function(k, *inputs, **DEFAULTS.get(name, {}) | options)


def _title(name: str) -> str:
    return "".join(map(str.capitalize, name.split("_")))


def ranked(*values: Value) -> int | None:
    ranks = [x.rank for x in values]
    return None if None in ranks else max(rank for rank in ranks if rank is not None)


def _elementwise(
    target: str, *names: str, takes: Any = None, gives: Any = None, floats: bool = False
) -> None:
    """Register an elementwise operation, with the dtypes of its inputs and its output."""

    def function(k: Layer, *inputs: Value) -> Value:
        values = [x if takes is None else k.cast(x, takes) for x in inputs]
        return k.add(target, *values, rank=ranked(*values), dtype=gives)

    operation(*(names or (target,)), floats=floats)(function)


for _target in ("Add", "Sign", "Floor", "Ceil", "Round", "Identity"):
    _elementwise(_target)
for _target in ("Exp", "Log", "Sqrt", "Sin", "Cos", "Tan", "Sinh", "Cosh", "Erf", "Reciprocal"):
    _elementwise(_target, floats=True)
for _name in ("sin", "cos", "tan", "sinh", "cosh", "tanh"):
    _elementwise(f"A{_name}", f"Arc{_name}", floats=True)
for _target, *_names in (
    ("Sub", "Subtract"), ("Mul", "Multiply"), ("Div", "Divide", "TrueDivide"), ("Pow", "Power"),
    ("Max", "Maximum"), ("Min", "Minimum"), ("Neg", "Negative"), ("Abs", "Absolute", "Abs"),
    ("Identity", "StopGradient"),
):  # fmt: skip
    _elementwise(_target, *_names)
for _target, *_names in (
    ("Equal",), ("Greater",), ("GreaterOrEqual", "GreaterEqual"), ("Less",), ("LessOrEqual", "LessEqual"),
    ("IsNaN", "Isnan"), ("IsInf", "Isinf"),
):  # fmt: skip
    _elementwise(_target, *_names, gives=BOOL)
for _name in ("And", "Or", "Not", "Xor"):
    _elementwise(_name, f"Logical{_name}", takes=BOOL, gives=BOOL)
operation("NotEqual")(
    lambda k, a, b: k.add("Not", k.add("Equal", a, b, rank=ranked(a, b), dtype=BOOL), dtype=BOOL)
)
operation("Square")(lambda k, x: k.add("Mul", x, x))
operation("Rsqrt", floats=True)(lambda k, x: k.add("Reciprocal", k.add("Sqrt", x)))
operation("Log1p", floats=True)(lambda k, x: k.add("Log", k.add("Add", x, 1.0)))
operation("Expm1", floats=True)(lambda k, x: k.add("Sub", k.add("Exp", x), 1.0))
for _name, _activation in activations.ACTIVATIONS.items():
    operation(_title(_name), floats=True)(_activation)


def _axes(axis: Any) -> list[int] | None:
    return None if axis is None else [int(each) for each in listed(axis)]


def _reduction(name: str, target: str, takes: Any = None, **options: bool) -> None:
    """Register a reduction; its result is boolean if it takes another dtype."""

    def function(k: Layer, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
        if takes is None:
            return k.reduced(target, x, _axes(axis), keepdims)
        numbers = k.cast(k.cast(x, BOOL), takes)
        return k.cast(k.reduced(target, numbers, _axes(axis), keepdims), BOOL)

    operation(name, **options)(function)


for _name, _target in {"Mean": "ReduceMean", "Logsumexp": "ReduceLogSumExp"}.items():
    _reduction(_name, _target, floats=True)
for _name in ("Sum", "Max", "Min", "Prod"):
    _reduction(_name, f"Reduce{_name}")
for _name, _target in {"Any": "ReduceMax", "All": "ReduceMin"}.items():
    _reduction(_name, _target, takes=np.float32)


def _place_of(name: str) -> None:
    @operation(name)
    def function(k: Layer, x: Value, axis: int | None = None, keepdims: bool = False) -> Value:
        """The index of the largest or the smallest element along an axis."""
        x, axis = along(k, x, axis)
        rank = None if x.rank is None else x.rank - (not keepdims)
        index = k.add(
            f"Arg{name[3:].title()}", x, axis=axis, keepdims=int(keepdims), rank=rank, dtype=np.int64
        )
        return k.cast(index, np.dtype(np.int32 if k.context.version == 3 else np.int64))


_place_of("Argmax")
_place_of("Argmin")


def along(k: Layer, x: Value, axis: int | None) -> tuple[Value, int]:
    """Return x and an axis; without one, all elements of x along a single axis."""
    return (k.reshaped(x, -1, rank=1), 0) if axis is None else (x, axis)


@operation("Var", floats=True)
def variance(k: Layer, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    """The mean of the squared distances from the mean."""
    distance = k.add("Sub", x, k.reduced("ReduceMean", x, _axes(axis), keepdims=True), rank=x.rank)
    return k.reduced("ReduceMean", k.add("Mul", distance, distance), _axes(axis), keepdims)


@operation("Std", floats=True)
def deviation(k: Layer, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    """The square root of the variance."""
    return k.add("Sqrt", variance(k, x, axis, keepdims))


@operation("Norm", floats=True)
def norm(k: Layer, x: Value, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Value:
    """The norm of vectors, or the Frobenius norm of matrices."""
    axes = _axes(axis)
    count = k.rank(x) if axes is None else len(axes)
    if ord in (None, "fro", "euclidean", 2) and (ord != 2 or count == 1):
        return k.reduced("ReduceL2", x, axes, keepdims)
    magnitude = k.add("Abs", x)
    if count == 1 and ord == 1:
        return k.reduced("ReduceSum", magnitude, axes, keepdims)
    if count == 1 and ord in ("inf", "-inf", float("inf"), float("-inf")):
        largest = not str(ord).startswith("-")
        return k.reduced("ReduceMax" if largest else "ReduceMin", magnitude, axes, keepdims)
    if count == 1 and isinstance(ord, int | float) and ord > 0:
        powers = k.reduced("ReduceSum", k.add("Pow", magnitude, float(ord)), axes, keepdims)
        return k.add("Pow", powers, 1 / ord)
    raise k.error(f"has ord={ord!r} over {count} axes, which Onward does not support")


@operation("Cumsum")
def cumulative_sum(k: Layer, x: Value, axis: int | None = None, dtype: Any = None) -> Value:
    """The sums of the elements up to each, along an axis."""
    x, axis = along(k, x, axis)
    return k.add("CumSum", x if dtype is None else k.cast(x, np.dtype(dtype)), np.array(axis))


@operation("Matmul", floats=True)
def matmul(k: Layer, a: Value, b: Value) -> Value:
    """The last two axes multiplied."""
    if min(k.rank(a), k.rank(b)) < 2:
        raise k.error("multiplies vectors, which Onward does not support")
    return k.add("MatMul", a, b, rank=ranked(a, b))


@operation("Einsum", floats=True)
def einsum(k: Layer, *inputs: Value, subscripts: str) -> Value:
    """Sums of products along the axes with the same letter."""
    return einsum_of(k, subscripts, *inputs)


@operation("Normalize", floats=True)
def normalize(k: Layer, x: Value, axis: Any = -1, order: int = 2, epsilon: float | None = None) -> Value:
    """x divided by its length over some axes."""
    if order != 2:
        raise k.error(f"has order={order}; expected 2")
    return unit(k, x, listed(axis), (epsilon or 1e-7) ** 2)


@operation("L2Normalize", floats=True)
def l2_normalize(k: Layer, x: Value, axis: Any, epsilon: float = 1e-12) -> Value:
    """As Normalize; the squared length is at least a number."""
    return unit(k, x, listed(axis), epsilon)
