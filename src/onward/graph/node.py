"""The nodes of a graph, their names in errors, and the signatures of the values between them."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..core.identity import Identity
from ..errors import ArgumentError, LimitError, MemoryLimitError, OnwardError
from .size import hint, is_symbolic
from .sized import dtype_of, has_sizes, integers_of

AnyArray = NDArray[Any]
MAX_AXES = 16  # of a value; the core's limit for a view


class Signature(NamedTuple):
    """The shape and dtype of a value."""

    shape: tuple[Any, ...]  # of integers and sizes
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: Any) -> "Signature":
        """Return the signature of an array."""
        return cls(array.shape, dtype_of(array))

    def of_dtype(self, dtype: DTypeLike) -> "Signature":
        """Return the signature of an array of the same shape with another dtype."""
        return Signature(self.shape, np.dtype(dtype))


def with_integers(signatures: Sequence[Signature] | None) -> Sequence[Signature] | None:
    """Return signatures with the dtypes of integers in place of those of arrays of sizes."""
    if not any([signature.dtype.hasobject for signature in signatures or ()]):
        return signatures
    return [Signature(shape, integers_of(dtype)) for shape, dtype in signatures or ()]


# What is known about an input or an output of an operation: the array itself, or its shape and dtype.
Operand = AnyArray | Signature


def with_size(x: Operand, axis: int, size: Any) -> Signature:
    """Return the signature of a value like x in which an axis has another size."""
    return Signature((*x.shape[:axis], size, *x.shape[axis + 1 :]), dtype_of(x))


def in_first_call(x: Any) -> Any:
    """Return an operand with the sizes that it has in the first call."""
    if type(x) is Signature:
        return Signature(tuple(map(hint, x.shape)), x.dtype) if is_symbolic(x.shape) else x
    if isinstance(x, np.ndarray) and has_sizes(x):
        return np.array(list(map(hint, x.flat)), np.int64).reshape(x.shape)
    return x


class Expansion(NamedTuple):
    """The nodes and constants that replace a node, and those results of the nodes that are known already."""

    nodes: list["Node"]
    constants: dict[str, AnyArray]
    known: Mapping[str, AnyArray] = MappingProxyType({})

    def rest(self) -> list["Node"]:
        """The nodes whose results are not known, and those without results, which check something."""
        return [node for node in self.nodes if not node.outputs or not self.known.keys() >= {*node.outputs}]


class Node(NamedTuple):
    """One application of an operation to values.

    `operation` names an entry of `operations.OPERATIONS`. `inputs` and `outputs` are names of values; ""
    stands for an omitted input or an unused output. `name` and `source` are what the source file calls the
    node and its operator.
    """

    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    name: str
    source: str = ""

    @property
    def captured(self) -> int:
        """How many of the last inputs are values from around the bodies; all but the condition of an If."""
        default = len(self.inputs) - 1 if self.operation == "If" else 0
        captured: int = self.attributes.get("captured", default)
        return captured

    def with_inputs(self, *inputs: str) -> "Node":
        """Return the node with other inputs."""
        return self._replace(inputs=inputs)

    def with_outputs(self, *outputs: str) -> "Node":
        """Return the node with other outputs."""
        return self._replace(outputs=outputs)

    def with_attributes(self, attributes: Mapping[str, Any]) -> "Node":
        """Return the node with other attributes."""
        return self._replace(attributes=attributes)

    def with_operation(self, operation: str) -> "Node":
        """Return the node of another operation, with the same inputs, outputs and attributes."""
        return self._replace(operation=operation)

    def returning(self, needed: set[str]) -> "Node":
        """Return the node without the outputs that are not needed."""
        if needed.issuperset(self.outputs):
            return self
        return self.with_outputs(*[name if name in needed else "" for name in self.outputs])

    def with_name(self, name: str) -> "Node":
        """Return the node with another name."""
        return self._replace(name=name)

    def __str__(self) -> str:
        """The node in errors."""
        return f"node {self.name} ({self.source or self.operation})"


def described(attributes: Mapping[str, Any]) -> str:
    """Return a text that is equal for equal attributes, or "" if their representations do not tell."""
    items = sorted(attributes.items())
    return repr(items) if all([_is_plain(value) for _, value in items]) else ""


def _is_plain(value: Any) -> bool:
    """Return whether an attribute equals another one exactly if their representations are equal."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | np.dtype | type)


def needed_nodes(
    nodes: Sequence[Node], needed: set[str], keeps: Callable[[Node], bool] | None = None
) -> list[Node]:
    """Return the nodes that some values depend on, and those to keep; add what they read to the values."""
    found = []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.outputs) or (keeps is not None and keeps(node)):
            found.append(node)
            needed.update(node.inputs)
            needed.discard("")
    return found[::-1]


def size_of(signatures: Iterable[Signature]) -> int:
    """Return how many bytes values with these signatures take, in the first call if sizes are symbolic."""
    return sum([math.prod(map(hint, s.shape)) * s.dtype.itemsize for s in signatures])


def held_by(values: Iterable[Any]) -> int:
    """Return the bytes that values keep alive: arrays with those that they are views of, texts, sequences."""
    owners: dict[Identity, int] = {}
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, np.ndarray):
            while isinstance(value.base, np.ndarray):
                value = value.base
            if value.dtype.hasobject and Identity(value) not in owners:
                waiting += value.flat
            owners[Identity(value)] = value.nbytes
        elif isinstance(value, str):
            owners[Identity(value)] = sys.getsizeof(value)
    return sum(owners.values())


def named(node: Node | str, error: Exception) -> str:
    """Return the message of an error, with the node or text that names its place unless the message does."""
    message = str(error)
    return message if message.startswith(("node ", "code/")) else f"{node}: {message}"


# What an operation raises for what it does not accept, such as None for an omitted input, or a mode that does
# not exist.
REFUSALS = OnwardError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError
DEEP = RecursionError(
    "Python's stack is full, because branches or the calls around the model are nested too deeply; raise the "
    "limit with sys.setrecursionlimit"
)


class Naming:
    """Names the present node in errors; NumPy's, for values that it does not accept, become ArgumentError."""

    __slots__ = ("node",)

    def __init__(self, node: Node | None = None) -> None:
        self.node = node

    def __enter__(self) -> "Naming":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is None or self.node is None:
            return
        if isinstance(error, OnwardError):
            raise type(error)(named(self.node, error)) from error
        if isinstance(error, MemoryError):
            raise MemoryLimitError(named(self.node, error)) from error
        if isinstance(error, RecursionError):
            raise LimitError(named(self.node, DEEP)) from error
        if isinstance(error, REFUSALS):
            raise ArgumentError(named(self.node, error)) from error
