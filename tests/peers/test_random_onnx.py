"""Random ONNX models with control flow and sequences match onnxruntime, also saved and exported.

The onnx package's reference evaluator is the second oracle, where onnxruntime refuses a valid model: it needs
the shape of every scanned output of a Scan, and cannot infer some types. Where a loop has no iterations,
onnxruntime returns 0 for each size that the file leaves open, and the shape (0,) if it declares none; Onward
returns the sizes that an iteration gives. onnxruntime refuses a Scan of no slices, or ends the process.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from support.frameworks import onnxruntime_session
from support.onnx_nodes import open_model, outputs_of
from support.random_onnx import Case, Feeds, RandomModel
from support.randomized import random_cases
from support.skips import Cases

import onward

BATCHES, MODELS = 10, random_cases(15)  # models in a batch


def oracles(case: Case) -> list[Any]:
    """The functions of feeds that compute what to expect: the first that accepts them decides."""
    found: list[Any] = [lambda feeds: ReferenceEvaluator(case.model).run(None, feeds)]
    try:
        session = onnxruntime_session(case.model)
    except Exception:  # a type that onnxruntime cannot infer
        return found
    return [lambda feeds: session.run(None, feeds), *found]


def expected(case: Case, feeds: Feeds) -> Any:
    """The outputs of the first oracle that runs the model, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for oracle in oracles(case):
            try:
                return oracle(feeds)
            except Exception:  # each oracle has its own
                continue
    return None


def assert_equal(y: Any, wanted: Any) -> None:
    if isinstance(wanted, list):
        assert isinstance(y, list) and len(y) == len(wanted)
        for mine, other in zip(y, wanted, strict=True):
            assert_equal(mine, other)
        return
    wanted = np.asarray(wanted)
    assert y.dtype == wanted.dtype
    if y.shape != wanted.shape and y.shape[:1] == (0,):  # no iterations: onnxruntime does not know the sizes
        known = zip(y.shape, wanted.shape, strict=wanted.shape != (0,))
        assert all(other in (0, size) for size, other in known)
        return
    np.testing.assert_allclose(y, wanted, rtol=1e-4, atol=1e-5, strict=True)


def assert_same_bits(y: Any, other: Any) -> None:
    assert type(y) is type(other)
    if isinstance(y, list):
        assert len(y) == len(other)
        for mine, theirs in zip(y, other, strict=True):
            assert_same_bits(mine, theirs)
    else:
        np.testing.assert_array_equal(y, other, strict=True)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_random_model_gives_the_outputs_of_onnxruntime(batch: int, tmp_path: Path) -> None:
    cases = Cases()
    for seed in range(batch * MODELS, (batch + 1) * MODELS):
        case = RandomModel(seed).build()
        model = open_model(case.model)
        model.save(tmp_path / "m.safetensors")
        model.export_onnx(tmp_path / "m.onnx")
        saved: Any = onward.load(tmp_path / "m.safetensors")
        exported: Any = onward.load(tmp_path / "m.onnx")
        onnxruntime_session(tmp_path / "m.onnx")
        for feeds in case.feeds:
            with cases.new(seed) as each:
                if (wanted := expected(case, feeds)) is None:
                    each.skip()
                outputs = model(**feeds)
                for y, value in zip(outputs, wanted, strict=True):
                    assert_equal(y, value)
                for again in (saved, exported):
                    for y, other in zip(outputs, outputs_of(again, **feeds), strict=True):
                        assert_same_bits(y, other)
    cases.check(most=1 / 6)
