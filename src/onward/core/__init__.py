"""Arrays, argument checks, storage, threads and gate orders; may import errors and _core only."""

from .interrupts import interrupted_afterwards

with interrupted_afterwards():
    import numpy as numpy

    from .. import _core as _core
