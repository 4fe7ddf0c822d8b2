"""Objects as keys of dicts and sets, by their identity."""

from __future__ import annotations

from typing import Any


class Identity:
    """A key that equals only the keys of the same object.

    The key keeps its object alive: an object that is freed leaves its address, which is what `id` returns, to
    the next one. Therefore only this class calls `id`.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.value is other.value
