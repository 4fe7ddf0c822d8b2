"""One operation of a graph: its inputs and outputs, attributes and NumPy implementation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

AnyArray = NDArray[Any]


@dataclass(frozen=True)
class Node:
    """An operation, under its ONNX name, with the names of its inputs ("" if omitted) and outputs.

    `run` computes the operation in NumPy: it takes the input arrays, None for an omitted one, and returns
    the output arrays. `branches` holds the nodes and the output names of both branches of an If. `layer`
    builds the layer that runs a recurrent operation from its weights.
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
