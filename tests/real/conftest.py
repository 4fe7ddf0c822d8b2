"""Published models and the outputs of their original implementations, in one folder each.

The environment variable ONWARD_CASES names the parent folder: `make test-cases ONWARD_CASES=...`.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.lib.npyio import NpzFile


class Case(NamedTuple):
    folder: Path
    inputs: NpzFile
    expected: NpzFile


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    """The folder of the model that the test file is named after: beatnet for tests/real/test_beatnet.py."""
    folder = Path(os.environ["ONWARD_CASES"]) / request.path.stem.removeprefix("test_")
    return Case(folder, np.load(folder / "inputs.npz"), np.load(folder / "expected.npz"))
