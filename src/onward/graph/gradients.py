"""Reverse-mode differentiation of graphs: a graph that computes the gradients of another one.

`operations.gradient` has a rule for each operation. The gradients of a Scan are a Scan from the last step to
the first, which computes each step again from the state before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import ArgumentError
from .graph import Graph, Input, used_names
from .inference import infer, open_signatures
from .node import AnyArray, Node
from .operations.control import loop_inputs
from .operations.gradient import RULES, differentiable
from .size import Size
from .writer import Recorder

PREFIX = "gradient/"  # of the names of values in graphs of gradients
SCAN = {"body", "num_scan_inputs", "captured"}  # the attributes of a loop that runs forward along first axes


def with_gradients(graph: Graph, weights: Sequence[str]) -> Graph:
    """Return the graph of the gradients with respect to the inputs that are floats, and to some constants.

    It has the inputs of the graph, whose dtypes and axes must be declared, then these constants, the weights,
    and then the gradients with respect to the outputs. Raises ArgumentError, which names the node, for an
    operation without a rule.
    """
    constants = dict(graph.constants)
    arrays = {name: constants.pop(name) for name in weights}
    inputs = [*graph.inputs, *(Input(name, array.dtype, array.shape) for name, array in arrays.items())]
    known = infer(graph.replaced(inputs=inputs, constants=constants), open_signatures(inputs))
    floats = [each.name for each in inputs if each.dtype is not None and each.dtype.kind == "f"]
    back = _Back(graph.nodes, constants, floats)
    for place, name in enumerate(graph.outputs):
        shape, dtype = known[name].shape, known[name].dtype
        gradient = back.steps.graph.add_input(f"{PREFIX}output {place}")
        inputs.append(Input(gradient, dtype, tuple(str(n) if isinstance(n, Size) else n for n in shape)))
        back.add(name, gradient)
    back.run()
    outputs = tuple(map(back.gradient, floats))
    return back.graph.replaced(inputs=inputs, outputs=outputs, of_layers=graph.of_layers).without_unused()


class _Back:
    """The way back through the nodes of a graph or of the body of a loop, which depend on some inputs."""

    def __init__(
        self, nodes: Sequence[Node], constants: Mapping[str, AnyArray], inputs: Sequence[str]
    ) -> None:
        self._nodes, self._depends = list(nodes), set(inputs)
        self.steps = Recorder(Graph(), PREFIX)  # what computes the gradients
        for name, array in constants.items():
            self.steps.graph.add_constant(array, name)
        for node in nodes:
            if not self._depends.isdisjoint(node.inputs):
                self._depends.update(node.outputs)
        self.found = dict[str, str]()  # the gradients so far, by the names of values

    @property
    def graph(self) -> Graph:
        """The nodes, and behind them those of the gradients."""
        return self.steps.graph.replaced(nodes=[*self._nodes, *self.steps.graph.nodes])

    def add(self, name: str, gradient: str) -> None:
        """Add a part of the gradient with respect to a value."""
        if name in self._depends:
            before = self.found.get(name)
            self.found[name] = self.steps.add("Add", before, gradient) if before else gradient

    def gradient(self, name: str) -> str:
        """Return the gradient with respect to a value, which is 0 if the outputs do not depend on it."""
        return self.found.get(name) or self._zeros(name)

    def _zeros(self, name: str) -> str:
        zero = self.steps.add("CastLike", self.steps.cast(0, np.float32), name)
        return self.steps.add("Expand", zero, self.steps.add("Shape", name))

    def run(self) -> None:
        """Add the gradients with respect to all values, from those with respect to the outputs."""
        for place in reversed(range(len(self._nodes))):
            node = self._nodes[place]
            given = [self.found.get(name) for name in node.outputs]
            if not any(given):
                continue
            self.steps.label = node.name, node.source
            if node.operation == "Scan" and SCAN.issuperset(node.attributes):
                self._nodes[place] = self._through_scan(node, given)
            elif node.operation in RULES:
                self._through(node, given)
            else:
                raise ArgumentError(f"{node} has no gradient")

    def _through(self, node: Node, given: Sequence[str | None]) -> None:
        inputs, count = differentiable(node.operation, node.inputs), len(node.outputs)
        options = {**node.attributes, "of": node.operation, "count": count}
        values = (*given, *node.outputs, *node.inputs)
        gradients = self.steps.add_all("Gradient", values, len(inputs), **options)
        for name, gradient in zip(inputs, gradients, strict=True):
            self.add(name, gradient)

    def _through_scan(self, node: Node, given: Sequence[str | None]) -> Node:
        """Add the gradients of a loop along first axes; return the loop with its states before each step."""
        body, scans = node.attributes["body"], node.attributes["num_scan_inputs"]
        own = [declared.name for declared in body.inputs]
        states, slices, outer = loop_inputs(own, node.captured, scans)
        around, count = dict(zip(own, node.inputs, strict=True)), len(states)
        depending = (name for name in own if around[name] in self._depends)
        inner = _Back(body.nodes, body.constants, (*states, *depending))
        steps = inner.steps
        written = {place: gradient for place, gradient in enumerate(given) if gradient and place >= count}
        declared = [steps.graph.add_input(f"{PREFIX}output {place}") for place in (*range(count), *written)]
        for place, gradient in zip((*range(count), *written), declared, strict=True):
            inner.add(body.outputs[place], gradient)
        inner.run()
        summed, scanned = ([name for name in names if name in inner.found] for names in (outer, slices))
        sums = [steps.graph.add_input(f"{PREFIX}sum {name}") for name in summed]
        outputs = list(map(inner.gradient, states))
        outputs += [steps.add("Add", x, inner.found[name]) for x, name in zip(sums, summed, strict=True)]
        outputs += [inner.found[name] for name in scanned]
        # a step is computed again on the way back, which takes less time than to write and to read its values
        reverse = inner.graph.replaced(outputs=tuple(outputs)).without_unused()
        used = {*used_names(reverse.nodes), *outputs}
        read, captured = ([name for name in names if name in used] for names in ((*states, *slices), outer))
        loop = next(filter(None, node.outputs))
        saved = {name: f"{PREFIX}{loop}/{name}" for name in read if name in states}
        reverse.inputs = list(map(Input, (*declared[:count], *sums, *declared[count:], *read, *captured)))
        first = [x or self._zeros(name) for x, name in zip(given[:count], node.inputs, strict=False)]
        first += [self._zeros(around[name]) for name in summed]
        sequences = [*written.values(), *(saved.get(name) or around[name] for name in read)]
        options = {
            "body": reverse,
            "num_scan_inputs": len(sequences),
            "captured": len(captured),
            "scan_input_directions": [1] * len(sequences),
            "scan_output_directions": [1] * len(scanned),
        }
        values = (*first, *sequences, *(around[name] for name in captured))
        found = self.steps.add_all("Scan", values, len(outputs), **options)
        for name, gradient in zip((*states, *summed, *scanned), found, strict=True):
            self.add(around[name], gradient)
        more = body.replaced(outputs=(*body.outputs, *saved))
        changed = node.with_outputs(*node.outputs, *saved.values())
        return changed.with_attributes({**node.attributes, "body": more})
