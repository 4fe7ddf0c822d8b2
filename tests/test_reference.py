"""The reference documents every public name, and each class and function has an example."""

import inspect
import re
from typing import Any

import pytest
from support import ROOT

import onward
from onward import bundled, errors, textbook, train

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
    aliases = {"onward.verify": "onward.recipes.verify.verify"}
    assert aliases.get(name, name) in DOCUMENTED
    assert ">>>" in (inspect.getdoc(value) or ""), name


@pytest.mark.parametrize("module", [textbook, bundled], ids=lambda module: module.__name__)
def test_function_without_an_example(module: Any) -> None:
    assert module.__name__ in DOCUMENTED
    for name in module.__all__:
        assert ">>>" in (inspect.getdoc(getattr(module, name)) or ""), name


def test_error_without_a_description() -> None:
    for name, value in vars(errors).items():
        if inspect.isclass(value):
            assert value.__doc__, name
