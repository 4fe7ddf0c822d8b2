"""Translate an exported program to a graph: its inputs, constants, carries and outputs.

Buffers that forward() changes become carries: inputs that start from the values in the file unless a call
passes others, and outputs with the new values. A call never changes the file's values.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import FileError, OnwardError
from ...graph.declared import Sizes, readable
from ...graph.graph import Graph, Input
from ...graph.structure import Fixed, Structure
from . import exported_program as schema
from .aten.expressions import dtype_of
from .aten.registry import BOOL, DAMAGES, FLOAT32, INT64, Symbol, Tensor, Translator

ARRAYS = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
# torch's descriptions of nested values
MAX_DEPTH, MAX_LEAVES = 32, 10_000
TUPLES = ("builtins.tuple", "torch.Size", "torch.return_types")
DICTS = ("builtins.dict", "collections.OrderedDict", "collections.defaultdict")
FIXED = ("as_none", "as_int", "as_float", "as_bool", "as_string")


def translate(program: schema.Program) -> Graph:
    """Return the graph of a program. Raises FileError, and ArgumentError, which names the node."""
    try:
        return _Program(_without_effects(program)).translate()
    except OnwardError:
        raise
    except DAMAGES as error:
        raise FileError(f"the program is damaged: {type(error).__name__}: {error}") from error


def _without_effects(program: schema.Program) -> schema.Program:
    """Remove assertions that decomposed programs order by tokens, and the tokens."""
    graph, specs = program.graph, (program.input_specs, program.output_specs)
    kept = [
        [pair for pair in zip(each, ends, strict=False) if pair[0][0] != "token"]
        for each, ends in zip(specs, (graph.inputs, graph.outputs), strict=True)
    ]
    if sum(map(len, kept)) == sum(map(len, specs)):
        return program
    (input_specs, inputs), (output_specs, outputs) = (
        ([spec for spec, _ in pairs], [argument for _, argument in pairs]) for pairs in kept
    )
    nodes = [node for node in graph.nodes if not node.target.endswith(".with_effects")]
    found = replace(graph, inputs=inputs, outputs=outputs, nodes=nodes)
    return replace(program, graph=found, input_specs=input_specs, output_specs=output_specs)


class _Program:
    def __init__(self, program: schema.Program) -> None:
        self.program = program
        self.graph = Graph()
        self.translator = Translator(self.graph)
        self.leaves: list[Any] = []  # leaves of the parameters of forward()
        self.buffers: dict[str, Tensor] = {}  # that may be written, by name in the file
        self.axes: dict[str, tuple[int | str, ...]] = {}

    def translate(self) -> Graph:
        program = self.program
        if len(program.input_specs) != len(program.graph.inputs):
            raise FileError("the signature and the graph have different numbers of inputs")
        written = self._written()
        results = self.translator.run(program.graph, self._inputs(written))
        self._finish(results)
        self.graph.sizes = Sizes(program.ranges, self.axes)
        return self.graph

    def _inputs(self, written: set[str]) -> list[Any]:
        """Return the inputs of the program's graph; those of forward() come first in the new one."""
        pairs = list(zip(self.program.input_specs, self.program.graph.inputs, strict=True))
        order = sorted(range(len(pairs)), key=lambda place: pairs[place][0][0] in ARRAYS)
        values = {place: self._input(*pairs[place][0], pairs[place][1], written) for place in order}
        return [values[place] for place in range(len(pairs))]

    def _written(self) -> set[str]:
        """Return the names in the program of tensors that an in-place operator may write."""
        written = {
            str(spec.get("buffer_name"))
            for kind, spec in self.program.output_specs
            if kind in ("buffer_mutation", "parameter_mutation")
        }
        targets = [node.target.rpartition("::")[2].split(".") for node in self.program.graph.nodes]
        if any(len(target) > 1 and target[-2].endswith("_") for target in targets):
            buffers = {spec["buffer_name"] for kind, spec in self.program.input_specs if kind == "buffer"}
            written |= buffers & self._changed()
        return written

    def _changed(self) -> set[str]:
        """Return the buffers that a first translation, without carries, writes to."""
        trial = _Program(replace(self.program, output_specs=[]))
        trial.translator.run(self.program.graph, trial._inputs(set()))
        return {name for name, tensor in trial.buffers.items() if tensor.root.version}

    def _input(self, kind: str, spec: dict[str, Any], argument: schema.Argument, written: set[str]) -> Any:
        if kind in ARRAYS:
            return self._stored(kind, str(spec.get(ARRAYS[kind])), argument, written)
        if kind == "constant_input":
            value = next(iter(spec.get("value", {"as_none": None}).items()))
            self.leaves.append(Fixed(None if value[0] == "as_none" else value[1]))
            return self.leaves[-1].value
        if kind != "user_input":
            raise FileError(f"the program has an input of kind {kind}, which Onward does not support")
        return self._user_input(argument)

    def _stored(self, kind: str, name: str, argument: schema.Argument, written: set[str]) -> Tensor:
        if name not in self.program.arrays:
            raise FileError(f"the archive has no values of {name}")
        array, meta = self.program.arrays[name], self._meta(argument)
        if array.dtype != meta.dtype or array.shape != meta.sizes:
            raise FileError(
                f"{name} has shape {array.shape} and dtype {array.dtype}; the program declares {meta.sizes} "
                f"and {meta.dtype}"
            )
        if meta.dtype.kind == "c":
            part = np.float32 if meta.dtype == np.complex64 else np.float64
            array = np.stack([array.real, array.imag], -1).astype(part)
        if name in written:
            self.graph.add_input(name, array.dtype, array.shape)
            self.graph.add_constant(array, name)
            value = name
        else:
            value = self.graph.add_constant(array, name)
        tensor = Tensor(value, meta.dtype, array.shape if meta.dtype.kind != "c" else array.shape[:-1])
        if kind == "buffer":
            self.buffers[name] = tensor
        return tensor

    def _meta(self, argument: schema.Argument) -> schema.TensorMeta:
        name = argument.value.get("name") if argument.kind == "as_tensor" else None
        if name not in self.program.graph.tensors:
            raise FileError(f"the program does not declare the tensor {name}")
        return self.program.graph.tensors[name]

    def _user_input(self, argument: schema.Argument) -> Any:
        kind, value = argument
        if kind == "as_tensor":
            meta = self._meta(argument)
            axes = tuple(size if isinstance(size, int) else readable(size) for size in meta.sizes)
            if meta.dtype.kind == "c":
                raise FileError(f"the input {value['name']} is complex, which Onward does not support")
            name = self.graph.add_input(value["name"], meta.dtype, axes)
            self.axes[name] = axes
            self.leaves.append(name)
            return Tensor(name, meta.dtype, tuple(n if isinstance(n, int) else None for n in meta.sizes))
        if kind in FIXED:
            self.leaves.append(Fixed(None if kind == "as_none" else value))
            return self.leaves[-1].value
        if kind in ("as_sym_int", "as_sym_float", "as_sym_bool") and "as_name" in value:
            dtype = INT64 if kind == "as_sym_int" else FLOAT32 if kind == "as_sym_float" else BOOL
            name = self.graph.add_input(value["as_name"], dtype, ())
            self.leaves.append(name)
            return Symbol(name, dtype)
        raise FileError(f"the program has an argument of kind {kind}, which Onward does not support")

    def _finish(self, results: list[Any]) -> None:
        """Set the outputs of the graph: those of forward(), then the carries."""
        specs = self.program.output_specs
        if len(specs) != len(results):
            raise FileError("the signature and the graph have different numbers of outputs")
        leaves: list[Any] = []
        outputs: list[tuple[str, str, Any]] = []
        for (kind, spec), argument, result in zip(specs, self.program.graph.outputs, results, strict=True):
            if kind in ("buffer_mutation", "parameter_mutation"):
                tensor = self.buffers.get(spec.get("buffer_name", ""))
                if tensor is not None:
                    self.translator.write(tensor, self.translator.read(result).name)
            elif kind == "user_output":
                leaves.append(self._output(argument, result, outputs))
        template = _template(self.program.out_spec, iter(leaves)) if self.program.out_spec else leaves
        items = tuple(template) if isinstance(template, tuple | list) else (template,)
        for name, tensor in self.buffers.items():
            if tensor.root.version:
                output = f"{name}_next"
                outputs.append((output, self.translator.read(tensor).name, tensor))
                self.graph.carries[name] = output
                items = (*items, output)
        self.graph.outputs = tuple(value for _, value, _ in outputs)
        self.graph.declared_outputs = tuple(self._declaration(name, value) for name, _, value in outputs)
        parameters = self._parameters()
        inputs = [declared.name for declared in self.graph.inputs if declared.name in self.leaves]
        is_flat = all(isinstance(item, str) for item in items)
        if not (is_flat and [*parameters] == inputs == [*parameters.values()]):
            self.graph.structure = Structure(parameters, items)

    def _output(self, argument: schema.Argument, result: Any, outputs: list[tuple[str, str, Any]]) -> Any:
        """Add an output and return its name, or a fixed value."""
        if not isinstance(result, Tensor | Symbol):
            return Fixed(result)
        name = argument.value.get("name") or argument.value.get("as_name") or "output"
        taken = {other for other, _, _ in outputs} | {declared.name for declared in self.graph.inputs}
        unique = next(n for n in (name, *(f"{name}_{i}" for i in range(1, len(taken) + 2))) if n not in taken)
        value = self.translator.read(result).name if isinstance(result, Tensor) else result.name
        outputs.append((unique, value, result))
        return unique

    def _declaration(self, name: str, value: Any) -> Input:
        axes = tuple("" if n is None else n for n in value.shape) if isinstance(value, Tensor) else ()
        return Input(name, dtype_of(value), axes)

    def _parameters(self) -> dict[str, Any]:
        """Return the parameters of forward() as templates of the inputs."""
        if self.program.in_spec is None:
            return {leaf: leaf for leaf in self.leaves if isinstance(leaf, str)}
        template = _template(self.program.in_spec, iter(self.leaves))
        if not (isinstance(template, tuple) and len(template) == 2 and isinstance(template[1], dict)):
            raise FileError("the structure of the inputs is not that of arguments in order and by name")
        args, named = template
        known: Iterator[str] = iter(self.program.parameters)
        parameters = {next(known, f"args_{i}"): child for i, child in enumerate(args)}
        return {**parameters, **named}


