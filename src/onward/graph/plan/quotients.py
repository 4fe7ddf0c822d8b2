"""Follow sizes through a division of floats, as exporters write the number of windows of a sequence."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..node import AnyArray, Node
from ..operations.value import Value
from ..sized import SIZES, has_sizes, integers

ROUNDINGS = ("Ceil", "Floor")
LARGEST_DIVISOR = 1 << 20  # so that float32 has it, and quotients by it round to no other integer


class Quotient(NamedTuple):
    """A value divided by an integer in floats of a dtype; the result is rounded, and cast to integers."""

    name: str
    divisor: int
    rounding: str  # Ceil, Floor or "", which truncates
    dtype: np.dtype[Any]


def quotient_of(
    node: Node, makers: Mapping[str, Node], values: Mapping[str, Value | None]
) -> Quotient | None:
    """Return the quotient that a node casts to integers, or None if it does something else."""
    if node.operation != "Cast" or node.attributes.get("to") not in SIZES:
        return None
    rounding, maker = "", makers.get(node.inputs[0])
    if maker is not None and maker.operation in ROUNDINGS:
        rounding, maker = maker.operation, makers.get(maker.inputs[0])
    if maker is not None and (maker.operation, maker.attributes.get("to")) == ("Cast", np.float64):
        maker = makers.get(maker.inputs[0])  # of floats, which are exact in float64
    if maker is None or maker.operation not in ("Div", "Mul") or len(maker.inputs) != 2:
        return None
    cast, by = makers.get(maker.inputs[0]), values.get(maker.inputs[1])
    if cast is None or cast.operation != "Cast" or by is None or not by.known or by.array.shape != ():
        return None
    if by.dtype not in (np.float32, np.float64) or cast.attributes.get("to") != by.dtype:
        return None
    divisor = by.array.item()
    if maker.operation == "Mul":  # which is exact for a power of two
        divisor = 1 / divisor if abs(np.frexp(divisor)[0]) == 0.5 else 0
    is_whole = 1 <= divisor < LARGEST_DIVISOR and divisor == int(divisor)
    return Quotient(cast.inputs[0], int(divisor), rounding, by.dtype) if is_whole else None


def divided_sizes(
    node: Node, makers: Mapping[str, Node], values: Mapping[str, Value | None]
) -> AnyArray | None:
    """Return the quotients of sizes that a node casts; None if it does not, or floats may not be exact."""
    quotient = quotient_of(node, makers, values)
    value = None if quotient is None else values[quotient.name]
    if quotient is None or value is None or not has_sizes(value.array):
        return None
    sizes: Any = value.array
    exact = 1 << np.finfo(quotient.dtype).nmant
    if not all(-exact < size < exact for size in sizes.flat):
        return None
    if not quotient.rounding and any(size < 0 for size in sizes.flat):
        return None
    above = quotient.divisor - 1 if quotient.rounding == "Ceil" else 0
    return integers((sizes + above) // quotient.divisor, node.attributes["to"])  # type: ignore[no-any-return]
