"""Atomic writes: killed, failing and concurrent writers."""

import multiprocessing
import os
import random
import re
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from support.cli import invoke

import onward
from onward.core import atomic
from onward.errors import ArgumentError, FileError

KILLS = 10
# Forking is fast; Windows can only start a new Python.
PROCESSES: Any = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")

pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")


def write(path: Path, value: int, times: int, ready: Any = None) -> None:
    """Write 4 MB repeatedly."""
    if ready:
        ready.set()
    for _ in range(times):
        atomic.replace(path, bytes([value]) * 4_000_000)


def die() -> None:
    os.kill(os.getpid(), signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def write_half(path: Path) -> None:
    with atomic.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        die()


def fill_half(target: Path) -> None:
    with atomic.temporary_path(target) as temporary:
        temporary.mkdir()
        (temporary / "part").write_bytes(b"half")
        die()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed_writer(path: Path) -> None:
    ready = PROCESSES.Event()
    writer = PROCESSES.Process(target=write, args=(path, 1, 10**6, ready))
    writer.start()
    ready.wait()
    time.sleep(random.uniform(0, 0.02))
    writer.kill()
    writer.join()


def run(target: Any, *arguments: Any) -> int:
    """Run a function in a process and return the exit code."""
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    process.join()
    return int(process.exitcode)


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
    for _ in range(3):
        assert run(write_half, path)
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
    assert run(fill_half, target)
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
        assert run(atomic.replace, path, b"third") == 0
        assert path.read_bytes() == b"third" and slow.read_bytes() == b"slow"
    assert path.read_bytes() == b"slow" and files(tmp_path) == [path.name]


def test_concurrent_writers_all_succeed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    errors: list[Exception] = []

    def write_briefly(value: int) -> None:
        try:
            for _ in range(100):
                atomic.replace(path, bytes([value]) * 1000)
        except FileError as error:
            errors.append(error)

    processes = [PROCESSES.Process(target=write, args=(path, value, 20)) for value in (1, 2)]
    threads = [threading.Thread(target=write_briefly, args=(value,)) for value in range(3, 7)]
    for process in processes:
        process.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0] and not errors
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


def as_user(path: Path, content: bytes) -> None:
    """Write a file as an ordinary user: root may write everywhere."""
    if os.getuid() == 0:
        os.setuid(12345)
    with pytest.raises(FileError, match="is read-only"):
        atomic.replace(path, content)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither modes nor named pipes")
class TestOnlyRegularFilesAreReplaced:
    """A save renamed its file over devices and pipes, and made private files readable for everyone."""

    WRITERS: ClassVar[dict[str, Callable[[Path], object]]] = {
        "save.safetensors": lambda path: onward.LSTM(3, 4).save(path),
        "export.onnx": lambda path: onward.LSTM(3, 4).export_onnx(path),
        "stream": lambda path: onward.LSTM(3, 4).stream().save(path),
        "pool": lambda path: onward.LSTM(3, 4).pool(1).save(path),
        "trace.npz": lambda path: onward.LSTM(3, 4).trace(np.ones((2, 3), np.float32)).save(path),
        "page.html": lambda path: onward.LSTM(3, 4).trace(np.ones((2, 3), np.float32)).save(path),
        "outputs.npz": lambda path: invoke("run", "vowels", "--out", path, expect=0),
        "outputs.csv": lambda path: invoke("run", "vowels", "--out", path, expect=0),
    }

    @pytest.mark.parametrize("name", WRITERS)
    def test_a_pipe_gets_the_content(self, name: str, tmp_path: Path) -> None:
        path, received = tmp_path / name, []
        os.mkfifo(path)
        reader = threading.Thread(target=lambda: received.append(path.read_bytes()), daemon=True)
        reader.start()
        self.WRITERS[name](path)
        reader.join(10)
        assert stat.S_ISFIFO(path.lstat().st_mode) and files(tmp_path) == [name]
        assert received and len(received[0]) > 100

    @pytest.mark.parametrize("name", WRITERS)
    def test_the_mode_of_a_file_stays(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        path.touch(0o600)
        self.WRITERS[name](path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.stat().st_size > 100

    def test_no_other_module_writes_files(self) -> None:
        source = Path(onward.__file__).parent
        writes = re.compile(
            r"\.write_(bytes|text)\(|\bos\.(open|replace|rename|link)\(|\bopen\((?!os\.devnull)[^)]*[\"'][rb+]*[wax]|shutil\.(copy|move)|tofile\("
        )
        modules = [
            path.relative_to(source).as_posix()
            for path in source.rglob("*.py")
            if writes.search(path.read_text(encoding="utf-8"))
        ]
        assert modules == ["core/atomic.py"]

    def test_a_device_stays(self) -> None:
        before = os.stat("/dev/null")
        onward.LSTM(3, 4).save("/dev/null")
        assert os.path.samestat(before, os.stat("/dev/null"))
        with pytest.raises(FileError, match="/dev/full cannot be written: No space left"):
            onward.LSTM(3, 4).save("/dev/full")

    @pytest.mark.parametrize("kind", ["folder", "socket", "loop"])
    def test_anything_else_is_refused(self, kind: str, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as listening:
            match kind:
                case "folder":
                    os.mkdir("it")
                case "socket":
                    listening.bind("it")
                case "loop":
                    os.symlink("it", "it")
            before = os.lstat("it")
            for path in ("it", tmp_path / "it"):
                with pytest.raises(FileError, match="it cannot be written"):
                    atomic.replace(path, b"content")
            assert os.path.samestat(before, os.lstat("it")) and files(tmp_path) == ["it"]

    @pytest.mark.parametrize("path", ["/", "", ".", "a\0b"])
    def test_what_names_no_file_is_refused(self, path: str) -> None:
        with pytest.raises((FileError, ArgumentError)):
            atomic.replace(path, b"content")

    def test_a_chain_of_links_leads_to_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "files").mkdir()
        (tmp_path / "first").symlink_to("second")
        (tmp_path / "second").symlink_to("files/third")
        for content in (b"created", b"replaced"):
            atomic.replace(tmp_path / "first", content)
            assert (tmp_path / "files" / "third").read_bytes() == content
        assert files(tmp_path) == ["files", "first", "second"] and files(tmp_path / "files") == ["third"]

    def test_a_read_only_file_is_not_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"old")
        path.chmod(0o444)
        for folder in (tmp_path, *tmp_path.parents[:3]):
            folder.chmod(0o777)
        assert run(as_user, path, b"new") == 0
        assert path.read_bytes() == b"old" and stat.S_IMODE(path.stat().st_mode) == 0o444

    def test_the_content_is_never_readable_under_another_mode(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.touch(0o600)
        with atomic.replacing(path) as temporary:
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
            temporary.write_bytes(b"content")
        with atomic.replacing(tmp_path / "new", mode=0o640) as temporary:
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o640
