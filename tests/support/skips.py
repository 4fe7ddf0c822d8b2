"""Random cases of which a test may skip some, but not most."""

from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn

from .randomized import random_cases


class Skipped(Exception):
    """Ends a case that a test cannot run."""


class Case:
    """One case: `with case:` runs it, `case.skip()` ends it, and an error names its seed."""

    def __init__(self, seed: int) -> None:
        self.seed, self.ran, self.skipped = seed, False, False

    def __enter__(self) -> "Case":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.ran, self.skipped = error is None, isinstance(error, Skipped)
        if error is not None and not self.skipped:
            error.add_note(f"in the random case with the seed {self.seed}")
        return self.skipped

    def skip(self) -> NoReturn:
        raise Skipped


def counted_cases(count: int) -> Iterator[Case]:
    """Yield `random_cases(count)` cases, with seeds from 0 on; fail if more are skipped than run."""
    cases = [Case(seed) for seed in range(random_cases(count))]
    yield from cases
    check_skips(sum(case.skipped for case in cases), sum(case.ran for case in cases))


def check_skips(skipped: int, ran: int) -> None:
    """Fail if a test skips more of its cases than it runs."""
    assert ran >= max(1, skipped), f"{skipped} random cases were skipped, and {ran} ran"
