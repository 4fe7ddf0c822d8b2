"""The lock that Python code holds during the calls of a stream or pool."""

from contextlib import AbstractContextManager, nullcontext

import onward._core as _core


class CallLock(_core.CallLock):
    """A lock, during which a signal handler of the same thread can read, but not change what it protects.

    Raises ArgumentError in a signal handler that enters it while it interrupts a call.
    """

    def reading(self) -> AbstractContextManager[object]:
        """Return a context for code that only reads."""
        return nullcontext() if self.is_mine() else self
