"""Rules that all of the source follows, beyond what ruff and mypy check."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import onward
from onward.core.identity import Identity

SOURCE = Path(onward.__file__).parent
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "identity.py")


def addresses(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions that take the address of an object or of an array's memory."""
    allowed: set[ast.AST] = set()
    for node in ast.walk(tree):
        match node:
            # {id(value): value for value in ...} keeps each object alive beside its address
            case ast.DictComp(ast.Call(ast.Name("id") as taken, [ast.Name(key)]), ast.Name(kept)):
                allowed |= {taken} if key == kept else set()
            # the distance to an aligned address is not a key
            case ast.BinOp(ast.UnaryOp(operand=ast.Attribute(attr="data") as taken), ast.Mod()):
                allowed.add(taken)
            case ast.Name("id", ast.Load()) | ast.Attribute(ast.Attribute(attr="ctypes"), "data"):
                yield from {node} - allowed
            case ast.Attribute(attr="data_as" | "__array_interface__" | "data_ptr"):
                yield node


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_address_of_an_object_that_may_be_freed_is_a_key(path: Path) -> None:
    found = [f"line {node.lineno}: {ast.unparse(node)}" for node in addresses(ast.parse(path.read_text()))]
    assert not found, "use onward.core.identity.Identity"


@pytest.mark.parametrize(
    "code",
    [
        "names[id(array)]", "set(map(id, arrays))", "key = (array.ctypes.data, array.shape)",
        "{id(array.copy()): array for array in arrays}", "array.__array_interface__['data']",
    ],
)  # fmt: skip
def test_the_rule_finds_addresses(code: str) -> None:
    assert list(addresses(ast.parse(code)))


def test_an_identity_keeps_its_object_alive() -> None:
    names = {Identity([place]): place for place in range(100)}
    assert len(names) == 100
    value = [1]
    assert Identity(value) == Identity(value) and Identity(value) != Identity([1])
