"""A server in the test process, and clients that write raw frames."""

import asyncio
import json
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import numpy as np

import onward
from onward.graph import Graph, Input, Model
from onward.serve.app import Server, listen
from onward.serve.service import Limits, Service
from onward.serve.steps import steps_of


def mixer() -> Model:
    """h' = tanh(x + the mean of h over the batch), y = h': a model whose rows cannot run together."""
    graph, dtype = Graph(), np.dtype(np.float32)
    x, h = (graph.add_input(name, dtype, ("batch", 4)) for name in ("x", "h"))
    mean = graph.add("ReduceMean", h, graph.add_constant(np.array([0])), keepdims=1)
    after = graph.add("Tanh", graph.add("Add", x, mean), output="hn")
    graph.outputs = (graph.add("Identity", after, output="y"), after)
    graph.declared_outputs = (Input("y", dtype, ("batch", 4)), Input("hn", dtype, ("batch", 4)))
    return Model(graph)


def unbatched() -> Model:
    """A GRU over x (time, features), scaled over the features; its input has no batch axis."""
    graph, dtype = Graph(), np.dtype(np.float32)
    x = graph.add_input("x", dtype, ("time", 5))
    axis = graph.add_constant(np.array([1]))
    rows, layer = graph.add("Unsqueeze", x, axis), onward.GRU(5, 7, rng=0)
    y = graph.add_all("Recurrent", (rows, ""), 2, cell=layer.cell)[0]
    y = graph.add("Softmax", graph.add("Squeeze", y, axis), axis=-1, output="y")
    graph.outputs, graph.declared_outputs = (y,), (Input("y", dtype, ("time", 7)),)
    return Model(graph)


@asynccontextmanager
async def serving(
    model: Any, options: dict[str, Any] | None = None, limits: Limits | None = None, **settings: Any
) -> AsyncIterator[tuple[Service, str]]:
    """Serve a model on a free port; yields the service and host:port."""
    service = Service("model", steps_of(model, options or {}), limits, **settings)
    server, listening = Server(service), listen("127.0.0.1", 0)
    running = asyncio.create_task(server.serve([listening]))
    try:
        while not server.started:
            assert not running.done(), running.result()
            await asyncio.sleep(0.01)
        yield service, f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
        await RawClient.close_all()


class RawClient(asyncio.Protocol):
    """A WebSocket client of a few lines, which can also send what no client should."""

    _transports: ClassVar[list[tuple[asyncio.AbstractEventLoop, asyncio.Transport]]] = []

    def __init__(self) -> None:
        self.reader, self.hello = asyncio.StreamReader(), dict[str, Any]()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._transports.append((asyncio.get_running_loop(), transport))

    def data_received(self, data: bytes) -> None:
        self.reader.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.reader.feed_eof()

    @classmethod
    async def connect(cls, address: str, path: str = "/stream") -> "RawClient":
        host, port = address.split(":")
        _, client = await asyncio.get_running_loop().create_connection(cls, host, int(port))
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        client.transport.write(request.encode())
        answer = await client.reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in answer.partition(b"\r\n")[0]:
            client.transport.close()
            raise ConnectionError(answer.decode())
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer  # the example of RFC 6455
        client.hello = json.loads((await client.receive())[1])
        return client

    def send(self, payload: bytes, first: int = 0x82) -> None:
        self.transport.write(client_frame(payload, first))

    async def receive(self) -> tuple[int, bytes]:
        """Return the opcode and the payload of the next frame."""
        first, size = await self.reader.readexactly(2)
        if size >= 126:
            (size,) = struct.unpack(
                *(
                    ("!H", await self.reader.readexactly(2))
                    if size == 126
                    else ("!Q", await self.reader.readexactly(8))
                )
            )
        return first & 15, await self.reader.readexactly(size)

    async def step(self, *inputs: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
        """Send inputs as one message and return the answer."""
        self.send(b"".join([np.ascontiguousarray(x).tobytes() for x in inputs]))
        opcode, payload = await self.receive()
        assert opcode == 2, payload
        return np.frombuffer(payload, dtype)

    async def closed(self) -> tuple[int, str]:
        """Skip frames up to the close frame of the server, and return its status and reason."""
        while True:
            opcode, payload = await self.receive()
            if opcode == 8:
                self.transport.close()
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    async def close(self) -> None:
        self.send(struct.pack("!H", 1000), first=0x88)
        await self.closed()

    @classmethod
    async def close_all(cls) -> None:
        """Close the clients of this event loop: asyncio warns of transports that outlive it."""
        for loop, transport in cls._transports:
            if loop is asyncio.get_running_loop():
                transport.abort()
        cls._transports.clear()
        await asyncio.sleep(0.01)

    def vanish(self) -> None:
        """Drop the connection without a word."""
        self.transport.abort()


def client_frame(payload: bytes, first: int = 0x82, masked: bool = True) -> bytes:
    """Return a frame of a client."""
    size = len(payload)
    length = (
        bytes([size])
        if size < 126
        else b"\x7e" + struct.pack("!H", size)
        if size < 65536
        else (b"\x7f" + struct.pack("!Q", size))
    )
    if not masked:
        return bytes([first]) + length + payload
    mask = os.urandom(4)
    data = (
        bytes(a ^ mask[i % 4] for i, a in enumerate(payload))
        if size < 64
        else (np.frombuffer(payload, np.uint8) ^ np.resize(np.frombuffer(mask, np.uint8), size)).tobytes()
    )
    return bytes([first, length[0] | 0x80]) + length[1:] + mask + data
