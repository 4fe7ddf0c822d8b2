"""Arrays, windows, argument checks, storage, threads and gate orders; may import errors and _core only."""

from .interrupts import interrupted_afterwards

with interrupted_afterwards():
    import numpy as numpy

    import onward._core  # noqa: F401 - an interrupt waits until it is whole
