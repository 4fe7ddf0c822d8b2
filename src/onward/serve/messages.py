"""The content of messages: the inputs and outputs of one or more steps, as bytes or as JSON."""

import json
import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DtypeError, ShapeError

AnyArray = NDArray[Any]
PIECE = 1000  # numbers that are written as JSON at once
NAMES = {str: "text", dict: "objects", list: "lists beside numbers", type(None): "null", float: "fractions"}
# of all streams of a call: an array (n, T, ...), or an array (T, ...) for each if their lengths differ
Output = AnyArray | list[AnyArray]


class Port(NamedTuple):
    """An input of one step of one stream. A size that the model leaves open is None."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class Input(NamedTuple):
    """The bytes of a message in order of the inputs, and whether it is JSON and has no time axis."""

    payload: bytes
    is_json: bool = False
    is_step: bool = False

    @property
    def is_end(self) -> bool:
        """Whether it holds no step, and ends the sequence."""
        return not self.payload


class InputFormat:
    """Decodes messages: the inputs of T >= 1 steps, each as bytes in order, or as JSON by name.

    An empty message ends the sequence: it asks for the last steps.
    """

    def __init__(self, ports: Sequence[Port]) -> None:
        self.ports = ports
        sizes = [[size for size in port.shape if size is not None] for port in ports]
        unknown = sum(None in port.shape for port in ports)
        if unknown and (len(ports) > 1 or ports[0].shape.count(None) > 1):
            names = ", ".join(port.name for port in ports)
            raise ArgumentError(f"cannot tell the sizes of {names} from the size of a message")
        self.is_open = bool(unknown)
        self._sizes = [
            math.prod(known) * port.dtype.itemsize for known, port in zip(sizes, ports, strict=True)
        ]
        self.step_bytes = sum(self._sizes)  # if a size is open, the smallest

    def from_bytes(self, payload: bytes) -> Input:
        """Check a binary message. Raises ShapeError unless it holds one or more steps."""
        if not payload or len(payload) % self.step_bytes:
            inputs = ", ".join(f"{port.name} {list(port.shape)} {port.dtype}" for port in self.ports)
            raise ShapeError(
                f"a message has {len(payload)} bytes, but must hold a multiple of {self.step_bytes}: {inputs}"
            )
        return Input(payload)

    def from_json(self, text: bytes) -> Input:
        """Check a message in JSON. Raises ArgumentError, ShapeError, DtypeError."""
        return self.from_object(parsed(text))

    def from_object(self, data: Any) -> Input:
        """Check an object from JSON, the inputs by name; a model with one input also takes its bare value.

        Raises ArgumentError, ShapeError, DtypeError.
        """
        names = [port.name for port in self.ports]
        if not isinstance(data, dict) and len(names) == 1:
            data = {names[0]: data}
        if not isinstance(data, dict) or set(data) != set(names):
            raise ArgumentError(f"a JSON message must be an object with the keys {', '.join(names)}")
        arrays = [_array(port, data[port.name]) for port in self.ports]
        has_time = [array.ndim > len(port.shape) for port, array in zip(self.ports, arrays, strict=True)]
        blocks = [array if timed else array[None] for array, timed in zip(arrays, has_time, strict=True)]
        lengths = {len(block) for block in blocks}
        if len(lengths) > 1 or 0 in lengths or (self.is_open and lengths != {1}):
            raise ShapeError(f"the inputs have {sorted(lengths)} steps, but need the same number, at least 1")
        (length,) = lengths
        payload = np.concatenate([block.reshape(length, -1).view(np.uint8) for block in blocks], axis=1)
        return Input(payload.tobytes(), is_json=True, is_step=not any(has_time))

    def arrays(self, inputs: Sequence[Input]) -> list[AnyArray]:
        """Return each input of several messages of equal size as an array (n, T, ...)."""
        steps = 1 if self.is_open else len(inputs[0].payload) // self.step_bytes
        data = np.frombuffer(b"".join([each.payload for each in inputs]), np.uint8)
        rows = data.reshape(len(inputs), steps, -1)
        ends = [rows.shape[2]] if self.is_open else np.cumsum(self._sizes).tolist()
        blocks = [
            np.ascontiguousarray(rows[:, :, start:end]).view(port.dtype)
            for port, start, end in zip(self.ports, [0, *ends], ends, strict=False)
        ]
        return [
            block.reshape(*rows.shape[:2], *(-1 if size is None else size for size in port.shape))
            for port, block in zip(self.ports, blocks, strict=True)
        ]


def parsed(text: bytes) -> Any:
    """Return the object in a JSON text. Raises ArgumentError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"expected JSON: {error}") from None


