"""A method of a TorchScript module as a program: it records a graph for each signature of its inputs."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ....core import budget
from ....core.identity import Identity
from ....core.recent import Recent
from ....errors import ArgumentError, OnwardError, SignatureError
from ....graph import Graph, Input
from ....graph.declared import as_declared
from ....graph.node import AnyArray, Signature
from ....graph.simplification.simplify import simplify
from ....graph.size import Axes, Size, are_same, hint
from ....graph.structure import CONTAINERS, Fixed, leaves
from ....graph.structure import Structure as Templates
from ....graph.structure import names as names_of
from ....graph.structure import results as results_of
from ...zip import Data
from ..archive import Archive, read
from ..aten.registry import Symbol, Tensor
from ..unpickle import PickledObject
from .code import Class, Code, Function, annotation
from .general import general_graph, plain
from .interpreter import Interpreter
from .nesting import (
    NOTHING,
    NUMBERS,
    RESULT,
    UNCOMPUTED,
    UNSIZED,
    ResultsChangedError,
    Structure,
    form,
    structure_of,
)
from .objects import Loader, Search
from .recording import Folded, Known, Recording
from .values import Object, Unknown, items, rebuilt

NONE = np.array(None, object)  # the value of an input that is None
MAX_MESSAGE = 2000  # characters of an error
SEARCH = 2 * 10**9  # elementary operations that the search for a graph of all sizes may take


class State(NamedTuple):
    """The attributes that calls change, which are additional inputs and outputs, by name."""

    paths: Mapping[str, tuple[str, ...]]
    initial: Mapping[str, AnyArray]  # the values in the file
    numbers: set[str]  # those that are numbers


class Program:
    """A method of a module in an archive with this content.

    Reading it finds the weights and the signature of the method; all other code is read when it is needed.
    `graph()` returns a graph of one node, which records the method for each signature of its inputs.
    """

    def __init__(
        self,
        content: Data,
        method: str = "forward",
        part: str = "",
        archive: Archive | None = None,
        code: Code | None = None,
    ) -> None:
        self.content, self.method, self.part = content, method, part
        self.seen: dict[str, Signature] = {}  # the tensors of the last call that the code accepted
        self.found: dict[Any, Graph | OnwardError] = {}  # the last graph for all sizes, by the tensors seen
        self.by_form: Recent[Program] = Recent()  # for the containers, strings and None of calls
        self.is_sized = False  # whether these programs are for inputs of some sizes, which decide the results
        archive = archive or read(content)
        self.code = code or Code(archive.code)
        self.interpreter = Interpreter(self.code, Recording())  # of what the first call starts from
        self.loader = Loader(archive, self.code, self.interpreter.recorder)
        self.module = self._start(self.interpreter, self.loader)
        for path in self.loader.classes:
            if not self.code.has_file_of(path):
                raise ArgumentError(f"the archive has no class {path[:100]}")
        methods = self.module.kind.methods
        found = methods.get(method) or methods.get(f"{method}__0")  # the first overload
        if found is None:
            names = ", ".join(methods) or "none"
            raise ArgumentError(f"{self.module.class_path} has no method {method}; it has {names}")
        self.function: Function = found
        self.describe({})
        self._state: State | None = None
        self.weights = self.loader.arrays
        self.folded = Folded(set(map(Identity, self.weights.values())))

    def describe(self, given: Mapping[str, Any]) -> None:
        """Find the structure of the inputs and outputs, with the containers that are given by name."""
        self.given = given
        self.varying: list[str] = []  # the parameters that are containers or may be None
        self.inputs: list[tuple[str, Structure, ast.expr | None]] = []
        self.kinds: dict[str, str] = {}  # the types of the tensors and numbers among the inputs
        self.defaults: dict[str, AnyArray] = {}  # by the names of these
        for name, kind, default in list(self.function.parameters)[1:]:
            structure = structure_of(self.code, name, kind, self.kinds, given.get(name, UNSIZED))
            if kind is not None and name in given and UNSIZED in leaves(structure):
                raise SignatureError(f"{name} is not what the code expects: {ast.unparse(kind)}"[:300])
            self.inputs.append((name, structure, default))
            if annotation(kind)[0] == "Optional" or not isinstance(structure, str | Fixed):
                self.varying.append(name)
            inner = list(names_of(structure))
            if default is not None and inner and name not in given:
                value = self.interpreter.evaluate(default, {})
                problem = f"the default value of {name} is a {type(value).__name__}"
                self.defaults |= dict.fromkeys(inner, self._array(value, problem))
        self.outputs: Structure = structure_of(self.code, RESULT, self.function.node.returns, {}, UNCOMPUTED)

    def sized(self, args: Sequence[Any], named: Mapping[str, Any]) -> Program:
        """Return the program for arguments with these containers, strings and None."""
        if not self.varying and not self.is_sized:
            return self
        names = (name for name, structure, _ in self.inputs if not isinstance(structure, Fixed))
        values = dict(zip(names, args, strict=False)) | {**named}
        varying = values if self.is_sized else self.varying
        given = {name: form(values[name], sized=self.is_sized) for name in varying if name in values}
        return self.by_form.get(partial(self._for, given), repr(given)) if given else self

    def _for(self, given: Mapping[str, Any]) -> Program:
        """Return a program of the same code for what is given by name."""
        twin = object.__new__(Program)
        twin.__dict__ |= {**vars(self), "seen": {}, "found": {}, "by_form": Recent()}
        twin.describe(given)
        return twin

    def complete(self, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Find the outputs of a call if these depend on what the code computes."""
        if UNSIZED in leaves(self.outputs):
            args, named = Templates(self.parameters, ()).flatten(args, named)
            names = [*self.kinds, *self.state.paths]
            values = {**self.defaults, **self.state.initial, **dict(zip(names, args, strict=False)), **named}
            known: dict[str, Known | Size] = {}
            for name in filter(values.__contains__, names):
                value = values[name]
                array = NONE if value is None else as_declared(Input(name, converts="lists"), value)
                is_tensor = self.kinds.get(name) == "Tensor" and array.dtype != object
                known[name] = Signature.of(array) if is_tensor else array
            with budget.of_file(len(self.content)):
                self.record(known, Axes())

    @property
    def parameters(self) -> dict[str, Structure]:
        """The structures of the parameters that have tensors or numbers, or are given."""
        return {
            name: structure
            for name, structure, _ in self.inputs
            if name in self.given or not isinstance(structure, Fixed | Unknown)
        }

    @property
    def state(self) -> State:
        """The attributes that calls change; finding them needs all code that a call may run."""
        if self._state is None:
            changed = Search(self.code, self.module, self.function).changed
            paths, initial, numbers = {".".join(path): path for path in changed}, {}, set()
            for name, (owner, key) in _places(self.module, paths).items():
                value = owner.get(key)
                problem = f"calls change {name}, which is a {type(value).__name__}, not a tensor"
                initial[name] = self._array(value, problem)
                if isinstance(value, int | float):
                    numbers.add(name)
            self._state = State(paths, initial, numbers)
        return self._state

    @property
    def floats(self) -> set[np.dtype[Any]]:
        """The dtypes of the real weights."""
        return {array.dtype for array in self.weights.values() if array.dtype.kind == "f" and array.ndim}

    def _start(self, interpreter: Interpreter, loader: Loader) -> Object:
        """Return the module at the start of a call, with the values in the file."""
        interpreter.constants = loader.constants()
        root = value = loader.module()
        for name in filter(None, self.part.split(".")):
            value = value.attributes.get(name) if isinstance(value, Object) else None
        if not isinstance(value, Object):
            names = [name for name, value in root.attributes.items() if isinstance(value, Object)]
            raise ArgumentError(f"the module has no part {self.part}; it has {', '.join(names) or 'none'}")
        return value

    def _array(self, value: Any, problem: str) -> AnyArray:
        known = self.interpreter.recorder.graph.known(self._output(self.interpreter, value, problem))
        assert isinstance(known, np.ndarray)
        return known

    def templates(self, carries: Iterable[str]) -> Templates | None:
        """Return how the method nests what it takes and returns, or None if that is tensors and numbers.

        `carries` are the outputs for the new values of carries, which follow what the method returns.
        """
        results = results_of(self.outputs, tuple(carries))
        kind, parts = annotation(returns := self.function.node.returns)
        kinds = {annotation(part)[0] for part in (parts if kind == "Tuple" else [returns])}
        is_flat = all(isinstance(each, str) for each in (*results, *self.parameters.values()))
        return None if is_flat and kinds <= {"Tensor", *NUMBERS} else Templates(self.parameters, results)

    def states(self, recording: Recording) -> Sequence[str]:
        """Return the new values of the carries in a recording."""
        return recording.outputs[len(recording.outputs) - len(self.state.paths) :]

    # the graph

    def graph(self) -> Graph:
        """Return a graph of one node, which records the method for the inputs of a call."""
        with budget.of_file(len(self.content)):
            return self._graph()

    def _graph(self) -> Graph:
        if UNSIZED in leaves(self.outputs):
            self.general({})  # tells the outputs
        graph = Graph()
        graph.carries = {name: f"{name}_out" for name in self.state.paths}
        dtypes: dict[str, Any] = {name: NUMBERS.get(kind) for name, kind in self.kinds.items()}
        state = self.state
        dtypes |= {name: x.dtype if name in state.numbers else None for name, x in state.initial.items()}
        values = {**self.defaults, **state.initial}
        for name, dtype in dtypes.items():
            initial = values.get(name)
            dtype = dtype if initial is not NONE else None
            graph.add_input(name, dtype, () if dtype else None, converts="same_kind" if dtype else "lists")
            if initial is not None:
                graph.add_constant(initial.astype(dtype) if dtype else initial, name)
        weights = [graph.add_constant(array, name) for name, array in self.weights.items()]
        outputs = [*names_of(self.outputs), *graph.carries.values()]
        inputs, name = [*dtypes, *weights], self.function.name
        graph.outputs = graph.add_all(
            "Recorded", inputs, outputs, name=name, source="TorchScript", record=self
        )
        graph.declared_outputs = tuple(map(Input, outputs))
        graph.source, graph.structure = self, self.templates(graph.carries.values())
        return graph

    def general(self, declared: Mapping[str, Any]) -> Graph:
        """Return one graph for all sizes of the inputs; see `general_graph`."""
        if unsized := [name for name, x, default in self.inputs if UNSIZED in leaves(x) and default is None]:
            names, example = ", ".join(unsized), '{"state": [("float32", (1, "batch", 40))]}'
            raise ArgumentError(
                f"the lengths and keys of the lists and dicts in {names} are not known: call the model first "
                f"or declare their elements, such as load(path, inputs={example})"
            )
        declared = Templates(self.parameters, ()).flatten((), declared)[1]
        key = tuple((name, dtype, len(shape)) for name, (shape, dtype) in self.seen.items())
        if declared:
            return self._general(declared)
        if key not in self.found:
            try:
                self.found = {key: self._general({})}
            except OnwardError as error:
                self.found = {key: error}
        found = self.found[key]
        if isinstance(found, OnwardError):
            raise found
        return found

    def _general(self, declared: Mapping[str, Any]) -> Graph:
        with budget.of_file(len(self.content)), budget.of_part(SEARCH):
            return general_graph(self, declared)

    # recording

    def __call__(self, known: Sequence[AnyArray | Signature]) -> Graph:
        """Record the method for inputs, carries and weights of these shapes, dtypes and known values.

        The guards of symbolic sizes tell for which sizes the graph holds.
        """
        found = dict(zip([*self.kinds, *self.state.paths], known, strict=False))
        sizes = [size for value in found.values() for size in value.shape if type(size) is Size]
        axes = sizes[0].axes if sizes else Axes()
        try:
            with budget.of_file(len(self.content)):
                recording = self.record(found, axes)
        except OnwardError as error:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in found.items())
            raise type(error)(f"{error}; the inputs have the shapes {shapes}"[:MAX_MESSAGE]) from error
        self.seen = {
            name: Signature(tuple(map(hint, value.shape)), Signature.of(value).dtype)
            for name, value in found.items()
            if self.kinds.get(name) == "Tensor" and Signature.of(value).dtype != object
        }
        axes.guards = {key: guard for key, guard in axes.guards.items() if guard.size.is_known}
        for weight in range(len(known) - len(found)):
            recording.add_input(f" weight {weight}")  # the recording contains the weights that it uses
        graph = plain(recording)
        graph.inputs = [  # simplification needs their ranks
            each.with_axes(*[""] * len(found[each.name].shape)) if each.name in found else each
            for each in graph.inputs
        ]
        return simplify(graph)

    @budget.temporary()
    def record(self, known: Mapping[str, Known | Size], axes: Axes) -> Recording:
        """Record the method for what is known about each input and carry, whose sizes are of these axes.

        A size is that of an axis of an input.
        """
        recording = Recording(folded=self.folded, axes=axes)
        for name, value in known.items():
            if not isinstance(value, Size):
                recording.declare(name, value)
        interpreter = Interpreter(self.code, recording)
        try:
            module = self._start(interpreter, self.loader.anew(interpreter.recorder))
            places = _places(module, self.state.paths)
            for carry, (attributes, name) in places.items():
                if isinstance(size := known.get(carry), Size):
                    attributes[name] = self._size(interpreter, size)
                else:
                    attributes[name] = self._input(interpreter, carry)
            arguments = []
            for name, structure, default in self.inputs:
                if name in self.given or isinstance(structure, str | tuple):
                    argument = self._argument(interpreter, structure)
                    is_missing = name not in self.given and all(leaf is None for leaf in leaves(argument))
                    arguments.append(None if is_missing else argument)
                elif default is not None:
                    arguments.append(interpreter.evaluate(default, {}))
                else:
                    raise ArgumentError(
                        f"the input {name} is neither a tensor, a number nor a tuple of these"
                    )
            result = interpreter.call(self.function, [module, *arguments])
            if UNSIZED in leaves(self.outputs):
                self.outputs = structure_of(self.code, RESULT, self.function.node.returns, {}, result)
            outputs = self._results(interpreter, self.outputs, result)
            outputs += [self._output(interpreter, attributes[name]) for attributes, name in places.values()]
        except RecursionError:
            raise ArgumentError(f"code/{self.function.file}: the code is nested too deeply") from None
        recording.outputs = tuple(outputs)
        return recording

    def _size(self, interpreter: Interpreter, size: Size) -> Any:
        """Return the size of an open axis, as the code gets it from the input that has this axis."""
        graph, recorder = interpreter.recorder.graph, interpreter.recorder
        for name, *_ in graph.inputs:
            for place, other in enumerate(getattr(graph.known(name), "shape", ())):
                if are_same(size, other):
                    return recorder.size(recorder.tensor(name), place)
        raise ArgumentError(f"no input has the axis {size}")

    def _input(self, interpreter: Interpreter, name: str) -> Any:
        """Return an input as the code sees it."""
        known, array = interpreter.recorder.graph.known(name), interpreter.recorder.graph.array(name)
        if array is not None and array.dtype == object:
            return None
        is_number = self.kinds.get(name) in NUMBERS or name in self.state.numbers
        if known is None or known.shape or not is_number:
            return interpreter.recorder.tensor(name)
        return Symbol(name, Signature.of(known).dtype) if array is None else array.item()

    def _argument(self, interpreter: Interpreter, structure: Structure) -> Any:
        if isinstance(structure, CONTAINERS):
            return rebuilt(structure, [self._argument(interpreter, each) for _, each in items(structure)])
        if isinstance(structure, str):
            return self._input(interpreter, structure)
        return structure.value if isinstance(structure, Fixed) else None

    def _results(self, interpreter: Interpreter, structure: Structure, value: Any) -> list[str]:
        """Return the names of the outputs in a returned value."""
        if structure is UNSIZED or (structure is NOTHING and value is not None):
            raise ResultsChangedError("the code does not return the same lists and dicts in all calls")
        if isinstance(structure, Fixed):
            return []
        if isinstance(structure, str):
            return [self._output(interpreter, value)]
        interpreter.recorder.check_current(value)
        inner, values = (dict(items(each)) for each in (structure, value))
        if values.keys() != inner.keys():
            expected, got = (f"{len(each)} values {[*each]}"[:100] for each in (inner, values))
            raise ResultsChangedError(f"the code returns {got}, not {expected}")
        pairs = [(each, values[place]) for place, each in inner.items()]
        return [name for each, element in pairs for name in self._results(interpreter, each, element)]

    def _output(self, interpreter: Interpreter, value: Any, problem: str = "") -> str:
        if isinstance(value, Tensor | Symbol):
            if value.dtype.kind == "c":
                raise ArgumentError("an output is complex, which Onward does not support: view it as real")
            return interpreter.recorder.named(value)
        if value is not None and not isinstance(value, int | float):
            raise ArgumentError(problem or f"an output is a {type(value).__name__}, not a tensor")
        return interpreter.recorder.graph.add_constant(NONE if value is None else np.array(value))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (bytes(self.content), self.method, self.part, self.given)


def _unpickled(content: bytes, method: str, part: str, given: Mapping[str, Any]) -> Program:
    program = Program(content, method, part)
    return program.sized((), given) if given else program


def is_script(archive: Archive) -> bool:
    """Whether torch.jit.save wrote the archive."""
    return isinstance(archive.tree, PickledObject) and archive.tree.path.startswith("__torch__.")


def has_forward(archive: Archive, code: Code) -> bool:
    """Whether the module in an archive with this code has a method forward()."""
    kind = code.find(archive.tree.path)
    return isinstance(kind, Class) and bool({"forward", "forward__0"} & kind.methods.keys())


def _places(module: Object, paths: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[dict[str, Any], str]]:
    """Return the attributes that hold each one with a path, and its name among them."""
    places = {}
    for name, path in paths.items():
        owner: Any = module
        for part in path[:-1]:
            owner = owner.attributes[part]
            if not isinstance(owner, Object):
                raise ArgumentError(f"calls change {name}, which is in a {type(owner).__name__}")
        places[name] = owner.attributes, path[-1]
    return places
