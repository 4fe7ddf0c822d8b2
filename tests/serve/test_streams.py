"""Streams over WebSockets: answers have the bits of the model on its own, whatever other clients do."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest
from support.sequence_graphs import detector, normal, stepper
from support.serving import RawClient, client_frame, mixer, serving, unbatched
from websockets.asyncio.client import connect

import onward
from onward.graph import Graph, Input
from onward.model import Model
from onward.serve.app import raise_file_limit
from onward.serve.service import Limits, Service


def small_model() -> onward.Sequential:
    return onward.Sequential(onward.LSTM(3, 7, rng=0), onward.Linear(7, 2, rng=1))


def token_model() -> onward.Sequential:
    return onward.Sequential(onward.Embedding(9, 5, rng=0), onward.GRU(5, 7, rng=1), onward.Softmax())


def run(session: Coroutine[Any, Any, Any], seconds: float = 60) -> Any:
    return asyncio.run(asyncio.wait_for(session, seconds))


def test_two_thousand_clients_get_the_bits_of_the_model() -> None:
    model, clients, steps = onward.LSTM(12, 33, rng=0), 2000, 3
    x = normal(np.random.default_rng(0), steps, clients, 12)
    raise_file_limit()

    async def client(address: str, i: int, everyone: asyncio.Barrier) -> list[np.ndarray]:
        connection = await RawClient.connect(address)
        await everyone.wait()
        answers = [await connection.step(x_t[i]) for x_t in x]
        connection.vanish()
        return answers

    async def session() -> tuple[list[list[np.ndarray]], Service]:
        async with serving(model) as (service, address):
            everyone = asyncio.Barrier(clients)
            answers = await asyncio.gather(*(client(address, i, everyone) for i in range(clients)))
            return answers, service

    answers, service = run(session())
    np.testing.assert_array_equal(np.swapaxes(answers, 0, 1), model(x)[0])
    assert service.metrics.messages == clients * steps
    calls = int(service.metrics.step.count)
    assert calls < clients * steps / 20  # messages ran together


@pytest.mark.parametrize(
    ("model", "options", "shape"),
    [
        (small_model(), {}, (3,)),
        (onward.GRU(3, 7, dtype="float64"), {}, (3,)),
        (token_model(), {}, ()),
        (stepper(), {"rate": 2}, (4,)),
        (detector(5), {}, (5,)),
        (unbatched(), {}, (5,)),
        (mixer(), {}, (1, 4)),
    ],
    ids=[
        "layers",
        "float64",
        "tokens",
        "named carries",
        "sequence with a stride",
        "no batch",
        "combined rows",
    ],
)
def test_models_of_every_kind_stream_blocks_of_any_length(
    model: Any, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)

    async def session() -> None:
        async with serving(model, options) as (service, address):
            (port,) = service.steps.inputs.ports
            assert port.shape == shape
            clients = [await RawClient.connect(address) for _ in range(3)]
            streams = [model.stream(**options) for _ in clients]
            for length in (1, 2, 5, 1, 1, 3):
                for client, stream in zip(clients, streams, strict=True):
                    x = rng.integers(0, 9, length) if not shape else rng.normal(size=(length, *shape))
                    x = x.astype(port.dtype)
                    if 4 in shape:  # takes one step with its batch axis per call
                        expected = [stream(row) for row in x.reshape(-1, 1, 4)]
                    else:
                        expected = stream(x)
                    y = await client.step(x, dtype=getattr(model, "dtype", np.float32))
                    np.testing.assert_array_equal(y, np.ravel(expected))

    run(session())


def test_clients_of_websockets_send_json_and_fragments() -> None:
    model, x = small_model(), normal(np.random.default_rng(0), 4, 3)
    expected, stream = [], model.stream()
    expected = [stream(x_t) for x_t in x]

    async def session() -> None:
        async with serving(model) as (_, address), connect(f"ws://{address}/stream") as client:
            assert json.loads(await client.recv())["inputs"] == [
                {"name": "x", "shape": [3], "dtype": "float32"}
            ]
            await client.send(json.dumps(x[0].tolist()))
            assert json.loads(await client.recv()) == {"y": expected[0].tolist()}
            await client.send(json.dumps({"x": x[1:3].tolist()}))
            assert json.loads(await client.recv()) == {"y": np.array(expected[1:3]).tolist()}
            await client.send([x[3].tobytes()[:5], x[3].tobytes()[5:]])
            assert await client.recv() == expected[3].tobytes()
            await (await client.ping())

    run(session())


@pytest.mark.parametrize("seed", range(5))
def test_messages_arrive_whole_however_the_bytes_are_split(seed: int) -> None:
    rng, model, data, lengths = np.random.default_rng(seed), small_model(), b"", []
    x = normal(rng, 20_000, 3)
    for length in (1, 10, 11, 5461, 5462, *rng.integers(1, 30, 20).tolist()):  # 120 to 65,544 bytes
        start = sum(lengths)
        payload = x[start : start + length].tobytes()
        cuts = sorted(rng.integers(0, len(payload) + 1, rng.integers(3)))
        parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for i, part in enumerate(parts):
            is_last = i == len(parts) - 1
            data += client_frame(part, (0x80 if is_last else 0) | (2 if i == 0 else 0))
            if not is_last:  # a ping between the fragments
                data += client_frame(b"?", 0x89)
        lengths.append(length)

    async def session() -> list[np.ndarray]:
        async with serving(model, tick=0) as (_, address):
            client, answers = await RawClient.connect(address), []
            places = sorted(rng.integers(0, len(data), 60))
            for start, end in zip([0, *places], [*places, len(data)], strict=True):
                client.transport.write(data[start:end])
                await asyncio.sleep(0.001)
            while len(answers) < len(lengths):
                opcode, payload = await client.receive()
                if opcode == 2:
                    answers.append(np.frombuffer(payload, np.float32))
                else:
                    assert (opcode, payload) == (10, b"?")
            return answers

    answers = run(session())
    assert [len(answer) for answer in answers] == [2 * length for length in lengths]
    np.testing.assert_array_equal(np.concatenate(answers), model(x[: sum(lengths)]).ravel())


def test_random_bytes_close_their_own_connection_only() -> None:
    rng, model, x = np.random.default_rng(0), small_model(), normal(np.random.default_rng(1), 40, 3)

    async def session() -> list[np.ndarray]:
        async with serving(model, tick=0, limits=Limits(message=1000)) as (_, address):
            good, answers = await RawClient.connect(address), []
            for x_t in x:
                bad = await RawClient.connect(address)
                for _ in range(30):
                    bad.transport.write(rng.bytes(rng.integers(1, 40)))
                answers.append(await good.step(x_t))
                assert (await bad.closed())[0] in (1002, 1007, 1009)
            return answers

    np.testing.assert_array_equal(run(session()), model(x))


def test_pings_of_a_client_that_reads_nothing_fill_no_memory() -> None:
    async def session() -> None:
        async with serving(small_model()) as (service, address):
            client = await RawClient.connect(address)
            client.transport.pause_reading()
            (connection,) = service.connections
            while connection._transport.is_reading():
                if client.transport.get_write_buffer_size() < 1_000_000:
                    client.transport.write(client_frame(bytes(125), 0x89) * 1000)
                await asyncio.sleep(0)
            assert connection._transport.get_write_buffer_size() < 1_000_000

    run(session())


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (client_frame(b"1234", masked=False), 1002, "incorrect masking"),
        (client_frame(b"1234", 0xC2), 1002, "reserved bits"),  # as of compression
        (client_frame(b"1234", 0x80), 1002, "unexpected continuation"),  # of nothing
        (client_frame(bytes(2000)), 1009, "2000"),
        (client_frame(bytes(600), 0x02) + client_frame(bytes(401), 0x80), 1009, "401"),
        (b"\x82\xff\x7f" + b"\xff" * 7, 1009, "9223372036854775807"),  # bytes, of which none have arrived
        (client_frame(b"12345"), 1007, "a multiple of 12: x [3] float32"),
        (client_frame(b"{", 0x81), 1007, "expected JSON"),
        (client_frame(b"\xff\xfe", 0x81), 1007, "expected JSON"),
        (client_frame(b'{"y": 1}', 0x81), 1007, "the keys x"),
    ],
    ids=[
        "unmasked",
        "compressed",
        "continuation",
        "too large",
        "fragments",
        "announced",
        "size",
        "not JSON",
        "not UTF-8",
        "names",
    ],
)
def test_faulty_messages_close_their_own_connection_only(data: bytes, code: int, reason: str) -> None:
    model, x = small_model(), normal(np.random.default_rng(0), 4, 3)

    async def session() -> list[np.ndarray]:
        async with serving(model, limits=Limits(message=1000)) as (service, address):
            good, bad = await RawClient.connect(address), await RawClient.connect(address)
            answers = [await good.step(x[0])]
            bad.transport.write(data)
            status, text = await bad.closed()
            assert status == code and reason in text
            answers += [await good.step(x_t) for x_t in x[1:]]
            assert service.metrics.closed == {code: 1}
            return answers

    np.testing.assert_array_equal(run(session()), model(x))


def test_a_step_that_the_model_rejects_changes_no_other_stream() -> None:
    model, tokens = token_model(), np.random.default_rng(0).integers(0, 9, (6, 3), np.int32)

    async def session() -> None:
        async with serving(model, tick=0.05) as (_, address):
            clients = [await RawClient.connect(address) for _ in range(4)]
            bad = clients.pop()
            for rows in (tokens[:1], tokens[1:3], tokens[3:]):
                if len(rows) == 2:  # in the same tick; its first step is valid
                    bad.send(np.array([3, 9], np.int32).tobytes())
                answers = await asyncio.gather(
                    *(client.step(np.ascontiguousarray(rows[:, i])) for i, client in enumerate(clients))
                )
                if len(rows) == 2:
                    assert (await bad.closed())[0] == 1007
                    resumed = await RawClient.connect(address, f"/stream?id={bad.hello['id']}")
                    assert resumed.hello["position"] == 0
                    first = await resumed.step(np.array([3], np.int32))
                    np.testing.assert_array_equal(first, model(np.array([3])).ravel())
            for i, y in enumerate(answers):
                np.testing.assert_array_equal(y.reshape(3, 7), model(tokens[:, i])[3:])

    run(session())


def test_states_that_are_inputs_survive_a_rejected_block_and_end_with_an_empty_message() -> None:
    graph, rng = Graph(), np.random.default_rng(0)
    x = graph.add_input("x", np.dtype(np.int32), ("batch",))
    h = graph.add_input("h", np.dtype(np.float32), ("batch", 4))
    table = normal(rng, 9, 4)
    after = graph.add("Tanh", graph.add("Add", graph.add("Gather", graph.add_constant(table), x), h))
    graph.outputs = (graph.add("Identity", after), after)
    graph.declared_outputs = tuple(Input(name, np.dtype(np.float32), ("batch", 4)) for name in ("y", "hn"))
    first = np.tanh(table[3])
    second = np.tanh(table[5] + first)

    async def session() -> None:
        async with serving(Model(graph), {"carry": {"h": "hn"}}) as (_, address):
            client = await RawClient.connect(address)
            np.testing.assert_allclose(await client.step(np.array([3], np.int32)), first, rtol=1e-6)
            client.send(np.array([2, 9], np.int32).tobytes())  # the first of its two steps is valid
            assert (await client.closed())[0] == 1007
            client = await RawClient.connect(address, f"/stream?id={client.hello['id']}")
            assert client.hello["position"] == 1
            np.testing.assert_allclose(await client.step(np.array([5], np.int32)), second, rtol=1e-6)
            assert len(await client.step()) == 0
            np.testing.assert_allclose(await client.step(np.array([3], np.int32)), first, rtol=1e-6)

    run(session())


def test_a_slow_reader_is_not_read_from_and_delays_nobody() -> None:
    model = onward.Sequential(onward.RNN(3, 7, rng=0), onward.Linear(7, 512, rng=1))
    x = normal(np.random.default_rng(0), 40, 200, 3)  # each answer has 400 kB
    limits = Limits(queue=4)

    async def session() -> None:
        async with serving(model, limits=limits) as (service, address):
            slow, fast = await RawClient.connect(address), await RawClient.connect(address)
            slow.transport.pause_reading()
            for block in x:
                slow.send(block.tobytes())
            (connection,) = [each for each in service.connections if each.session.key == slow.hello["id"]]
            while connection._is_writing or connection._transport.is_reading():
                assert len(await fast.step(x[0, 0])) == 512
            assert len(connection._queue) <= limits.queue and connection.session.position < len(x) / 2
            assert connection._transport.get_write_buffer_size() < 1_000_000
            slow.transport.resume_reading()
            stream = model.stream()
            for block in x:
                opcode, answer = await slow.receive()
                assert opcode == 2 and answer == stream(block).tobytes()

    run(session())


def test_many_small_messages_in_one_packet_are_answered_in_order() -> None:
    model, x = small_model(), normal(np.random.default_rng(0), 300, 3)

    async def session() -> list[np.ndarray]:
        async with serving(model, tick=0) as (_, address):
            client = await RawClient.connect(address)
            client.transport.write(b"".join([client_frame(x_t.tobytes()) for x_t in x]))
            return [np.frombuffer((await client.receive())[1], np.float32) for _ in x]

    np.testing.assert_array_equal(run(session()), model(x))


def test_streams_of_clients_that_vanish_are_kept_and_then_closed() -> None:
    model, x = small_model(), normal(np.random.default_rng(0), 4, 3)

    async def session() -> None:
        async with serving(model) as (service, address):
            client = await RawClient.connect(address)
            first = await client.step(x[0])
            client.vanish()
            again = await RawClient.connect(address, f"/stream?id={client.hello['id']}")
            assert (again.hello["id"], again.hello["position"]) == (client.hello["id"], 1)
            np.testing.assert_array_equal([first, await again.step(x[1])], model(x[:2]))
            thief = await RawClient.connect(address, f"/stream?id={client.hello['id']}")
            assert await again.closed() == (1008, "another connection has resumed this stream")
            np.testing.assert_array_equal(await thief.step(x[2]), model(x)[2])
            thief.send(x[3].tobytes())  # in the middle of a step
            thief.vanish()
            service.sessions._keep = 0.1
            while len(service.sessions):
                await asyncio.sleep(0.05)
            assert len(service.steps.pool) == 0
            with pytest.raises(ConnectionError, match="404 Not Found"):
                await RawClient.connect(address, f"/stream?id={client.hello['id']}")

    run(session())


def test_only_so_many_streams_are_kept() -> None:
    async def session() -> None:
        async with serving(small_model(), limits=Limits(connections=3)) as (service, address):
            clients = [await RawClient.connect(address) for _ in range(3)]
            with pytest.raises(ConnectionError, match="503 Service Unavailable"):
                await RawClient.connect(address)
            for _ in range(2):
                for client in clients:
                    await client.close()
                while service.connections:
                    await asyncio.sleep(0.01)
                clients = [await RawClient.connect(address) for _ in range(3)]
            while service.sessions.kept > 3:
                await asyncio.sleep(0.05)
            assert len(service.steps.pool) == 6
            assert service.metrics.refused == {503: 1}

    run(session())


def test_idle_connections_are_closed_and_can_be_resumed() -> None:
    async def session() -> None:
        async with serving(small_model(), limits=Limits(idle=0.2)) as (service, address):
            client = await RawClient.connect(address)
            assert await client.closed() == (1008, "no message for 0.2 seconds")
            await RawClient.connect(address, f"/stream?id={client.hello['id']}")
            assert service.metrics.connections == 2

    run(session())


def test_a_long_step_runs_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = small_model(), normal(np.random.default_rng(0), 2, 3)

    async def session() -> list[np.ndarray]:
        async with serving(model) as (service, address):
            client = await RawClient.connect(address)
            answers = [await client.step(x[0])]
            service.ticker._seconds_per_row = 1.0  # as if the last step had taken so long
            answers.append(await client.step(x[1]))
            assert service.ticker._thread._threads
            return answers

    np.testing.assert_array_equal(run(session()), model(x))


def test_an_unexpected_error_closes_one_connection_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, x = small_model(), normal(np.random.default_rng(0), 2, 3)

    async def session() -> np.ndarray:
        async with serving(model) as (service, address):
            good, bad = await RawClient.connect(address), await RawClient.connect(address)
            step = service.steps.step

            def failing(ids: list[int], arrays: Any) -> Any:
                if np.isnan(arrays[0]).any():
                    raise ZeroDivisionError
                return step(ids, arrays)

            monkeypatch.setattr(service.steps, "step", failing)
            bad.send(np.full(3, np.nan, np.float32).tobytes())
            answer = await good.step(x[0])
            assert await bad.closed() == (1011, "the server failed to run this message")
            return answer

    np.testing.assert_array_equal(run(session()), model(x)[0])
    assert "ZeroDivisionError" in caplog.text


def test_a_client_that_ignores_the_close_frame_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onward.serve.connection.CLOSE_SECONDS", 0.1)

    async def session() -> None:
        async with serving(small_model()) as (service, address):
            client = await RawClient.connect(address)
            client.send(b"1")
            while service.connections:
                client.send(bytes(12))
                await asyncio.sleep(0.01)

    run(session())
