"""WebSocket frames are read as the `websockets` package writes them, however the bytes arrive."""

import numpy as np
import pytest
from support.serving import client_frame
from websockets.frames import Frame, Opcode

from onward.serve.frames import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    FrameReader,
    Message,
    ProtocolError,
    close_frame,
    frame,
    unmask,
)


def messages(reader: FrameReader) -> list[tuple[int, bytes]]:
    found = []
    while (message := reader.read()) is not None:
        found.append((message.opcode, unmask(message.payload, message.mask)))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_messages_arrive_whole_however_the_bytes_are_split(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reader, data, sent = FrameReader(1 << 20), b"", []
    for size in (0, 1, 4, 5, 124, 125, 126, 128, 65_535, 65_536, *rng.integers(0, 300, 20)):
        payload, opcode = rng.bytes(size), (TEXT, BINARY)[rng.integers(2)]
        cuts = sorted(rng.integers(0, size + 1, rng.integers(3)))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
        for i, part in enumerate(parts):
            kind = Opcode(opcode if i == 0 else 0)
            data += Frame(kind, part, fin=i == len(parts) - 1).serialize(mask=True)
            if i == 0 and len(parts) > 1:  # a ping between the fragments
                data += Frame(Opcode.PING, b"?").serialize(mask=True)
                sent.append((PING, b"?"))
        sent.append((opcode, payload))
    found, places = [], sorted(rng.integers(0, len(data), 60))
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        reader.feed(data[start:end])
        found += messages(reader)
    assert found == sent


def test_words_in_one_frame_stay_masked() -> None:
    reader = FrameReader(100)
    reader.feed(client_frame(b"12345678"))
    message = reader.read()
    assert isinstance(message, Message) and message.mask != bytes(4)
    assert unmask(message.payload, message.mask) == b"12345678"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client_frame(b"1234", masked=False), 1002),
        (client_frame(b"1234", 0xC2), 1002),  # a reserved bit, as of compression
        (client_frame(b"1234", 0x83), 1002),  # an unknown opcode
        (client_frame(b"1234", 0x80), 1002),  # a continuation of nothing
        (client_frame(b"1234", 0x02) + client_frame(b"1234", 0x82), 1002),
        (client_frame(b"", 0x09), 1002),  # a fragmented ping
        (client_frame(bytes(126), 0x89), 1002),
        (client_frame(bytes(101)), 1009),
        (client_frame(bytes(60), 0x02) + client_frame(bytes(41), 0x80), 1009),
        (b"\x82\xff" + b"\xff" * 8, 1009),  # 2**64 - 1 bytes, of which none have arrived
    ],
)
def test_faulty_frames_are_protocol_errors(data: bytes, code: int) -> None:
    reader = FrameReader(100)
    reader.feed(data)
    with pytest.raises(ProtocolError) as caught:
        messages(reader)
    assert caught.value.code == code


def test_random_bytes_raise_protocol_errors_only() -> None:
    rng, errors = np.random.default_rng(0), 0
    for _ in range(2000):
        reader = FrameReader(1000)
        try:
            for _ in range(5):
                reader.feed(rng.bytes(rng.integers(0, 40)))
                messages(reader)
        except ProtocolError:
            errors += 1
    assert errors > 1000


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_frames_of_the_server_are_those_of_websockets(size: int) -> None:
    payload = bytes(size)
    assert frame(BINARY, payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)
    if size > 125:
        assert close_frame(1000, "ü" * size) == frame(CLOSE, b"\x03\xe8" + "ü".encode() * 61)
