"""The clock of the server: all messages that arrive within a tick are one step of the pool."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .messages import AnyArray, Input, Output, to_bytes
from .metrics import Metrics
from .steps import Steps

if TYPE_CHECKING:
    from .connection import Connection


# a connection with a message in a tick, and when the message arrived
Pending: TypeAlias = "tuple[Connection, Input, float]"


class Ticker:
    """Steps the pool for all connections that have input, at most once per tick.

    A tick takes one message of each connection and answers them before the next one. A call that is expected
    to take longer than a tick runs in a thread, so that the server reads and writes meanwhile: the core
    computes without the GIL.
    """

    def __init__(self, steps: Steps, seconds: float, metrics: Metrics) -> None:
        self.lock = asyncio.Lock()  # held while the pool runs
        self._steps, self._seconds, self._metrics = steps, seconds, metrics
        self._ready: dict[Connection, None] = {}  # with input, in order of arrival
        self._arrived = asyncio.Event()
        self._first = 0.0  # when the first message of the tick arrived
        self._thread = ThreadPoolExecutor(1, "onward-step")
        self._seconds_per_row = 0.0  # measured in the last call
        self._stopping = False

    def wake(self, connection: "Connection", arrived: float) -> None:
        """Include a connection that has input in the next tick."""
        self._ready[connection] = None
        if not self._arrived.is_set():
            self._arrived.set()
            self._first = arrived

    def forget(self, connection: "Connection") -> None:
        """Exclude a connection that ended."""
        self._ready.pop(connection, None)

    async def run(self) -> None:
        """Run ticks until `stop`."""
        while not self._stopping:
            await self._arrived.wait()
            await asyncio.sleep(max(0.0, self._first + self._seconds - time.perf_counter()))
            await self.tick()

    async def tick(self) -> None:
        """Step the pool for the connections that are ready."""
        async with self.lock:
            groups: defaultdict[int, list[Pending]] = defaultdict(list)
            ready, self._ready = self._ready, {}
            self._arrived.clear()
            for connection in ready:
                if (pending := connection.take()) is not None:
                    groups[len(pending[1].payload)].append(pending)
            for size in sorted(groups):  # short blocks need not wait for long ones
                await self._step(groups[size])

    async def stop(self) -> None:
        """Finish the tick, and the messages that have arrived already."""
        while self._ready:
            await self.tick()
        async with self.lock:
            self._stopping = True
        self._arrived.set()

    async def _step(self, group: list[Pending]) -> None:
        """Step the streams of a group, whose messages have equal size, and send the answers.

        If the model rejects the call, the halves of the group run separately: only the connection with the
        faulty message is closed.
        """
        try:
            outputs = await self._outputs(group)
        except Exception as error:
            if len(group) > 1:
                middle = len(group) // 2
                await self._step(group[:middle])
                await self._step(group[middle:])
            else:
                group[0][0].reject(error)
            return
        answers = to_bytes(outputs, len(group))
        for i, (connection, message, _) in enumerate(group):
            if message.is_json:
                connection.answer_json([output[i] for output in outputs], message.is_step)
            else:
                connection.answer(answers[i])
        now = time.perf_counter()
        self._metrics.messages += len(group)
        self._metrics.latency.observe(now - np.array([arrived for _, _, arrived in group]))

    async def _outputs(self, group: list[Pending]) -> Sequence[Output]:
        """Run the pool, in a thread if it is expected to take longer than a tick."""
        ids = [connection.session.stream for connection, _, _ in group]
        if group[0][1].is_end:
            return self._steps.finish(ids)
        arrays = self._steps.inputs.arrays([message for _, message, _ in group])
        rows = len(ids) * arrays[0].shape[1]
        if self._seconds_per_row * rows > self._seconds:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._timed, ids, arrays, rows)
        return self._timed(ids, arrays, rows)

    def _timed(self, ids: list[int], arrays: Sequence[AnyArray], rows: int) -> Sequence[Output]:
        start = time.perf_counter()
        outputs = self._steps.step(ids, arrays)
        seconds = time.perf_counter() - start
        self._metrics.step.observe(seconds)
        self._seconds_per_row = seconds / rows
        return outputs
