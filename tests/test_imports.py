"""Folders import only lower folders, and `import onward` imports few other packages."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import ROOT
from support.in_one_test import in_one_test

import onward

SOURCE = Path(onward.__file__).parent
ORDER = [  # the folders of src/onward, lowest first; "" is onward/__init__.py
    *("errors", "textbook", "_core", "core", "graph", "layers", "streaming", "tracing", "model"),
    *("formats", "bundled", "train", "tables", "recipes", "serve", "", "cli", "__main__"),
]
FILES = sorted(SOURCE.rglob("*.py"))
NAMED = {  # by the name of the module
    ".".join(["onward", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in FILES
}
CPP_ORDER = ["kernels", "platform", "run", "c", "bind"]


def folder(module: str) -> str:
    return module.partition(".")[0]


class Import(NamedTuple):
    """A statement that imports; those inside functions do not run when the module is imported."""

    node: ast.Import | ast.ImportFrom
    at_import: bool


def statements(tree: ast.AST, at_import: bool = True) -> Iterator[Import]:
    """The imports of a file, also inside functions, except those for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield Import(node, at_import)
        elif isinstance(node, ast.expr) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        ):
            continue
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            yield from statements(node, at_import and not inside)


@functools.cache
def imports(path: Path) -> list[Import]:
    return list(statements(ast.parse(path.read_text())))


def modules(node: ast.Import | ast.ImportFrom, package: Sequence[str]) -> list[str]:
    """The modules, or the names in modules, that a file of a package imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    outer = package[: len(package) - node.level + 1] if node.level else []
    base = ".".join([*outer, *([node.module] if node.module else [])])
    return [f"{base}.{alias.name}" for alias in node.names]


def package_of(name: str, path: Path) -> list[str]:
    parts = name.split(".")
    return parts if path.name == "__init__.py" else parts[:-1]


def higher(path: Path) -> Iterator[str]:
    """The higher folders that a file imports anything from."""
    own = folder(path.relative_to(SOURCE).with_suffix("").parts[0].replace("__init__", ""))
    package = ["onward", *path.relative_to(SOURCE).parent.parts]
    for node, _ in imports(path):
        for name in modules(node, package):
            if name.split(".")[0] == "onward":
                inside = folder(name.removeprefix("onward").lstrip("."))
                inside = inside if inside in ORDER else ""
                if ORDER.index(inside) > ORDER.index(own):
                    yield name


def needs(name: str, path: Path, names: Collection[str]) -> set[str]:
    """The modules that Python imports before or while it imports a module: its package, and what it names."""
    found = {name.rpartition(".")[0]}
    for node, at_import in imports(path):
        if at_import:
            named = modules(node, package_of(name, path))
            found.update(named)
            if isinstance(node, ast.ImportFrom):
                found.update(each.rpartition(".")[0] for each in named)
    return found & set(names) - {name}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The names that need each other, directly or through others; [] if there are none."""
    left = dict(graph)
    while ends := {name for name, needed in left.items() if not needed & left.keys()}:
        left = {name: needed for name, needed in left.items() if name not in ends}
    while starts := left.keys() - {each for needed in left.values() for each in needed}:
        left = {name: needed for name, needed in left.items() if name not in starts}
    return sorted(left)


# Packages that import their modules. Others import the package, never one of its modules: so threads meet at
# its lock. The command line is imported by the main thread.
WHOLE = ("onward.train", "onward.cli")


def test_no_modules_import_each_other() -> None:
    """Threads that import a circle from two ends deadlock, or get a module that is half imported."""
    graph = {name: needs(name, path, NAMED) for name, path in NAMED.items()}
    for whole in WHOLE:
        inside = {name for name in graph if name.startswith(f"{whole}.")}
        for name in inside:
            graph[name].discard(whole)
        for name in graph.keys() - inside - {whole}:
            entered = {each for each in graph[name] & inside if whole not in graph[name]}
            assert not entered, f"{name} imports {entered}: import {whole} instead"
    loaded, following = set[str](), {"onward"}  # by `import onward`
    while following:
        loaded |= following
        following = {each for name in following for each in graph[name]} - loaded
    assert circle({name: needed - loaded for name, needed in graph.items() if name not in loaded}) == []


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set[str](), "e": {"a"}}
    assert circle(graph) == ["b", "c"]


