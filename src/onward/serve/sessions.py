"""Streams with ids that clients know: kept for a while after a connection ends, and across restarts."""

import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import atomic, storage
from ..errors import ArgumentError, FileError

if TYPE_CHECKING:
    from .connection import Connection


@dataclass(slots=True)
class Session:
    """A stream of the pool under an id that only its client knows."""

    key: str
    stream: int  # its id in the pool
    position: int = 0  # the number of messages that the stream has processed
    connection: "Connection | None" = None
    left: float = 0  # when its connection ended, in seconds since the epoch


class Sessions:
    """The streams of all clients, connected or kept for `keep` seconds; keeps `max_kept` of them at most."""

    def __init__(self, pool: Any, keep: float, max_kept: int) -> None:
        self._pool, self._keep, self._max_kept = pool, keep, max_kept
        self._sessions: dict[str, Session] = {}
        self._kept: dict[str, Session] = {}  # without a connection, the earliest first

    def attach(self, key: str | None, connection: "Connection") -> Session:
        """Return a new stream, or the one with this key. Raises ArgumentError if there is none.

        A connection that still has the stream loses it: its client may be gone unnoticed.
        """
        if key is None:
            key = secrets.token_urlsafe(16)
            self._sessions[key] = Session(key, *self._pool.open().tolist())
        elif key not in self._sessions:
            raise ArgumentError(f"no stream has the id {key!r}: it has expired, or never existed")
        session = self._sessions[key]
        if session.connection is not None:
            session.connection.close(1008, "another connection has resumed this stream")
        session.connection = connection
        self._kept.pop(session.key, None)
        return session

    def detach(self, session: Session, connection: "Connection") -> None:
        """Keep the stream of a connection that ended."""
        if session.connection is connection:
            session.connection, session.left = None, time.time()
            self._kept[session.key] = session

    def expire(self) -> None:
        """Close the streams that have been kept long enough. The pool must not be running a step."""
        oldest = time.time() - self._keep
        for session in list(self._kept.values()):
            if session.left > oldest and len(self._kept) <= self._max_kept:
                break
            del self._kept[session.key], self._sessions[session.key]
            self._pool.close([session.stream])

    @property
    def kept(self) -> int:
        """The number of streams without a connection."""
        return len(self._kept)

    def __len__(self) -> int:
        return len(self._sessions)

    def save(self, path: Path) -> None:
        """Write all streams with their secret ids and positions, for this user only. Raises FileError."""
        now = time.time()
        described = [
            [each.key, each.stream, each.position, each.left if each.connection is None else now]
            for each in self._sessions.values()
        ]
        pool, listed = self._pool, np.frombuffer(json.dumps(described).encode(), np.uint8)
        tensors = pool.tensors()
        described = pool.model.format
        described_model = {"type": f"pool of {described.owner}", **described.fingerprint()}
        atomic.replace(path, storage.content(tensors | {"sessions": listed}, described_model), mode=0o600)

    def load(self, path: Path) -> None:
        """Replace all streams with those in a file that have not expired since. Raises FileError."""
        tensors, _ = storage.read(path, expected="the streams that `onward serve` saved")
        if "sessions" not in tensors:
            raise FileError(f"{path} was not written by `onward serve`")
        self._pool.load(path)
        try:
            found = [
                Session(str(key), int(stream), int(position), None, float(left))
                for key, stream, position, left in json.loads(tensors["sessions"].tobytes())
            ]
        except (ValueError, TypeError) as error:
            raise FileError(f"{path} does not list its streams: {error}") from error
        if sorted(each.stream for each in found) != self._pool.ids.tolist():
            raise FileError(f"{path} lists other streams than it holds")
        self._sessions = {each.key: each for each in found}
        self._kept = {each.key: each for each in sorted(found, key=lambda each: each.left)}
        self.expire()
