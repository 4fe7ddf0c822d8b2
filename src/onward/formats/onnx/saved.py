"""Save graphs as ONNX models whose nodes are Onward's own operations, and rebuild them unchanged.

The constants are tensors of a file of safetensors, to which the messages of ONNX refer as external data.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...core import files, storage
from ...core.cell import Cell
from ...core.identity import Identity
from ...errors import ArgumentError
from ...graph import Graph, Input, Node
from ...graph.declared import Sizes
from ...graph.node import AnyArray
from ...graph.structure import Fixed, Structure, names
from .. import native
from . import build, messages
from .graph_writer import File, GraphWriter
from .protobuf import encode
from .read import read
from .tensors import DATA_TYPES, dtype_of
from .translate import BODIES, Scope, translate

Tensors = dict[str, NDArray[Any]]
DOMAIN, VERSION = "onward.graph", 1  # of the nodes; the metadata's key for what ONNX does not express
STORED = {np.dtype(dtype) for name, dtype in storage.DTYPES.items() if name not in ("BF16", "C64")}
MAX_DEPTH = 32  # nested lists
PARAMETERS = {"self", "operation", "inputs", "outputs", "name", "source"}  # of Graph.add_all


def describe(graph: Graph) -> tuple[dict[str, Any], Tensors]:
    """Return the description and the tensors of a graph.

    Constants of the graph keep their names as keys. Raises ArgumentError, which names the node, for a node
    that runs a Python function.
    """
    file = _File()
    file.names |= {name for node in graph.nodes for name in node.outputs}
    file.names |= {*graph.constants, *(declared.name for declared in graph.inputs)}
    opsets = {DOMAIN: VERSION} | ({"": graph.opset} if graph.opset else {})
    written = _Writer(file, graph).finish()
    about: dict[str, Any] = {
        "carries": graph.carries,
        "inputs": [[declared.axes, declared.converts] for declared in graph.inputs],
        "outputs": [[declared.axes, declared.name] for declared in graph.declared_outputs],
        "sizes": {
            "ranges": dict(graph.sizes.ranges),
            "axes": dict(graph.sizes.axes),
            "guards": list(graph.sizes.guards),
        },
    }
    if graph.structure is not None:
        about["structure"] = {
            "parameters": {name: _template(each) for name, each in graph.structure.parameters.items()},
            "results": list(map(_template, graph.structure.results)),
        }
    texts = {DOMAIN: json.dumps(about)} | ({messages.OF_LAYERS: ""} if graph.of_layers else {})
    model = messages.Model(
        ir_version=8,
        producer_name="onward",
        graph=written,
        opset_import=[messages.OperatorSetId(domain=domain, version=n) for domain, n in opsets.items()],
        metadata_props=[messages.StringStringEntry(key=key, value=text) for key, text in texts.items()],
    )
    return {"onnx": base64.b64encode(encode(model)).decode()}, file.tensors


class _File(File):
    """Collects the tensors and cells of a graph; those that several nodes share are stored once."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: Tensors = {}
        self._known: dict[Identity, Any] = {}  # the keys of arrays and the descriptions of cells
        self._prefixes: list[str] = []  # of the names of the cells' weights

    def tensor(self, array: AnyArray, name: str) -> messages.Tensor:
        if array.dtype == object:
            return build.tensor(array, name)
        identity = Identity(array)
        if identity not in self._known:
            key = self._known[identity] = self._new_key(name)
            is_stored = array.dtype in STORED
            self.tensors[key] = array if is_stored else np.frombuffer(build.content(array), np.uint8)
        return messages.Tensor(
            name=name,
            dims=list(array.shape),
            data_type=DATA_TYPES[array.dtype.name],
            external_data=[messages.StringStringEntry(key="location", value=self._known[identity])],
            data_location=messages.DataLocation.EXTERNAL,
        )

    def cell(self, cell: Cell, name: str) -> dict[str, Any]:
        """Return the description of a cell and where its weights are."""
        identity = Identity(cell)
        if identity not in self._known:
            prefix = self._new_key(f"{name}.")
            while any(key.startswith(prefix) for key in self.tensors):
                prefix = f"_{prefix}"
            self._prefixes.append(prefix)
            self.tensors |= {prefix + weight: array for weight, array in cell.weights.items()}
            weights = {weight: prefix + weight for weight in cell.weights}
            self._known[identity] = {"cell": cell.description(), "weights": weights}
        described: dict[str, Any] = self._known[identity]
        return described

    def _new_key(self, name: str) -> str:
        """Return the name, or a similar one if a tensor or the weights of a cell have it."""
        while name in self.tensors or any(map(name.startswith, self._prefixes)):
            name = f"_{name}"
        return name


