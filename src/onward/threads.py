"""How many threads one call may use; the numbers that come out are the same for any."""

from . import _core
from .base import integer


def set_num_threads(n: int) -> None:
    """Lets each call use up to n threads; 1 unless told otherwise. Raises ArgumentError.

    One call at a time gets them; another that runs meanwhile, in another Python thread, computes on its own.
    """
    _core.set_num_threads(integer("n", n, 1, 1024))


def get_num_threads() -> int:
    """The number of threads that each call may use."""
    return _core.num_threads()
