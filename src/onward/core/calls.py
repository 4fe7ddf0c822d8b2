"""The lock that Python code holds during the calls of a stream or pool."""

from contextlib import AbstractContextManager, nullcontext

import onward._core as _core


class CallLock(_core.CallLock):
    """A lock. While a thread holds it, its signal handlers can read what it protects, but not change it.

    Raises ArgumentError in a signal handler that enters it while it interrupts a call.
    """

    def reading(self) -> AbstractContextManager[object]:
        """Return a context for code that only reads."""
        return nullcontext() if self.is_mine() else self
