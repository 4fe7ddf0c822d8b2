"""Atomic writes: killed, failing and concurrent writers."""

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from onward.core import atomic
from onward.errors import FileError

# Writes 4 MB to the given file repeatedly, and prints a line before the first write.
WRITER = """
import sys
from onward.core import atomic
print("ready", flush=True)
while True:
    atomic.replace(sys.argv[1], bytes([int(sys.argv[2])]) * 4_000_000)
"""
KILLS = 10


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed_writer(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path, "1"], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(random.uniform(0, 0.02))
        writer.kill()


def test_files_of_killed_writers_do_not_accumulate(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    most = 0
    for _ in range(KILLS):
        killed_writer(path)
        most = max(most, len(files(tmp_path)))
    assert most <= 3  # the target, and one killed writer's temporary file and lock
    atomic.replace(path, b"new")
    assert files(tmp_path) == ["model.safetensors"] and path.read_bytes() == b"new"


def test_the_next_write_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    path = tmp_path / "a[b]*.npz"
    program = f"""
import os, signal
from onward.core import atomic
with atomic.replacing({str(path)!r}) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.{"SIGTERM" if sys.platform == "win32" else "SIGKILL"})
"""
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode
        assert len(files(tmp_path)) == 2
    (tmp_path / ".a[b]*.npz.0123abcd").write_bytes(b"left by version 0.1.0")
    others = [".a[b]*.npz.notes", ".other.npz.0123abcd", "a[b]*.npz.0123abcd"]
    for name in others:
        (tmp_path / name).write_bytes(b"not ours")
    atomic.replace(path, b"whole")
    assert files(tmp_path) == sorted([path.name, *others])


def test_temporary_folders_of_killed_processes_are_removed_and_those_of_live_ones_are_not(
    tmp_path: Path,
) -> None:
    target = tmp_path / "scores"
    program = f"""
import os, signal
from pathlib import Path
from onward.core import atomic
with atomic.temporary_path(Path({str(target)!r})) as temporary:
    temporary.mkdir()
    (temporary / "part").write_bytes(b"half")
    os.kill(os.getpid(), signal.{"SIGTERM" if sys.platform == "win32" else "SIGKILL"})
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode
    assert len(files(tmp_path)) == 2
    with atomic.temporary_path(target) as slow:
        slow.mkdir()
        with atomic.temporary_path(target) as fast:
            fast.mkdir()
            fast.rename(target)
        assert files(tmp_path) == [slow.name, f"{slow.name}.lock", "scores"]
    assert files(tmp_path) == ["scores"]


def test_a_writer_does_not_remove_the_files_of_a_live_one(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with atomic.replacing(path) as slow:
        slow.write_bytes(b"slow")
        for content in (b"first", b"second"):
            atomic.replace(path, content)
        assert path.read_bytes() == b"second" and slow.read_bytes() == b"slow"
        subprocess.run(
            [
                sys.executable,
                "-c",
                f"from onward.core import atomic; atomic.replace({str(path)!r}, b'third')",
            ],
            check=True,
        )
        assert path.read_bytes() == b"third" and slow.read_bytes() == b"slow"
    assert path.read_bytes() == b"slow" and files(tmp_path) == [path.name]


def test_concurrent_writers_all_succeed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    errors: list[Exception] = []

    def write(value: int) -> None:
        try:
            for _ in range(100):
                atomic.replace(path, bytes([value]) * 1000)
        except FileError as error:
            errors.append(error)

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER.replace("while True", "for _ in range(20)"), path, str(value)],
            stdout=subprocess.DEVNULL,
        )
        for value in (1, 2)
    ]
    threads = [threading.Thread(target=write, args=(value,)) for value in range(3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0] and not errors
    content = path.read_bytes()
    assert files(tmp_path) == [path.name] and len(set(content)) == 1 and len(content) in (1000, 4_000_000)


def test_a_lock_taken_away_during_its_creation_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a new lock file is locked, another writer may consider it abandoned and delete it."""
    fcntl = pytest.importorskip("fcntl")
    path, flock, seen = tmp_path / "model.safetensors", fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not seen:
            seen.append(descriptor)
            atomic._remove_abandoned(path)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    atomic.replace(path, b"content")
    assert path.read_bytes() == b"content" and files(tmp_path) == [path.name]


def test_a_write_succeeds_on_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    path = tmp_path / "model.safetensors"
    with atomic.replacing(path) as slow:
        slow.write_bytes(b"slow")
        atomic.replace(path, b"fast")
        assert slow.read_bytes() == b"slow"
    assert files(tmp_path) == [path.name]


def test_a_failed_write_leaves_the_previous_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    atomic.replace(path, b"old")
    with (
        pytest.raises(FileError, match="cannot be written: No space left"),
        atomic.replacing(path) as temporary,
    ):
        temporary.write_bytes(b"half")
        raise OSError(28, os.strerror(28))
    assert files(tmp_path) == [path.name] and path.read_bytes() == b"old"
    with pytest.raises(FileError, match="cannot be written"):
        atomic.replace(tmp_path / "missing" / "model.safetensors", b"new")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows restricts links")
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    atomic.replace(link, b"content")
    assert link.is_symlink() and target.read_bytes() == b"content"
