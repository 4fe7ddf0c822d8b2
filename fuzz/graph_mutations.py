"""Mutate ONNX graphs by their structure: operators, attributes, edges, shapes and constants."""

from collections.abc import Callable

import numpy as np

from onward.formats.onnx import messages, protobuf
from onward.graph.operations.modules import MODULES

NUMBERS = (0, 1, 2, 3, 5, 16, -1, -2, 1 << 31, -(1 << 31), (1 << 62) + 1)
REALS = (0.0, 1e-30, -1.0, 0.5, 3e38, float("inf"), float("nan"))
ATTRIBUTES = (
    "alpha axes axis beta auto_pad ceil_mode dilations epsilon exclusive group keepdims kernel_shape mode "
    "pads perm reverse shape size strides to direction hidden_size layout num_outputs blocksize allowzero"
).split()
SHAPES = ((), (0,), (1,), (2,), (3,), (2, 3), (3, 2), (1, 2, 3), (2, 3, 4), (1, 2, 3, 4), (2, 1, 5))
MAX_MUTATIONS = 5


class GraphMutator:
    """Applies random mutations to the graph of a model."""

    def __init__(self, model: messages.Model, rng: np.random.Generator) -> None:
        self.rng, self.model = rng, model
        self.graph = model.graph = model.graph or messages.Graph()
        for name in ("node", "initializer", "input", "output"):
            setattr(self.graph, name, list(getattr(self.graph, name)))

    def mutate(self) -> None:
        """Apply one mutation, if the graph has what it changes."""
        choices: list[Callable[[], None]] = [
            *(self.operator, self.attribute, self.attribute, self.edge, self.edge, self.constant),
            *(self.new_constant, self.new_node, self.new_node, self.remove, self.shape, self.output),
        ]
        choices[self.rng.integers(len(choices))]()

    def pick(self, items):  # type: ignore[no-untyped-def]  # any sequence
        """Return a random item, or None."""
        return items[self.rng.integers(len(items))] if len(items) else None

    def values(self) -> list[str]:
        """The names of all values."""
        names = [value.name for value in (*self.graph.input, *self.graph.initializer)]
        return [*names, *(name for node in self.graph.node for name in node.output), ""]

    def operator(self) -> None:
        """Replace an operator."""
        if node := self.pick(self.graph.node):
            node.op_type = self.pick(sorted(MODULES))

    def attribute(self) -> None:
        """Change, remove or add an attribute."""
        if not (node := self.pick(self.graph.node)):
            return
        node.attribute = list(node.attribute)
        found = self.pick(node.attribute)
        if found is None or self.rng.random() < 0.3:
            found = messages.Attribute(name=self.pick(ATTRIBUTES), type=messages.AttributeType.INT, i=1)
            node.attribute.append(found)
        if found.type == messages.AttributeType.INTS or self.rng.random() < 0.3:
            numbers = list(found.ints) or [1] * int(self.rng.integers(4))
            if numbers:
                numbers[self.rng.integers(len(numbers))] = self.pick(NUMBERS)
            found.type, found.i, found.ints = messages.AttributeType.INTS, None, numbers
        elif found.type == messages.AttributeType.INT:
            found.i = self.pick(NUMBERS)
        elif found.type == messages.AttributeType.FLOAT:
            found.f = self.pick(REALS)
        elif self.rng.random() < 0.5:
            node.attribute.remove(found)

    def edge(self) -> None:
        """Connect an input of a node to another value, or add an input."""
        if node := self.pick(self.graph.node):
            node.input = list(node.input) or [""]
            place = int(self.rng.integers(len(node.input) + 1))
            node.input[place : place + 1] = [self.pick(self.values())]

    def constant(self) -> None:
        """Replace a constant by one of another shape, dtype or value."""
        if tensor := self.pick(self.graph.initializer):
            self.graph.initializer.remove(tensor)
            self.add_constant(tensor.name)

    def new_constant(self) -> None:
        """Turn an input of a node into a constant."""
        if node := self.pick(self.graph.node):
            name = f"constant_{self.rng.integers(1000)}"
            self.add_constant(name)
            node.input = list(node.input) or [""]
            node.input[self.rng.integers(len(node.input))] = name

    def add_constant(self, name: str) -> None:
        shape = self.pick(SHAPES)
        if self.rng.random() < 0.5:
            array, kind = self.rng.choice(NUMBERS[:9], shape).astype(np.int64), messages.DataType.INT64
        else:
            array, kind = self.rng.standard_normal(shape).astype(np.float32), messages.DataType.FLOAT
        content = array.tobytes()
        tensor = messages.Tensor(name=name, dims=list(shape), data_type=int(kind), raw_data=content)
        self.graph.initializer.append(tensor)

    def new_node(self) -> None:
        """Insert a node that reads earlier values, and let a later node or the graph read it."""
        place = int(self.rng.integers(len(self.graph.node) + 1))
        output = f"new_{self.rng.integers(10**6)}"
        inputs = [self.pick(self.values()) for _ in range(self.rng.integers(1, 4))]
        node = messages.Node(op_type=self.pick(sorted(MODULES)), input=inputs, output=[output], name=output)
        self.graph.node.insert(place, node)
        readers = [other for other in self.graph.node[place + 1 :] if other.input]
        if reader := self.pick(readers):
            reader.input = list(reader.input)
            reader.input[self.rng.integers(len(reader.input))] = output
        else:
            self.graph.output.append(messages.ValueInfo(name=output))

    def remove(self) -> None:
        """Remove a node."""
        if node := self.pick(self.graph.node):
            self.graph.node.remove(node)

    def shape(self) -> None:
        """Change the declared shape of an input."""
        declared = self.pick(self.graph.input)
        if declared is not None and declared.type is not None and declared.type.tensor_type is not None:
            open_axis = messages.Dimension(dim_param="n")
            dims = [
                open_axis if self.rng.random() < 0.3 else messages.Dimension(dim_value=size)
                for size in self.pick(SHAPES)
            ]
            declared.type.tensor_type.shape = messages.TensorShape(dim=dims)

    def output(self) -> None:
        """Return another value."""
        if output := self.pick(self.graph.output):
            output.name, output.type = self.pick(self.values()), None


def mutated_graph(content: bytes, seed: int) -> bytes:
    """Return an ONNX file with some mutations of its graph. Raises FileError for damaged content."""
    mutator = GraphMutator(protobuf.decode(messages.Model, content), np.random.default_rng(seed))
    for _ in range(mutator.rng.integers(1, MAX_MUTATIONS + 1)):
        mutator.mutate()
    return bytes(protobuf.encode(mutator.model))
