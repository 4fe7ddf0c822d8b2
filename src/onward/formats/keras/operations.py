"""Operations between layers: those of Keras 3, and TensorFlow's functions in Keras 2."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from ...errors import FileError
from . import activations
from .convolutions import repeat
from .layer import COMPUTE_DTYPES, LAYERS, Layer, dtype_name, layer
from .writer import BOOL, Value

FUNCTIONS = {
    "__operators__.add": "Add", "math.add": "Add", "math.subtract": "Subtract", "math.multiply": "Multiply",
    "math.truediv": "TrueDivide", "math.divide": "Divide", "math.pow": "Power", "math.negative": "Negative",
    "math.abs": "Absolute", "math.square": "Square", "math.sqrt": "Sqrt", "math.exp": "Exp",
    "math.log": "Log", "math.maximum": "Maximum", "math.minimum": "Minimum", "math.tanh": "Tanh",
    "math.sigmoid": "Sigmoid", "nn.relu": "Relu", "nn.softmax": "Softmax", "linalg.matmul": "Matmul",
    "math.reduce_mean": "Mean", "math.reduce_sum": "Sum", "math.reduce_max": "Max", "math.reduce_min": "Min",
    "math.equal": "Equal", "math.not_equal": "NotEqual", "math.greater": "Greater", "math.less": "Less",
    "math.greater_equal": "GreaterEqual", "math.less_equal": "LessEqual", "math.logical_and": "LogicalAnd",
    "math.logical_or": "LogicalOr", "math.logical_not": "LogicalNot", "math.reduce_any": "Any",
    "math.reduce_all": "All", "math.reduce_std": "Std", "math.reduce_variance": "Var",
    "math.cumsum": "Cumsum", "math.reduce_logsumexp": "Logsumexp",
    "transpose": "Transpose", "compat.v1.transpose": "Transpose", "reshape": "Reshape",
    "concat": "Concatenate", "stack": "Stack", "expand_dims": "ExpandDims", "squeeze": "Squeeze",
    "compat.v1.squeeze": "Squeeze", "cast": "Cast",
}  # fmt: skip
FUNCTIONAL = ("TFOpLambda", "SlicingOpLambda")  # the classes of TensorFlow's functions
SECOND = ("y", "b")  # TensorFlow's names of another array
RENAMED = {"perm": "axes", "shape": "newshape"}
HONORED = {"axis", "axes", "keepdims", "newshape", "dtype"}
NO_SETTINGS = ("name", "trainable", "dtype_policy")
ELLIPSIS = {"ellipsis": True}
MAX = np.iinfo(np.int64).max


def call(entry: Any, arguments: list[Any], options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return what an operation is called with: its arrays, and its options by the names of Keras 3."""
    kind = entry["class_name"]
    if kind == "GetItem":
        return arguments[:1], {"key": [_place(each) for each in _listed(arguments[1])]}
    if kind == "SlicingOpLambda":
        return arguments, {"key": [_place(each) for each in _listed(options["slice_spec"])]}
    if kind != "TFOpLambda":
        return arguments, options
    dtype = COMPUTE_DTYPES[dtype_name(entry["config"].get("dtype", "float32"))]
    second = [_as_array(options.pop(name), str(dtype)) for name in SECOND if name in options]
    ignored = ("name", "conjugate") if not options.get("conjugate") else ("name",)
    given = {RENAMED.get(k, k): v for k, v in options.items() if k not in ignored and v is not None}
    if unknown := given.keys() - HONORED:
        raise FileError(
            f"layer {entry['name']} ({kind}) has {', '.join(unknown)}, which Onward does not support"
        )
    return [*arguments, *second], given


def _listed(value: Any) -> list[Any]:
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
        def run(k: Layer, *inputs: Value, **options: Any) -> Any:
            typed = _of_one_dtype(k, inputs, floats)
            settings = {key: k.option(key) for key in k.config if k.has(key) and key not in NO_SETTINGS}
            settings = {key: value for key, value in settings.items() if value is not None}
            return function(k, *typed, **settings, **options)

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
    """A function of TensorFlow, by its name."""
    function = k.option("function")
    k.option("dtype", None)
    if function not in FUNCTIONS:
        raise k.error(
            f"is tf.{function}, which Onward does not know: pass a function of arrays, "
            f"custom_objects={{{k.name!r}: function}}"
        )
    return LAYERS[f"ops.{FUNCTIONS[function]}"].function(k, *inputs, **options)


def _ranked(*values: Value) -> int | None:
    ranks = [x.rank for x in values]
    return None if None in ranks else max(rank for rank in ranks if rank is not None)


