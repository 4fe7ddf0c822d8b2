"""Run one operation of graphs as its steps in the core."""

from collections.abc import Mapping, Sequence
from typing import Any

from onward.graph.graph import Graph
from onward.graph.node import Node, Signature
from onward.graph.operations import OPERATIONS
from onward.graph.plan.bound import LoadedProgram
from onward.graph.plan.builder import Weights
from onward.graph.plan.compiler import Compiler


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
    # the names that graphs give to constants: those of a composition must be others
    names = tuple("" if array is None else f"constant_{i - 1}" for i, array in enumerate(inputs))
    arguments = [array for i, array in enumerate(inputs) if array is not None and i not in known]
    signatures = OPERATIONS[operation].signatures(
        [a if a is None or i in known else Signature.of(a) for i, a in enumerate(inputs)], attributes
    )
    assert signatures is not None
    results = tuple(f"y{i}" for i in range(outputs or len(signatures)))
    graph = Graph(outputs=results, nodes=[Node(operation, names, results, attributes, operation)])
    for i, (name, array) in enumerate(zip(names, inputs, strict=True)):
        if name and i in known:
            graph.add_constant(array, name)
        elif name:
            graph.add_input(name, array.dtype)
    program = Compiler(graph, arguments, [False] * len(arguments), Weights(frozenset())).compile()
    if any(type(segment) is not tuple for segment in program.segments):
        return None
    bound = LoadedProgram(program, program.segments).bind(arguments)
    assert bound is not None
    return list(bound(arguments))
