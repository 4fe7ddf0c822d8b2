"""The progress bar is there on a terminal, and nowhere else."""

import io
import sys

import pytest

from onward.train.progress import bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "shown", "rich", "expected"),
    [
        (Terminal(), True, True, True),
        (io.StringIO(), True, True, False),
        (Terminal(), False, True, False),
        (Terminal(), True, False, False),
    ],
    ids=["terminal", "file", "not wanted", "rich missing"],
)
def test_where_the_bar_is_drawn(
    stream: io.StringIO, shown: bool, rich: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    with bar(10, shown) as advance:
        advance(3, "epoch 1, loss 0.5000")
    assert ("epoch 1, loss 0.5000" in stream.getvalue()) == expected
    assert expected or stream.getvalue() == ""
