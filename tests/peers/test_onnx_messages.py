"""Onward reads and writes every model of ONNX's test suite as the onnx package does."""

import warnings
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx.backend.test.case import model, node
from support.onnx_messages import assert_same, decoded

from onward.formats.onnx import protobuf
from onward.formats.onnx.read import read


@pytest.mark.parametrize("collect", [lambda: node.collect_testcases(None), model.collect_testcases])
def test_every_model_of_the_suite_is_read_and_written(collect: Callable[[], list[object]]) -> None:
    with (
        warnings.catch_warnings(),
        np.errstate(all="ignore"),
    ):  # the suite warns while it computes expected outputs
        warnings.simplefilter("ignore")
        models = [case.model for case in collect() if case.model is not None]  # type: ignore[attr-defined]  # untyped
    assert models
    for expected in models:
        content = expected.SerializeToString()
        assert_same(decoded(content), expected)
        assert onnx.ModelProto.FromString(protobuf.encode(decoded(content))) == expected
        read("model.onnx", content)
