"""Folders import only lower folders, and `import onward` imports few other packages."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
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
# A layer's methods import these folders when they are called.
DEFERRED = {
    *(("layers", "graph"), ("layers", "streaming"), ("layers", "tracing"), ("layers", "formats")),
    *(("graph", "streaming"), ("graph", "tracing"), ("graph", "formats")),
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


def test_every_folder_is_in_the_order() -> None:
    found = {folder(str(path.relative_to(SOURCE)).removesuffix(".py").replace("/", ".")) for path in FILES}
    assert sorted({*found, "_core"}) == sorted({*ORDER, "__init__"} - {""})


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_imports_a_higher_folder(path: Path) -> None:
    own = folder(str(path.relative_to(SOURCE)).removesuffix(".py").replace("/", "."))
    place = ORDER.index("" if own == "__init__" else own)
    higher = [
        name
        for name, at_top in imported(path)
        if ORDER.index(name) > place and (at_top or (own, name) not in DEFERRED)
    ]
    assert not higher


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
