"""From the operations in Keras' graphs to Onward's: those of Keras 3, TensorFlow's functions in Keras 2."""

from collections.abc import Callable
from typing import Any

from ...errors import FileError
from . import runtime
from .source import COMPUTE_DTYPES, Source, dtype_name

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
    "math.reduce_all": "All",
    "transpose": "Transpose", "compat.v1.transpose": "Transpose", "reshape": "Reshape",
    "concat": "Concatenate", "stack": "Stack", "expand_dims": "ExpandDims", "squeeze": "Squeeze",
    "compat.v1.squeeze": "Squeeze", "cast": "Cast",
}  # fmt: skip
SECOND = ("y", "b")  # TensorFlow's names of another array
RENAMED = {"perm": "axes", "shape": "newshape"}
HONOURED = {"axis", "axes", "keepdims", "newshape", "dtype"}


def _slicing(source: Source) -> runtime.KerasLayer:
    source.take("function", None)
    source.dtype()
    return runtime.Operation("GetItem")


def _function(source: Source) -> runtime.KerasLayer:
    function = source.take("function")
    source.dtype()
    if function not in FUNCTIONS:
        raise source.error(
            f"is tf.{function}, which Onward does not know: give a function of arrays for it, "
            f"custom_objects={{{source.name!r}: function}}"
        )
    return runtime.Operation(FUNCTIONS[function])


def call(entry: Any, arguments: list[Any], options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """What an operation is called with: its arrays, and its options by the names of Keras 3."""
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
    if unknown := given.keys() - HONOURED:
        raise FileError(
            f"layer {entry['name']} ({kind}) has {', '.join(unknown)}, which Onward does not support"
        )
    return [*arguments, *second], given


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _as_array(value: Any, dtype: str) -> Any:
    """An array written in the graph, in Keras 2 lists of numbers, as Keras 3 has it; all else as it is."""
    if isinstance(value, list) and not isinstance(value[0], str):
        return {"class_name": "__numpy__", "config": {"value": value, "dtype": dtype}}
    return value


def _place(value: Any) -> Any:
    """One axis of an index, as runtime.Operation takes it."""
    if isinstance(value, dict) and value.get("class_name") == "__ellipsis__":
        return {"ellipsis": True}
    if isinstance(value, dict):
        numbers = value["config"] if value.get("class_name") == "__slice__" else value
        value = {key: numbers[key] for key in ("start", "stop", "step")}
    if any(
        type(each) not in (int, type(None))
        for each in (value.values() if isinstance(value, dict) else [value])
    ):
        raise FileError(f"an index is {str(value)[:80]}, which Onward does not know")
    return value


BUILDERS: dict[str, Callable[[Source], runtime.KerasLayer]] = {
    "SlicingOpLambda": _slicing,
    "TFOpLambda": _function,
}