def _template(text: str, leaves: Iterator[Any]) -> Any:
    """Build the nested values that torch describes in JSON from the next leaves."""
    try:
        _, tree = json.loads(text)
        return _Builder(leaves).build(tree, 0)
    except (ValueError, TypeError, KeyError, RecursionError, StopIteration, RuntimeError) as error:
        raise FileError(f"the structure of the inputs or outputs is damaged: {error}") from error


class _Builder:
    def __init__(self, leaves: Iterator[Any]) -> None:
        self.leaves, self.count = leaves, 0

    def build(self, tree: Any, depth: int) -> Any:
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_LEAVES:
            raise ValueError(f"it is deeper than {MAX_DEPTH} or has more than {MAX_LEAVES} nodes")
        kind = tree["type"]
        if kind is None:
            return next(self.leaves)
        context = json.loads(tree["context"]) if tree["context"] else None
        children = [self.build(child, depth + 1) for child in tree["children_spec"]]
        if kind.startswith(DICTS):
            keys: Any = context
            while kind != DICTS[0] and len(keys) == 2 and isinstance(keys[1], list):
                keys = keys[1]  # a defaultdict lists them after its factory
            return {_key(key): child for key, child in zip(keys, children, strict=True)}
        if kind == "builtins.list" or kind == "collections.deque":
            return children
        if kind.startswith(TUPLES) or "namedtuple" in kind:
            return tuple(children)
        raise ValueError(f"it has a {kind!r}, and Onward supports tuples, lists and dicts")


def _key(key: Any) -> Any:
    if not isinstance(key, str | int | float | bool):
        raise ValueError(f"the key {key!r} is neither a string nor a number")
    return key
