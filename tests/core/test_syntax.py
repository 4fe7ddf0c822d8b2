"""Programs are parsed in one thread at a time."""

import gc
import threading
import time
from collections.abc import Iterator

import pytest
from support import ROOT

from onward.core.syntax import parse, parse_expression

SOURCE = ROOT / "src" / "onward"
TERMS = " * ".join(["(x + 1)"] * 100)


@pytest.fixture
def _switches() -> Iterator[None]:
    """Let Python switch threads while it makes syntax trees, whose objects start the garbage collector."""

    def switch(*_: object) -> None:
        time.sleep(1e-5)

    before = gc.get_threshold()
    gc.callbacks.append(switch)
    gc.set_threshold(50)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(switch)


@pytest.mark.usefixtures("_switches")
def test_threads_parse_at_once() -> None:
    """Python raised "SystemError: AST constructor recursion depth mismatch" in threads that loaded files."""
    errors = list[BaseException]()

    def work() -> None:
        try:
            parse(f"y = {TERMS}\n" * 3)
            parse_expression(TERMS)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_no_other_module_parses() -> None:
    modules = [path.name for path in SOURCE.rglob("*.py") if "ast.parse(" in path.read_text(encoding="utf-8")]
    assert modules == ["syntax.py"]
