"""Operations between layers: those of Keras 3, and TensorFlow's functions in Keras 2."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any, TypeAlias

import numpy as np

from ...errors import FileError
from ...graph.operations.expressions import expm1, log1p
from . import activations
from .convolutions import repeat
from .core_layers import as_list, as_numbers, einsum_of, elementwise, unit
from .layer import COMPUTE_DTYPES, LAYERS, Layer, dtype_name, layer
from .writer import BOOL, INT32, INT64, MAX, Value, common_dtype

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
Promotion: TypeAlias = Callable[..., list[Value]]  # from a layer and its inputs to inputs of one dtype
NO_SETTINGS = ("name", "trainable", "dtype_policy")
ELLIPSIS = {"ellipsis": True}


def call(entry: Any, arguments: list[Any], options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return what an operation is called with: its arrays, and its options by the names of Keras 3."""
    kind = entry["class_name"]
    if kind == "GetItem":
        return arguments[:1], {"key": [_place(each) for each in as_list(arguments[1])]}
    if kind == "SlicingOpLambda":
        return arguments, {"key": [_place(each) for each in as_list(options["slice_spec"])]}
    if kind == "Take":
        return [arguments[0], *(_as_array(each, "int64") for each in arguments[1:])], options
    if kind != "TFOpLambda":
        return arguments, options
    dtype = str(COMPUTE_DTYPES[dtype_name(entry["config"].get("dtype", "float32"))])
    given = [name for name in ARRAYS if name in options]
    further = [_as_array(options.pop(name), "int64" if name == "indices" else dtype) for name in given]
    named = {OPTIONS.get(key, key): value for key, value in options.items() if key not in IGNORED}
    return [*arguments, *further], named


def _as_array(value: Any, dtype: str) -> Any:
    """Return an array that Keras 2 writes as lists of numbers as Keras 3 writes it; all else as it is."""
    if isinstance(value, list) and not isinstance(value[0], str):
        return {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}
    return value


def _place(value: Any) -> Any:
    """Return one axis of an index: a number, None, an ellipsis, or {"start": a, "stop": b, "step": c}."""
    parts = [value]
    if isinstance(value, dict):
        if value.get("class_name") == "__ellipsis__":
            return ELLIPSIS
        numbers = value["config"] if value.get("class_name") == "__slice__" else value
        value = {key: numbers[key] for key in ("start", "stop", "step")}
        parts = [*value.values()]
    if any(type(each) not in (int, type(None)) for each in parts):
        raise FileError(f"an index is {str(value)[:80]}, which Onward does not know")
    return value


def operations(table: Mapping[str, Callable[..., Any]], promote: Promotion | None = None) -> None:
    """Register functions of a layer, its inputs and its settings; `promote` gives the inputs one dtype."""
    for name, function in table.items():
        layer(f"ops.{name}", arguments=None)(partial(_run, function, promote))


def _run(
    function: Callable[..., Any], promote: Promotion | None, k: Layer, /, *inputs: Value, **options: Any
) -> Any:
    known = inspect.signature(function).parameters
    settings = {key: value for key, value in k.rest().items() if key not in NO_SETTINGS}
    given = settings | options
    for key, value in given.items():
        unknown = value and key not in known
        # in Keras 3, None is a setting unless it is the default
        missing = value is None and k.context.version == 3 and key in known and known[key].default is not None
        if unknown or missing:
            raise k.error(f"has {key}={str(value)[:80]}, which Onward does not support")
    given = {key: value for key, value in given.items() if key in known and value is not None}
    return function(k, *(promote(k, *inputs) if promote else inputs), **given)


def _floats(k: Layer, *inputs: Value) -> list[Value]:
    if k.context.version < 3 and common_dtype(inputs).kind != "f":
        raise k.error("takes integers: TensorFlow computes integers here, which Onward does not support")
    return k.promoted(*inputs, floats=True)


def _of_division(k: Layer, *inputs: Value) -> list[Value]:
    """TensorFlow divides integers of 32 and 64 bits in float64."""
    dtype = common_dtype(inputs)
    if k.context.version < 3 and dtype.kind in "iu" and dtype.itemsize > 2:
        return [k.cast(x, np.dtype(np.float64)) for x in k.promoted(*inputs)]
    return k.promoted(*inputs, floats=True)


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


# Numbers.


def _logical(target: str, k: Layer, /, *inputs: Value) -> Value:
    return k.add(target, *(k.cast(x, BOOL) for x in inputs))


