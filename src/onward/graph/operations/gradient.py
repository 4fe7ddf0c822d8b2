"""The gradients of operations with respect to their inputs, as compositions of operations.

An operation has a rule, or is a composition of operations that have one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ...errors import ArgumentError
from ..node import Node
from . import (
    gradients_elementwise,
    gradients_movement,
    gradients_products,
    gradients_recurrent,
    gradients_windows,
)
from .compositions import composed
from .gradients_elementwise import CONSTANT, Rule
from .registry import OPERATIONS

# For each operation, a function of the gradient with respect to the first output, this output, the inputs and
# the attributes. It returns the gradients with respect to the inputs, or None for those that have none, in
# the shapes of the inputs, or in shapes to which these broadcast.
RULES: Mapping[str, Rule] = {
    **gradients_elementwise.RULES,
    **gradients_movement.RULES,
    **gradients_products.RULES,
    **gradients_windows.RULES,
}
# Those that take the gradients with respect to all outputs, None for outputs without one, and all outputs.
RULES_OF_SEVERAL: Mapping[str, Rule] = {**gradients_movement.OF_SEVERAL, **gradients_recurrent.OF_SEVERAL}
# How many of the first inputs have gradients, where others are floats as well.
_DIFFERENTIABLE = {"BatchNormalization": 3, "Pad": 1, "Resize": 1}


class Differentiation:
    """The way back through nodes, to the values that they depend on.

    `steps` records the operations. The gradients are with respect to `inputs` and to the values that depend
    on them and hold floats, which `is_float` tells.
    """

    def __init__(self, steps: Any, inputs: Iterable[str], is_float: Callable[[str], bool]) -> None:
        self.steps, self._depends, self._is_float = steps, set(inputs), is_float
        self.found = dict[str, str]()  # the gradients so far, by the names of values

    def follow(self, nodes: Iterable[Node]) -> None:
        """Find the values that depend on the inputs."""
        for node in nodes:
            if node.operation not in CONSTANT and not self._depends.isdisjoint(differentiable(node)):
                self._depends.update(filter(self._is_float, filter(None, node.outputs)))

    def depends(self, name: str) -> bool:
        """Whether there is a gradient with respect to a value."""
        return name in self._depends

    def add(self, name: str, gradient: str) -> None:
        """Add a part of the gradient with respect to a value."""
        if name in self._depends:
            before = self.found.get(name)
            self.found[name] = self.steps.add("Add", before, gradient) if before else gradient

    def gradient(self, name: str) -> str:
        """Return the gradient with respect to a value, which is 0 if the outputs do not depend on it."""
        return self.found.get(name) or self.zeros(name)

    def zeros(self, name: str) -> str:
        """Return zeros in the shape and the dtype of a value."""
        zero = self.steps.add("CastLike", self.steps.cast(0, np.float32), name)
        return str(self.steps.add("Expand", zero, self.steps.add("Shape", name)))

    def through(self, node: Node, given: Sequence[str | None]) -> None:
        """Add the gradients with respect to the inputs of a node, from those with respect to its outputs.

        Raises ArgumentError for an operation without a rule.
        """
        operation, count = node.operation, len(node.outputs)
        wanted = [place for place, name in enumerate(differentiable(node)) if name in self._depends]
        if not wanted:
            return
        has_rule = operation in RULES or operation in RULES_OF_SEVERAL
        if not has_rule and OPERATIONS[operation].formula is None:
            raise ArgumentError(f"the operation {operation} has no gradient")
        options = {**node.attributes, "of": operation, "count": count, "wanted": wanted}
        values = (*given, *(name or None for name in (*node.outputs, *node.inputs)))
        found = self.steps.add_all("Gradient", values, len(wanted), **options)
        for place, gradient in zip(wanted, found, strict=True):
            self.add(node.inputs[place], gradient)


def differentiable(node: Node) -> Sequence[str]:
    """Return the first inputs of a node, among which are all that may have gradients."""
    return node.inputs[: _DIFFERENTIABLE.get(node.operation, len(node.inputs))]


def _summed(dx: Any, x: Any) -> Any:
    """Return a gradient summed over the axes along which an input was broadcast."""
    leading = dx.rank - x.rank
    axes = [*range(leading)]
    axes += [
        leading + axis for axis, size in enumerate(x.shape) if size == 1 and dx.shape[leading + axis] != 1
    ]
    summed = dx.reduce("ReduceSum", axes, True) if axes else dx
    return summed.apply("Squeeze", range(leading)) if leading else summed


def _of_composition(
    dys: Sequence[Any], inputs: Sequence[Any], of: str, wanted: Sequence[int], attributes: Mapping[str, Any]
) -> list[Any]:
    """Compute the composition again, and go back through its operations."""
    t, formula = next(x for x in inputs if x is not None).t, OPERATIONS[of].formula
    assert formula is not None
    first, names = len(t.nodes), ["" if x is None else x.name for x in inputs]
    outputs = formula(t, names, attributes, len(dys))
    nodes, back = t.nodes[first:], Differentiation(t, [names[i] for i in wanted], t.is_float)
    back.follow(nodes)
    for name, dy in zip(outputs, dys, strict=True):
        if dy is not None:
            back.add(name, dy.name)
    for node in reversed(nodes):
        given = [back.found.get(name) for name in node.outputs]
        if any(given):
            back.through(node, given)
    return [t.part(back.gradient(name)) if i in wanted else None for i, name in enumerate(names)]


@composed("Gradient")
def gradient(*values: Any, of: str, count: int, wanted: Sequence[int], **attributes: Any) -> Iterator[Any]:
    """The gradients with respect to the wanted inputs of an operation, given by their places.

    The inputs are the gradients with respect to its `count` outputs, these outputs, and its inputs.
    """
    dys, ys, inputs = values[:count], values[count : 2 * count], values[2 * count :]
    found: Iterable[Any]
    if all(dy is None or 0 in dy.shape for dy in dys):
        found = ()
    elif of in RULES:
        found = () if dys[0] is None else RULES[of](dys[0], ys[0], *inputs, **attributes)
    elif of in RULES_OF_SEVERAL:
        found = RULES_OF_SEVERAL[of](dys, ys, *inputs, **attributes)
    else:
        found = _of_composition(dys, inputs, of, wanted, attributes)
    gradients = dict(enumerate(islice(found, max(wanted) + 1)))
    for place in wanted:
        x, dx = inputs[place], gradients.get(place)
        yield gradients_movement.zeros_like(x) if dx is None else _summed(dx, x)
