"""Serve a model to live streams over WebSockets: each connection is one stream of a pool.

    python examples/server.py MODEL --port 8765        # MODEL is a file or the name of a bundled model
    python examples/server.py MODEL --clients 2000     # run 2000 clients that check every answer, then exit
    python examples/server.py MODEL --clients 2000 --period 1    # clients that send one step per second

A message holds one time step as bytes: its features as float32, or one int32 for a model that reads tokens.
The answer holds the outputs of the model for that step, in the dtype of the model.

Every two milliseconds, the server runs one step of all streams that have sent a message. Clients without a
period send as soon as they have an answer, which measures how many steps per second the server can handle.
With a period, they measure how long an answer takes in ordinary use.
"""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import numpy as np

import onward
from onward import bundled
from onward.errors import OnwardError

try:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed
except ModuleNotFoundError:
    sys.exit("This example needs websockets: pip install websockets")

TICK = 0.002  # seconds between steps of the pool
MAX_MESSAGE_BYTES = 1 << 20
MAX_REASON_BYTES = 123  # of a WebSocket close frame
UNSUPPORTED_DATA = 1003  # the WebSocket status code for a message that the server cannot process

Waiting: TypeAlias = dict[int, tuple[np.ndarray, asyncio.Future[np.ndarray]]]  # x and the future y by stream


class Server:
    """One model and one pool, with one stream per connection."""

    def __init__(self, model: Any) -> None:
        self.pool = model.pool(1024)
        self.shape = model.step_shape
        self.dtype = step_dtype(model)
        self.waiting: Waiting = {}
        self.arrived = asyncio.Event()
        self.passes = 0

    async def handle(self, connection: ServerConnection) -> None:
        """Serve one connection."""
        (stream,) = self.pool.open()
        try:
            async for message in connection:
                answer = asyncio.get_running_loop().create_future()
                self.waiting[stream] = self.decode(message), answer
                self.arrived.set()
                await connection.send((await answer).tobytes())
        except ConnectionClosed:
            pass
        except OnwardError as error:
            reason = str(error).encode()[:MAX_REASON_BYTES].decode(errors="ignore")
            await connection.close(UNSUPPORTED_DATA, reason)
        finally:
            self.waiting.pop(stream, None)
            self.pool.close([stream])

    def decode(self, message: str | bytes) -> np.ndarray:
        """The time step in a message. Raises ShapeError."""
        size = int(np.prod(self.shape))
        if isinstance(message, str) or len(message) != size * self.dtype.itemsize:
            raise onward.errors.ShapeError(f"a message must hold {size} {self.dtype} as bytes")
        return np.frombuffer(message, self.dtype).reshape(self.shape)

    async def step_forever(self) -> None:
        """Every tick, run one step of the streams that have a message."""
        while True:
            await self.arrived.wait()
            await asyncio.sleep(TICK)
            self.arrived.clear()
            waiting, self.waiting = self.waiting, {}
            if waiting:
                self.step(waiting)

    def step(self, waiting: Waiting) -> None:
        """Run one step of some streams. A step that the model rejects fails for its own stream only."""
        try:
            y = self.pool.step(list(waiting), np.stack([x for x, _ in waiting.values()]))
        except OnwardError as error:  # the pool is unchanged
            if len(waiting) > 1:
                for stream, entry in waiting.items():
                    self.step({stream: entry})
                return
            ((_, answer),) = waiting.values()
            if not answer.done():
                answer.set_exception(error)
            return
        self.passes += 1
        for (_, answer), y_t in zip(waiting.values(), y, strict=True):
            if not answer.done():
                answer.set_result(y_t)

    @asynccontextmanager
    async def running(self, port: int) -> AsyncIterator[int]:
        """Serve on this port, or on a free one if it is 0; yields the port."""
        stepping = asyncio.create_task(self.step_forever())
        limit = MAX_MESSAGE_BYTES
        try:
            async with serve(self.handle, "127.0.0.1", port, compression=None, max_size=limit) as server:
                yield server.sockets[0].getsockname()[1]
        finally:
            stepping.cancel()


def step_dtype(model: Any) -> np.dtype:
    """The type of the numbers in a message; a model whose steps have no features reads tokens."""
    return np.dtype(np.float32 if model.step_shape else np.int32)


