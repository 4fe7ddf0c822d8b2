"""Run the examples and check what they do."""

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

import onward


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


def test_scikit_learn_example_recognises_speakers(capsys: pytest.CaptureFixture[str]) -> None:
    assert example("sklearn_classifier").main(epochs=10) > 0.8
    assert "best parameters: {'cell': " in capsys.readouterr().out


@pytest.fixture(scope="module")
def server() -> Any:
    return example("server")


def small_model() -> onward.Sequential:
    return onward.Sequential(onward.LSTM(3, 7, rng=0), onward.Linear(7, 2, rng=1))


@pytest.mark.parametrize("period", [0, 0.02])
def test_each_of_fifty_clients_gets_its_whole_sequence(
    server: Any, period: float, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(server.load(small_model(), features=3, clients=50, steps=5, period=period))
    printed = capsys.readouterr().out
    assert printed.startswith("50 connections, 5 steps each: 50 got bitwise the whole sequence")
    assert "steps a second" in printed and "p99" in printed


def test_wrong_message_or_disconnection_ends_only_that_stream(server: Any) -> None:
    model, x = small_model(), np.ones((4, 3), np.float32)

    async def session() -> list[Any]:
        serving = server.Server(model, 3)
        async with serving.running(0) as port:
            uri = f"ws://127.0.0.1:{port}"
            async with connect(uri) as staying, connect(uri) as wrong, connect(uri) as leaving:
                await leaving.send(x[0].tobytes())
                await leaving.close()
                await wrong.send(b"12345")
                with pytest.raises(ConnectionClosedError, match="a step is 3 float32 numbers"):
                    await wrong.recv()
                answers = []
                for x_t in x:
                    await staying.send(x_t.tobytes())
                    answers.append(np.frombuffer(await staying.recv(), np.float32))
                assert len(serving.pool) == 1
        return answers

    np.testing.assert_array_equal(asyncio.run(session()), model(x))


def test_failed_step_closes_its_connections_but_not_the_server(server: Any) -> None:
    async def session() -> list[int]:
        serving = server.Server(small_model(), 4)  # but the model takes 3
        async with serving.running(0) as port:
            codes = []
            for _ in range(2):
                async with connect(f"ws://127.0.0.1:{port}") as connection:
                    await connection.send(np.ones(4, np.float32).tobytes())
                    with pytest.raises(ConnectionClosedError) as closed:
                        await connection.recv()
                    codes.append(closed.value.rcvd.code)
            assert len(serving.pool) == 0
        return codes

    assert asyncio.run(asyncio.wait_for(session(), 10)) == [1011, 1011]
