"""The order of the files, lower never importing higher, and what `import onward` brings with it."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import onward

SOURCE = Path(onward.__file__).parent
ORDER = [
    "errors",
    "textbook",
    "_core",
    "gates",
    "arrays",
    "files",
    "data",
    "bundled",
    "base",
    "activations",
    "threads",
    "dense",
    "convolution",
    "normalization",
    "precision",
    "recurrent",
    "recording",
    "gradients",
    "state",
    "stream",
    "pool",
    "plot",
    "trace",
    "running",
    "layers",
    "model",
    "scoring",
    "tables",
    "parquet",
    "keras.layer",
    "keras.products",
    "keras.activations",
    "keras.basic",
    "keras.normalization",
    "keras.convolution",
    "keras.operations",
    "keras.merging",
    "keras.attention",
    "keras.recurrent",
    "keras.graph",
    "keras.chain",
    "keras",
    "onnx_names",
    "onnx_functions",
    "onnx_writer",
    "export",
    "load.unpickle",
    "load.archive",
    "load.npz",
    "load.statedict",
    "load.torch_names",
    "load.torch",
    "load.by_hand",
    "load.hdf5_objects",
    "load.hdf5",
    "load.keras_weights",
    "load.keras_by_hand",
    "load.keras_1",
    "load.keras_source",
    "load.keras_layers",
    "load.keras_recurrent",
    "load.keras_operations",
    "load.keras_graph",
    "load.keras",
    "load.onnx_operators",
    "load.onnx_control",
    "load.onnx_layers",
    "load.onnx_corrected",
    "load.onnx_resize",
    "load.onnx_functions",
    "load.onnx_recurrent",
    "load.onnx_quantized",
    "load.onnx_evaluator",
    "load.onnx_file",
    "load.onnx_chain",
    "load.onnx",
    "onnx_backend",
    "load",
    "text",
    "ray",
    "train.losses",
    "train.weights",
    "train.optimizers",
    "train.schedules",
    "train.batches",
    "train.evaluation",
    "train.diagnosis",
    "train.history",
    "train.checkpoint",
    "train.progress",
    "train.fit",
    "train.characters",
    "train.tables",
    "train",
    "",
    "cli.common",
    "cli.tables",
    "cli.models",
    "cli.run",
    "cli.trace",
    "cli.train",
    "cli.writing",
    "cli",
]
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in SOURCE.rglob("*.py")
}


def imported(module: str) -> Iterator[str]:
    """The modules of Onward that one imports, in whatever form and wherever; "" is the package itself."""
    path = MODULES[module]
    package = ["onward", *path.relative_to(SOURCE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
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
                inside = name.removeprefix("onward").lstrip(".")
                yield inside if inside in ORDER else inside.rpartition(".")[0]


def test_every_file_has_its_place_in_the_order() -> None:
    assert sorted([*MODULES, "_core"]) == sorted(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_lower_never_imports_higher(module: str) -> None:
    higher = [name for name in imported(module) if ORDER.index(name) >= ORDER.index(module)]
    assert not higher


def test_lower_cpp_never_includes_higher() -> None:
    root = Path(__file__).parent.parent
    order = re.findall(r"^cpp/(\w+\.\w+)", (root / "CONTRIBUTING.md").read_text(), re.MULTILINE)

    def place(file: str) -> int:
        """A header stands where its .cpp does, unless it has a place of its own."""
        return order.index(file if file in order else file.replace(".h", ".cpp"))

    for path in (root / "cpp").glob("*.[hc]*"):
        for included in re.findall(r'#include "(\w+\.h)"', path.read_text()):
            assert place(included) <= place(path.name), f"{path.name} includes {included}"


def test_import_onward_brings_numpy_and_safetensors_and_nothing_else() -> None:
    code = (
        "import sys, numpy.random, safetensors.numpy; before = set(sys.modules); import onward;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert set(output.split()) - sys.stdlib_module_names == {"onward", "numpy"}  # other parts of NumPy


def test_all_names_what_there_is_for_users() -> None:
    public = {name for name, value in vars(onward).items() if not name.startswith("_") and callable(value)}
    assert set(onward.__all__) == public | {"errors", "textbook", "train"}
    assert callable(onward.load)
