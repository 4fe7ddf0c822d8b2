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

TOKEN = re.compile(r"\w+|[^\w\s.,):]")  # what the syntax tree has a node for
NODE = 500  # bytes of a node of a syntax tree
# x.a = y, or a call of an operator such as add_; the names of others, such as __is__, end otherwise
CHANGE = re.compile(r"\.\s*\w+\s*=(?!=)|[^\W_]_\s*\(")
LEAVES = {ast.Name, ast.Constant, ast.Load, ast.Store}  # nodes of a syntax tree that contain no others


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
    """The functions and classes of an archive; `read` returns the content of its files."""

    read: Callable[[str], str]
    _files: dict[str, dict[str, Function | Class]] = field(default_factory=dict)
    _sources: list[str] = field(default_factory=list)

    def find(self, path: str) -> Function | Class | None:
        """Return the function or class with a dotted path, or None. Raises ArgumentError for invalid code."""
        module, _, name = path.rpartition(".")
        if module not in self._files:
            file = module.replace(".", "/") + ".py"
            self._sources.append(self.read(file))
            self._files[module] = dict(_definitions(module, file, self._sources[-1]))
        return self._files[module].get(name)

    @property
    def has_changes(self) -> bool:
        """Whether something in the files so far may assign to an attribute, or compute in place."""
        return any(map(CHANGE.search, self._sources))


def _definitions(module: str, file: str, source: str) -> Iterator[tuple[str, Function | Class]]:
    tokens = len(TOKEN.findall(source))
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


def statements(function: ast.FunctionDef) -> list[ast.stmt]:
    """Return the statements of a function, followed by those inside them."""
    found = list(function.body)
    for statement in found:  # the loop body appends to the statements
        for name in ("body", "orelse"):
            found += getattr(statement, name, ())
    return found


def calls_of_attributes(statement: ast.stmt) -> list[tuple[ast.Attribute, list[ast.expr]]]:
    """Return the calls of attributes in a statement, such as torch.add(x, y), and their arguments."""
    found, nodes = [], list[ast.AST]([statement])
    for node in nodes:  # the loop body appends to the nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.append((node.func, node.args))
        for value in vars(node).values():
            if isinstance(value, list):
                nodes += [item for item in value if isinstance(item, ast.AST) and type(item) not in LEAVES]
            elif isinstance(value, ast.AST) and type(value) not in LEAVES:
                nodes.append(value)
    budget.spend(2 * budget.STEP * len(nodes))
    return found


def annotation(node: ast.expr | None) -> tuple[str, list[ast.expr]]:
    """Return the name and the arguments of a type: ("List", [Tensor]) for List[Tensor]."""
    match node:
        case ast.Subscript(ast.Name(name), ast.Tuple(elements)):
            return name, elements
        case ast.Subscript(ast.Name(name), element):
            return name, [element]
        case ast.Name(name):
            return name, []
        case ast.Constant(None):
            return "NoneType", []
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
