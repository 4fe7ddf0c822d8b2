"""Clients that send too much, too slowly, or nothing: they fill no memory, and others get their answers."""

import asyncio
import json
import logging
import os
import random
import time
import tracemalloc
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.randomized import random_cases
from support.sequence_graphs import detector, normal
from support.serving import RawClient, client_frame, serving
from support.skips import Cases

import onward
from onward.serve.service import Limits

MEGABYTE = 1 << 20


def model() -> onward.Sequential:
    return onward.Sequential(onward.LSTM(3, 7, rng=0), onward.Linear(7, 2, rng=1))


def run(session: Coroutine[Any, Any, Any], seconds: float = 60) -> Any:
    return asyncio.run(asyncio.wait_for(session, seconds))


def post(
    body: bytes, kind: str = "application/json", host: str = "127.0.0.1", length: int | None = None
) -> bytes:
    head = f"POST /run HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nConnection: close\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


async def opened(address: str, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send bytes over a new connection."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    return reader, writer


async def exchanged(address: str, data: bytes) -> bytes:
    """Send bytes over a new connection and return all that arrives until it is closed."""
    reader, writer = await opened(address, data)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


class Witness:
    """A live stream whose answers are compared with the model on its own, and timed."""

    def __init__(self, address: str) -> None:
        self.address, self.stream, self.worst, self.steps = address, model().stream(), 0.0, 0
        self.rng = np.random.default_rng(0)

    async def __aenter__(self) -> "Witness":
        self.client = await RawClient.connect(self.address)
        self.running = asyncio.create_task(self.steps_forever())
        return self

    async def steps_forever(self) -> None:
        while True:
            x = normal(self.rng, 3)
            start = time.perf_counter()
            np.testing.assert_array_equal(await self.client.step(x), self.stream(x))
            self.worst, self.steps = max(self.worst, time.perf_counter() - start), self.steps + 1
            await asyncio.sleep(0.002)

    async def __aexit__(self, *_: object) -> None:
        if self.running.done():
            self.running.result()
        assert self.steps > 3
        self.running.cancel()


HUGE = {
    "strings": b'["' + b"a" * 5000 + b'"' + b',""' * 100_000 + b"]",
    "lists": b"[" + b"[]," * 100_000 + b"[]]",
    "objects": b"[" + b'{"a":1},' * 40_000 + b"{}]",
    "numbers": b"[" + b"1," * 200_000 + b"1]",
    "rows": b"[" + b"[1,2,3]," * 40_000 + b"[1,2]]",
    "deep": b"[" * 300_000,
    "digits": b"[" + b"1" * 400_000 + b",1,1]",
}


@pytest.mark.parametrize("kind", ["strings", "numbers", "rows", "deep"])
def test_a_large_message_of_faulty_json_takes_little_memory_and_delays_nobody(kind: str) -> None:
    """Empty strings beside a long one made an array of 4 GB."""

    async def session() -> None:
        async with serving(model()) as (_, address), Witness(address) as witness:
            bad = await RawClient.connect(address)
            await asyncio.sleep(0.05)
            tracemalloc.start()
            try:
                bad.send(HUGE[kind], first=0x81)
                assert (await bad.closed())[0] == 1007
                answer = await exchanged(address, post(HUGE[kind]))
                assert answer.startswith(b"HTTP/1.1 422")
                assert tracemalloc.get_traced_memory()[1] < 100 * MEGABYTE
            finally:
                tracemalloc.stop()
            assert witness.worst < 5  # on a busy machine, with tracemalloc

    run(session())


def test_json_has_a_limit_of_its_own() -> None:
    """64 MB of JSON held all live streams for seconds."""

    async def session() -> None:
        async with serving(model(), limits=Limits(json=1000)) as (_, address):
            long = json.dumps([[0.5, 1.5, 2.5]] * 100).encode()
            bad = await RawClient.connect(address)
            bad.send(long, first=0x81)
            status, reason = await bad.closed()
            assert status == 1007 and "1000 bytes" in reason
            answer = await exchanged(address, post(long))
            assert answer.startswith(b"HTTP/1.1 413") and b"application/octet-stream" in answer
            answer = await exchanged(address, post(bytes(1200), "application/octet-stream"))
            assert answer.startswith(b"HTTP/1.1 200")

    run(session())


def test_long_json_is_answered_in_order() -> None:
    x, expected = normal(np.random.default_rng(0), 3, 900, 3), model().stream()

    async def session() -> list[Any]:
        async with serving(model()) as (_, address):
            client = await RawClient.connect(address)
            for block in x:
                client.send(json.dumps(block.tolist()).encode(), first=0x81)
                client.send(json.dumps(block[0].tolist()).encode(), first=0x81)
            return [json.loads((await client.receive())[1])["y"] for _ in range(2 * len(x))]

    answers = run(session())
    for block, step, source in zip(answers[::2], answers[1::2], x, strict=True):
        np.testing.assert_array_equal(np.array(block, np.float32), expected(source))
        np.testing.assert_array_equal(np.array(step, np.float32), expected(source[0]))


def test_an_answer_is_not_larger_than_a_body_may_be() -> None:
    async def session() -> None:
        async with serving(onward.RNN(1, 100, rng=0), limits=Limits(body=100_000)) as (_, address):
            answer = await exchanged(address, post(bytes(80_000), "application/octet-stream"))
            assert answer.startswith(b"HTTP/1.1 422") and b"over 100000 bytes" in answer

    run(session())


def test_slow_requests_and_idle_connections_are_closed_and_hold_up_nobody() -> None:
    """16 bodies that never ended refused all others, without a limit in time."""

    async def session() -> None:
        async with serving(model(), limits=Limits(request=1.0)) as (_, address):
            slow = [await opened(address, post(b"{", length=100)) for _ in range(20)]
            idle = [
                await opened(address, data) for data in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n")
            ]
            done = await exchanged(address, post(b"[[1, 2, 3]]"))
            assert done.startswith(b"HTTP/1.1 200")
            stream = await RawClient.connect(address)
            answers = [await reader.read() for reader, _ in slow + idle]
            assert all(answer.startswith(b"HTTP/1.1 408") for answer in answers[:20])
            assert answers[20:] == [b""] * 3
            await stream.step(np.ones(3, np.float32))  # an open stream is no request that waits
            for _, writer in slow + idle:
                writer.close()

    run(session(), 20)


def test_a_client_that_vanishes_while_it_sends_a_body_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def session() -> None:
        async with serving(model()) as (_, address):
            _, writer = await opened(address, post(b"{", length=100))
            await asyncio.sleep(0.05)
            writer.transport.abort()
            await asyncio.sleep(0.05)

    run(session())
    assert not caplog.records, caplog.text


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("192.168.0.9", True),
        ("localhost:8000", True),
        ("mine.example:80", True),
        ("page.example", True),
        ("evil.example", False),
        ("evil.example:8000", False),
        ("127.0.0.1.evil.example", False),
        ("[", False),
        ("", False),
    ],
)
def test_the_host_is_checked_like_the_origin(host: str, allowed: bool) -> None:
    """A page elsewhere could let its own name lead to this machine, and so share its origin."""

    async def session() -> None:
        names: dict[str, Any] = {"hosts": ["mine.example"], "origins": ["https://page.example"]}
        async with serving(model(), **names) as (_, address):
            answer = await exchanged(address, post(b"[[1, 2, 3]]", host=host))
            assert answer.startswith(b"HTTP/1.1 200" if allowed else b"HTTP/1.1 421")
            upgrade = (
                f"GET /stream HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Origin: http://{host}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                "Sec-WebSocket-Version: 13\r\n\r\n"
            )
            reader, writer = await opened(address, upgrade.encode())
            assert (await reader.readline()).split()[1] == (b"101" if allowed else b"421")
            writer.close()

    run(session())


