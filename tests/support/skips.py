"""Random cases of which a test may skip some, but not most."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NoReturn

from .randomized import random_cases


class Skipped(Exception):
    """Ends a case that a test cannot run."""


class Case:
    """One case: `with case:` runs it, `case.skip()` ends it, and an error names its seed."""

    def __init__(self, seed: int | None) -> None:
        self.seed, self.ran, self.skipped = seed, False, False

    def __enter__(self) -> "Case":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.ran, self.skipped = error is None, isinstance(error, Skipped)
        if error is not None and not self.skipped and self.seed is not None:
            error.add_note(f"in the random case with the seed {self.seed}")
        return self.skipped

    def skip(self) -> NoReturn:
        raise Skipped

    @contextmanager
    def skipping(self, *errors: type[Exception], match: str = "") -> Iterator[None]:
        """Skip the case if the block raises one of these errors, whose message matches the pattern."""
        try:
            yield
        except errors as error:
            assert re.search(match, str(error)), error
            self.skip()


class Cases:
    """The cases of a test: each begins with `with cases.new(seed) as case:`, and `check` ends the test."""

    def __init__(self) -> None:
        self._all: list[Case] = []

    def new(self, seed: int | None = None) -> Case:
        self._all.append(Case(seed))
        return self._all[-1]

    @property
    def ran(self) -> int:
        """The number of cases that were not skipped."""
        return sum(case.ran for case in self._all)

    def check(self, most: float = 0.5) -> None:
        """Fail if the test skips more than this share of its cases, or runs none."""
        skipped, ran = sum(case.skipped for case in self._all), self.ran
        assert ran and skipped <= most * (skipped + ran), f"{skipped} cases were skipped, and {ran} ran"


def counted_cases(count: int, first: int = 0, most: float = 0.5) -> Iterator[Case]:
    """Yield `random_cases(count)` cases, with seeds from `first` on; fail if too many are skipped."""
    cases = Cases()
    for seed in range(first, first + random_cases(count)):
        yield cases.new(seed)
    cases.check(most)
