"""Fixtures for all tests; the presence of this file also lets tests/peers import cases and oracle."""

import gc
from collections.abc import Iterator

import numpy as np
import pytest

from onward import _core


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--random-modules", type=int, default=300, help="how many random modules to compare")
    parser.addoption("--first-seed", type=int, default=0, help="the first seed of random scripted modules")
    parser.addoption("--stress-seconds", type=float, default=1.0, help="how long the threads call the model")
    parser.addoption(
        "--stress-megabytes", type=float, default=4.0, help="how much memory use may grow meanwhile"
    )


@pytest.fixture(autouse=True)
def unchanged_settings() -> Iterator[None]:
    """Fail a test that leaves other settings of NumPy behind, since a later one would print other numbers."""
    before = np.get_printoptions(), np.geterr()
    yield
    after = np.get_printoptions(), np.geterr()
    if after != before:
        np.set_printoptions(**before[0])
        np.seterr(**before[1])
        pytest.fail(f"the test changed NumPy's settings from {before} to {after}")


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this machine; weights packed during the test use it."""
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


def pytest_collection_finish() -> None:
    """Exclude the imported modules from garbage collection, for the tests that measure processor time."""
    gc.collect()
    gc.freeze()