def _elementwise(name: str, target: str, dtype: Any = None) -> None:
    def function(k: Layer, *inputs: Value) -> Value:
        return k.add(target, *inputs, rank=_ranked(*inputs), dtype=dtype)

    operation(name)(function)


for _names, _target in (
    ("Add", "Add"), ("Subtract", "Sub"), ("Multiply", "Mul"), ("Divide TrueDivide", "Div"), ("Power", "Pow"),
    ("Maximum", "Max"), ("Minimum", "Min"), ("Negative", "Neg"), ("Absolute Abs", "Abs"), ("Sign", "Sign"),
    ("Floor", "Floor"), ("Ceil", "Ceil"),
):  # fmt: skip
    for _name in _names.split():
        _elementwise(_name, _target)
for _name, _target in {
    "Equal": "Equal", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual", "Less": "Less",
    "LessEqual": "LessOrEqual", "LogicalAnd": "And", "LogicalOr": "Or", "LogicalNot": "Not",
    "LogicalXor": "Xor",
}.items():  # fmt: skip
    _elementwise(_name, _target, BOOL)
for _name in ("Exp", "Log", "Sqrt", "Sin", "Cos", "Reciprocal"):
    operation(_name, floats=True)(lambda k, x, target=_name: k.add(target, x))
operation("Square")(lambda k, x: k.add("Mul", x, x))
operation("Rsqrt", floats=True)(lambda k, x: k.add("Reciprocal", k.add("Sqrt", x)))
operation("NotEqual")(
    lambda k, a, b: k.add("Not", k.add("Equal", a, b, rank=_ranked(a, b), dtype=BOOL), dtype=BOOL)
)
for _name, _activation in activations.ACTIVATIONS.items():
    operation("".join(map(str.capitalize, _name.split("_"))), floats=True)(
        lambda k, x, f=_activation, **settings: f(k, x, **settings)
    )


def _axes(axis: Any) -> list[int] | None:
    return None if axis is None else [int(each) for each in _listed(axis)]