# The operation of the graph for each of Keras' elementwise operations of any numbers, and those of floats.
ELEMENTWISE = {
    **{name: name for name in ("Add", "Sign", "Identity", "Abs", "Equal", "Less", "Greater")},
    "Subtract": "Sub", "Multiply": "Mul", "Power": "Pow", "Maximum": "Max", "Minimum": "Min",
    "Negative": "Neg", "Absolute": "Abs", "StopGradient": "Identity", "GreaterEqual": "GreaterOrEqual",
    "LessEqual": "LessOrEqual",
}  # fmt: skip
FLOATS = {name: name for name in "Exp Log Sqrt Sin Cos Tan Sinh Cosh Erf Reciprocal Floor Ceil".split()}
FLOATS |= {f"Arc{name}": f"A{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")}
FLOATS |= {"Isnan": "IsNaN", "Isinf": "IsInf"}
REDUCTIONS = {name: f"Reduce{name}" for name in ("Sum", "Max", "Min", "Prod")}
MEANS = {"Mean": "ReduceMean", "Logsumexp": "ReduceLogSumExp"}


def _axes(axis: Any) -> list[int] | None:
    return None if axis is None else [int(each) for each in as_list(axis)]


def _reduction(target: str, k: Layer, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    """A reduction; Keras 3 adds and multiplies short integers in int32."""
    if x.dtype == BOOL and target in ("ReduceMax", "ReduceMin"):
        return _any(target, k, x, axis, keepdims)
    short = x.dtype.kind in "iu" and x.dtype.itemsize < 4 and target in ("ReduceSum", "ReduceProd")
    if x.dtype == BOOL or (short and k.context.version == 3):
        x = k.cast(x, INT32)
    return k.reduced(target, x, _axes(axis), keepdims)


def _any(target: str, k: Layer, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    """A reduction of booleans."""
    numbers = k.cast(k.cast(x, BOOL), np.float32)
    return k.cast(k.reduced(target, numbers, _axes(axis), keepdims), BOOL)


def _place_of(target: str, k: Layer, x: Value, axis: int | None = None, keepdims: bool = False) -> Value:
    """The index of the largest or the smallest element along an axis."""
    x, axis = _along(k, as_numbers(k, x), axis)
    rank = None if x.rank is None else x.rank - (not keepdims)
    index = k.add(target, x, axis=axis, keepdims=int(keepdims), rank=rank, dtype=INT64)
    return k.cast(index, INT32 if k.context.version == 3 else INT64)


def _along(k: Layer, x: Value, axis: int | None) -> tuple[Value, int]:
    """Return x and an axis; without one, all elements of x along a single axis."""
    return (k.reshaped(x, -1, rank=1), 0) if axis is None else (x, axis)


def _variance(k: Layer, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
    """The mean of the squared distances from the mean."""
    distance = k.add("Sub", x, k.reduced("ReduceMean", x, _axes(axis), keepdims=True))
    return k.reduced("ReduceMean", k.add("Mul", distance, distance), _axes(axis), keepdims)


def _norm(k: Layer, x: Value, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Value:
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


def _cumulative_sum(k: Layer, x: Value, axis: int | None = None, dtype: Any = None) -> Value:
    """The sums of the elements up to each, along an axis."""
    x, axis = _along(k, as_numbers(k, x), axis)
    return k.add("CumSum", x if dtype is None else k.cast(x, np.dtype(dtype)), np.array(axis))


def _matmul(k: Layer, a: Value, b: Value) -> Value:
    if min(k.rank(a), k.rank(b)) < 2:
        raise k.error("multiplies vectors, which Onward does not support")
    if k.context.version == 3 and a.dtype == np.int8:
        a, b = k.cast(a, INT32), k.cast(b, INT32)
    return k.add("MatMul", a, b)


def _stack(k: Layer, *inputs: Value, axis: int = 0) -> Value:
    place = axis % (k.rank(inputs[0]) + 1)
    return k.add("Concat", *(k.unsqueezed(x, place) for x in inputs), axis=place)


def _normalize(k: Layer, x: Value, axis: Any = -1, order: int = 2, epsilon: float | None = None) -> Value:
    if order != 2:
        raise k.error(f"has order={order}; expected 2")
    return unit(k, x, as_list(axis), (epsilon or 1e-7) ** 2)


operations({
    **{name: partial(elementwise, target) for name, target in ELEMENTWISE.items()},
    **{name: partial(_reduction, target) for name, target in REDUCTIONS.items()},
    "NotEqual": lambda k, a, b: k.add("Not", k.add("Equal", a, b)),
    "Square": lambda k, x: k.add("Mul", *[as_numbers(k, x)] * 2),
    "Round": lambda k, x: k.add("Round", x) if x.dtype.kind == "f" else x,
    "Argmax": partial(_place_of, "ArgMax"),
    "Argmin": partial(_place_of, "ArgMin"),
    "Cumsum": _cumulative_sum,
    "Einsum": lambda k, *inputs, subscripts: einsum_of(k, subscripts, *inputs),
    "Matmul": _matmul,
    "Concatenate": lambda k, *inputs, axis=-1: k.add("Concat", *inputs, axis=axis, rank=inputs[0].rank),
    "Stack": _stack,
}, Layer.promoted)  # fmt: skip
operations({
    **{name: partial(elementwise, target) for name, target in FLOATS.items()},
    **{name: partial(_reduction, target) for name, target in MEANS.items()},
    **{_title(name): function for name, function in activations.ACTIVATIONS.items()},
    "Rsqrt": lambda k, x: k.add("Reciprocal", k.add("Sqrt", x)),
    "Log1p": lambda k, x: k.formula(log1p, x),
    "Expm1": lambda k, x: k.formula(expm1, x),
    "Var": _variance,
    "Std": lambda k, x, axis=None, keepdims=False: k.add("Sqrt", _variance(k, x, axis, keepdims)),
    "Norm": _norm,
    "Normalize": _normalize,
    "L2Normalize": lambda k, x, axis, epsilon=1e-12: unit(k, x, as_list(axis), epsilon),
}, _floats)  # fmt: skip
operations({
    "Relu": lambda k, x: k.add("Max", as_numbers(k, x), 0),
    "Relu6": lambda k, x: k.add("Clip", as_numbers(k, x), 0, 6),
})  # fmt: skip
operations(dict.fromkeys(("Divide", "TrueDivide"), partial(elementwise, "Div")), _of_division)


# Movement, selection, conversion and creation of elements.


@layer("SlicingOpLambda", arguments=None)
def item(k: Layer, x: Value, key: Any) -> Value:
    """x[key], with one entry for each axis."""
    k.option("function", None)
    given, rank = list(key), k.rank(x)
    if ELLIPSIS in given:
        place = given.index(ELLIPSIS)
        missing = rank - sum(each is not None for each in given) + 1
        given[place : place + 1] = [{"start": None, "stop": None, "step": None}] * missing
    axis = 0
    removed: list[tuple[int, int]] = []
    added: list[int] = []
    for each in given:
        if each is None:
            added.append(axis - len(removed) + len(added))
            continue
        if isinstance(each, dict):
            step = each["step"] or 1
            start = each["start"] if each["start"] is not None else (0 if step > 0 else -1)
            stop = each["stop"] if each["stop"] is not None else (MAX if step > 0 else -MAX)
            if (start, stop, step) != (0, MAX, 1):
                x = k.sliced(x, axis, start, stop, step)
        else:
            removed.append((axis, each))
        axis += 1
    for place, index in reversed(removed):
        x = k.taken(x, index, place)
    return k.unsqueezed(x, *added) if added else x


def _order(k: Layer, x: Value, move: Callable[..., Any], *arguments: Any) -> Value:
    """x with its axes in the order that a function of NumPy gives them."""
    return k.transposed(x, *move(np.empty(range(k.rank(x))), *arguments).shape)


def _filled(k: Layer, x: Value, number: int, dtype: Any) -> Value:
    kind = x.dtype if dtype is None else np.dtype(dtype)
    return k.filled(number, Value(x.name, x.rank, kind), k.shape_of(x), x.rank)


def _cast(k: Layer, x: Value, dtype: Any = None) -> Value:
    return x if dtype is None else k.cast(x, np.dtype(COMPUTE_DTYPES.get(dtype, dtype)))


def _flip(k: Layer, x: Value, axis: Any = None) -> Value:
    return reduce(k.reversed, range(k.rank(x)) if axis is None else as_list(axis), x)


def _squeeze(k: Layer, x: Value, axis: Any = None) -> Value:
    return k.add("Squeeze", x, rank=None) if axis is None else k.squeezed(x, *as_list(axis))


def _reshape(k: Layer, x: Value, newshape: Any) -> Value:
    """x with another shape, whose sizes are numbers or values."""
    sizes = [size if isinstance(size, int) else k.unsqueezed(size, 0) for size in as_list(newshape)]
    return k.reshaped(x, *sizes, rank=len(sizes))


def _split(k: Layer, x: Value, indices_or_sections: Any, axis: int = 0) -> list[Value]:
    """The parts of x between indices, or as many equal parts."""
    if isinstance(indices_or_sections, int):
        return k.split(x, indices_or_sections, axis)
    # TensorFlow counts the elements of each part
    ends = np.cumsum(indices_or_sections)[:-1] if k.context.version < 3 else indices_or_sections
    ends = [*map(int, ends), MAX]
    return [k.sliced(x, axis, start, stop) for start, stop in zip([0, *ends], ends, strict=False)]


def _repeat(k: Layer, x: Value, repeats: Any, axis: int | None = None) -> Value:
    times = as_list(repeats)
    if len(times) != 1:
        raise k.error(f"has repeats={times}, which Onward does not support")
    x, axis = _along(k, x, axis)
    return repeat(k, x, int(times[0]), axis % k.rank(x))


def _tile(k: Layer, x: Value, repeats: Any) -> Value:
    times = as_list(repeats)
    times = [1] * (k.rank(x) - len(times)) + times
    if len(times) > k.rank(x):
        x = k.unsqueezed(x, *range(len(times) - k.rank(x)))
    return k.add("Tile", x, np.array(times, np.int64))


def _pad(k: Layer, x: Value, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Value:
    pairs = [[each, each] if isinstance(each, int) else each for each in as_list(pad_width)]
    pairs = pairs * k.rank(x) if len(pairs) == 1 else pairs
    mode = mode.lower()
    if mode not in ("constant", "reflect", "edge") or len(pairs) != k.rank(x):
        raise k.error(f"has mode={mode!r} and pad_width={pad_width}, which Onward does not support")
    sides = np.array([*(pair[0] for pair in pairs), *(pair[1] for pair in pairs)], np.int64)
    value = [k.number(constant_values or 0, x)] if mode == "constant" else []
    return k.add("Pad", x, sides, *value, mode=mode)


def _take(k: Layer, x: Value, indices: Value, axis: int | None = None) -> Value:
    x, axis = _along(k, x, axis)
    rank = None if x.rank is None or indices.rank is None else x.rank + indices.rank - 1
    return k.add("Gather", x, k.cast(indices, INT64), axis=axis, rank=rank)


def _clip(k: Layer, x: Value, x_min: float, x_max: float) -> Value:
    of_floats = isinstance(x_min, float) or isinstance(x_max, float)
    return k.add("Clip", k.promoted(x, floats=True)[0] if of_floats else as_numbers(k, x), x_min, x_max)


def _one_hot(k: Layer, x: Value, num_classes: int, axis: int = -1, dtype: str | None = None) -> Value:
    kind = np.dtype(COMPUTE_DTYPES.get(dtype or "float32", dtype))
    x = k.cast(x, INT64)
    x = k.add("Where", k.add("Less", x, 0), num_classes, x)  # a negative class selects nothing
    inputs = x, np.array(num_classes), np.array([0, 1], kind)
    return k.add("OneHot", *inputs, axis=axis, rank=None if x.rank is None else x.rank + 1, dtype=kind)


def _roll(k: Layer, x: Value, shift: int, axis: int | None = None) -> Value:
    if type(shift) is not int or type(axis) is not int:
        raise k.error(f"has shift={shift} and axis={axis}; expected a number of each")
    start, last = k.add("Mod", k.constant(np.array([-shift])), k.shape_of(x, axis)), np.array([MAX])
    along, first = np.array([axis]), np.array([0])
    return k.add(
        "Concat", k.add("Slice", x, start, last, along), k.add("Slice", x, first, start, along), axis=axis
    )


operations({
    "GetItem": item,
    "Transpose": lambda k, x, axes=None: _order(k, x, np.transpose, axes),
    "Swapaxes": lambda k, x, axis1, axis2: _order(k, x, np.swapaxes, axis1, axis2),
    "Moveaxis": lambda k, x, source, destination: _order(k, x, np.moveaxis, source, destination),
    "Ravel": lambda k, x: k.reshaped(x, -1, rank=1),
    "Shape": lambda k, x: k.shape_of(x),
    "Flip": _flip,
    "Clip": _clip,
    "Where": lambda k, condition, x, y: k.add("Where", k.cast(condition, BOOL), *k.promoted(x, y)),
    **{f"Logical{name}": partial(_logical, name) for name in ("And", "Or", "Not", "Xor")},
    "Any": partial(_any, "ReduceMax"),
    "All": partial(_any, "ReduceMin"),
    "BroadcastTo": lambda k, x, shape: k.add("Expand", x, np.array(shape, np.int64), rank=len(shape)),
    "ExpandDims": lambda k, x, axis: k.unsqueezed(x, *as_list(axis)),
    "Squeeze": _squeeze,
    "ZerosLike": lambda k, x, dtype=None: _filled(k, x, 0, dtype),
    "OnesLike": lambda k, x, dtype=None: _filled(k, x, 1, dtype),
    "Cast": _cast,
    "ConvertToTensor": _cast,
    "Reshape": _reshape,
    "Split": _split,
    "Repeat": _repeat,
    "Tile": _tile,
    "Pad": _pad,
    "Take": _take,
    "OneHot": _one_hot,
    "Roll": _roll,
})  # fmt: skip
