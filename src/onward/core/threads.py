"""How many threads one call may use; the numbers that come out are the same for any.

The last word is that of the `num_threads` block that a call is in, then that of `set_num_threads`, then, as
Onward is imported, of the environment: ONWARD_NUM_THREADS, or else OMP_NUM_THREADS. Otherwise it is 1.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from .. import _core
from .checks import integer

MOST = 1024


def set_num_threads(n: int) -> None:
    """Lets each call use up to n threads; 1 unless told otherwise. Raises ArgumentError.

    One call at a time gets them; another that runs meanwhile, in another Python thread, computes on its own.
    """
    _core.set_num_threads(integer("n", n, 1, MOST))


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Lets calls in the block, from this Python thread, use up to n threads: `with onward.num_threads(2):`.

    Others are as they were, and so is this one after the block, however it ends. Raises ArgumentError.
    """
    before = _core.set_own_num_threads(integer("n", n, 1, MOST))
    try:
        yield
    finally:
        _core.set_own_num_threads(before)


def get_num_threads() -> int:
    """The number of threads that each call from this Python thread may use."""
    return _core.num_threads()


def _of(environment: Mapping[str, str]) -> int:
    """The number that the environment asks for. Raises ArgumentError for a wrong ONWARD_NUM_THREADS."""
    own = environment.get("ONWARD_NUM_THREADS", "")
    if own:
        return integer("ONWARD_NUM_THREADS", int(own) if own.isdecimal() else own, 1, MOST)
    openmp = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # a list is for nested loops
    return min(max(int(openmp), 1), MOST) if openmp.isdecimal() else 1


_core.set_num_threads(_of(os.environ))
