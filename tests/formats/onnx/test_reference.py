"""Operators that run outside of Onward end in time, whatever the file says."""

import pickle
import time
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from support import hostile
from support.onnx_nodes import model_of, open_model

from onward.errors import LimitError, OnwardError


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


def of_operator(name: str, inputs: dict[str, Any], version: int = 20, **attributes: Any) -> Any:
    domain = "ai.onnx.ml" if name in LEARNED else ""
    node = helper.make_node(name, list(inputs), ["y"], domain=domain, **attributes)
    model = model_of([node], inputs, ["y"], {}, opset=version)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 5))
    return open_model(model)


def shared_trees(depth: int) -> dict[str, Any]:
    """A tree both of whose branches are the same nodes, in all of its levels."""
    below = [min(node + 1, depth - 1) for node in range(depth)]
    leafs = [int(node == depth - 1) for node in range(depth)]
    below[-1] = 0
    return {
        "nodes_splits": numpy_helper.from_array(np.zeros(depth, np.float32)),
        "nodes_modes": numpy_helper.from_array(np.zeros(depth, np.uint8)),
        "nodes_featureids": [0] * depth, "tree_roots": [0], "n_targets": 1,
        "nodes_truenodeids": below, "nodes_falsenodeids": below,
        "nodes_trueleafs": leafs, "nodes_falseleafs": leafs,
        "leaf_targetids": [0], "leaf_weights": numpy_helper.from_array(np.ones(1, np.float32)),
    }  # fmt: skip


LEARNED = {"TreeEnsemble", "FeatureVectorizer", "OneHotEncoder", "LabelEncoder"}
ROWS, ROW = np.ones((4, 3), np.float32), np.ones((1, 1, 3, 3), np.float32)
BOXES = {"x": ROW, "boxes": np.array([[0, 0, 2, 2]], np.float32), "rows": np.array([0])}
WORDS = {"x": np.array(["w" * 20_000, *["a"] * 3000], object)}
GRAMS = {
    "mode": "TF",
    "min_gram_length": 1,
    "ngram_counts": [0],
    "ngram_indexes": [0],
    "pool_int64s": [1],
    "max_gram_length": 2,
    "max_skip_count": 0,
}
COSTLY = {
    "samples": ("RoiAlign", BOXES, {"sampling_ratio": 10**6}),
    "parts": ("RoiAlign", BOXES, {"output_height": 10**6, "output_width": 10**6}),
    "large boxes": ("RoiAlign", BOXES, {"spatial_scale": 1e9}),
    "gaps": ("TfIdfVectorizer", {"x": np.arange(9)}, GRAMS | {"max_skip_count": 10**9}),
    "counts": ("TfIdfVectorizer", {"x": np.arange(9)}, GRAMS | {"ngram_indexes": [10**10]}),
    "trees": ("TreeEnsemble", {"x": ROWS}, shared_trees(60)),
    "columns": ("FeatureVectorizer", {"x": ROWS}, {"inputdimensions": [10**9]}),
    "padded strings": ("StringNormalizer", WORDS, {"case_change_action": "LOWER"}),
}  # fmt: skip


@pytest.mark.parametrize("name", COSTLY)
def test_work_and_memory_are_counted_before_the_reference_runs(name: str) -> None:
    operator, inputs, attributes = COSTLY[name]
    version = 16 if operator == "RoiAlign" else 20
    model = of_operator(operator, inputs, version, **attributes)
    with hostile.bounded(seconds=3), pytest.raises(LimitError):
        model(**inputs)


def test_a_model_of_a_reference_can_be_pickled() -> None:
    model = of_operator("OneHotEncoder", {"x": np.array([[1, 2]])}, cats_int64s=[1, 2, 3])
    expected = [[[[1, 0, 0], [0, 1, 0]]]]  # a list of one output
    for each in (model, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(each(np.array([[1, 2]])), expected)
