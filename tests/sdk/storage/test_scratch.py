from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lakefeed.storage.disk.scratch import scratch_folder
from tests.sdk.processes import Program


def test_a_folder_of_its_own_that_goes(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "a-") as one, scratch_folder(tmp_path, "a-") as other:
        assert one != other
        (one / "file").write_text("x")
        assert one.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), scratch_folder(tmp_path, "a-"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    program = f"""
import pathlib, time
from lakefeed.storage.disk.scratch import scratch_folder
with scratch_folder(pathlib.Path({str(tmp_path)!r}), "a-") as folder:
    (folder / "file").write_text("x")
    print("here", flush=True)
    time.sleep(60)
"""
    process = Program(program)
    process.stdout.readline()
    with scratch_folder(tmp_path, "a-"):
        assert len(list(tmp_path.rglob("file"))) == 1  # its owner lives
    process.kill()
    process.finish()
    assert len(list(tmp_path.rglob("file"))) == 1
    with scratch_folder(tmp_path, "b-"):
        assert len(list(tmp_path.rglob("file"))) == 1  # another's
    with scratch_folder(tmp_path, "a-"):
        assert list(tmp_path.rglob("file")) == []
    assert list(tmp_path.iterdir()) == []


def test_many_at_once_do_not_sweep_one_another(tmp_path: Path) -> None:
    def work(number: int) -> bool:
        with scratch_folder(tmp_path, "a-") as folder:
            (folder / "file").write_text(str(number))
            return (folder / "file").read_text() == str(number)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(400)))
    assert list(tmp_path.iterdir()) == []
