"""Describe graphs as JSON and tensors, in which form Onward saves them, and rebuild them.

The description lists the inputs, outputs and nodes. Arrays are tensors of the file, to which the description
refers by key; values of other types have a tag, such as {"dtype": "float32"}.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import budget, storage
from ..core.cell import Cell
from ..core.extras import install_hint
from ..core.identity import Identity
from ..errors import ArgumentError
from ..graph import Graph, Input
from ..graph.declared import Sizes
from ..graph.node import AnyArray, Node
from ..graph.structure import Fixed, Structure, names
from . import native

Tensors = dict[str, NDArray[Any]]
STORED = {np.dtype(dtype).name for name, dtype in storage.DTYPES.items() if name not in ("BF16", "C64")}
CONTROL = {
    "If": ("then_branch", "else_branch"),
    "Loop": ("body",),
    "Scan": ("body",),
    "SequenceMap": ("body",),
}
CELL = "layer"  # the name in descriptions of the attribute that holds a cell
MAX_DEPTH = 32  # nested bodies and lists
PARAMETERS = {"self", "operation", "inputs", "outputs", "name", "source"}  # of Graph.add_all


def describe(graph: Graph) -> tuple[dict[str, Any], Tensors]:
    """Return the description and the tensors of a graph.

    Constants of the graph keep their names as keys. Raises ArgumentError, which names the node, for a node
    that runs a Python function.
    """
    writer = _Writer()
    described: dict[str, Any] = {
        "graph": writer.graph(graph, ""),
        "layers": writer.layers,
        "opset": graph.opset,
        "of_layers": graph.of_layers,
        "carries": graph.carries,
        "sizes": {"ranges": dict(graph.sizes.ranges), "axes": dict(graph.sizes.axes)},
    }
    if graph.structure is not None:
        parameters = {name: _template(template) for name, template in graph.structure.parameters.items()}
        described["structure"] = {
            "parameters": parameters,
            "results": list(map(_template, graph.structure.results)),
        }
    return described, writer.tensors


def _template(template: Any) -> Any:
    """Describe a template of a `Structure`."""
    match template:
        case str():
            return template
        case Fixed(value) if value is None or isinstance(value, bool | int | float | str):
            return {"fixed": value}
        case tuple() | list():
            return {type(template).__name__: [_template(item) for item in template]}
        case dict() if all(isinstance(key, str | int) for key in template):
            return {"dict": [[key, _template(item)] for key, item in template.items()]}
    raise ArgumentError(f"the model takes or returns {template!r}, which cannot be saved")


class _Writer:
    """Collects the tensors and cells of a graph; those that several nodes share are stored once."""

    def __init__(self) -> None:
        self.tensors: Tensors = {}
        self.layers: list[Any] = []
        self._prefixes: list[str] = []  # prefixes of the names of the cells' weights
        self._known: dict[Identity, Any] = {}  # the descriptions of arrays and cells

    def graph(self, graph: Graph, path: str) -> dict[str, Any]:
        return {
            "inputs": [_declared(declared) for declared in graph.inputs],
            "outputs": list(graph.outputs),
            "declared_outputs": [_declared(declared) for declared in graph.declared_outputs],
            "constants": {name: self.array(array, path + name) for name, array in graph.constants.items()},
            "defaults": sorted(graph.defaults),
            "nodes": [self._node(node, path) for node in graph.nodes],
        }

    def _node(self, node: Node, path: str) -> dict[str, Any]:
        if node.operation == "Python":
            raise ArgumentError(
                f"{node} runs a Python function, which cannot be saved: load the model from its own file"
            )
        prefix = f"{path}{next(filter(None, node.outputs), node.name)}/"
        described = {"operation": node.operation, "inputs": list(node.inputs), "outputs": list(node.outputs)}
        described |= {"name": node.name} | ({"source": node.source} if node.source else {})
        try:
            attributes = {
                CELL if name == "cell" else name: self._value(value, prefix + name)
                for name, value in node.attributes.items()
            }
        except ArgumentError as error:
            raise ArgumentError(f"{node}: {error}") from error
        return described | ({"attributes": attributes} if attributes else {})

    def _value(self, value: Any, path: str) -> Any:
        match value:
            case np.generic():
                return value.item()
            case None | bool() | int() | float() | str():
                return value
            case list() | tuple():
                return [self._value(item, f"{path}/{place}") for place, item in enumerate(value)]
            case np.ndarray():
                return self.array(value, path)
            case np.dtype():
                return {"dtype": value.name}
            case Graph():
                return {"graph": self.graph(value, f"{path}/")}
            case Cell():
                return {"layer": self._cell(value, path)}
        raise ArgumentError(f"the attribute {path} of type {type(value).__name__} cannot be saved")

    def array(self, array: AnyArray, name: str) -> dict[str, Any]:
        """Describe an array, and store it if it is not stored already."""
        if array.dtype == object:
            if others := {type(item).__name__ for item in array.flat if not isinstance(item, str)}:
                raise ArgumentError(f"{name} holds objects of type {min(others)}, which cannot be saved")
            return {"strings": array.ravel().tolist(), "shape": list(array.shape)}
        identity = Identity(array)
        if identity not in self._known:
            key = self._new_key(name)
            description: dict[str, Any] = {"tensor": key}
            if array.dtype.name in STORED:
                self.tensors[key] = array
            else:  # a dtype that safetensors lacks, as bytes
                self.tensors[key] = np.frombuffer(array.tobytes(), np.uint8)
                description |= {"dtype": array.dtype.name, "shape": list(array.shape)}
            self._known[identity] = description
        described: dict[str, Any] = self._known[identity]
        return described

    def _cell(self, cell: Cell, name: str) -> int:
        identity = Identity(cell)
        if identity not in self._known:
            prefix = self._new_key(f"{name}.")
            while any(key.startswith(prefix) for key in self.tensors):
                prefix = f"_{prefix}"
            self._prefixes.append(prefix)
            self.tensors |= {prefix + weight: array for weight, array in cell.weights.items()}
            self._known[identity] = len(self.layers)
            self.layers.append({"prefix": prefix, "description": cell.description()})
        place: int = self._known[identity]
        return place

    def _new_key(self, name: str) -> str:
        """Return the name, or a similar one if a tensor or the weights of a cell have it."""
        while name in self.tensors or any(map(name.startswith, self._prefixes)):
            name = f"_{name}"
        return name


def _declared(declared: Input) -> dict[str, Any]:
    dtype = {} if declared.dtype is None else {"dtype": declared.dtype.name}
    axes = {} if declared.axes is None else {"axes": list(declared.axes)}
    converts = {} if declared.converts == "same_kind" else {"converts": declared.converts}
    return {"name": declared.name, **dtype, **axes, **converts}


def rebuild(description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Graph:
    """Return the graph of a description from `describe`.

    Raises ArgumentError, before any computation, if the description does not have this form.
    """
    described, layers, opset, of_layers = _entries(
        description, graph=dict, layers=list, opset=int, of_layers=bool
    )
    carries, sizes, structure = _entries(description, carries=dict, sizes=dict, structure=(dict, None))
    graph = _Reader(layers, tensors).graph(described, 0)
    graph.opset, graph.of_layers, graph.carries, graph.sizes = opset, of_layers, carries, _sizes(sizes)
    inputs, outputs = ({declared.name for declared in own} for own in (graph.inputs, graph.declared_outputs))
    _expect(carries.keys() <= inputs, "carries are not inputs")
    _expect(all(isinstance(n, str) and n in outputs for n in carries.values()), "carries are not outputs")
    if structure is not None:
        parameters, described_results = _entries(structure, parameters=dict, results=list)
        results = tuple(_restored(template, 0) for template in described_results)
        _expect(
            outputs.issuperset(name for template in results for name in names(template)),
            "results are not outputs",
        )
        restored = {name: _restored(template, 0) for name, template in parameters.items()}
        graph.structure = Structure(restored, results)
    return graph


def _restored(described: Any, depth: int) -> Any:
    """Rebuild a template of a `Structure`."""
    _expect(depth < MAX_DEPTH, f"values are nested more than {MAX_DEPTH} times")
    match described:
        case str():
            return described
        case {"fixed": None | bool() | int() | float() | str() as value}:
            return Fixed(value)
        case {"tuple": list(items)}:
            return tuple(_restored(item, depth + 1) for item in items)
        case {"list": list(items)}:
            return [_restored(item, depth + 1) for item in items]
        case {"dict": list(items)} if all(
            isinstance(item, list) and len(item) == 2 and isinstance(item[0], str | int) for item in items
        ):
            return {key: _restored(item, depth + 1) for key, item in items}
    raise ArgumentError(f"the description has {str(described)[:60]}; expected a template")


def _sizes(described: dict[str, Any]) -> Sizes:
    ranges, axes = _entries(described, ranges=dict, axes=dict)
    for bounds in ranges.values():
        _expect(_is_list(bounds, [int, type(None)]) and len(bounds) == 2, f"a range is {bounds}")
    for sizes in axes.values():
        _expect(_is_list(sizes, [int, str]), f"the sizes of an input are {sizes}")
    pairs = {name: (bounds[0], bounds[1]) for name, bounds in ranges.items()}
    return Sizes(pairs, {name: tuple(sizes) for name, sizes in axes.items()})


class _Reader:
    """Rebuilds graphs from descriptions, of which nothing is certain."""

    def __init__(self, layers: list[Any], tensors: Mapping[str, NDArray[Any]]) -> None:
        self._tensors, self._arrays = tensors, dict[str, AnyArray]()
        self._cells = [self._cell(described) for described in layers]

    def graph(self, described: dict[str, Any], depth: int) -> Graph:
        graph = Graph()
        inputs, constants, nodes, declared_outputs = _entries(
            described, inputs=list, constants=dict, nodes=list, declared_outputs=list
        )
        defaults, outputs = _entries(described, defaults=[str], outputs=[str])
        for declared in map(_input, inputs):
            _expect(graph.add_input(*declared) == declared.name, f"the input {declared.name} occurs twice")
        for name, value in constants.items():
            _expect(graph.add_constant(self._array(value), name) == name, f"the value {name} occurs twice")
        _expect(graph.defaults == frozenset(defaults), "defaults are not the inputs with constants")
        defined = {"", *graph.constants, *(declared.name for declared in graph.inputs)}
        for node in nodes:
            self._add_node(graph, node, defined, depth)
        for name in outputs:
            _expect(name in defined, f"the output {name} is not defined")
        graph.outputs, graph.declared_outputs = tuple(outputs), tuple(map(_input, declared_outputs))
        _expect(len(declared_outputs) in (0, len(outputs)), "declared_outputs are not the outputs")
        return graph

    def _add_node(self, graph: Graph, node: Any, defined: set[str], depth: int) -> None:
        operation, inputs, outputs, name = _entries(
            node, operation=str, inputs=[str], outputs=[str], name=str
        )
        source, described = _entries(node, source=(str, ""), attributes=(dict, {}))
        owner = f"node {name} ({source or operation})"
        for value in inputs:
            _expect(value in defined, f"{owner} takes {value}, which no earlier node defines")
        _expect(operation != "Python", f"{owner} would run a Python function")
        _expect(PARAMETERS.isdisjoint(described), f"{owner} has an attribute of an impossible name")
        attributes = {
            "cell" if key == CELL else key: self._value(value, depth + 1) for key, value in described.items()
        }
        if "cell" in attributes:
            _expect(isinstance(attributes["cell"], Cell), f"{owner} has no recurrent cell")
        wanted = [output or "unused" for output in outputs]
        named = graph.add_node(operation, inputs, wanted, attributes, name, source)
        for output, new in zip(outputs, named, strict=True):
            _expect(output in ("", new), f"{owner} defines {output}, which another node defines")
        graph.nodes[-1] = Node(operation, tuple(inputs), tuple(outputs), attributes, name, source)
        if operation in CONTROL:
            _check_bodies(graph.nodes[-1])
        defined |= set(outputs)

    def _value(self, value: Any, depth: int) -> Any:
        _expect(depth < MAX_DEPTH, f"values are nested more than {MAX_DEPTH} times")
        if isinstance(value, list):
            return [self._value(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        match value:
            case {"dtype": str(name)} if len(value) == 1:
                return _dtype(name)
            case {"graph": dict(body)}:
                return self.graph(body, depth)
            case {"layer": int(place)} if 0 <= place < len(self._cells):
                return self._cells[place]
        return self._array(value)

    def _array(self, value: Any) -> AnyArray:
        match value:
            case {"strings": list(items), "shape": list(shape)} if all(isinstance(i, str) for i in items):
                strings = np.empty(len(items), object)
                strings[:] = items
                return _shaped(strings, shape)
            case {"tensor": str(key), "dtype": str(name), "shape": list(shape)} if key in self._tensors:
                content, dtype = self._tensors[key], _dtype(name)
                budget.take(content.nbytes)
                fits = content.dtype == np.uint8 and content.ndim == 1 and dtype.itemsize
                _expect(fits and content.size % dtype.itemsize == 0, f"{key} does not hold {name}")
                return _shaped(np.frombuffer(content.tobytes(), dtype), shape)
            case {"tensor": str(key)} if key in self._tensors:
                if key not in self._arrays:  # an aligned copy
                    self._arrays[key] = self._tensors[key].copy()
                return self._arrays[key]
        raise ArgumentError(f"the description has {str(value)[:60]}; expected a tensor of the file")

    def _cell(self, described: Any) -> Cell:
        prefix, description = _entries(described, prefix=str, description=dict)
        budget.spend(budget.STEP * len(self._tensors))
        weights = {name: array for name, array in self._tensors.items() if name.startswith(prefix)}
        return native.cell(description, {name.removeprefix(prefix): a for name, a in weights.items()})


def _check_bodies(node: Node) -> None:
    captured, count = node.captured, len(node.inputs)
    _expect(type(captured) is int and 0 <= captured <= count, f"{node} has {captured!r} captured values")
    for name in CONTROL[node.operation]:
        body = node.attributes.get(name)
        _expect(isinstance(body, Graph) and len(body.inputs) >= captured, f"{node} has no graph {name}")


def _input(described: Any) -> Input:
    name, dtype, axes, converts = _entries(
        described, name=str, dtype=(str, None), axes=([int, str], None), converts=(str, None)
    )
    axes = None if axes is None else tuple(axes)
    return Input(name, None if dtype is None else _dtype(dtype), axes, converts or "same_kind")


def _dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of NumPy or ml_dtypes with this name."""
    if name in STORED or name in ("complex64", "complex128", "object"):
        return np.dtype(name)
    try:
        import ml_dtypes  # type: ignore[import-not-found, unused-ignore]  # an optional package

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    except ModuleNotFoundError as error:
        raise ArgumentError(f"the dtype {name} needs ml_dtypes: {install_hint('onnx')}") from error
    except (AttributeError, TypeError) as error:
        raise ArgumentError(f"the description has the unknown dtype {name!r}") from error
    return found


