"""The registry of rewrites, which replace a node by simpler ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..node import Node

if TYPE_CHECKING:
    from .simplify import Simplifier

# Returns the value that the first output of a node equals, what replaces the node, or None to keep it.
Rewrite = Callable[["Simplifier", Node], "str | Node | Iterator[Node] | None"]
REWRITES: dict[str, Rewrite] = {}


def rewrite(*operations: str) -> Callable[[Rewrite], Rewrite]:
    """Register a function that replaces a node of these operations by other nodes."""

    def register(function: Rewrite) -> Rewrite:
        REWRITES.update(dict.fromkeys(operations, function))
        return function

    return register
