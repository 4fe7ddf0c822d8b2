"""Reverse-mode differentiation of graphs: a graph that computes the gradients of another one.

`operations.gradient` has a rule for each operation. The gradients of a Scan are a Scan from the last step to
the first, which computes each step again from the state before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import OnwardError
from .graph import Graph, Input, used_names
from .inference import infer, open_signatures
from .node import AnyArray, Naming, Node, Operand, Signature
from .operations.control import loop_inputs
from .operations.gradient import Differentiation
from .size import Size
from .writer import Recorder

PREFIX = "gradient/"  # of the names of values in graphs of gradients
SCAN = {"body", "num_scan_inputs", "captured"}  # the attributes of a loop that runs forward along first axes


def with_gradients(graph: Graph) -> Graph:
    """Return the graph of the gradients with respect to the inputs that are floats.

    It has the inputs of the graph, whose dtypes and axes should be declared, and then the gradients with
    respect to the outputs. Raises ArgumentError, which names the node, for an operation without a rule.
    """
    inputs = list(graph.inputs)
    known = infer(graph, open_signatures(inputs), ignored=(OnwardError,))
    floats = [each.name for each in inputs if each.dtype is not None and each.dtype.kind == "f"]
    back = _Back(graph.nodes, graph.constants, floats, known)
    for place, name in enumerate(graph.outputs):
        gradient, y = back.steps.graph.add_input(f"{PREFIX}output {place}"), known.get(name)
        axes = None if y is None else tuple(str(n) if isinstance(n, Size) else n for n in y.shape)
        inputs.append(Input(gradient, None if y is None else y.dtype, axes))
        back.gradients.add(name, gradient)
    back.run()
    outputs = tuple(map(back.gradients.gradient, floats))
    return back.graph.replaced(inputs=inputs, outputs=outputs, of_layers=graph.of_layers).without_unused()


class _Back:
    """The way back through the nodes of a graph or of the body of a loop, which depend on some inputs."""

    def __init__(
        self,
        nodes: Sequence[Node],
        constants: Mapping[str, AnyArray],
        inputs: Sequence[str],
        known: Mapping[str, Operand],
    ) -> None:
        self._nodes, self._known = list(nodes), known
        self.steps = Recorder(Graph(), PREFIX)  # what computes the gradients
        for name, array in constants.items():
            self.steps.graph.add_constant(array, name)
        self.gradients = Differentiation(self.steps, inputs, self._is_float)
        self.gradients.follow(nodes)

    def _is_float(self, name: str) -> bool:
        """Whether a value holds floats, which is assumed of values about which nothing is known."""
        return name not in self._known or self._known[name].dtype.kind == "f"

    @property
    def graph(self) -> Graph:
        """The nodes, and behind them those of the gradients."""
        return self.steps.graph.replaced(nodes=[*self._nodes, *self.steps.graph.nodes])

    def run(self) -> None:
        """Add the gradients with respect to all values, from those with respect to the outputs."""
        for place in reversed(range(len(self._nodes))):
            node = self._nodes[place]
            given = [self.gradients.found.get(name) for name in node.outputs]
            if not any(given):
                continue
            self.steps.label = node.name, node.source or node.operation
            with Naming(node):
                if node.operation == "Scan" and SCAN.issuperset(node.attributes):
                    self._nodes[place] = self._through_scan(node, given)
                else:
                    self.gradients.through(node, given)

    def _through_scan(self, node: Node, given: Sequence[str | None]) -> Node:
        """Add the gradients of a loop along first axes; return the loop with its states before each step."""
        body, scans = node.attributes["body"], node.attributes["num_scan_inputs"]
        own = [declared.name for declared in body.inputs]
        states, slices, outer = loop_inputs(own, node.captured, scans)
        around, count = dict(zip(own, node.inputs, strict=True)), len(states)
        depending = (name for name in own if self.gradients.depends(around[name]))
        inner = _Back(body.nodes, body.constants, (*states, *depending), self._in_body(body, around, slices))
        steps = inner.steps
        written = {place: gradient for place, gradient in enumerate(given) if gradient and place >= count}
        declared = [steps.graph.add_input(f"{PREFIX}output {place}") for place in (*range(count), *written)]
        for place, gradient in zip((*range(count), *written), declared, strict=True):
            inner.gradients.add(body.outputs[place], gradient)
        inner.run()
        summed, scanned = (
            [name for name in names if name in inner.gradients.found] for names in (outer, slices)
        )
        sums = [steps.graph.add_input(f"{PREFIX}sum {name}") for name in summed]
        outputs = list(map(inner.gradients.gradient, states))
        outputs += [
            steps.add("Add", x, inner.gradients.found[name]) for x, name in zip(sums, summed, strict=True)
        ]
        outputs += [inner.gradients.found[name] for name in scanned]
        # a step is computed again on the way back, which takes less time than to write and to read its values
        reverse = inner.graph.replaced(outputs=tuple(outputs)).without_unused()
        used = {*used_names(reverse.nodes), *outputs}
        read, captured = ([name for name in names if name in used] for names in ((*states, *slices), outer))
        loop = next(filter(None, node.outputs))
        saved = {name: f"{PREFIX}{loop}/{name}" for name in read if name in states}
        reverse.inputs = list(map(Input, (*declared[:count], *sums, *declared[count:], *read, *captured)))
        first = [x or self.gradients.zeros(name) for x, name in zip(given[:count], node.inputs, strict=False)]
        first += [self.gradients.zeros(around[name]) for name in summed]
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
            self.gradients.add(around[name], gradient)
        more = body.replaced(outputs=(*body.outputs, *saved))
        changed = node.with_outputs(*node.outputs, *saved.values())
        return changed.with_attributes({**node.attributes, "body": more})

    def _in_body(
        self, body: Graph, around: Mapping[str, str], slices: Sequence[str]
    ) -> Mapping[str, Operand]:
        """Return what is known about the values of the body of a loop."""
        found = {name: self._known[outer] for name, outer in around.items() if outer in self._known}
        sliced = {
            name: Signature(found[name].shape[1:], found[name].dtype) for name in slices if name in found
        }
        whole = {name: Signature(x.shape, x.dtype) for name, x in found.items()}
        return infer(body, whole | sliced, ignored=(OnwardError,))
