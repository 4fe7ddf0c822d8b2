"""The pickled modules of an archive as objects, and the attributes that calls of their methods change."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from copy import copy
from functools import reduce
from typing import Any

import numpy as np

from ....core import budget
from ....core.identity import Identity
from ....errors import ArgumentError
from ....graph.node import AnyArray
from ..archive import Archive, View
from ..aten import operators  # noqa: F401 - registers them
from ..aten.registry import VIEWS, Tensor
from ..aten.schemas import DTYPES, in_place
from ..unpickle import Global, PickledObject
from .code import Code, Function, dotted
from .operators import CHANGES, CONTAINERS
from .recorder import Recorder
from .values import Object, Unknown, items

MAX_DEPTH = 64
Path = tuple[str, ...]
Paths = dict[Path, None]  # an ordered set
PATH = 100  # operations for a path
ELEMENT = "[]"  # in a path, the elements of a list, tuple or dict
# the operators and functions whose results may be or show an argument
SHARING = {key.partition(".")[0] for key in VIEWS} | {"annotate", "type_as", "unchecked_cast"}
LISTS = {f"torch.jit._pickle.build_{kind}list" for kind in ("int", "tensor", "double", "bool")}
QUANTIZED = "__torch__.torch.classes.rnn.", "__torch__.torch.classes.quantized."


class Loader:
    """Creates the objects of an archive anew for each recording; the arrays are always the same."""

    def __init__(self, archive: Archive, code: Code, recorder: Recorder) -> None:
        self.archive, self.code, self.recorder = archive, code, recorder
        self.arrays: dict[str, AnyArray] = {}
        self._names: dict[View | Identity, str] = {}  # of the arrays, by their places and what was pickled
        self.objects: dict[Identity, Any] = {}  # so far, by what was pickled

    def anew(self, recorder: Recorder) -> Loader:
        """Return a loader for another recording."""
        loader = copy(self)
        loader.recorder, recorder.cells, loader.objects = recorder, self.recorder.cells, {}
        return loader

    @property
    def classes(self) -> set[str]:
        """The paths of the classes of the objects so far."""
        return {value.class_path for value in self.objects.values() if isinstance(value, Object)}

    def module(self) -> Any:
        """Return the module of the archive."""
        return self.value(self.archive.tree, "", 0)

    def constants(self) -> Sequence[Any]:
        """Return the constants of the code; torch.jit.trace stores numbers as tensors without axes."""
        pickled = self.archive.constants
        values = [self.value(each, f"CONSTANTS.c{i}", 0) for i, each in enumerate(pickled)]
        for value in values:
            if isinstance(value, Tensor):
                value.is_number = value.rank == 0
        return values

    def value(self, pickled: Any, path: str, depth: int) -> Any:
        """Return a pickled value as the code sees it; `path` leads to it."""
        budget.charge(5 * budget.STEP, 2 * budget.OBJECT + len(path))
        if depth > MAX_DEPTH:
            raise ArgumentError(f"the file has more than {MAX_DEPTH} levels")
        identity = Identity(pickled)
        if identity in self.objects:
            return self.objects[identity]
        if isinstance(pickled, list | tuple):
            inner = [self.value(each, f"{path}.{i}", depth + 1) for i, each in enumerate(pickled)]
            return inner if isinstance(pickled, list) else tuple(inner)
        if isinstance(pickled, dict):
            return {key: self.value(each, f"{path}.{key}", depth + 1) for key, each in pickled.items()}
        if not isinstance(pickled, PickledObject):
            return pickled if not isinstance(pickled, Global) else Unknown(f"{path} is a class")
        if pickled.path in LISTS or pickled.path == "torch.jit._pickle.restore_type_tag":
            return self.value(pickled.args[0], path, depth + 1)
        if pickled.path.startswith("__torch__."):
            if pickled.path.startswith(QUANTIZED):
                raise ArgumentError(
                    "the weights are quantized, for example by quantize_dynamic: save the model before "
                    "quantizing it in PyTorch"
                )
            created = self.objects[identity] = Object(self.code, pickled.path, path=path)
            for name, value in (pickled.state if isinstance(pickled.state, dict) else {}).items():
                inner_path = f"{path}.{name}" if path else str(name)
                created.attributes[name] = self.value(value, inner_path, depth + 1)
            return created
        name = self._array_name(pickled, path)
        if name is None:
            return Unknown(f"{path} is a {pickled.path}, which is not supported")
        if name not in self.recorder.graph.values:
            self.recorder.graph.add_constant(self.arrays[name], name)
        tensor = self.objects[identity] = self.recorder.tensor(name)
        return tensor

    def _array_name(self, pickled: PickledObject, path: str) -> str | None:
        """Return the name of a tensor's array; tensors with the same place in the file share one."""
        if Identity(pickled) in self._names:
            return self._names[Identity(pickled)]
        view = self.archive.view(pickled)
        if view is None:
            return None
        name = self._names[Identity(pickled)] = self._names.setdefault(view, path)
        if name not in self.arrays:
            array = self.archive.tensor(*view)
            is_plain = array.flags.c_contiguous and array.flags.aligned
            self.arrays[name] = array if is_plain else np.array(array)
        return name