def _reduction(name: str, target: str, floats: bool = False) -> None:
    def function(k: Layer, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
        return k.reduced(target, x, _axes(axis), keepdims)

    operation(name, floats=floats)(function)


for _name, _target in {"Mean": "ReduceMean", "Logsumexp": "ReduceLogSumExp"}.items():
    _reduction(_name, _target, floats=True)
for _name in ("Sum", "Max", "Min", "Prod"):
    _reduction(_name, f"Reduce{_name}")


def _of_booleans(name: str, target: str) -> None:
    def function(k: Layer, x: Value, axis: Any = None, keepdims: bool = False) -> Value:
        numbers = k.cast(k.cast(x, BOOL), np.dtype(np.float32))
        return k.cast(k.reduced(target, numbers, _axes(axis), keepdims), BOOL)

    operation(name)(function)


_of_booleans("Any", "ReduceMax")
_of_booleans("All", "ReduceMin")


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
    if ord in (None, "fro", 2) and (ord != 2 or count == 1):
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
    if axis is None:
        x, axis = k.reshaped(x, -1, rank=1), 0
    return k.add("CumSum", x if dtype is None else k.cast(x, np.dtype(dtype)), np.array(axis))


@operation("Matmul", floats=True)
def matmul(k: Layer, a: Value, b: Value) -> Value:
    """The last two axes multiplied."""
    if min(k.rank(a), k.rank(b)) < 2:
        raise k.error("multiplies vectors, which Onward does not support")
    return k.add("MatMul", a, b, rank=_ranked(a, b))


@operation("GetItem")
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


@operation("Transpose")
def transpose(k: Layer, x: Value, axes: Any = None) -> Value:
    """The axes in another order."""
    return k.transposed(x, *(range(k.rank(x))[::-1] if axes is None else axes))


@operation("Swapaxes")
def swap_axes(k: Layer, x: Value, axis1: int, axis2: int) -> Value:
    """Two axes exchanged."""
    order = list(range(k.rank(x)))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return k.transposed(x, *order)


@operation("Moveaxis")
def move_axes(k: Layer, x: Value, source: Any, destination: Any) -> Value:
    """Axes moved to other places."""
    order = np.moveaxis(np.empty(range(k.rank(x))), source, destination).shape
    return k.transposed(x, *order)


@operation("Reshape")
def reshape(k: Layer, x: Value, newshape: Any) -> Value:
    """x with another shape."""
    sizes = _listed(newshape)
    if any(type(size) is not int for size in sizes):
        raise k.error(f"has the shape {str(sizes)[:80]}; expected numbers")
    return k.reshaped(x, *sizes, rank=len(sizes))


@operation("Flip")
def flip(k: Layer, x: Value, axis: Any = None) -> Value:
    """x backward along some axes, or all."""
    return reduce(k.reversed, range(k.rank(x)) if axis is None else _listed(axis), x)


@operation("Stack")
def stack(k: Layer, *inputs: Value, axis: int = 0) -> Value:
    """Values along a new axis."""
    place = axis % (k.rank(inputs[0]) + 1)
    return k.add("Concat", *(k.unsqueezed(x, place) for x in inputs), axis=place)


@operation("Concatenate")
def concatenate(k: Layer, *inputs: Value, axis: int = -1) -> Value:
    """Values along an axis."""
    return k.add("Concat", *inputs, axis=axis)


@operation("Split")
def split(k: Layer, x: Value, indices_or_sections: Any, axis: int = 0) -> list[Value]:
    """The parts of x between indices, or as many equal parts."""
    if isinstance(indices_or_sections, int):
        count = indices_or_sections
        return k.add_all("Split", [x], [x.rank] * count, axis=axis, num_outputs=count)
    ends = [*indices_or_sections, MAX]
    return [k.sliced(x, axis, start, stop) for start, stop in zip([0, *ends], ends, strict=False)]


@operation("Repeat")
def repeated(k: Layer, x: Value, repeats: Any, axis: int | None = None) -> Value:
    """Each element repeated along an axis."""
    times = _listed(repeats)
    if len(times) != 1:
        raise k.error(f"has repeats={times}, which Onward does not support")
    if axis is None:
        x, axis = k.reshaped(x, -1, rank=1), 0
    return repeat(k, x, int(times[0]), axis % k.rank(x))


@operation("Tile")
def tile(k: Layer, x: Value, repeats: Any) -> Value:
    """x repeated along its axes."""
    times = _listed(repeats)
    times = [1] * (k.rank(x) - len(times)) + times
    if len(times) > k.rank(x):
        x = k.unsqueezed(x, *range(len(times) - k.rank(x)))
    return k.add("Tile", x, np.array(times, np.int64), rank=len(times))


@operation("Clip")
def clip(k: Layer, x: Value, x_min: float, x_max: float) -> Value:
    """x between two numbers."""
    return k.add("Clip", x, x_min, x_max)


@operation("Where")
def where(k: Layer, condition: Value, x: Value, y: Value) -> Value:
    """x where the condition is True, otherwise y."""
    rank = _ranked(condition, x, y)
    return k.add("Where", k.cast(condition, BOOL), x, y, rank=rank, dtype=x.dtype)


@operation("Pad")
def pad(k: Layer, x: Value, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Value:
    """x with elements around it."""
    widths = _listed(pad_width)
    pairs = [[each, each] if isinstance(each, int) else each for each in widths]
    pairs = pairs * k.rank(x) if len(pairs) == 1 else pairs
    if mode not in ("constant", "reflect") or len(pairs) != k.rank(x):
        raise k.error(f"has mode={mode!r} and pad_width={pad_width}, which Onward does not support")
    sides = np.array([*(pair[0] for pair in pairs), *(pair[1] for pair in pairs)], np.int64)
    value = [k.number(constant_values or 0, x)] if mode == "constant" else []
    return k.add("Pad", x, sides, *value, mode=mode)


@operation("ExpandDims")
def expand_dims(k: Layer, x: Value, axis: Any) -> Value:
    """x with axes of size 1."""
    return k.unsqueezed(x, *_listed(axis))


@operation("Squeeze")
def squeeze(k: Layer, x: Value, axis: Any = None) -> Value:
    """x without axes of size 1."""
    if axis is None:
        return k.add("Squeeze", x, rank=None)
    return k.squeezed(x, *_listed(axis))


def _filled(name: str, number: int) -> None:
    def function(k: Layer, x: Value, dtype: Any = None) -> Value:
        kind = x.dtype if dtype is None else np.dtype(dtype)
        return k.add("Expand", k.constant(np.array(number, kind)), k.shape_of(x), rank=x.rank, dtype=kind)

    operation(name)(function)


_filled("ZerosLike", 0)
_filled("OnesLike", 1)


@operation("Cast", "ConvertToTensor")
def cast(k: Layer, x: Value, dtype: Any = None) -> Value:
    """x in another dtype."""
    if dtype is None:
        return x
    return k.cast(x, np.dtype(COMPUTE_DTYPES.get(dtype, dtype)))
