"""Folders import only lower folders, and `import onward` imports few other packages."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from support import ROOT

import onward

SOURCE = Path(onward.__file__).parent
ORDER = [  # the folders of src/onward, lowest first; "" is onward/__init__.py
    *("errors", "textbook", "_core", "core", "layers", "graph", "streaming", "tracing"),
    *("formats", "bundled", "train", "tables", "recipes", "serve", "", "cli", "__main__"),
]
CPP_ORDER = ["kernels", "platform", "run", "bind"]
# How many names lower folders import from higher ones inside functions, or for type checkers only.
# Most are in methods of layers. The numbers may only fall.
DEFERRED = {
    ("layers", "graph"): 5,
    ("layers", "streaming"): 4,
    ("layers", "tracing"): 3,
    ("layers", "formats"): 2,
    ("graph", "streaming"): 6,
    ("graph", "tracing"): 2,
    ("graph", "formats"): 1,
}


def folder(module: str) -> str:
    return module.partition(".")[0]


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """The folders of Onward that a file imports anywhere, and whether at its top level."""
    package = ["onward", *path.relative_to(SOURCE).parent.parts]
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.module else base
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "onward":
                inside = folder(name.removeprefix("onward").lstrip("."))
                yield inside if inside in ORDER else "", node in tree.body


def at_import(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run when a module is imported."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.Try | ast.With) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test)
        ):
            yield from at_import(node.body)


def needs(name: str, path: Path, names: Collection[str]) -> set[str]:
    """The modules that Python imports before or while it imports a module: its package, and what it names."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = {name.rpartition(".")[0]}
    for node in at_import(ast.parse(path.read_text()).body):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        else:
            outer = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*outer, *([node.module] if node.module else [])])
            found.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
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
    files = {
        ".".join(["onward", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__"): path
        for path in FILES
    }
    graph = {name: needs(name, path, files) for name, path in files.items()}
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


FILES = sorted(SOURCE.rglob("*.py"))


def higher(path: Path) -> Iterator[tuple[str, str, bool]]:
    """The folder of a file, each higher folder that it imports a name from, and whether at its top level."""
    own = folder(str(path.relative_to(SOURCE)).removesuffix(".py").replace("/", "."))
    own = "" if own == "__init__" else own
    for name, at_top in imported(path):
        if ORDER.index(name) > ORDER.index(own):
            yield own, name, at_top


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_imports_a_higher_folder(path: Path) -> None:
    assert not [name for _, name, at_top in higher(path) if at_top]


def test_no_function_imports_a_higher_folder_except_those_that_are_counted() -> None:
    found = Counter((own, name) for path in FILES for own, name, _ in higher(path))
    assert found == DEFERRED, "a folder imports more of a higher one, or less: then lower its number"


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


def test_opening_a_graph_imports_no_slow_modules() -> None:
    code = (
        "import sys, numpy; before = set(sys.modules)\n"
        "import onward, onward.graph, onward.formats.onnx.read, onward.formats.onnx.translate\n"
        "print(*set(sys.modules) - before)"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    slow = {"numpy.random", "statistics", "shutil", "pathlib", "json", "safetensors", "typing_extensions"}
    assert not slow & set(output.split())


def test_all_lists_the_public_names() -> None:
    public = {name for name, value in vars(onward).items() if not name.startswith("_") and callable(value)}
    assert set(onward.__all__) == public | {"errors", "export_web", "textbook", "train", "verify"}
    assert callable(onward.load)
