"""The pages of the server, and the server itself: Starlette and uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from ..errors import OnwardError
from .connection import Connection
from .messages import AnyArray, Input, parsed, to_json
from .service import WRONG_HOST, Service

GRACE = 5  # seconds that clients and runs have to end when the server stops
OTHER_CONNECTIONS = 100  # for pages and health checks, besides those of streams
MAX_RUNS = 16  # requests that wait for POST /run
HELD_BODIES = 4  # of the largest size
CLOSE = {"Connection": "close"}  # the rest of a body is not read
BINARY = "application/octet-stream"
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class Pages:
    """The routes of HTTP."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._thread = ThreadPoolExecutor(1, "onward-run")
        self._runs = 0  # waiting or running
        self._held = 0  # bytes of bodies that arrive, wait or run
        page = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        described = json.dumps(service.description()).replace("<", "\\u003c")
        self._page = page.replace("{{description}}", described)

    def routes(self) -> list[Route]:
        """All routes of HTTP; the streams at /stream are connections of their own."""
        pages = {"/": self.index, "/healthz": self.health, "/metrics": self.metrics}
        return [*(Route(*page) for page in pages.items()), Route("/run", self.run, methods=["POST"])]

    async def index(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers=SECURITY)

    async def health(self, request: Request) -> Response:
        stopping = self._service.is_stopping
        return JSONResponse({"status": "stopping" if stopping else "ok"}, 503 if stopping else 200)

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics_text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def run(self, request: Request) -> Response:
        """Score a whole sequence, or a JSON list of them."""
        is_binary = request.headers.get("content-type", "").startswith(BINARY)
        body = bytearray()
        try:
            async with asyncio.timeout(self._service.limits.request):
                await self._receive(request, body, is_binary)
            answer = await self._scored(bytes(body), is_binary)
        except OnwardError as error:
            return JSONResponse({"error": str(error)}, 422)
        except MemoryError:
            return JSONResponse({"error": "the sequence needs more memory than there is"}, 422)
        except TimeoutError:
            return JSONResponse({"error": "the body took too long to arrive"}, 408, CLOSE)
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        except HTTPException as error:
            return JSONResponse({"error": error.detail}, error.status_code, CLOSE)
        finally:
            self._held -= len(body)
        return Response(answer, media_type=BINARY if is_binary else "application/json")

    async def _receive(self, request: Request, body: bytearray, is_binary: bool) -> None:
        """Append the body of a request to `body`. Raises HTTPException for too many bytes."""
        limits = self._service.limits
        limit = limits.body if is_binary else min(limits.json, limits.body)
        hint = "" if is_binary else f" of JSON: send longer sequences as {BINARY}"
        async for chunk in request.stream():
            body += chunk
            self._held += len(chunk)
            if len(body) > limit:
                raise HTTPException(413, f"a body may have {limit} bytes at most{hint}")
            if self._held > HELD_BODIES * limits.body:
                raise HTTPException(503, "too many requests arrive: try again later")

    async def _scored(self, body: bytes, is_binary: bool) -> bytes:
        """Return the answer to a body, from a thread. Raises HTTPException if too many wait."""
        if self._runs >= MAX_RUNS:
            raise HTTPException(503, "too many requests wait: try again later")
        self._runs += 1
        work = self._run_bytes if is_binary else self._run_json
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, body)
        finally:
            self._runs -= 1

    def _run_bytes(self, body: bytes) -> bytes:
        outputs = self._outputs(self._service.steps.inputs.from_bytes(body))
        return b"".join([output.tobytes() for output in outputs])

    def _run_json(self, body: bytes) -> bytes:
        steps = self._service.steps
        data = parsed(body)
        is_many = (
            isinstance(data, dict) and set(data) == {"sequences"} and isinstance(data["sequences"], list)
        )
        found = [steps.inputs.from_object(each) for each in (data["sequences"] if is_many else [data])]
        answers = [to_json(steps.output_names, self._outputs(each), each.is_step) for each in found]
        return b'{"sequences": [%s]}' % b", ".join(answers) if is_many else answers[0]

    def _outputs(self, sequence: Input) -> list[AnyArray]:
        arrays = [array[0] for array in self._service.steps.inputs.arrays([sequence])]
        self._service.metrics.runs += 1
        return list(self._service.steps.run(arrays, self._service.limits.body))


class Guard:
    """Refuses requests to another host, and those without the token, except those to /healthz."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["path"] != "/healthz":
            headers = {name: value.decode(errors="surrogateescape") for name, value in scope["headers"]}
            token = Request(scope).query_params.get("token")
            if not self._service.is_host_allowed(headers.get(b"host")):
                app = JSONResponse({"error": WRONG_HOST}, 421)
            elif not self._service.is_authorized(headers.get(b"authorization", ""), token):
                app = JSONResponse({"error": "the token is missing or wrong"}, 401)
        await app(scope, receive, send)


class TimedProtocol(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # which one depends on what is installed
    """Closes a connection whose next request does not arrive in time: uvicorn times only whole requests."""

    def __init__(self, seconds: float, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seconds, self._timer = seconds, cast(asyncio.TimerHandle | None, None)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._watch()

    def _watch(self) -> None:
        """Start the timer while there is no request, and stop it when there is one."""
        waits = self._is_open() and (self.cycle is None or self.cycle.response_complete)
        if self._timer is not None and not waits:
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and waits:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._end)

    def _is_open(self) -> bool:
        """Whether this still is the connection's protocol, which a WebSocket replaces."""
        return not self.transport.is_closing() and self.transport.get_protocol() is self

    def _end(self) -> None:
        if self._is_open():
            self.transport.close()


class Server(uvicorn.Server):
    """Serves the streams and pages of a service until SIGTERM or SIGINT."""

    def __init__(self, service: Service) -> None:
        self._service = service
        config = uvicorn.Config(
            Guard(Starlette(routes=Pages(service).routes()), service),
            http=functools.partial(TimedProtocol, service.limits.request),  # type: ignore[arg-type]  # likewise
            ws=functools.partial(Connection, service),  # type: ignore[arg-type]  # a class with one argument set
            lifespan="off",
            log_level="warning",
            access_log=False,  # the query may hold the token
            server_header=False,
            limit_concurrency=service.limits.connections + OTHER_CONNECTIONS,
            timeout_graceful_shutdown=GRACE,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.start()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await self._service.stop()
        finally:
            await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=4096)


def raise_file_limit() -> None:
    """Allow as many open files, and therefore connections, as the system permits."""
    if sys.platform == "win32":  # has no such limit
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems state a limit that they do not allow
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
