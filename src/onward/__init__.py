"""Run trained recurrent networks on a CPU with NumPy alone; may import every folder except cli."""

import importlib
import typing

from . import core as core  # first, because it imports the extension modules
from . import errors, layers, textbook
from .core import facade
from .core.threads import get_num_threads, num_threads, set_num_threads
from .formats import load, load_tensors
from .formats.onnx.export import export_onnx
from .layers import *

__version__ = "0.1.0"

__all__ = [
    "chain",
    "errors",
    "export_onnx",
    "export_web",
    "get_num_threads",
    "load",
    "load_tensors",
    "num_threads",
    "set_num_threads",
    "textbook",
    "textbook_scans",
    "train",
    "verify",
]
__all__ += layers.__all__


facade.register(
    {
        "compile_model": "onward.formats.compiled.write",
        "connected_rows": "onward.layers.summary",
        "describe": "onward.formats.onnx.saved",
        "export_c": "onward.formats.c.write",
        "export_onnx": "onward.formats.onnx.export",
        "pool": "onward.streaming.layers",
        "quantize": "onward.layers.quantize",
        "stream": "onward.streaming.layers",
        "trace": "onward.tracing.trace",
        "trainable": "onward.layers.trainable",
        "weights_for": "onward.formats",
    }
)

# Imported when first named: those who only run models need not wait for them.
LAZY = {
    "ray": "onward.tables.ray",
    "recipes": "onward.recipes",
    "textbook_scans": "onward.layers.textbook_scans",
    "text": "onward.recipes.text",
    "train": "onward.train",
}
LAZY_FUNCTIONS = {
    "chain": "onward.recipes.connect",
    "export_web": "onward.formats.web",
    "verify": "onward.recipes.verify",
}


def __getattr__(name: str) -> typing.Any:
    if name in LAZY:
        return importlib.import_module(LAZY[name])
    if name in LAZY_FUNCTIONS:
        return getattr(importlib.import_module(LAZY_FUNCTIONS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
