"""Each module of the table in every form that PyTorch saves: .pt2, TorchScript, ONNX of both exporters."""

import io
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from support.frameworks import onnxruntime_outputs
from support.in_numpy import unexpected
from support.onnx_nodes import outputs_of
from support.torch_module_table import MODULES
from torch import nn
from torch.export import Dim

import onward
from onward.errors import ArgumentError
from onward.graph import Model
from onward.graph.inference import flattened
from onward.graph.node import Signature
from onward.graph.simplification.simplify import simplify

pytestmark = pytest.mark.usefixtures("quiet_exporters")

Inputs = tuple[Any, ...]
WRONG_IN_TORCH = {("weight norm", "scripted"), ("branch on a tensor", "traced")}  # not the module
WITHOUT_PROGRAM = {
    "packed lstm",
    "packed gru",
    "packed rnn",
    *(TO_ALL_STEPS := {"packed lstm to all steps", "packed gru to all steps"}),
    "branch on a tensor",
}  # torch.export refuses them


def dynamic(module: nn.Module, inputs: Inputs) -> Any:
    axes = tuple({axis: Dim.AUTO for axis in range(x.ndim)} for x in inputs)
    return torch.export.export(module, inputs, dynamic_shapes=axes)


def jit(program: Any, path: Path) -> None:
    buffer = io.BytesIO()
    torch.jit.save(program, buffer)
    path.write_bytes(buffer.getvalue())


OLDER = "onnx of the older exporter"
# The first form is exported once, and three of the others are made from it.
EXPORTED: dict[str, Callable[[Any, Path], Any]] = {
    "static": torch.export.save,
    "decomposed": lambda program, path: torch.export.save(program.run_decompositions(), path),
    "onnx": lambda program, path: torch.onnx.export(program, (), path, external_data=False, verbose=False),
}
WRITERS: dict[str, Callable[[nn.Module, Inputs, Path], Any]] = {
    "dynamic": lambda m, x, path: torch.export.save(dynamic(m, x), path),
    "traced": lambda m, x, path: jit(torch.jit.trace(m, x, check_trace=False, strict=False), path),
    "scripted": lambda m, x, path: jit(torch.jit.script(m), path),
    OLDER: lambda m, x, path: torch.onnx.export(m, x, str(path), dynamo=False, verbose=False),
}


def saved(module: nn.Module, inputs: Inputs, folder: Path) -> dict[str, Path]:
    """Save a module in all forms that PyTorch can write."""
    paths: dict[str, Path] = {}
    writes: list[tuple[str, Any]] = [
        (form, partial(write, module, inputs)) for form, write in WRITERS.items()
    ]
    with suppress(Exception):
        program = torch.export.export(module, inputs)
        writes += [(form, partial(write, program)) for form, write in EXPORTED.items()]
    for form, write in writes:
        path = folder / f"{form}.{'onnx' if 'onnx' in form else 'pt2'}"
        with suppress(Exception):  # an exporter does not support the module
            write(path)
            paths[form] = path
    return paths


def leaves(value: Any) -> list[NDArray[Any]]:
    """Return the tensors and arrays in a nested value."""
    if isinstance(value, torch.Tensor):
        return [value.detach().numpy()]
    if isinstance(value, np.ndarray):
        return [value]
    values = value.values() if isinstance(value, dict) else value
    return [array for each in values for array in leaves(each)]


def in_onnxruntime(path: Path, arrays: list[NDArray[Any]]) -> list[NDArray[Any]] | None:
    """Run an ONNX file, which differs from the module where its exporter is wrong; None if it cannot run."""
    with suppress(Exception):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        outputs: list[NDArray[Any]] = session.run(None, dict(zip(names, arrays, strict=False)))
        return outputs
    return None


def assert_exported(model: Any, path: Path, arrays: list[NDArray[Any]], expected: list[NDArray[Any]]) -> None:
    """Check that onnxruntime gives the same numbers if the model can be exported."""
    try:
        onward.export_onnx(model, path)
    except ArgumentError as error:
        assert "cannot be exported as ONNX" in str(error) or "cannot be recorded" in str(error), error
        return
    for y, wanted in zip(onnxruntime_outputs(path, arrays), expected, strict=False):
        scale = max(1.0, float(np.abs(wanted).max(initial=0)))
        np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-5 * scale)


def operations(model: Any, arrays: list[NDArray[Any]]) -> list[str]:
    """Return the operations that a model computes for these inputs, and its constants."""
    graph = model.graph
    if graph.source is not None:  # its code is recorded for each call
        return []
    known: dict[str, Any] = {d.name: Signature.of(a) for d, a in zip(graph.inputs, arrays, strict=False)}
    simple = simplify(flattened(graph, known))
    constants = [simple.constants.get(name) for node in simple.nodes for name in node.inputs]
    values = [array.tobytes().hex() for array in constants if array is not None]
    return [*(f"{node.operation} {node.attributes}" for node in simple.nodes), *values]


@pytest.mark.parametrize("name", MODULES)
def test_every_form_of_a_module_gives_the_numbers_of_torch(name: str, tmp_path: Path) -> None:
    torch.manual_seed(sum(map(ord, name)))
    case = MODULES[name]
    module, inputs = case.make().eval(), case.inputs()
    with torch.no_grad():
        expected = leaves(module(*inputs))
    arrays = [each.numpy() for each in inputs]
    found: dict[str, list[NDArray[Any]]] = {}
    graphs: dict[str, list[str]] = {}
    paths = saved(module, inputs, tmp_path)
    assert {"traced", "scripted"} <= {*paths}
    if name not in WITHOUT_PROGRAM:
        assert {"static", "dynamic", "decomposed"} <= {*paths}
    for form, path in paths.items():
        if (name, form) in WRONG_IN_TORCH:
            continue
        reference = in_onnxruntime(path, arrays) if "onnx" in form else expected
        if reference is None:
            continue
        model = onward.load(path)
        found[form] = leaves(outputs_of(model, *arrays))
        # scripted code compares the lengths with the steps
        left = {"Check"} if form == "scripted" and name in TO_ALL_STEPS else set()
        assert not isinstance(model, Model) or unexpected(model, arrays) <= left, form
        graphs[form] = operations(model, arrays) if isinstance(model, Model) else []
        if form in ("static", "dynamic"):  # the others do not declare their inputs
            assert_exported(model, tmp_path / "m.onnx", arrays, found[form])
        assert len(found[form]) >= len(reference)
        for actual, wanted in zip(found[form], reference, strict=False):
            scale = max(1.0, float(np.abs(wanted).max(initial=0)))
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5 * scale, err_msg=form)
    for form, ops in graphs.items():
        if ops and ops == graphs.get("static"):
            for actual, wanted in zip(found[form], found["static"], strict=False):
                np.testing.assert_array_equal(actual, wanted, err_msg=form)
