"""Compare `onward serve` with onnxruntime behind the same Starlette and uvicorn, under live streams.

    python bench/serve.py --cases DIR [--model silero] [--streams 100 200 400 ...]

DIR holds the trained models of tests/real. Each stream sends a message every 32 ms, as a microphone does.
The server has one core and one thread, the clients another core. A row is one number of streams: the
latency of the answers, and the processor time of the server for each message, from which follow the streams
that one core carries. The peer is a straightforward server: one session call for each message, with the
state fed back by hand.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import report

import onward

PERIOD = 0.032  # seconds between the messages of a stream
SECONDS, WARM_UP = 4.0, 1.5
MASK = b"\x12\x34\x56\x78"
HANDSHAKE = (
    b"GET /stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Result(NamedTuple):
    """Latency in seconds, processor time of the server for each message, and messages that were not sent."""

    p50: float
    p99: float
    cpu: float
    late: int


class Stream:
    """A client: a socket and the times of the messages that are unanswered."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(HANDSHAKE)
        data = b""
        while not data.endswith(b"}"):  # the answer to the handshake, and the first message, which is JSON
            data += self.socket.recv(1 << 16)
        self.socket.setblocking(False)
        self.sent: deque[float] = deque()
        self.received = 0  # bytes of answers


def measure(port: int, server: int, streams: int, size: int, answer: int) -> Result:
    """Run live streams whose messages have `size` floats and whose answers have `answer` bytes."""
    clients, poll = [Stream(port) for _ in range(streams)], select.epoll()
    for client in clients:
        poll.register(client.socket, select.EPOLLIN)
    by_file = {client.socket.fileno(): client for client in clients}
    rng = np.random.default_rng(0)
    frames = [client_frame(rng.normal(0, 0.1, size).astype(np.float32).tobytes()) for _ in range(64)]
    latencies: list[float] = []
    late = number = 0
    start = time.perf_counter()
    begin, end = start + WARM_UP, start + WARM_UP + SECONDS
    cpu_start, counted = 0.0, False
    while (now := time.perf_counter()) < end:
        if now > begin and not counted:
            counted, cpu_start, late = True, processor_seconds(server), 0
            latencies.clear()
        while (due := start + number * PERIOD / streams) <= now:
            client = clients[number % streams]
            if len(client.sent) < 4:
                client.socket.send(frames[number % len(frames)])
                client.sent.append(max(due, now - PERIOD))
            else:
                late += 1
            number += 1
        for file, _ in poll.poll(max(0.0, due - now)):
            client = by_file[file]
            client.received += len(client.socket.recv(1 << 16))
            arrived = time.perf_counter()
            while client.received >= answer:
                client.received -= answer
                latencies.append(arrived - client.sent.popleft())
    cpu = processor_seconds(server) - cpu_start
    for client in clients:
        client.socket.close()
    p50, p99 = np.percentile(latencies, (50, 99))
    return Result(p50, p99, cpu / len(latencies), late)


def client_frame(payload: bytes) -> bytes:
    masked = np.frombuffer(payload, np.uint32) ^ np.frombuffer(MASK, np.uint32)
    length = len(payload).to_bytes(2, "big")
    start = b"\x82\xfe" + length if len(payload) > 125 else bytes([0x82, 0x80 | len(payload)])
    return start + MASK + masked.tobytes()


def processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(command: list[str]) -> Iterator[tuple[int, int]]:
    """Run a server on the first core; yields its port and its process."""
    environment = {**os.environ, "ONWARD_NUM_THREADS": "1"}
    with subprocess.Popen(
        ["taskset", "-c", "0", *command], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield int(line.partition("127.0.0.1:")[2].partition("/")[0]), process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def peer(model: str, kind: str) -> None:
    """The straightforward server: one onnxruntime call for each message."""
    import onnxruntime
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options)
    x, h, c = (each.name for each in session.get_inputs())
    shape = (1, 576) if kind == "silero" else (1, 1, 128)

    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("{}")
        state = [np.zeros((1, 1, 128), np.float32)] * 2
        try:
            while True:
                block = np.frombuffer(await websocket.receive_bytes(), np.float32).reshape(shape)
                y, *state = session.run(None, {x: block, h: state[0], c: state[1]})
                await websocket.send_bytes(y.tobytes())
        except WebSocketDisconnect:
            pass

    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
    app = Starlette(routes=[WebSocketRoute("/stream", stream)])
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listening])


def compare(measured: report.Report, kind: str, model: Path, streams: list[int]) -> None:
    size, answer = (576, 2 + 4) if kind == "silero" else (128, 4 + 512)
    commands = {
        "Onward": [sys.executable, "-m", "onward", "serve", str(model), "--port", "0", "--keep", "0"],
        "onnxruntime": [sys.executable, __file__, "--peer", str(model), "--model", kind],
    }
    for name, command in commands.items():
        with serving(command) as (port, process):
            for n in streams:
                found = measure(port, process, n, size, answer)
                milliseconds = {"p50": 1e3 * found.p50, "p99": 1e3 * found.p99}
                cost = {"cpu": 1e6 * found.cpu, "per_core": PERIOD / found.cpu}
                measured.add("streams", model=kind, server=name, streams=n, **milliseconds, **cost)
                if found.late > 0.5 * n * SECONDS / PERIOD:
                    break


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--cases", type=Path, help="the folder of the trained models")
    parser.add_argument("--model", choices=["silero", "lstm"], help="one model only")
    parser.add_argument("--streams", type=int, nargs="+", default=[50, 100, 200, 400, 600, 800, 1200])
    parser.add_argument("--peer", help="serve MODEL with onnxruntime")
    arguments = parser.parse_args()
    if arguments.peer:
        peer(arguments.peer, arguments.model)
        return
    os.sched_setaffinity(0, {os.cpu_count() - 1})
    measured = report.Report(arguments, ["onnxruntime", "starlette", "uvicorn"])
    streams = arguments.streams[:2] if arguments.quick else arguments.streams
    with tempfile.TemporaryDirectory() as folder:
        lstm = Path(folder) / "lstm.onnx"
        onward.export_onnx(onward.LSTM(128, 128, rng=0), lstm)
        models = {"lstm": lstm}
        if arguments.cases:
            models["silero"] = arguments.cases / "silero_v6" / "silero_vad_v6.onnx"
        for kind, model in models.items():
            if arguments.model in (None, kind):
                compare(measured, kind, model, streams)


if __name__ == "__main__":
    main()
