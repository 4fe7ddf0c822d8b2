"""Calls of models with invalid nodes raise errors of onward.errors, which name the node."""

from collections import Counter

import numpy as np
import pytest
from support.mutated_nodes import NODES, mutants
from support.onnx_nodes import open_model
from support.randomized import random_cases

from onward.errors import MemoryLimitError, OnwardError

CASES = random_cases(4 * len(NODES))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_mutated_node_raises_only_errors_that_name_it() -> None:
    """Too many outputs raised KeyError, and what an operation did not check ValueError or TypeError.

    Attributes with names such as `name` and `inputs` raised TypeError when the file was opened.
    """
    counts = Counter[str]()
    for mutant in mutants(np.random.default_rng(0), CASES):
        try:
            open_model(mutant.model)(**mutant.feeds)
            counts["ran"] += 1
        except OnwardError as error:
            assert "node" in str(error) or isinstance(error, MemoryLimitError), mutant.description
            counts["refused"] += 1
        except Exception as error:
            raise AssertionError(mutant.description) from error
    assert min(counts["ran"], counts["refused"]) > CASES / 5, counts
