"""Rules that all of the source follows, beyond what ruff and mypy check."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import onward
from onward.core.identity import Identity

SOURCE = Path(onward.__file__).parent
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "identity.py")


def trees(words: str, files: Iterable[Path] = FILES) -> Iterator[tuple[Path, ast.Module]]:
    """Yield the files in which a pattern of words occurs, and their syntax trees."""
    for path in files:
        text = path.read_text(encoding="utf-8")
        if re.search(words, text):
            yield path, ast.parse(text)


ADDRESSES = r"\bid\b|\bctypes\b|data_as|__array_interface__|data_ptr"


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


def test_no_address_of_an_object_that_may_be_freed_is_a_key() -> None:
    found = [
        f"{path.relative_to(SOURCE)}, line {node.lineno}: {ast.unparse(node)}"
        for path, tree in trees(ADDRESSES)
        for node in addresses(tree)
    ]
    assert not found, "use onward.core.identity.Identity"


@pytest.mark.parametrize(
    "code",
    [
        "names[id(array)]", "set(map(id, arrays))", "key = (array.ctypes.data, array.shape)",
        "{id(array.copy()): array for array in arrays}", "array.__array_interface__['data']",
    ],
)  # fmt: skip
def test_the_rule_finds_addresses(code: str) -> None:
    assert re.search(ADDRESSES, code) and list(addresses(ast.parse(code)))


# Files that catch any exception, with the reason.
CATCHING = {
    "cli/sources.py": "NumPy, zipfile and zlib raise many kinds of errors for a damaged file",
    "formats/onnx/reference.py": "each operator of the onnx package raises errors of its own",
    "serve/steps.py": "the error reaches the clients, and is raised again",
    "serve/ticks.py": "the server goes on",
    "tables/data.py": "NumPy, zipfile, zlib and csv raise many kinds of errors for a damaged file",
}


ANY = r"except\s*:|\b(Base)?Exception\b"


def catches_all(tree: ast.AST) -> bool:
    """Whether code catches any exception."""
    handlers = [node.type for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    kinds = [kind.elts if isinstance(kind, ast.Tuple) else [kind] for kind in handlers]
    named = [kind and ast.unparse(kind) for each in kinds for kind in each]
    return bool({None, "Exception", "BaseException"}.intersection(named))


def test_errors_that_are_caught_are_named() -> None:
    """An except clause for any exception hides our own mistakes."""
    found = {str(path.relative_to(SOURCE)) for path, tree in trees(ANY) if catches_all(tree)}
    assert found == CATCHING.keys()


@pytest.mark.parametrize("kind", ["", " Exception", " BaseException as error", " (KeyError, Exception)"])
def test_a_clause_for_any_exception_is_found(kind: str) -> None:
    code = "try:\n    f()\nexcept{}:\n    pass"
    assert re.search(ANY, code.format(kind)) and catches_all(ast.parse(code.format(kind)))
    assert not catches_all(ast.parse(code.format(" KeyError")))


def test_an_identity_keeps_its_object_alive() -> None:
    names = {Identity([place]): place for place in range(100)}
    assert len(names) == 100
    value = [1]
    assert Identity(value) == Identity(value) and Identity(value) != Identity([1])


def texts_without_encoding(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that read or write a text in the encoding of the system, on Windows not UTF-8."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(ast.Attribute(attr="read_text" | "write_text" as name), arguments, options):
                positions = 0 if name == "read_text" else 1
                if len(arguments) <= positions and not any(each.arg == "encoding" for each in options):
                    yield node


def test_no_text_depends_on_the_encoding_of_the_system() -> None:
    """Exporting C read its templates in cp1252 on Windows."""
    root = Path(__file__).parents[1]
    run = [path for name in ("core", "layers", "streaming") for path in (root / "tests" / name).glob("*.py")]
    files = [*FILES, *root.glob("tools/*.py"), *run]  # tools/check_wheel.py runs those tests on Windows
    assert [
        f"{path.name}, line {node.lineno}: {ast.unparse(node)}"
        for path, tree in trees(r"_text\(", files)
        for node in texts_without_encoding(tree)
    ] == []


def test_the_rule_finds_texts_without_encoding() -> None:
    code = "a.read_text(); b.write_text(x); c.read_text(encoding='utf-8'); d.write_text(x, 'utf-8')"
    assert [ast.unparse(node) for node in texts_without_encoding(ast.parse(code))] == [
        "a.read_text()",
        "b.write_text(x)",
    ]