def _shaped(array: AnyArray, shape: list[Any]) -> AnyArray:
    _expect(all(type(size) is int and size >= 0 for size in shape), f"an array has the shape {shape}")
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise ArgumentError(f"an array of {array.size} elements has the shape {shape}") from error


def _entries(described: Any, **kinds: Any) -> list[Any]:
    """Return entries of a description, whose kinds are types, or lists of the types of a list's items.

    Optional entries have a tuple of the kind and the default. Raises ArgumentError.
    """
    values = []
    for key, kind in kinds.items():
        kind, *default = kind if isinstance(kind, tuple) else (kind,)
        _expect(isinstance(described, Mapping) and (default or key in described), f"{key} is missing")
        value = described.get(key, *default)
        fits = _is_list(value, kind) if isinstance(kind, list) else isinstance(value, kind)
        what = f"list of {kind[0].__name__}" if isinstance(kind, list) else kind.__name__
        _expect(fits or (default and value is default[0]), f"{key} is no {what}: {str(value)[:60]}")
        values.append(value)
    return values


def _is_list(value: Any, kinds: Collection[type]) -> bool:
    return isinstance(value, list) and all(type(item) in kinds for item in value)


def _expect(condition: Any, problem: str) -> None:
    if not condition:
        raise ArgumentError(f"the description of the graph is damaged: {problem}")
