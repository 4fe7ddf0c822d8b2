"""Operators that run outside of Onward end in time, whatever the file says."""

import pickle
import time

import numpy as np
import pytest
from onnx import helper
from support.onnx_nodes import model_of, open_model

from onward.errors import OnwardError


def matching(pattern: str) -> object:
    x = np.array(["", "ab"], object)
    nodes = [helper.make_node("RegexFullMatch", ["x"], ["y"], pattern=pattern)]
    return open_model(model_of(nodes, {"x": x}, ["y"], {}, opset=20))


def test_strings_match_as_a_whole() -> None:
    model = matching(r"[a-z]+\d?")
    texts = np.array(["abc", "abc1", "abc12", ""], object)
    for each in (model, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(each(texts)[0], [True, True, False, False])  # type: ignore[operator]


@pytest.mark.parametrize("pattern", ["(a|a)*b", "(a*)*b", "a*" * 30 + "b", "(a|aa)+$b"])
def test_no_expression_takes_exponential_time(pattern: str) -> None:
    model, start = matching(pattern), time.process_time()
    assert not model(np.array(["a" * 5000], object))[0]  # type: ignore[operator]
    assert time.process_time() - start < 2


@pytest.mark.parametrize("pattern", ["(a", r"(a)\1"])
def test_an_expression_that_re2_does_not_have_is_refused(pattern: str) -> None:
    with pytest.raises(OnwardError, match="does not run it"):
        matching(pattern)
