"""A server that stops finishes its tick and saves its streams; the next one resumes them."""

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.sequence_graphs import detector, normal, stepper
from support.serving import RawClient, mixer, serving, unbatched

import onward
from onward.errors import FileError
from onward.serve.service import Service
from onward.serve.steps import steps_of


async def drain(client: RawClient) -> tuple[list[bytes], tuple[int, str]]:
    """Return all answers up to the close frame, and its status and reason."""
    answers = []
    while True:
        opcode, payload = await client.receive()
        if opcode == 8:
            client.transport.close()
            return answers, (int.from_bytes(payload[:2], "big"), payload[2:].decode())
        answers.append(payload)


@pytest.mark.parametrize(
    ("model", "options", "features"),
    [
        (onward.LSTM(3, 7, rng=0), {}, 3),
        (stepper(), {"rate": 1}, 4),
        (detector(5), {}, 5),
        (unbatched(), {}, 5),
        (mixer(), {}, 4),
    ],
    ids=["layers", "named carries", "sequence", "no batch", "combined rows"],
)
def test_stop_in_the_middle_of_a_tick_answers_it_and_keeps_the_streams(
    model: Any, options: dict[str, Any], features: int, tmp_path: Path
) -> None:
    clients, x = 5, normal(np.random.default_rng(0), 6, 5, features)
    states = tmp_path / "x.streams"

    async def first() -> tuple[list[str], list[list[bytes]]]:
        async with serving(model, options, states=states) as (service, address):
            connections = [await RawClient.connect(address) for _ in range(clients)]
            answers = [[(await c.step(x[0, i])).tobytes()] for i, c in enumerate(connections)]
            step = service.steps.step

            def slow(*arguments: Any) -> Any:
                time.sleep(0.2)
                return step(*arguments)

            service.steps.step = slow  # type: ignore[method-assign]
            service.ticker._seconds_per_row = 1.0  # in a thread
            for i, connection in enumerate(connections):
                connection.send(x[1, i].tobytes())
                connection.send(x[2, i].tobytes())
            await asyncio.sleep(0.1)
            assert service.ticker.lock.locked()
            draining = [asyncio.create_task(drain(connection)) for connection in connections]
        for collected, drained in zip(answers, draining, strict=True):
            rest, (status, reason) = await drained
            collected += rest
            assert status == 1012 and "resume the stream by its id" in reason
        return [connection.hello["id"] for connection in connections], answers

    async def second(ids: list[str], answers: list[list[bytes]]) -> None:
        async with serving(model, options, states=states) as (_, address):
            for i, (key, collected) in enumerate(zip(ids, answers, strict=True)):
                client = await RawClient.connect(address, f"/stream?id={key}")
                assert client.hello["position"] == len(collected) == 3
                for x_t in x[3:]:
                    collected.append((await client.step(x_t[i])).tobytes())
                stream = model.stream(**options)
                rows = x[:, i] if features == 3 else x[:, i, None]  # as a step, or as a block or batch of one
                if features == 5:
                    assert b"".join(collected) == np.concatenate([stream(row) for row in rows]).tobytes()
                else:
                    assert collected == [stream(row).tobytes() for row in rows]

    ids, answers = asyncio.run(asyncio.wait_for(first(), 30))
    asyncio.run(asyncio.wait_for(second(ids, answers), 30))


def test_streams_that_expired_while_the_server_was_down_are_closed(tmp_path: Path) -> None:
    model = onward.LSTM(3, 7, rng=0)
    service = Service("m", steps_of(model, {}), keep=0.2, states=tmp_path / "s")
    asyncio.run(_stopped(service))
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600  # the ids are secret
    assert len(Service("m", steps_of(model, {}), keep=0.2, states=tmp_path / "s").sessions) == 1
    time.sleep(0.3)
    late = Service("m", steps_of(model, {}), keep=0.2, states=tmp_path / "s")
    assert (len(late.sessions), len(late.steps.pool)) == (0, 0)


async def _stopped(service: Service) -> None:
    nobody: Any = None
    service.sessions.detach(service.sessions.attach(None, nobody), nobody)
    service.start()
    await service.stop()


def test_states_of_another_model_are_refused(tmp_path: Path) -> None:
    asyncio.run(_stopped(Service("m", steps_of(onward.LSTM(3, 7), {}), states=tmp_path / "s")))
    with pytest.raises(FileError, match="the state of"):
        Service("m", steps_of(onward.LSTM(3, 8), {}), states=tmp_path / "s")
    onward.LSTM(3, 7).pool(1).save(tmp_path / "pool")
    with pytest.raises(FileError, match="was not written by `onward serve`"):
        Service("m", steps_of(onward.LSTM(3, 7), {}), states=tmp_path / "pool")


@contextmanager
def command(*arguments: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `onward serve` in a folder; yields the process and host:port."""
    words = [sys.executable, "-m", "onward", "serve", *arguments]
    options: Any = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # the children of a background process start with SIGINT ignored
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(words, **options) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            found = re.match(r"http://([\d.:]+)/", line)
            assert found, process.stderr.read()
            yield process, found[1]
        finally:
            process.kill()


def test_sigterm_saves_the_streams_for_the_next_start(tmp_path: Path) -> None:
    onward.GRU(3, 7, rng=0).save(tmp_path / "model.safetensors")
    x = normal(np.random.default_rng(0), 40, 3)

    async def first(process: subprocess.Popen[str], address: str) -> tuple[str, list[bytes]]:
        client = await RawClient.connect(address)
        for x_t in x[:20]:
            client.send(x_t.tobytes())
        await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        answers, (status, _) = await drain(client)
        assert status == 1012
        await RawClient.close_all()
        return client.hello["id"], answers

    async def second(address: str, key: str, answers: list[bytes]) -> None:
        client = await RawClient.connect(address, f"/stream?id={key}")
        assert client.hello["position"] == len(answers)
        for x_t in x[len(answers) :]:
            answers.append((await client.step(x_t)).tobytes())
        await RawClient.close_all()

    options = ("model.safetensors", "--port", "0", "--tick", "1ms", "--state", "kept")
    with command(*options, folder=tmp_path) as (process, address):
        key, answers = asyncio.run(asyncio.wait_for(first(process, address), 30))
        _, errors = process.communicate(timeout=30)
        assert "Traceback" not in errors
    with command(*options, folder=tmp_path) as (process, address):
        asyncio.run(asyncio.wait_for(second(address, key, answers), 30))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (130, "")
    y, _ = onward.load(tmp_path / "model.safetensors")(x)
    assert answers == [row.tobytes() for row in y]
