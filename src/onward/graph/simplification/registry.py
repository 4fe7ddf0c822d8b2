"""The registry of rewrites, which replace a node by simpler ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..node import Node

if TYPE_CHECKING:
    from .simplify import Simplifier

Rewrite = Callable[["Simplifier", Node], Iterator[Node]]
REWRITES: dict[str, Rewrite] = {}


def rewrite(*operations: str) -> Callable[[Rewrite], Rewrite]:
    """Register a function that replaces a node of these operations by other nodes."""

    def register(function: Rewrite) -> Rewrite:
        REWRITES.update(dict.fromkeys(operations, function))
        return function

    return register
