"""The routes of HTTP: whole sequences, the page, health, metrics and the token."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import numpy as np
import pytest
from support import ROOT
from support.sequence_graphs import detector, normal, stepper
from support.serving import RawClient, mixer, serving, unbatched
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

import onward
from onward.serve.service import Limits, Service

BINARY = {"Content-Type": "application/octet-stream"}


def visit(
    model: Any,
    session: Callable[[httpx.AsyncClient, Service], Coroutine[Any, Any, None]],
    options: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """Run a session with a client of HTTP."""

    async def visited() -> None:
        async with serving(model, options, **settings) as (service, address):
            async with httpx.AsyncClient(base_url=f"http://{address}") as client:
                await session(client, service)

    asyncio.run(asyncio.wait_for(visited(), 60))


@pytest.mark.parametrize(
    ("model", "options", "features"),
    [
        (onward.LSTM(3, 7, rng=0), {}, 3),
        (detector(6), {}, 6),
        (unbatched(), {}, 5),
        (stepper(), {"rate": 1}, 4),
        (mixer(), {}, 4),
    ],
    ids=["layers", "sequence", "no batch", "named carries", "combined rows"],
)
def test_run_scores_whole_sequences(model: Any, options: dict[str, Any], features: int) -> None:
    sequences = [normal(np.random.default_rng(T), T, features) for T in (1, 20, 7)]
    answered = (2, 4) if options else (1, 4)

    def expected(x: np.ndarray) -> np.ndarray:
        if features == 4:
            stream = model.stream(**options)
            return np.stack([stream(x_t[None]) for x_t in x]).reshape(len(x), *answered)
        return model(x[None])[0] if features == 6 else model(x) if features == 5 else model(x)[0]

    async def session(client: httpx.AsyncClient, service: Service) -> None:
        for x in sequences:
            answer = await client.post("/run", content=x.tobytes(), headers=BINARY)
            assert answer.content == expected(x).tobytes()
        (name,) = [port.name for port in service.steps.inputs.ports]
        shape = service.steps.inputs.ports[0].shape
        as_json = [x.reshape(-1, *shape).tolist() for x in sequences]
        answer = await client.post("/run", json={name: as_json[1]})
        assert answer.json() == {"y": expected(sequences[1]).tolist()}
        answer = await client.post("/run", json={"sequences": as_json})
        assert answer.json() == {"sequences": [{"y": expected(x).tolist()} for x in sequences]}

    visit(model, session, options)


def test_faulty_requests_get_errors_as_json() -> None:
    async def session(client: httpx.AsyncClient, service: Service) -> None:
        for content, headers, status, message in (
            (b"{", {}, 422, "expected JSON"),
            (b'{"sequences": [[1]]}', {}, 422, "x has shape (1,)"),
            (b"12345", BINARY, 422, "a multiple of 12"),
            (bytes(2000), BINARY, 413, "a body may have 1200 bytes at most"),
        ):
            answer = await client.post("/run", content=content, headers=headers)
            assert answer.status_code == status
            assert message in answer.json()["error"]
        assert (await client.get("/run")).status_code == 405
        assert (await client.get("/model.safetensors")).status_code == 404

    visit(onward.LSTM(3, 7), session, limits=Limits(body=1200))


def test_the_page_describes_the_model_and_loads_nothing_from_elsewhere() -> None:
    async def session(client: httpx.AsyncClient, service: Service) -> None:
        answer = await client.get("/")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        text = re.findall(r'<script type="application/json" id="description">(.*?)</script>', answer.text)
        assert json.loads(text[0])["inputs"] == [{"name": "x", "shape": [3], "dtype": "float32"}]
        assert not re.findall(r"https?://|@import|src=", answer.text)
        assert "color-scheme: light dark" in answer.text and "width=device-width" in answer.text

    visit(onward.LSTM(3, 7), session)


def test_metrics_are_prometheus_text() -> None:
    async def session(client: httpx.AsyncClient, service: Service) -> None:
        stream = await RawClient.connect(client.base_url.netloc.decode())
        for _ in range(5):
            await stream.step(np.ones(3, np.float32))
        stream.send(b"1")
        await stream.closed()
        await client.post("/run", content=bytes(12), headers=BINARY)
        answer = await client.get("/metrics")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = answer.text.removesuffix("\n").split("\n")
        metrics = {}
        for line in lines:
            found = re.fullmatch(
                r'# (?:HELP \w+ .+|TYPE \w+ (?:gauge|counter|histogram))|(\w+(?:\{\w+="[^"]+"\})?) (\S+)',
                line,
            )
            assert found, line
            if found[1]:
                assert found[1] not in metrics
                metrics[found[1]] = float(found[2])
        assert metrics["onward_messages_total"] == metrics["onward_latency_seconds_count"] == 5
        assert metrics["onward_connections_total"] == metrics["onward_streams"] == 1
        assert metrics['onward_closed_total{status="1007"}'] == metrics["onward_runs_total"] == 1
        buckets = [value for name, value in metrics.items() if name.startswith("onward_latency_seconds_b")]
        assert buckets == sorted(buckets) and buckets[-1] == 5
        assert 0 < metrics["onward_latency_seconds_sum"] < 60

    visit(onward.LSTM(3, 7), session)


def test_the_token_protects_every_route_except_health() -> None:
    token = "a secret é"

    async def session(client: httpx.AsyncClient, service: Service) -> None:
        right = {"Authorization": f"Bearer {token}".encode()}
        for method, path in (("GET", "/"), ("GET", "/metrics"), ("POST", "/run"), ("GET", "/nothing")):
            for headers in ({}, {"Authorization": b"Bearer wrong"}, {"Authorization": b""}):
                assert (await client.request(method, path, headers=headers)).status_code == 401
            assert (await client.request(method, path, headers=right)).status_code != 401
        assert (await client.get("/metrics", params={"token": token})).status_code == 200
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        url = f"ws://{client.base_url.netloc.decode()}/stream"
        for query in ("", "?token=wrong", "?token="):
            with pytest.raises(InvalidStatus, match="401"):
                await connect(url + query)
        async with connect(f"{url}?token={token.replace(' ', '+')}".replace("é", "%C3%A9")) as stream:
            assert "id" in json.loads(await stream.recv())
        assert service.metrics.refused == {401: 3}

    visit(onward.LSTM(3, 7), session, token=token)


def test_pages_of_other_sites_may_not_open_streams() -> None:
    async def session(client: httpx.AsyncClient, service: Service) -> None:
        address = client.base_url.netloc.decode()
        for origin in (f"http://{address}", "https://friend.example", None):
            async with connect(f"ws://{address}/stream", origin=origin) as stream:
                await stream.recv()
        for origin in ("https://evil.example", "null"):
            with pytest.raises(InvalidStatus, match="403"):
                await connect(f"ws://{address}/stream", origin=origin)

    visit(onward.LSTM(3, 7), session, origins=["https://friend.example"])


def test_handshakes_that_are_no_websocket_are_refused() -> None:
    async def session(client: httpx.AsyncClient, service: Service) -> None:
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "k"}
        for path, headers, status in (
            ("/stream", {**upgrade, "Sec-WebSocket-Version": "12"}, 400),
            ("/elsewhere", {**upgrade, "Sec-WebSocket-Version": "13"}, 404),
            ("/stream", {}, 404),
            ("/stream", {**upgrade, "Sec-WebSocket-Version": "13", "Origin": "http://["}, 400),
        ):
            assert (await client.get(path, headers=headers)).status_code == status

    visit(onward.LSTM(3, 7), session)


def code_of_the_page(language: str, address: str) -> str:
    """The client in a language, for a server at an address."""
    page = (ROOT / "docs" / "how_to" / "serve.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    return code.replace("127.0.0.1:8000", address)


def test_the_client_in_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    model = onward.LSTM(12, 7, rng=0)

    async def session(client: httpx.AsyncClient, service: Service) -> None:
        code = code_of_the_page("python", client.base_url.netloc.decode())
        await asyncio.to_thread(exec, compile(code, "serve.md", "exec"), {})

    visit(model, session)
    y, _ = model(np.ones((100, 12), np.float32))
    assert str(y[-1]) in capsys.readouterr().out


def test_the_client_in_javascript_runs() -> None:
    node = [shutil.which("node") or "node", "--experimental-websocket"]
    try:
        subprocess.run([*node, "-e", "new WebSocket('ws://127.0.0.1:1').onerror = () => {}"], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs Node 20.10 or later, which has WebSockets")
    model = onward.LSTM(12, 3, rng=0)

    async def session(client: httpx.AsyncClient, service: Service) -> None:
        code = (
            code_of_the_page("js", client.base_url.netloc.decode()) + "setTimeout(() => stream.close(), 1000)"
        )
        ran = await asyncio.to_thread(
            subprocess.run, [*node, "-e", code], capture_output=True, text=True, check=True
        )
        y, _ = model(np.ones((1, 12), np.float32))
        numbers = re.findall(r"Float32Array\(3\) \[([^]]+)\]", ran.stdout)
        np.testing.assert_array_equal(np.float32(numbers[0].split(",")), y[0])

    visit(model, session)
