"""Translate an exported program to a graph: its inputs, constants, carries and outputs.

Buffers that forward() changes become carries: inputs that start from the values in the file unless a call
passes others, and outputs with the new values. A call never changes the file's values.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...core.files import parse_json
from ...errors import FileError, OnwardError
from ...graph.declared import Sizes, readable
from ...graph.graph import Graph, Input
from ...graph.structure import Fixed, Structure
from ...graph.structure import results as results_of
from ..zip import Data, ZipMembers
from . import exported_program as schema
from .aten import operators  # noqa: F401 - registers them
from .aten.expressions import dtype_of
from .aten.registry import BOOL, FLOAT32, INT64, Symbol, Tensor
from .aten.translator import DAMAGES, Translator

ARRAYS = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
# torch's descriptions of nested values
MAX_DEPTH = 32
TUPLES = ("builtins.tuple", "torch.Size", "torch.return_types")
DICTS = ("builtins.dict", "collections.OrderedDict", "collections.defaultdict")
FIXED = ("as_none", "as_int", "as_float", "as_bool", "as_string")
SYMBOLS: dict[str, np.dtype[Any]] = {"as_sym_int": INT64, "as_sym_float": FLOAT32, "as_sym_bool": BOOL}
SIZE = re.compile(r"L(\[[^]]*\])+\.size\(\)\[\d+\]")
WRITES = ("buffer_mutation", "parameter_mutation")


def translate(data: Data | ZipMembers) -> Graph:
    """Return the graph of an archive's program. Raises FileError, and ArgumentError, which names the node."""
    try:
        program = schema.read(data)
        written = {str(spec.get("buffer_name")) for (kind, spec), _ in program.outputs if kind in WRITES}
        translation = _Program(program)
        graph = translation.translate(written)
        if (
            not written >= translation.written
        ):  # in-place operators write further buffers, which are inputs, too
            graph = _Program(program).translate(written | translation.written)
        return graph
    except OnwardError:
        raise
    except DAMAGES as error:
        kind = "it has no entry" if isinstance(error, KeyError) else f"{type(error).__name__}:"
        raise FileError(f"the program is damaged: {kind} {error}") from error


