"""Random nodes of ONNX over floats, conditions, sequences and optional values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

Shape = tuple[int | str, ...]
FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
KINDS = {"float": FLOAT, "int": INT, "bool": BOOL}
MAX_DEPTH = 3  # of nested bodies
UNARY = ("Tanh", "Sigmoid", "Neg", "Abs", "Relu", "Softsign", "Sin", "Identity")


class Value(NamedTuple):
    """A value: its kind (float, int, bool, sequence or optional), and its shape or that of its elements.

    The sizes of a shape are numbers or names of sizes that a call decides; a shape of None is unknown.
    """

    name: str
    kind: str
    shape: Shape | None


class Builder:
    """A graph that grows by random nodes; `nodes` are those of the block under construction."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.count, self.depth, self.has_scan = 0, 0, False
        self.nodes: list[onnx.NodeProto] = []
        self.values: list[Value] = []  # those that the block and the blocks around it have defined

    # names, choices and nodes

    def new(self, kind: str, shape: Shape | None, prefix: str = "v") -> Value:
        self.count += 1
        return Value(f"{prefix}{self.count}", kind, shape)

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def add(self, operator: str, *inputs: Value | None, like: Value | None = None, **options: Any) -> Value:
        """Add a node with one output, a float of the shape of its first input unless `like` is given."""
        like = like or inputs[0]
        assert like is not None
        result = self.new(like.kind, like.shape)
        names = [value.name if value else "" for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [result.name], **options))
        self.values.append(result)
        return result

    def constant(self, array: Any, kind: str = "int") -> Value:
        dtype = {"int": np.int64, "float": np.float32, "bool": np.bool_}[kind]
        array = np.asarray(array, dtype)
        value = self.new(kind, array.shape, "c")
        tensor = onnx.numpy_helper.from_array(array, value.name)
        self.nodes.append(helper.make_node("Constant", [], [value.name], value=tensor))
        return value

    def normal(self, *shape: int) -> NDArray[np.float32]:
        return (0.5 * self.rng.standard_normal(shape)).astype(np.float32)

    def of_kind(self, kind: str, test: Callable[[Value], bool] = lambda value: True) -> list[Value]:
        return [value for value in self.values if value.kind == kind and test(value)]

    def any_float(self) -> Value:
        found = self.of_kind("float", lambda value: value.shape is not None)
        return found[self.rng.integers(len(found))]

    @contextmanager
    def block(self, *inputs: Value) -> Iterator[list[onnx.NodeProto]]:
        """Build the nodes of a body, in which the values from around it are visible."""
        nodes, values = self.nodes, self.values
        self.nodes, self.values, self.depth = [], [*values, *inputs], self.depth + 1
        yield self.nodes
        self.nodes, self.values, self.depth = nodes, values, self.depth - 1

    def info(self, value: Value, declares: bool | None = None) -> onnx.ValueInfoProto:
        """The declaration of a value; its shape may be left out."""
        shape = None if value.shape is None else [n if isinstance(n, int) else None for n in value.shape]
        if declares is None:
            declares = bool(self.rng.integers(2))
        if value.kind in ("sequence", "optional"):
            kind = helper.make_tensor_type_proto(FLOAT, None)
            make = (
                helper.make_sequence_type_proto
                if value.kind == "sequence"
                else helper.make_optional_type_proto
            )
            return helper.make_value_info(value.name, make(kind))
        return helper.make_tensor_value_info(value.name, KINDS[value.kind], shape if declares else None)

    def graph(self, inputs: list[Value], outputs: list[Value]) -> onnx.GraphProto:
        """The graph of the nodes of the block."""
        declared = [
            [self.info(value, value.shape == () or None) for value in each] for each in (inputs, outputs)
        ]
        return helper.make_graph(self.nodes, "body", *declared)

    # values of float tensors

    def scalar(self, x: Value) -> Value:
        """The mean of all elements, which is 0 without any."""
        total = self.add("ReduceSum", x, like=Value("", "float", ()), keepdims=0)
        return self.add("Tanh", total)

    def like(self, x: Value) -> Value:
        """A new value of the same shape as x."""
        same = self.of_kind("float", lambda value: value.shape == x.shape)
        match self.rng.integers(5):
            case 0:
                return self.add(str(self.pick(*UNARY)), x)
            case 1:
                return self.add(self.pick("Add", "Mul", "Sub", "Min"), x, same[self.rng.integers(len(same))])
            case 2:
                return self.add("Add", x, self.scalar(self.any_float()), like=x)
            case 3:
                other = self.constant(self.normal(), "float")
                chosen = self.add("Greater", x, other, like=x._replace(kind="bool"))
                return self.add("Where", chosen, self.add("Neg", x), x, like=x)
            case _:
                return self.add("Mul", x, self.constant(self.normal(), "float"), like=x)

    def tensor(self) -> None:
        """Add a float of another shape."""
        x = self.any_float()
        assert x.shape is not None
        fixed = [axis for axis, size in enumerate(x.shape) if isinstance(size, int)]
        match self.rng.integers(7):
            case 0 if len(x.shape) > 1:
                perm = [int(axis) for axis in self.rng.permutation(len(x.shape))]
                self.add("Transpose", x, like=x._replace(shape=tuple(x.shape[a] for a in perm)), perm=perm)
            case 1 if x.shape and x.shape[-1] == 4:
                units = int(self.pick(4, 4, 2))
                W = self.constant(self.normal(4, units), "float")
                if len(x.shape) > 1:
                    self.add("MatMul", x, W, like=x._replace(shape=(*x.shape[:-1], units)))
            case 2 if x.shape:
                axis = int(self.rng.integers(len(x.shape)))
                shape = list(x.shape)
                keep = int(self.rng.integers(2))
                shape[axis : axis + 1] = [1] * keep
                axes = self.constant([axis])
                self.add("ReduceSum", x, axes, like=x._replace(shape=tuple(shape)), keepdims=keep)
            case 3 if fixed:
                axis = fixed[0]
                shape = (*x.shape[:axis], 2 * int(x.shape[axis]), *x.shape[axis + 1 :])
                self.add("Concat", x, self.like(x), like=x._replace(shape=shape), axis=axis)
            case 4 if fixed and x.shape[fixed[0]]:
                axis = fixed[0]
                index = self.constant(int(self.rng.integers(int(x.shape[axis]))))
                shape = (*x.shape[:axis], *x.shape[axis + 1 :])
                self.add("Gather", x, index, like=x._replace(shape=shape), axis=axis)
            case 5 if len(x.shape) < 3:
                axis = int(self.rng.integers(len(x.shape) + 1))
                shape = (*x.shape[:axis], 1, *x.shape[axis:])
                self.add("Unsqueeze", x, self.constant([axis]), like=x._replace(shape=shape))
            case _:
                self.like(x)

    # conditions and counts

    def condition(self) -> Value:
        """One bool: constant, an input, or from values or sizes."""
        flag = Value("", "bool", ())
        match self.rng.integers(5):
            case 0:
                return self.constant(bool(self.rng.integers(2)), "bool")
            case 1 if found := self.of_kind("bool", lambda value: value.shape == ()):
                return found[self.rng.integers(len(found))]
            case 2:
                size = self.add("Size", self.any_float(), like=Value("", "int", ()))
                return self.add("Less", size, self.constant(int(self.rng.integers(20))), like=flag)
            case _:
                limit = self.constant(0.3 * self.normal(), "float")
                return self.add("Greater", self.scalar(self.any_float()), limit, like=flag)

    def number(self) -> Value:
        """A count of iterations: constant, an input, a size, or from values; it may be 0."""
        one = Value("", "int", ())
        match self.rng.integers(5):
            case 0:
                return self.constant(int(self.pick(0, 1, 3, 17)))
            case 1 if found := self.of_kind("int", lambda value: value.shape == ()):
                return found[self.rng.integers(len(found))]
            case 2 if ranked := self.of_kind("float", lambda value: bool(value.shape)):
                x = ranked[self.rng.integers(len(ranked))]
                shape = self.add("Shape", x, like=Value("", "int", (len(x.shape or ()),)))
                return self.add("Gather", shape, self.constant(0), like=one)
            case 3:
                kept = self.add(
                    "Greater", self.any_float(), self.constant(0.0, "float"), like=Value("", "bool", None)
                )
                ones = self.add("Cast", kept, like=Value("", "int", None), to=INT)
                total = self.add("ReduceSum", ones, like=one, keepdims=0)
                return self.add("Mod", total, self.constant(4), like=one)
            case _:
                return self.constant(int(self.pick(0, 2, 5)))

    # sequences and optional values

    def sequence(self) -> Value:
        """A sequence of some arrays, or of none."""
        x = self.any_float()
        kind = Value("", "sequence", x.shape)
        match self.rng.integers(5):
            case 0:
                return self.add("SequenceConstruct", x, self.like(x), self.like(x), like=kind)
            case 1:
                result = self.new("sequence", x.shape)
                self.nodes.append(helper.make_node("SequenceEmpty", [], [result.name], dtype=FLOAT))
                self.values.append(result)
                return self.add("SequenceInsert", result, x, like=kind) if self.rng.integers(2) else result
            case 2 if x.shape:
                axis = int(self.rng.integers(len(x.shape)))
                keep = int(self.rng.integers(2))
                shape = (*x.shape[:axis], *([1] if keep else []), *x.shape[axis + 1 :])
                return self.add(
                    "SplitToSequence", x, like=kind._replace(shape=shape), axis=axis, keepdims=keep
                )
            case 3 if found := self.of_kind("sequence"):
                return self.changed(found[self.rng.integers(len(found))])
            case _:
                return self.add("SequenceConstruct", x, like=kind)

    def changed(self, sequence: Value) -> Value:
        """The sequence with an array inserted or erased."""
        same = self.of_kind("float", lambda value: value.shape == sequence.shape)
        if same and self.rng.integers(3):
            x = self.like(same[self.rng.integers(len(same))])
            place = self.pick(None, self.constant(0))
            return self.add("SequenceInsert", sequence, x, *([place] if place else []))
        # erasing the first array of an empty sequence is an error: insert one before
        x = same[0] if same else self.any_float()
        longer = self.add("SequenceInsert", sequence, x, like=sequence._replace(shape=None))
        return self.add("SequenceErase", longer, self.constant(self.pick(0, -1)), like=sequence)

    def use_sequence(self) -> None:
        """Add a value from a sequence."""
        sequence = self.sequence()
        one = Value("", "int", ())
        length = self.add("SequenceLength", sequence, like=one)
        x = self.any_float()
        longer = self.add("SequenceInsert", sequence, x, like=sequence._replace(shape=None))
        match self.rng.integers(4):
            case 0:
                self.add("SequenceAt", longer, self.constant(self.pick(0, -1)), like=Value("", "float", None))
            case 1 if sequence.shape is not None and sequence.shape == x.shape:
                joined = self.add(
                    "ConcatFromSequence", longer, like=Value("", "float", None), axis=0, new_axis=1
                )
                self.scalar(joined)
            case 2 if self.depth < MAX_DEPTH:
                self.sequence_map(sequence)
            case _:
                self.add("Cast", length, like=Value("", "float", ()), to=FLOAT)

    def sequence_map(self, sequence: Value) -> None:
        each = self.new("float", sequence.shape, "each")
        with self.block(each):
            y = self.like(each) if each.shape is not None else self.add("Tanh", each)
            captured = self.scalar(self.any_float())
            y = self.add("Add", y, captured, like=y)
            body = self.graph([each], [y])
        self.add("SequenceMap", sequence, body=body)

    def optional(self) -> None:
        """Add a value from an optional value."""
        x = self.any_float()
        optional = self.add("Optional", x, like=x._replace(kind="optional"))
        has = self.add("OptionalHasElement", optional, like=Value("", "bool", ()))
        y = self.add("OptionalGetElement", optional, like=x)
        number = self.add("Cast", has, like=Value("", "float", ()), to=FLOAT)
        self.add("Mul", y, number, like=x)