def test_a_socket_that_is_gone_is_logged_once_at_most(caplog: pytest.LogCaptureFixture) -> None:
    """asyncio logged a line for each of 20,000 pongs."""

    async def session() -> None:
        async with serving(model()) as (_, address):
            for _ in range(3):
                client = await RawClient.connect(address)
                client.transport.write(client_frame(b"", 0x89) * 20_000)
                client.transport.close()
                await asyncio.sleep(0.1)

    with caplog.at_level(logging.WARNING):
        run(session())
    assert len(caplog.records) <= 3


def test_a_server_that_is_killed_revives_no_older_states(tmp_path: Path) -> None:
    """The file was read again, and clients continued from a state that they had left behind."""
    states, x = tmp_path / "x.streams", np.ones(3, np.float32)

    async def first() -> str:
        async with serving(model(), states=states) as (_, address):
            client = await RawClient.connect(address)
            await client.step(x)
            return str(client.hello["id"])

    async def killed(key: str) -> None:
        async with serving(model(), states=states) as (service, address):
            client = await RawClient.connect(address, f"/stream?id={key}")
            assert client.hello["position"] == 1
            await client.step(x)
            service._states = None  # a killed server writes nothing

    async def third(key: str) -> None:
        async with serving(model(), states=states) as (_, address):
            with pytest.raises(ConnectionError, match="404"):
                await RawClient.connect(address, f"/stream?id={key}")

    key = run(first())
    run(killed(key))
    run(third(key))


