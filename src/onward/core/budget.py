"""A budget of work and memory for reading a file, and for running a model that a file contains.

A file of a few bytes can ask for any amount of work: by loops, repeated references, numbers that claim sizes.
Whoever opens a file or runs a model enters a budget, and whatever repeats, copies or computes because the
file says so charges the budget before it acts: `spend` counts work in elementary operations, such as a
product of two numbers, and `take` counts bytes.

>>> from onward.core import budget
>>> with budget.of_file(1000):
...     budget.spend(5 * budget.STEP)  # five visited objects
...     budget.take(8 * 100)  # a list of a hundred elements
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..errors import MemoryLimitError, WorkLimitError

# A step of Python, such as a call or a visited object, takes as long as this many operations of NumPy.
STEP = 1000
OBJECT = 64  # bytes of a small object of Python

# Reading. Each byte is part of a weight, which is converted and packed, or of a name, a number or an opcode,
# for each of which Python takes some steps. Files without weights are graphs or code, which are simplified,
# and recorded for several ranks and sizes of the inputs.
WORK_OF_BYTE, WORK_OF_ANY_FILE = 10 * STEP, 10**9
# An int4 weight becomes eight times as large in float32, an opcode of two bytes an object of Python, and a
# line of code a syntax tree of a hundred times its size.
MEMORY_OF_BYTE, MEMORY_OF_ANY_FILE = 40, 1 << 26

# Running. Each number of an input meets each weight, in several layers or steps. Values between the layers
# are larger than the inputs, as the time steps of an upsampled sequence are.
WORK_OF_PAIR, WORK_OF_ANY_CALL = 1000, 10**10
MEMORY_OF_GIVEN, MEMORY_OF_ANY_CALL = 1000, 1 << 26


class Budget:
    """The work and the memory that are left; `purpose` and `basis` say what they are for, and why so much."""

    __slots__ = ("_allowed", "_basis", "_purpose", "memory", "work")

    def __init__(self, work: int, memory: int, purpose: str, basis: str) -> None:
        self.work, self.memory = work, memory
        self._allowed, self._purpose, self._basis = (work, memory), purpose, basis

    def spend(self, work: int) -> None:
        """Count work before it is done. Raises WorkLimitError if less is left."""
        if work > self.work:
            self.check(work)
        self.work -= work

    def take(self, memory: int) -> None:
        """Count bytes before they are allocated. Raises MemoryLimitError if fewer are left."""
        if memory > self.memory:
            self.check(memory=memory)
        self.memory -= memory

    def charge(self, work: int, memory: int) -> None:
        """Count both. Raises WorkLimitError and MemoryLimitError."""
        if work > self.work or memory > self.memory:
            self.check(work, memory)
        self.work -= work
        self.memory -= memory

    def check(self, work: int = 0, memory: int = 0) -> None:
        """Raise WorkLimitError or MemoryLimitError if less is left; count nothing."""
        if work > self.work:
            raise WorkLimitError(self._problem(self._allowed[0], self.work - work, "elementary operations"))
        if memory > self.memory:
            raise MemoryLimitError(self._problem(self._allowed[1], self.memory - memory, "bytes of memory"))

    def affords(self, work: int = 0, memory: int = 0) -> bool:
        """Whether something that may be left out takes at most a quarter of what is left."""
        return 4 * work <= self.work and 4 * memory <= self.memory

    def _problem(self, allowed: int, left: int, unit: str) -> str:
        needed = f"{self._purpose} takes at least {allowed - left} {unit}"
        return f"{needed}; at most {allowed} are allowed, {self._basis}"


class _FileBudget(Budget):
    """The budget for reading a file."""

    __slots__ = ()

    def __init__(self, size: int) -> None:
        work, memory = WORK_OF_ANY_FILE + WORK_OF_BYTE * size, MEMORY_OF_ANY_FILE + MEMORY_OF_BYTE * size
        super().__init__(work, memory, "reading the file", f"for its {size} bytes")


_current: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextmanager
def _entered(budget: Budget) -> Iterator[Budget]:
    token = _current.set(budget)
    try:
        yield budget
    finally:
        _current.reset(token)


@contextmanager
def of_file(size: int) -> Iterator[Budget]:
    """Enter the budget for reading a file of so many bytes, or stay in that of the file around it."""
    around = _current.get()
    if isinstance(around, _FileBudget):
        yield around
    else:
        with _entered(_FileBudget(size)) as budget:
            yield budget


@contextmanager
def of_part(work: int) -> Iterator[Budget]:
    """Enter a budget of the current memory, and of this work or half of what is left.

    What is spent in it counts for the current budget too.
    """
    outer = current()
    allowed = min(work, outer.work // 2)
    inner = Budget(allowed, outer.memory, "this attempt", "so that others can follow")
    try:
        with _entered(inner):
            yield inner
    finally:
        outer.work -= allowed - inner.work
        outer.memory = inner.memory


@contextmanager
def temporary() -> Iterator[None]:
    """Give back the memory that is taken inside."""
    budget = current()
    before = budget.memory
    try:
        yield
    finally:
        budget.memory = before


def current() -> Budget:
    """Return the budget that was entered last; outside of any, one for a model of any size."""
    return _current.get() or Limit().budget()


def spend(work: int) -> None:
    """Count work in the current budget, if there is one. Raises WorkLimitError."""
    if (budget := _current.get()) is not None:
        budget.spend(work)


def take(memory: int) -> None:
    """Count bytes in the current budget, if there is one. Raises MemoryLimitError."""
    if (budget := _current.get()) is not None:
        budget.take(memory)


def charge(work: int, memory: int) -> None:
    """Count both in the current budget, if there is one. Raises WorkLimitError and MemoryLimitError."""
    if (budget := _current.get()) is not None:
        budget.charge(work, memory)


class Limit:
    """The limit on the calls of a model; the inputs and weights of the whole model decide it."""

    def __init__(self) -> None:
        self.work, self.memory, self._given = WORK_OF_ANY_CALL, MEMORY_OF_ANY_CALL, (0, 0)

    @classmethod
    def of(cls, weights: Iterable[Any]) -> Limit:
        """Return the limit of a model with these weights, before any call."""
        limit = cls()
        limit.allow((), sum(getattr(array, "nbytes", 0) for array in weights))
        return limit

    def allow(self, inputs: Iterable[Any], weights: int) -> None:
        """Raise the limit to what a call with these inputs, and weights of so many bytes, may use."""
        given = sum(getattr(array, "nbytes", 0) for array in inputs)
        self._given = max(self._given, (given, weights))
        self.memory = max(self.memory, MEMORY_OF_GIVEN * (given + weights))
        self.work = max(self.work, WORK_OF_PAIR * (given // 4 + 1000) * (weights // 4 + 1000))

    def budget(self) -> Budget:
        """Return the budget of a call."""
        given, weights = self._given
        basis = (
            f"for inputs of {given} bytes and weights of {weights}: pass shorter sequences or smaller batches"
        )
        return Budget(self.work, self.memory, "the call", basis)

    @contextmanager
    def entered(self, is_whole: bool = False) -> Iterator[Budget]:
        """Enter the budget of a call, or stay in the one around unless this is the call of a whole model."""
        around = _current.get()
        if around is not None and not is_whole:
            yield around
        else:
            with _entered(self.budget()) as budget:
                yield budget

    def check(self, memory: int) -> None:
        """Raise MemoryLimitError if values that exist at once take more bytes."""
        self.budget().check(memory=memory)
