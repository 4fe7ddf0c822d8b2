"""The reference documents every public name, and each class and function has an example."""

import inspect
import pydoc
import re
import runpy
from typing import Any

import pytest
from support import ROOT

import onward
from onward import bundled, errors, textbook, train
from onward.graph.operations.modules import MODULES
from onward.recipes import SequenceClassifier, SequenceRegressor
from onward.recipes.text import Vocabulary

ESTIMATORS = (SequenceClassifier, SequenceRegressor, Vocabulary)

PAGES = [path.read_text(encoding="utf-8") for path in ROOT.glob("docs/reference/*.md")]
DOCUMENTED = {name for page in PAGES for name in re.findall(r"^::: (onward[\w.]*)", page, re.MULTILINE)}


def public() -> list[tuple[str, Any]]:
    names = [("onward." + name, getattr(onward, name)) for name in onward.__all__]
    names += [("onward.train." + name, getattr(train, name)) for name in train.__all__]
    return [(name, value) for name, value in names if not inspect.ismodule(value)]


@pytest.mark.parametrize(
    ("name", "value"), public(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_public_name_without_a_place_in_the_reference_or_an_example(name: str, value: Any) -> None:
    aliases = {
        "onward.chain": "onward.recipes.connect.chain",
        "onward.export_web": "onward.formats.web.export_web",
        "onward.verify": "onward.recipes.verify.verify",
    }
    assert aliases.get(name, name) in DOCUMENTED
    assert ">>>" in (inspect.getdoc(value) or ""), name


def test_help_spells_out_the_types_of_numpy_in_a_signature() -> None:
    for name, value in public():
        if inspect.isclass(value) or inspect.isfunction(value):
            assert "numpy._typing" not in str(inspect.signature(value)), name


# Names whose own code raises no error.
RAISES_NOTHING = {
    *("get_num_threads", "Batch", "Constant", "Data", "Epoch", "History", "Score", "models", "datasets"),
}


def test_docstring_does_not_state_the_errors() -> None:
    functions = [(name, getattr(module, name)) for module in (textbook, bundled) for name in module.__all__]
    silent = {
        name.rpartition(".")[2]
        for name, value in [*public(), *functions, *((c.__name__, c) for c in ESTIMATORS)]
        if not re.search(r"\braises?\b", inspect.getdoc(value) or "", re.IGNORECASE)
    }
    assert silent == RAISES_NOTHING


def test_member_without_a_description() -> None:
    members = re.compile(r"^::: (onward[\w.]*)\n    options: \{.*?\bmembers: \[([^\]]*)\]", re.MULTILINE)
    for page in PAGES:
        for owner, names in members.findall(page):
            for name in names.split(", "):
                assert inspect.getdoc(getattr(pydoc.locate(owner), name)), f"{owner}.{name}"


@pytest.mark.parametrize("module", [textbook, bundled], ids=lambda module: module.__name__)
def test_function_without_an_example(module: Any) -> None:
    assert module.__name__ in DOCUMENTED
    for name in module.__all__:
        assert ">>>" in (inspect.getdoc(getattr(module, name)) or ""), name


def test_error_without_a_description() -> None:
    for name, value in vars(errors).items():
        if inspect.isclass(value):
            assert value.__doc__, name


def test_the_generated_table_of_operators_lists_operations_that_no_module_has_imported_yet() -> None:
    parts = runpy.run_path(str(ROOT / "tools/site/generated.py"))["PARTS"]
    rows = parts["operators"]().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == sorted(MODULES)
    assert "`QGemm`" in parts["onnxruntime operators"]()
