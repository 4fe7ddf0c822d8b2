"""Settings for the frameworks that the peer tests compare with."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator

import pytest

os.environ["KERAS_BACKEND"] = "torch"


@pytest.fixture(autouse=True)
def keras_seed() -> None:
    """Let Keras draw the same weights in each run, whatever tests run before."""
    for name in ("keras", "tf_keras"):
        if name in sys.modules:
            sys.modules[name].utils.set_random_seed(0)


@pytest.fixture
def quiet_exporters() -> Iterator[None]:
    """Hide the warnings of PyTorch's exporters."""
    logging.disable(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)