class _Writer(GraphWriter):
    """Writes each node of a graph or body as the operation that it is."""

    _file: _File

    def new_name(self, name: str) -> str:
        """Return a name for a new value; those outside bodies keep theirs."""
        return name if self.is_outermost else super().new_name(name)

    def constant(self, value: ArrayLike, name: str = "constant") -> str:
        if self.is_outermost:
            self.stored.pop(Identity(value), None)  # an array may have several names
        return super().constant(value, name)

    def declared_outputs(self) -> Sequence[Input]:
        """Return the types of the outputs under the names of the values."""
        pairs = zip(super().declared_outputs(), self._graph.outputs, strict=True)
        return [declared.with_name(name) for declared, name in pairs]

    def value_info(self, declared: Input, name: str) -> messages.ValueInfo:
        if declared.dtype is None:  # any object
            return messages.ValueInfo(name=name, type=messages.Type(opaque_type=messages.OpaqueType()))
        return super().value_info(declared, name)

    def write(self, node: Node) -> None:
        if node.operation == "Python":
            raise ArgumentError(
                f"{node} runs a Python function, which cannot be saved: load the model from its own file"
            )
        inputs = [self.names[name] for name in node.inputs]
        outputs = [name and self.output(name) for name in node.outputs]
        owner = next(filter(None, outputs), node.name)
        attributes: dict[str, Any] = self.written_bodies(node, inputs, owner)
        inputs = inputs[: len(inputs) - node.captured] if attributes else inputs
        options = {}
        for name, value in node.attributes.items():
            try:
                if isinstance(value, np.ndarray):
                    attributes[name] = self._file.tensor(value, f"{owner}/{name}")
                elif name not in attributes:
                    options[name] = self._option(value, f"{owner}/{name}")
            except ArgumentError as error:
                raise ArgumentError(f"{node}: {error}") from error
        texts = {"source": node.source, "options": json.dumps(options) if options else ""}
        attributes |= {key: text for key, text in texts.items() if text}
        self.add(node.operation, inputs, outputs, node.name, DOMAIN, **attributes)

    def write_copy(self, value: str, copy: str) -> None:
        self.add("Identity", [value], [copy], copy, DOMAIN)

    def _option(self, value: Any, path: str) -> Any:
        match value:
            case np.generic():
                return value.item()
            case None | bool() | int() | float() | str():
                return value
            case list() | tuple():
                return [self._option(item, f"{path}/{place}") for place, item in enumerate(value)]
            case np.dtype():
                return {"dtype": value.name}
            case Cell():
                return self._file.cell(value, path)
        raise ArgumentError(f"the attribute {path} of type {type(value).__name__} cannot be saved")


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