class _Program:
    def __init__(self, program: schema.Program) -> None:
        self.program = program
        self.graph = Graph()
        self.translator = Translator(self.graph)
        self.leaves: list[Any] = []  # leaves of the parameters of forward()
        self.buffers: dict[str, Tensor] = {}  # that may be written, by name in the file
        self.axes: dict[str, tuple[int | str, ...]] = {}

    def translate(self, written: set[str]) -> Graph:
        """Return the graph, with the named buffers as inputs."""
        self._finish(self.translator.run(self.program.graph, self.inputs(written)))
        self.graph.sizes = Sizes(self.program.ranges, self.axes, tuple(self._guards()))
        return self.graph

    def _guards(self) -> Iterator[str]:
        """Yield the guards as conditions of symbols.

        torch.export assumes that no size is 0 or 1, also of values inside the program: as for the ranges of
        symbols, such guards are none.
        """
        axes: dict[str, str] = {}
        for path, name in _paths(self._parameters()):
            sizes = [size if str(size).isalnum() else f"({size})" for size in self.axes.get(name, ())]
            axes |= {f"L{path}.size()[{i}]": str(size) for i, size in enumerate(sizes)}
        for guard in self.program.guards:
            if not guard.endswith("!= 1"):
                yield SIZE.sub(lambda found: axes.get(found[0], found[0]), guard)

    @property
    def written(self) -> set[str]:
        """The names in the file of the buffers that the nodes so far write."""
        return {name for name, tensor in self.buffers.items() if tensor.root.version}

    def inputs(self, written: set[str]) -> list[Any]:
        """Return the inputs of the program's graph; those of forward() come first in the new one."""
        ends = self.program.inputs
        order = sorted(range(len(ends)), key=lambda place: ends[place][0][0] in ARRAYS)
        values = {place: self._input(*ends[place][0], ends[place][1], written) for place in order}
        return [values[place] for place in range(len(ends))]

    def _input(self, kind: str, spec: dict[str, Any], argument: schema.Argument, written: set[str]) -> Any:
        if kind in ARRAYS:
            return self._stored(kind, str(spec.get(ARRAYS[kind])), argument, written)
        if kind == "constant_input":
            value = next(iter(spec.get("value", {"as_none": None}).items()))
            self.leaves.append(Fixed(None if value[0] == "as_none" else value[1]))
            return self.leaves[-1].value
        if kind != "user_input":
            raise FileError(f"the program has an input of kind {kind}, which Onward does not support")
        kind, value = argument
        if kind == "as_tensor":
            meta = self._meta(argument)
            axes = tuple(size if isinstance(size, int) else readable(size) for size in meta.sizes)
            if meta.dtype.kind == "c":
                raise FileError(f"the input {value['name']} is complex, which Onward does not support")
            name = self.graph.add_input(value["name"], meta.dtype, axes)
            self.axes[name] = axes
            self.leaves.append(name)
            shape = tuple(n if isinstance(n, int) else None for n in meta.sizes)
            return Tensor(name, meta.dtype, shape, is_contiguous=meta.is_contiguous and meta.offset == 0)
        if kind in FIXED:
            self.leaves.append(Fixed(None if kind == "as_none" else value))
            return self.leaves[-1].value
        if kind in SYMBOLS and "as_name" in value:
            name = self.graph.add_input(value["as_name"], SYMBOLS[kind], ())
            self.leaves.append(name)
            return Symbol(name, SYMBOLS[kind])
        raise FileError(f"the program has an argument of kind {kind}, which Onward does not support")

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

    def _finish(self, results: list[Any]) -> None:
        """Set the outputs of the graph: those of forward(), then the carries."""
        leaves: list[Any] = []
        outputs: list[tuple[str, str, Any]] = []
        for ((kind, spec), argument), result in zip(self.program.outputs, results, strict=True):
            if kind in WRITES:
                tensor = self.buffers.get(spec.get("buffer_name", ""))
                if tensor is not None:
                    self.translator.write(tensor, self.translator.read(result).name)
            elif kind == "user_output":
                leaves.append(self._output(argument, result, outputs))
        template = _template(self.program.out_spec, iter(leaves)) if self.program.out_spec else tuple(leaves)
        for name, tensor in self.buffers.items():
            if tensor.root.version:
                output = f"{name}_next"
                outputs.append((output, self.translator.read(tensor).name, tensor))
                self.graph.carries[name] = output
        self.graph.outputs = tuple(value for _, value, _ in outputs)
        self.graph.declared_outputs = tuple(
            Input(name, dtype_of(value), tuple("" if n is None else n for n in getattr(value, "shape", ())))
            for name, _, value in outputs
        )
        items = results_of(template, tuple(self.graph.carries.values()))
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
        if result.dtype.kind == "c":
            raise FileError(f"the output {name} is complex, which Onward does not support: view it as real")
        taken = {other for other, _, _ in outputs} | {declared.name for declared in self.graph.inputs}
        unique = next(n for n in (name, *(f"{name}_{i}" for i in range(1, len(taken) + 2))) if n not in taken)
        outputs.append((unique, self.translator.named(result), result))
        return unique

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


def _paths(template: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path to each input in nested values, as guards write it, and its name."""
    if isinstance(template, str):
        yield path, template
    elif isinstance(template, dict | list | tuple):
        pairs = template.items() if isinstance(template, dict) else enumerate(template)
        for key, value in pairs:
            yield from _paths(value, f"{path}[{key!r}]")
            name, _, place = str(key).rpartition("_")
            if not path and place.isdecimal():  # one of *name
                yield from _paths(value, f"[{name!r}][{place}]")


def _template(text: str, leaves: Iterator[Any]) -> Any:
    """Build the nested values that torch describes in JSON from the next leaves."""

    def built(tree: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError(f"it is deeper than {MAX_DEPTH}")
        kind = tree["type"]
        if kind is None:
            return next(leaves)
        keys: Any = parse_json(tree["context"], "a context") if tree["context"] else None
        children = [built(child, depth + 1) for child in tree["children_spec"]]
        if kind.startswith(DICTS):
            while kind != DICTS[0] and len(keys) == 2 and isinstance(keys[1], list):
                keys = keys[1]  # a defaultdict lists them after its factory
            if others := [key for key in keys if not isinstance(key, str | int | float | bool)]:
                raise ValueError(f"the key {others[0]!r} is neither a string nor a number")
            return dict(zip(keys, children, strict=True))
        if kind == "builtins.list" or kind == "collections.deque":
            return children
        if kind.startswith(TUPLES) or "namedtuple" in kind:
            return tuple(children)
        raise ValueError(f"it has a {kind!r}, and Onward supports tuples, lists and dicts")

    try:
        _, tree = parse_json(text, "it")
        return built(tree, 0)
    except (ValueError, TypeError, KeyError, RecursionError, StopIteration, RuntimeError) as error:
        raise FileError(f"the structure of the inputs or outputs is damaged: {error}") from error