def test_every_folder_is_in_the_order() -> None:
    found = {folder(str(path.relative_to(SOURCE)).removesuffix(".py").replace("/", ".")) for path in FILES}
    assert sorted({*found, "_core"}) == sorted({*ORDER, "__init__"} - {""})


@in_one_test("path", FILES)
def test_no_file_imports_a_higher_folder(path: Path) -> None:
    """Methods that need one call what `onward/__init__.py` registers in `core/facade.py`."""
    assert not [*higher(path)]


def test_no_files_import_each_other() -> None:
    """Imports inside functions count: two files that need each other are one."""
    graph: dict[str, set[str]] = {}
    for name, path in NAMED.items():
        package = package_of(name, path)
        found = {each for node, _ in imports(path) for each in modules(node, package) if "_core" not in each}
        graph[name] = {each if each in NAMED else each.rpartition(".")[0] for each in found} - {name}
    assert circle({name: needed & set(NAMED) for name, needed in graph.items()}) == []


@pytest.mark.parametrize(
    "code",
    ["from ..streaming import pool", "def f():\n    from onward.formats import load", "import onward.train"],
)
def test_an_import_of_a_higher_folder_is_found(code: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    running, checked = tmp_path / "layers" / "running.py", tmp_path / "layers" / "checked.py"
    running.parent.mkdir()
    running.write_text(code)
    checked.write_text(f"if TYPE_CHECKING:\n    {code.splitlines()[-1].strip()}")
    assert len([*higher(running)]) == 1 and not [*higher(checked)]


def test_no_cpp_file_includes_a_higher_folder() -> None:
    for path in (ROOT / "cpp").glob("*/*.*"):
        for included in re.findall(r'#include "(\w+)/\w+\.h"', path.read_text()):
            higher = CPP_ORDER.index(included) > CPP_ORDER.index(path.parent.name)
            assert not higher, f"{path.name} includes {included}"


def test_every_package_states_what_it_may_import() -> None:
    for path in SOURCE.rglob("__init__.py"):
        purpose = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        assert "; may import " in purpose, f"{path} does not state what it may import"


def test_no_file_exceeds_its_line_limit() -> None:
    limits = {".py": 450, ".cpp": 400, ".h": 400}
    for name in ("src", "cpp", "tests", "bench", "tools", "fuzz", "examples"):
        for path in (ROOT / name).rglob("*.*"):
            if path.suffix in limits and path.name != "textbook.py":
                lines = len(path.read_text().splitlines())
                assert lines <= limits[path.suffix], f"{path} has {lines} lines"


def test_import_onward_imports_numpy_and_safetensors_only() -> None:
    code = (
        "import sys, numpy.random, safetensors.numpy; before = set(sys.modules); import onward;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert set(output.split()) - sys.stdlib_module_names == {"onward", "numpy"}  # other parts of NumPy


def test_the_first_call_of_a_file_imports_no_slow_modules(tmp_path: Path) -> None:
    onward.LSTM(2, 4).export_onnx(tmp_path / "model.onnx")
    code = (
        "import sys, numpy; before = set(sys.modules)\n"
        f"import onward; model = onward.load({str(tmp_path / 'model.onnx')!r})\n"
        "model(*(numpy.zeros(shape, 'float32') for shape in ((5, 1, 2), (1, 1, 4), (1, 1, 4))))\n"
        "print(*set(sys.modules) - before)"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    slow = {"numpy.random", "statistics", "shutil", "pathlib", "json", "safetensors", "typing_extensions"}
    slow |= {"dataclasses", "hashlib", "onward.formats.onnx.reference"}
    assert not slow & set(output.split())


def test_all_lists_the_public_names() -> None:
    public = {name for name, value in vars(onward).items() if not name.startswith("_") and callable(value)}
    lazy = {"chain", "export_web", "textbook_scans", "train", "verify"}
    assert set(onward.__all__) == public | lazy | {"errors", "textbook"}
    assert callable(onward.load)
