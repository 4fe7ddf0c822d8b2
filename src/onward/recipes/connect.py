"""Connect models that follow one another, such as a front end and a network, to one model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentError, ShapeError, SignatureError
from ..graph import Graph
from ..graph.declared import Sizes
from ..graph.over_time.named_carries import found_carries, from_zeros, initial_states
from ..graph.summary import signatures
from ..layers.base import Layer
from ..layers.base_model import BaseModel
from ..layers.graphs import graph_of
from ..model import Model


def chain(*models: BaseModel, connect: Mapping[str, str] | None = None) -> Model:
    """Return the model that runs models one after the other: it is called, streamed and pooled as one.

    An input takes the output that `connect` names, {input: output}, otherwise an output of the same name of a
    model before it. If neither names one and a model has one input besides its initial states, this takes the
    first output of the model before it. All other inputs are inputs of the chain; its outputs are those of
    the last model, then all others that no input takes, such as states.

    A name that several models use starts with the number of its model, from 0: "1.h0". So may those in
    `connect`. Layers start from zeros.

    Raises ArgumentError for models that are not whole or that take nothing from those before them,
    SignatureError for unknown names, and ShapeError for numbers of axes that differ.

    >>> import numpy as np, onward
    >>> front, classifier = onward.Linear(4, 3, rng=0), onward.LSTM(3, 2, rng=1)
    >>> model = onward.chain(front, classifier)
    >>> model.inputs, model.outputs
    (('x',), ('y',))
    >>> x = np.ones((5, 1, 4), np.float32)
    >>> bool((model(x) == classifier(front(x))[0]).all())
    True
    """
    if len(models) < 2:
        raise ArgumentError(f"got {len(models)} models; expected at least two")
    connector = _Connector([_graph(number, model) for number, model in enumerate(models)], connect or {})
    return Model(connector.connected())


def _graph(number: int, model: Any) -> Graph:
    """The graph of a model for all sizes, or of layers whose states start at zeros."""
    if isinstance(model, Model):
        return model.general.graph
    if not isinstance(model, Layer):
        raise ArgumentError(f"model {number} is {type(model).__name__}, which is not a whole model")
    return from_zeros(graph_of(model))


Key = tuple[int, str]  # the number of a model, and the name of one of its inputs or outputs


class _Connector:
    """The graphs, and which inputs take which outputs."""

    def __init__(self, graphs: list[Graph], connect: Mapping[str, str]) -> None:
        self.graphs, self.connect = graphs, dict(connect)
        self.inputs = {(n, each.name): each for n, graph in enumerate(graphs) for each in graph.inputs}
        self.outputs = {
            (n, each.name): each for n, graph in enumerate(graphs) for each in graph.declared_outputs
        }
        self.sources: dict[Key, Key] = {}
        for number in range(1, len(graphs)):
            self._find_sources(number)
        if self.connect:
            raise SignatureError(f"unknown inputs in connect: {', '.join(self.connect)}")
        last = len(graphs) - 1
        left = [key for key in self.outputs if key[0] == last or key not in self.sources.values()]
        self.input_names = _unique([key for key in self.inputs if key not in self.sources])
        self.output_names = _unique(sorted(left, key=lambda key: key[0] != last))

    def connected(self) -> Graph:
        """Return the graph of all. Raises ShapeError."""
        first = self.graphs[0]
        whole = Graph(opset=first.opset if len({graph.opset for graph in self.graphs}) == 1 else 0)
        whole.of_layers = all(graph.of_layers for graph in self.graphs)
        values: dict[Key, str] = {}  # of the outputs
        for number, graph in enumerate(self.graphs):
            self._check_axes(number)
            inputs = [self._value((number, each.name), values, whole) for each in graph.inputs]
            outputs = [f"{number}/outputs/{place}" for place in range(len(graph.outputs))]
            values |= {(number, d.name): v for d, v in zip(graph.declared_outputs, outputs, strict=True)}
            added = graph.renamed(f"{number}/", inputs, outputs)
            whole.nodes += [node.with_name(f"{number}/{node.name}") for node in added.nodes]
            whole.constants |= added.constants
            for name, output in graph.carries.items():
                ends = self.input_names.get((number, name)), self.output_names.get((number, output))
                if ends[0] is not None and ends[1] is not None:
                    whole.carries[ends[0]] = ends[1]
        whole.outputs = tuple(values[key] for key in self.output_names)
        named = self.output_names.items()
        whole.declared_outputs = tuple(self.outputs[key].with_name(name) for key, name in named)
        whole.sizes = Sizes(
            first.sizes.ranges,
            {self.input_names[0, name]: axes for name, axes in first.sizes.axes.items()},
            first.sizes.guards,
        )
        return whole.without_unused()

    def _find_sources(self, number: int) -> None:
        """Find the outputs that the inputs of a model take. Raises ArgumentError and SignatureError."""
        graph = self.graphs[number]
        before = [key for key in self.outputs if key[0] < number]
        for name in (each.name for each in graph.inputs):
            wanted = next((key for key in (f"{number}.{name}", name) if key in self.connect), None)
            if wanted is not None:
                self.sources[number, name] = self._output(before, self.connect.pop(wanted))
            elif found := [key for key in before if key[1] == name]:
                self.sources[number, name] = found[-1]
        if any(key[0] == number for key in self.sources):
            return
        states = initial_states(graph) | graph.carries.keys() | graph.defaults | found_carries(graph).keys()
        rest = [each.name for each in graph.inputs if each.name not in states]
        if len(rest) != 1:
            takes = ", ".join(each.name for each in graph.inputs)
            raise ArgumentError(
                f"model {number} takes ({takes}), and nothing names which of them are outputs of the models "
                "before: pass connect={input: output}"
            )
        self.sources[number, rest[0]] = number - 1, self.graphs[number - 1].declared_outputs[0].name

    def _output(self, before: list[Key], wanted: str) -> Key:
        """The last output of this name. Raises SignatureError."""
        found = [key for key in before if wanted in (key[1], f"{key[0]}.{key[1]}")]
        if not found:
            known = ", ".join(f"{number}.{name}" for number, name in before)
            raise SignatureError(f"unknown output in connect: {wanted}; the models before have ({known})")
        return found[-1]

    def _check_axes(self, number: int) -> None:
        """Raise ShapeError for an output whose number of axes is not that of the input that takes it."""
        known = signatures(self.graphs[number].with_defaults())
        pairs = zip(self.graphs[number].declared_outputs, self.graphs[number].outputs, strict=True)
        values = {declared.name: value for declared, value in pairs}
        for taker, source in self.sources.items():
            axes = self.inputs[taker].axes
            if source[0] != number or axes is None or values[source[1]] not in known:
                continue
            shape = known[values[source[1]]].shape
            if len(shape) != len(axes):
                raise ShapeError(
                    f"the output {source[1]} of model {number} has {len(shape)} axes, but the input "
                    f"{taker[1]} of model {taker[0]} takes ({', '.join(map(str, axes))})"
                )

    def _value(self, key: Key, values: Mapping[Key, str], whole: Graph) -> str:
        """The value that an input takes, or a new input of the chain with its default value."""
        if key in self.sources:
            return values[self.sources[key]]
        graph, declared, name = self.graphs[key[0]], self.inputs[key], self.input_names[key]
        whole.add_input(name, declared.dtype, declared.axes, declared.converts)
        if key[1] in graph.defaults:
            whole.add_constant(graph.constants[key[1]], name)
        return name


def _unique(keys: list[Key]) -> dict[Key, str]:
    """The names of inputs or outputs, with the number of the model where several have the same."""
    counts = Counter(name for _, name in keys)
    return {(number, name): f"{number}.{name}" if counts[name] > 1 else name for number, name in keys}
