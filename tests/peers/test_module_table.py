"""Each module of the table in every form that PyTorch saves: .pt2, TorchScript, and ONNX of both exporters.

By default, one module in twenty; with --every-module, all of them.
"""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from support.onnx_nodes import outputs_of
from support.torch_module_table import MODULES
from support.torch_modules import TensorBranch
from torch import nn
from torch.export import Dim

import onward
from onward.graph import Model
from onward.graph.inference import flattened
from onward.graph.node import Signature
from onward.graph.simplification.simplify import simplify

Inputs = tuple[Any, ...]
IMPOSSIBLE = {("weight norm", "scripted")}  # PyTorch itself cannot run it


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Hide the warnings of the exporters."""
    logging.disable(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = list(MODULES)
    metafunc.parametrize("name", names if metafunc.config.getoption("--every-module") else names[::20])


def exported(module: nn.Module, inputs: Inputs, dynamic: bool = False) -> Any:
    axes = tuple({axis: Dim.AUTO for axis in range(x.ndim)} for x in inputs) if dynamic else None
    return torch.export.export(module, inputs, dynamic_shapes=axes)


def onnx_of(module: nn.Module, inputs: Inputs, path: Path, dynamo: bool) -> None:
    torch.onnx.export(module, inputs, str(path), dynamo=dynamo, external_data=False, verbose=False)


def jit(program: Any, path: Path) -> None:
    buffer = io.BytesIO()
    torch.jit.save(program, buffer)
    path.write_bytes(buffer.getvalue())


WRITERS: dict[str, Callable[[nn.Module, Inputs, Path], None]] = {
    "static": lambda m, x, path: torch.export.save(exported(m, x), path),
    "dynamic": lambda m, x, path: torch.export.save(exported(m, x, dynamic=True), path),
    "decomposed": lambda m, x, path: torch.export.save(exported(m, x).run_decompositions(), path),
    "traced": lambda m, x, path: jit(torch.jit.trace(m, x, check_trace=False, strict=False), path),
    "scripted": lambda m, x, path: jit(torch.jit.script(m), path),
    "onnx": lambda m, x, path: onnx_of(m, x, path, dynamo=True),
    "onnx of the older exporter": lambda m, x, path: onnx_of(m, x, path, dynamo=False),
}


def leaves(value: Any) -> list[NDArray[Any]]:
    """Return the tensors and arrays in a nested value."""
    if isinstance(value, torch.Tensor):
        return [value.detach().numpy()]
    if isinstance(value, np.ndarray):
        return [value]
    values = value.values() if isinstance(value, dict) else value
    return [array for each in values for array in leaves(each)]


def in_onnxruntime(path: Path, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Run an ONNX file, which differs from the module where the older exporter is wrong about views."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    outputs: list[NDArray[Any]] = session.run(None, dict(zip(names, arrays, strict=False)))
    return outputs


def operations(model: Any, arrays: list[NDArray[Any]]) -> list[str]:
    """Return the operations that a model computes for these inputs."""
    graph = model._graph.source.graph() if model._graph.source is not None else model._graph
    if graph.is_recorded:
        return []
    known: dict[str, Any] = {d.name: Signature.of(a) for d, a in zip(graph.inputs, arrays, strict=False)}
    return [f"{node.operation} {node.attributes}" for node in simplify(flattened(graph, known)).nodes]


def test_every_form_of_a_module_gives_the_numbers_of_torch(name: str, tmp_path: Path) -> None:
    torch.manual_seed(sum(map(ord, name)))
    case = MODULES[name]
    module, inputs = case.make().eval(), case.inputs()
    with torch.no_grad():
        expected = leaves(module(*inputs))
    arrays = [each.numpy() for each in inputs]
    found: dict[str, list[NDArray[Any]]] = {}
    graphs: dict[str, list[str]] = {}
    for form, write in WRITERS.items():
        path = tmp_path / f"m.{'onnx' if 'onnx' in form else 'pt2'}"
        if (name, form) in IMPOSSIBLE or isinstance(module, TensorBranch):
            continue
        try:
            write(module, inputs, path)
        except Exception:  # an exporter does not support the module
            continue
        model = onward.load(path)
        found[form] = leaves(outputs_of(model, *arrays))
        graphs[form] = operations(model, arrays) if isinstance(model, Model) else []
        reference = in_onnxruntime(path, arrays) if "onnx" in form else expected
        assert len(found[form]) >= len(reference)
        for actual, wanted in zip(found[form], reference, strict=False):
            scale = max(1.0, float(np.abs(wanted).max(initial=0)))
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5 * scale, err_msg=form)
    assert len(found) >= 2 or isinstance(module, TensorBranch), found.keys()  # packed sequences have two
    for form, ops in graphs.items():
        if ops and ops == graphs.get("static"):
            for actual, wanted in zip(found[form], found["static"], strict=False):
                np.testing.assert_array_equal(actual, wanted, err_msg=form)
