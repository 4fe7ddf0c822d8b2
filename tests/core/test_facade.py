"""The functions of higher folders that methods of layers and models call exist."""

import re
from importlib import import_module
from pathlib import Path

import onward
from onward.core import facade


def test_every_name_that_a_method_calls_is_registered_and_defined() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in Path(onward.__file__).parent.rglob("*.py"))
    called = set(re.findall(r'facade\.call\(\s*"(\w+)"', source)) - {"sqrt"}
    assert called and called <= facade.registered().keys()
    for name, module in facade.registered().items():
        assert module.startswith("onward.") is (name != "sqrt")
        assert callable(getattr(import_module(module), name))
