"""The state that the connections and pages of a server share: the model, clock, streams and limits."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from .metrics import Metrics
from .sessions import Session, Sessions
from .steps import Steps
from .ticks import Ticker

if TYPE_CHECKING:
    from .connection import Connection


Done = TypeVar("Done")
WRONG_HOST = "this server has another name: use its address, or name it with --host or --origin"


@dataclass(frozen=True)
class Limits:
    """What one server accepts: bytes, numbers and seconds."""

    message: int = 1 << 20
    json: int = 1 << 19  # bytes of a message or a body that is JSON
    body: int = 64 << 20  # bytes of a POST /run, and of its answer
    connections: int = 10_000
    queue: int = 16  # messages of a connection that wait for a tick
    idle: float = 300
    request: float = 60  # until a request has arrived


class Service:
    """Serves the streams of one model. Starts with the streams in the file `states`, if it exists."""

    def __init__(
        self,
        name: str,
        steps: Steps,
        limits: Limits | None = None,
        *,
        tick: float = 0.002,
        keep: float = 60,
        states: Path | None = None,
        token: str | None = None,
        origins: Collection[str] = (),
        hosts: Collection[str] = (),
    ) -> None:
        self.name, self.steps, self.limits = name, steps, limits or Limits()
        self.metrics = Metrics()
        self.ticker = Ticker(steps, tick, self.metrics)
        self.sessions = Sessions(steps.pool, keep, self.limits.connections)
        self.connections: set[Connection] = set()
        self.is_stopping = False
        self._states, self._token, self._origins = states, token, set(origins)
        self._hosts = {"localhost", *hosts, *(urlsplit(origin).hostname for origin in origins)}
        self._json = ThreadPoolExecutor(1, "onward-json")
        self._tasks: list[asyncio.Task[None]] = []
        if states is not None and states.exists():
            self.sessions.load(states)

    def start(self) -> None:
        """Start the clock, in the running event loop. The file of states is used once: after a crash, the
        streams would continue from states that their clients have left behind."""
        if self._states is not None:
            self._states.unlink(missing_ok=True)
        self._tasks = [asyncio.create_task(self.ticker.run()), asyncio.create_task(self._clean_up())]

    async def stop(self) -> None:
        """Finish the tick, save the streams and close the connections. Raises FileError."""
        self.is_stopping = True
        await self.ticker.stop()
        await asyncio.gather(*(each.encoding for each in self.connections if each.encoding))
        try:
            if self._states is not None:
                self.sessions.save(self._states)
        finally:
            for connection in list(self.connections):
                connection.shutdown()
            for task in self._tasks:
                task.cancel()

    async def _clean_up(self) -> None:
        """Every second, end idle connections and streams that have been kept long enough."""
        while True:
            await asyncio.sleep(1)
            async with self.ticker.lock:
                self.sessions.expire()
            for connection in list(self.connections):
                connection.end_if_idle(self.limits.idle)

    def in_thread(
        self, work: Callable[[], Done], then: Callable[[asyncio.Future[Done]], object]
    ) -> asyncio.Future[Done]:
        """Run `work` in a thread, beside the event loop, which then calls `then`."""
        future = asyncio.get_running_loop().run_in_executor(self._json, work)
        future.add_done_callback(then)
        return future

    def is_authorized(self, authorization: str | None, token: str | None) -> bool:
        """Whether a request carries the token, as a bearer or in its query; compares in constant time."""
        if self._token is None:
            return True
        found = (authorization or "").removeprefix("Bearer ") or token or ""
        return hmac.compare_digest(found.encode(errors="surrogateescape"), self._token.encode())

    def is_origin_allowed(self, origin: str | None, host: str | None) -> bool:
        """Whether a page may connect: browsers let any page try, also with servers on loopback."""
        return origin is None or origin in self._origins or urlsplit(origin).netloc == host

    def is_host_allowed(self, host: str | None) -> bool:
        """Whether a request names this server; a page elsewhere may let its own name lead here.

        An address always does, since pages cannot choose what it leads to. A token keeps such pages out, too.
        """
        if host is None or self._token is not None:
            return True
        with suppress(ValueError):
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._hosts:
                return True
            return bool(ipaddress.ip_address(name))
        return False

    def description(self) -> dict[str, Any]:
        """The model, its inputs and outputs."""
        inputs = [
            {"name": port.name, "shape": list(port.shape), "dtype": str(port.dtype)}
            for port in self.steps.inputs.ports
        ]
        return {"model": self.name, "inputs": inputs, "outputs": list(self.steps.output_names)}

    def hello(self, session: Session) -> dict[str, Any]:
        """The first message of a connection."""
        return {"id": session.key, "position": session.position, **self.description()}

    def metrics_text(self) -> str:
        """The metrics in the Prometheus text format."""
        return self.metrics.text(
            {
                "connections": ("Open WebSocket connections.", len(self.connections)),
                "streams": ("Streams, connected or kept.", len(self.sessions)),
                "kept_streams": ("Streams kept without a connection.", self.sessions.kept),
            }
        )
