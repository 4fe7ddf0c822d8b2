"""The pickled modules of an archive as objects, and the attributes that calls of their methods change."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np

from ....core import budget
from ....core.identity import Identity
from ....errors import ArgumentError
from ....graph.node import AnyArray
from ..archive import Archive, View
from ..aten.registry import Tensor
from ..aten.schemas import in_place
from ..unpickle import Global, PickledObject
from .code import Code, calls_of_attributes
from .recorder import Recorder
from .values import Object, Unknown

MAX_DEPTH = 64
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


Value = tuple[Any, tuple[str, ...]]  # an attribute and its path
NOTHING: Value = None, ()


def carried(module: Object, method: str) -> list[tuple[str, ...]]:
    """Return the paths of the attributes that a call of a method may change.

    Branches that an attribute, such as `training`, rules out are not searched.
    """
    found: list[tuple[str, ...]] = []
    visited: set[tuple[Identity, str]] = set()

    def visit(owner: Object, path: tuple[str, ...], method: str) -> None:
        function = owner.kind.methods.get(method)
        if function is not None and (Identity(owner), method) not in visited:
            visited.add((Identity(owner), method))
            names = [name for name, _, _ in function.parameters][:1]  # usually self
            search(function.node.body, dict.fromkeys(names, (owner, path)))

    def search(body: Sequence[ast.stmt], values: dict[str, Value]) -> None:
        """Search statements; `values` are the attributes in variables."""
        for statement in body:
            budget.spend(5 * budget.STEP)
            match statement:
                case ast.If(test, first, second):
                    decided, _ = _resolved(test, values)
                    search(() if decided is False else first, values)
                    search(() if decided is True else second, values)
                case ast.For(body=inner) | ast.While(body=inner) | ast.With(body=inner):
                    search(inner, values)
                case _:
                    for function, arguments in calls_of_attributes(statement):
                        follow(function, arguments, values)
            match statement:
                case ast.Assign([ast.Attribute(target, name)]):
                    owner, path = _resolved(target, values)
                    found.extend([(*path, name)] if isinstance(owner, Object) else [])
                case ast.Assign([ast.Name(name)], value):
                    values[name] = _resolved(value, values)

    def follow(function: ast.Attribute, arguments: Sequence[ast.expr], values: dict[str, Value]) -> None:
        owner, path = _resolved(function.value, values)
        if isinstance(owner, Object):
            visit(owner, path, function.attr)
        if in_place(function.attr) and arguments:
            _, changed = _resolved(arguments[0], values)
            found.extend([changed] if changed else [])

    try:
        visit(module, (), method)
    except RecursionError:
        raise ArgumentError(f"the code of {method} is nested too deeply") from None
    return list(dict.fromkeys(found))


def _resolved(node: ast.expr, values: dict[str, Value]) -> Value:
    """Return the attribute that an expression stands for and its path, or NOTHING."""
    match node:
        case ast.Name(name):
            return values.get(name, NOTHING)
        case ast.Attribute(inner, name) | ast.Call(ast.Name("getattr"), [inner, ast.Constant(str(name))]):
            owner, path = _resolved(inner, values)
            if isinstance(owner, Object) and name in owner.attributes:
                return owner.attributes[name], (*path, name)
    return NOTHING
