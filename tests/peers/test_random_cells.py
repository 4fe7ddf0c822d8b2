"""A row of a loop of cells has the same bits in any batch, for any length, whatever was called first."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.random_cells import FORMATS, INPUTS, RandomCells, shapes
from support.randomized import random_cases
from support.skips import Case, Cases

import onward
from onward.errors import ShapeError

pytestmark = pytest.mark.filterwarnings("ignore")  # from the exporters

STEPS = [1, 2, 7]


class Rows:
    """The bits of the rows so far, and of their steps if no step depends on a later one."""

    def __init__(self, cells: RandomCells) -> None:
        self._has_steps = cells.causal and not cells.is_last
        self._found: dict[tuple[int, ...], tuple[NDArray[Any], Any]] = {}

    def compare(self, y: NDArray[Any], B: int, T: int) -> None:
        keys = [(row, t) for row in range(B) for t in range(T)] if self._has_steps else range(B)
        for key in keys:
            place = key if self._has_steps else (key, T)
            before, shape = self._found.setdefault(place, (y[key], (B, T)))
            message = f"for {(B, T)} and {shape}"
            np.testing.assert_array_equal(y[key].view(np.int32), before.view(np.int32), message)


@torch.no_grad()
def check(case: Case, cells: RandomCells, form: str, seed: int, folder: Path) -> None:
    """Call models in random order; compare with PyTorch, and the rows with each other."""
    rng, module = np.random.default_rng(seed), cells.module(folder)
    steps = STEPS if form == "scripted" else [int(rng.choice(STEPS))]
    batch = 3 if form == "exported" else int(rng.integers(1, 4))  # torch.export fixes a batch of 1
    (folder / "model").write_bytes(FORMATS[form](module, torch.randn(batch, steps[-1], INPUTS)))
    whole, rows = rng.standard_normal((5, STEPS[-1], INPUTS)).astype(np.float32), Rows(cells)
    for order in range(2):
        model = onward.load(folder / "model")
        for B, T in shapes(2 * seed + order, steps, 5):
            x = whole[:B, :T]
            with case.skipping(ShapeError, match="its export fixed axis 0"):  # it computes with the batch
                y = model(x)
            np.testing.assert_allclose(y, module(torch.from_numpy(x)).numpy(), rtol=1e-4, atol=1e-5)
            rows.compare(y, B, T)


@pytest.mark.parametrize("form", FORMATS)
def test_the_first_call_does_not_decide_about_the_bits_of_others(form: str, tmp_path: Path) -> None:
    cases = Cases()
    for seed in range(random_cases(8)):
        with cases.new(seed) as case:
            check(case, RandomCells(seed), form, seed, tmp_path)
    cases.check()