async def run_client(
    uri: str, x: np.ndarray, dtype: np.dtype, barrier: asyncio.Barrier, delay: float, period: float
) -> tuple[np.ndarray, list[float]]:
    """Send each step of x (T, ...) and return the answers and the seconds that each of them took.

    Once all clients are connected, the first step is sent after `delay` seconds and each further one at least
    `period` seconds after the previous one.
    """
    answers, seconds = [], []
    async with connect(uri, compression=None, open_timeout=60) as connection:
        await barrier.wait()
        start = time.perf_counter() + delay
        for t, x_t in enumerate(x):
            await asyncio.sleep(start + t * period - time.perf_counter())
            sent = time.perf_counter()
            await connection.send(x_t.tobytes())
            answers.append(np.frombuffer(await connection.recv(), dtype))
            seconds.append(time.perf_counter() - sent)
        await barrier.wait()
    return np.array(answers), seconds


def random_steps(model: Any, *shape: int) -> np.ndarray:
    """Random steps of that shape for a model."""
    rng = np.random.default_rng(0)
    if model.step_shape:
        return rng.standard_normal((*shape, *model.step_shape)).astype(np.float32)
    embedding = next(iter(model.sublayers().values()))
    return rng.integers(0, embedding.num_embeddings, shape, np.int32)


async def run_clients(model: Any, clients: int, steps: int, period: float) -> None:
    """Run so many clients, compare their answers with those of single streams, and print the timings."""
    x = random_steps(model, clients, steps)
    delays = np.random.default_rng(1).uniform(0, period, clients)
    server, barrier, tasks = Server(model), asyncio.Barrier(clients + 1), []
    async with server.running(0) as port, asyncio.TaskGroup() as group:
        for sequence, delay in zip(x, delays, strict=True):
            uri = f"ws://127.0.0.1:{port}"
            client = run_client(uri, sequence, model.dtype, barrier, delay, period)
            tasks.append(group.create_task(client))
            if len(tasks) % 50 == 0:  # the backlog of the socket holds no more handshakes at once
                await asyncio.sleep(0.05)
        await barrier.wait()
        start = time.perf_counter()
        await barrier.wait()
        elapsed = time.perf_counter() - start
    results = [task.result() for task in tasks]
    expected = [model.stream()(sequence) for sequence in x]
    wrong = sum(not np.array_equal(y, alone) for (y, _), alone in zip(results, expected, strict=True))
    milliseconds = np.concatenate([seconds for _, seconds in results]) * 1e3
    print(
        f"{clients} clients, {steps} steps each: {clients - wrong} got bitwise the answers of a single stream"
    )
    per_pass = clients * steps / server.passes
    print(f"{clients * steps / elapsed:,.0f} steps per second, {per_pass:,.0f} steps per pass")
    p50, p99 = np.percentile(milliseconds, (50, 99))
    print(f"an answer took {p50:.1f} ms (p50), {p99:.1f} ms (p99)")
    if wrong:
        raise SystemExit(f"{wrong} clients got wrong answers")


async def run_forever(model: Any, port: int) -> None:
    async with Server(model).running(port) as port:
        print(f"ws://127.0.0.1:{port}  (stop with Ctrl-C)", flush=True)
        await asyncio.get_running_loop().create_future()


def load_model(name: str) -> Any:
    """A bundled model, or the model in a file. Raises OnwardError unless it can stream."""
    model = onward.load(bundled.models().get(name, name))
    if isinstance(model, dict):
        raise onward.errors.FileError(
            f"{name} contains layers, not a model; combine them in an onward.Sequential and save that"
        )
    if callable(getattr(model, "layers", None)):  # an ONNX graph
        model = model.layers()
    model = onward.Sequential(model) if model.state_names else model  # a recurrent layer by itself
    model.stream()
    return model


def in_one_line(record: logging.LogRecord) -> bool:
    """A filter that replaces the traceback in a log record, such as a failed handshake, with its error."""
    if record.exc_info:
        record.msg, record.args = f"{record.getMessage()}: {record.exc_info[1]}", ()
        record.exc_info = None
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = ", ".join(bundled.models())
    parser.add_argument("model", nargs="?", default="vowels", help=f"a model file or one of {names}")
    parser.add_argument("--port", type=int, default=8765, help="the port (default: 8765)")
    parser.add_argument("--clients", type=int, help="run this many clients, then exit")
    parser.add_argument("--steps", type=int, default=20, help="time steps of each client")
    parser.add_argument("--period", type=float, default=0, help="seconds between the steps of a client")
    arguments = parser.parse_args()
    logging.getLogger("websockets.server").addFilter(in_one_line)
    try:
        model = load_model(arguments.model)
        if arguments.clients is None:
            asyncio.run(run_forever(model, arguments.port))
        else:
            asyncio.run(run_clients(model, arguments.clients, arguments.steps, arguments.period))
    except (OnwardError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("stopped")


if __name__ == "__main__":
    main()
