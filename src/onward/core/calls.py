"""The lock that Python code holds during the calls of a stream or pool."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import onward._core as _core

# What a call computes for `CallLock.run`: its output, functions that change the state and undo that, and the
# arrays of both, which live until the next call.
Output = TypeVar("Output")
Change: TypeAlias = tuple[Output, Callable[[], Any], Callable[[], Any], Any]


class CallLock(_core.CallLock):
    """A lock. While a thread holds it, its signal handlers can read what it protects, but not change it.

    `run(compute)` returns the output of a call and changes the state, or a signal handler raises an error and
    the state stays. Raises ArgumentError in a signal handler that enters it while it interrupts a call.
    """

    if TYPE_CHECKING:  # the stub of the core's method returns object

        def run(self, compute: Callable[[], Change[Output]]) -> Output: ...

    def reading(self) -> AbstractContextManager[object]:
        """Return a context for code that only reads."""
        return nullcontext() if self.is_mine() else self