@pytest.mark.parametrize("as_json", [False, True])
def test_an_empty_message_asks_for_the_last_steps(as_json: bool) -> None:
    """The last steps of a model that looks ahead could not be had."""
    source, x = detector(5), normal(np.random.default_rng(0), 2, 11, 5)
    stream, empty = source.stream(), client_frame(b"", 0x81 if as_json else 0x82)

    async def session() -> None:
        async with serving(source) as (_, address):
            client = await RawClient.connect(address)
            for block in x:  # another sequence begins after the end
                await client.step(block)
                stream(block)
                client.transport.write(empty)
                _, payload = await client.receive()
                (y,) = json.loads(payload).values() if as_json else [np.frombuffer(payload, np.float32)]
                np.testing.assert_array_equal(np.ravel(np.array(y, np.float32)), np.ravel(stream.finish()))
                stream.reset()

    run(session())


def attack(random: random.Random) -> tuple[bytes, bool]:
    """Random bytes for a new connection, and whether it is dropped at once instead of being read."""
    upgrade = (
        b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    size = random.choice([0, 1, 12, 24, 125, 126, 70_000, 600_000])
    body = random.choice(
        [
            *HUGE.values(), b"", b"[1, 2, 3]", b'{"x": [[1, 2, 3]]}', b'{"sequences": [[[1, 2, 3]]]}',
            bytes(size), random.randbytes(size), b"[" + b"[1,2,3]," * (size // 8) + b"[1,2,3]]",
        ]
    )  # fmt: skip
    if random.random() < 0.5:
        frames = b"".join(
            client_frame(part, random.choice([0x81, 0x82, 0x01, 0x02, 0x80, 0x88, 0x89, 0xF1]))
            for part in [body[: len(body) // 2], body, body[:12]][: random.randint(1, 3)]
        )
        data = upgrade + frames
    else:
        kind = random.choice(["application/json", "application/octet-stream", "text/plain"])
        data = post(body, kind, length=random.choice([len(body), len(body) + 9, 1 << 40, 0]))
    for _ in range(random.choice([0, 0, 1, 3])):  # damage
        place = random.randrange(len(data))
        data = data[:place] + random.randbytes(random.randint(0, 3)) + data[place + random.randint(0, 2) :]
    return data[: random.choice([len(data), len(data), random.randrange(len(data))])], random.random() < 0.3


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="reads the memory of the process from /proc"
)
def test_random_clients_neither_fill_the_memory_nor_delay_or_confuse_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    async def client(address: str, seed: int) -> bytes:
        data, vanishes = attack(random.Random(seed))
        reader, writer = await opened(address, data)
        answer = b""
        try:
            if vanishes:
                writer.transport.abort()
            else:
                async with asyncio.timeout(0.8):
                    answer = await reader.read()
        except (TimeoutError, ConnectionError):
            answer = b""
        finally:
            writer.close()
        return answer

    async def session() -> set[bytes]:
        cases, statuses, before = Cases(), set[bytes](), resident()
        limits = Limits(request=0.5)
        async with serving(model(), limits=limits, keep=0) as (_, address), Witness(address) as witness:
            for first in range(0, random_cases(60), 20):
                seeds = range(first, first + 20)
                for answer in await asyncio.gather(*(client(address, seed) for seed in seeds)):
                    with cases.new() as case:
                        if not answer:
                            case.skip()
                        statuses.add(answer[9:12])
            assert witness.worst < 5  # on a busy machine, which also runs the clients
            assert resident() - before < 300 * MEGABYTE
        cases.check()
        return statuses

    with caplog.at_level(logging.ERROR):
        found = run(session(), 600)
    assert not caplog.records, caplog.text
    assert {b"101", b"200", b"422"} <= found and b"500" not in found
