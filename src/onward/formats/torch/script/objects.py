"""The pickled modules of an archive as objects, and the attributes that calls of their methods change."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ....core import budget
from ....core.identity import Identity
from ....errors import ArgumentError
from ....graph.node import AnyArray
from ....graph.structure import CONTAINERS as NESTED
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
PLACE = 100  # operations for a place
ELEMENT = "[]"  # among the attributes of a place, the elements of a list, tuple or dict
RESULT = "return"  # among the variables of a function, what it returns
# the operators and functions whose results may be or show an argument
SHARING = {key.partition(".")[0] for key in VIEWS} | {
    "annotate", "type_as", "unchecked_cast", "unchecked_unwrap_optional", "data", "cpu", "cuda", "pin_memory",
    "requires_grad_",
}  # fmt: skip
PARTS = {name for name in SHARING if name == "unbind" or "split" in name or "chunk" in name}  # return lists
ITEMS = {"get", "__getitem__", "TupleIndex"}  # return an element
LISTS = {f"torch.jit._pickle.build_{kind}list" for kind in ("int", "tensor", "double", "bool")}
PACKED = "__torch__.torch.classes.rnn.", "__torch__.torch.classes.quantized."


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
            if pickled.path.startswith(PACKED):
                unpacked = self.objects[identity] = self._unpacked(pickled, path, depth)
                return unpacked
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

    def _unpacked(self, pickled: PickledObject, path: str, depth: int) -> list[Tensor] | Unknown:
        """Return the weights and biases of a quantized linear layer or recurrent cell."""
        match self.value(pickled.state, path, depth + 1):
            case (Tensor() as W, None):
                return [W]
            case (Tensor() as W, Tensor() as b):
                return [W, b]
            case (str(), *_, [[Tensor() as W, *b_W], [Tensor() as R, *b_R]]):
                return [W, R, *b_W, *b_R]
        return Unknown(f"{path} is a {pickled.path}: save the model before quantizing it in PyTorch")

    def _array_name(self, pickled: PickledObject, path: str) -> str | None:
        """Return the name of a tensor's array; tensors with the same place in the file share one."""
        if Identity(pickled) in self._names:
            return self._names[Identity(pickled)]
        key, array = Identity(pickled), self.archive.dequantized(pickled)
        view = self.archive.view(pickled) if array is None else None
        if view is None and array is None:
            return None
        name = self._names[key] = path if view is None else self._names.setdefault(view, path)
        if name not in self.arrays:
            if view is not None:
                array = self.archive.tensor(*view)
            assert array is not None
            is_plain = array.flags.c_contiguous and array.flags.aligned
            self.arrays[name] = array if is_plain else np.array(array)
        return name


@dataclass(eq=False)
class Place:
    """An attribute of the module, an element of one, or what an expression creates.

    `path` leads to the attribute, and `value` is its value in the file. What is created has no path, and no
    value unless it is an object.
    """

    value: Any = None
    path: tuple[str, ...] | None = None
    _held: dict[str, Known] = field(default_factory=dict)

    def held(self, name: str) -> Known:
        """Return what an attribute, or the elements, may be."""
        if name not in self._held:
            found, path = None, self.path or ()
            if isinstance(self.value, Object):
                found, path = self.value.attributes.get(name), (*path, name)
            elif isinstance(self.value, NESTED):  # the first element that is no plain value
                kinds = (Tensor, Object, *NESTED)
                found = next((each for _, each in items(self.value) if isinstance(each, kinds)), None)
            if len(path) > MAX_DEPTH:
                raise ArgumentError(f"the file has more than {MAX_DEPTH} levels")
            self._held[name] = Known() if found is None else Known({Place(found, path): None})
        return self._held[name]


Places = dict[Place, None]  # an ordered set


class Known(Places):
    """The places found so far for a variable, or for what a place holds, and whether they have been read."""

    was_read = False

    def read(self) -> Places:
        self.was_read = True
        return self


Variables = defaultdict[str, Known]
OTHER: Places = {Place(): None}  # a value that neither is an attribute nor has attributes in it


