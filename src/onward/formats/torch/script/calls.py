"""Apply operators: to numbers and containers at once, to tensors by recording them in the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import chain
from typing import Any

import numpy as np

from ....core import budget
from ....errors import ArgumentError
from ....graph.node import Signature
from ....graph.size import is_symbolic
from ..aten.packed import PACKED, BatchSizes, Steps
from ..aten.registry import INT64, Symbol, Tensor
from ..aten.schemas import DTYPES
from . import lists
from .operators import CHANGES, CONTAINERS, FLOATING, PLAIN, SINGLE, as_key, charge_copies, checked, text
from .recorder import NUMBERS, Recorder
from .values import DEVICE, Unknown

# The operators on tensors that compute what operators on numbers compute.
SYMBOLIC = {
    "__not__": "logical_not", "floordiv": "floor_divide", "prim.abs": "abs", "fabs": "abs",
    "degrees": "rad2deg", "radians": "deg2rad",
    **dict.fromkeys(("max", "prim.max"), "maximum"), **dict.fromkeys(("min", "prim.min"), "minimum"),
}  # fmt: skip
OF_TWO = {"sum": "add", "any": "__or__", "all": "__and__"}  # what functions of a list do to two elements
KINDS: dict[type, Any] = {bool: np.bool_, int: np.int64, float: np.float64}


def dtype_of(value: Tensor | Symbol | float) -> np.dtype[Any]:
    """Return the dtype of a tensor or number."""
    return value.dtype if isinstance(value, Tensor | Symbol) else np.dtype(KINDS[type(value)])


class RaisedError(ArgumentError):
    """The code raised an exception."""


class Calls(Recorder):
    """Applies operators to all values, and records those of tensors."""

    def operate(self, name: str, /, *arguments: Any, **keywords: Any) -> Any:
        """Apply an operator, without its overload, to its arguments."""
        for argument in arguments:
            if isinstance(argument, Unknown):
                raise ArgumentError(argument.reason)
        self.check_current(*arguments)
        if name in SPECIAL:
            return SPECIAL[name](self, *arguments, **keywords)
        if any(isinstance(argument, BatchSizes) for argument in arguments[:2]) and name not in PACKED:
            return _of_batch_sizes(self, name, *arguments)
        first = arguments[0] if arguments else None
        if any(map(lists.is_long, arguments[:2])):
            return lists.apply(self, name, *arguments, **keywords)
        if isinstance(first, Tensor) and name in QUERIES:
            return QUERIES[name](self, *arguments, **keywords)
        is_container = isinstance(first, list | tuple | dict | str)
        takes_it = name in CONTAINERS and is_container and not isinstance(arguments[-1], Tensor | Symbol)
        if takes_it or name in ("append", "insert", "_set_item", "setdefault"):
            return self.apply_to_container(name, *arguments, **keywords)
        charge_copies(*arguments)
        if name in ("eq", "ne") and all(isinstance(each, list | tuple) for each in arguments):
            return self._compare(name, *arguments)
        values = [*arguments, *(first if isinstance(first, list | tuple) else ())]
        if any([isinstance(value, Tensor) for value in values]) or not (name in PLAIN or name in SYMBOLIC):
            return self.call(name, *arguments, **keywords)
        if name in PLAIN and not any([isinstance(value, Symbol) for value in values]):
            return checked(PLAIN[name](*arguments, **keywords))
        return self._compute(name, *arguments)

    def apply_to_container(self, name: str, container: Any, /, *arguments: Any, **keywords: Any) -> Any:
        """Apply an operator to a list, tuple, dict or string."""
        if name in CHANGES:
            self.change_elements(container)
        if isinstance(container, dict) and arguments and name != "update":
            as_key(arguments[0])
        if name in SINGLE:
            budget.take(2 * budget.OBJECT)
        else:
            charge_copies(container, *arguments)
        result = checked(CONTAINERS[name](container, *arguments, **keywords))
        return result if name in CHANGES or name in SINGLE else self.create(result)

    def _compute(self, name: str, *arguments: Any) -> Any:
        """Record an operator on numbers that depend on the inputs."""
        if len(arguments) == 1 and isinstance(arguments[0], list):
            return reduce(partial(self.operate, OF_TWO.get(name, name)), arguments[0])
        if name in ("eq", "ne") and arguments[0] == arguments[1]:
            return name == "eq"
        operands = [self._operand(argument) for argument in arguments]
        if name == "pow":  # of integers, too
            operands = [self.tensor(self.cast(x, np.float64)) for x in operands]
        if name == "floordiv" and any(x.dtype.kind == "f" for x in operands):  # unlike tensors
            result = self.call("floor", self.call("div", *operands))
        else:
            result = self.call(SYMBOLIC.get(name, name), *operands)
        kind = int if name in ("floor", "ceil") else float if name in FLOATING else lists.kind_of(result)
        return self.number(result, kind)

    def _operand(self, value: Any) -> Any:
        """Return a number as a tensor; TorchScript computes with floats of 64 bits."""
        if isinstance(value, int | float):
            return self.tensor(self.constant(value))
        if isinstance(value, Symbol):
            value = self.tensor(value.name)
            if value.dtype == np.float32:
                return self.tensor(self.cast(value, np.float64))
        return value

    def _compare(self, name: str, a: Sequence[Any], b: Sequence[Any]) -> Any:
        """Compare two lists of numbers or strings."""
        differ = name == "ne"
        found = [self.operate(name, *pair) for pair in zip(a, b, strict=False)]
        if any(isinstance(each, Tensor) for each in found):
            raise ArgumentError("lists of tensors cannot be compared")
        if len(a) != len(b) or differ in found:
            return differ
        symbols = [each for each in found if isinstance(each, Symbol)]
        return self.operate("any" if differ else "all", symbols)

    def elements(self, value: Any, count: int | None = None) -> Sequence[Any]:
        """Return the elements of a container, or the slices of a tensor; the code expects `count` ones."""
        self.check_current(value)
        if isinstance(value, Tensor):
            value = self.operate("unbind", value, 0)
        if count is not None and lists.is_long(value):
            return lists.unpacked(self, value, count)
        if not isinstance(value, list | tuple | dict | str | range):
            raise ArgumentError(f"a {type(value).__name__} cannot be iterated over")
        if isinstance(value, range):
            return value
        charge_copies(value)
        return list(value)

    # tensors

    def number(self, tensor: Tensor | Symbol, kind: type) -> Any:
        """Return the number in a tensor, or a symbol that stands for it."""
        name = self.named(tensor)
        if (array := self.graph.array(name)) is not None and array.size == 1:
            return checked(kind(array.item()))
        dtype, known = np.dtype(KINDS[kind]), self.graph.known(name)
        shape, given = ((), dtype) if known is None else Signature.of(known)
        if not is_symbolic(shape) and math.prod(shape) != 1:
            raise ArgumentError(f"a tensor of shape {shape} is not one number")
        if shape:
            name = self.graph.add("Reshape", name, self.graph.add_constant(np.zeros(0, np.int64)))
        if given != dtype and not (kind is float and given.kind == "f"):
            return Symbol(self.graph.add("Cast", name, to=dtype), dtype)
        return Symbol(name, given)


def _raise(calls: Calls, message: Any = "", *details: Any) -> None:
    raise RaisedError(f"the code raises {text(details[0]) if details else 'an error'}: {text(message)}")


def _size(calls: Calls, x: Tensor, axis: int | None = None) -> Any:
    sizes = calls.sizes(calls.read(x))
    return sizes if axis is None else sizes[axis]


def _count(calls: Calls, x: Tensor) -> Any:
    sizes = calls.read(x).shape
    return Symbol(calls.add("Size", x)) if None in sizes else math.prod(sizes)


def _number(kind: type, calls: Calls, value: Any) -> Any:
    return calls.number(value, kind) if isinstance(value, Tensor | Symbol) else checked(kind(value))


def _to_tensor(calls: Calls, value: Any, dtype: int | None = None, **options: Any) -> Tensor:
    """Make a tensor of a number, or of nested lists of numbers, which may depend on the inputs."""
    if isinstance(value, Tensor | Symbol):
        result = calls.tensor(calls.named(value))
        if dtype is None and isinstance(value, Symbol) and result.dtype.kind == "f":
            dtype = 6
        return result if dtype is None else _to(calls, result, dtype)
    if lists.is_long(value):
        return lists.apply(calls, "tensor", value, dtype)  # type: ignore[no-any-return]  # a tensor
    charge_copies(value)
    if isinstance(value, list | tuple) and any(isinstance(e, Tensor | Symbol | list | tuple) for e in value):
        parts = [_to_tensor(calls, element, dtype) for element in value]
        return calls.call("stack", parts, 0)  # type: ignore[no-any-return]  # a tensor
    array = np.array(value)
    if dtype is not None or array.dtype.kind == "f":
        array = array.astype(DTYPES[6 if dtype is None else dtype])
    return calls.tensor(calls.constant(array))


def _is(calls: Calls, a: Any, b: Any) -> bool:
    return a is b or (type(a) is bool and a == b)


def _to(calls: Calls, x: Any, *others: Any, **keywords: Any) -> Any:
    """Convert a tensor to the dtype among the arguments, if there is one; devices have no effect."""
    dtype, flags = keywords.get("dtype"), [other for other in others if type(other) is bool]
    for other in others:
        if isinstance(other, Tensor):
            dtype = NUMBERS[other.dtype.name]
        elif type(other) is int and dtype is None:
            dtype = other
    y = x if dtype is None else calls.call("to", x, dtype)
    return calls.call("clone", y) if keywords.get("copy", flags[1:2] == [True]) else y


def _contains(calls: Calls, container: Any, value: Any) -> Any:
    if isinstance(value, Tensor | Symbol):
        raise ArgumentError("whether a list contains a number depends on the value of a tensor")
    return CONTAINERS["__contains__"](container, value)


def _to_list(calls: Calls, x: Any, *others: Any) -> Any:
    """Return the elements of a container as a list, or those of a tensor as nested lists of numbers."""
    if not isinstance(x, Tensor):
        return calls.create(CONTAINERS["list"](x))
    known = calls.graph.array(calls.named(x))
    if known is not None:
        budget.take(budget.OBJECT * known.size)
        return known.tolist()
    if not x.rank:
        return calls.operate("item", x)
    if x.shape[0] is None:
        raise ArgumentError("tolist needs a tensor of a known size")
    return calls.create([_to_list(calls, each) for each in calls.elements(x)])


def _element(calls: Calls, container: Any, place: Any) -> Any:
    """Return an element of a container, or a slice of a tensor."""
    if isinstance(container, Tensor):
        return calls.operate("select", container, 0, place)
    if isinstance(container, list) and (isinstance(place, Symbol) or lists.is_long(container)):
        return lists.element(calls, container, place)
    if not isinstance(container, list | tuple | dict | str):
        raise ArgumentError(f"a {type(container).__name__} has no elements")
    return container[as_key(place) if isinstance(container, dict) else place]


def _range_length(calls: Calls, start: Any, end: Any, step: int) -> Any:
    if step == 0:
        raise ArgumentError("the step of a range is 0")
    distance = calls.operate("sub", *((end, start) if step > 0 else (start, end)))
    rounded = calls.operate("floordiv", calls.operate("add", distance, abs(step) - 1), abs(step))
    return calls.operate("prim.max", rounded, 0)


def _range(calls: Calls, *arguments: Any) -> range | Symbol:
    """Return the numbers of iterations, or how many there are."""
    if len(arguments) == 1 and isinstance(arguments[0], Symbol):
        return arguments[0]
    if not all(type(argument) is int for argument in arguments):
        raise ArgumentError("the first iteration or the step of a loop depends on the value of a tensor")
    return range(*arguments)


def _of_batch_sizes(calls: Calls, name: str, sizes: Any, *arguments: Any) -> Any:
    """Apply an operator to the sizes of a packed sequence: the first one, and how many there are."""
    if name == "select" and arguments == (0, 0):
        return calls.tensor(calls.cast(sizes.rows, INT64))
    if name == "size":
        return sizes.longest if arguments else [sizes.longest]
    if name in ("to", "cpu", "detach", "contiguous"):
        return sizes
    raise ArgumentError(f"the operator {name} does not take the sizes of a packed sequence")


def _always(value: Any) -> Callable[..., Any]:
    return lambda calls, *arguments, **keywords: value


def _same(calls: Calls, x: Any, *arguments: Any, **keywords: Any) -> Any:
    return x


# An operator with quantized weights becomes the float operator with dequantized weights. PyTorch also
# quantizes the input, with a scale that depends on all rows of a batch.
def _quantized_layers(name: str, calls: Calls, /, *arguments: Any, **of_cells: Any) -> Any:
    """Run recurrent layers; each direction has a list of weights and biases."""
    return calls.operate(name, *([*chain(*each)] if _are_lists(each) else each for each in arguments))


def _are_lists(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, list) for each in value)


def _quantized_linear(calls: Calls, x: Tensor, weights: list[Tensor], reduce_range: Any = False) -> Any:
    return calls.operate("linear", x, *weights)


def _quantized_cell(
    name: str, calls: Calls, x: Tensor, state: Any, ih: list[Tensor], hh: list[Tensor], *biases: Any
) -> Any:
    """Run a step of a cell. It uses the biases packed with the weights and ignores the arguments."""
    (W, *b_W), (R, *b_R) = ih, hh
    return calls.operate(name, x, state, W, R, *b_W, *b_R)


# operators that are the same for tensors and other values
SPECIAL: dict[str, Callable[..., Any]] = {
    "prim.RaiseException": _raise, "builtin.range": _range,
    "__is__": _is, "__isnot__": lambda calls, a, b: not _is(calls, a, b),
    **dict.fromkeys(("Int", "IntImplicit"), partial(_number, int)),
    **dict.fromkeys(("Float", "FloatImplicit"), partial(_number, float)), "Bool": partial(_number, bool),
    "prim.NumToTensor": lambda calls, value: (
        _to_tensor(calls, value) if isinstance(value, Tensor | Symbol)
        else calls.tensor(calls.constant(value))),
    "tensor": _to_tensor, "as_tensor": _to_tensor,
    "format": lambda calls, template, *values: PLAIN["format"](
        template, *("?" if isinstance(value, Symbol) else value for value in values)
    ),
    **dict.fromkeys(("device", "prim.device", "prim.type"), _always(DEVICE)),
    **dict.fromkeys(("warn", "builtin.print", "set_grad_enabled"), _always(None)),
    **dict.fromkeys(("is_autocast_enabled", "is_grad_enabled", "_is_tracing"), _always(False)),
    "is_scripting": _always(True), "get_autocast_dtype": _always(6),
    "prim.unchecked_unwrap_optional": _same, "prim.unchecked_cast": _same,
    "divmod": lambda calls, a, b: (calls.operate("floordiv", a, b), calls.operate("remainder", a, b)),
    "__range_length": _range_length,
    "__derive_index": lambda calls, index, start, step: (
        calls.operate("add", start, calls.operate("mul", index, step))),
    "__contains__": _contains, **dict.fromkeys(("prim.tolist", "list"), _to_list),
    **dict.fromkeys(("__getitem__", "prim.TupleIndex"), _element),
    **dict.fromkeys(("quantized.linear_dynamic", "quantized.linear_dynamic_fp16"), _quantized_linear),
    **{f"quantized_{name}": partial(_quantized_layers, name) for name in ("lstm", "gru")},
    **{
        f"quantized.quantized_{name}_dynamic": partial(_quantized_cell, name)
        for name in ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
    },
}  # fmt: skip

# what can be said about a tensor without computing anything
QUERIES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("size", "prim.shape", "sym_size"), _size), "len": lambda calls, x: _size(calls, x, 0),
    "dim": lambda calls, x: 2 if isinstance(x, Steps) else len(x.shape), "numel": _count,
    "prim.dtype": lambda calls, x: NUMBERS[x.dtype.name],
    "is_floating_point": lambda calls, x: x.dtype.kind == "f",
    "is_complex": lambda calls, x: x.dtype.kind == "c", "prim.abs": lambda calls, x: calls.call("abs", x),
    **dict.fromkeys(("item", "ScalarImplicit"), lambda calls, x: calls.number(x, lists.kind_of(x))),
    "to": _to, "type_as": _to,
    **dict.fromkeys(("prim.data", "data", "requires_grad_", "pin_memory", "cpu", "cuda"), _same),
    **dict.fromkeys((
        "prim.is_cuda", "prim.requires_grad", "prim.is_quantized", "prim.is_sparse", "prim.is_mkldnn",
        "prim.is_nested", "prim.is_mps", "prim.is_xla", "prim.is_meta",
    ), _always(False)),
    "unbind": lists.unbind, **{name: partial(lists.split, name) for name in ("split", "unsafe_split")},
    "prim.is_cpu": _always(True), "is_contiguous": _always(True), "prim.layout": _always(0),
}  # fmt: skip
