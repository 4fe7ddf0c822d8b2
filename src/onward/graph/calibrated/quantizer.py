"""Turn a graph of real numbers into one of integers of 8 bits, whose scales follow from ranges.

Each value exists as real numbers, as integers, or both: a conversion is added where a node needs the other
one. Nodes with a rule compute with integers; those that only move elements take what there is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import ArgumentError
from ..graph import Graph
from ..node import AnyArray, Node
from ..simplification.simplify import simplify
from ..writer import Recorder
from . import ranges as measured
from . import recurrent
from .forms import Form, Integers
from .rules import RULES, is_movable, moved_inputs, takes_integers

MOST_LOSS = 2  # the ratio of ranges that share a form


def calibrated(
    graph: Graph, carried: Sequence[AnyArray], blocks: Sequence[Sequence[AnyArray]]
) -> tuple[Graph, list[AnyArray]]:
    """Return a graph of integers, and its carries at the start.

    `carried` are the first inputs at the start, whose next values are the first outputs; the scales fit the
    values in the blocks. Raises ArgumentError if there is nothing to quantize.
    """
    simple = simplify(graph.with_defaults())
    quantizer = Quantizer(simple, carried, blocks)
    return quantizer.run()


class Quantizer(Recorder):
    """Rewrites a graph node by node."""

    def __init__(
        self, graph: Graph, carried: Sequence[AnyArray], blocks: Sequence[Sequence[AnyArray]]
    ) -> None:
        super().__init__(Graph(constants=graph.constants), "int8/")
        self.source, self.constants = graph, graph.constants
        self.makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self.readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
        self._initial = list(carried)
        self._carries = [declared.name for declared in graph.inputs[: len(carried)]]
        inputs = [declared.name for declared in graph.inputs]
        layers = [node for node in graph.nodes if recurrent.is_supported(node)]
        self.ranges = measured.observed(graph, carried, blocks, layers)
        self._integral = self._integral_values()  # the values that rules compute
        if not self._integral:
            raise ArgumentError("the graph has no products with constant float32 matrices to quantize")
        self._groups = self._values_of_one_form()
        self._made: dict[tuple[str, Form], Integers] = {}
        self._real = {name: name for name in inputs if name not in self._carries}
        self._written = set[tuple[str, ...]]()  # the outputs of nodes whose rules ran
        self._forms_read: dict[str, list[Form | None]] = {name: [] for name in self._carries}

    # Which values are integers.

    def _is_integral(self, node: Node) -> bool:
        return any(name in self._integral for name in node.outputs)

    def _integral_values(self) -> set[str]:
        """Return the values that rules compute, or that are moved elements of such values."""
        found: set[str] = set()
        for node in self.source.nodes:
            if takes_integers(self, node, found):
                found.update(filter(None, node.outputs))
        return found

    def is_real(self, name: str) -> bool:
        """Whether a name is a value of a graph that is not a constant."""
        return bool(name) and name not in self.constants

    def _values_of_one_form(self) -> dict[str, list[str]]:
        """Return the values that have one form, by each of their names.

        Nodes that move elements convert those of other forms, since small numbers would lose their bits.
        """
        groups: dict[str, list[str]] = {}

        def tie(names: Sequence[str]) -> None:
            each = [groups.get(name, [name]) for name in names if name]
            joined = list(dict.fromkeys(name for group in each for name in group))
            widths = [np.ptp(self.ranges.limits(group)) for group in (*each, joined)]
            if min(widths) * MOST_LOSS >= widths[-1]:
                groups.update(dict.fromkeys(joined, joined))

        for node in self.source.nodes:
            if is_movable(node):
                tie([*(x for x in moved_inputs(node) if self.is_real(x)), *node.outputs])
            elif node.operation == "Recurrent" and self._is_integral(node):
                tie([node.outputs[0], measured.state_of(node, 0)])
        for name, following in zip(self._carries, self.source.outputs, strict=False):
            tie([name, following])
        return groups

    def form(self, name: str) -> Form:
        """Return the form of 8 bits of a value."""
        return Form.of(*self.ranges.limits(self._groups.get(name, [name])))

    # Values in one form or the other.

    def integers(self, name: str, form: Form | None = None) -> Integers:
        """Return a value as integers, in its own form of 8 bits or in another one."""
        form = form or self.form(name)
        key = name, form
        if key in self._made:
            return self._made[key]
        if name in self.constants:
            found = Integers(self, self.cast(form.quantized(self.constants[name]), form.dtype), form.dtype)
        elif name in self._forms_read:
            self._forms_read[name].append(form)
            found = Integers(self, _placeholder(name, form), form.dtype)
        elif name in self.makers and is_movable(self.makers[name]):
            self._move(self.makers[name], form)
            return self._made[key]
        else:
            if name in self._integral:
                self._write(self.makers[name])
            found = self._made.get(key) or self._converted(name, form)
        self._made[key] = found
        return found

    def _write(self, node: Node) -> None:
        """Let the rule of a node define its outputs, unless it did, or that of the node before it did."""
        is_defined = any(map(self._best, node.outputs)) or node.outputs[0] in self._real
        if node.outputs not in self._written and not is_defined:
            self._written.add(node.outputs)
            self.label = node.name, node.source
            RULES[node.operation].write(self, node)

    def is_read_as_integers(self, name: str) -> bool:
        """Whether a node computes with the integers of a value, or may move them."""
        readers = self.readers.get(name, [])
        return any(self._is_integral(node) or is_movable(node) for node in readers) or (
            name in self.source.outputs[: len(self._carries)]
        )

    def define_real(self, name: str, value: Integers) -> None:
        """Take real numbers as a value of the graph."""
        self._real[name] = value.name

    def define(self, name: str, form: Form, value: Integers) -> None:
        """Take integers as a value of the graph."""
        if name:
            self._made[name, form] = value

    def _move(self, node: Node, form: Form) -> None:
        """Let a node move integers of a form."""
        inputs = [self.integers(x, form).name if x in moved_inputs(node) and x else x for x in node.inputs]
        self.label = node.name, node.source
        made = self.add_all(node.operation, inputs, len(node.outputs), **node.attributes)
        for name, output in zip(made, node.outputs, strict=True):
            self.define(output, form, Integers(self, name, form.dtype))

    def _converted(self, name: str, form: Form) -> Integers:
        """Return the integers of real numbers, or of the integers of another form that exist."""
        best = self._best(name)
        if best is not None:
            return self._rescaled(self._made[name, best], best, form)
        return self._quantized(self.real(name), form)

    def _best(self, name: str) -> Form | None:
        """Return the most exact form in which a value exists."""
        forms = [form for known, form in self._made if known == name]
        return max(forms, key=lambda form: form.bits, default=None)

    def _rescaled(self, value: Integers, given: Form, form: Form) -> Integers:
        found: Integers = value.centered(given.zero_point).scaled(given.scale / form.scale, form)
        return found

    def _quantized(self, x: str, form: Form) -> Integers:
        if form.bits == 8:
            scale, zero = self.cast(form.scale, np.float32), self.cast(form.zero_point, np.int8)
            return Integers(self, self.add("QuantizeLinear", x, scale, zero), form.dtype)
        scaled = self.add("Round", self.add("Mul", x, self.cast(1 / form.scale, np.float32)))
        clipped = self.add("Clip", scaled, *(self.cast(limit, np.float32) for limit in form.limits))
        return Integers(self, self.add("Cast", clipped, to=form.dtype), form.dtype)

    def _dequantized(self, value: Integers, form: Form) -> str:
        scale, zero = self.cast(form.scale, np.float32), self.cast(form.zero_point, form.dtype)
        return self.add("DequantizeLinear", value.name, scale, zero)

    def real(self, name: str) -> str:
        """Return the name of a value as real numbers."""
        if not self.is_real(name):
            return name
        if name not in self._real:
            self._real[name] = self._as_real(name)
        return self._real[name]

    def _as_real(self, name: str) -> str:
        if name in self._forms_read:
            self._forms_read[name].append(None)
            return _placeholder(name, None)
        if name not in self._integral or is_movable(self.makers[name]):  # whose inputs may be more exact
            self._copy(self.makers[name])
            return name
        if self._best(name) is None:
            self.integers(name)
        form = self._best(name)
        assert form is not None  # integers() made one
        return self._dequantized(self._made[name, form], form)

    def _copy(self, node: Node) -> None:
        """Add a node of real numbers; a recurrent layer without a rule quantizes its inputs as they come."""
        inputs = [self.real(name) for name in node.inputs]
        cell = node.attributes.get("cell")
        attributes = dict(node.attributes)
        if cell is not None and cell.dtype == np.float32 and not cell.precision:
            attributes["cell"] = cell.compressed("int8")
        self._real |= {name: name for name in node.outputs}
        self.graph.nodes.append(node.with_inputs(*inputs).with_attributes(attributes))

    # The graph.

    def run(self) -> tuple[Graph, list[AnyArray]]:
        """Return the graph of integers and its initial carries."""
        count = len(self._carries)
        for node in self.source.nodes:  # in order, so that what follows finds its inputs
            for name in filter(None, node.outputs):
                if is_movable(node):
                    continue  # in whatever form it will be read
                if name in self._integral:
                    self._write(node)
                else:
                    self.real(name)
        outputs = [self.real(name) for name in self.source.outputs[count:]]
        kept = [self._carried_form(name) for name in self._carries]
        following = [
            self.real(name) if form is None else self.integers(name, form).name
            for name, form in zip(self.source.outputs, kept, strict=False)
        ]
        first = [
            node
            for name, form in zip(self._carries, kept, strict=True)
            for node in self._conversions_of(name, form)
        ]
        inputs, initial = list(self.source.inputs), list(self._initial)
        for place, form in enumerate(kept):
            if form is not None:
                inputs[place] = inputs[place].of_dtype(form.dtype)
                initial[place] = form.quantized(initial[place])
        result = self.source.replaced(
            inputs=inputs,
            outputs=(*following, *outputs),
            nodes=[*first, *self.graph.nodes],
            constants=self.graph.constants,
        )
        return result.without_unused(), initial

    def _carried_form(self, name: str) -> Form | None:
        """Return the form in which a stream carries a value: the only one that the graph reads."""
        asked = set(self._forms_read[name])
        return next(iter(asked)) if len(asked) == 1 else None

    def _conversions_of(self, name: str, kept: Form | None) -> list[Node]:
        """Return the nodes that make what the graph reads of a value that a stream carries."""
        first, self.label = len(self.graph.nodes), (name, "")
        for form in dict.fromkeys(self._forms_read[name]):
            made = name if form == kept else self._from_carried(name, kept, form)
            self.graph.nodes.append(Node("Identity", (made,), (_placeholder(name, form),), {}, name))
        found = self.graph.nodes[first:]
        del self.graph.nodes[first:]
        return found

    def _from_carried(self, name: str, kept: Form | None, form: Form | None) -> str:
        if kept is None:
            assert form is not None  # real numbers need no conversion
            return self._quantized(name, form).name
        value = Integers(self, name, kept.dtype)
        return self._dequantized(value, kept) if form is None else self._rescaled(value, kept, form).name


def _placeholder(name: str, form: Form | None) -> str:
    """Return the name of a carried value in a form."""
    numbers = () if form is None else form
    return "/".join(map(str, (name, "read", *numbers)))
