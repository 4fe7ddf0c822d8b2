"""Settings for the frameworks that the peer tests compare with."""

import os
import sys

import pytest

os.environ["KERAS_BACKEND"] = "torch"


@pytest.fixture(autouse=True)
def keras_seed() -> None:
    """Let Keras draw the same weights in each run, whatever tests run before."""
    for name in ("keras", "tf_keras"):
        if name in sys.modules:
            sys.modules[name].utils.set_random_seed(0)