class Search:
    """Finds the attributes that calls of a method may change, by following them through the code.

    An expression stands for places: the attributes that its value may be or show, and the containers and
    objects that expressions create. The search repeats as long as it finds more places of what it has read
    before, because loops and further calls start from what the code assigned. Branches that an attribute,
    such as `training`, rules out are not searched, unless the code assigns the attribute.
    """

    def __init__(self, code: Code, module: Object, method: Function) -> None:
        self.code = code
        self.changed: dict[tuple[str, ...], None] = {}
        self._variables: dict[Any, Variables] = {}  # of functions, by their arguments
        self._created: dict[Identity, Place] = {}  # by the expressions
        self._is_complete = False
        parameters = list(method.parameters)[1:]
        arguments = [
            {Place(): None} if annotation(kind)[0] in ("List", "Dict") else OTHER for _, kind, _ in parameters
        ]
        root = {Place(module, ()): None}
        try:
            while not self._is_complete:
                self._is_complete, self._searched = True, set[Any]()
                self._call(method, [root, *arguments])
        except RecursionError:
            raise ArgumentError(f"the code of {method.name} is nested too deeply") from None

    def _add(self, known: Known, found: Places) -> None:
        """Note further values of a variable, or further elements."""
        count = len(known)
        known |= found
        self._is_complete &= len(known) == count or not known.was_read

    def _call(self, function: Function, arguments: Sequence[Places]) -> Places:
        """Search a function, and return what it may return."""
        key = Identity(function), *map(frozenset, arguments)
        values = self._variables.setdefault(key, defaultdict(Known))
        if key not in self._searched:
            self._searched.add(key)
            for (name, *_), argument in zip(function.parameters, arguments, strict=False):
                self._add(values[name], argument)
            self._run(function.node.body, values)
        return values[RESULT].read()

    def _run(self, body: Sequence[ast.stmt], values: Variables) -> None:
        """Search statements; variables keep all values that they have had."""
        for statement in body:
            budget.spend(2 * budget.STEP)
            match statement:
                case ast.If(test, first, second):
                    flags = [place.value for place in self._places(test, values)]
                    self._run(() if flags == [False] else first, values)
                    self._run(() if flags == [True] else second, values)
                case ast.For(target, iterator, inner):
                    self._assign(target, _elements(self._places(iterator, values), Tensor), values)
                    self._run(inner, values)
                case ast.While(test, inner):
                    self._places(test, values)
                    self._run(inner, values)
                case ast.With(_, inner):
                    self._run(inner, values)
                case ast.Return(ast.expr() as value):
                    self._add(values[RESULT], self._places(value, values))
                case ast.Assign(targets, value):
                    found = self._places(value, values)
                    for target in targets:
                        self._assign(target, found, values)
                case ast.AnnAssign(target, _, ast.expr() as value):
                    self._assign(target, self._places(value, values), values)
                case ast.Expr(value):
                    self._places(value, values)

    def _assign(self, target: ast.expr, found: Places, values: Variables) -> None:
        match target:
            case ast.Name(name):
                self._add(values[name], found)
            case ast.Tuple(targets) | ast.List(targets):
                for each in targets:
                    self._assign(each, _elements(found, Tensor), values)
            case ast.Attribute(owner, name):
                for place in self._places(owner, values):
                    if isinstance(place.value, Object):
                        if place.path is not None:
                            self.changed[*place.path, name] = None
                        self._add(place.held(name), found)

    def _places(self, node: ast.expr, values: Variables) -> Places:
        """Return the attributes and new values that an expression stands for, or OTHER."""
        found = self._found(node, values)
        budget.spend(2 * budget.STEP + PLACE * len(found))
        return found or OTHER

    def _found(self, node: ast.expr, values: Variables) -> Places:
        match node:
            case ast.Constant():
                return {}
            case ast.Name(name):
                return values[name].read()
            case ast.Attribute(inner, name) | ast.Call(ast.Name("getattr"), [inner, ast.Constant(str(name))]):
                owners = self._places(inner, values)
                return _union(
                    place.held(name).read()
                    if isinstance(place.value, Object)
                    else _elements({place: None}, Tensor)
                    for place in owners
                )
            case ast.Call():
                words = [word.value for word in node.keywords]
                return self._called(
                    node, [self._places(each, values) for each in (*node.args, *words)], values
                )
            case ast.Subscript(inner, place):
                self._places(place, values)
                return _elements(self._places(inner, values), Tensor)
            case ast.Tuple(elements) | ast.List(elements) | ast.Dict(values=elements):
                return self._create(node, _union([self._places(element, values) for element in elements]))
            case ast.UnaryOp(_, operand):
                self._places(operand, values)
        return {}

    def _create(self, node: ast.expr, elements: Places, value: Object | None = None) -> Places:
        """Return the container or the object that an expression creates; a container has these elements."""
        place = self._created.setdefault(Identity(node), Place(value))
        self._add(place.held(ELEMENT), elements)
        return {place: None}

    def _called(self, node: ast.Call, arguments: list[Places], values: Variables) -> Places:
        """Return what a call may return; note the attributes that it changes."""
        path, given = dotted(node.func), _union(arguments)
        name = path.rpartition(".")[2] or getattr(node.func, "attr", "")
        if path.startswith("__torch__."):
            called = self.code.find(path)
            if isinstance(called, Function):
                return self._call(called, arguments)
            class_path = path.removesuffix(".__new__")
            is_object = path != class_path and isinstance(self.code.find(class_path), Class)
            return self._create(node, given, Object(self.code, class_path) if is_object else None)
        if isinstance(node.func, ast.Attribute):
            owners = self._places(node.func.value, values)
            kinds = [(x, x.value.kind) for x in owners if isinstance(x.value, Object)]
            pairs = [(owner, kind.methods[name]) for owner, kind in kinds if name in kind.methods]
            if pairs:
                return _union([self._call(method, [{owner: None}, *arguments]) for owner, method in pairs])
        if arguments and (name in CHANGES or in_place(name)):
            return self._changed(name, arguments[0], _union(arguments[1:]))
        if name in ITEMS:
            return _elements(given) | given
        shown = self._shown(node, name, given)
        if name in CONTAINERS and any(
            each.value is None or isinstance(each.value, NESTED) for each in given.keys() - OTHER
        ):  # a new container of elements, or of containers of them, such as the items of a dict
            elements = _elements(given)
            created = self._create(node, elements | _elements(elements))
            return shown | self._create(node, created)
        return shown

    def _changed(self, name: str, first: Places, others: Places) -> Places:
        """Return what an operator may return that changes attributes, or what new containers hold."""
        kinds = (*[list, dict] * (name in CHANGES), *[Tensor] * bool(in_place(name)))
        self.changed |= {x.path: None for x in first if x.path and isinstance(x.value, kinds)}
        if name not in CHANGES:
            return first
        elements = _elements(others)
        for place in first.keys() - OTHER:
            if place.value is None:
                self._add(place.held(ELEMENT), others | elements | _elements(elements))
        return first | _elements(first)

    def _shown(self, node: ast.Call, name: str, given: Places) -> Places:
        """Return which arguments the result of an operator may be or show."""
        if name not in SHARING:
            return {}
        numbers = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        flags = [number for number in numbers if type(number) is bool]
        if name == "to" and flags[1:2] == [True]:  # which copies
            return {}
        dtypes = [DTYPES.get(number) for number in numbers if type(number) is int]
        shown = given
        if name == "to" and dtypes:  # which copies into another dtype
            kept = [x for x in given if isinstance(x.value, Tensor) and x.value.dtype in dtypes]
            shown = dict.fromkeys(kept)
        return self._create(node, shown) if name in PARTS else shown


def _elements(found: Places, *sliced: type) -> Places:
    """Return what elements of containers, or slices of values of some types, may be."""
    return (
        _union(
            {place: None} if isinstance(place.value, sliced) else place.held(ELEMENT).read()
            for place in found
        )
        or OTHER
    )


def _union(found: Iterable[Places]) -> Places:
    return {place: None for each in found for place in each}
