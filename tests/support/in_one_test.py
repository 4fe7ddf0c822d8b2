"""Many small cases in one test."""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

import pytest

FAILURES = (Exception, pytest.fail.Exception, pytest.skip.Exception)  # a case may not skip the others


def in_one_test(name: str, values: Collection[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Call a test with each of these values of a parameter, like `pytest.mark.parametrize`, but as one test.

    For cases that take less time than the two milliseconds that pytest spends on a test, with its
    fixtures and the messages between processes. All cases run; an error names each that fails.
    Fixtures are shared by all cases.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run_all(**fixtures: Any) -> None:
            errors = []
            for value in values:
                try:
                    test(**{name: value}, **fixtures)
                except FAILURES as error:
                    error.add_note(f"with {name} = {value!r}")
                    errors.append(error)
            assert len(values), "there are no cases"
            if errors:
                raise BaseExceptionGroup(f"{len(errors)} of {len(values)} cases fail", errors)

        signature = inspect.signature(test)
        others = [each for each in signature.parameters.values() if each.name != name]
        run_all.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        return run_all

    return decorate
