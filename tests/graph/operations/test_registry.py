"""Operations are imported when they are first used: their modules are listed, and complete."""

import pkgutil
import subprocess
import sys
from importlib import import_module

import numpy as np
from support.in_one_test import in_one_test

from onward.graph import operations
from onward.graph.operations import OPERATIONS, registry
from onward.graph.operations.modules import MODULES

RULES = ("lower", "expand", "combines", "stream")


def test_each_operation_is_listed_with_the_module_that_defines_it() -> None:
    for module in pkgutil.iter_modules(operations.__path__):
        import_module(f"{operations.__name__}.{module.name}")
    assert registry._defined.keys() == MODULES.keys()


@in_one_test("name", MODULES)
def test_the_rules_of_an_operation_come_from_modules_that_it_imports(name: str) -> None:
    allowed = (*MODULES[name], "registry", "compositions")
    home, *_ = modules = [f"{operations.__name__}.{module}" for module in allowed]
    for rule in filter(None, (getattr(OPERATIONS[name], rule) for rule in RULES)):
        shared = getattr(sys.modules[home], rule.__name__, None) is rule  # imported by the first module
        assert shared or rule.__module__ in modules


def test_rules_in_other_modules_are_complete_whatever_is_imported_first() -> None:
    code = """
import onward.graph.operations.transposed, onward.graph.operations.quantized_recurrent
from onward.graph.operations import OPERATIONS
assert OPERATIONS["Conv"].stream and OPERATIONS["ConvTranspose"].lower and OPERATIONS["MaxPool"].stream
assert OPERATIONS["DynamicQuantizeLSTM"].lower and OPERATIONS["QuantizeLinear"].lower
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_meaning_of_an_operation_takes_aligned_arrays() -> None:
    """The core reads them, and arrays in the memory of a file may start at any byte."""
    seen = []

    def compute(*arrays: np.ndarray) -> np.ndarray:
        seen.extend(arrays)
        return arrays[0]

    numbers = np.arange(1, 6, dtype=np.float32)
    unaligned = np.frombuffer(b"?" + numbers.tobytes(), np.float32, offset=1)
    assert not unaligned.flags.aligned
    registry.Operation("Test", compute).compute([unaligned, numbers, None], {})
    assert seen[0].flags.aligned and (seen[0] == numbers).all() and seen[1] is numbers
