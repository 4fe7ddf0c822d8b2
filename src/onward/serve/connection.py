"""A WebSocket connection: the handshake, the messages of one stream, and back-pressure."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

from websockets.frames import DATA_OPCODES, CloseCode, Frame, Opcode
from websockets.frames import apply_mask as unmask  # type: ignore[attr-defined]  # compiled where possible
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from ..errors import ArgumentError, OnwardError
from .messages import PIECE, AnyArray, Input, to_json
from .service import WRONG_HOST
from .sessions import Session
from .ticks import Pending

if TYPE_CHECKING:
    from asyncio import Future

    from .service import Service

OPEN, BINARY = State.OPEN, Opcode.BINARY
CLOSE_SECONDS = 2.0  # until a client that does not end a closing connection is cut off
MAX_REASON_BYTES = 123  # in a close frame
SHORT = 4096  # bytes of JSON that are read at once
FINAL_BINARY, MASKED = 0x82, 0x80  # in the first and in the second byte of a frame


class Refused(Exception):
    """A handshake that gets an HTTP error as its answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


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
        self._protocol = ServerProtocol(max_size=service.limits.message)
        self._unread = bytearray()  # what has arrived, from the start of a frame
        self._opcode: Opcode | None = None  # of the message whose fragments have arrived in part
        self._fragments = bytearray()
        self._queue: deque[tuple[Input, float]] = deque()
        self._is_writing, self._is_parsing = True, False
        self.encoding: Future[bytes] | None = None  # an answer that a thread writes as JSON
        self.active = time.perf_counter()  # when the last data arrived

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has classes of its own
        self._server_connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.active = time.perf_counter()
        if self._protocol.state is OPEN:
            self._unread += data
            self._read()
            return
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._shake_hands(event)
        self._write()

    def eof_received(self) -> None:
        self._transport.close()

    def pause_writing(self) -> None:
        self._is_writing = False
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_writing = True
        self._read()

    def connection_lost(self, error: Exception | None) -> None:
        self._protocol.receive_eof()
        self._server_connections.discard(self)
        if self in self._service.connections:
            self._service.connections.discard(self)
            self._service.ticker.forget(self)
            self._service.sessions.detach(self.session, self)

    def shutdown(self) -> None:
        """Close the connection because the server stops."""
        self.close(CloseCode.SERVICE_RESTART, "the server is stopping: resume the stream by its id")

    # Reading

    @property
    def _takes_input(self) -> bool:
        has_room = len(self._queue) < self._service.limits.queue
        is_free = self._is_writing and not self._is_parsing and not self._transport.is_closing()
        return has_room and is_free and not self._service.is_stopping

    def _read(self) -> None:
        """Put the messages that have arrived into the queue, until it is full."""
        arrived, inputs = time.perf_counter(), self._service.steps.inputs
        try:
            while self._takes_input and (frame := self._next_frame()):
                opcode, payload = self._message(*frame)
                if opcode is not None and not payload:
                    self._queue.append((Input(b"", is_json=opcode is Opcode.TEXT), arrived))
                elif opcode is BINARY:
                    self._queue.append((inputs.from_bytes(payload), arrived))
                elif opcode is not None:
                    self._take_text(payload, arrived)
        except OnwardError as error:
            self.close(CloseCode.INVALID_DATA, str(error))
        if self._takes_input:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()
        if self._queue:
            self._service.ticker.wake(self, arrived)

    def _take_text(self, text: bytes, arrived: float) -> None:
        """Put a message of JSON into the queue; a thread reads a long one."""
        limit, inputs = self._service.limits.json, self._service.steps.inputs
        if len(text) > limit:
            raise ArgumentError(f"a message of JSON may have {limit} bytes at most: send the steps as bytes")
        if len(text) <= SHORT:
            self._queue.append((inputs.from_json(text), arrived))
            return
        self._is_parsing = True
        self._service.in_thread(partial(inputs.from_json, text), partial(self._take_parsed, arrived))

    def _take_parsed(self, arrived: float, found: Future[Input]) -> None:
        self._is_parsing = False
        if self._protocol.state is not OPEN:
            return
        try:
            self._queue.append((found.result(), arrived))
        except OnwardError as error:
            self.close(CloseCode.INVALID_DATA, str(error))
        self._read()

    def _next_frame(self) -> tuple[bytearray, int] | None:
        """Remove the first frame and return it with the start of its payload; None if it is incomplete.

        A frame without a mask or beyond the size limit counts as complete, with 0: `websockets` refuses it.
        """
        data = self._unread
        if len(data) < 2:
            return None
        size, start = data[1] & ~MASKED, 6
        if size > 125:  # the size follows, in 2 or 8 bytes
            start = 8 if size == 126 else 14
            size = int.from_bytes(data[2 : start - 4], "big")
        is_faulty = not data[1] & MASKED or size > self._service.limits.message
        end = len(data) if is_faulty else start + size
        if len(data) < end:
            return None
        frame = data[:end]
        del data[:end]
        return frame, 0 if is_faulty else start

    def _message(self, frame: bytearray, start: int) -> tuple[Opcode | None, bytes]:
        """Return the kind and the content of the message that a frame completes, or None and nothing."""
        if frame[0] == FINAL_BINARY and start and self._opcode is None:  # ten times as fast as websockets
            return BINARY, unmask(frame[start:], frame[start - 4 : start])
        self._protocol.receive_data(frame)
        opcode, payload = None, b""
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
                self._opcode = self._opcode or event.opcode
                self._fragments += event.data
                if event.fin:
                    opcode, payload = self._opcode, bytes(self._fragments)
                    self._opcode, self._fragments = None, bytearray()
        self._write()
        return opcode, payload

    # The handshake

    def _shake_hands(self, request: Request) -> None:
        try:
            response = self._accepted(request)
        except (Refused, LookupError, ValueError) as error:  # a repeated header, or a faulty URL
            status = error.status if isinstance(error, Refused) else HTTPStatus.BAD_REQUEST
            self._service.metrics.refused[status] += 1
            response = self._protocol.reject(status, json.dumps({"error": str(error)}))
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "application/json"
        self._protocol.send_response(response)
        if self._protocol.state is OPEN:
            self._service.metrics.connections += 1
            self._service.connections.add(self)
            self._send_text(json.dumps(self._service.hello(self.session)).encode())

    def _accepted(self, request: Request) -> Response:
        """Return the response that opens the WebSocket. Raises Refused."""
        url, headers = urlsplit(request.path), request.headers
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        origin = headers.get("Origin")
        if url.path != "/stream":
            raise Refused(HTTPStatus.NOT_FOUND, "the streams are at /stream")
        if not self._service.is_authorized(headers.get("Authorization"), query.get("token")):
            raise Refused(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong")
        if not self._service.is_host_allowed(headers.get("Host")):
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, WRONG_HOST)
        if not self._service.is_origin_allowed(origin, headers.get("Host")):
            raise Refused(HTTPStatus.FORBIDDEN, f"pages of {origin} may not connect; see --origin")
        response = self._protocol.accept(request)
        if self._protocol.handshake_exc is not None:
            raise Refused(response.status_code, str(self._protocol.handshake_exc))
        if self._service.is_stopping:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping")
        if len(self._service.connections) >= self._service.limits.connections:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
        try:
            self.session = self._service.sessions.attach(query.get("id"), self)
        except ArgumentError as error:
            raise Refused(HTTPStatus.NOT_FOUND, str(error)) from None
        return response

    # Steps and answers

    def take(self) -> Pending | None:
        """Take the next message into a tick; None if the client does not read its answers."""
        if not self._is_writing or self.encoding is not None or not self._queue:
            return None
        found, arrived = self._queue.popleft()
        self.session.position += 1
        if self._queue:
            self._service.ticker.wake(self, 0)
        if not self._transport.is_reading():
            self._read()
        return self, found, arrived

    def answer(self, payload: bytes) -> None:
        """Send outputs as bytes, unless the connection is closing."""
        if self._protocol.state is OPEN:
            self._protocol.send_binary(payload)
            self._write()

    def answer_json(self, outputs: list[AnyArray], is_step: bool) -> None:
        """Send the outputs (T, ...) as JSON, which a thread writes if they are many."""
        encode = partial(to_json, self._service.steps.output_names, outputs, is_step)
        if sum(output.size for output in outputs) <= PIECE:
            self._send_text(encode())
        else:
            self.encoding = self._service.in_thread(encode, self._send_encoded)

    def _send_encoded(self, found: Future[bytes]) -> None:
        self.encoding = None
        self._send_text(found.result())
        if self._queue:
            self._service.ticker.wake(self, time.perf_counter())

    def _send_text(self, text: bytes) -> None:
        if self._protocol.state is OPEN:
            self._protocol.send_text(text)
            self._write()

    def reject(self, error: Exception) -> None:
        """Close the connection because its message raised an error, which changed nothing."""
        self.session.position -= 1
        if isinstance(error, OnwardError):
            self.close(CloseCode.INVALID_DATA, str(error))
        else:
            logging.getLogger("onward.serve").error("A step failed", exc_info=error)
            self.close(CloseCode.INTERNAL_ERROR, "the server failed to run this message")

    def end_if_idle(self, seconds: float) -> None:
        """Close the connection if no data has arrived for so long."""
        if time.perf_counter() - self.active > seconds:
            self.close(CloseCode.POLICY_VIOLATION, f"no message for {seconds:g} seconds")

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; a client that does not end the connection in time is cut off."""
        if self._protocol.state is OPEN:
            self._protocol.fail(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
            self._write()

    def _write(self) -> None:
        """Write what the protocol has to send, and no more after its end."""
        for data in self._protocol.data_to_send():
            if data:
                if not self._transport.is_closing():  # asyncio logs each write to a socket that is lost
                    self._transport.write(data)
            else:
                self._end()

    def _end(self) -> None:
        if self._protocol.close_sent is not None and self._protocol.close_rcvd is None:
            self._service.metrics.closed[self._protocol.close_sent.code] += 1
        self._queue.clear()
        self._unread.clear()
        self._transport.resume_reading()
        try:
            self._transport.write_eof()
        except OSError:  # the client is gone, which the event loop has not noticed
            self._transport.abort()
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._transport.abort)
