"""For which kinds of nodes a program holds for one size of an open axis alone: a table, with the reasons."""

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from support import modules, torch_module_table
from support.keras_models import with_random_weights
from support.random_keras import RandomModel
from support.randomized import random_cases
from support.skips import Cases

import onward

pytestmark = pytest.mark.usefixtures("quiet_exporters")

# Operations in which the sizes of two values meet. If the file gives them different names, or computes one of
# them, they are equal in some calls only. A Split into two equal parts needs an even size.
BETWEEN_AXES = {
    *(
        "Add",
        "AdditiveAttention",
        "Concatenate",
        "Expand",
        "GRU",
        "Greater",
        "LSTM",
        "MatMul",
        "Maximum",
        "Minimum",
        "Mul",
        "Multiply",
    ),
    *("Reshape", "Split", "Subtract", "Where"),
}
# Operations in which an open size meets a number.
WITH_NUMBERS = {
    "Concatenate": "the file declares the size of the other values",
    "Gemm": "the open sizes after the batch are as many features as the matrix has rows",
    "LSTM": "the open sizes after the batch are as many features as the matrix has columns",
    "Split": "the file states the sizes of the parts, or how many equal parts there are",
}


def assert_known(model: Any) -> Counter[str]:
    """Check that all kinds of guards "equals" of a model are known, and count them."""
    found: Counter[str] = Counter()
    for program in model.programs:
        for guard in program.axes.guards.values():
            if guard.condition == "= 0":
                kind = guard.node.rpartition("(")[2].rstrip(")")
                has_number = any(not monomial for monomial, _ in guard.size.terms)
                assert kind in (WITH_NUMBERS if has_number else BETWEEN_AXES), str((guard.node, str(guard)))
                found[kind] += 1
    return found


@pytest.mark.parametrize("name", modules.WHOLE)
def test_whole_models_with_an_open_batch_fix_no_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole, path = modules.WHOLE[name], tmp_path / "model.onnx"
    module, shapes = whole.module(), whole.inputs.items()
    places = {key: int(len(shape) == 3 and key in "hc") for key, shape in shapes}
    axes = {key: {place: "batch"} for key, place in places.items()}
    path.write_bytes(modules.exported(module, modules.inputs_of(whole.inputs, 0), dynamic_axes=axes))
    model: Any = onward.load(path)
    for batch in (3, 5):
        sizes = {key: (*shape[: places[key]], batch, *shape[places[key] + 1 :]) for key, shape in shapes}
        model(**modules.inputs_of(sizes, batch))
    assert len(model.programs) == 1 and not assert_known(model)


def test_random_modules_fix_sizes_for_known_reasons_alone(tmp_path: Path) -> None:
    path, found, cases = tmp_path / "model.onnx", Counter[str](), Cases()
    for seed in range(random_cases(12)):
        module, inputs = modules.random_module(seed)
        axes = {"x": {0: "batch", 1: "time"}}
        with cases.new(seed) as case:
            with case.skipping(torch.onnx.errors.OnnxExporterError):
                path.write_bytes(modules.exported(module, inputs, dynamic_axes=axes))
            model: Any = onward.load(path)
            model(**inputs)
            found += assert_known(model)
    cases.check()
    assert found.total() <= random_cases(12) // 4, found


def test_the_table_of_modules_fixes_sizes_for_known_reasons_alone(tmp_path: Path) -> None:
    path, found, count = tmp_path / "model.onnx", Counter[str](), 0
    for case in torch_module_table.MODULES.values():
        inputs = case.inputs()
        names = [f"x{place}" for place in range(len(inputs))]
        with suppress(Exception):  # the exporter does not support the module, or inputs that are no tensors
            axes = {n: {a: f"{n}_{a}" for a in range(x.ndim)} for n, x in zip(names, inputs, strict=True)}
            options: Any = {"input_names": names, "dynamic_axes": axes, "dynamo": False}
            torch.onnx.export(case.make().eval(), inputs, path, **options)
        if path.exists():
            model: Any = onward.load(path)
            model(*(x.numpy() for x in inputs))
            found, count = found + assert_known(model), count + 1
            path.unlink()
    assert count > 80 and found.total() <= 30, (count, found)


def test_keras_models_fix_sizes_for_known_reasons_alone(tmp_path: Path) -> None:
    path, found, fixed = tmp_path / "model.keras", Counter[str](), 0
    for seed in range(random_cases(20)):
        source = RandomModel(keras, np.random.default_rng(seed))
        saved = with_random_weights(source.build())
        saved.save(path)
        model, inputs = onward.load(path), source.inputs(saved)
        for batch in (5, 3, 2):
            rows = [x[:batch] for x in inputs]
            model(rows if len(rows) > 1 else rows[0])
        # masked layers that run in reverse read their steps through a table for one batch and length
        fixed += len(model.programs) > 2
        found += assert_known(model)
    assert found.total() <= random_cases(20) and fixed <= random_cases(20) // 5, (found, fixed)
