"""Write files atomically: after a crash or an error, the previous file is intact."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import FileError

if sys.platform != "win32":
    import fcntl


def replace(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically: after a crash or an error, the previous file is intact. Raises FileError."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path and, on success, move the file written there to `path` atomically.

    Concurrent writers do not interfere: the last one to finish determines the content. Raises FileError.
    """
    target = Path(path).resolve()  # a link stays a link: its target is replaced
    try:
        with temporary_path(target) as temporary:
            yield temporary
            with open(temporary, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def temporary_path(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` for a temporary file or folder, which is removed unless it was moved.

    A process that is killed leaves it behind; the next one to write to `target` removes it. Raises OSError.
    """
    _remove_abandoned(target)
    temporary, lock, descriptor = _claim(target)
    try:
        yield temporary
    finally:
        _remove(temporary)
        os.close(descriptor)
        with suppress(OSError):  # another writer may be removing it
            lock.unlink()


def _remove(path: Path) -> None:
    """Remove a file or a folder if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# A lock file accompanies each temporary path: it is created earlier and removed later. The writer holds the
# lock while it runs: on Windows it keeps the file open, so that no process can remove it; elsewhere it uses
# flock. A temporary path whose lock is free or missing is abandoned.


def _claim(target: Path) -> tuple[Path, Path, int]:
    """Return a new temporary path, its lock file, and the descriptor that holds the lock."""
    while True:
        temporary = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
        lock = Path(f"{temporary}.lock")
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        if sys.platform != "win32":
            with suppress(OSError):  # this file system has no locks, so other writers remove nothing
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        if lock.exists():  # otherwise another writer considered it abandoned and locked it first
            return temporary, lock, descriptor
        os.close(descriptor)


def _remove_abandoned(target: Path) -> None:
    """Remove the temporary files and folders of writers to `target` that no longer run."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}")
    with suppress(OSError):  # a folder that cannot be listed
        names = {entry.name.removesuffix(".lock") for entry in os.scandir(target.parent)}
        for name in filter(pattern.fullmatch, names):
            temporary = target.with_name(name)
            with suppress(OSError):  # its writer is alive, or belongs to another user
                _remove_free(Path(f"{temporary}.lock"))
                _remove(temporary)


def _remove_free(lock: Path) -> None:
    """Remove a lock file. Raises OSError if a writer holds it."""
    if sys.platform == "win32":
        lock.unlink(missing_ok=True)
        return
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.unlink()
    finally:
        os.close(descriptor)
