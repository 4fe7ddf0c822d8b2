"""Translate calls of ATen's operators to operations of a graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....core.cell import Cell
from ....errors import ArgumentError, OnwardError
from ....graph.graph import Graph
from ....graph.node import REFUSALS, named
from ....graph.operations import OPERATIONS
from ....graph.structure import leaves
from ....graph.writer import Writer
from .. import exported_program as schema
from . import registry, schemas
from .refusals import reason
from .registry import COPIES, INT64, OPERATORS, PUTS, VIEWS, Operand, Symbol, Tensor, check_complex, ignore

# What arguments of other kinds than those of an operator raise.
DAMAGES = (*REFUSALS, AssertionError, StopIteration, RecursionError, MemoryError)


class Translator(Writer):
    """Adds the nodes of a program to a graph. `metas` describes the values of the nodes at hand.

    Inputs of operations are names, tensors, symbols, integers, lists of integers and symbols, or None if
    omitted.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.node = schema.Node("", [], [], "")
        self.values: dict[str, Any] = {}  # by name in the program
        self.missing: dict[str, str] = {}  # outputs that are not supported, and their nodes
        self.metas: Mapping[str, schema.TensorMeta] = {}
        self.cells: dict[Any, Cell] = {}  # by their weights and options

    # Adding operations.

    def add(self, operation: str, *inputs: Any, **attributes: Any) -> str:
        """Add an operation with one output, or return the value that it equals: values never change."""
        return (
            self.named(inputs[0])
            if operation == "Identity"
            else super().add(operation, *inputs, **attributes)
        )

    def named(self, x: Any) -> str:
        if x is None or isinstance(x, str):
            return x or ""
        if isinstance(x, Tensor):
            return self.read(x).name
        if isinstance(x, int):
            return self.constant(x)
        return self.vector(x) if isinstance(x, Sequence) else str(x.name)

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Return the name of a constant."""
        return self.stored(np.array(value, dtype, order="C"))

    def cast(self, value: Operand, dtype: Any) -> str:
        """Return a value of this dtype; a number becomes a constant without axes."""
        dtype = np.dtype(dtype)
        if isinstance(value, Tensor | Symbol):
            if value.dtype == dtype:
                return self.named(value)
            if dtype.kind == "c":
                return self._as_pairs(value, dtype)
            if value.dtype.kind != "c":
                return self.add("Cast", value, to=dtype)
            is_truth = dtype.kind == "b"  # whether one of the parts is not 0
            real = self.add("ReduceMax", self.add("Abs", value), [-1], keepdims=0) if is_truth else None
            return self.add("Cast", real or self.add("Gather", value, 0, axis=-1), to=dtype)
        if dtype.kind == "c":
            part = np.float32 if dtype == np.complex64 else np.float64
            return self.constant([complex(value).real, complex(value).imag], part)
        with np.errstate(all="ignore"):
            return self.constant(np.asarray(value).astype(dtype))

    def _as_pairs(self, value: Tensor | Symbol, dtype: np.dtype[Any]) -> str:
        part = np.float32 if dtype == np.complex64 else np.float64
        if value.dtype.kind == "c":
            return self.add("Cast", value, to=np.dtype(part))
        real = self.add("Unsqueeze", self.cast(value, part), [-1])
        return self.add("Pad", real, [0, 1], None, [-1])

    def vector(self, values: Sequence[Any]) -> str:
        """Return the name of an integer vector of numbers and symbols."""
        if all(isinstance(value, int) for value in values):
            return self.constant(values, np.int64)
        parts = [
            [value] if isinstance(value, int) else self.add("Reshape", self.cast(value, np.int64), [1])
            for value in values
        ]
        return self.add("Concat", *parts, axis=0)

    def shape(self, x: Tensor) -> str:
        """Return the name of the shape of a tensor."""
        if all(isinstance(size, int) for size in x.shape):
            return self.constant(x.shape, np.int64)
        return self.add("Shape", x, end=x.rank)

    def size(self, x: Tensor, dim: int) -> int | Symbol:
        """Return the size of an axis."""
        size = x.shape[x.axis(dim)]
        if size is not None:
            return size
        return Symbol(self.add("Gather", self.add("Shape", x), x.axis(dim)))

    def sizes(self, x: Tensor) -> list[int | Symbol]:
        """Return the sizes of all axes."""
        return [self.size(x, axis) for axis in range(x.rank)]

    def in_numbers(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments of an operator with known sizes as numbers; here, all sizes are open."""
        return arguments

    def parts(self, x: Tensor, dim: int, length: Any) -> int:
        """Return the number of parts of a length into which the node at hand splits an axis."""
        first = self.node.outputs[0]
        return len(first.value) if first.kind == "as_tensors" else len(self.node.outputs)

    def declared_rank(self) -> int | None:
        """Return the rank of the output of the node at hand, if the program declares it."""
        names = [value["name"] for kind, value in self.node.outputs[:1] if kind == "as_tensor"]
        return len(self.metas[names[0]].sizes) if names and names[0] in self.metas else None

    def check(self, condition: str, message: str, expected: bool = True) -> None:
        """Raise ArgumentError, in a call, unless a condition on the values of the inputs is as expected."""
        self.add("Check", condition, message=message, expected=expected)

    def require(self, comparison: str, a: Any, b: Any, message: str, expected: bool = True) -> None:
        """Raise ArgumentError unless the comparison of two sizes, Equal or LessOrEqual, is as expected.

        The ranges of a program ensure it for sizes that a call decides; a recording checks it in the call.
        """
        is_known = isinstance(a, int) and isinstance(b, int)
        if is_known and (a == b if comparison == "Equal" else a <= b) != expected:
            raise ArgumentError(message)

    def require_multiple(self, x: Tensor, dim: int, divisor: int, message: str) -> None:
        """Raise ArgumentError, now or in a call, unless the size of an axis is a multiple of a number."""
        size = self.size(x, dim)
        rest = size % divisor if isinstance(size, int) else Symbol(self.add("Mod", size, divisor))
        self.require("Equal", rest, 0, message)

    def expect_like(self, name: str, x: Tensor, dtype: np.dtype[Any]) -> None:
        """Note that a value has the shape of a tensor, and a dtype."""

    def array(self, x: Tensor) -> NDArray[Any] | None:
        """Return the value of a tensor that is the same in every call, or None."""
        return self.known(self.read(x).name)

    # Memory that tensors share.

    def read(self, x: Tensor) -> Tensor:
        """Return the tensor with its current value."""
        if x.base is not None and x.version != x.root.version:
            self._separate(x)
        if x.base is not None and x.version != x.root.version:
            assert x.replay is not None
            x.name = x.replay(self.read(x.base))
            x.version = x.root.version
        return x

    def write(self, x: Tensor, value: str) -> None:
        """Give a tensor, and every other one that shares its memory, a new value."""
        self._separate(x)
        if x.base is None:
            x.version += 1
        else:
            base, others = self.read(x.base), self._current_parts(x)
            if x.put is None:
                self.write(base, self._scattered(x, base, value))
            elif not x.parts:
                self.write(base, x.put(base, value))
            elif len(others) + 1 < len(x.parts):
                self.write(base, self._scattered(x, base, value))
            else:
                self.write(base, x.put(base, [value if part is x else part.name for part in x.parts]))
            for part in (x, *others):
                part.version = x.root.version
        x.name = value

    def _separate(self, x: Tensor) -> None:
        """Separate a tensor from its base if it is a copy."""
        is_copy = x.is_copy() if x.is_copy is not None else False
        if is_copy is None:
            raise ArgumentError("the code writes into a tensor that is a view or a copy of another one")
        x.is_copy, x.base = None, None if is_copy else x.base

    def _current_parts(self, x: Tensor) -> list[Tensor]:
        """Return the other parts of the base of a tensor, as far as they have their current values."""
        return [part for part in x.parts if part is not x and part.version == x.root.version]

    def _scattered(self, x: Tensor, base: Tensor, value: str) -> str:
        """Write into the elements of the base that the view selects."""
        assert x.replay is not None
        shape, indices = self.shape(base), self.add("Range", 0, self.add("Size", base), 1)
        places = x.replay(
            dataclasses.replace(base, name=self.add("Reshape", indices, shape, allowzero=1), dtype=INT64)
        )
        flat = [self.add("Reshape", each, [-1]) for each in (base, places, value)]
        return self.add("Reshape", self.add("ScatterElements", *flat), shape, allowzero=1)

    # Translating programs.

    def run(self, graph: schema.Graph, inputs: Sequence[Any]) -> list[Any]:
        """Add the nodes of a graph and return its outputs."""
        values, metas = self.values, self.metas
        self.values, self.metas = {}, graph.tensors
        if len(inputs) != len(graph.inputs):
            raise ArgumentError(f"a graph takes {len(graph.inputs)} inputs, but gets {len(inputs)}")
        for argument, value in zip(graph.inputs, inputs, strict=True):
            self.define(argument, value)
        with self._naming():
            for node in graph.nodes:
                self._enter(node)
                self._add_node(node)
        outputs = [self.argument(output) for output in graph.outputs]
        self.values, self.metas = values, metas
        return outputs

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Name the current node in errors, and restore the previous one afterwards."""
        outer = self.node, self.label
        try:
            yield
        except (OnwardError, *DAMAGES) as error:
            place = f"node {self.node.name} ({_short(self.node.target)})"
            if isinstance(error, OnwardError):
                raise type(error)(named(place, error)) from error
            message = f"{place}: its arguments are not those of the operator: {error}"
            raise ArgumentError(message) from error
        finally:
            self.node, self.label = outer

    def _enter(self, node: schema.Node) -> None:
        """Make a node the current one."""
        self.node, self.label = node, (node.name, _short(node.target))

    def _add_node(self, node: schema.Node) -> None:
        target = _short(node.target)
        domain, _, name = target.partition(".")
        operator, _, overload = name.partition(".")
        in_place = schemas.in_place(operator) if domain == "aten" else ""
        found = f"{in_place}.{overload}" if in_place else name
        key = found if domain == "aten" else target
        if key not in OPERATORS:
            raise ArgumentError(f"the operator {target} is not supported{reason(name)}")
        if OPERATORS[key] is ignore:
            return
        if domain == "aten":
            arguments = {n: self.argument(a) for n, a in node.inputs if n not in schemas.IGNORED}
            self._call(node, key, arguments, bool(in_place))
        else:
            self._define_all(node, OPERATORS[key](self, *(self.argument(a) for _, a in node.inputs)))

    def _call(self, node: schema.Node, key: str, arguments: dict[str, Any], in_place: bool) -> None:
        arguments = schemas.taken(key, OPERATORS[key], schemas.completed(key, arguments))
        lists = ([value] if kind == "as_tensor" else value for kind, value in node.outputs)
        declared = [each["name"] for values in lists for each in values] if key in VIEWS else []
        first = next(iter(arguments.values()), None)
        results = self.apply(
            key, arguments, first, in_place, lambda name, place: self._tensor(name, declared[place])
        )
        self._define_all(node, results)

    def apply(
        self,
        key: str,
        arguments: Mapping[str, Any],
        first: Any,
        in_place: bool,
        tensor: Callable[[str, int], Tensor],
    ) -> Any:
        """Return the outputs of an operator: names, or tensors that share the memory of the first argument.

        `tensor` makes such a tensor from its name and its place among the outputs.
        """
        node = self.node
        check_complex(key, arguments)
        results = self.evaluate(key, arguments, node)
        count = schemas.outputs(key)
        if count > 1 or isinstance(results, tuple):  # None for those that its function does not compute
            results = results if isinstance(results, tuple | list) else (results,)
            results = (*results, *[None] * (count - len(results)))[:count]
            results = results if count > 1 else results[0]
        if in_place and key not in VIEWS:
            if not isinstance(first, Tensor):
                raise ArgumentError(f"an operator changes a {type(first).__name__} in place")
            result = results[0] if isinstance(results, tuple | list) else results
            if result is not first:
                value = result.name if isinstance(result, Tensor) else result
                self.write(first, self._like(first, value, arguments))
            return first
        if key not in VIEWS or not isinstance(first, Tensor):
            return results
        if isinstance(results, Tensor):  # a copy
            results.is_contiguous = tensor(results.name, 0).is_contiguous
            return results
        name, *_ = arguments
        others = {other: value for other, value in arguments.items() if other != name}
        put = partial(PUTS[key], self, **others) if key in PUTS else None
        version = first.root.version

        def view(place: int | None, value: str) -> Tensor:
            def replay(other: Tensor) -> str:
                again = self.evaluate(key, {name: other, **others}, node)
                return again if place is None else again[place]  # type: ignore[no-any-return]  # names

            found = tensor(value, place or 0)
            found.layout = None if COPIES.get(key) else self.moved(first, value)
            if key in COPIES:
                found.is_copy = self.copies(first, found, COPIES[key])
            found.base, found.replay, found.put, found.version = first, replay, put, version
            return found

        if not isinstance(results, tuple | list):
            return view(None, results)
        parts = [view(place, value) for place, value in enumerate(results)]
        for part in parts:
            part.parts = parts
        return parts

    def in_memory_of(self, x: str, value: str) -> Any:
        """Return a value that moves the elements of one in C order; the program declares the layout."""
        return value

    def moved(self, x: Tensor, value: str) -> Any:
        """Return the layout of a value that moves elements of a tensor; the program declares it."""

    def copies(self, x: Tensor, y: Tensor, all_out_of_order: bool) -> Callable[[], bool | None]:
        """Return a function that tells whether a tensor is a copy of another one; None if that is unknown."""
        return lambda: not x.is_contiguous and y.is_contiguous

    def _like(self, x: Tensor, value: str, arguments: Mapping[str, Any]) -> str:
        """Return a value in the dtype of the tensor into which an operator writes it."""
        dtypes = {other.dtype for other in leaves([*arguments.values()]) if isinstance(other, Tensor)}
        maker = next((node for node in reversed(self.graph.nodes) if value in node.outputs), None)
        is_predicate = maker is not None and OPERATIONS[maker.operation].is_predicate
        if x.dtype.kind == "c" or (x.dtype.kind == "f" and dtypes == {x.dtype} and not is_predicate):
            return value
        return self.add("Cast", value, to=x.dtype)

    def evaluate(self, key: str, arguments: Mapping[str, Any], node: schema.Node) -> Any:
        """Call the function of an operator for a node, which errors name."""
        if node is self.node:
            return registry.called(self, key, arguments)
        with self._naming():
            self._enter(node)
            return registry.called(self, key, arguments)

    def _tensor(self, value: str, name: str) -> Tensor:
        meta = self.metas[name]
        shape = tuple(size if isinstance(size, int) else None for size in meta.sizes)
        return Tensor(value, meta.dtype, shape, is_contiguous=meta.is_contiguous)

    def _define_all(self, node: schema.Node, results: Any) -> None:
        """Define the outputs of a node; operators may have further ones, which no model uses."""
        is_list = len(node.outputs) == 1 and node.outputs[0].kind in ("as_tensors", "as_optional_tensors")
        results = (results,) if is_list or not isinstance(results, list | tuple) else results
        for place, output in enumerate(node.outputs):
            self.define(output, results[place] if place < len(results) else None)

    def define(self, output: schema.Argument, value: Any) -> None:
        """Record the value of an output, or of an input of the program; None is one that is not supported."""
        kind, content = output
        if value is None and kind in ("as_tensor", "as_tensors"):
            for each in [content] if kind == "as_tensor" else content:
                self.missing[each["name"]] = f"{self.node.name} ({_short(self.node.target)})"
        elif kind == "as_tensor":
            name, is_tensor = content["name"], isinstance(value, Tensor)
            self.values[name] = value if is_tensor else self._tensor(self.named(value), name)
        elif kind in ("as_tensors", "as_optional_tensors"):
            for each, result in zip(content, value, strict=True):
                self.define(schema.Argument("as_tensor", each.get("as_tensor", each)), result)
        elif kind in ("as_sym_int", "as_sym_float", "as_sym_bool") and "as_name" in content:
            self.values[content["as_name"]] = value

    def argument(self, argument: schema.Argument) -> Any:
        """Return the value of an argument: a tensor, symbol, number, dtype or graph, or a list of these."""
        kind, value = argument
        if kind == "as_tensor":
            return self._find(value["name"])
        if kind in ("as_tensors", "as_nested_tensors"):
            kinds: dict[type, str] = {dict: "as_tensor", list: "as_tensors"}
            return [self.argument(schema.Argument(kinds[type(each)], each)) for each in value]
        if kind == "as_name":
            return self._find(value)
        if kind in ("as_optional_tensors", "as_sym_ints", "as_sym_floats", "as_sym_bools"):
            return [self.argument(schema.Argument("as_sym_int", each)) for each in value]
        if kind in ("as_sym_int", "as_sym_float", "as_sym_bool", "as_optional_tensor"):
            return self.argument(schema.Argument(*next(iter(value.items()))))
        if kind == "as_scalar_type":
            if value not in schema.DTYPES:
                raise ArgumentError(f"the dtype number {value} is not supported")
            return np.dtype(schema.DTYPES[value])
        if kind == "as_complex":
            return complex(value["real"], value["imag"])
        if kind in ("as_none", "as_memory_format", "as_layout", "as_device"):
            return None
        return value

    def _find(self, name: str) -> Any:
        if name in self.missing:
            raise ArgumentError(f"the output {name} of {self.missing[name]} is not supported")
        if name not in self.values:
            raise ArgumentError(f"the value {name} is not defined")
        value = self.values[name]
        return self.read(value) if isinstance(value, Tensor) else value


def _short(target: str) -> str:
    return target.removeprefix("torch.ops.")
