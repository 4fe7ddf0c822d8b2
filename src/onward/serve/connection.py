"""A WebSocket connection: the handshake, the messages of one stream, and back-pressure."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import time
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

import h11

from ..errors import ArgumentError, OnwardError
from . import frames
from .frames import FrameReader, ProtocolError
from .messages import AnyArray, Input, parsed, to_object
from .sessions import Session
from .ticks import Pending

if TYPE_CHECKING:
    from .service import Service

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # defined in RFC 6455
CLOSE_SECONDS = 2.0  # until a client that does not answer a close frame is cut off
INVALID_DATA, TOO_SLOW, INTERNAL_ERROR, RESTART = 1007, 1008, 1011, 1012  # statuses to close with


class Refused(Exception):
    """A handshake that gets an HTTP error as its answer."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Connection(asyncio.Protocol):
    """The server's end of a WebSocket: one stream of the pool.

    uvicorn hands over a connection whose request asks for a WebSocket. Input waits in a queue for the next
    tick. A full queue stops reading from the socket, and a client that does not read its answers stops its
    stream, so that TCP slows down the client.
    """

    session: Session
    _transport: asyncio.Transport

    def __init__(self, service: Service, config: Any, server_state: Any, app_state: Any) -> None:
        self._service, self._server_connections = service, server_state.connections
        self._handshake: h11.Connection | None = h11.Connection(h11.SERVER)
        self._reader = FrameReader(service.limits.message)
        self._queue: deque[tuple[Input, float]] = deque()
        self._is_reading, self._is_writing, self._is_closing = True, True, False
        self._step_bytes = service.steps.inputs.step_bytes
        self.active = time.perf_counter()  # when the last data arrived

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        self._server_connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        self.active = time.perf_counter()
        if self._handshake is not None:
            self._handshake.receive_data(data)
            self._shake_hands()
            return
        whole = None if self._queue or self._service.is_stopping else self._reader.whole(data)
        if whole is not None and len(whole[0]) % self._step_bytes == 0:
            self._queue.append((Input(*whole), self.active))
            self._service.ticker.wake(self, self.active)
        else:
            self._reader.feed(data)
            self._read()

    def eof_received(self) -> None:
        self._transport.close()

    def pause_writing(self) -> None:
        self._is_writing = False

    def resume_writing(self) -> None:
        self._is_writing = True
        if self._queue:
            self._service.ticker.wake(self, time.perf_counter())

    def connection_lost(self, error: Exception | None) -> None:
        self._is_closing = True
        self._server_connections.discard(self)
        if self in self._service.connections:
            self._service.connections.discard(self)
            self._service.ticker.forget(self)
            self._service.sessions.detach(self.session, self)

    def shutdown(self) -> None:
        """Close the connection because the server stops."""
        self.close(RESTART, "the server is stopping: resume the stream by its id")

    # The handshake

    def _shake_hands(self) -> None:
        assert self._handshake is not None
        try:
            request = self._handshake.next_event()
            if not isinstance(request, h11.Request):
                return
            answer = self._accepted(request)
        except (Refused, h11.RemoteProtocolError, ValueError) as error:  # ValueError: a faulty URL
            status = error.status if isinstance(error, Refused) else HTTPStatus.BAD_REQUEST
            self._service.metrics.refused[status] += 1
            self._transport.write(_http_error(status, str(error)))
            self._is_closing, self._handshake = True, None
            self._transport.close()
            return
        self._handshake = None
        self._transport.write(answer)
        self._service.metrics.connections += 1
        self._service.connections.add(self)
        self.send(frames.frame(frames.TEXT, json.dumps(self._service.hello(self.session)).encode()))

    def _accepted(self, request: h11.Request) -> bytes:
        """Return the response that opens the WebSocket. Raises Refused."""
        headers = {name.decode(): value.decode(errors="replace") for name, value in request.headers}
        url = urlsplit(request.target.decode("latin-1"))
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if url.path != "/stream":
            raise Refused(HTTPStatus.NOT_FOUND, "the streams are at /stream")
        if not self._service.is_authorized(headers.get("authorization"), query.get("token")):
            raise Refused(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong")
        if not self._service.is_origin_allowed(headers.get("origin"), headers.get("host")):
            raise Refused(HTTPStatus.FORBIDDEN, f"pages of {headers['origin']} may not connect; see --origin")
        key = headers.get("sec-websocket-key", "")
        if request.method != b"GET" or headers.get("sec-websocket-version") != "13" or not key:
            raise Refused(HTTPStatus.BAD_REQUEST, "expected a GET with version 13 of the WebSocket protocol")
        if self._service.is_stopping:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping")
        if len(self._service.connections) >= self._service.limits.connections:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
        try:
            self.session = self._service.sessions.attach(query.get("id"), self)
        except ArgumentError as error:
            raise Refused(HTTPStatus.NOT_FOUND, str(error)) from None
        accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest())
        start = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        return start + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"

    # Messages

    def _read(self) -> None:
        """Put the messages that have arrived into the queue, until it is full."""
        queue, arrived = self._queue, time.perf_counter()
        limit = self._service.limits.queue
        try:
            while len(queue) < limit and not self._is_closing and not self._service.is_stopping:
                message = self._reader.read()
                if message is None:
                    break
                opcode, payload, mask = message
                if opcode == frames.BINARY:
                    self._service.steps.inputs.check(len(payload))
                    queue.append((Input(payload, mask), arrived))
                elif opcode == frames.TEXT:
                    queue.append((self._service.steps.inputs.from_object(parsed(payload)), arrived))
                else:
                    self._control(opcode, payload)
        except ProtocolError as error:
            self.close(error.code, error.reason)
        except OnwardError as error:
            self.close(INVALID_DATA, str(error))
        if len(queue) >= limit and self._is_reading and not self._is_closing:
            self._is_reading = False
            self._transport.pause_reading()
        if queue:
            self._service.ticker.wake(self, arrived)

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == frames.PING:
            self.send(frames.frame(frames.PONG, payload))
        elif opcode == frames.CLOSE:
            self.send(frames.frame(frames.CLOSE, payload[:2]))
            self._is_closing = True
            self._transport.close()

    @property
    def has_input(self) -> bool:
        """Whether messages wait for a tick."""
        return bool(self._queue)

    def take(self) -> Pending | None:
        """Take the next message into a tick; None if the client does not read its answers."""
        if not self._is_writing or not self._queue:
            return None
        found, arrived = self._queue.popleft()
        self.session.position += 1
        if not self._is_reading and len(self._queue) <= self._service.limits.queue // 2:
            self._is_reading = True
            if not self._is_closing:
                self._transport.resume_reading()
                self._read()
        return self, found, arrived

    def send(self, frame: bytes) -> None:
        """Send a frame, unless the connection is closing."""
        if not self._is_closing:
            self._transport.write(frame)

    def send_json(self, outputs: list[AnyArray], is_step: bool) -> None:
        """Send the outputs (T, ...) as JSON."""
        answer = to_object(self._service.steps.output_names, outputs, is_step)
        self.send(frames.frame(frames.TEXT, json.dumps(answer).encode()))

    def reject(self, error: Exception) -> None:
        """Close the connection because its message raised an error, which changed nothing."""
        self.session.position -= 1
        if isinstance(error, OnwardError):
            self.close(INVALID_DATA, str(error))
        else:
            logging.getLogger("onward.serve").error("A step failed", exc_info=error)
            self.close(INTERNAL_ERROR, "the server failed to run this message")

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; a client that does not answer with its own in time is cut off."""
        if not self._is_closing:
            self._service.metrics.closed[code] += 1
            self._transport.write(frames.close_frame(code, reason))
            self._is_closing = True
            self._queue.clear()
            self._transport.resume_reading()
            try:
                self._transport.write_eof()
            except OSError:  # the client is gone, which the event loop has not noticed
                self._transport.abort()
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)

    def end_if_idle(self, seconds: float) -> None:
        """Close the connection if no data has arrived for so long."""
        if time.perf_counter() - self.active > seconds:
            self.close(TOO_SLOW, f"no message for {seconds:g} seconds")


def _http_error(status: HTTPStatus, reason: str) -> bytes:
    body = json.dumps({"error": reason}).encode()
    head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