def rebuild(description: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Graph:
    """Return the graph of a description from `describe`.

    Raises ArgumentError, before any computation, if the description does not have this form.
    """
    if "graph" in description:
        raise ArgumentError("a development version of Onward saved it: load the source and save it again")
    (text,) = _entries(description, onnx=str)
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ArgumentError(f"the description of the graph is not base64: {error}") from error
    model = read("", content, tensors)
    graph = translate(model, {DOMAIN: _Reader(tensors).add})
    texts = {entry.key: entry.value for entry in model.metadata_props}
    _add_signature(graph, files.parse_json(texts.get(DOMAIN, "null"), "the metadata of the graph"))
    return graph


def _add_signature(graph: Graph, about: Any) -> None:
    """Add to a graph what ONNX does not express. Raises ArgumentError."""
    carries, inputs, outputs, sizes, structure = _entries(
        about, carries=dict, inputs=[list], outputs=[list], sizes=dict, structure=(dict, None)
    )
    _expect(len(inputs) == len(graph.inputs), "inputs are not those of the graph")
    _expect(len(outputs) in (0, len(graph.outputs)), "outputs are not those of the graph")
    graph.inputs = [
        Input(each.name, each.dtype, axes, converts)
        for each, (axes, converts) in zip(graph.inputs, map(_declaration, inputs), strict=True)
    ]
    graph.declared_outputs = tuple(
        Input(name, each.dtype, axes)
        for each, (axes, name) in zip(graph.declared_outputs, map(_declaration, outputs), strict=False)
    )
    graph.carries, graph.sizes = carries, _sizes(sizes)
    outputs = [declared.name for declared in graph.declared_outputs]
    _expect(carries.keys() <= {each.name for each in graph.inputs}, "carries are not inputs")
    _expect(all(isinstance(n, str) and n in outputs for n in carries.values()), "carries are not outputs")
    if structure is not None:
        parameters, described_results = _entries(structure, parameters=dict, results=list)
        results = tuple(_restored(template, 0) for template in described_results)
        found = {name for template in results for name in names(template)}
        _expect(found <= set(outputs), "results are not outputs")
        restored = {name: _restored(template, 0) for name, template in parameters.items()}
        graph.structure = Structure(restored, results)


def _declaration(described: list[Any]) -> tuple[tuple[int | str, ...] | None, str]:
    """Return the axes of an input or output, and the text beside them."""
    _expect(len(described) == 2, f"an input or output is described by {described}")
    axes, text = described
    _expect(axes is None or _is_list(axes, [int, str]), f"the axes of a value are {axes}")
    _expect(isinstance(text, str), f"an input or output is described by {text}")
    return None if axes is None else tuple(axes), text


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
    ranges, axes, guards = _entries(described, ranges=dict, axes=dict, guards=([str], []))
    for bounds in ranges.values():
        _expect(_is_list(bounds, [int, type(None)]) and len(bounds) == 2, f"a range is {bounds}")
    for sizes in axes.values():
        _expect(_is_list(sizes, [int, str]), f"the sizes of an input are {sizes}")
    pairs = {name: (bounds[0], bounds[1]) for name, bounds in ranges.items()}
    return Sizes(pairs, {name: tuple(sizes) for name, sizes in axes.items()}, tuple(guards))


class _Reader:
    """Rebuilds nodes from messages, of which nothing is certain."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        self._tensors = tensors
        self._cells: dict[str, Cell] = {}  # by their descriptions

    def add(
        self, scope: Scope, node: messages.Node, version: int, inputs: list[str], attributes: dict[str, Any]
    ) -> Sequence[str]:
        """Add a node to the graph of a scope, and return its outputs."""
        _expect(version == VERSION, f"its version is {version}; expected {VERSION}")
        _expect(node.op_type != "Python", "it would run a Python function")
        source, options = attributes.pop("source", ""), attributes.pop("options", "{}")
        _expect(isinstance(source, str) and isinstance(options, str), "source and options are no texts")
        (described,) = _entries({"options": files.parse_json(options, "options")}, options=dict)
        _expect(PARAMETERS.isdisjoint(described.keys() | attributes.keys()), "an attribute has a wrong name")
        restored = {key: self._option(value, 0) for key, value in described.items()} | attributes
        _expect(isinstance(restored.get("cell", None), Cell | None), "it has no recurrent cell")
        if node.op_type in BODIES:
            inputs, restored = scope.with_bodies(node.op_type, inputs, restored)
            are_graphs = all(isinstance(restored.get(name), Graph) for name in BODIES[node.op_type])
            _expect(are_graphs, f"it has not the graphs {', '.join(BODIES[node.op_type])}")
        _expect(not any(isinstance(each, messages.Graph) for each in restored.values()), "it has a graph")
        return scope.graph.add_node(node.op_type, inputs, node.output, restored, node.name, source)

    def _option(self, value: Any, depth: int) -> Any:
        _expect(depth < MAX_DEPTH, f"values are nested more than {MAX_DEPTH} times")
        match value:
            case list():
                return [self._option(item, depth + 1) for item in value]
            case {"dtype": str(name)} if name in DATA_TYPES:
                return dtype_of(DATA_TYPES[name], "the attribute")
            case {"cell": dict(description), "weights": dict(weights)}:
                key = json.dumps(value)
                if key not in self._cells:
                    keys = list(weights.values())
                    _expect(_is_list(keys, [str]), f"the weights of a cell are {keys}")
                    _expect(self._tensors.keys() >= set(keys), f"the file lacks some of the tensors {keys}")
                    found = {name: self._tensors[key] for name, key in weights.items()}
                    self._cells[key] = native.cell(description, found)
                return self._cells[key]
            case dict():
                raise ArgumentError(f"an attribute is {str(value)[:60]}; expected a dtype or a cell")
        return value


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
