"""What Onward's operators of ONNX share: names in errors, dtypes, and what is made once of constants."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import onnx
from numpy.typing import NDArray

from ...core import arrays
from ...errors import DtypeError

AnyArray = NDArray[Any]
Made = TypeVar("Made")

# what numbers are computed in
COMPUTE_DTYPES = {
    "float16": arrays.FLOAT32,
    "bfloat16": arrays.FLOAT32,
    "float32": arrays.FLOAT32,
    "float64": arrays.FLOAT64,
}


def described(node: onnx.NodeProto) -> str:
    """A node as errors name it."""
    name = node.name or ", ".join(filter(None, node.output))
    return f"node {name} ({node.domain + '.' if node.domain else ''}{node.op_type})"


def floats(name: str, array: AnyArray | None) -> Any:
    """An input of a node in the precision that it is computed in."""
    if array is None:
        return None
    if array.dtype.name not in COMPUTE_DTYPES:
        raise DtypeError(f"{name} has dtype {array.dtype}, but must have one of {', '.join(COMPUTE_DTYPES)}")
    return array.astype(COMPUTE_DTYPES[array.dtype.name], copy=False)


class Cached(Generic[Made]):
    """Calls `make` with arrays, and keeps what it makes of them until others come.

    Arrays that a graph holds stay the same objects from call to call, and nobody writes to them.
    """

    def __init__(self, make: Callable[..., Made]) -> None:
        self._make = make
        self._cached: tuple[tuple[AnyArray | None, ...], Made] | None = None

    def __call__(self, *given: AnyArray | None) -> Made:
        kept = self._cached
        if kept is None or any(a is not b for a, b in zip(given, kept[0], strict=True)):
            kept = self._cached = given, self._make(*given)
        return kept[1]
