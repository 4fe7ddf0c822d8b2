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

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import OnwardError
from .connection import Connection
from .messages import AnyArray, Input, parsed, to_object
from .service import Service

GRACE = 5  # seconds that clients and runs have to end when the server stops
OTHER_CONNECTIONS = 100  # for pages and health checks, besides those of streams
MAX_RUNS = 16  # requests that wait for POST /run
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
        if self._runs >= MAX_RUNS:
            return JSONResponse({"error": "too many requests wait: try again later"}, 503)
        self._runs += 1
        body, limit = bytearray(), self._service.limits.body
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    return JSONResponse({"error": f"a body may have {limit} bytes at most"}, 413)
            is_binary = request.headers.get("content-type", "").startswith(BINARY)
            loop = asyncio.get_running_loop()
            work = self._run_bytes if is_binary else self._run_json
            answer = await loop.run_in_executor(self._thread, work, bytes(body))
        except OnwardError as error:
            return JSONResponse({"error": str(error)}, 422)
        finally:
            self._runs -= 1
        return Response(answer, media_type=BINARY if is_binary else "application/json")

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
        answers = [to_object(steps.output_names, self._outputs(each), each.is_step) for each in found]
        return json.dumps({"sequences": answers} if is_many else answers[0]).encode()

    def _outputs(self, sequence: Input) -> list[AnyArray]:
        arrays = [array[0] for array in self._service.steps.inputs.arrays([sequence])]
        self._service.metrics.runs += 1
        return list(self._service.steps.run(arrays))


class RequireToken:
    """Refuses requests without the token, except those to /healthz."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["path"] != "/healthz":
            authorization = dict(scope["headers"]).get(b"authorization", b"").decode(errors="surrogateescape")
            token = Request(scope).query_params.get("token")
            if not self._service.is_authorized(authorization, token):
                app = JSONResponse({"error": "the token is missing or wrong"}, 401)
        await app(scope, receive, send)


class Server(uvicorn.Server):
    """Serves the streams and pages of a service until SIGTERM or SIGINT."""

    def __init__(self, service: Service) -> None:
        self._service = service
        config = uvicorn.Config(
            RequireToken(Starlette(routes=Pages(service).routes()), service),
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
