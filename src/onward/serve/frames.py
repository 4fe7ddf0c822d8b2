"""WebSocket frames (RFC 6455): reads the messages of a client, and writes those of the server."""

import struct
from typing import NamedTuple

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONTINUATION = 0
FINAL, RESERVED, MASKED = 0x80, 0x70, 0x80
MAX_CONTROL_BYTES = 125  # in a control frame
UNMASKED = bytes(4)  # the mask that changes nothing


class ProtocolError(Exception):
    """A client violated the protocol or a limit; `code` is the status with which to close the connection."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Message(NamedTuple):
    """A message or a control frame: its bytes are `payload` XOR the repeated mask."""

    opcode: int
    payload: bytes
    mask: bytes


class FrameReader:
    """Joins the bytes of a client to messages.

    A binary message in one frame stays masked if it consists of 32-bit words: the messages of a tick are
    unmasked together.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._data: bytes | bytearray = b""
        self._position = 0  # in _data
        self._opcode = CONTINUATION  # the opcode of the incomplete fragmented message, if any
        self._fragments = bytearray()

    def whole(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Return the payload and the mask if data is one binary message of words, as it nearly always is.

        Otherwise, or if bytes wait for more, return None: then `feed` and `read` apply.
        """
        size = len(data)
        if size < 8 or data[0] != FINAL | BINARY or self._position < len(self._data) or self._opcode:
            return None
        length, start = data[1] - MASKED, 6
        if length == 126:
            length, start = data[2] << 8 | data[3], 8
        if length != size - start or length % 4 or length > self._max_size:
            return None
        return data[start:], data[start - 4 : start]

    def feed(self, data: bytes) -> None:
        """Add bytes from the client."""
        if self._position == len(self._data):
            self._data, self._position = data, 0
            return
        if not isinstance(self._data, bytearray):
            self._data = bytearray(self._data)
        del self._data[: self._position]
        self._data += data
        self._position = 0

    def read(self) -> Message | None:
        """Return the next message or control frame, or None if it is incomplete. Raises ProtocolError."""
        while (frame := self._frame()) is not None:
            first, payload, mask = frame
            opcode = first & 15
            if opcode >= CLOSE:
                return Message(opcode, unmask(payload, mask), UNMASKED)
            if opcode == BINARY and first & FINAL and len(payload) % 4 == 0:
                return Message(opcode, payload, mask)
            self._opcode = opcode or self._opcode
            self._fragments += unmask(payload, mask)
            if first & FINAL:
                message = Message(self._opcode, bytes(self._fragments), UNMASKED)
                self._opcode, self._fragments = CONTINUATION, bytearray()
                return message
        return None

    def _frame(self) -> tuple[int, bytes, bytes] | None:
        """Return the first byte, the masked payload and the mask of the next frame, if it is complete."""
        data, start = self._data, self._position
        available = len(data) - start
        if available < 2:
            return None
        first, size = data[start], data[start + 1] & 0x7F
        self._check_header(first, data[start + 1], size)
        start += 2
        if size >= 126:
            length = 2 if size == 126 else 8
            if available < 2 + length:
                return None
            size = int.from_bytes(data[start : start + length], "big")
            start += length
        if size + len(self._fragments) > self._max_size:
            raise ProtocolError(1009, f"a message may have {self._max_size} bytes at most")
        end = start + 4 + size
        if end > len(data):
            return None
        self._position = end
        return first, bytes(data[start + 4 : end]), bytes(data[start : start + 4])

    def _check_header(self, first: int, second: int, size: int) -> None:
        opcode = first & 15
        if not second & MASKED:
            raise ProtocolError(1002, "the frames of a client must be masked")
        if first & RESERVED or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise ProtocolError(1002, f"unknown opcode or reserved bits in the frame header {first:#04x}")
        if opcode >= CLOSE:
            if not first & FINAL or size > MAX_CONTROL_BYTES:
                raise ProtocolError(1002, "a control frame must be final and short")
        elif (opcode == CONTINUATION) != (self._opcode != CONTINUATION):
            raise ProtocolError(1002, "fragments out of order")


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Return the bytes of a masked payload.

    >>> unmask(b"abcdef", b"    ")
    b'ABCDEF'
    """
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")


def header(opcode: int, size: int) -> bytes:
    """Return the header of an unfragmented frame of the server.

    >>> header(BINARY, 300).hex()
    '827e012c'
    """
    if size < 126:
        return bytes((FINAL | opcode, size))
    if size < 1 << 16:
        return struct.pack("!BBH", FINAL | opcode, 126, size)
    return struct.pack("!BBQ", FINAL | opcode, 127, size)


def frame(opcode: int, payload: bytes) -> bytes:
    """Return an unfragmented frame of the server."""
    return header(opcode, len(payload)) + payload


def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame; a long reason is cut off."""
    short = reason.encode()[: MAX_CONTROL_BYTES - 2].decode(errors="ignore")
    return frame(CLOSE, struct.pack("!H", code) + short.encode())
