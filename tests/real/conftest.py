"""Models that people trained, with the outputs of their original implementations, in a folder for each.

The environment variable ONWARD_CASES names the folder of these folders: `make test-cases ONWARD_CASES=...`.
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
    """The case that the test's file is named for: of tests/real/test_beatnet.py, beatnet."""
    folder = Path(os.environ["ONWARD_CASES"]) / request.path.stem.removeprefix("test_")
    return Case(folder, np.load(folder / "inputs.npz"), np.load(folder / "expected.npz"))
