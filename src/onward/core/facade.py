"""Functions of higher folders that methods of layers and models call: `stream`, `trace`, `export_onnx`, ...

A file imports lower folders only. `onward/__init__.py`, which may import all of them, registers the functions
here with the modules that define them; methods call them by name. The first call imports the module.

>>> from onward.core import facade
>>> facade.register({"sqrt": "math"})
>>> facade.call("sqrt", 4.0)
2.0
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

_modules: dict[str, str] = {}


def register(modules: Mapping[str, str]) -> None:
    """Register functions by name, each with the module that defines it."""
    _modules.update(modules)


def registered() -> Mapping[str, str]:
    """Return the modules of all functions by name."""
    return dict(_modules)


def call(name: str, /, *args: Any, **options: Any) -> Any:
    """Call a registered function."""
    return getattr(import_module(_modules[name]), name)(*args, **options)
