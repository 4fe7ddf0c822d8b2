"""The number of threads that a call may use, which never changes its results.

In order of precedence: the enclosing `num_threads` block, `set_num_threads`, and the environment variables
ONWARD_NUM_THREADS and OMP_NUM_THREADS at import. The default is 1.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import onward._core as _core

from .checks import integer

MOST = 1024


def set_num_threads(n: int) -> None:
    """Let each call use up to n threads; the default is 1. Raises ArgumentError.

    The threads serve one call at a time: a concurrent call from another Python thread runs on that thread.

    >>> set_num_threads(1)
    """
    _core.set_num_threads(integer("n", n, 1, MOST))


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Let calls in the block use up to n threads: `with onward.num_threads(2):`. Raises ArgumentError.

    Affects the current Python thread only; the previous number is restored at the end of the block.

    >>> with num_threads(2):
    ...     get_num_threads()
    2
    """
    before = _core.set_own_num_threads(integer("n", n, 1, MOST))
    try:
        yield
    finally:
        _core.set_own_num_threads(before)


def get_num_threads() -> int:
    """The number of threads that each call from this Python thread may use.

    >>> get_num_threads()
    1
    """
    return _core.num_threads()


def _of(environment: Mapping[str, str]) -> int:
    """The number of threads in the environment. Raises ArgumentError for a wrong ONWARD_NUM_THREADS."""
    own = environment.get("ONWARD_NUM_THREADS", "")
    if own:
        return integer("ONWARD_NUM_THREADS", int(own) if own.isdecimal() else own, 1, MOST)
    # a list gives the number for each level of nested loops
    openmp = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(max(int(openmp), 1), MOST) if openmp.isdecimal() else 1


_core.set_num_threads(_of(os.environ))
