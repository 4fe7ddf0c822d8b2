"""Fixtures for all tests; the presence of this file also lets tests/peers import cases and oracle."""

import gc
from collections.abc import Iterator

import pytest

from onward import _core


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stress-seconds", type=float, default=2.0, help="how long threads call one model")
    parser.addoption("--stress-megabytes", type=float, default=4.0, help="how far memory may grow meanwhile")


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this machine has, in use for what is packed during the test."""
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


def pytest_collection_finish() -> None:
    """What imports have made is not looked through at every collection: some tests measure processor time."""
    gc.collect()
    gc.freeze()
