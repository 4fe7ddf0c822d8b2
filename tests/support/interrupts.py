"""Run code in a process that signals interrupt, which does not end pytest."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

Run = Callable[..., None]

# Every interrupted call would take 10 seconds or more. Its arrays are zeros, so that most of their memory is
# never allocated.
PRELUDE = """
import functools, json, os, signal, sys, threading, time, traceback
import numpy as np
import onward

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process starts with SIGINT ignored


def interrupt(call, ready=None):
    "Send SIGINT while `call` runs, once `ready` is set. Check that it raises KeyboardInterrupt, and soon."
    sent = []

    def send():
        if ready:
            ready.wait()
        time.sleep(0.08)
        sent.append(time.process_time())  # which other processes do not affect
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send).start()
    try:
        call()
    except KeyboardInterrupt:
        seconds = time.process_time() - sent[0]
        assert seconds < 5, f"stopped only after {seconds:.1f} s of processor time"
    else:
        raise AssertionError("not interrupted")


def zeros(*shape):
    return np.zeros(shape, np.float32)


def same(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@functools.cache
def deep_lstm():
    return onward.LSTM(1, 512, 4, rng=0)


@functools.cache
def dense_model():
    "Much work, little state."
    return onward.Sequential(onward.LSTM(1, 8, rng=0), onward.Linear(8, 4096, rng=1),
                             onward.Linear(4096, 4096, rng=2), onward.Linear(4096, 1, rng=3))
"""

# Raise an error in a signal handler at a random time of calls of some milliseconds.
HANDLER = """
import random


class Late(Exception):
    pass


def check_calls(call, state, read=None):
    "Check that a call changes nothing if a handler raises an error meanwhile."
    durations = []
    for _ in range(4):
        begin = time.perf_counter()
        y = call()
        durations.append(time.perf_counter() - begin)
    found = []

    def handler(number, frame):
        found.append(read and read())
        raise Late

    signal.signal(signal.SIGALRM, handler)
    random.seed(0)
    interrupted = 0
    for _ in range(8):
        before, y = state(), None
        begin = time.perf_counter()
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.02, 0.5) * min(durations))
            y = call()
            durations.append(time.perf_counter() - begin)  # other processes slowed the earlier calls
            time.sleep(1)  # waits for the signal
        except Late:
            pass
        if y is not None:  # the call was shorter than before
            continue
        interrupted += 1
        np.testing.assert_equal(state(), before)
        if read:
            np.testing.assert_equal(found[-1], before)
    assert interrupted >= 4
"""

# Runs one test after the other: reads its code and prints the error, or nothing.

LOOP = """
for line in sys.stdin:
    try:
        code, threads = json.loads(line)
        onward.set_num_threads(threads)
        exec(code, dict(globals()))
        error = ""
    except BaseException:
        error = traceback.format_exc()
    print(json.dumps(error), flush=True)
"""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run code in a process, in which an interrupt does not end pytest."""
    command = [sys.executable, "-c", PRELUDE + LOOP]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        to, answers = process.stdin, process.stdout

        def execute(code: str, threads: int = 1) -> None:
            print(json.dumps((code, threads)), file=to, flush=True)
            error = json.loads(answers.readline())
            assert not error, error

        yield execute
        to.close()
