"""Calls of ATen's operators choose the overload, the order and the default values that PyTorch chooses."""

import importlib.util
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from support import ROOT
from support.skips import Cases

from onward.errors import ArgumentError
from onward.formats.torch.aten import registry  # TorchScript would take its Tensor for PyTorch's
from onward.formats.torch.aten.overloads import overload
from onward.formats.torch.aten.schemas import REQUIRED, Parameter, lines, overloads

TYPES = {"Scalar": "float", "ScalarType": "int"}
STUBS: dict[str, Any] = {
    "Tensor": registry.Tensor("x", np.dtype(np.float32), (None, None)),
    "int": registry.Symbol("n"), "str": "reflect",
    "float": registry.Symbol("f", np.dtype(np.float64)), "Scalar": registry.Symbol("f", np.dtype(np.float64)),
    "bool": registry.Symbol("b", np.dtype(np.bool_)), "ScalarType": 6,
}  # fmt: skip
KEYS = [
    (name, key)
    for name in sorted({re.split(r"[.(]", line, maxsplit=1)[0] for line in lines()})
    for key in overloads(name)
    if key not in ("split.default", "view.dtype")  # PyTorch turns them into split.sizes and view.default
]


def compiled(name: str, arguments: Sequence[tuple[Parameter, bool]]) -> Any:
    """Return the node of a call in TorchScript, with these arguments by name or by position."""
    taken = ", ".join(f"{p.name}_: {annotation(p.kind)}" for p, _ in arguments)
    passed = ", ".join(f"{p.name}={p.name}_" if by_name else f"{p.name}_" for p, by_name in arguments)
    unit = torch.jit.CompilationUnit(f"def f({taken}):\n  return torch.ops.aten.{name}({passed})\n")
    return [node for node in unit.f.graph.nodes() if node.kind().startswith("aten::")][-1]


def annotation(kind: str) -> str:
    inner, is_list, _ = kind.removesuffix("?").partition("[")
    inner = (
        f"Optional[{TYPES.get(inner[:-1], inner[:-1])}]" if inner.endswith("?") else TYPES.get(inner, inner)
    )
    return f"List[{inner}]" if is_list else inner


def stub(kind: str) -> Any:
    inner, is_list, _ = kind.removesuffix("?").partition("[")
    return [STUBS[inner.removesuffix("?")]] * 2 if is_list else STUBS[inner]


def styles(parameters: Sequence[Parameter]) -> list[list[tuple[Parameter, bool]]]:
    """Return calls with all arguments by position, with all by name, and with the required ones alone."""
    passable = [
        p for p in parameters if p.kind.removesuffix("?").partition("[")[0].removesuffix("?") in STUBS
    ]
    in_order = list(parameters[: next((i for i, p in enumerate(parameters) if p not in passable), None)])
    return [
        [(p, not p.is_positional) for p in in_order] + [(p, True) for p in passable if p not in in_order],
        [(p, True) for p in passable],
        [(p, not p.is_positional) for p in passable if p.default is REQUIRED],
    ]


@pytest.mark.parametrize("share", range(8))
def test_calls_resolve_as_in_pytorch(share: int) -> None:
    cases = Cases()
    for name, key in KEYS[share::8]:
        for arguments in styles(overloads(name)[key]):
            # PyTorch does not take such a call, or it has no node
            with cases.new() as case, case.skipping(RuntimeError, IndexError):
                node = compiled(name, arguments)
            if case.skipped:
                continue
            if node.kind() != f"aten::{name}":  # an alias, whose overloads have other names
                continue
            expected = node.schema().partition("(")[0].removeprefix("aten::")
            expected = expected if "." in expected else f"{expected}.default"
            positional = [stub(p.kind) for p, by_name in arguments if not by_name]
            named = {p.name: stub(p.kind) for p, by_name in arguments if by_name}
            in_place = name.endswith("_") and not name.startswith("_")
            try:
                chosen, bound = overload(
                    name.removesuffix("_") if in_place else name, positional, named, in_place
                )
            except ArgumentError as error:
                assert f"the overload {expected}" in str(error), (node.schema(), str(error))
                continue
            assert chosen == (expected.replace("_.", ".", 1) if in_place else expected)
            parameters = overloads(name)[expected]
            check(node, parameters, bound, {*named, *(p.name for p in parameters[: len(positional)])})
    cases.check(most=1 / 4)


def check(node: Any, parameters: Sequence[Parameter], bound: dict[str, Any], passed: set[str]) -> None:
    """Check the arguments against the inputs of a node."""
    for parameter, value in zip(parameters, node.inputs(), strict=True):
        name = parameter.name
        if name not in bound:
            continue
        if name in passed:
            assert value.debugName().startswith(f"{name}_") or value.node().kind() != "prim::Constant", name
            expected = stub(parameter.kind)
            is_dtype = parameter.kind.startswith("ScalarType")
            assert bound[name] == (np.dtype(np.float32) if is_dtype else expected), (node.schema(), name)
        elif value.toIValue() is not None or bound[name] is not None:
            default = bound[name]
            default = (
                {np.dtype(np.int64): 4}.get(default, default) if isinstance(default, np.dtype) else default
            )
            constant = value.toIValue()
            if value.node().kind() == "prim::ListConstruct":
                constant = [each.toIValue() for each in value.node().inputs()]
            count = len(constant) if isinstance(constant, list) else 0
            assert constant in (default, [default] * count), (node.schema(), name)


def test_the_table_is_that_of_pytorch() -> None:
    path = ROOT / "tools" / "make_schemas.py"
    spec = importlib.util.spec_from_file_location("make_schemas", path)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.table() == lines()
