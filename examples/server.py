"""A server of live streams: each WebSocket is one, and a pool steps whatever has arrived in a tick.

    python examples/server.py MODEL --port 8765     # needs the package websockets
    python examples/server.py --load 2000           # a server and so many clients, which check every answer
    python examples/server.py --load 2000 --period 1    # each of which sends one step a second

A message is one time step, float32 numbers as bytes; the answer is the model's output for it.

Clients that send as soon as they have their answer find out how many steps a second can be served: each waits
for all others, clients / steps a second. How long an answer takes in use, find out those that send now and
then.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import numpy as np
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

import onward

TICK = 0.002  # seconds in which steps are gathered for one pass through the weights
MOST_BYTES = 1 << 20

Waiting: TypeAlias = dict[int, tuple[np.ndarray, asyncio.Future[np.ndarray]]]  # streams: x, and y to come


class Server:
    """One model, one pool, one stream for each connection."""

    def __init__(self, model: onward.Sequential, features: int) -> None:
        self.pool = model.pool(1024)
        self.features = features
        self.waiting: Waiting = {}
        self.arrived = asyncio.Event()
        self.passes = 0

    async def handle(self, connection: ServerConnection) -> None:
        """One connection from its first step to its last."""
        (stream,) = self.pool.open()
        try:
            async for message in connection:
                if len(message) != 4 * self.features or isinstance(message, str):
                    await connection.close(1003, f"a step is {self.features} float32 numbers")
                    return
                answer = asyncio.get_running_loop().create_future()
                self.waiting[stream] = np.frombuffer(message, np.float32), answer
                self.arrived.set()
                await connection.send((await answer).tobytes())
        except ConnectionClosed:
            pass
        finally:
            self.waiting.pop(stream, None)
            self.pool.close([stream])

    async def step(self) -> None:
        """Every tick, one step of the streams that have a message."""
        while True:
            await self.arrived.wait()
            await asyncio.sleep(TICK)
            self.arrived.clear()
            waiting, self.waiting = self.waiting, {}
            if waiting:
                self.advance(waiting)

    def advance(self, waiting: Waiting) -> None:
        """One pass. If it fails, so do the connections that take part in it, and no others."""
        answers = [answer for _, answer in waiting.values()]
        try:
            y = self.pool.step(list(waiting), np.stack([x for x, _ in waiting.values()]))
        except Exception as error:
            for answer in answers:
                answer.set_exception(error)
            return
        self.passes += 1
        for answer, y_t in zip(answers, y, strict=True):
            if not answer.done():
                answer.set_result(y_t)

    @asynccontextmanager
    async def running(self, port: int) -> AsyncIterator[int]:
        """Serves on this port, or on a free one if 0; gives the port."""
        stepping = asyncio.create_task(self.step())
        try:
            async with serve(self.handle, "127.0.0.1", port, compression=None, max_size=MOST_BYTES) as server:
                yield server.sockets[0].getsockname()[1]
        finally:
            stepping.cancel()


async def client(
    uri: str, x: np.ndarray, everyone: asyncio.Barrier, first: float, period: float
) -> tuple[np.ndarray, list[float]]:
    """The answers to each step of x (T, features), and the seconds that each took.

    Once everyone is connected, steps are sent after `first` seconds and then every `period` seconds at most.
    """
    ys, took = [], []
    async with connect(uri, compression=None, open_timeout=60) as connection:
        await everyone.wait()
        began = time.perf_counter() + first
        for t, x_t in enumerate(x):
            await asyncio.sleep(began + t * period - time.perf_counter())
            sent = time.perf_counter()
            await connection.send(x_t.tobytes())
            ys.append(np.frombuffer(await connection.recv(), np.float32))
            took.append(time.perf_counter() - sent)
        await everyone.wait()
    return np.array(ys), took


async def load(model: onward.Sequential, features: int, clients: int, steps: int, period: float) -> None:
    """Connects so many clients, compares all answers with the whole sequences, prints how long they took."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((clients, steps, features)).astype(np.float32)
    server, everyone, tasks = Server(model, features), asyncio.Barrier(clients + 1), []
    async with server.running(0) as port, asyncio.TaskGroup() as group:
        for sequence, first in zip(x, rng.uniform(0, period, clients), strict=True):
            one = client(f"ws://127.0.0.1:{port}", sequence, everyone, first, period)
            tasks.append(group.create_task(one))
            if len(tasks) % 50 == 0:  # no more handshakes at once than the backlog of a socket holds
                await asyncio.sleep(0.05)
        await everyone.wait()
        began = time.perf_counter()
        await everyone.wait()
        seconds = time.perf_counter() - began
    results = [task.result() for task in tasks]
    whole = model(x.swapaxes(0, 1)).swapaxes(0, 1)
    wrong = sum(not np.array_equal(y, right) for (y, _), right in zip(results, whole, strict=True))
    took = np.concatenate([times for _, times in results]) * 1e3
    print(f"{clients} connections, {steps} steps each: {clients - wrong} got bitwise the whole sequence")
    print(f"{clients * steps / seconds:,.0f} steps a second, {clients * steps / server.passes:,.0f} a pass")
    print(f"an answer took {np.median(took):.1f} ms (p50), {np.percentile(took, 99):.1f} ms (p99)")
    if wrong:
        raise SystemExit(f"{wrong} connections got wrong answers")


async def run_forever(server: Server, port: int) -> None:
    async with server.running(port) as port:
        print(f"ws://127.0.0.1:{port}")
        await asyncio.get_running_loop().create_future()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", help="a file that onward.load opens; else an LSTM of 64 units")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--load", type=int, metavar="N", help="try it with N clients, and end")
    parser.add_argument("--steps", type=int, default=20, help="time steps of each client")
    parser.add_argument("--period", type=float, default=0, help="seconds between the steps of a client")
    arguments = parser.parse_args()
    if arguments.model:
        model = onward.load(arguments.model)
    else:
        model = onward.Sequential(onward.LSTM(16, 64, rng=0), onward.Linear(64, 4, rng=1))
    features = model[0].input_size
    if arguments.load:
        limit = 60 + arguments.steps * (arguments.load / 200 + arguments.period)
        running = load(model, features, arguments.load, arguments.steps, arguments.period)
        asyncio.run(asyncio.wait_for(running, limit))
    else:
        asyncio.run(run_forever(Server(model, features), arguments.port))


if __name__ == "__main__":
    main()
