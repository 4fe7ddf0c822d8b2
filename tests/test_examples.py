"""Run the examples and check what they do."""

import asyncio
import importlib.util
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

import onward
from onward import bundled

SERVER = Path(__file__).parents[1] / "examples" / "server.py"


def example(name: str) -> Any:
    """Import an example as a module."""
    path = Path(__file__).parents[1] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_textbook_example_learns(capsys: pytest.CaptureFixture[str]) -> None:
    assert example("textbook_training").train(epochs=6, units=16) > 0.6
    assert "epoch 6: loss 0." in capsys.readouterr().out


def test_scikit_learn_example_recognizes_speakers(capsys: pytest.CaptureFixture[str]) -> None:
    assert example("sklearn_classifier").main(epochs=10) > 0.8
    assert "best parameters: {'cell': " in capsys.readouterr().out


@pytest.fixture(scope="module")
def server() -> Any:
    return example("server")


def small_model() -> onward.Sequential:
    return onward.Sequential(onward.LSTM(3, 7, rng=0), onward.Linear(7, 2, rng=1))


def token_model() -> onward.Sequential:
    return onward.Sequential(onward.Embedding(9, 5, rng=0), onward.GRU(5, 7, rng=1), onward.Softmax())


@pytest.mark.parametrize(
    ("make", "period"),
    [(small_model, 0), (small_model, 0.02), (token_model, 0), (lambda: onward.GRU(3, 7, dtype="float64"), 0)],
    ids=["features", "period", "tokens", "layer"],
)
def test_clients_of_the_server_get_the_answers_of_single_streams(
    server: Any, make: Any, period: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make().save(tmp_path / "model.safetensors")
    model = server.load_model(str(tmp_path / "model.safetensors"))
    asyncio.run(asyncio.wait_for(server.run_clients(model, clients=50, steps=5, period=period), 60))
    printed = capsys.readouterr().out
    assert printed.startswith("50 clients, 5 steps each: 50 got bitwise the answers of a single stream")
    assert "steps per second" in printed and "(p99)" in printed


@pytest.mark.parametrize("name", bundled.models())
def test_server_runs_every_bundled_model_from_the_command_line(name: str) -> None:
    command = [sys.executable, SERVER, name, "--clients", "5", "--steps", "3"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.startswith("5 clients, 3 steps each: 5 got bitwise"), result.stderr
    assert (result.returncode, result.stderr) == (0, "")


def test_interrupted_server_exits_without_a_traceback() -> None:
    command = [sys.executable, SERVER, "vowels", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(re.findall(r"ws://127.0.0.1:(\d+)", process.stdout.readline())[0])

        async def session() -> None:
            with socket.create_connection(("127.0.0.1", port)) as scanner:
                scanner.sendall(b"not a handshake\r\n\r\n")
            async with connect(f"ws://127.0.0.1:{port}") as connection:
                await connection.send(np.ones(12, np.float32).tobytes())
                assert len(await connection.recv()) == 4 * 9
                process.send_signal(signal.SIGINT)  # with an open connection
                with pytest.raises(ConnectionClosed):
                    await connection.recv()

        asyncio.run(asyncio.wait_for(session(), 30))
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "stopped\n")
    assert "Traceback" not in errors and len(errors.splitlines()) <= 1


def test_server_reports_a_model_that_it_cannot_serve_in_one_line(tmp_path: Path) -> None:
    onward.LSTM(3, 4, bidirectional=True).save(tmp_path / "both.safetensors")
    for name, message in (
        ("nope", "nope does not exist"),
        (str(tmp_path / "both.safetensors"), "cannot stream"),
    ):
        command = [sys.executable, SERVER, name]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 2 and "Traceback" not in result.stderr
        assert message in result.stderr.splitlines()[-1]


def test_invalid_message_or_a_client_that_leaves_ends_one_stream_only(server: Any) -> None:
    model, x = small_model(), np.ones((4, 3), np.float32)

    async def session() -> list[Any]:
        serving = server.Server(model)
        async with serving.running(0) as port:
            uri = f"ws://127.0.0.1:{port}"
            async with connect(uri) as staying, connect(uri) as wrong, connect(uri) as leaving:
                await leaving.send(x[0].tobytes())
                await leaving.close()
                await wrong.send(b"12345")
                with pytest.raises(ConnectionClosedError, match="a message must hold 3 float32 as bytes"):
                    await wrong.recv()
                answers = []
                for x_t in x:
                    await staying.send(x_t.tobytes())
                    answers.append(np.frombuffer(await staying.recv(), np.float32))
                while len(serving.pool) > 1:  # until the server has closed the other streams
                    await asyncio.sleep(0.01)
        return answers

    np.testing.assert_array_equal(asyncio.run(asyncio.wait_for(session(), 10)), model(x))


def test_step_that_the_model_rejects_closes_its_own_connection_only(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model, tokens = token_model(), np.array([3, 8], np.int32)

    async def session() -> list[Any]:
        serving = server.Server(model)
        async with serving.running(0) as port:
            uri = f"ws://127.0.0.1:{port}"
            async with connect(uri) as good, connect(uri) as bad:
                answers = []
                for token in tokens:
                    await good.send(token.tobytes())
                    if len(answers) == 1:  # in the same pass
                        await bad.send(np.int32(9).tobytes())
                        with pytest.raises(ConnectionClosedError, match=r"expected 0 to 8"):
                            await bad.recv()
                    answers.append(np.frombuffer(await good.recv(), np.float32))
                while len(serving.pool) > 1:  # until the server has closed the other streams
                    await asyncio.sleep(0.01)
        return answers

    answers = asyncio.run(asyncio.wait_for(session(), 10))
    np.testing.assert_array_equal(answers, model(tokens))
    assert not caplog.records
