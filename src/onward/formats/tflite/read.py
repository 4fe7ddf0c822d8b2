"""Read and check files of TensorFlow Lite: subgraphs of tensors, some of them constant, and operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from ...core import budget
from ...errors import FileError
from ...graph.node import AnyArray
from .flatbuffer import Reader
from .schema import OPERATORS, OPTIONS, TABLES, TYPES

OMITTED = -1  # the number of a tensor that an operator does not have
CUSTOM = "CUSTOM"
REFUSED = "bfloat16 int2 uint4 string resource variant complex64 complex128".split()  # types of values
NO_SCALES, NO_ZERO_POINTS = np.zeros(0, np.float32), np.zeros(0, np.int64)


@dataclass(eq=False)
class Tensor:
    """A tensor: -1 stands for an open size; `scales` is empty unless it holds integers for real numbers."""

    name: str
    type: str
    axes: tuple[int, ...]
    data: AnyArray | None = None
    scales: AnyArray = field(default_factory=lambda: NO_SCALES)
    zero_points: AnyArray = field(default_factory=lambda: NO_ZERO_POINTS)
    axis: int = 0
    is_variable: bool = False
    integers: Tensor | None = None  # if it has the real numbers that those of another tensor stand for

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which callers pass or get it. Raises FileError."""
        if self.type in REFUSED or self.type not in TYPES.values():
            raise FileError(f"the tensor {self.name} has the type {self.type}, which Onward does not support")
        return np.dtype("int8" if self.type == "int4" else self.type)

    @property
    def inner_dtype(self) -> np.dtype[Any]:
        """The dtype in which the graph holds it: the core has no int16. Raises FileError."""
        return np.dtype(np.int32) if self.dtype == np.int16 else self.dtype

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest integer of its type."""
        limits = np.iinfo(self.dtype)
        return int(limits.min), int(limits.max)

    @property
    def declared_axes(self) -> tuple[int | str, ...]:
        """Its axes as a graph declares them."""
        return tuple("" if size < 0 else size for size in self.axes)

    @property
    def scale(self) -> float:
        """The only scale, as the reference kernels read it."""
        return float(self.scales[0])

    @property
    def per_channel(self) -> AnyArray:
        """The scales along its axis, or the only one as an array of rank 0."""
        return self.scales if len(self.scales) > 1 else self.scales.reshape(())

    @property
    def zero_point(self) -> int:
        """The only zero point."""
        return int(self.zero_points[0]) if len(self.zero_points) else 0

    def steps_of(self, *factors: Tensor) -> float:
        """Return how many steps of its integers the product of one step of each factor is, in float32."""
        with np.errstate(all="ignore"):  # an infinite or undefined factor is refused where it is used
            return float(np.prod([np.float32(x.scale) for x in factors]) / np.float32(self.scale))

    @property
    def is_quantized(self) -> bool:
        """Whether its integers stand for real numbers."""
        return bool(len(self.scales)) and self.type in ("int8", "uint8", "int16", "int32", "int4", "int64")


# The tables of a file, its subgraphs, operators and signatures, with checked numbers. Operators also have a
# `kind` and decoded `options`. The inputs and outputs of signatures map tensors to names.
Model = SimpleNamespace
Subgraph = SimpleNamespace
Operator = SimpleNamespace
Signature = SimpleNamespace


def read(data: Any) -> Model:
    """Read the content of a file; constants are views of it. Raises FileError."""
    with budget.of_file(len(data)):
        reader = Reader(data, TABLES | OPTIONS)
        model = reader.root("Model")
        if model.version != 3:
            raise FileError(f"the file has version {model.version} of the schema; expected 3")
        if not model.subgraphs:
            raise FileError("the file has no subgraph; expected a complete model")
        buffers = [_content(reader, buffer) for buffer in model.buffers]
        kinds = [_operator_kind(code) for code in model.operator_codes]
        for subgraph in model.subgraphs:
            subgraph.tensors = [_tensor(table, buffers) for table in subgraph.tensors]
            _complete(subgraph, reader, kinds)
        for signature in model.signature_defs:
            _name_tensors(signature, model.subgraphs)
        return model


def subgraph_of(model: Model, number: int, inputs: int, outputs: int | None = None) -> Subgraph:
    """Return a subgraph that takes and returns so many values. Raises FileError."""
    if not 0 <= number < len(model.subgraphs):
        raise FileError(f"it refers to subgraph {number}; the file has {len(model.subgraphs)}")
    found: Subgraph = model.subgraphs[number]
    taken, returned = len(found.inputs), len(found.outputs)
    if taken != inputs or outputs not in (None, returned):
        expected = f"{inputs} inputs" if outputs is None else f"{inputs} inputs and {outputs} outputs"
        raise FileError(
            f"the subgraph {found.name} has {taken} inputs and {returned} outputs; expected {expected}"
        )
    return found


def _content(reader: Reader, buffer: SimpleNamespace) -> AnyArray:
    """Return the bytes of a buffer, which large files keep behind the tables."""
    if buffer.offset > 1:
        if buffer.offset + buffer.size > len(reader.data):
            raise FileError(
                f"a buffer ends at byte {buffer.offset + buffer.size}, behind the end of the file"
            )
        return np.frombuffer(reader.data, np.uint8, buffer.size, buffer.offset)
    content: AnyArray = buffer.data
    return content


def _operator_kind(code: SimpleNamespace) -> str:
    """Return the name of an operator; that of a custom one follows a colon."""
    number = max(code.code, code.old_code)  # old files have numbers below 128 in the old field alone
    kind = OPERATORS.get(number, f"BUILTIN_{number}")
    return f"{CUSTOM}:{code.custom_code}" if kind == CUSTOM else kind


def _complete(subgraph: Subgraph, reader: Reader, kinds: Sequence[str]) -> None:
    """Check the numbers of tensors in a subgraph, and add the kinds and the options of its operators."""

    def checked(numbers: AnyArray, what: str) -> list[int]:
        found: list[int] = numbers.tolist()
        budget.spend(budget.STEP * len(found))
        wrong = [number for number in found if not OMITTED <= number < len(subgraph.tensors)]
        if wrong:
            raise FileError(
                f"{what} refers to the tensor {wrong[0]}; the subgraph has {len(subgraph.tensors)}"
            )
        return found

    for number, each in enumerate(subgraph.operators):
        if each.code >= len(kinds):
            raise FileError(f"operator {number} has the code {each.code}; the file has {len(kinds)}")
        each.number, each.kind = number, kinds[each.code]
        each.options = reader.table(each.kind, each.options, 1)
        for key in ("inputs", "outputs", "intermediates"):
            setattr(each, key, checked(getattr(each, key), f"operator {number} ({each.kind})"))
    for key in ("inputs", "outputs"):
        setattr(subgraph, key, checked(getattr(subgraph, key), f"the subgraph {subgraph.name}"))
    if OMITTED in (*subgraph.inputs, *subgraph.outputs):
        raise FileError(f"the subgraph {subgraph.name} has an input or output without a tensor")


def _tensor(table: SimpleNamespace, buffers: Sequence[AnyArray]) -> Tensor:
    name, type_ = table.name, TYPES.get(table.type, str(table.type))
    shape = table.shape.tolist()
    if min(shape, default=0) < 0:
        raise FileError(f"the tensor {name} has the shape {shape}; expected sizes of at least 0")
    open_axes = table.shape_signature.tolist()
    axes: Any = shape
    if len(open_axes) == len(shape):
        axes = [-1 if size < 0 else known for size, known in zip(open_axes, shape, strict=True)]
    if table.buffer >= max(1, len(buffers)):
        raise FileError(f"the tensor {name} refers to the buffer {table.buffer}; the file has {len(buffers)}")
    content = buffers[table.buffer] if buffers else np.zeros(0, np.uint8)
    data = None
    if len(content) or (0 in shape and table.buffer and not table.is_variable):
        data = _constant(name, type_, shape, content)
    if table.sparsity and data is not None:
        raise FileError(f"the tensor {name} is sparse; convert the model without sparse weights")
    found = Tensor(name, type_, tuple(axes), data, is_variable=table.is_variable)
    if (numbers := table.quantization) is not None:
        found.scales, found.zero_points, found.axis = numbers.scale, numbers.zero_point, numbers.axis
        _check_quantization(found, shape)
    return found


def _constant(name: str, type_: str, shape: Sequence[int], content: AnyArray) -> AnyArray | None:
    """Return the constant of a tensor as a view of the file, or None for a type that NumPy does not have."""
    count = math.prod(shape)
    if type_ == "int4":
        budget.charge(4 * count, 2 * count)
        _check_size(name, -(-count // 2), content)
        nibbles = np.stack([content << 4, content & 0xF0], -1).astype(np.uint8).view(np.int8) >> 4
        return nibbles.reshape(-1)[:count].reshape(shape)
    try:
        dtype = np.dtype(type_)
    except TypeError:
        return None
    _check_size(name, count * dtype.itemsize, content)
    if dtype.kind == "b":
        content = (content != 0).view(np.uint8)
    numbers: AnyArray = content.view(dtype.newbyteorder("<")).reshape(shape)
    return numbers


def _check_size(name: str, expected: int, content: AnyArray) -> None:
    if len(content) != expected:
        raise FileError(f"the tensor {name} takes {expected} bytes, but its buffer has {len(content)}")


def _check_quantization(tensor: Tensor, shape: Sequence[int]) -> None:
    name, scales, axis, count = tensor.name, tensor.scales, tensor.axis, len(tensor.scales)
    if len(tensor.zero_points) not in (0, 1, count):
        raise FileError(f"the tensor {name} has {count} scales, but {len(tensor.zero_points)} zero points")
    if count > 1 and not (0 <= axis < len(shape) and shape[axis] == count):
        raise FileError(f"the tensor {name} of shape {shape} has {count} scales along axis {axis}")
    if count and not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise FileError(f"the tensor {name} has a scale that is negative, infinite or NaN")


def _name_tensors(signature: Signature, subgraphs: Sequence[Subgraph]) -> None:
    """Map the inputs and outputs of a signature to their names."""
    what, number = f"the signature {signature.key}", signature.subgraph
    if number >= len(subgraphs):
        raise FileError(f"{what} has subgraph {number}; the file has {len(subgraphs)}")
    for key in ("inputs", "outputs"):
        names = {each.tensor: each.name for each in getattr(signature, key)}
        if names.keys() != set(getattr(subgraphs[number], key)):
            raise FileError(f"{what} does not name the inputs and outputs of its subgraph")
        setattr(signature, key, names)
