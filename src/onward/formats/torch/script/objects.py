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
from .code import Class, Code, Function, annotation, dotted
from .operators import CHANGES, CONTAINERS
from .recorder import Recorder
from .values import Object, Unknown, items

MAX_DEPTH = 64
Path = tuple[Any, ...]  # the names that lead to an attribute, or the identity of an expression
Paths = dict[Path, None]  # an ordered set
PATH = 100  # operations for a path
ELEMENT = "[]"  # in a path, the elements of a list, tuple or dict
RESULT = "return"  # among the variables of a function, what it returns
OTHER: Paths = {(Identity(ELEMENT),): None}  # a value that neither is an attribute nor has attributes in it
# the operators and functions whose results may be or show an argument
SHARING = {key.partition(".")[0] for key in VIEWS} | {
    "annotate", "type_as", "unchecked_cast", "unchecked_unwrap_optional", "data", "cpu", "cuda", "pin_memory",
    "requires_grad_",
}  # fmt: skip
PARTS = {name for name in SHARING if name == "unbind" or "split" in name or "chunk" in name}  # return lists
ITEMS = {"get", "__getitem__", "TupleIndex"}  # return an element
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
    """Finds the attributes that calls of a method may change, by following them through the code.

    An expression stands for paths: those of the attributes that its value may be or show, and those of
    the expressions that create the containers and objects that it may be. The search repeats until it finds
    nothing new, because loops and further calls start from what the code assigned. Branches that an
    attribute, such as `training`, rules out are not searched, unless the code assigns the attribute.
    """

    def __init__(self, code: Code, module: Object, method: Function) -> None:
        self.code, self.module = code, module
        self.changed: Paths = {}
        self._variables: dict[Any, dict[str, Paths]] = {}  # of functions, by their arguments
        # the values that attributes get, and the elements of new containers and objects
        self._values: dict[Path, Paths] = {}
        self._classes: dict[Path, Class] = {}  # of new objects
        self._is_complete = False
        parameters = list(method.parameters)[1:]
        lists = [annotation(kind)[0] in ("List", "Dict") for _, kind, _ in parameters]
        arguments = [
            _new(each) if is_list else OTHER for each, is_list in zip(parameters, lists, strict=True)
        ]
        try:
            while not self._is_complete:
                self._is_complete, self._searched = True, set[Any]()
                self._call(method, [{(): None}, *arguments])
        except RecursionError:
            raise ArgumentError(f"the code of {method.name} is nested too deeply") from None

    def value(self, path: Path) -> Any:
        """Return the attribute with a path, or the first one of such elements; None for new values."""
        return None if _is_new(path) else reduce(_inner, path, self.module)

    def _add(self, places: dict[Any, Paths], place: Any, found: Paths) -> None:
        """Note further values of a variable, or further elements."""
        known = places.setdefault(place, {})
        count = len(known)
        known |= found
        self._is_complete &= len(known) == count

    def _call(self, function: Function, arguments: Sequence[Paths]) -> Paths:
        """Search a function, and return what it may return."""
        key = Identity(function), *map(frozenset, arguments)
        values = self._variables.setdefault(key, {})
        if key not in self._searched:
            self._searched.add(key)
            for (name, *_), argument in zip(function.parameters, arguments, strict=False):
                self._add(values, name, argument)
            self._run(function.node.body, values)
        return values.get(RESULT, {})

    def _run(self, body: Sequence[ast.stmt], values: dict[str, Paths]) -> None:
        """Search statements; variables keep all values that they have had."""
        for statement in body:
            budget.spend(2 * budget.STEP)
            match statement:
                case ast.If(test, first, second):
                    flags = [self.value(path) for path in self._paths(test, values)]
                    self._run(() if flags == [False] else first, values)
                    self._run(() if flags == [True] else second, values)
                case ast.For(target, iterator, inner):
                    self._assign(target, self._elements(self._paths(iterator, values), Tensor), values)
                    self._run(inner, values)
                case ast.While(test, inner):
                    self._paths(test, values)
                    self._run(inner, values)
                case ast.With(_, inner):
                    self._run(inner, values)
                case ast.Return(ast.expr() as value):
                    self._add(values, RESULT, self._paths(value, values))
                case ast.Assign(targets, value):
                    found = self._paths(value, values)
                    for target in targets:
                        self._assign(target, found, values)
                case ast.AnnAssign(target, _, ast.expr() as value):
                    self._assign(target, self._paths(value, values), values)
                case ast.Expr(value):
                    self._paths(value, values)

    def _assign(self, target: ast.expr, found: Paths, values: dict[str, Paths]) -> None:
        match target:
            case ast.Name(name):
                self._add(values, name, found)
            case ast.Tuple(targets) | ast.List(targets):
                elements = self._elements(found, Tensor)
                for each in targets:
                    self._assign(each, elements, values)
            case ast.Attribute(owner, name):
                for path in self._paths(owner, values):
                    if self._is(path, Object):
                        self.changed[*path, name] = None
                        self._add(self._values, (*path, name), found)
                    elif path in self._classes:
                        self._add(self._values, path, found)

    def _is(self, path: Path, *kinds: type) -> bool:
        return isinstance(self.value(path), kinds)

    def _paths(self, node: ast.expr, values: dict[str, Paths]) -> Paths:
        """Return the attributes and new values that an expression stands for, or OTHER."""
        found = self._found(node, values)
        budget.spend(2 * budget.STEP + PATH * len(found))
        return found or OTHER

    def _found(self, node: ast.expr, values: dict[str, Paths]) -> Paths:
        match node:
            case ast.Name(name):
                return values.get(name, {})
            case ast.Attribute(inner, name) | ast.Call(ast.Name("getattr"), [inner, ast.Constant(str(name))]):
                return self._attribute(self._paths(inner, values), name)
            case ast.Call():
                words = [word.value for word in node.keywords]
                return self._called(
                    node, [self._paths(each, values) for each in (*node.args, *words)], values
                )
            case ast.Subscript(inner, place):
                self._paths(place, values)
                return self._elements(self._paths(inner, values), Tensor)
            case ast.Tuple(elements) | ast.List(elements) | ast.Dict(values=elements):
                return self._create(node, _union([self._paths(element, values) for element in elements]))
            case ast.UnaryOp(_, operand):
                self._paths(operand, values)
        return {}

    def _attribute(self, owners: Paths, name: str) -> Paths:
        """Return what an attribute of objects, or a field of named tuples, may be."""
        found: Paths = {}
        for owner in owners:
            place = (*owner, name)
            if not self._is(owner, Object):
                found |= self._elements({owner: None}, Tensor)
            elif name in self.value(owner).attributes:
                if len(place) > MAX_DEPTH:
                    raise ArgumentError(f"the file has more than {MAX_DEPTH} levels")
                found |= {place: None, **self._values.get(place, {})}
        return found

    def _create(self, node: ast.expr, elements: Paths) -> Paths:
        """Return the container or object that an expression creates, which has these elements."""
        created = _new(node)
        for path in created:
            self._add(self._values, path, elements)
        return created

    def _elements(self, found: Paths, *sliced: type) -> Paths:
        """Return what elements of containers, or slices of values of some types, may be."""
        elements: Paths = {}
        for path in found:
            place = (*path, ELEMENT)
            if _is_new(path):
                elements |= self._values.get(path, {})
            elif self._is(path, tuple, list, dict) and self.value(place) is not None:
                elements[place] = None
            elif self._is(path, *sliced):
                elements[path] = None
        return elements or OTHER

    def _has_dtype(self, path: Path, dtypes: Sequence[Any]) -> bool:
        return self._is(path, Tensor) and self.value(path).dtype in dtypes

    def _called(self, node: ast.Call, arguments: list[Paths], values: dict[str, Paths]) -> Paths:
        """Return what a call may return; note the attributes that it changes."""
        path, given = dotted(node.func), _union(arguments)
        name = path.rpartition(".")[2] or getattr(node.func, "attr", "")
        if path.startswith("__torch__."):
            return self._called_path(node, path, arguments)
        if isinstance(node.func, ast.Attribute):
            owners = self._paths(node.func.value, values)
            classes = {owner: self.value(owner).kind for owner in owners if self._is(owner, Object)}
            classes |= {owner: self._classes[owner] for owner in owners if owner in self._classes}
            pairs = [(owner, each.methods[name]) for owner, each in classes.items() if name in each.methods]
            if pairs:
                return _union([self._call(method, [{owner: None}, *arguments]) for owner, method in pairs])
        if arguments and (name in CHANGES or in_place(name)):
            return self._changed(name, arguments[0], _union(arguments[1:]))
        if name in ITEMS:
            return self._elements(given) | given
        shown = self._shown(node, name, given)
        kinds = tuple, list, dict
        if name in CONTAINERS and any(
            _is_new(each) or self._is(each, *kinds) for each in given.keys() - OTHER
        ):
            return shown | self._container(node, self._elements(given))
        return shown

    def _called_path(self, node: ast.Call, path: str, arguments: list[Paths]) -> Paths:
        """Return what a function, or an object of a class, may be."""
        called = self.code.find(path)
        if isinstance(called, Function):
            return self._call(called, arguments)
        created = self._create(node, _union(arguments))
        if isinstance(kind := self.code.find(path.removesuffix(".__new__")), Class):
            self._classes |= dict.fromkeys(created, kind)
        return created

    def _changed(self, name: str, first: Paths, others: Paths) -> Paths:
        """Return what an operator may return that changes attributes, or what new containers hold."""
        kinds = (*[list, dict] * (name in CHANGES), *[Tensor] * bool(in_place(name)))
        created = [path for path in first if _is_new(path) and path not in OTHER]
        for path in first:
            if self._is(path, *kinds):
                self.changed[path[: path.index(ELEMENT)] if ELEMENT in path else path] = None
        if name not in CHANGES:
            return first
        if created:
            elements = self._elements(others)
            for path in created:
                self._add(self._values, path, others | elements | self._elements(elements))
        return first | self._elements(first)

    def _container(self, node: ast.expr, elements: Paths) -> Paths:
        """Return a new container of elements, or of containers of them, such as the items of a dict."""
        created = _new(node)
        return self._create(node, created | elements | self._elements(elements))

    def _shown(self, node: ast.Call, name: str, given: Paths) -> Paths:
        """Return which arguments the result of an operator may be or show."""
        numbers = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        flags = [number for number in numbers if type(number) is bool]
        if name not in SHARING or (name == "to" and flags[1:2] == [True]):  # which copies
            return {}
        dtypes = [DTYPES.get(number) for number in numbers if type(number) is int]
        is_copy = name == "to" and dtypes  # into another dtype
        shown = {path: None for path in given if not is_copy or self._has_dtype(path, dtypes)}
        return self._create(node, shown) if name in PARTS else shown


def _inner(owner: Any, name: str) -> Any:
    """Return an attribute of an object, or the first element of a container that is no plain value."""
    if isinstance(owner, Object):
        return owner.attributes[name]
    kinds = (Tensor, Object, tuple, list, dict)
    return next((element for _, element in items(owner) if isinstance(element, kinds)), None)


def _new(created: Any) -> Paths:
    """Return the path of what an expression creates, or of a parameter."""
    return {(Identity(created),): None}


def _is_new(path: Path) -> bool:
    return bool(path) and isinstance(path[0], Identity)


def _union(found: Sequence[Paths]) -> Paths:
    return {path: None for each in found for path in each}
