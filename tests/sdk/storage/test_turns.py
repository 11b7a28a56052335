"""M45: one at a time, between threads and between processes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lakefeed.storage.disk import locks as turns_of
from lakefeed.storage.disk.locks import named_lock
from tests.sdk.processes import Program

HOLDER = """
import sys, time
from pathlib import Path
from lakefeed.storage.disk.locks import named_lock
with named_lock(Path(sys.argv[1]), b"one-name"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_threads_take_turns_by_name(tmp_path: Path) -> None:
    at_once, most = [0], [0]

    def work() -> None:
        for _ in range(20):
            with named_lock(tmp_path, b"one-name"):
                at_once[0] += 1
                most[0] = max(most[0], at_once[0])
                at_once[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1]
    with named_lock(tmp_path, b"one-name"), named_lock(tmp_path, b"another!"):
        pass


def test_processes_take_turns_and_a_killed_one_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_of, "PATIENCE_SECONDS", 60.0)
    holder = Program(HOLDER, tmp_path)
    assert holder.stdout.readline() == "held\n"
    with named_lock(tmp_path, b"another!"):
        pass
    taken = threading.Event()

    def wait() -> None:
        with named_lock(tmp_path, b"one-name"):
            taken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not taken.wait(0.2)
    holder.kill()
    assert taken.wait(30)
    thread.join(30)
    holder.finish()


def test_a_folder_that_cannot_be_written_to_has_no_turns(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with named_lock(tmp_path / "file" / "cache", b"one-name"):
        pass


def test_the_folder_may_be_removed_meanwhile(tmp_path: Path) -> None:
    with named_lock(tmp_path / "cache", b"one-name"):
        (tmp_path / "cache" / "turns").unlink()
        with named_lock(tmp_path / "cache", b"another!"):
            pass
    assert (tmp_path / "cache" / "turns").exists()
