"""Parse the code of a TorchScript archive, which has Python's syntax. Nothing in it is executed."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ....core import budget
from ....core.syntax import parse
from ....errors import ArgumentError

NODE = 500  # bytes of a node of a syntax tree
# for each byte of code, "w" in words, " " in what the syntax tree has no node for, and "o" in operators
KINDS = re.sub(
    rb"([\w\x80-\xff])|([\s.,):])|[^\w]",
    lambda byte: b"w" if byte[1] else b" " if byte[2] else b"o",
    bytes(range(256)),
)


@dataclass(frozen=True, eq=False)
class Function:
    """A function or method of the archive."""

    file: str
    name: str
    node: ast.FunctionDef

    @property
    def parameters(self) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
        """The name, annotation and default value of each parameter."""
        arguments = self.node.args
        defaults = [*[None] * (len(arguments.args) - len(arguments.defaults)), *arguments.defaults]
        for argument, default in zip(arguments.args, defaults, strict=True):
            yield argument.arg, argument.annotation, default


@dataclass(frozen=True, eq=False)
class Class:
    """A class of the archive: its base ("Module", "NamedTuple" or ""), methods and fields in order."""

    path: str
    base: str
    methods: Mapping[str, Function]
    fields: Mapping[str, ast.AnnAssign]  # with the default values


@dataclass(frozen=True, eq=False)
class Code:
    """The functions and classes of an archive; `read` returns the content of its files.

    A file is parsed when something in it is first needed.
    """

    read: Callable[[str], str]
    _sources: dict[str, str] = field(default_factory=dict)
    _files: dict[str, dict[str, Function | Class]] = field(default_factory=dict)

    def find(self, path: str) -> Function | Class | None:
        """Return the function or class with a dotted path, or None. Raises ArgumentError for invalid code."""
        module, _, name = path.rpartition(".")
        if module not in self._files:
            self._files[module] = dict(_definitions(module, _file(module), self._source(module)))
        return self._files[module].get(name)

    def class_at(self, path: str) -> Class:
        """Return the class with a dotted path. Raises ArgumentError if there is none."""
        if isinstance(found := self.find(path), Class):
            return found
        raise ArgumentError(f"the archive has no class or function {path[:100]}")

    def has_file_of(self, path: str) -> bool:
        """Whether the archive has the file of a class, which may be invalid."""
        return bool(self._source(path.rpartition(".")[0]))

    def _source(self, module: str) -> str:
        if module not in self._sources:
            self._sources[module] = self.read(_file(module))
        return self._sources[module]


def _file(module: str) -> str:
    return module.replace(".", "/") + ".py"


def _definitions(module: str, file: str, source: str) -> Iterator[tuple[str, Function | Class]]:
    kinds = source.encode(errors="replace").translate(KINDS)
    tokens = 1 + kinds.count(b"o") + kinds.count(b" w") + kinds.count(b"ow")
    budget.spend(budget.STEP * tokens)
    budget.take(NODE * tokens)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            statements = parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ArgumentError(f"code/{file}{line}: the code cannot be parsed: {error}") from None
    for node in statements:
        if isinstance(node, ast.FunctionDef):
            yield node.name, Function(file, node.name, node)
        elif isinstance(node, ast.ClassDef):
            yield node.name, _class(f"{module}.{node.name}", file, node)


def _class(path: str, file: str, node: ast.ClassDef) -> Class:
    base = node.bases[0].id if node.bases and isinstance(node.bases[0], ast.Name) else ""
    methods = {n.name: Function(file, n.name, n) for n in node.body if isinstance(n, ast.FunctionDef)}
    declared = [n for n in node.body if isinstance(n, ast.AnnAssign)]
    return Class(path, base, methods, {n.target.id: n for n in declared if isinstance(n.target, ast.Name)})


def annotation(node: ast.expr | None) -> tuple[str, list[ast.expr]]:
    """Return the name and the arguments of a type: ("List", [Tensor]) for List[Tensor]."""
    match node:
        case ast.Subscript(ast.Name(name), ast.Tuple(elements)):
            return name, elements
        case ast.Subscript(ast.Name(name), element):
            return name, [element]
        case ast.Name(name):
            return name, []
        case ast.Attribute():
            return dotted(node), []
    return "", []


def dotted(node: ast.expr) -> str:
    """Return the path that a chain of attributes spells, or "" for other expressions."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""
