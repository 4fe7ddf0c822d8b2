"""Carries that are inputs and outputs of a model already: an output of one call is an input of the next."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...errors import ArgumentError, SignatureError
from ..declared import as_declared, check_names
from ..graph import Graph, Input
from ..node import AnyArray, Node
from ..simplification.simplify import simplify
from .streamed import Carry, Streamed, TimeAndBatch

# What exporters add to the name of a state to tell its input from its output.
PREFIXES = re.compile(r"^(in|input|out|output|next|new|prev|previous|past|present|initial)[_./]", re.I)
SUFFIXES = re.compile(r"([_./]?(in|input|out|output|next|new|prev|previous|initial)|[_./]?(n|0))$", re.I)

# The places of the initial states among the inputs of an operation.
INITIAL = {
    "Recurrent": slice(2, 4),
    "MaskedRecurrent": slice(3, 5),
    "DynamicQuantizeLSTM": slice(5, 7),
    "FinalState": slice(1, 2),
}
# Operations that move states and shapes before and after them.
MOVES = {
    "Cast", "Concat", "ConstantOfShape", "Expand", "FinalState", "Gather", "Identity", "Mul", "Reshape",
    "Shape", "Slice", "Split", "Squeeze", "Steps", "Transpose", "Unsqueeze",
}  # fmt: skip


def streamed_with(
    graph: Graph, carry: Mapping[str, str], fixed: Mapping[str, Any], initial: Mapping[str, Any], batch: int
) -> Streamed:
    """Return a graph whose inputs `carry` are fed from outputs, and whose inputs `fixed` are constants.

    Raises SignatureError for unknown names, ShapeError and DtypeError for arrays that do not fit an input.
    """
    declared = {d.name: d for d in graph.inputs}
    outputs = dict(zip((d.name for d in graph.declared_outputs), graph.outputs, strict=True))
    check_names(declared, (*carry, *fixed), "inputs")
    check_names(outputs, list(carry.values()), "outputs")
    check_names(carry, list(initial), "carries")
    rest = [name for name in declared if name not in {*carry, *fixed, *graph.defaults}]
    returned = [name for name in outputs if name not in carry.values()]
    streamed = (
        graph.with_defaults(frozenset((*carry, *fixed)))
        .with_fixed(fixed)
        .replaced(
            inputs=[declared[name] for name in (*carry, *rest)],
            outputs=tuple(outputs[name] for name in (*carry.values(), *returned)),
            declared_outputs=(),
        )
    )
    start = {name: as_declared(declared[name], value).copy() for name, value in initial.items()}
    start = {name: graph.constants[name] for name in graph.defaults.intersection(carry)} | start
    start |= {name: _zeros(declared[name], batch) for name in carry if name not in start}
    carries = tuple(Carry(name, start[name], any_shape=name in graph.carries) for name in carry)
    return Streamed(simplify(streamed), carries, outputs=(TimeAndBatch(),) * len(returned))


def from_zeros(graph: Graph) -> Graph:
    """Return the graph over its first input whose states start at zeros and are not returned.

    The states are the inputs of `found_carries`; one whose default value is not zeros starts at it. Their
    open sizes are those of the axes of the first input that have the same names; a state with another open
    size stays an input.
    """
    x, *others = graph.inputs
    pairs = found_carries(graph)
    known = {d.name: all(isinstance(a, int) or a in (x.axes or ()) for a in d.axes or ("",)) for d in others}
    states = {d.name: d for d in others if d.name in pairs and d.dtype is not None and known[d.name]}
    if not states:
        return graph
    started = {name for name in graph.defaults.intersection(states) if graph.constants[name].any()}
    zeros = [declared for name, declared in states.items() if name not in started]
    shape = Node("Shape", (x.name,), (f"{x.name}/shape",), {}, f"{x.name}/shape")
    constants = {name: a for name, a in graph.constants.items() if name in started or name not in states}
    nodes = [shape, *(node for state in zeros for node in _zeros_like(state, x, shape, constants))]
    returned = [
        (declared, output)
        for declared, output in zip(graph.declared_outputs, graph.outputs, strict=True)
        if declared.name not in {pairs[name] for name in states}
    ]
    return graph.replaced(
        inputs=[declared for declared in graph.inputs if declared.name not in states],
        declared_outputs=tuple(declared for declared, _ in returned),
        outputs=tuple(output for _, output in returned),
        nodes=[*nodes, *graph.nodes],
        constants=constants,
        defaults=frozenset(graph.defaults - states.keys()),
        carries={name: output for name, output in graph.carries.items() if name not in states},
    ).without_unused()


def _zeros_like(state: Input, x: Input, shape: Node, constants: dict[str, AnyArray]) -> Iterator[Node]:
    """Yield the nodes of zeros in the shape of a state, whose open sizes are those of axes of x."""
    name, sizes = state.name, []
    for place, axis in enumerate(state.axes or ()):
        size = f"{name}/size_{place}"
        sizes.append(size)
        if isinstance(axis, int):
            constants[size] = np.array([axis])
        else:
            constants[f"{size}/axis"] = np.array([(x.axes or ()).index(axis)])
            yield Node("Gather", (*shape.outputs, f"{size}/axis"), (size,), {}, name)
    yield Node("Concat", tuple(sizes), (f"{name}/sizes",), {"axis": 0}, name)
    value = {"value": np.zeros(1, state.dtype)}
    yield Node("ConstantOfShape", (f"{name}/sizes",), (name,), value, name)


def _zeros(declared: Input, batch: int) -> AnyArray:
    if declared.axes is None or declared.dtype is None:
        raise SignatureError(f"the file does not declare the shape of {declared.name}: pass initial={{...}}")
    return np.zeros([axis if isinstance(axis, int) else batch for axis in declared.axes], declared.dtype)


def found_carries(graph: Graph) -> dict[str, str]:
    """Return the outputs that belong to inputs: equal shapes and dtypes, and names that differ by an affix.

    An input or output that belongs to several others is left out. If the source declares its state, that is
    what is carried.
    """
    if graph.carries:
        return dict(graph.carries)
    candidates = candidate_carries(graph)
    pairs = {name: [o for o in outputs if _stem(o) == _stem(name)] for name, outputs in candidates.items()}
    used = [output for outputs in pairs.values() for output in outputs]
    return {name: own[0] for name, own in pairs.items() if len(own) == 1 and used.count(own[0]) == 1}


def candidate_carries(graph: Graph) -> dict[str, list[str]]:
    """Return the outputs that have the shape and dtype of each input, for the inputs that have any."""
    found = {
        given.name: [out.name for out in graph.declared_outputs if _matches(given, out)]
        for given in graph.inputs
    }
    return {name: outputs for name, outputs in found.items() if outputs}


@contextlib.contextmanager
def candidates_in_errors(graph: Graph) -> Iterator[None]:
    """Add the inputs and outputs that may be states to the error that a graph cannot stream."""
    try:
        yield
    except (ArgumentError, SignatureError) as error:
        pairs = candidate_carries(graph)
        given = [declared.name for declared in graph.inputs if declared.name not in graph.defaults]
        answers = [declared.name for declared in graph.declared_outputs]
        if {*answers} <= {name for names in pairs.values() for name in names}:  # one of them is the answer
            others = {name: [each for each in names if each != answers[0]] for name, names in pairs.items()}
            pairs = {name: names for name, names in others.items() if names}
        if pairs.keys() >= {*given}:  # one of them is no state, but what a call passes
            del pairs[given[0]]
        if not pairs:
            raise
        found = "; ".join(f"{name} from {' or '.join(outputs)}" for name, outputs in pairs.items())
        raise type(error)(
            f"{error}. If states are inputs and outputs, name them with carry=: {found}"
        ) from error


def _matches(given: Input, out: Input) -> bool:
    if given.dtype != out.dtype or given.axes is None:
        return False
    if out.axes is None:  # the file declares no shape
        return _stem(given.name) == _stem(out.name)
    return len(given.axes) == len(out.axes) and all(
        a == b or isinstance(a, str) or isinstance(b, str) for a, b in zip(given.axes, out.axes, strict=True)
    )


def _stem(name: str) -> str:
    """Return a name without the affixes that tell an input from an output."""
    stem = SUFFIXES.sub("", PREFIXES.sub("", name))
    return (stem or name).lower()


def initial_states(graph: Graph) -> frozenset[str]:
    """Return the inputs that are only initial states of recurrent nodes, each as a whole or split.

    Those of a graph of Onward's layers are all states, also of layers that became operators.
    """
    if graph.of_layers:
        return frozenset(found_carries(graph))
    sources = {declared.name: declared.name for declared in graph.inputs}  # the input of each part
    states, others = set[str](), set(graph.outputs)
    for node in graph.nodes:
        if node.operation == "Split" and (source := sources.get(node.inputs[0])):
            sources |= dict.fromkeys(node.outputs, source)
            continue
        initial = node.inputs[INITIAL.get(node.operation, slice(0))]
        states.update(initial)
        others.update(name for name in node.inputs if name not in initial)
    found, used = ({sources[name] for name in names & sources.keys()} for names in (states, others))
    return frozenset(found - used)