class Search:
    """Finds the attributes that a call of a method may change, by following them through the code.

    An expression stands for the paths of the attributes that its value may be, contain or show. Branches that
    an attribute, such as `training`, rules out are not searched.
    """

    def __init__(self, code: Code, module: Object, method: Function) -> None:
        self.code, self.module = code, module
        self.changed: dict[Path, None] = {}
        self._results: dict[Any, Paths] = {}  # of functions, by their arguments
        try:
            self._call(method, [{(): None}])
        except RecursionError:
            raise ArgumentError(f"the code of {method.name} is nested too deeply") from None

    def value(self, path: Path) -> Any:
        """Return the attribute with a path, or the first one of such elements."""
        return reduce(_inner, path, self.module)

    def _call(self, function: Function, arguments: Sequence[Paths]) -> Paths:
        """Search a function, and return what it may return."""
        key = Identity(function), *map(tuple, arguments)
        if key not in self._results:
            result = self._results[key] = {}
            names = [name for name, *_ in function.parameters]
            self._run(function.node.body, dict(zip(names, arguments, strict=False)), result)
        return self._results[key]

    def _run(self, body: Sequence[ast.stmt], values: dict[str, Paths], result: Paths) -> None:
        """Search statements; variables keep all values that they have had."""
        for statement in body:
            budget.spend(2 * budget.STEP)
            match statement:
                case ast.If(test, first, second):
                    flags = [self.value(path) for path in self._paths(test, values)]
                    self._run(() if flags == [False] else first, values, result)
                    self._run(() if flags == [True] else second, values, result)
                case ast.For(_, test, inner) | ast.While(test, inner):
                    for _ in range(2):  # the second iteration gets what the first one assigned
                        self._paths(test, values)
                        self._run(inner, values, result)
                case ast.With(_, inner):
                    self._run(inner, values, result)
                case ast.Return(ast.expr() as value):
                    result |= self._paths(value, values)
                case ast.Assign([target], value):
                    self._assign(target, self._paths(value, values), values)
                case ast.Expr(value):
                    self._paths(value, values)

    def _assign(self, target: ast.expr, found: Paths, values: dict[str, Paths]) -> None:
        match target:
            case ast.Name(name):
                values[name] = {**values.get(name, {}), **found}
            case ast.Tuple(targets):
                for each in targets:
                    self._assign(each, found, values)
            case ast.Attribute(owner, name):
                owners = self._paths(owner, values)
                self.changed |= {(*path, name): None for path in owners if self._is(path, Object)}

    def _is(self, path: Path, *kinds: type) -> bool:
        return isinstance(self.value(path), kinds)

    def _paths(self, node: ast.expr, values: dict[str, Paths]) -> Paths:
        """Return the attributes that an expression stands for."""
        found = self._searched(node, values)
        budget.spend(2 * budget.STEP + PATH * len(found))
        return found

    def _searched(self, node: ast.expr, values: dict[str, Paths]) -> Paths:
        match node:
            case ast.Name(name):
                return values.get(name, {})
            case ast.Attribute(inner, name) | ast.Call(ast.Name("getattr"), [inner, ast.Constant(str(name))]):
                found = self._paths(inner, values)
                owners = [path for path in found if self._is(path, Object)]
                others = {path: None for path in found if not self._is(path, Object)}  # of a named tuple
                return others | {
                    (*path, name): None for path in owners if name in self.value(path).attributes
                }
            case ast.Call():
                return self._called(node, [self._paths(each, values) for each in node.args], values)
            case ast.Subscript(inner, place):
                self._paths(place, values)
                found = self._paths(inner, values)
                return self._elements(found) | {path: None for path in found if self._is(path, Tensor)}
            case ast.Tuple(elements) | ast.List(elements) | ast.Dict(values=elements):
                found = {}
                for element in elements:
                    found |= self._paths(element, values)
                return found
        return {}

    def _has_dtype(self, path: Path, dtypes: Sequence[Any]) -> bool:
        return self._is(path, Tensor) and self.value(path).dtype in dtypes

    def _elements(self, found: Paths) -> Paths:
        """Return what elements of containers may be."""
        paths = [(*path, ELEMENT) for path in found if self._is(path, tuple, list, dict)]
        return {path: None for path in paths if self.value(path) is not None}

    def _called(self, node: ast.Call, arguments: list[Paths], values: dict[str, Paths]) -> Paths:
        """Return what a call may return; note the attributes that it changes."""
        path = dotted(node.func)
        first, name = arguments[0] if arguments else {}, path.rpartition(".")[2]
        if path.startswith("__torch__."):
            called = self.code.find(path)
            return self._call(called, arguments) if isinstance(called, Function) else _union(arguments)
        if isinstance(node.func, ast.Attribute) and (owners := self._paths(node.func.value, values)):
            found: Paths = {}
            for owner in owners:
                methods = self.value(owner).kind.methods if self._is(owner, Object) else {}
                if method := methods.get(node.func.attr):
                    found |= self._call(method, [{owner: None}, *arguments])
            return found
        kinds = (*[list, dict] * (name in CHANGES), *[Tensor] * bool(in_place(name)))
        for each in first:
            if self._is(each, *kinds):
                self.changed[each[: each.index(ELEMENT)] if ELEMENT in each else each] = None
        if in_place(name):
            return first
        if name in CHANGES:
            self._assign(node.args[0], _union(arguments), values)
        found = self._elements(_union(arguments)) if name in CONTAINERS else {}
        numbers = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        flags = [number for number in numbers if type(number) is bool]
        if name not in SHARING or (name == "to" and flags[1:2] == [True]):  # which copies
            return found
        dtypes = [DTYPES.get(number) for number in numbers if type(number) is int]
        is_copy = name == "to" and dtypes  # into another dtype
        shown = {path: None for path in _union(arguments) if not is_copy or self._has_dtype(path, dtypes)}
        return found | shown


def _inner(owner: Any, name: str) -> Any:
    """Return an attribute of an object, or the first element of a container that is no plain value."""
    if isinstance(owner, Object):
        return owner.attributes[name]
    kinds = (Tensor, Object, tuple, list, dict)
    return next((element for _, element in items(owner) if isinstance(element, kinds)), None)


def _union(found: Sequence[Paths]) -> Paths:
    return {path: None for each in found for path in each}
