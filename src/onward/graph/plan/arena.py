"""Place the arrays of a plan in its arena: arrays that are never live at the same time share memory."""

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple


class Lifetime(NamedTuple):
    """The size of an array and the first and the last step that use it."""

    size: int
    first: int
    last: int


def place(lifetimes: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Return an offset for each array, and the size of the arena that holds them.

    Each array takes the smallest gap that it fits in; otherwise the arena grows.

    >>> place([Lifetime(64, 0, 1), Lifetime(64, 1, 2), Lifetime(64, 2, 3)])
    ([0, 64, 0], 128)
    """
    offsets, arena = [0] * len(lifetimes), _Gaps()
    live: list[tuple[int, int]] = []  # the last step and the number of each array
    for number in sorted(range(len(lifetimes)), key=lambda number: lifetimes[number].first):
        size, first, last = lifetimes[number]
        while live and live[0][0] < first:
            ended = heapq.heappop(live)[1]
            arena.release(offsets[ended], lifetimes[ended].size)
        offsets[number] = arena.take(size)
        heapq.heappush(live, (last, number))
    return offsets, arena.size


class _Gaps:
    """The unused parts of an arena that grows on demand; adjacent gaps are joined."""

    def __init__(self) -> None:
        self.size = 0
        self._gaps: list[tuple[int, int]] = []  # (offset, size), in order

    def take(self, size: int) -> int:
        """Return the offset of `size` bytes, which are in use from now on."""
        fitting = [gap for gap in self._gaps if gap[1] >= size]
        if fitting:
            start, length = min(fitting, key=lambda gap: gap[1])
            self._gaps.remove((start, length))
            if length > size:
                insort(self._gaps, (start + size, length - size))
            return start
        start = self.size
        if self._gaps and sum(self._gaps[-1]) == self.size:
            start = self._gaps.pop()[0]
        self.size = start + size
        return start

    def release(self, start: int, size: int) -> None:
        """Return `size` bytes to the gaps."""
        place, end = bisect_left(self._gaps, (start, 0)), start + size
        if place < len(self._gaps) and self._gaps[place][0] == end:
            end = sum(self._gaps.pop(place))
        if place > 0 and sum(self._gaps[place - 1]) == start:
            start = self._gaps.pop(place - 1)[0]
        insort(self._gaps, (start, end - start))
