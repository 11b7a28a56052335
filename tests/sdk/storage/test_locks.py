"""Locks of files and of names, between threads and between processes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lakefeed.errors import StorageError
from lakefeed.storage.disk import locks
from lakefeed.storage.disk.locks import file_lock, lock_descriptor, named_lock, unlock_and_close
from tests.sdk.processes import Program

NAME_HOLDER = """
import sys, time
from pathlib import Path
from lakefeed.storage.disk.locks import named_lock
with named_lock(Path(sys.argv[1]), b"one-name"):
    print("held", flush=True)
    time.sleep(60)
"""
FILE_HOLDER = """
import os, sys, time
from pathlib import Path
from lakefeed.storage.disk.locks import file_lock
with file_lock(Path(sys.argv[1]), temporary=True):
    if sys.argv[2:] and not os.fork():
        os.close(1)
        time.sleep(10)  # a child that outlives its parent
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def largest_number_at_once(lock: Callable[[], AbstractContextManager[object]]) -> int:
    """The largest number of threads that were inside of ``lock`` at the same time."""
    inside, largest = [0], [0]

    def work() -> None:
        for _ in range(20):
            with lock():
                inside[0] += 1
                largest[0] = max(largest[0], inside[0])
                time.sleep(0)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return largest[0]


def test_threads_hold_a_lock_one_after_the_other(tmp_path: Path) -> None:
    assert largest_number_at_once(lambda: named_lock(tmp_path, b"one-name")) == 1
    assert largest_number_at_once(lambda: file_lock(tmp_path / "folder" / "lock")) == 1
    assert largest_number_at_once(lambda: file_lock(tmp_path / "temporary", temporary=True)) == 1
    assert not (tmp_path / "temporary").exists()
    with named_lock(tmp_path, b"one-name"), named_lock(tmp_path, b"another!"):
        pass


def test_a_killed_process_releases_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 60.0)
    holder = Program(NAME_HOLDER, tmp_path)
    assert holder.stdout.readline() == "held\n"
    with named_lock(tmp_path, b"another!"):
        pass
    acquired = threading.Event()

    def wait() -> None:
        with named_lock(tmp_path, b"one-name"):
            acquired.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not acquired.wait(0.2)
    holder.kill()
    assert acquired.wait(30)
    thread.join(30)
    holder.finish()


@pytest.mark.parametrize("child", [(), ("child",)], ids=["alone", "with a child"])
def test_a_killed_process_releases_a_file(tmp_path: Path, child: tuple[str, ...]) -> None:
    path = tmp_path / "lock"
    holder = Program(FILE_HOLDER, path, *child)
    assert holder.stdout.readline() == "held\n"
    for shared in (False, True):
        with pytest.raises(BlockingIOError, match="another thread or process holds the lock"):
            file_lock(path, shared=shared, timeout=0.01).__enter__()
    os.kill(holder.pid, 9)
    with file_lock(path, timeout=30, temporary=True):
        assert path.exists()
    assert not path.exists()
    holder.kill()
    holder.finish()


def test_shared_locks_exclude_an_exclusive_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with file_lock(path, shared=True) as descriptor, file_lock(path, shared=True, timeout=0):
        with pytest.raises(BlockingIOError):
            file_lock(path, timeout=0).__enter__()
        assert not lock_descriptor(descriptor, timeout=0.01)  # the other one holds it too
    with file_lock(path, timeout=0) as descriptor:
        assert os.write(descriptor, b"x") == 1
        other = os.open(path, os.O_RDONLY)
        assert not lock_descriptor(other, shared=True, timeout=0)
    assert lock_descriptor(other, shared=True, timeout=0)
    unlock_and_close(other)


def test_a_forked_child_holds_no_lock_of_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    reading, writing = os.pipe()
    with file_lock(path, temporary=True):
        child = os.fork()
        if not child:
            os.close(writing)
            os.read(reading, 1)  # until the parent is done
            os._exit(0)
        with pytest.raises(BlockingIOError):
            file_lock(path, timeout=0).__enter__()
    with file_lock(path, timeout=0):
        pass
    os.close(writing)
    os.close(reading)
    os.waitpid(child, 0)


def test_a_child_that_leaves_the_block_leaves_the_lock_to_its_parent(tmp_path: Path) -> None:
    path, child = tmp_path / "lock", -1
    try:
        with file_lock(path, temporary=True):
            child = os.fork()
            if not child:
                raise KeyError
            assert os.waitpid(child, 0)[1] == 0
            assert path.exists()
            with pytest.raises(BlockingIOError):
                file_lock(path, timeout=0).__enter__()
    except KeyError:
        os._exit(0)


def test_a_folder_that_cannot_be_written_to_has_no_locks_between_processes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with named_lock(tmp_path / "file" / "cache", b"one-name"):
        pass
    with pytest.raises(StorageError, match="cannot write"):
        file_lock(tmp_path / "file" / "lock").__enter__()


def test_the_folder_may_be_removed_meanwhile(tmp_path: Path) -> None:
    with named_lock(tmp_path / "cache", b"one-name"):
        (tmp_path / "cache" / "turns").unlink()
        with named_lock(tmp_path / "cache", b"another!"):
            pass
    assert (tmp_path / "cache" / "turns").exists()
