"""Random histories of clients that pipeline, vanish, resume, replace each other and make mistakes."""

import asyncio
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.randomized import random_cases
from support.sequence_graphs import detector
from support.serving import RawClient, client_frame, serving, unbatched

import onward

LAYERS = onward.Sequential(onward.LSTM(5, 7, rng=0), onward.Linear(7, 2, rng=1))
MODELS = {"layers": LAYERS, "looks ahead": detector(5), "no batch": unbatched()}


class Client:
    """One stream: the messages that it has sent, and what a stream of the model answers to them."""

    def __init__(self, model: Any, address: str, rng: np.random.Generator) -> None:
        self.stream, self.address, self.rng = model.stream(), address, rng
        self.messages: list[tuple[np.ndarray | None, bool]] = []  # steps, None for the end; and as JSON
        self.key, self.connection = "", None

    async def connect(self) -> None:
        """Open or resume the stream; what the server did not process is as if it had not been sent."""
        path = f"/stream?id={self.key}" if self.key else "/stream"
        self.connection = await RawClient.connect(self.address, path)
        self.key = self.connection.hello["id"]
        position = self.connection.hello["position"]
        assert position <= len(self.messages)
        del self.messages[position:]

    def write(self) -> None:
        """Send a message of random kind and length."""
        kind = self.rng.choice(["bytes", "json", "end"], p=[0.6, 0.3, 0.1])
        is_json = bool(kind == "json" or (kind == "end" and self.rng.random() < 0.5))
        x = self.rng.normal(size=(int(self.rng.integers(1, 6)), 5)).astype(np.float32)
        payload = b"" if kind == "end" else json.dumps(x.tolist()).encode() if is_json else x.tobytes()
        self.messages.append((None if kind == "end" else x, is_json))
        frame = client_frame(payload, 0x81 if is_json else 0x82)
        cut = int(self.rng.integers(len(frame)))
        self.connection.transport.write(frame[:cut])
        self.connection.transport.write(frame[cut:])

    async def check(self, pending: int) -> None:
        """Compare the answers to the last messages with those of a stream that starts anew."""
        self.stream.reset()
        expected = []
        for x, _ in self.messages:
            expected.append(np.ravel(self.stream.finish() if x is None else self.stream(x)))
            if x is None:
                self.stream.reset()
        for (_, is_json), y in zip(self.messages[-pending:], expected[-pending:], strict=True):
            opcode, payload = await self.connection.receive()
            assert opcode == (1 if is_json else 2), payload
            (found,) = json.loads(payload).values() if is_json else [np.frombuffer(payload, np.float32)]
            np.testing.assert_array_equal(np.ravel(np.array(found, np.float32)), y)

    async def live(self) -> None:
        """Do a few random things; the answers must be those of the messages that count."""
        await self.connect()
        for _ in range(8):
            what = self.rng.choice(["talk", "vanish", "replace", "err", "leave"], p=[0.6, 0.1, 0.1, 0.1, 0.1])
            count = int(self.rng.integers(1, 20))
            for _ in range(count):
                self.write()
            if what == "talk":
                await self.check(count)
                continue
            old = self.connection
            if what == "vanish":
                old.vanish()
            elif what == "err":
                old.send(bytes(7))
                assert (await old.closed())[0] == 1007
            elif what == "leave":
                old.send(struct.pack("!H", 1000), first=0x88)
                await old.closed()
            await self.connect()
            if what == "replace":
                assert (await old.closed())[0] == 1008
        self.write()
        await self.check(1)
        await self.connection.close()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(random_cases(1)))
def test_answers_are_those_of_the_messages_that_the_position_counts(
    seed: int, name: str, tmp_path: Path
) -> None:
    async def session() -> None:
        rng = np.random.default_rng(seed)
        tick = float(rng.choice([0, 0.002]))
        async with serving(MODELS[name], tick=tick) as (service, address):
            clients = [Client(MODELS[name], address, np.random.default_rng([seed, n])) for n in range(12)]
            await asyncio.gather(*(client.live() for client in clients))
            while service.connections:  # the server notices the ends of connections a little later
                await asyncio.sleep(0.01)
            assert len(service.sessions) == 12

    asyncio.run(asyncio.wait_for(session(), 120))
