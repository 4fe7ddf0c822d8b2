"""Find the inputs of a graph whose elements decide sizes.

The elements of such an input are axes of a program, as the sizes of the inputs are. So one program runs for
all lengths, counts and shapes that a call passes as integers.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from ..node import AnyArray, Node
from ..operations import OPERATIONS
from ..operations.value import Value
from ..size import LARGEST_ELEMENT, hint, is_symbolic
from ..sized import SIZES, has_sizes
from .quotients import quotient_of

MOST_ELEMENTS = 8  # of an input, as many as an array has axes
MOST_INPUTS = 16  # whose elements are sizes


class ElementsDecide(Exception):
    """The elements of inputs decide sizes, for which the graph must be compiled again."""

    def __init__(self, names: Collection[str]) -> None:
        super().__init__(names)
        self.names = frozenset(names)


def are_small(elements: AnyArray) -> bool:
    """Whether products of two elements of an input have at most 64 bits."""
    return all(-LARGEST_ELEMENT <= number <= LARGEST_ELEMENT for number in elements.flat)


def deciding_inputs(node: Node, inputs: Sequence[Value | None]) -> list[str] | None:
    """Return the names of the unknown inputs whose values decide the shapes of the outputs of a node.

    Returns None if one of them cannot be sizes.
    """
    deciding, names = OPERATIONS[node.operation].shape_inputs, list[str]()
    for place, (name, value) in enumerate(zip(node.inputs, inputs, strict=True)):
        if value is None or value.known or (deciding is not None and place not in deciding):
            continue
        if not _may_be_sizes(value):
            return None
        names.append(name)
    return names


def elements_of(values: Mapping[str, Value]) -> frozenset[str]:
    """Return the names of values that are sizes in the rest of the graph, or numbers that may be sizes."""
    numbers = {n for n, value in values.items() if value.shape == () and value.dtype in SIZES}
    return frozenset(numbers | {n for n, value in values.items() if has_sizes(value.array)})


def sources(
    names: Iterable[str],
    values: Mapping[str, Value | None],
    makers: Mapping[str, Node],
    inputs: Collection[str],
) -> set[str] | None:
    """Return the inputs from which values are computed, or None if symbolic sizes cannot compute them."""
    found, seen, pending = set[str](), set[str](), list(names)
    while pending:
        name = pending.pop()
        value = values.get(name)
        if name in seen or value is None or value.known:
            continue
        seen.add(name)
        quotient = quotient_of(makers[name], makers, values) if name in makers else None
        if name in inputs and _may_be_sizes(value):
            found.add(name)
        elif quotient is not None:
            pending.append(quotient.name)
        elif name in makers and _may_be_sizes(value) and _takes_sizes(makers[name], values):
            pending += makers[name].inputs
        else:
            return None
    return found


def _takes_sizes(node: Node, values: Mapping[str, Value | None]) -> bool:
    """Whether a node may compute sizes; the largest of many numbers takes too many guards."""
    operation, (y, *_) = OPERATIONS[node.operation], node.outputs
    sizes = [hint(math.prod(x.shape)) for name in (*node.inputs, y) if (x := values.get(name)) is not None]
    return operation.moves or (
        (operation.takes_sizes or operation.formula is not None) and max(sizes) == sizes[-1]
    )


def _may_be_sizes(value: Value) -> bool:
    """Whether sizes may take the place of a value that is not known."""
    return (
        value.dtype in SIZES and not is_symbolic(value.shape) and 0 < math.prod(value.shape) <= MOST_ELEMENTS
    )
