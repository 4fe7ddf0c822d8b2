"""Progress reports: a bar on a terminal, lines elsewhere, nothing when disabled."""

import io
import sys

import pytest

from onward.train import history
from onward.train.history import Epoch


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(history.time, "monotonic", lambda: self.now)


def test_a_terminal_with_rich_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with history.reporter(10, True) as report:
        report.step(3, 1, 0.5)
        report.epoch(1, Epoch(3, 0.1, 0.5))
    assert "epoch 1, loss 0.5000" in stream.getvalue() and "3/10" in stream.getvalue()


@pytest.mark.parametrize("rich", [True, False], ids=["file", "terminal without rich"])
def test_other_streams_get_a_line_per_epoch_and_every_ten_seconds(
    rich: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO() if rich else Terminal())
    if not rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    clock = Clock(monkeypatch)
    with history.reporter(1200, True) as report:
        for step in range(1, 601):
            clock.now += 0.0625
            report.step(step, 1, 0.5)
        report.epoch(1, Epoch(600, 0.1, 0.25, 0.125, 0.9))
        clock.now += 30
        report.epoch(2, Epoch(1200, 0.1, 0.0625))
    assert stream.getvalue().splitlines() == [
        "epoch 1: step 160 of 1,200, loss 0.5000, 1:05 left",
        "epoch 1: step 320 of 1,200, loss 0.5000, 0:55 left",
        "epoch 1: step 480 of 1,200, loss 0.5000, 0:45 left",
        "epoch 1: loss 0.2500, validation loss 0.1250, validation accuracy 90.0%, 0:38 left",
        "epoch 2: loss 0.0625",
    ]


def test_short_epochs_share_a_line_and_the_last_one_is_always_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    clock = Clock(monkeypatch)
    with history.reporter(None, True) as report:
        for number in range(1, 26):
            clock.now += 0.5
            report.step(number, number, 0.5)
            report.epoch(number, Epoch(number, 0.1, 0.5, 0.25, 0.9))
    lines = [line.partition(":") for line in stream.getvalue().splitlines()]
    assert [line[0] for line in lines] == ["epoch 10", "epoch 20", "epoch 25"]
    assert lines[0][2] == " loss 0.5000, validation loss 0.2500, validation accuracy 90.0%"


def test_nothing_is_printed_when_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    with history.reporter(10, False) as report:
        report.step(3, 1, 0.5)
        report.epoch(1, Epoch(3, 0.1, 0.5))
    assert stream.getvalue() == ""
