"""Loops that the core repeats, against a plain loop over arrays, and against one call for each iteration."""

import numpy as np
import pytest
from support.random_loops import RandomLoop
from support.randomized import random_cases
from support.running import runs_in_core

from onward.graph import Model
from onward.graph.operations import OPERATIONS

PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_a_random_loop_equals_a_plain_loop(part: int) -> None:
    in_core = total = 0
    for seed in range(part, random_cases(120), PARTS):
        loop = RandomLoop(seed)
        model = Model(loop.graph)
        for y, expected in zip(loop.results(model), loop.answer(), strict=True):
            assert y.shape == expected.shape, seed
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4, err_msg=f"seed {seed}")
        if loop.count > 1 and not loop.ends_early:
            total += 1
            in_core += runs_in_core(model, *loop.inputs)
    assert in_core == total > 0


def test_a_loop_in_the_core_has_the_bits_of_its_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(random_cases(30)):
        loop = RandomLoop(seed)
        found = loop.results(Model(loop.graph))
        with monkeypatch.context() as patch:
            patch.setattr(OPERATIONS["Loop"], "lower", None)
            expected = loop.results(Model(loop.graph))
        for y, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(y, other, err_msg=f"seed {seed}")
