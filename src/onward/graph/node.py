"""One operation of a graph: what it computes, on which values, and what it means in NumPy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

AnyArray = NDArray[Any]


@dataclass(frozen=True)
class Node:
    """An operation under ONNX's name, the names of its inputs ("" for one left out) and of its outputs.

    `run` is its meaning in NumPy: it takes the inputs' arrays, None for one left out, and returns the
    outputs'. `branches` of an If are the nodes of its two branches and the names of their outputs. `layer`
    of a recurrent operation returns the layer that runs it, made of its known weights.
    """

    operation: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    run: Callable[..., Sequence[Any]]
    is_pure: bool = True
    branches: tuple[tuple[list["Node"], tuple[str, ...]], ...] = ()
    layer: Callable[..., Any] | None = field(default=None)
