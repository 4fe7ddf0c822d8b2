"""Run one operation of graphs as its steps in the core."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onward.graph.node import Node, Signature
from onward.graph.operations import OPERATIONS, Value
from onward.graph.plan.builder import Builder, Weights, aligned, aligned_zeros


def run_lowered(
    operation: str,
    inputs: Sequence[Any],
    attributes: Mapping[str, Any],
    known: Sequence[int] = (),
    outputs: int | None = None,
) -> list[Any] | None:
    """The outputs of the lowered operation, or None if it has no steps; `known` are indices of constants.

    `outputs` is the number of outputs that are used, by default all.
    """
    lower, b = OPERATIONS[operation].lower, Builder(Weights(frozenset()))
    values: list[Value | None] = []
    arrays: list[Any] = []
    for i, array in enumerate(inputs):
        if array is None:
            values.append(None)
        elif i in known:
            values.append(Value(array.shape, array.dtype, array=array))
        else:
            arrays.append(np.array(array, order="C"))
            place = b.new_argument(*array.shape, dtype=array.dtype.name)
            values.append(Value(array.shape, array.dtype, view=place))
    signatures = OPERATIONS[operation].signatures(
        [a if a is None or i in known else Signature.of(a) for i, a in enumerate(inputs)], attributes
    )
    assert lower is not None and signatures is not None
    node = Node(operation, ("x",) * len(inputs), ("y",) * (outputs or len(signatures)), attributes, operation)
    views = lower(b, node, values, [signature.shape for signature in signatures])
    if views is None:
        return None
    for view in views:
        b.add("copy", view, b.new_argument(*view.shape, dtype=view.dtype))
    plan, constants = b.build()
    results = [np.ones(view.shape, view.dtype) for view in views]
    plan.run([aligned_zeros(b.arena_size), aligned(constants), *arrays, *results], 0, len(b.steps))
    return results