def _array(port: Port, value: Any) -> AnyArray:
    """Return a value of JSON as an array of one step or of a block.

    Its shape and the types of its numbers are checked before NumPy sees it: an array of strings takes as much
    memory for each as the longest one needs.
    """
    shape, items = list[int](), [value]
    while items and all(isinstance(item, list) for item in items):
        (length, *others) = {len(item) for item in items}
        if others or not length or len(shape) > len(port.shape):
            raise ShapeError(f"{port.name} is not a regular array of one step {list(port.shape)} or a block")
        shape.append(length)
        items = list(chain.from_iterable(items))
    allowed = {bool, int, float} if port.dtype.kind == "f" else {bool, int}
    if wrong := {type(item) for item in items} - allowed:
        names = ", ".join(sorted(NAMES[each] for each in wrong))
        raise DtypeError(f"{port.name} holds {names}, but must hold numbers of dtype {port.dtype}")
    if not any(_fits(found, port.shape) for found in (shape, shape[1:])):
        expected = f"one step {list(port.shape)} or a block of steps"
        raise ShapeError(f"{port.name} has shape {tuple(shape)}, but must be {expected}")
    try:
        numbers = np.array(items, np.float64 if port.dtype.kind == "f" else np.int64)
    except OverflowError as error:
        raise DtypeError(f"{port.name} holds a number beyond {port.dtype}: {error}") from None
    with np.errstate(all="ignore"):
        array = numbers.astype(port.dtype).reshape(shape)
    if port.dtype.kind != "f" and (array.ravel() != numbers).any():
        raise DtypeError(f"{port.name} holds numbers that {port.dtype} cannot hold")
    return array


def _fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(b in (None, a) for a, b in zip(shape, expected, strict=True))


def to_bytes(outputs: Sequence[Output], n: int) -> list[bytes]:
    """Return the answer to each of n streams: its outputs as bytes, in order."""
    if any(isinstance(output, list) for output in outputs):
        return [b"".join([np.ascontiguousarray(output[i]).tobytes() for output in outputs]) for i in range(n)]
    parts = [np.ascontiguousarray(output).reshape(n, -1).view(np.uint8) for output in outputs]
    return [row.tobytes() for row in (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))]


def to_json(names: Sequence[str], outputs: Sequence[AnyArray], is_step: bool) -> bytes:
    """Return the outputs (T, ...) of one stream as a JSON object, with null for numbers that JSON lacks.

    It is written in pieces, between which other threads run.
    """
    parts = []
    for name, output in zip(names, outputs, strict=True):
        y = output[0] if is_step and len(output) == 1 else output
        parts.append(f"{json.dumps(name)}: {_text(y)}")
    return f"{{{', '.join(parts)}}}".encode()


def _text(y: AnyArray) -> str:
    """Return an array as JSON."""
    if y.size > PIECE and y.ndim:
        rows = max(1, PIECE * len(y) // y.size)
        if rows == 1:
            return f"[{', '.join(_text(row) for row in y)}]"
        return f"[{', '.join(_text(y[first : first + rows])[1:-1] for first in range(0, len(y), rows))}]"
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        y = y.astype(object)
        y[~np.isfinite(y.astype(np.float64))] = None
    return json.dumps(y.tolist())
