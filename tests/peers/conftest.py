"""Settings for the frameworks that the peer tests compare with."""

import os

os.environ["KERAS_BACKEND"] = "torch"
