"""Write files atomically: after a crash or an error, the previous file is intact."""

import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import FileError
from .files import check_path

if sys.platform != "win32":
    import fcntl


def replace(path: str | os.PathLike[str], content: bytes, mode: int | None = None) -> None:
    """Write a file atomically: after a crash or an error, the previous file is intact. Raises FileError.

    mode: as for `replacing`.
    """
    with replacing(path, mode) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: str | os.PathLike[str], mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary file and, on success, move it to `path` atomically.

    A link stays a link: its target is replaced. The file gets the permissions `mode`: by default those of the
    file that it replaces, or those that the umask leaves to a new one. Pipes and character devices, such as
    /dev/null, are written to. Concurrent writers do not interfere: the last one to finish determines the
    content. Raises FileError, also if `path` is a folder, a file that may not be written, or anything else,
    and ArgumentError if it is no path.
    """
    check_path(path)
    try:
        existing = _status(path)
        if existing is not None and not stat.S_ISREG(existing.st_mode):
            with _written_to(path, existing) as temporary:
                yield temporary
            return
        if existing is not None and not os.access(path, os.W_OK):
            raise FileError(f"{path} is read-only: change its permissions, or choose another name")
        target = Path(os.path.realpath(path))
        with temporary_path(target) as temporary:
            _create(temporary, existing, mode)
            yield temporary
            with open(temporary, "ab") as file:
                os.fsync(file.fileno())
            os.replace(temporary, target)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}") from error


def _status(path: str | os.PathLike[str]) -> os.stat_result | None:
    """The status of what a path leads to; None if it does not exist. Raises OSError, FileError."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
    except ValueError as error:  # a zero byte
        raise FileError(f"{os.fspath(path)!r} is not the name of a file: {error}") from None


@contextmanager
def _written_to(path: str | os.PathLike[str], existing: os.stat_result) -> Iterator[Path]:
    """Yield a temporary file and, on success, write its content to a pipe or a character device."""
    if not (stat.S_ISFIFO(existing.st_mode) or stat.S_ISCHR(existing.st_mode)):
        kind = "a folder" if stat.S_ISDIR(existing.st_mode) else "neither a file nor a pipe"
        raise FileError(f"{path} cannot be written: it is {kind}")
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, "content")
        yield temporary
        with open(temporary, "rb") as content, open(path, "wb") as opened:
            shutil.copyfileobj(content, opened)


def _create(temporary: Path, existing: os.stat_result | None, mode: int | None) -> None:
    """Create the file that a writer opens, with its owner and permissions before it has any content."""
    private = 0o666 if existing is None and mode is None else 0o600
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, private))
    if existing is not None and hasattr(os, "chown"):
        with suppress(OSError):  # only root may give files away
            os.chown(temporary, existing.st_uid, existing.st_gid)
    if existing is not None and mode is None:
        mode = stat.S_IMODE(existing.st_mode)
    if mode is not None:
        os.chmod(temporary, mode)


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
