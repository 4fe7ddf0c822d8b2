"""Ctrl-C during an import."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupted_afterwards() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt after the block, which imports extension modules, instead of inside.

    Extension modules such as those of NumPy report an interrupted import as an ImportError.
    """
    arrived: list[int] = []

    def note(number: int, frame: Any) -> None:
        arrived.append(number)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # a program handles Ctrl-C in its own way
        return
    try:
        signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread, the only one that Ctrl-C interrupts
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if arrived:
            raise KeyboardInterrupt
